//! The problems of the management API, by operation.

use std::{collections::BTreeMap, time::Duration};

use utoipa::{
    IntoResponses,
    openapi::{RefOr, Response},
};

use super::problems::{plain_responses, responses, too_many_attempts, unavailable, unreadable};
use crate::{api_tokens::endpoints::TOO_MANY, error::ApiError};

macro_rules! problems {
    ($($(#[$doc:meta])* $name:ident: $shape:ident($errors:expr))*) => {$(
        $(#[$doc])*
        pub(crate) struct $name;

        impl IntoResponses for $name {
            fn responses() -> BTreeMap<String, RefOr<Response>> {
                $shape($errors)
            }
        }
    )*};
}

problems! {
    /// Of `/jwt`.
    SignInProblems: responses(signing_in("email"))
    /// Of `/login`.
    LoginProblems: plain_responses(signing_in("username").into_iter().chain([
        ApiError::MethodNotAllowed,
        ApiError::internal("an example"),
    ]))
    /// Of `/jwt/refresh`.
    RefreshProblems: responses(unreadable("refresh_token", TOKEN).into_iter().chain([
        ApiError::InvalidRefreshToken,
        ApiError::RefreshTokenReused,
    ]))
    /// Of `/jwt/revoke`.
    RevokeProblems: responses(
        unreadable("token", TOKEN).into_iter().chain([ApiError::Unauthorized])
    )
    /// Of what an access token alone is good for, without a body.
    SignedInProblems: responses(
        unavailable().into_iter().chain([ApiError::Unauthorized, ApiError::Forbidden])
    )
    /// Of one thing among those of an account.
    OwnItemProblems: responses(unavailable().into_iter().chain([
        ApiError::Unauthorized,
        ApiError::Forbidden,
        ApiError::NotFound,
    ]))
    /// Of changing the account.
    UpdateAccountProblems: responses(confirmed("email", EMAIL).into_iter().chain([taken()]))
    /// Of deleting the account.
    DeleteAccountProblems: responses(
        confirmed("password", PASSWORD)
            .into_iter()
            .chain([ApiError::Conflict("The last admin cannot go.")])
    )
    /// Of changing the password.
    ChangePasswordProblems: responses(
        confirmed("new_password", "must have at least 10 characters")
    )
    /// Of making an account.
    CreateAccountProblems: responses(unreadable("email", EMAIL).into_iter().chain([
        ApiError::Unauthorized,
        ApiError::Forbidden,
        taken(),
        too_many_attempts(),
    ]))
    /// Of making an API token.
    CreateApiTokenProblems: responses(
        confirmed("expires_at", "must be in the future").into_iter().chain([
            TOO_MANY,
            ApiError::OtpRequired,
            ApiError::InvalidOtp,
            locked(),
        ])
    )
    /// Of turning the second factor on and off.
    TwoFactorProblems: responses(confirmed("password", PASSWORD).into_iter().chain([
        ApiError::InvalidOtp,
        locked(),
        ApiError::Conflict("Two-factor is on already: turn it off first."),
    ]))
}

const TOKEN: &str = "must be a string of 1 to 8192 bytes";
const EMAIL: &str = "must be an e-mail address of at most 254 bytes";
const PASSWORD: &str = "must be a string of 1 to 1024 bytes";

fn signing_in(field: &'static str) -> Vec<ApiError> {
    let mut errors = unreadable(field, "must be a string of 1 to 320 bytes");
    errors.extend([
        ApiError::InvalidCredentials,
        ApiError::OtpRequired,
        ApiError::InvalidOtp,
        too_many_attempts(),
        locked(),
    ]);
    errors
}

/// What somebody may be refused with who is signed in and gives their password again.
fn confirmed(field: &'static str, message: &str) -> Vec<ApiError> {
    let mut errors = unreadable(field, message);
    errors.extend([
        ApiError::Unauthorized,
        ApiError::InvalidCredentials,
        ApiError::Forbidden,
        too_many_attempts(),
    ]);
    errors
}

fn locked() -> ApiError {
    ApiError::TwoFactorLocked {
        retry_after: Duration::from_mins(15),
    }
}

fn taken() -> ApiError {
    ApiError::Conflict("The e-mail address or the username is taken.")
}
