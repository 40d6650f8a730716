//! `/api/v1/account`: what somebody who is signed in sees and changes of their account.

use axum::extract::State;
use serde::Deserialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::{Account, AccountUpdate, Accounts, EmailAddress, InvalidAccount};
use crate::{
    callers::{Caller, Transactions},
    error::ApiError,
    extract::{Body, Done, Fields, FromBody, Json, name, parse_object, text},
    openapi::{
        ChangePasswordProblems, DeleteAccountProblems, SignedInProblems, UpdateAccountProblems,
    },
    passwords::{NewPassword, Password, Passwords, Whose},
    sign_in::{
        SignIn,
        fields::{GivenPassword, PasswordRequest, new_password, password},
    },
};

/// Who am I
///
/// The account that is signed in.
#[utoipa::path(
    get,
    path = "/api/v1/account",
    tag = "account",
    security(("access_token" = [])),
    responses(
        (status = 200, description = "The account.", body = Account),
        SignedInProblems
    )
)]
pub(crate) async fn get_account(
    State(accounts): State<Accounts>,
    caller: Caller,
) -> Result<Json<Account>, ApiError> {
    let account = accounts.find(caller.account_id).await?;
    account.map(Json).ok_or(ApiError::Unauthorized)
}

/// What is to be changed; what is not given stays.
#[derive(Deserialize, ToSchema)]
#[schema(examples(
    json!({"name": "Ada Lovelace"}),
    json!({"email": "ada@shop.example", "password": "an example and no password"})
))]
struct UpdateAccountRequest<'a> {
    /// What people shall call it: 1 to 200 bytes without control characters.
    #[serde(borrow)]
    #[schema(value_type = Option<String>, nullable = true, examples("Ada Lovelace"))]
    name: Option<&'a RawValue>,
    /// Its new e-mail address; needs `password`.
    #[serde(borrow)]
    #[schema(value_type = Option<String>, nullable = true, examples("ada@shop.example"))]
    email: Option<&'a RawValue>,
    /// The account's password, when the e-mail address is to be changed.
    #[serde(borrow)]
    #[schema(value_type = Option<String>, nullable = true, examples("an example and no password"), format = Password)]
    password: Option<&'a RawValue>,
}

/// The change that was asked for, with the password that it needs.
pub(crate) struct GivenUpdate {
    update: AccountUpdate,
    password: Option<Password>,
}

impl FromBody for GivenUpdate {
    fn parse(body: &[u8]) -> Result<Self, ApiError> {
        let body: UpdateAccountRequest = parse_object(body)?;
        let mut fields = Fields::default();
        let update = AccountUpdate {
            name: fields.optional("name", body.name, name),
            email: fields.optional("email", body.email, email_address),
        };
        let password = if body.email.is_some() {
            fields.required("password", body.password, password)
        } else {
            None
        };
        fields.finish(Some(Self { update, password }))
    }
}

pub(super) fn email_address(value: &RawValue) -> Result<EmailAddress, String> {
    EmailAddress::parse(&text(value)?).map_err(|invalid: InvalidAccount| invalid.to_string())
}

/// Change the account
///
/// Its name, or its e-mail address, which asks for the password.
#[utoipa::path(
    patch,
    path = "/api/v1/account",
    tag = "account",
    security(("access_token" = [])),
    request_body = UpdateAccountRequest,
    responses(
        (status = 200, description = "The account as it is now.", body = Account),
        UpdateAccountProblems
    )
)]
pub(crate) async fn update_account(
    State(transactions): State<Transactions>,
    State(accounts): State<Accounts>,
    State(sign_in): State<SignIn>,
    caller: Caller,
    Body(GivenUpdate { update, password }): Body<GivenUpdate>,
) -> Result<Json<Account>, ApiError> {
    let mut tx = match &password {
        Some(password) => {
            let proven = sign_in.confirm(&caller, password).await?;
            transactions.begin_proven(&caller, &proven).await?
        }
        None => transactions.begin(&caller).await?,
    };
    let by = caller.context();
    let updated = accounts.update(&mut tx, &by, caller.account_id, &update);
    let updated = updated.await?;
    tx.commit().await?;
    Ok(Json(updated))
}

/// Delete the account
///
/// With its sessions and API tokens, for good.
#[utoipa::path(
    delete,
    path = "/api/v1/account",
    tag = "account",
    security(("access_token" = [])),
    request_body = PasswordRequest,
    responses(
        (status = 200, description = "It is deleted.", body = Done),
        DeleteAccountProblems
    )
)]
pub(crate) async fn delete_account(
    State(transactions): State<Transactions>,
    State(accounts): State<Accounts>,
    State(sign_in): State<SignIn>,
    caller: Caller,
    Body(GivenPassword(password)): Body<GivenPassword>,
) -> Result<Json<Done>, ApiError> {
    let proven = sign_in.confirm(&caller, &password).await?;
    let by = caller.context();
    let mut tx = transactions.begin_proven(&caller, &proven).await?;
    accounts.delete(&mut tx, &by, caller.account_id).await?;
    tx.commit().await?;
    Ok(Json(Done {}))
}

/// The password as it is, and as it shall be.
#[derive(Deserialize, ToSchema)]
#[schema(examples(json!({
    "current_password": "an example and no password",
    "new_password": "another example and no password"
})))]
struct ChangePasswordRequest<'a> {
    /// The account's password.
    #[serde(borrow)]
    #[schema(value_type = String, examples("an example and no password"), format = Password)]
    current_password: Option<&'a RawValue>,
    /// At least 10 characters, none of them a control character, at most 1024 bytes, and none of the
    /// commonest passwords.
    #[serde(borrow)]
    #[schema(value_type = String, examples("another example and no password"), format = Password)]
    new_password: Option<&'a RawValue>,
}

/// The two passwords.
pub(crate) struct GivenPasswords {
    current: Password,
    new: NewPassword,
}

impl FromBody for GivenPasswords {
    fn parse(body: &[u8]) -> Result<Self, ApiError> {
        let body: ChangePasswordRequest = parse_object(body)?;
        let mut fields = Fields::default();
        let current = fields.required("current_password", body.current_password, password);
        let new = fields.required("new_password", body.new_password, new_password);
        let both = current.zip(new);
        fields.finish(both.map(|(current, new)| Self { current, new }))
    }
}

/// Change the password
///
/// Every session but this one ends.
#[utoipa::path(
    post,
    path = "/api/v1/account/password",
    tag = "account",
    security(("access_token" = [])),
    request_body = ChangePasswordRequest,
    responses(
        (status = 200, description = "It is changed.", body = Done),
        ChangePasswordProblems
    )
)]
pub(crate) async fn change_password(
    State(transactions): State<Transactions>,
    State(accounts): State<Accounts>,
    State(passwords): State<Passwords>,
    State(sign_in): State<SignIn>,
    caller: Caller,
    Body(GivenPasswords { current, new }): Body<GivenPasswords>,
) -> Result<Json<Done>, ApiError> {
    let kept = caller.session_id().ok_or(ApiError::Forbidden)?;
    let proven = sign_in.confirm(&caller, &current).await?;
    let turn = passwords.enter(Whose::Account(caller.account_id))?;
    let hash = turn.hash(&new).await?;
    let by = caller.context();
    let mut tx = transactions.begin_proven(&caller, &proven).await?;
    accounts
        .change_password(&mut tx, &by, &proven, &hash, kept)
        .await?;
    tx.commit().await?;
    Ok(Json(Done {}))
}
