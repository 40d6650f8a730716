//! `GET /.well-known/jwks.json`: the public keys that verify.

use axum::{
    Router,
    extract::State,
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
    routing::get,
};

use super::{Keys, signer::Jwks};
use crate::{error::ApiError, extract::Json, openapi::JwksProblems, state::AppState};

/// The endpoint of this room.
pub fn router() -> Router<AppState> {
    Router::new().route("/.well-known/jwks.json", get(get_jwks))
}

/// Publish the public keys
///
/// The keys that verify tokens, as a JWK set (RFC 7517, section 5). A key of HS256 has no public
/// half and is never in it. With RS256, ES256 or EdDSA a client can check a token by itself, but for
/// revocation and binding. Fetch the set again when a token names a `kid` that is not in it.
#[utoipa::path(
    get,
    path = "/.well-known/jwks.json",
    tag = "keys",
    responses(
        (
            status = 200,
            description = "The keys that verify tokens now.",
            body = Jwks,
            headers(("Cache-Control", description = "max-age"))
        ),
        JwksProblems
    )
)]
pub(crate) async fn get_jwks(State(keys): State<Keys>) -> Result<Response, ApiError> {
    let cacheable = HeaderValue::from_static("max-age=300");
    let jwks = keys.public().await?;
    Ok(([(header::CACHE_CONTROL, cacheable)], Json(jwks)).into_response())
}
