//! The one error that endpoints and layers answer with, and the only place that maps one to a
//! status. `problem` gives it the form of RFC 9457.

mod chain;
mod problem;

use std::{sync::Arc, time::Duration};

use axum::http::StatusCode;

pub use self::problem::{FieldError, ProblemDetails};
pub(crate) use self::{
    chain::Chain,
    problem::{Documented, Problem, Verbatim},
};

use crate::{attempts::TooManyAttempts, keys::KeysError, quota::QuotaError, store::StoreError};

/// Everything that a request can be refused with.
#[derive(Debug)]
pub enum ApiError {
    /// 400: the body is no JSON, or no JSON object.
    MalformedJson(String),
    /// 401: no live secret matches, whichever part was wrong.
    InvalidProxySecret,
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

    /// A route is mounted without the layer that it needs.
    pub(crate) fn missing_layer(layer: &str) -> Self {
        Self::internal(format!("the route lacks its {layer} layer"))
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::MalformedJson(_) => StatusCode::BAD_REQUEST,
            Self::InvalidProxySecret => StatusCode::UNAUTHORIZED,
            Self::SiteSuspended => StatusCode::FORBIDDEN,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::RequestTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::InvalidRequest(_) | Self::IdempotencyKeyReused => {
                StatusCode::UNPROCESSABLE_ENTITY
            }
            Self::QuotaExceeded { .. } | Self::TooManyAttempts(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
            Self::StoreUnavailable(_) | Self::Overloaded => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// The stable machine-readable code.
    const fn code(&self) -> &'static str {
        match self {
            Self::MalformedJson(_) => "malformed_json",
            Self::InvalidProxySecret => "invalid_proxy_secret",
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
            Self::StoreUnavailable(_) => "store_unavailable",
            Self::Overloaded => "overloaded",
        }
    }

    /// The same for every occurrence of the code (RFC 9457, section 3.1.3).
    const fn title(&self) -> &'static str {
        match self {
            Self::MalformedJson(_) => "The body is not a JSON object",
            Self::InvalidProxySecret => "The proxy secret is not valid",
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
            Self::StoreUnavailable(_) => "The store is not available",
            Self::Overloaded => "The service is overloaded",
        }
    }

    /// What happened this time and what to do; nothing of the cause when it is ours.
    fn detail(&self) -> Option<String> {
        let detail = match self {
            Self::MalformedJson(reason) => return Some(reason.clone()),
            Self::InvalidProxySecret => "Send a live proxy secret of the site as `proxy_secret`.",
            Self::SiteSuspended => "Ask the operator of the service to resume the site.",
            Self::NotFound => "See /docs for the endpoints of this service.",
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
            Self::Internal(_) | Self::StoreUnavailable(_) | Self::Overloaded => return None,
        };
        Some(detail.to_owned())
    }

    fn type_uri(&self) -> String {
        match self {
            Self::QuotaExceeded { .. } => {
                "https://iana.org/assignments/http-problem-types#quota-exceeded".to_owned()
            }
            _ => format!("urn:mirrory:problem:{}", self.code().replace('_', "-")),
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::QuotaExceeded { retry_after, .. } => Some(*retry_after),
            Self::TooManyAttempts(refused) => Some(refused.retry_after),
            Self::StoreUnavailable(_) | Self::Overloaded => Some(Duration::from_secs(1)),
            _ => None,
        }
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Overloaded => Self::Overloaded,
            StoreError::Fault(_) | StoreError::Refused(_) => Self::Internal(Arc::new(error)),
            StoreError::Unreachable(_) | StoreError::Unavailable(_) | StoreError::Timeout => {
                Self::StoreUnavailable(Arc::new(error))
            }
        }
    }
}

impl From<QuotaError> for ApiError {
    fn from(error: QuotaError) -> Self {
        match error {
            QuotaError::Store(error) => error.into(),
            QuotaError::Contended => Self::Overloaded,
            QuotaError::UnknownPlan(_) | QuotaError::Exceeded(_) => Self::Internal(Arc::new(error)),
        }
    }
}

impl From<KeysError> for ApiError {
    fn from(error: KeysError) -> Self {
        match error {
            KeysError::Store(error) => error.into(),
            other => Self::Internal(Arc::new(other)),
        }
    }
}

impl From<TooManyAttempts> for ApiError {
    fn from(error: TooManyAttempts) -> Self {
        Self::TooManyAttempts(error)
    }
}
