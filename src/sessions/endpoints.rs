//! `/api/v1/jwt/refresh` and `/revoke`, and `/api/v1/account/sessions`.

use axum::extract::{Path, State};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::{Session, Sessions};
use crate::{
    api_tokens::ApiTokens,
    callers::{Caller, Crowds, Transactions},
    error::ApiError,
    extract::{Body, Done, Fields, FromBody, Json, Unstored, opaque, parse_object},
    middleware::client::Client,
    openapi::{OwnItemProblems, RefreshProblems, RevokeProblems, SignedInProblems},
    sign_in::jwt::JwtResponse,
    store::changes::Actor,
    types::ids::SessionId,
};

/// The longest token that is looked at, in bytes.
const MAX_TOKEN_BYTES: usize = 8192;

fn token(value: &RawValue) -> Result<SecretString, String> {
    let token = opaque(value)?;
    if token.is_empty() || token.len() > MAX_TOKEN_BYTES {
        return Err(format!("must be a string of 1 to {MAX_TOKEN_BYTES} bytes"));
    }
    Ok(token.into())
}

/// A refresh token.
#[derive(Deserialize, ToSchema)]
#[schema(examples(json!({"refresh_token": "mrt_an-example-and-no-token"})))]
struct RefreshJwtRequest<'a> {
    /// The newest refresh token of the session.
    #[serde(borrow)]
    #[schema(value_type = String, examples("mrt_an-example-and-no-token"))]
    refresh_token: Option<&'a RawValue>,
}

/// The refresh token that was sent.
pub(crate) struct GivenRefreshToken(SecretString);

impl FromBody for GivenRefreshToken {
    fn parse(body: &[u8]) -> Result<Self, ApiError> {
        let body: RefreshJwtRequest = parse_object(body)?;
        let mut fields = Fields::default();
        let token = fields.required("refresh_token", body.refresh_token, token);
        fields.finish(token.map(Self))
    }
}

/// A token that is to end.
#[derive(Deserialize, ToSchema)]
#[schema(examples(json!({"token": "mrt_an-example-and-no-token"})))]
struct RevokeJwtRequest<'a> {
    /// An access, refresh, one-hour or API token of the account that is signed in.
    #[serde(borrow)]
    #[schema(value_type = String, examples("mrt_an-example-and-no-token"))]
    token: Option<&'a RawValue>,
}

/// The token that was sent.
pub(crate) struct GivenToken(SecretString);

impl FromBody for GivenToken {
    fn parse(body: &[u8]) -> Result<Self, ApiError> {
        let body: RevokeJwtRequest = parse_object(body)?;
        let mut fields = Fields::default();
        let token = fields.required("token", body.token, token);
        fields.finish(token.map(Self))
    }
}

/// Refresh a session
///
/// Gives a new access token and a new refresh token, which ends the old one. For 30 seconds the old
/// one is still taken and gives the same new refresh token, so that clients that race or lost an
/// answer end with the same one. After that it is theft: the session ends.
#[utoipa::path(
    post,
    path = "/api/v1/jwt/refresh",
    tag = "sign-in",
    request_body(
        content = RefreshJwtRequest,
        description = "Also any media type that ends in `+json`; at most 16384 bytes."
    ),
    responses(
        (
            status = 200,
            description = "The session goes on.",
            body = JwtResponse,
            headers(("Cache-Control", description = "no-store"))
        ),
        RefreshProblems
    )
)]
pub(crate) async fn refresh_jwt(
    State(sessions): State<Sessions>,
    State(crowds): State<Crowds>,
    client: Client,
    Body(GivenRefreshToken(token)): Body<GivenRefreshToken>,
) -> Result<Unstored<JwtResponse>, ApiError> {
    let by = client.acting_as(Actor::Nobody);
    let refreshing = async { Ok(sessions.refresh(token.expose_secret(), &by).await?) };
    let pair = crowds.of_stranger(&client, refreshing).await?;
    Ok(Unstored(pair.into()))
}

/// Revoke a token
///
/// Ends a token of the account that is signed in; also 200 when there is no such token (RFC 7009,
/// section 2.2). A refresh, access or one-hour token takes its session with it, and all tokens of
/// that.
#[utoipa::path(
    post,
    path = "/api/v1/jwt/revoke",
    tag = "sign-in",
    security(("access_token" = []), ("one_hour_token" = []), ("api_token" = [])),
    request_body(
        content = RevokeJwtRequest,
        description = "Also any media type that ends in `+json`; at most 16384 bytes."
    ),
    responses(
        (status = 200, description = "The token is good for nothing.", body = Done),
        RevokeProblems
    )
)]
pub(crate) async fn revoke_jwt(
    State(transactions): State<Transactions>,
    State(sessions): State<Sessions>,
    State(api_tokens): State<ApiTokens>,
    caller: Caller,
    Body(GivenToken(token)): Body<GivenToken>,
) -> Result<Json<Done>, ApiError> {
    let (by, account_id) = (caller.context(), caller.account_id);
    let token = token.expose_secret();
    if let Some(session_id) = sessions.session_of(token).await? {
        let mut tx = transactions.begin_urgent(&caller).await?;
        sessions.end(&mut tx, &by, account_id, session_id).await?;
        tx.commit().await?;
    } else if let Some(token_id) = api_tokens.id_of(token).await? {
        let mut tx = transactions.begin_urgent(&caller).await?;
        api_tokens
            .revoke(&mut tx, &by, account_id, token_id)
            .await?;
        tx.commit().await?;
    }
    Ok(Json(Done {}))
}

/// List the sessions
///
/// The sign-ins of the account that go on, the newest first.
#[utoipa::path(
    get,
    path = "/api/v1/account/sessions",
    tag = "account",
    security(("access_token" = [])),
    responses(
        (status = 200, description = "The sessions.", body = [Session]),
        SignedInProblems
    )
)]
pub(crate) async fn list_sessions(
    State(sessions): State<Sessions>,
    caller: Caller,
) -> Result<Json<Vec<Session>>, ApiError> {
    Ok(Json(sessions.list(caller.account_id).await?))
}

/// End a session
///
/// Its tokens are refused from now on.
#[utoipa::path(
    delete,
    path = "/api/v1/account/sessions/{id}",
    tag = "account",
    security(("access_token" = [])),
    params(("id" = SessionId, Path, description = "The session.", example = "019abf3e-7d2a-7c64-9a51-3f0e8a6b1c2d")),
    responses(
        (status = 200, description = "It is ended.", body = Done),
        OwnItemProblems
    )
)]
pub(crate) async fn end_session(
    State(transactions): State<Transactions>,
    State(sessions): State<Sessions>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Done>, ApiError> {
    let session_id = id.parse().map_err(|_| ApiError::NotFound)?;
    let by = caller.context();
    let mut tx = transactions.begin_urgent(&caller).await?;
    let ended = sessions.end(&mut tx, &by, caller.account_id, session_id);
    if !ended.await? {
        return Err(ApiError::NotFound);
    }
    tx.commit().await?;
    Ok(Json(Done {}))
}
