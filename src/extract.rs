//! Reading requests: the JSON body with our refusals, and its fields one by one.

use std::{sync::Arc, time::Duration};

use axum::{
    BoxError,
    body::{self, Bytes, HttpBody},
    extract::{FromRequest, Request},
    http::{HeaderMap, HeaderValue, header},
    response::{IntoResponse, Response},
};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{
    error::{ApiError, FieldError},
    state::AppState,
    types::{name::Name, patience::within, text::storable},
};

/// The most that a request body may have, in bytes.
pub const MAX_BODY_BYTES: usize = 16 * 1024;

/// What the answers that are given most fit into, so that their room need not grow.
const USUAL_ANSWER_BYTES: usize = 768;

/// Reads a body to its end.
///
/// # Errors
/// 413 when it is larger than [`MAX_BODY_BYTES`], 408 when it takes longer than `patience`.
pub(crate) async fn read_body(
    headers: &HeaderMap,
    body: body::Body,
    patience: Duration,
) -> Result<Bytes, ApiError> {
    let announced = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > MAX_BODY_BYTES as u64) {
        return Err(ApiError::BodyTooLarge);
    }
    let reading = gather(Limited::new(body, MAX_BODY_BYTES));
    match within(patience, reading).await {
        Some(Ok(whole)) => Ok(whole),
        Some(Err(error)) if error.is::<LengthLimitError>() => Err(ApiError::BodyTooLarge),
        Some(Err(_)) => Err(ApiError::MalformedJson(
            "The body ended before it was whole.".to_owned(),
        )),
        None => Err(ApiError::RequestTimeout),
    }
}

/// A body that comes in one piece is taken as it is. The pieces of another are copied: one of a single
/// byte may hold on to a thousand times as much.
async fn gather(mut body: Limited<body::Body>) -> Result<Bytes, BoxError> {
    let mut whole = Vec::new();
    while let Some(frame) = body.frame().await.transpose()? {
        let Ok(data) = frame.into_data() else {
            continue;
        };
        if whole.is_empty() && body.is_end_stream() {
            return Ok(data);
        }
        whole.extend_from_slice(&data);
    }
    Ok(whole.into())
}

/// Takes `application/json` and any `…+json`, parameters ignored, without a content coding.
///
/// # Errors
/// 415 for all else.
pub(crate) fn require_json(headers: &HeaderMap) -> Result<(), ApiError> {
    let mut types = headers.get_all(header::CONTENT_TYPE).into_iter();
    let (Some(media_type), None) = (types.next(), types.next()) else {
        return Err(ApiError::UnsupportedMediaType);
    };
    let essence = media_type
        .to_str()
        .map_err(|_| ApiError::UnsupportedMediaType)?
        .split(';')
        .next()
        .unwrap_or_default()
        .trim();
    let is_json = essence.eq_ignore_ascii_case("application/json")
        || essence
            .split_once('/')
            .is_some_and(|(kind, subtype)| !kind.is_empty() && has_json_suffix(subtype));
    if is_json && !headers.contains_key(header::CONTENT_ENCODING) {
        Ok(())
    } else {
        Err(ApiError::UnsupportedMediaType)
    }
}

/// What is read from a request's body.
pub(crate) trait FromBody: Sized {
    /// Parses the body, which is labelled as JSON.
    ///
    /// # Errors
    /// 400 when it is no JSON object, 422 with each field that is wrong.
    fn parse(body: &[u8]) -> Result<Self, ApiError>;
}

/// Extracts the body of a request, read whole and parsed.
pub(crate) struct Body<T>(pub(crate) T);

impl<T: FromBody> FromRequest<AppState> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &AppState) -> Result<Self, ApiError> {
        let patience = Duration::from_secs(state.config.server.body_timeout_seconds.into());
        let (parts, body) = request.into_parts();
        let body = read_body(&parts.headers, body, patience).await?;
        require_json(&parts.headers)?;
        T::parse(&body).map(Self)
    }
}

/// Whether a subtype has the structured syntax suffix of JSON (RFC 6839, section 3.1), and more.
fn has_json_suffix(subtype: &str) -> bool {
    let (_, suffix) = subtype
        .split_at_checked(subtype.len().saturating_sub(5))
        .unwrap_or_default();
    subtype.len() > suffix.len() && suffix.eq_ignore_ascii_case("+json")
}

