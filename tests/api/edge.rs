//! The outermost layer, around handlers that the service does not have: one that panics, one that
//! never answers.

use std::{convert::Infallible, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::Request,
    response::Response,
    routing::{any_service, get},
};
use mirrory::{
    middleware::edge::EdgeLayer,
    types::{clock::Clock, randomness::Randomness},
};
use serde_json::json;
use tower::{ServiceExt, service_fn};

use crate::{harness::Answer, problems::assert_problem};

const PATIENCE: Duration = Duration::from_millis(20);

fn edge() -> EdgeLayer {
    EdgeLayer::new(Clock::system(), Randomness::seeded(1), PATIENCE)
}

async fn call(router: Router) -> Answer {
    let edge = edge();
    let request = Request::builder()
        .uri("/")
        .header("host", "here")
        .header("x-request-id", "the-id")
        .body(Body::empty())
        .unwrap();
    let answer = Answer::read(router.layer(edge).oneshot(request).await.unwrap()).await;
    assert_eq!(answer.header("x-request-id"), Some("the-id"));
    assert_eq!(answer.body["request_id"], "the-id");
    let media_type = answer.header("content-type");
    assert_eq!(media_type, Some("application/problem+json"));
    answer
}

async fn panic_later() -> Response {
    tokio::task::yield_now().await;
    panic!("on purpose");
}

#[tokio::test]
async fn a_handler_that_panics_is_an_internal_error() {
    let answer = call(Router::new().route("/", get(panic_later))).await;
    assert_problem!("internal_error_after_a_panic", answer);
}

#[tokio::test]
async fn a_service_that_panics_before_it_awaits_is_an_internal_error() {
    let service = service_fn(
        |_: Request| -> std::future::Ready<Result<Response, Infallible>> { panic!("on purpose") },
    );
    let answer = call(Router::new().route("/", any_service(service))).await;
    assert_problem!("internal_error_after_a_panic", answer);
}

#[tokio::test]
async fn a_handler_that_never_answers_is_overloaded() {
    let router = Router::new().route("/", get(std::future::pending::<Response>));
    assert_problem!("overloaded", call(router).await);
}

#[tokio::test]
async fn a_server_error_without_a_problem_says_nothing_of_its_cause() {
    let leak = async || {
        (
            axum::http::StatusCode::BAD_GATEWAY,
            "the password is secret",
        )
    };
    let answer = call(Router::new().route("/", get(leak))).await;
    assert_problem!("internal_error_of_a_foreign_status", answer);
}

/// Whatever goes wrong at a route of another shape is told in that shape, and elsewhere not.
#[tokio::test]
async fn problems_of_a_plain_route_are_written_out_plainly() {
    let router = Router::new()
        .route("/plain/panic", get(panic_later))
        .route("/plain/{path}", get(std::future::pending::<Response>));
    let answer = async |plain_at, path| {
        let router = router
            .clone()
            .layer(edge().with_plain_problems_at(plain_at));
        let request = Request::get(path).header("host", "here");
        let request = request.body(Body::empty()).unwrap();
        Answer::read(router.oneshot(request).await.unwrap()).await
    };
    let panicked = answer("/plain/panic", "/plain/panic").await;
    let expected = json!({"status": 500, "message": "Something went wrong on our side"});
    assert_eq!(panicked.body, expected);
    assert_eq!(panicked.header("content-type"), Some("application/json"));
    assert!(panicked.header("x-request-id").is_some());
    let late = answer("/plain/{path}", "/plain/late").await;
    assert_eq!(late.body["status"], 503);
    assert_eq!(late.header("content-type"), Some("application/json"));
    let elsewhere = answer("/plain/{path}", "/plain/panic").await;
    assert_eq!(elsewhere.problem(), (500, "internal_error"));
}
