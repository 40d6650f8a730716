//! The problems that an operation may answer with: by status, with their codes and an example of
//! each, made from the errors themselves.

use std::{collections::BTreeMap, io, sync::Arc, time::Duration};

use serde_json::json;
use utoipa::{
    IntoResponses, ToSchema,
    openapi::{
        Content, ContentBuilder, ObjectBuilder, Ref, RefOr, Response, ResponseBuilder, Type,
        example::ExampleBuilder,
        schema::{AdditionalProperties, AllOfBuilder},
    },
};

use super::headers;
use crate::{
    attempts::TooManyAttempts,
    error::{ApiError, Documented, FieldError, Plain},
};

pub(super) const MEDIA_TYPE: &str = "application/problem+json";

/// Of the public keys.
pub(crate) struct JwksProblems;

/// Of `generate-token`.
pub(crate) struct GenerateTokenProblems;

/// Of `validate-token`.
pub(crate) struct ValidateTokenProblems;

/// Of `revoke-token` and `release-machine`.
pub(crate) struct ManageTokenProblems;

impl IntoResponses for JwksProblems {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        responses(unavailable())
    }
}

impl IntoResponses for GenerateTokenProblems {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let mut errors = unreadable(
            "wp_user_id",
            "must be an integer from 1 to 9223372036854775807, or a string of its digits",
        );
        errors.extend([
            ApiError::InvalidProxySecret,
            ApiError::SiteSuspended,
            ApiError::IdempotencyKeyReused,
            quota_exceeded(),
            too_many_attempts(),
        ]);
        responses(errors)
    }
}

impl IntoResponses for ValidateTokenProblems {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let mut errors = unreadable(
            "machine_id",
            "must be 1 to 256 bytes of UTF-8 without control characters",
        );
        errors.extend([quota_exceeded(), too_many_attempts()]);
        responses(errors)
    }
}

impl IntoResponses for ManageTokenProblems {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let mut errors = unreadable("token_id", "a token id is a hyphenated lower-case UUID");
        errors.extend([ApiError::InvalidProxySecret, too_many_attempts()]);
        responses(errors)
    }
}

/// What any request may be refused with that needs the store.
pub(super) fn unavailable() -> [ApiError; 2] {
    let cause = io::Error::other("an example");
    [
        ApiError::StoreUnavailable(Arc::new(cause)),
        ApiError::Overloaded,
    ]
}

/// What any request may be refused with that is not proper HTTP.
pub(super) fn bad_request() -> ApiError {
    ApiError::BadRequest("Send a Host header.")
}

/// What any request with a body may be refused with, the store's refusals included; one of its
/// fields is the example.
pub(super) fn unreadable(field: &'static str, message: &str) -> Vec<ApiError> {
    let mut errors = Vec::from(unavailable());
    errors.extend([
        ApiError::MalformedJson("The body must be a JSON object.".to_owned()),
        bad_request(),
        ApiError::RequestTimeout,
        ApiError::BodyTooLarge,
        ApiError::UnsupportedMediaType,
        ApiError::InvalidRequest(vec![FieldError {
            field,
            message: message.to_owned(),
        }]),
    ]);
    errors
}

fn quota_exceeded() -> ApiError {
    ApiError::QuotaExceeded {
        violated: vec!["day"],
        retry_after: Duration::from_hours(1),
    }
}

pub(super) fn too_many_attempts() -> ApiError {
    ApiError::TooManyAttempts(TooManyAttempts {
        retry_after: Duration::from_mins(1),
    })
}

/// One response a status.
pub(super) fn responses(
    errors: impl IntoIterator<Item = ApiError>,
) -> BTreeMap<String, RefOr<Response>> {
    let mut by_status: BTreeMap<u16, Vec<Documented>> = BTreeMap::new();
    for error in errors {
        let documented = error.documented();
        by_status
            .entry(documented.status)
            .or_default()
            .push(documented);
    }
    by_status
        .into_iter()
        .map(|(status, documented)| (status.to_string(), response(status, &documented).into()))
        .collect()
}

/// One response a status, each in the shape of `/api/v1/login`.
pub(super) fn plain_responses(
    errors: impl IntoIterator<Item = ApiError>,
) -> BTreeMap<String, RefOr<Response>> {
    let mut responses = responses(errors);
    for response in responses.values_mut() {
        if let RefOr::T(response) = response {
            let plain = ContentBuilder::new()
                .schema(Some(Ref::from_schema_name(Plain::name())))
                .build();
            response.content = [("application/json".to_owned(), RefOr::T(plain))]
                .into_iter()
                .collect();
        }
    }
    responses
}

fn response(status: u16, documented: &[Documented]) -> Response {
    let description: Vec<_> = documented.iter().map(meaning).collect();
    let mut response = ResponseBuilder::new()
        .description(description.join("\n\n"))
        .content(MEDIA_TYPE, content(status, documented))
        .build();
    if documented.iter().any(|problem| problem.has_retry_after) {
        response
            .headers
            .insert(headers::RETRY_AFTER.to_owned(), headers::named());
    }
    if documented.iter().any(|problem| problem.has_challenge) {
        response
            .headers
            .insert(headers::WWW_AUTHENTICATE.to_owned(), headers::named());
    }
    response
}

fn meaning(problem: &Documented) -> String {
    let Documented { code, title, .. } = problem;
    let advice = match &problem.detail {
        Some(detail) => detail,
        None if problem.has_retry_after => "Try again when Retry-After has passed.",
        None => "Report it with its `request_id`.",
    };
    format!("`{code}`: {title}. {advice}")
}

fn content(status: u16, documented: &[Documented]) -> Content {
    let codes = documented.iter().map(|problem| problem.code);
    let narrowed = ObjectBuilder::new()
        .schema_type(Type::Object)
        .property(
            "status",
            ObjectBuilder::new()
                .schema_type(Type::Integer)
                .enum_values(Some([status])),
        )
        .property(
            "error",
            ObjectBuilder::new()
                .schema_type(Type::String)
                .enum_values(Some(codes)),
        )
        .additional_properties(Some(AdditionalProperties::FreeForm(true)));
    let schema = AllOfBuilder::new()
        .item(Ref::from_schema_name("ProblemDetails"))
        .item(narrowed);
    let examples = documented.iter().map(|problem| {
        let example = ExampleBuilder::new()
            .summary(problem.title)
            .value(Some(json!(problem.body)))
            .build();
        (problem.code, example)
    });
    ContentBuilder::new()
        .schema(Some(schema))
        .examples_from_iter(examples)
        .build()
}
