//! The one error that endpoints and layers answer with, and the only place that maps one to a
//! status: RFC 9457 problem details.

use std::{fmt, sync::Arc, time::Duration};

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use utoipa::ToSchema;

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

/// One bad field of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct FieldError {
    /// The name of the field, or of the header.
    #[schema(examples("machine_id", "Idempotency-Key"))]
    pub field: &'static str,
    /// What is wrong with it, and what would be right; for people, and may change.
    #[schema(examples("must be 1 to 256 bytes of UTF-8 without control characters"))]
    pub message: String,
}

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

/// A problem on its way to the edge layer, which adds the request's id and writes it out.
#[derive(Clone)]
pub(crate) struct Problem {
    body: ProblemDetails,
    cause: Option<Cause>,
}

/// What went wrong, as problem details (RFC 9457), sent as `application/problem+json`. Decide by
/// `error`; the texts are for people and may change.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ProblemDetails {
    /// What kind of problem this is (RFC 9457, section 3.1.1): `urn:mirrory:problem:` and the code
    /// with hyphens, or for `quota_exceeded` the registered type of the IANA.
    #[serde(rename = "type")]
    #[schema(
        format = "uri",
        examples(
            "urn:mirrory:problem:invalid-proxy-secret",
            "https://iana.org/assignments/http-problem-types#quota-exceeded"
        )
    )]
    type_uri: String,
    /// The kind in words; the same for every occurrence.
    #[schema(examples("The proxy secret is not valid"))]
    title: &'static str,
    /// The HTTP status of the response.
    #[schema(examples(401), minimum = 400, maximum = 599)]
    status: u16,
    /// What to do about it; absent when the fault is ours.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(
        examples("Send a live proxy secret of the site as `proxy_secret`."),
        nullable = false
    )]
    detail: Option<String>,
    /// The stable machine-readable code. Each response lists those that it may have.
    #[schema(examples("invalid_proxy_secret"), pattern = "^[a-z]+(_[a-z]+)*$")]
    error: &'static str,
    /// The id of the request, as in `x-request-id`.
    #[schema(
        examples("019abf3e-7d2a-7c64-9a51-3f0e8a6b1c2d"),
        min_length = 1,
        max_length = 128
    )]
    request_id: String,
    /// With `invalid_request` alone: every bad field, each once.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, min_items = 1)]
    errors: Option<Vec<FieldError>>,
    /// With `quota_exceeded` alone: the windows that are used up, `day` and `month`, as in
    /// `RateLimit-Policy`.
    #[serde(rename = "violated-policies", skip_serializing_if = "Option::is_none")]
    #[schema(examples("day", "month"), nullable = false, min_items = 1)]
    violated_policies: Option<Vec<&'static str>>,
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let retry_after = self.retry_after();
        let (status, problem) = self.into_problem();
        let mut response = status.into_response();
        if let Some(retry_after) = retry_after {
            let seconds = whole_seconds(retry_after).max(1);
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response.extensions_mut().insert(problem);
        response
    }
}

impl ApiError {
    fn into_problem(self) -> (StatusCode, Problem) {
        let status = self.status();
        let mut body = ProblemDetails {
            type_uri: self.type_uri(),
            title: self.title(),
            status: status.as_u16(),
            detail: self.detail(),
            error: self.code(),
            request_id: String::new(),
            errors: None,
            violated_policies: None,
        };
        let mut cause = None;
        match self {
            Self::InvalidRequest(errors) => body.errors = Some(errors),
            Self::QuotaExceeded { violated, .. } => body.violated_policies = Some(violated),
            Self::Internal(ours) | Self::StoreUnavailable(ours) => cause = Some(ours),
            _ => {}
        }
        (status, Problem { body, cause })
    }

    /// This error as the API's description tells of it.
    pub(crate) fn documented(self) -> Documented {
        let has_retry_after = self.retry_after().is_some();
        let (_, Problem { body, .. }) = self.into_problem();
        Documented {
            has_retry_after,
            status: body.status,
            code: body.error,
            title: body.title,
            detail: body.detail.clone(),
            body: ProblemDetails {
                request_id: "019abf3e-7d2a-7c64-9a51-3f0e8a6b1c2d".to_owned(),
                ..body
            },
        }
    }
}

/// What the API's description says of an error.
pub(crate) struct Documented {
    pub(crate) status: u16,
    pub(crate) code: &'static str,
    pub(crate) title: &'static str,
    pub(crate) detail: Option<String>,
    pub(crate) has_retry_after: bool,
    /// The whole body, as an example.
    pub(crate) body: ProblemDetails,
}

/// Rounded up: who waits this long does not come too early.
fn whole_seconds(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}

impl Problem {
    /// Writes the problem into the body of the response that carries it, if it does. A refusal that
    /// is not ours, as the router's own, is given the problem of its status.
    pub(crate) fn write_out(
        response: Response,
        request_id: &HeaderValue,
    ) -> (Response, Option<Cause>) {
        let response = match Self::of_status(&response) {
            Some(error) => {
                let mut replaced = error.into_response();
                // `Allow`, and what a browser must see to show the problem to its page.
                let mut headers = response.headers().clone();
                headers.remove(header::CONTENT_TYPE);
                headers.remove(header::CONTENT_LENGTH);
                replaced.headers_mut().extend(headers);
                replaced
            }
            None => response,
        };
        let (mut parts, body) = response.into_parts();
        let Some(Self {
            body: mut problem,
            cause,
        }) = parts.extensions.remove::<Self>()
        else {
            return (Response::from_parts(parts, body), None);
        };
        problem
            .request_id
            .push_str(request_id.to_str().unwrap_or_default());
        let text = serde_json::to_vec(&problem).unwrap_or_default();
        parts.headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        parts
            .headers
            .insert(header::CONTENT_LENGTH, HeaderValue::from(text.len()));
        (Response::from_parts(parts, text.into()), cause)
    }

    fn of_status(response: &Response) -> Option<ApiError> {
        let status = response.status();
        let is_ours = response.extensions().get::<Self>().is_some()
            || response.extensions().get::<Verbatim>().is_some();
        if is_ours || status.as_u16() < 400 {
            return None;
        }
        Some(match status {
            StatusCode::METHOD_NOT_ALLOWED => ApiError::MethodNotAllowed,
            status if status.is_client_error() => ApiError::NotFound,
            _ => ApiError::internal(format!("a route answered {status} without a problem")),
        })
    }
}

/// Marks a response above 399 that is no problem document on purpose, as an unhealthy health.
#[derive(Clone, Copy)]
pub(crate) struct Verbatim;

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Fault(_) => Self::Internal(Arc::new(error)),
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

/// An error with everything that caused it, on one line.
pub(crate) struct Chain<'a>(pub(crate) &'a (dyn std::error::Error + 'static));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut said = self.0.to_string();
        formatter.write_str(&said)?;
        let mut source = self.0.source();
        while let Some(error) = source {
            let text = error.to_string();
            // Some libraries say their cause themselves, and name it as their source besides.
            if !said.ends_with(&text) {
                write!(formatter, ": {text}")?;
            }
            said = text;
            source = error.source();
        }
        Ok(())
    }
}
