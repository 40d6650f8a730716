//! What the service is measured by: axum alone, which parses the same bodies and answers the same
//! JSON. It believes every token; those that it issues it signs, and it can insert a row for each.

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
    extract::State,
    http::StatusCode,
    routing::{get, post},
    serve::ListenerExt,
};
use jsonwebtoken::{EncodingKey, Header};
use mirrory::types::{clock::Clock, randomness::Randomness};
use serde::{Deserialize, Serialize};
use sqlx::{PgPool, postgres::PgPoolOptions};
use tokio::net::TcpListener;
use uuid::Uuid;

use crate::{Outcome, machine::Cores, server::Server};

const SITE: &str = "site_00000000000000000000000000";
const KID: &str = "00000000000000000000000000";
const EXPIRES_AT: &str = "2027-01-16T08:00:00Z";
const LIFETIME: i64 = 86_400;

/// As many as the service opens unless told otherwise.
const POSTGRES_CONNECTIONS: u32 = 16;

const INSERT: &str = "INSERT INTO tokens (token_id, site_id, user_id, coins, issued_at, expires_at) \
     VALUES ($1, $2, $3, $4, $5, $6)";

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
    wp_user_id: i64,
    proxy_secret: String,
    machine_id: Option<String>,
}

#[derive(Serialize)]
struct GenerateResponse {
    token: String,
    expires_in: i64,
    user_id: i64,
    token_id: Uuid,
    expires_at: &'static str,
}

/// The claims that the service writes.
#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    aud: &'a str,
    sub: String,
    site: &'a str,
    jti: Uuid,
    iat: i64,
    exp: i64,
}

/// Starts this program again as the bare server, on the server's core. It inserts a row for every
/// token that it signs when it is given a database of PostgreSQL's with the service's tables.
pub fn spawn(cores: &Cores, database_url: Option<&str>) -> Outcome<Server> {
    let program = std::env::current_exe()?;
    let mut server = Server::spawn(|address| {
        let mut command = cores.server(&program);
        command.args(["--serve-bare", &address.to_string()]);
        command.args(database_url.iter().flat_map(|url| ["--database-url", url]));
        command
    })?;
    server.await_ready()?;
    Ok(server)
}

/// Serves until it is killed.
#[tokio::main]
pub async fn serve(address: SocketAddr, database_url: Option<&str>) -> Outcome<()> {
    let generate = match database_url {
        None => post(generate).with_state(Issuer::new()),
        Some(url) => {
            let pool = PgPoolOptions::new()
                .max_connections(POSTGRES_CONNECTIONS)
                // It would be a second statement a request.
                .test_before_acquire(false)
                .connect(url)
                .await?;
            post(generate_and_insert).with_state((Issuer::new(), pool))
        }
    };
    let router = Router::new()
        .route("/readyz", get(async || ()))
        .route("/mirrory/validate-token", post(validate))
        .route("/mirrory/generate-token", generate);
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

async fn generate(
    State(issuer): State<Issuer>,
    Json(request): Json<GenerateRequest>,
) -> Result<Json<GenerateResponse>, StatusCode> {
    let Issued { token, id, .. } = issuer.issue(&request)?;
    Ok(respond(&request, token, id))
}

async fn generate_and_insert(
    State((issuer, pool)): State<(Issuer, PgPool)>,
    Json(request): Json<GenerateRequest>,
) -> Result<Json<GenerateResponse>, StatusCode> {
    let Issued { token, id, at } = issuer.issue(&request)?;
    sqlx::query(INSERT)
        .bind(id)
        .bind(Uuid::nil())
        .bind(request.wp_user_id)
        .bind(200_i64)
        .bind(at * 1_000_000)
        .bind((at + LIFETIME) * 1_000_000)
        .execute(&pool)
        .await
        .map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?;
    Ok(respond(&request, token, id))
}

fn respond(request: &GenerateRequest, token: String, token_id: Uuid) -> Json<GenerateResponse> {
    let is_whole = !request.proxy_secret.is_empty() && request.machine_id.is_none();
    Json(GenerateResponse {
        token: if is_whole { token } else { String::new() },
        expires_in: LIFETIME,
        user_id: request.wp_user_id,
        token_id,
        expires_at: EXPIRES_AT,
    })
}

/// Signs as whoever takes up `jsonwebtoken` would.
#[derive(Clone)]
struct Issuer {
    header: Header,
    key: EncodingKey,
    clock: Clock,
    randomness: Randomness,
}

struct Issued {
    token: String,
    id: Uuid,
    /// In seconds.
    at: i64,
}

impl Issuer {
    fn new() -> Self {
        Self {
            header: Header {
                kid: Some(KID.to_owned()),
                ..Header::default()
            },
            key: EncodingKey::from_secret(&[7; 32]),
            clock: Clock::system(),
            randomness: Randomness::system(),
        }
    }

    fn issue(&self, request: &GenerateRequest) -> Result<Issued, StatusCode> {
        let now = self.clock.now();
        let id = self.randomness.uuid_v7(now);
        let at = now.as_seconds();
        let claims = Claims {
            iss: "mirrory",
            aud: "mirrory-desktop",
            sub: request.wp_user_id.to_string(),
            site: SITE,
            jti: id,
            iat: at,
            exp: at + LIFETIME,
        };
        let token = jsonwebtoken::encode(&self.header, &claims, &self.key)
            .map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
        Ok(Issued { token, id, at })
    }
}
