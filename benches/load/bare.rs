//! The measure of all else: axum alone, which parses the same bodies and answers the same JSON.

#![expect(
    clippy::disallowed_types,
    reason = "the bare server is what axum gives, rejections and all"
)]

use std::net::SocketAddr;

#[expect(
    clippy::disallowed_types,
    reason = "the bare server is what axum gives, rejections and all"
)]
use axum::Json;
use axum::{
    Router,
    routing::{get, post},
    serve::ListenerExt,
};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

use crate::{Outcome, service::Site};

/// As long as an HS256 token of the service.
pub const TOKEN: &str = concat!(
    "eyJ0eXAiOiJKV1QiLCJhbGciOiJIUzI1NiIsImtpZCI6IjAwMDAwMDAwMDAwMDAwMDAwMDAwMDAifQ.",
    "eyJpc3MiOiJtaXJyb3J5IiwiYXVkIjoibWlycm9yeS1kZXNrdG9wIiwic3ViIjoiMTIzNDUiLCJzaXRlIjoic2l0ZV8w",
    "MDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMCIsImp0aSI6IjAwMDAwMDAwLTAwMDAtMDAwMC0wMDAwLTAwMDAwMDAwMDAw",
    "MCIsImlhdCI6MTgwMDAwMDAwMCwiZXhwIjoxODAwMDg2NDAwfQ.",
    "0000000000000000000000000000000000000000000"
);
const TOKEN_ID: &str = "019abf3e-7d2a-7c64-9a51-3f0e8a6b1c2d";
const EXPIRES_AT: &str = "2027-01-16T08:00:00Z";

/// A site with a secret as long as one of the service's.
pub fn site() -> Site {
    let proxy_secret = format!("mps_{}", "0".repeat(84));
    Site { proxy_secret }
}

#[derive(Deserialize)]
struct ValidateRequest {
    token: String,
    machine_id: String,
}

#[derive(Serialize)]
struct ValidateResponse {
    valid: bool,
    user_id: u64,
    machine_id: String,
    expires_at: &'static str,
}

#[derive(Deserialize)]
struct GenerateRequest {
    wp_user_id: u64,
    proxy_secret: String,
    machine_id: Option<String>,
}

#[derive(Serialize)]
struct GenerateResponse {
    token: &'static str,
    expires_in: u64,
    user_id: u64,
    token_id: &'static str,
    expires_at: &'static str,
}

/// Serves until it is killed.
#[tokio::main]
pub async fn serve(address: SocketAddr) -> Outcome<()> {
    let router = Router::new()
        .route("/readyz", get(async || ()))
        .route("/mirrory/validate-token", post(validate))
        .route("/mirrory/generate-token", post(generate));
    let listener = TcpListener::bind(address).await?;
    // As the service does it.
    let listener = listener.tap_io(|stream| {
        let _is_set = stream.set_nodelay(true);
    });
    axum::serve(listener, router).await?;
    Ok(())
}

async fn validate(Json(request): Json<ValidateRequest>) -> Json<ValidateResponse> {
    Json(ValidateResponse {
        valid: !request.token.is_empty(),
        user_id: 12345,
        machine_id: request.machine_id,
        expires_at: EXPIRES_AT,
    })
}

async fn generate(Json(request): Json<GenerateRequest>) -> Json<GenerateResponse> {
    let is_whole = !request.proxy_secret.is_empty() && request.machine_id.is_none();
    Json(GenerateResponse {
        token: if is_whole { TOKEN } else { "" },
        expires_in: 86400,
        user_id: request.wp_user_id,
        token_id: TOKEN_ID,
        expires_at: EXPIRES_AT,
    })
}
