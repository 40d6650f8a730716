//! `POST /api/v1/login`: a token of an hour for a password, in the shapes that its clients know.

use axum::extract::State;
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::{Credentials, SignIn};
use crate::{
    callers::Crowds,
    error::ApiError,
    extract::{Body, FromBody, Unstored, parse_object},
    middleware::client::Client,
    openapi::LoginProblems,
    sessions::{SessionKind, Sessions},
};

/// What somebody presents to sign in.
#[derive(Deserialize, ToSchema)]
#[schema(examples(json!({"username": "ada", "password": "an example and no password"})))]
struct LoginRequest<'a> {
    /// The username of the account; its e-mail address is taken too. The case of letters and white
    /// space around it do not count.
    #[serde(borrow)]
    #[schema(value_type = String, examples("ada"))]
    username: Option<&'a RawValue>,
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

/// The credentials of a call of `/login`.
pub(crate) struct LoginCredentials(Credentials);

impl FromBody for LoginCredentials {
    fn parse(body: &[u8]) -> Result<Self, ApiError> {
        let body: LoginRequest = parse_object(body)?;
        Credentials::parse(("username", body.username), body.password, body.otp_attempt).map(Self)
    }
}

/// A token of an hour.
#[derive(Serialize, ToSchema)]
pub struct LoginResponse {
    /// Always 200.
    #[schema(examples(200))]
    status: u16,
    /// What was asked for.
    data: LoginData,
    /// For people.
    #[schema(examples("Data retrieved successfully"))]
    message: &'static str,
}

/// The token.
#[derive(Serialize, ToSchema)]
pub struct LoginData {
    /// A JWT for `Authorization`, alone or after `Bearer `; good for 3600 seconds.
    #[schema(examples("eyJ0eXAiOiJob3VyK2p3dCIsImFsZyI6IkhTMjU2In0.e30.c2lnbmF0dXJl"))]
    token: String,
}

/// Sign in for an hour
///
/// Begins a session of one token, which ends with it. Errors have a shape of their own here.
#[utoipa::path(
    post,
    path = "/api/v1/login",
    tag = "sign-in",
    request_body(
        content = LoginRequest,
        description = "Also any media type that ends in `+json`; at most 16384 bytes."
    ),
    responses(
        (
            status = 200,
            description = "Signed in.",
            body = LoginResponse,
            headers(("Cache-Control", description = "no-store"))
        ),
        LoginProblems
    )
)]
pub(crate) async fn login(
    State(sign_in): State<SignIn>,
    State(sessions): State<Sessions>,
    State(crowds): State<Crowds>,
    client: Client,
    Body(LoginCredentials(credentials)): Body<LoginCredentials>,
) -> Result<Unstored<LoginResponse>, ApiError> {
    let kind = SessionKind::OneHour;
    let opening = async { Ok(sign_in.open(&credentials, &client, kind).await?) };
    let opened = crowds.of_stranger(&client, opening).await?;
    let token = sessions.one_hour_token(opened).await?;
    Ok(Unstored(LoginResponse {
        status: 200,
        data: LoginData {
            token: token.expose_secret().to_owned(),
        },
        message: "Data retrieved successfully",
    }))
}
