//! The guard itself: an answer that is right passes, and each way to be wrong is noticed.

use std::panic::{AssertUnwindSafe, catch_unwind};

use axum::{body::Bytes, http::HeaderMap};

use super::*;

const PATH: &str = "/mirrory/revoke-token";

fn answer(status: u16, body: Value, headers: &[(&'static str, &str)]) -> Answer {
    let headers = headers.iter().map(|(name, value)| {
        let name = axum::http::HeaderName::from_static(name);
        (name, value.parse().unwrap())
    });
    Answer {
        status,
        headers: headers.collect::<HeaderMap>(),
        bytes: Bytes::from(body.to_string()),
        body,
    }
}

fn passes(answer: &Answer) -> bool {
    let contract = Contract::read();
    catch_unwind(AssertUnwindSafe(|| {
        contract.check(&Method::POST, PATH, answer);
    }))
    .is_ok()
}

const HEADERS: [(&str, &str); 2] = [("content-type", "application/json"), ("x-request-id", "id")];

#[test]
fn what_the_document_promises_passes() {
    assert!(passes(&answer(200, json!({}), &HEADERS)));
}

#[test]
fn an_undocumented_status_is_noticed() {
    assert!(!passes(&answer(201, json!({}), &HEADERS)));
    assert!(!passes(&answer(418, json!({}), &HEADERS)));
}

#[test]
fn an_undocumented_field_is_noticed() {
    assert!(!passes(&answer(200, json!({"extra": 1}), &HEADERS)));
}

#[test]
fn a_missing_field_and_a_wrong_type_are_noticed() {
    let problem = json!({
        "type": "urn:mirrory:problem:invalid-proxy-secret",
        "title": "The proxy secret is not valid",
        "status": 401,
        "detail": "Send a live proxy secret of the site as `proxy_secret`.",
        "error": "invalid_proxy_secret",
        "request_id": "id",
    });
    let headers = [
        ("content-type", "application/problem+json"),
        ("x-request-id", "id"),
    ];
    assert!(passes(&answer(401, problem.clone(), &headers)));
    for member in ["type", "title", "status", "error", "request_id"] {
        let mut broken = problem.clone();
        broken.as_object_mut().unwrap().remove(member);
        assert!(!passes(&answer(401, broken, &headers)), "{member}");
        let mut broken = problem.clone();
        broken[member] = json!([]);
        assert!(!passes(&answer(401, broken, &headers)), "{member}");
    }
}

#[test]
fn an_undocumented_header_and_media_type_are_noticed() {
    let mut headers = HEADERS.to_vec();
    headers.push(("ratelimit", "\"day\";r=1;t=1"));
    assert!(!passes(&answer(200, json!({}), &headers)));
    let html = [("content-type", "text/html"), ("x-request-id", "id")];
    assert!(!passes(&answer(200, json!({}), &html)));
}

#[test]
fn a_missing_header_is_noticed() {
    assert!(!passes(&answer(200, json!({}), &HEADERS[..1])));
}
