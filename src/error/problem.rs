//! Problem details (RFC 9457): their shape, and how they are written out.

use std::time::Duration;

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use utoipa::ToSchema;

use super::{ApiError, Cause};
use crate::callers::Scope;

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

/// A problem on its way to the edge layer, which adds the request's id and writes it out.
#[derive(Clone)]
pub(crate) struct Problem {
    body: ProblemDetails,
    cause: Option<Cause>,
}

/// A response as it is sent, and the problem in it.
pub(crate) struct WrittenOut {
    pub(crate) response: Response,
    pub(crate) code: Option<&'static str>,
    /// For the log.
    pub(crate) cause: Option<Cause>,
}

/// How the problems of a route are written out.
#[derive(Clone, Copy)]
pub(crate) enum Shape {
    /// As problem details.
    Details,
    /// As [`Plain`].
    Plain,
}

/// What went wrong, in the shape that clients of `/api/v1/login` know.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Plain {
    /// The HTTP status of the response.
    #[schema(examples(401), minimum = 400, maximum = 599)]
    status: u16,
    /// What went wrong; for people, and may change.
    #[schema(examples("The credentials are not valid"))]
    message: String,
}

impl From<&ProblemDetails> for Plain {
    fn from(problem: &ProblemDetails) -> Self {
        let wrong = problem.errors.iter().flatten();
        let wrong = wrong.map(|error| format!("; {} {}", error.field, error.message));
        let message = std::iter::once(problem.title.to_owned())
            .chain(wrong)
            .collect();
        Self {
            status: problem.status,
            message,
        }
    }
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
    /// With `insufficient_scope` alone: the scope that the API token lacks.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    scope: Option<Scope>,
    /// With `quota_exceeded` alone: the windows that are used up, `day` and `month`, as in
    /// `RateLimit-Policy`.
    #[serde(rename = "violated-policies", skip_serializing_if = "Option::is_none")]
    #[schema(examples("day", "month"), nullable = false, min_items = 1)]
    violated_policies: Option<Vec<&'static str>>,
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let retry_after = self.retry_after();
        let challenge = self.challenge();
        let (status, problem) = self.into_problem();
        let mut response = status.into_response();
        if let Some(retry_after) = retry_after {
            let seconds = whole_seconds(retry_after).max(1);
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Some(challenge) = challenge {
            let challenge = HeaderValue::from_static(challenge);
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, challenge);
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
            scope: None,
            violated_policies: None,
        };
        let mut cause = None;
        match self {
            Self::InvalidRequest(errors) => body.errors = Some(errors),
            Self::InsufficientScope(scope) => body.scope = Some(scope),
            Self::QuotaExceeded { violated, .. } => body.violated_policies = Some(violated),
            Self::Internal(ours) | Self::StoreUnavailable(ours) => cause = Some(ours),
            _ => {}
        }
        (status, Problem { body, cause })
    }

    /// This error as the API's description tells of it.
    pub(crate) fn documented(self) -> Documented {
        let has_retry_after = self.retry_after().is_some();
        let has_challenge = self.challenge().is_some();
        let (_, Problem { body, .. }) = self.into_problem();
        Documented {
            has_retry_after,
            has_challenge,
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
    pub(crate) has_challenge: bool,
    /// The whole body, as an example.
    pub(crate) body: ProblemDetails,
}

/// Rounded up: who waits this long does not come too early.
fn whole_seconds(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}

impl Problem {
    /// Writes the problem into the body of the response that carries it, if it does.
    pub(crate) fn write_out(
        response: Response,
        shape: Shape,
        request_id: &HeaderValue,
    ) -> WrittenOut {
        let (mut parts, body) = Self::of_any(response).into_parts();
        let Some(problem) = parts.extensions.remove::<Self>() else {
            return WrittenOut {
                response: Response::from_parts(parts, body),
                code: None,
                cause: None,
            };
        };
        let (media_type, text) = problem.written(shape, request_id);
        parts
            .headers
            .insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
        parts
            .headers
            .insert(header::CONTENT_LENGTH, HeaderValue::from(text.len()));
        WrittenOut {
            response: Response::from_parts(parts, text.into()),
            code: Some(problem.body.error),
            cause: problem.cause,
        }
    }

    fn written(&self, shape: Shape, request_id: &HeaderValue) -> (&'static str, Vec<u8>) {
        match shape {
            Shape::Details => {
                let mut problem = self.body.clone();
                problem
                    .request_id
                    .push_str(request_id.to_str().unwrap_or_default());
                let text = serde_json::to_vec(&problem).unwrap_or_default();
                ("application/problem+json", text)
            }
            Shape::Plain => {
                let text = serde_json::to_vec(&Plain::from(&self.body)).unwrap_or_default();
                ("application/json", text)
            }
        }
    }

    /// The response; a refusal that is not ours, as the router's own, with the problem of its
    /// status.
    fn of_any(response: Response) -> Response {
        let Some(error) = Self::of_status(&response) else {
            return response;
        };
        let mut replaced = error.into_response();
        // `Allow`, and what a browser must see to show the problem to its page.
        let mut headers = response.headers().clone();
        headers.remove(header::CONTENT_TYPE);
        headers.remove(header::CONTENT_LENGTH);
        replaced.headers_mut().extend(headers);
        replaced
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
