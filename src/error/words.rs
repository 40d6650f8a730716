//! What a refusal is called, and what to do about it; for people, and may change.

use super::ApiError;

impl ApiError {
    /// The same for every occurrence of the code (RFC 9457, section 3.1.3).
    pub(super) const fn title(&self) -> &'static str {
        match self {
            Self::MalformedJson(_) => "The body is not a JSON object",
            Self::BadRequest(_) => "The request is not proper HTTP",
            Self::InvalidProxySecret | Self::MispastedProxySecret => {
                "The proxy secret is not valid"
            }
            Self::Unauthorized => "Nobody is signed in",
            Self::InvalidCredentials => "The credentials are not valid",
            Self::OtpRequired => "A code is needed",
            Self::InvalidOtp => "The code is not valid",
            Self::TwoFactorLocked { .. } => "Two-factor sign-in is locked",
            Self::InvalidRefreshToken => "The refresh token is not valid",
            Self::RefreshTokenReused => "The refresh token was used before",
            Self::InsufficientScope(_) => "The API token may not do this",
            Self::Forbidden => "This is not allowed",
            Self::Conflict(_) => "The request contradicts what there is",
            Self::SiteSuspended => "The site is suspended",
            Self::NotFound => "There is nothing here",
            Self::MethodNotAllowed => "The method is not allowed here",
            Self::RequestTimeout => "The body did not arrive in time",
            Self::BodyTooLarge => "The body is too large",
            Self::UnsupportedMediaType => "The media type is not supported",
            Self::InvalidRequest(_) => "The request is not valid",
            Self::IdempotencyKeyReused => "The idempotency key was used with another request",
            Self::QuotaExceeded { .. } => "The quota is used up",
            Self::TooManyAttempts(_) => "Too many attempts",
            Self::Internal(_) => "Something went wrong on our side",
            Self::StoreUnavailable(_) | Self::WrongClock => "The store is not available",
            Self::Overloaded => "The service is overloaded",
        }
    }

    /// What happened this time and what to do; nothing of the cause when it is ours.
    pub(super) fn detail(&self) -> Option<String> {
        let detail = match self {
            Self::MalformedJson(reason) => return Some(reason.clone()),
            Self::InvalidProxySecret => "Send a live proxy secret of the site as `proxy_secret`.",
            Self::MispastedProxySecret => {
                "It has characters that no secret has, such as white space or quotes around it, or \
                 capitals: send the secret as it was shown, as `proxy_secret`."
            }
            Self::InsufficientScope(scope) => {
                return Some(format!("The API token needs the scope {scope}."));
            }
            Self::Conflict(reason) | Self::BadRequest(reason) => reason,
            Self::Unauthorized => {
                "Sign in, and send the access token as `Authorization: Bearer`, or an API token as \
                 `Authorization: token`."
            }
            Self::InvalidCredentials => {
                "Send the e-mail address and the password of an account that is not disabled."
            }
            Self::OtpRequired => {
                "Send the code of your authenticator app, or a recovery code, as `otp_attempt`."
            }
            Self::InvalidOtp => {
                "Send the newest code of your authenticator app; each is good once."
            }
            Self::TwoFactorLocked { .. } => {
                "Too many wrong codes came in a row. Try again when Retry-After has passed, or \
                 send a recovery code."
            }
            Self::InvalidRefreshToken => "Sign in again.",
            Self::RefreshTokenReused => {
                "Somebody else may have the token: its session is ended. Sign in again."
            }
            Self::Forbidden => "Another account or another kind of credential may do this.",
            Self::SiteSuspended => "Ask the operator of the service to resume the site.",
            Self::NotFound => {
                "See the documentation of this service, below `docs`, for its endpoints."
            }
            Self::MethodNotAllowed => "Use a method that the Allow header names.",
            Self::RequestTimeout => "Send the request again, whole.",
            Self::BodyTooLarge => "Send at most 16384 bytes.",
            Self::UnsupportedMediaType => {
                "Send the body with `Content-Type: application/json` and without a \
                 Content-Encoding."
            }
            Self::InvalidRequest(_) => "Correct the fields that `errors` names.",
            Self::IdempotencyKeyReused => {
                "Use a new Idempotency-Key for a new request, and the old one only to repeat it \
                 unchanged."
            }
            Self::QuotaExceeded { .. } => {
                "The plan's calls for the violated windows are used up; try again when Retry-After \
                 has passed."
            }
            Self::TooManyAttempts(_) => "Try again when Retry-After has passed.",
            Self::Internal(_) | Self::StoreUnavailable(_) | Self::WrongClock | Self::Overloaded => {
                return None;
            }
        };
        Some(detail.to_owned())
    }
}
