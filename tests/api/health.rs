//! Health, liveness, readiness, and the description of the service.

use std::time::Duration;

use futures_util::FutureExt;
use mirrory::{
    health::starting_router,
    middleware::edge::EdgeLayer,
    types::{clock::Clock, randomness::Randomness},
};
use serde_json::json;
use tower::ServiceExt;

use crate::harness::{Answer, Store, TestApp, eventually, real_now};

on_both_stores! {
    health_tells_the_version_and_the_store,
    health_without_a_store_is_unhealthy,
    health_asks_the_store_at_most_once_a_second,
    health_is_never_limited_and_needs_no_secret,
    a_process_that_runs_is_alive,
    a_store_that_takes_no_writes_is_down,
    a_write_that_was_done_is_proof_and_none_is_tried,
    a_service_that_drains_is_not_ready,
    a_service_without_a_store_is_not_ready,
    the_description_is_served_from_the_binary,
}

/// The probes wait for the one connection when their callers hang up.
#[tokio::test]
async fn a_probe_whose_caller_hung_up_is_made_and_answers_the_next_ones() {
    let app = TestApp::with(Store::Postgres, &[("database.max_connections", "1")]).await;
    let taken = app.state.database.begin().await.unwrap();
    for _ in 0..20 {
        let probe = app.get("/mirrory/health").now_or_never();
        assert!(probe.is_none(), "it waits");
        tokio::task::yield_now().await;
    }
    taken.commit().await.unwrap();
    // The last thing that a probe does is to try a write.
    eventually(async || app.number("SELECT beats FROM store_clock").await > 0).await;
    app.break_store().await;
    assert_eq!(app.get("/mirrory/health").await.status, 200);
    app.advance(Duration::from_secs(1));
    assert_eq!(app.get("/mirrory/health").await.status, 503);
}

fn kind(store: Store) -> &'static str {
    match store {
        Store::Sqlite => "sqlite",
        Store::Postgres => "postgres",
    }
}

async fn health_tells_the_version_and_the_store(store: Store) {
    let app = TestApp::start(store).await;
    app.advance(Duration::from_millis(12_999));
    let answer = app.get("/mirrory/health").await;
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    let mut body = answer.ok();
    let latency = body["store"]["latency_ms"].take();
    assert!(latency.as_f64().unwrap() >= 0.0);
    assert_eq!(
        body,
        json!({
            "status": "healthy",
            "version": env!("CARGO_PKG_VERSION"),
            "uptime_seconds": 12,
            "store": {"status": "up", "kind": kind(store), "latency_ms": null},
        })
    );
}

async fn health_without_a_store_is_unhealthy(store: Store) {
    let app = TestApp::start(store).await;
    app.break_store().await;
    let answer = app.get("/mirrory/health").await;
    assert_eq!(answer.status, 503);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert_eq!(
        answer.body,
        json!({
            "status": "unhealthy",
            "version": env!("CARGO_PKG_VERSION"),
            "uptime_seconds": 0,
            "store": {"status": "down", "kind": kind(store)},
        })
    );
}

async fn health_asks_the_store_at_most_once_a_second(store: Store) {
    let app = TestApp::start(store).await;
    assert_eq!(app.get("/mirrory/health").await.status, 200);
    app.break_store().await;
    app.advance(Duration::from_micros(999_999));
    assert_eq!(app.get("/mirrory/health").await.status, 200);
    app.advance(Duration::from_micros(1));
    assert_eq!(app.get("/mirrory/health").await.status, 503);
}

async fn health_is_never_limited_and_needs_no_secret(store: Store) {
    let app = TestApp::with(store, &[("limits.failures_per_minute", "1")]).await;
    for _ in 0..100 {
        let answer = app.get("/mirrory/health").await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("ratelimit"), None);
    }
}

async fn a_process_that_runs_is_alive(store: Store) {
    let app = TestApp::start(store).await;
    app.break_store().await;
    app.state.health.drain();
    assert_eq!(app.get("/livez").await.ok(), json!({"status": "ok"}));
}

/// Has every write of these tables fail as on a full disk, or no more.
fn fill_disk(store: Store) -> (&'static str, &'static str) {
    match store {
        Store::Sqlite => (
            "CREATE TRIGGER full_disk BEFORE UPDATE ON store_clock \
             BEGIN SELECT RAISE(ABORT, 'full'); END",
            "DROP TRIGGER full_disk",
        ),
        Store::Postgres => (
            "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS \
             $$BEGIN RAISE EXCEPTION 'full' USING ERRCODE = '53100'; END$$; \
             CREATE TRIGGER full_disk BEFORE UPDATE ON store_clock \
             FOR EACH ROW EXECUTE FUNCTION full_disk(); \
             CREATE TRIGGER full_disk BEFORE INSERT ON usage \
             FOR EACH ROW EXECUTE FUNCTION full_disk()",
            "DROP FUNCTION full_disk CASCADE",
        ),
    }
}

