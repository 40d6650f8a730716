//! What every operation has: the request's id, the headers of every response, and the problems that
//! any request may meet.

use serde_json::json;
use utoipa::{
    Modify,
    openapi::{
        Components, Object, OpenApi, PathItem, Ref, RefOr, Required, Response, Type,
        path::{Operation, Parameter, ParameterBuilder, ParameterIn},
    },
};

use super::{headers, problems};
use crate::error::ApiError;

const REQUEST_ID_PARAMETER: &str = "x-request-id";

/// What a caller may be answered once it is proven. Where a success tells of the quota, so do they.
const AFTER_PROOF: [&str; 5] = ["403", "422", "429", "500", "503"];

/// Adds it.
pub(super) struct Shared;

impl Modify for Shared {
    fn modify(&self, document: &mut OpenApi) {
        let components = document.components.get_or_insert_with(Components::new);
        let described = headers::described();
        components
            .headers
            .extend(described.map(|(component, header)| (component.to_owned(), RefOr::T(header))));
        components
            .parameters
            .insert(REQUEST_ID_PARAMETER.to_owned(), request_id().into());
        for operation in document.paths.paths.values_mut().flat_map(operations) {
            complete(operation);
        }
    }
}

fn operations(path: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    [
        &mut path.get,
        &mut path.post,
        &mut path.patch,
        &mut path.delete,
    ]
    .into_iter()
    .flatten()
}

fn complete(operation: &mut Operation) {
    let parameter = Ref::new(format!("#/components/parameters/{REQUEST_ID_PARAMETER}"));
    operation
        .parameters
        .get_or_insert_default()
        .push(RefOr::Ref(parameter));
    let responses = &mut operation.responses.responses;
    for (status, problem) in problems::responses(anywhere()) {
        match (responses.get_mut(&status), problem) {
            (Some(RefOr::T(own)), RefOr::T(problem)) => add_problem(own, problem),
            (_, problem) => {
                responses.insert(status, problem);
            }
        }
    }
    let tells_quota = matches!(responses.get("200"), Some(RefOr::T(response))
        if response.headers.contains_key(headers::RATE_LIMIT));
    for (status, response) in responses {
        if let RefOr::T(response) = response {
            if tells_quota && AFTER_PROOF.contains(&status.as_str()) {
                add_named(response, [headers::RATE_LIMIT, headers::RATE_LIMIT_POLICY]);
            }
            add_headers(status, response);
        }
    }
}

/// What any request may be answered with.
fn anywhere() -> [ApiError; 4] {
    [
        problems::bad_request(),
        ApiError::MethodNotAllowed,
        ApiError::internal("an example"),
        ApiError::Overloaded,
    ]
}

/// A response of its own under the same status stays. It may also be the problem, unless it says
/// itself which problems it may be.
fn add_problem(own: &mut Response, problem: Response) {
    if own.content.contains_key(problems::MEDIA_TYPE) {
        return;
    }
    own.description = format!("{}\n\n{}", own.description, problem.description);
    own.content.extend(problem.content);
    own.headers.extend(problem.headers);
}

fn add_headers(status: &str, response: &mut Response) {
    add_named(response, headers::EVERYWHERE);
    if status == "405" {
        add_named(response, [headers::ALLOW]);
    }
    for (name, header) in &mut response.headers {
        *header = headers::reference(name, header);
    }
}

fn add_named<const COUNT: usize>(response: &mut Response, names: [&str; COUNT]) {
    let added = names.map(|name| (name.to_owned(), headers::named()));
    response.headers.extend(added);
}

fn request_id() -> Parameter {
    ParameterBuilder::new()
        .name(headers::REQUEST_ID)
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some(
            "Your own id for the request: 1 to 128 visible ASCII characters. It comes back in the \
             response and stands in the service's log. Anything else is replaced by a new UUIDv7.",
        ))
        .schema(Some(Object::with_type(Type::String)))
        .example(Some(json!("checkout-7f3a9c")))
        .build()
}
