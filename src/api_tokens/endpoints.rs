//! `/api/v1/api-tokens`: what somebody's scripts call with.

use axum::{
    extract::{Path, State},
    http::StatusCode,
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::{ApiToken, ApiTokens, NewApiToken};
use crate::{
    callers::{Caller, Scope, Scopes, Transactions},
    error::ApiError,
    extract::{Body, Done, Fields, FromBody, Json, Unstored, name, parse_object, text},
    openapi::{CreateApiTokenProblems, OwnItemProblems, SignedInProblems},
    passwords::Password,
    query,
    sign_in::{
        SignIn,
        fields::{code, password},
    },
    two_factor::{Code, TwoFactor},
    types::{
        clock::{Clock, Timestamp},
        ids::ApiTokenId,
    },
};

pub(crate) const TOO_MANY: ApiError =
    ApiError::Conflict("The account has 100 API tokens: revoke one first.");

/// What an API token is to be.
#[derive(Deserialize, ToSchema)]
#[schema(examples(json!({
    "name": "nightly report",
    "scopes": ["sites:read", "usage:read"],
    "expires_at": "2027-12-31T23:59:59Z",
    "password": "an example and no password"
})))]
struct CreateApiTokenRequest<'a> {
    /// What to call it: 1 to 200 bytes without control characters.
    #[serde(borrow)]
    #[schema(value_type = String, examples("nightly report"))]
    name: Option<&'a RawValue>,
    /// What it may do: at least one.
    #[serde(borrow)]
    #[schema(value_type = Vec<Scope>, min_items = 1)]
    scopes: Option<&'a RawValue>,
    /// When it ends (RFC 3339, UTC), which must be in the future; never, unless told.
    #[serde(borrow)]
    #[schema(value_type = Option<String>, nullable = true, examples("2027-12-31T23:59:59Z"))]
    expires_at: Option<&'a RawValue>,
    /// The account's password.
    #[serde(borrow)]
    #[schema(value_type = String, examples("an example and no password"), format = Password)]
    password: Option<&'a RawValue>,
    /// With two-factor on: six digits of the app, or a recovery code.
    #[serde(borrow)]
    #[schema(value_type = Option<String>, nullable = true, examples("123456", "7g9x-2kqm-v4ht-0b8d"))]
    otp_attempt: Option<&'a RawValue>,
}

/// The token that is to be made, and what it is asked for with.
pub(crate) struct GivenApiToken {
    token: NewApiToken,
    password: Password,
    code: Option<Code>,
}

impl FromBody for GivenApiToken {
    fn parse(body: &[u8]) -> Result<Self, ApiError> {
        let body: CreateApiTokenRequest = parse_object(body)?;
        let mut fields = Fields::default();
        let name = fields.required("name", body.name, name);
        let scopes = fields.required("scopes", body.scopes, scopes);
        let expires_at = fields.optional("expires_at", body.expires_at, moment);
        let password = fields.required("password", body.password, password);
        let code = fields.optional("otp_attempt", body.otp_attempt, code);
        let parsed = name.zip(scopes).zip(password);
        fields.finish(parsed.map(|((name, scopes), password)| Self {
            token: NewApiToken {
                name,
                scopes,
                expires_at,
            },
            password,
            code,
        }))
    }
}

fn scopes(value: &RawValue) -> Result<Scopes, String> {
    let names: Vec<String> = serde_json::from_str(value.get()).unwrap_or_default();
    let scopes: Option<Scopes> = names.iter().map(|name| Scope::named(name)).collect();
    scopes.filter(|_| !names.is_empty()).ok_or_else(|| {
        let known = Scope::ALL.map(Scope::as_str).join(", ");
        format!("must be a list of one or more of {known}")
    })
}

fn moment(value: &RawValue) -> Result<Timestamp, String> {
    query::moment(&text(value)?)
}