async fn a_store_that_takes_no_writes_is_down(store: Store) {
    let app = TestApp::start(store).await;
    let (fill, free) = fill_disk(store);
    assert_eq!(app.get("/mirrory/health").await.status, 200);
    app.execute(fill).await;
    // A write proves something for five seconds.
    app.advance(Duration::from_micros(4_999_999));
    assert_eq!(app.get("/mirrory/health").await.status, 200);
    app.advance(Duration::from_secs(1));
    let answer = app.get("/mirrory/health").await;
    assert_eq!(answer.status, 503);
    assert_eq!(answer.body["store"]["status"], "down");
    let answer = app.get("/readyz").await;
    assert_eq!(
        (answer.status, &answer.body),
        (503, &json!({"status": "store is down"}))
    );
    assert_eq!(app.get("/livez").await.status, 200);
    app.execute(free).await;
    app.advance(Duration::from_secs(1));
    assert_eq!(app.get("/mirrory/health").await.status, 200);
    assert_eq!(app.get("/readyz").await.status, 200);
}

async fn a_write_that_was_done_is_proof_and_none_is_tried(store: Store) {
    let app = TestApp::start(store).await;
    let site = app.site("free").await;
    let healthy = async || assert_eq!(app.get("/mirrory/health").await.status, 200);
    healthy().await;
    let tried = "SELECT beats FROM store_clock";
    let before = app.number(tried).await;
    for _ in 0..4 {
        app.issue(&site).await;
        app.advance(Duration::from_mins(1));
        healthy().await;
    }
    assert_eq!(app.number(tried).await, before);
    app.advance(Duration::from_secs(5));
    healthy().await;
    assert_eq!(
        app.number(tried).await,
        before + 1,
        "nothing was written since"
    );
}

#[tokio::test]
async fn a_write_that_was_refused_is_no_proof() {
    let app = TestApp::start(Store::Postgres).await;
    let site = app.site("free").await;
    let (fill, _) = fill_disk(Store::Postgres);
    assert_eq!(app.get("/mirrory/health").await.status, 200);
    app.execute(fill).await;
    assert_eq!(app.generate_for(&site).await.status, 503);
    app.advance(Duration::from_secs(1));
    assert_eq!(app.get("/mirrory/health").await.status, 503);
}

async fn a_service_that_drains_is_not_ready(store: Store) {
    let app = TestApp::start(store).await;
    app.clock.set_wall(real_now());
    assert_eq!(app.get("/readyz").await.ok(), json!({"status": "ok"}));
    app.state.health.drain();
    let answer = app.get("/readyz").await;
    assert_eq!(answer.status, 503);
    assert_eq!(answer.body, json!({"status": "draining"}));
    // What still comes is still served.
    let site = app.site("free").await;
    app.issue(&site).await;
}

async fn a_service_without_a_store_is_not_ready(store: Store) {
    let app = TestApp::start(store).await;
    app.clock.set_wall(real_now());
    app.break_store().await;
    let answer = app.get("/readyz").await;
    assert_eq!(answer.status, 503);
    assert_eq!(answer.body, json!({"status": "store is down"}));
}

async fn the_description_is_served_from_the_binary(store: Store) {
    let app = TestApp::start(store).await;
    let body = app.get("/openapi.json").await.ok();
    let document = serde_json::to_value(mirrory::openapi::document()).unwrap();
    assert_eq!(body, document);
    assert!(body["openapi"].as_str().unwrap().starts_with("3.1"));
    let page = app.get("/docs/").await;
    assert_eq!(page.status, 200);
    let page = String::from_utf8(page.bytes.to_vec()).unwrap();
    for outside in ["src=\"http", "href=\"http", "src=\"//", "href=\"//"] {
        assert!(!page.contains(outside), "{outside}");
    }
}

#[tokio::test]
async fn while_it_starts_the_service_lives_and_tells_callers_to_come_back() {
    let patience = Duration::from_secs(15);
    let edge = EdgeLayer::new(Clock::system(), Randomness::seeded(1), patience);
    let router = starting_router(edge);
    let get = async |path: &str| {
        let request = axum::extract::Request::get(path).header("host", "here");
        let request = request.body(axum::body::Body::empty()).unwrap();
        Answer::read(router.clone().oneshot(request).await.unwrap()).await
    };
    assert_eq!(get("/livez").await.status, 200);
    let ready = get("/readyz").await;
    assert_eq!(
        (ready.status, &ready.body),
        (503, &json!({"status": "starting"}))
    );
    let call = get("/mirrory/generate-token").await;
    assert_eq!(call.problem(), (503, "overloaded"));
    assert_eq!(call.header("retry-after"), Some("1"));
}
