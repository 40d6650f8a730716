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
use tower::{ServiceExt, service_fn};

use crate::{harness::Answer, problems::assert_problem};

const PATIENCE: Duration = Duration::from_millis(20);

async fn call(router: Router) -> Answer {
    let edge = EdgeLayer::new(Clock::system(), Randomness::seeded(1), PATIENCE);
    let request = Request::builder()
        .uri("/")
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
