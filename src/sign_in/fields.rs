//! What requests carry to prove somebody: alone, or beside what they are for.

use serde::Deserialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::{
    accounts::LoginName,
    error::ApiError,
    extract::{Fields, FromBody, opaque, parse_object, text},
    passwords::{InvalidPassword, NewPassword, Password},
    two_factor::{AppCode, Code, InvalidCode},
};

/// Longer than any e-mail address.
const MAX_NAME_BYTES: usize = 320;

/// An e-mail address or a username, as somebody typed it.
pub(crate) fn login_name(value: &RawValue) -> Result<LoginName, String> {
    let typed = text(value)?;
    let name = typed.trim();
    if name.is_empty() || name.len() > MAX_NAME_BYTES || name.chars().any(char::is_control) {
        return Err(format!(
            "must be 1 to {MAX_NAME_BYTES} bytes without control characters"
        ));
    }
    Ok(LoginName::new(name))
}

/// A password, as somebody typed it.
pub(crate) fn password(value: &RawValue) -> Result<Password, String> {
    Password::parse(opaque(value)?).map_err(|invalid: InvalidPassword| invalid.to_string())
}

/// A password that is to be set.
pub(crate) fn new_password(value: &RawValue) -> Result<NewPassword, String> {
    NewPassword::parse(opaque(value)?).map_err(|invalid: InvalidPassword| invalid.to_string())
}

/// A code of an app, or a recovery code.
pub(crate) fn code(value: &RawValue) -> Result<Code, String> {
    Code::parse(&opaque(value)?).map_err(|invalid: InvalidCode| invalid.to_string())
}

/// A code of an app alone.
pub(crate) fn app_code(value: &RawValue) -> Result<AppCode, String> {
    match code(value)? {
        Code::App(code) => Ok(code),
        Code::Recovery(_) => Err("must be six digits".to_owned()),
    }
}

/// The password again, for what somebody at an unlocked screen must not do.
#[derive(Deserialize, ToSchema)]
#[schema(examples(json!({"password": "an example and no password"})))]
pub(crate) struct PasswordRequest<'a> {
    /// The account's password.
    #[serde(borrow)]
    #[schema(value_type = String, examples("an example and no password"), format = Password)]
    password: Option<&'a RawValue>,
}

/// The password of whoever is signed in.
pub(crate) struct GivenPassword(pub(crate) Password);

impl FromBody for GivenPassword {
    fn parse(body: &[u8]) -> Result<Self, ApiError> {
        let body: PasswordRequest = parse_object(body)?;
        let mut fields = Fields::default();
        let password = fields.required("password", body.password, password);
        fields.finish(password.map(Self))
    }
}

/// A code.
#[derive(Deserialize, ToSchema)]
#[schema(examples(json!({"otp_attempt": "123456"})))]
pub(crate) struct CodeRequest<'a> {
    /// Six digits of an authenticator app; white space and hyphens in it do not count.
    #[serde(borrow)]
    #[schema(value_type = String, examples("123456"))]
    otp_attempt: Option<&'a RawValue>,
}

/// The code of whoever is signed in.
pub(crate) struct GivenCode(pub(crate) AppCode);

impl FromBody for GivenCode {
    fn parse(body: &[u8]) -> Result<Self, ApiError> {
        let body: CodeRequest = parse_object(body)?;
        let mut fields = Fields::default();
        let code = fields.required("otp_attempt", body.otp_attempt, app_code);
        fields.finish(code.map(Self))
    }
}

/// The password again, and a code.
#[derive(Deserialize, ToSchema)]
#[schema(examples(json!({"password": "an example and no password", "otp_attempt": "123456"})))]
pub(crate) struct PasswordAndCodeRequest<'a> {
    /// The account's password.
    #[serde(borrow)]
    #[schema(value_type = String, examples("an example and no password"), format = Password)]
    password: Option<&'a RawValue>,
    /// Six digits of an authenticator app, or a recovery code; white space and hyphens in it do not
    /// count.
    #[serde(borrow)]
    #[schema(value_type = String, examples("123456", "7g9x-2kqm-v4ht-0b8d"))]
    otp_attempt: Option<&'a RawValue>,
}

/// The password and the code of whoever is signed in.
pub(crate) struct GivenBoth {
    pub(crate) password: Password,
    pub(crate) code: Code,
}

impl FromBody for GivenBoth {
    fn parse(body: &[u8]) -> Result<Self, ApiError> {
        let body: PasswordAndCodeRequest = parse_object(body)?;
        let mut fields = Fields::default();
        let password = fields.required("password", body.password, password);
        let code = fields.required("otp_attempt", body.otp_attempt, code);
        let both = password.zip(code);
        fields.finish(both.map(|(password, code)| Self { password, code }))
    }
}
