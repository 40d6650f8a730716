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

use crate::harness::{Answer, Store, TestApp, real_now};

on_both_stores! {
    health_tells_the_version_and_the_store,
    health_without_a_store_is_unhealthy,
    health_asks_the_store_at_most_once_a_second,
    health_is_never_limited_and_needs_no_secret,
    a_process_that_runs_is_alive,
    readiness_compares_the_clocks,
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
    // Connections are had in the order in which they were asked for, so the probe is answered.
    app.state.database.now().await.unwrap();
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

async fn readiness_compares_the_clocks(store: Store) {
    let app = TestApp::start(store).await;
    // The store's clock is real and goes on while the test runs.
    for (ahead, status) in [(0, 200), (60, 503), (3, 200)] {
        app.clock
            .set_wall(real_now().after(Duration::from_secs(ahead)));
        app.advance(Duration::from_secs(1));
        let answer = app.get("/readyz").await;
        assert_eq!(answer.status, status, "{ahead} s ahead");
    }
    app.clock
        .set_wall(real_now().before(Duration::from_mins(1)));
    app.advance(Duration::from_secs(1));
    let answer = app.get("/readyz").await;
    assert_eq!(answer.status, 503);
    assert_eq!(answer.body, json!({"status": "clock is off the store's"}));
    assert_eq!(app.get("/livez").await.status, 200);
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