/// Parses a JSON object into a struct whose fields are `Option<&RawValue>`, so that what is no JSON
/// is told apart from what is no field of ours.
///
/// # Errors
/// 400 when the body is no UTF-8 (a byte-order mark included), no JSON object, or gives a field of
/// the struct twice.
pub(crate) fn parse_object<'a, T: serde::Deserialize<'a>>(body: &'a [u8]) -> Result<T, ApiError> {
    if let Some(encoding) = byte_order_mark(body) {
        return Err(ApiError::MalformedJson(format!(
            "The body begins with the byte-order mark of {encoding}: send the JSON in UTF-8, without \
             a mark before it."
        )));
    }
    let text = std::str::from_utf8(body)
        .map_err(|_| ApiError::MalformedJson("The body is not UTF-8.".to_owned()))?;
    // A struct may also be read from an array; only an object is meant.
    if !text
        .trim_start_matches([' ', '\t', '\n', '\r'])
        .starts_with('{')
    {
        return Err(ApiError::MalformedJson(
            "The body must be a JSON object.".to_owned(),
        ));
    }
    serde_json::from_str(text).map_err(|error| {
        // The error's own text may quote what was sent; where it happened says enough.
        ApiError::MalformedJson(format!(
            "The body is not a JSON object with each field once: line {}, column {}.",
            error.line(),
            error.column()
        ))
    })
}

/// What the body says that it is encoded in, as editors on Windows have it. JSON is sent without it
/// (RFC 8259, section 8.1).
fn byte_order_mark(body: &[u8]) -> Option<&'static str> {
    match body {
        [0xef, 0xbb, 0xbf, ..] => Some("UTF-8"),
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => Some("UTF-16"),
        _ => None,
    }
}

/// Takes a field that is there also when it is null; to be named in `deserialize_with`, beside
/// `default`.
///
/// # Errors
/// When it is no JSON.
pub(crate) fn given<'de: 'a, 'a, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<&'a RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

/// Parses fields one by one, and collects what is wrong with each.
#[derive(Default)]
pub(crate) struct Fields {
    errors: Vec<FieldError>,
}

impl Fields {
    /// A field that must be there.
    pub(crate) fn required<T>(
        &mut self,
        field: &'static str,
        value: Option<&RawValue>,
        parse: impl FnOnce(&RawValue) -> Result<T, String>,
    ) -> Option<T> {
        if value.is_none() {
            self.refuse(field, "is required".to_owned());
        }
        self.optional(field, value, parse)
    }

    /// A field that may be absent or null.
    pub(crate) fn optional<T>(
        &mut self,
        field: &'static str,
        value: Option<&RawValue>,
        parse: impl FnOnce(&RawValue) -> Result<T, String>,
    ) -> Option<T> {
        parse(value?)
            .map_err(|message| self.refuse(field, message))
            .ok()
    }

    /// Notes that a field is wrong.
    pub(crate) fn refuse(&mut self, field: &'static str, message: String) {
        self.errors.push(FieldError { field, message });
    }

    /// Hands over what was parsed, if every field of it was right.
    pub(crate) fn finish<T>(self, parsed: Option<T>) -> Result<T, ApiError> {
        match parsed {
            Some(parsed) if self.errors.is_empty() => Ok(parsed),
            _ => Err(ApiError::InvalidRequest(self.errors)),
        }
    }
}

/// A field that is a text which a store can hold.
pub(crate) fn text(value: &RawValue) -> Result<String, String> {
    storable(opaque(value)?).map_err(|refused| refused.to_string())
}

/// A field that proves something, whatever text it is: to be hashed, decoded or compared, and bound to
/// no statement. For all else there is [`text`].
pub(crate) fn opaque(value: &RawValue) -> Result<String, String> {
    let text = value.get();
    let quoted = text
        .strip_prefix('"')
        .and_then(|text| text.strip_suffix('"'));
    if let Some(plain) = quoted.filter(|text| !text.contains('\\')) {
        // As it stands in the body, which was parsed before: nothing is escaped.
        return Ok(plain.to_owned());
    }
    serde_json::from_str(text).map_err(|_| "must be a string".to_owned())
}

/// A field that is what people call something.
pub(crate) fn name(value: &RawValue) -> Result<Name, String> {
    Name::parse(&text(value)?).map_err(|invalid| invalid.to_string())
}

/// A JSON response. Serialising one of our own types cannot fail but for a fault of ours, which is
/// answered as such.
pub(crate) struct Json<T>(pub(crate) T);

impl<T: serde::Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        let mut body = Vec::with_capacity(USUAL_ANSWER_BYTES);
        match serde_json::to_writer(&mut body, &self.0) {
            Ok(()) => {
                let media_type = HeaderValue::from_static("application/json");
                ([(header::CONTENT_TYPE, media_type)], body).into_response()
            }
            Err(error) => ApiError::Internal(Arc::new(error)).into_response(),
        }
    }
}

/// A JSON response with a secret in it, of which no copy must be kept.
pub(crate) struct Unstored<T>(pub(crate) T);

impl<T: serde::Serialize> IntoResponse for Unstored<T> {
    fn into_response(self) -> Response {
        let no_store = HeaderValue::from_static("no-store");
        ([(header::CACHE_CONTROL, no_store)], Json(self.0)).into_response()
    }
}

/// Nothing: it is done, or there was nothing to do.
#[derive(Debug, serde::Serialize, utoipa::ToSchema)]
#[schema(examples(json!({})))]
pub(crate) struct Done {}
