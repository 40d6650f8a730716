//! `POST /api/v1/jwt`: an access token and a refresh token for a password.

use axum::extract::State;
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::{Credentials, SignIn, fields};
use crate::{
    callers::Crowds,
    error::ApiError,
    extract::{Body, Fields, FromBody, Unstored, parse_object},
    middleware::client::Client,
    openapi::SignInProblems,
    sessions::{ACCESS_LIFETIME, Pair, SessionKind, Sessions},
};

/// What somebody presents to sign in.
#[derive(Deserialize, ToSchema)]
#[schema(examples(
    json!({"email": "ada@shop.example", "password": "an example and no password"}),
    json!({
        "email": "ada@shop.example",
        "password": "an example and no password",
        "otp_attempt": "123456"
    })
))]
struct CreateJwtRequest<'a> {
    /// The e-mail address of the account; its username is taken too. The case of letters and white
    /// space around it do not count.
    #[serde(borrow)]
    #[schema(value_type = String, examples("ada@shop.example"))]
    email: Option<&'a RawValue>,
    /// Its password.
    #[serde(borrow)]
    #[schema(value_type = String, examples("an example and no password"), format = Password)]
    password: Option<&'a RawValue>,
    /// With two-factor on: six digits of the app, or a recovery code. White space and hyphens in it
    /// do not count.
    #[serde(borrow)]
    #[schema(value_type = Option<String>, nullable = true, examples("123456", "7g9x-2kqm-v4ht-0b8d"))]
    otp_attempt: Option<&'a RawValue>,
}

/// The credentials of a call of `/jwt`.
pub(crate) struct JwtCredentials(Credentials);

impl FromBody for JwtCredentials {
    fn parse(body: &[u8]) -> Result<Self, ApiError> {
        let body: CreateJwtRequest = parse_object(body)?;
        Credentials::parse(("email", body.email), body.password, body.otp_attempt).map(Self)
    }
}

impl Credentials {
    /// Parses the fields of a sign-in, of which the name has another name at each endpoint.
    pub(super) fn parse(
        (name_field, name): (&'static str, Option<&RawValue>),
        password: Option<&RawValue>,
        code: Option<&RawValue>,
    ) -> Result<Self, ApiError> {
        let mut fields = Fields::default();
        let name = fields.required(name_field, name, fields::login_name);
        let password = fields.required("password", password, fields::password);
        let code = fields.optional("otp_attempt", code, fields::code);
        fields.finish(name.zip(password).map(|(name, password)| Self {
            name,
            password,
            code,
        }))
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
    State(crowds): State<Crowds>,
    client: Client,
    Body(JwtCredentials(credentials)): Body<JwtCredentials>,
) -> Result<Unstored<JwtResponse>, ApiError> {
    let kind = SessionKind::Refreshed;
    let opening = async { Ok(sign_in.open(&credentials, &client, kind).await?) };
    let opened = crowds.of_stranger(&client, opening).await?;
    let pair = sessions.pair(opened).await?;
    Ok(Unstored(JwtResponse::from(pair)))
}
