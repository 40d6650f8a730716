//! `POST /api/v1/accounts`: an admin makes an account for somebody.

use axum::{extract::State, http::StatusCode};
use serde::Deserialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::{Account, Accounts, InvalidAccount, NewAccount, Role, Username, own::email_address};
use crate::{
    callers::{Caller, Transactions},
    error::ApiError,
    extract::{Body, Fields, FromBody, Json, name, parse_object, text},
    openapi::CreateAccountProblems,
    passwords::{NewPassword, Passwords, Whose},
    sign_in::fields::new_password,
};

/// What an account is made from.
#[derive(Deserialize, ToSchema)]
#[schema(examples(json!({
    "email": "ada@shop.example",
    "username": "ada",
    "role": "owner",
    "password": "an example and no password"
})))]
struct CreateAccountRequest<'a> {
    /// Its e-mail address.
    #[serde(borrow)]
    #[schema(value_type = String, examples("ada@shop.example"))]
    email: Option<&'a RawValue>,
    /// What it may sign in by in place of the e-mail address: 3 to 64 ASCII letters, digits, dots,
    /// hyphens and underscores.
    #[serde(borrow)]
    #[schema(value_type = Option<String>, nullable = true, examples("ada"))]
    username: Option<&'a RawValue>,
    /// What people call it: 1 to 200 bytes without control characters.
    #[serde(borrow)]
    #[schema(value_type = Option<String>, nullable = true, examples("Ada Lovelace"))]
    name: Option<&'a RawValue>,
    /// What it may do; `owner` unless told.
    #[serde(borrow)]
    #[schema(value_type = Option<Role>, nullable = true)]
    role: Option<&'a RawValue>,
    /// Its password: at least 10 characters, none of them a control character, at most 1024 bytes, and
    /// none of the commonest ones.
    #[serde(borrow)]
    #[schema(value_type = String, examples("an example and no password"), format = Password)]
    password: Option<&'a RawValue>,
}

/// The account that is to be made.
pub(crate) struct GivenAccount {
    account: NewAccount,
    password: NewPassword,
}

impl FromBody for GivenAccount {
    fn parse(body: &[u8]) -> Result<Self, ApiError> {
        let body: CreateAccountRequest = parse_object(body)?;
        let mut fields = Fields::default();
        let email = fields.required("email", body.email, email_address);
        let username = fields.optional("username", body.username, username);
        let name = fields.optional("name", body.name, name);
        let role = fields.optional("role", body.role, role);
        let password = fields.required("password", body.password, new_password);
        fields.finish(email.zip(password).map(|(email, password)| Self {
            account: NewAccount {
                email,
                username,
                name,
                role: role.unwrap_or(Role::Owner),
            },
            password,
        }))
    }
}

fn username(value: &RawValue) -> Result<Username, String> {
    Username::parse(&text(value)?).map_err(|invalid: InvalidAccount| invalid.to_string())
}

fn role(value: &RawValue) -> Result<Role, String> {
    Role::parse(&text(value)?).map_err(|invalid: InvalidAccount| invalid.to_string())
}

/// Make an account
///
/// For admins.
#[utoipa::path(
    post,
    path = "/api/v1/accounts",
    tag = "account",
    security(("access_token" = [])),
    request_body = CreateAccountRequest,
    responses(
        (status = 201, description = "The account.", body = Account),
        CreateAccountProblems
    )
)]
pub(crate) async fn create_account(
    State(transactions): State<Transactions>,
    State(accounts): State<Accounts>,
    State(passwords): State<Passwords>,
    caller: Caller,
    Body(GivenAccount { account, password }): Body<GivenAccount>,
) -> Result<(StatusCode, Json<Account>), ApiError> {
    caller.require_admin()?;
    let turn = passwords.enter(Whose::Account(caller.account_id))?;
    let hash = turn.hash(&password).await?;
    let mut tx = transactions.begin(&caller).await?;
    let created = accounts.create(&mut tx, caller.context(), &account, &hash);
    let created = created.await?;
    tx.commit().await?;
    Ok((StatusCode::CREATED, Json(created)))
}
