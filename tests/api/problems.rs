//! The whole body of every problem, as a caller gets it.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Answer, Call, Store, TestApp};

on_both_stores! {
    bad_request,
    malformed_json,
    invalid_proxy_secret,
    site_suspended,
    not_found,
    method_not_allowed,
    request_timeout,
    body_too_large,
    unsupported_media_type,
    invalid_request,
    idempotency_key_reused,
    quota_exceeded,
    too_many_attempts,
    internal_error,
    store_unavailable,
}

const GENERATE: &str = "/mirrory/generate-token";

macro_rules! assert_problem {
    ($name:expr, $answer:expr) => {
        insta::assert_json_snapshot!($name, crate::problems::shown(&$answer), {
            ".body.request_id" => "[request_id]",
        })
    };
}
pub(crate) use assert_problem;

/// What of a problem is always the same.
pub(crate) fn shown(answer: &Answer) -> Value {
    let mut shown = json!({"status": answer.status, "body": answer.body});
    for name in [
        "allow",
        "cache-control",
        "content-type",
        "ratelimit",
        "retry-after",
    ] {
        if let Some(value) = answer.header(name) {
            shown["headers"][name] = value.into();
        }
    }
    shown
}

async fn bad_request(store: Store) {
    let app = TestApp::start(store).await;
    let none = app.post(GENERATE).without_host().text("{}").send().await;
    assert_problem!("bad_request", none);
    for path in ["/mirrory/health", "/api/v1/sites"] {
        let two = app.request("GET", path).header("host", "another.test");
        assert_eq!(two.send().await.problem(), (400, "bad_request"));
    }
    let plain = app.post("/api/v1/login").without_host().text("{}");
    assert_eq!(plain.send().await.body["status"], 400);
}

async fn malformed_json(store: Store) {
    let app = TestApp::start(store).await;
    let send = async |text: &'static [u8]| app.post(GENERATE).text(text).send().await;
    assert_problem!(
        "malformed_json_broken",
        send(b"{\n  \"wp_user_id\": }").await
    );
    assert_problem!("malformed_json_array", send(b"[]").await);
    assert_problem!("malformed_json_no_utf8", send(b"{\"\xff\"").await);
    let twice = br#"{"proxy_secret": "first-secret", "proxy_secret": "second-secret"}"#;
    assert_problem!("malformed_json_twice", send(twice).await);
}

async fn invalid_proxy_secret(store: Store) {
    let app = TestApp::start(store).await;
    let answer = app
        .generate(json!({"wp_user_id": 1, "proxy_secret": "wrong"}))
        .await;
    assert_problem!("invalid_proxy_secret", answer);
}

async fn site_suspended(store: Store) {
    let app = TestApp::start(store).await;
    let site = app.site("free").await;
    app.suspend(&site).await;
    assert_problem!("site_suspended", app.generate_for(&site).await);
}

async fn not_found(store: Store) {
    let app = TestApp::start(store).await;
    assert_problem!("not_found", app.get("/nowhere").await);
}

async fn method_not_allowed(store: Store) {
    let app = TestApp::start(store).await;
    assert_problem!("method_not_allowed", app.get(GENERATE).await);
}

async fn request_timeout(store: Store) {
    let app = TestApp::with(store, &[("server.body_timeout_seconds", "1")]).await;
    let pending = axum::body::Body::new(Pending);
    assert_problem!(
        "request_timeout",
        app.post(GENERATE).text(pending).send().await
    );
}

/// A body that never comes.
struct Pending;

impl hyper::body::Body for Pending {
    type Data = axum::body::Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<hyper::body::Frame<Self::Data>, Self::Error>>> {
        std::task::Poll::Pending
    }
}

async fn body_too_large(store: Store) {
    let app = TestApp::start(store).await;
    let answer = app.post(GENERATE).text(vec![b' '; 20_000]).send().await;
    assert_problem!("body_too_large", answer);
}

async fn unsupported_media_type(store: Store) {
    let app = TestApp::start(store).await;
    assert_problem!(
        "unsupported_media_type",
        app.post(GENERATE).body("{}").send().await
    );
}

async fn invalid_request(store: Store) {
    let app = TestApp::start(store).await;
    let send = async |call: Call<'_>, body: Value| call.json(&body).send().await;
    let nothing = send(app.post(GENERATE), json!({})).await;
    assert_problem!("invalid_request_generate_nothing", nothing);
    let wrong = json!({"wp_user_id": "0", "proxy_secret": 7, "machine_id": "a\nb"});
    let call = app.post(GENERATE).header("idempotency-key", "");
    assert_problem!("invalid_request_generate_wrong", send(call, wrong).await);
    let nothing = send(app.post("/mirrory/validate-token"), json!({})).await;
    assert_problem!("invalid_request_validate_nothing", nothing);
    let wrong = json!({"token": "", "machine_id": ""});
    let wrong = send(app.post("/mirrory/validate-token"), wrong).await;
    assert_problem!("invalid_request_validate_wrong", wrong);
    for path in ["/mirrory/revoke-token", "/mirrory/release-machine"] {
        let nothing = send(app.post(path), json!({})).await;
        assert_problem!("invalid_request_manage_nothing", nothing);
        let wrong = json!({"token_id": "a", "proxy_secret": ""});
        let wrong = send(app.post(path), wrong).await;
        assert_problem!("invalid_request_manage_wrong", wrong);
    }
}

async fn idempotency_key_reused(store: Store) {
    let app = TestApp::start(store).await;
    let site = app.site("free").await;
    let send = async |user: u32| {
        let body = json!({"wp_user_id": user, "proxy_secret": site.secret});
        let call = app.post(GENERATE).header("idempotency-key", "order-1");
        call.json(&body).send().await
    };
    send(1).await.ok();
    assert_problem!("idempotency_key_reused", send(2).await);
}

async fn quota_exceeded(store: Store) {
    let settings = [
        ("plans.day.calls_per_day", "1"),
        ("plans.day.calls_per_month", "2"),
        ("plans.month.calls_per_day", "2"),
        ("plans.month.calls_per_month", "1"),
        ("plans.both.calls_per_day", "1"),
        ("plans.both.calls_per_month", "1"),
    ];
    let app = TestApp::with(store, &settings).await;
    for plan in ["day", "month", "both"] {
        let site = app.site(plan).await;
        let issued = app.issue(&site).await;
        let answer = app.generate_for(&site).await;
        assert_problem!(format!("quota_exceeded_{plan}"), answer);
        let answer = app.validate(&issued.token, "m").await;
        assert_eq!(answer.problem(), (429, "quota_exceeded"));
        if plan == "day" {
            assert_problem!("quota_exceeded_validate", answer);
        }
    }
}

async fn too_many_attempts(store: Store) {
    let app = TestApp::with(store, &[("limits.failures_per_minute", "1")]).await;
    let wrong = json!({"wp_user_id": 1, "proxy_secret": "wrong"});
    app.generate(wrong.clone()).await;
    app.advance(Duration::from_millis(1));
    assert_problem!("too_many_attempts", app.generate(wrong).await);
}

/// The operator took the plan out of the configuration.
async fn internal_error(store: Store) {
    let app = TestApp::start(store).await;
    let site = app.site("gone").await;
    assert_problem!("internal_error", app.generate_for(&site).await);
}

async fn store_unavailable(store: Store) {
    let app = TestApp::start(store).await;
    let site = app.site("free").await;
    app.break_store().await;
    assert_problem!("store_unavailable", app.generate_for(&site).await);
}
