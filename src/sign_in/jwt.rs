//! `POST /api/v1/jwt`: an access token and a refresh token for a password.

use axum::{
    extract::State,
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::{Credentials, SignIn, fields};
use crate::{
    error::ApiError,
    extract::{Body, Fields, FromBody, Json, parse_object},
    middleware::client::Client,
    openapi::SignInProblems,
    sessions::{ACCESS_LIFETIME, Pair, SessionKind, Sessions},
};

/// What somebody presents to sign in.
#[derive(Deserialize, ToSchema)]
#[schema(examples(json!({"email": "ada@shop.example", "password": "an example and no password"})))]
struct CreateJwtRequest<'a> {
    /// The e-mail address of the account; its username is taken too. The case of letters does not
    /// count.
    #[serde(borrow)]
    #[schema(value_type = String, examples("ada@shop.example"))]
    email: Option<&'a RawValue>,
    /// Its password.
    #[serde(borrow)]
    #[schema(value_type = String, examples("an example and no password"), format = Password)]
    password: Option<&'a RawValue>,
}

impl FromBody for Credentials {
    fn parse(body: &[u8]) -> Result<Self, ApiError> {
        let body: CreateJwtRequest = parse_object(body)?;
        let mut fields = Fields::default();
        let name = fields.required("email", body.email, fields::login_name);
        let password = fields.required("password", body.password, fields::password);
        fields.finish(
            name.zip(password)
                .map(|(name, password)| Self { name, password }),
        )
    }
}

/// The tokens of a session.
#[derive(Serialize, ToSchema)]
pub struct JwtResponse {
    /// A JWT for `Authorization: Bearer`.
    #[schema(examples("eyJ0eXAiOiJhdCtqd3QiLCJhbGciOiJIUzI1NiJ9.e30.c2lnbmF0dXJl"))]
    access_token: String,
    /// Good for one call of `/jwt/refresh`.
    #[schema(examples("mrt_an-example-and-no-token"))]
    refresh_token: String,
    /// Always `Bearer`.
    #[schema(examples("Bearer"))]
    token_type: &'static str,
    /// How many seconds the access token is good.
    #[schema(examples(900))]
    expires_in: u64,
}

impl From<Pair> for JwtResponse {
    fn from(pair: Pair) -> Self {
        Self {
            access_token: pair.access_token.expose_secret().to_owned(),
            refresh_token: pair.refresh_token.expose_secret().to_owned(),
            token_type: "Bearer",
            expires_in: ACCESS_LIFETIME.as_secs(),
        }
    }
}

/// Sign in
///
/// Begins a session, and gives its first access token and refresh token.
#[utoipa::path(
    post,
    path = "/api/v1/jwt",
    tag = "sign-in",
    request_body(
        content = CreateJwtRequest,
        description = "Also any media type that ends in `+json`; at most 16384 bytes."
    ),
    responses(
        (
            status = 200,
            description = "Signed in.",
            body = JwtResponse,
            headers(("Cache-Control", description = "no-store"))
        ),
        SignInProblems
    )
)]
pub(crate) async fn create_jwt(
    State(sign_in): State<SignIn>,
    State(sessions): State<Sessions>,
    client: Client,
    Body(credentials): Body<Credentials>,
) -> Result<Response, ApiError> {
    let kind = SessionKind::Refreshed;
    let opened = sign_in.open(&credentials, &client, kind).await?;
    let pair = sessions.pair(opened).await?;
    Ok(unstored(JwtResponse::from(pair)))
}

/// An answer with a token in it, of which no copy must be kept.
pub(super) fn unstored(body: impl Serialize) -> Response {
    let no_store = HeaderValue::from_static("no-store");
    ([(header::CACHE_CONTROL, no_store)], Json(body)).into_response()
}