/// A new API token.
#[derive(Serialize, ToSchema)]
pub struct CreateApiTokenResponse {
    /// Its id.
    id: ApiTokenId,
    /// What it is called.
    #[schema(examples("nightly report"))]
    name: String,
    /// What it may do.
    #[schema(value_type = Vec<Scope>)]
    scopes: Scopes,
    /// When it was made.
    created_at: Timestamp,
    /// When it ends.
    expires_at: Option<Timestamp>,
    /// The token, for `Authorization: token`. It is shown this one time.
    #[schema(examples("mat_an-example-and-no-token"))]
    token: String,
}

/// List the API tokens
///
/// Those of the account that have not ended, the newest first, without the tokens themselves.
#[utoipa::path(
    get,
    path = "/api/v1/api-tokens",
    tag = "account",
    security(("access_token" = [])),
    responses(
        (status = 200, description = "The API tokens.", body = [ApiToken]),
        SignedInProblems
    )
)]
pub(crate) async fn list_api_tokens(
    State(api_tokens): State<ApiTokens>,
    caller: Caller,
) -> Result<Json<Vec<ApiToken>>, ApiError> {
    let tokens = api_tokens.list(caller.account_id).await?;
    Ok(Json(tokens.into_iter().map(|owned| owned.token).collect()))
}

/// Make an API token
///
/// It may do what its scopes say, to what its account may see. Asks for the password, and with
/// two-factor on for a code.
#[utoipa::path(
    post,
    path = "/api/v1/api-tokens",
    tag = "account",
    security(("access_token" = [])),
    request_body = CreateApiTokenRequest,
    responses(
        (
            status = 201,
            description = "The token, shown this one time.",
            body = CreateApiTokenResponse,
            headers(("Cache-Control", description = "no-store"))
        ),
        CreateApiTokenProblems
    )
)]
pub(crate) async fn create_api_token(
    State(clock): State<Clock>,
    State(sign_in): State<SignIn>,
    State(two_factor): State<TwoFactor>,
    State(api_tokens): State<ApiTokens>,
    caller: Caller,
    Body(given): Body<GivenApiToken>,
) -> Result<(StatusCode, Unstored<CreateApiTokenResponse>), ApiError> {
    let GivenApiToken {
        token,
        password,
        code,
    } = given;
    if token.expires_at.is_some_and(|end| end <= clock.now()) {
        return Err(ApiError::bad_field("expires_at", "must be in the future"));
    }
    let judged = two_factor.judge(caller.account_id, code.as_ref());
    let mut tx = sign_in.begin_with_code(&caller, &password, judged).await?;
    let by = caller.context();
    let created = api_tokens.create(&mut tx, &by, caller.account_id, &token);
    let (created, secret) = created.await?.ok_or(TOO_MANY)?;
    tx.commit().await?;
    let shown = CreateApiTokenResponse {
        id: created.id,
        name: created.name,
        scopes: created.scopes,
        created_at: created.created_at,
        expires_at: created.expires_at,
        token: secret.reveal().to_owned(),
    };
    Ok((StatusCode::CREATED, Unstored(shown)))
}

/// Revoke an API token
///
/// It is refused from now on.
#[utoipa::path(
    delete,
    path = "/api/v1/api-tokens/{id}",
    tag = "account",
    security(("access_token" = [])),
    params(("id" = ApiTokenId, Path, description = "The API token.", example = "019abf3e-7d2a-7c64-9a51-3f0e8a6b1c2d")),
    responses(
        (status = 200, description = "It is revoked.", body = Done),
        OwnItemProblems
    )
)]
pub(crate) async fn revoke_api_token(
    State(transactions): State<Transactions>,
    State(api_tokens): State<ApiTokens>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Done>, ApiError> {
    let token_id = id.parse().map_err(|_| ApiError::NotFound)?;
    let by = caller.context();
    let mut tx = transactions.begin_urgent(&caller).await?;
    let revoked = api_tokens.revoke(&mut tx, &by, caller.account_id, token_id);
    if !revoked.await? {
        return Err(ApiError::NotFound);
    }
    tx.commit().await?;
    Ok(Json(Done {}))
}
