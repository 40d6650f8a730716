//! The one error that endpoints and layers answer with, and the only place that maps one to a
//! status. `problem` gives it the form of RFC 9457.

mod chain;
mod problem;
mod rooms;
mod words;

use std::{sync::Arc, time::Duration};

use axum::http::StatusCode;

pub use self::problem::{FieldError, ProblemDetails};
pub(crate) use self::{
    chain::Chain,
    problem::{Documented, Plain, Problem, Shape, Verbatim, WrittenOut},
};

use crate::{attempts::TooManyAttempts, callers::Scope};

/// Everything that a request can be refused with.
#[derive(Debug)]
pub enum ApiError {
    /// 400: the body is no JSON, or no JSON object.
    MalformedJson(String),
    /// 400: what RFC 9112 forbids; what of it.
    BadRequest(&'static str),
    /// 401: no live secret matches, whichever part was wrong.
    InvalidProxySecret,
    /// 401: no secret, live or not, has the form of what was presented.
    MispastedProxySecret,
    /// 401: nobody is signed in.
    Unauthorized,
    /// 401: no such account, not its password, or it is disabled.
    InvalidCredentials,
    /// 401: the password is right, and a code is needed besides.
    OtpRequired,
    /// 401: the code is wrong, or was used before.
    InvalidOtp,
    /// 429: five wrong codes in a row.
    TwoFactorLocked {
        /// How long that goes on.
        retry_after: Duration,
    },
    /// 401: the refresh token is no live one.
    InvalidRefreshToken,
    /// 401: the refresh token had been replaced, and its session was ended.
    RefreshTokenReused,
    /// 403: the API token lacks a scope.
    InsufficientScope(Scope),
    /// 403: not for this caller.
    Forbidden,
    /// 409: it contradicts what there is; how.
    Conflict(&'static str),
    /// 403: the caller's site is suspended.
    SiteSuspended,
    /// 404: no such route.
    NotFound,
    /// 405: not with this method; the router adds `Allow`.
    MethodNotAllowed,
    /// 408: the body did not arrive in time.
    RequestTimeout,
    /// 413: the body is larger than 16 KiB.
    BodyTooLarge,
    /// 415: the body is not labelled as plain JSON.
    UnsupportedMediaType,
    /// 422: fields are missing, of the wrong type or out of range.
    InvalidRequest(Vec<FieldError>),
    /// 422: the idempotency key stands for another request.
    IdempotencyKeyReused,
    /// 429: the site's day or month is used up.
    QuotaExceeded {
        /// The names of the windows.
        violated: Vec<&'static str>,
        /// When the last of them is over.
        retry_after: Duration,
    },
    /// 429: too many failures from one address, or too many calls for one token or site.
    TooManyAttempts(TooManyAttempts),
    /// 500: a fault of ours; the cause is for the log.
    Internal(Cause),
    /// 503: the store did not answer; the cause is for the log.
    StoreUnavailable(Cause),
    /// 503: the clock is off the store's, and nothing can be judged by it. The log has told it once.
    WrongClock,
    /// 503: too much waits.
    Overloaded,
}

/// Why a call failed on our side. Logged with the request's id, never sent.
pub type Cause = Arc<dyn std::error::Error + Send + Sync>;

impl ApiError {
    /// A fault that a message describes.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::Internal(Arc::from(Box::<dyn std::error::Error + Send + Sync>::from(
            message.into(),
        )))
    }

    /// 422 for one field, found wrong after it was parsed.
    pub(crate) fn bad_field(field: &'static str, message: &str) -> Self {
        let message = message.to_owned();
        Self::InvalidRequest(vec![FieldError { field, message }])
    }

    /// A route is mounted without the layer that it needs.
    pub(crate) fn missing_layer(layer: &str) -> Self {
        Self::internal(format!("the route lacks its {layer} layer"))
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::MalformedJson(_) | Self::BadRequest(_) => StatusCode::BAD_REQUEST,
            Self::InvalidProxySecret
            | Self::MispastedProxySecret
            | Self::Unauthorized
            | Self::InvalidCredentials
            | Self::OtpRequired
            | Self::InvalidOtp
            | Self::InvalidRefreshToken
            | Self::RefreshTokenReused => StatusCode::UNAUTHORIZED,
            Self::SiteSuspended | Self::InsufficientScope(_) | Self::Forbidden => {
                StatusCode::FORBIDDEN
            }
            Self::Conflict(_) => StatusCode::CONFLICT,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::RequestTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::InvalidRequest(_) | Self::IdempotencyKeyReused => {
                StatusCode::UNPROCESSABLE_ENTITY
            }
            Self::QuotaExceeded { .. }
            | Self::TooManyAttempts(_)
            | Self::TwoFactorLocked { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
            Self::StoreUnavailable(_) | Self::WrongClock | Self::Overloaded => {
                StatusCode::SERVICE_UNAVAILABLE
            }
        }
    }

    /// The stable machine-readable code.
    const fn code(&self) -> &'static str {
        match self {
            Self::MalformedJson(_) => "malformed_json",
            Self::BadRequest(_) => "bad_request",
            Self::InvalidProxySecret | Self::MispastedProxySecret => "invalid_proxy_secret",
            Self::Unauthorized => "unauthorized",
            Self::InvalidCredentials => "invalid_credentials",
            Self::OtpRequired => "otp_required",
            Self::InvalidOtp => "invalid_otp",
            Self::TwoFactorLocked { .. } => "two_factor_locked",
            Self::InvalidRefreshToken => "invalid_refresh_token",
            Self::RefreshTokenReused => "refresh_token_reused",
            Self::InsufficientScope(_) => "insufficient_scope",
            Self::Forbidden => "forbidden",
            Self::Conflict(_) => "conflict",
            Self::SiteSuspended => "site_suspended",
            Self::NotFound => "not_found",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::RequestTimeout => "request_timeout",
            Self::BodyTooLarge => "body_too_large",
            Self::UnsupportedMediaType => "unsupported_media_type",
            Self::InvalidRequest(_) => "invalid_request",
            Self::IdempotencyKeyReused => "idempotency_key_reused",
            Self::QuotaExceeded { .. } => "quota_exceeded",
            Self::TooManyAttempts(_) => "too_many_attempts",
            Self::Internal(_) => "internal_error",
            Self::StoreUnavailable(_) | Self::WrongClock => "store_unavailable",
            Self::Overloaded => "overloaded",
        }
    }

    fn type_uri(&self) -> String {
        match self {
            Self::QuotaExceeded { .. } => {
                "https://iana.org/assignments/http-problem-types#quota-exceeded".to_owned()
            }
            _ => format!("urn:mirrory:problem:{}", self.code().replace('_', "-")),
        }
    }

    /// What a client that nobody is known by is to sign in with (RFC 9110, section 11.6.1).
    const fn challenge(&self) -> Option<&'static str> {
        match self {
            Self::Unauthorized
            | Self::InvalidCredentials
            | Self::OtpRequired
            | Self::InvalidOtp
            | Self::InvalidRefreshToken
            | Self::RefreshTokenReused => Some("Bearer realm=\"mirrory\""),
            _ => None,
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::QuotaExceeded { retry_after, .. } | Self::TwoFactorLocked { retry_after } => {
                Some(*retry_after)
            }
            Self::TooManyAttempts(refused) => Some(refused.retry_after),
            Self::StoreUnavailable(_) | Self::WrongClock | Self::Overloaded => {
                Some(Duration::from_secs(1))
            }
            _ => None,
        }
    }
}
