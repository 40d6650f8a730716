//! What is measured, as Prometheus reads it.

use std::time::Duration;

use axum::{
    Router,
    body::Body,
    extract::Request,
    http::{Response, header},
};
use futures_util::{FutureExt, future::join_all};
use http_body_util::BodyExt;
use mirrory::{accounts::Role, passwords::Whose, telemetry::metrics::exposition};
use serde_json::json;
use tower::ServiceExt;

use crate::{
    harness::{PASSWORD, Store, TestApp, TestSite, eventually},
    promtool,
};

const ON: (&str, &str) = ("telemetry.metrics_listen", "127.0.0.1:0");

on_both_stores! {
    requests_are_counted_and_timed_by_route_and_status,
    what_a_client_may_choose_is_no_label,
    verdicts_are_counted_by_their_reason,
    refusals_are_counted_by_their_code_and_the_plan,
    look_ups_in_memory_are_counted,
    batches_tell_how_many_calls_they_have,
    rows_that_are_cleaned_up_are_counted_by_table,
    the_store_is_looked_at_when_it_is_asked_for,
    nothing_secret_and_nobody_is_in_it,
    promtool_finds_nothing_wrong_with_it,
}

pub async fn measured(store: Store) -> TestApp {
    TestApp::with(store, &[ON]).await
}

async fn ask(app: &TestApp, path: &str) -> Response<Body> {
    let request = Request::get(path).body(Body::empty()).unwrap();
    let router: Router = exposition::router(&app.state);
    router.oneshot(request).await.unwrap()
}

/// What Prometheus reads.
pub async fn scrape(app: &TestApp) -> String {
    let response = ask(app, "/metrics").await;
    assert_eq!(response.status(), 200);
    let media_type = &response.headers()[header::CONTENT_TYPE];
    assert_eq!(media_type, "text/plain; version=0.0.4");
    let body = response.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(body.to_vec()).unwrap()
}

/// The value of one series, written as in the exposition; 0 when there is none.
pub fn value<'text>(text: &'text str, series: &str) -> &'text str {
    let value = |line: &'text str| line.strip_prefix(series)?.strip_prefix(' ');
    text.lines().find_map(value).unwrap_or("0")
}

/// The same, of what is counted.
pub fn count(text: &str, series: &str) -> u64 {
    value(text, series).parse().unwrap()
}

macro_rules! assert_series {
    ($text:expr, $($series:literal => $value:expr),+ $(,)?) => {
        $(assert_eq!(value(&$text, $series), stringify!($value), "{} in\n{}", $series, $text);)+
    };
}

/// Calls of all kinds, good and bad.
pub async fn drive(app: &TestApp) -> (TestSite, String) {
    let site = app.site("free").await;
    let issued = app.issue(&site).await;
    app.tick().await;
    assert_eq!(app.validate(&issued.token, "m").await.status, 200);
    app.validate(&issued.token, "another").await.ok();
    app.validate("no token", "m").await.ok();
    for _ in 0..4 {
        app.generate_for(&site).await;
    }
    app.get("/nowhere").await;
    app.background.janitor.round().await.unwrap();
    (site, issued.token)
}

#[tokio::test]
async fn nothing_is_measured_unless_it_is_asked_for() {
    let app = TestApp::start(Store::Sqlite).await;
    drive(&app).await;
    assert_eq!(format!("{:?}", app.state.metrics), "Metrics(off)");
    assert_eq!(ask(&app, "/metrics").await.status(), 404);
}

#[tokio::test]
async fn metrics_are_on_their_own_listener_alone_and_nothing_else_is_there() {
    let app = measured(Store::Sqlite).await;
    assert_eq!(app.get("/metrics").await.problem(), (404, "not_found"));
    for path in ["/", "/metrics/", "/livez", "/mirrory/health"] {
        assert_eq!(ask(&app, path).await.status(), 404, "{path}");
    }
}

#[tokio::test]
async fn two_services_in_one_process_count_for_themselves() {
    let (one, other) = (measured(Store::Sqlite).await, measured(Store::Sqlite).await);
    one.get("/livez").await.ok();
    let series = r#"mirrory_http_requests_total{method="GET",route="/livez",status="200"}"#;
    assert_eq!(count(&scrape(&one).await, series), 1);
    assert_eq!(count(&scrape(&other).await, series), 0);
}

async fn requests_are_counted_and_timed_by_route_and_status(store: Store) {
    let app = measured(store).await;
    drive(&app).await;
    let text = scrape(&app).await;
    assert_series!(text,
        r#"mirrory_http_requests_total{method="POST",route="/mirrory/generate-token",status="200"}"# => 4,
        r#"mirrory_http_requests_total{method="POST",route="/mirrory/generate-token",status="429"}"# => 1,
        r#"mirrory_http_requests_total{method="POST",route="/mirrory/validate-token",status="200"}"# => 3,
        r#"mirrory_http_request_duration_seconds_count{method="POST",route="/mirrory/validate-token"}"# => 3,
        r#"mirrory_http_request_duration_seconds_bucket{method="POST",route="/mirrory/validate-token",le="+Inf"}"# => 3,
    );
}

async fn what_a_client_may_choose_is_no_label(store: Store) {
    let app = measured(store).await;
    for number in 0..20 {
        app.get(&format!("/strange-{number}")).await;
        let method = format!("STRANGE{number}");
        app.request(&method, "/livez").send().await;
    }
    let text = scrape(&app).await;
    assert!(!text.to_lowercase().contains("strange"), "{text}");
    assert_series!(text,
        r#"mirrory_http_requests_total{method="GET",route="other",status="404"}"# => 20,
        r#"mirrory_http_requests_total{method="other",route="/livez",status="405"}"# => 20,
    );
}

async fn verdicts_are_counted_by_their_reason(store: Store) {
    let app = measured(store).await;
    drive(&app).await;
    let text = scrape(&app).await;
    assert_series!(text,
        r#"mirrory_validation_verdicts_total{verdict="valid"}"# => 1,
        r#"mirrory_validation_verdicts_total{verdict="machine_mismatch"}"# => 1,
        r#"mirrory_validation_verdicts_total{verdict="malformed"}"# => 1,
    );
}

async fn refusals_are_counted_by_their_code_and_the_plan(store: Store) {
    let app = TestApp::with(store, &[ON, ("limits.failures_per_minute", "1")]).await;
    drive(&app).await;
    for _ in 0..3 {
        app.validate("no token", "m").await;
    }
    let text = scrape(&app).await;
    assert_series!(text,
        r#"mirrory_http_problems_total{error="quota_exceeded",route="/mirrory/generate-token"}"# => 1,
        r#"mirrory_http_problems_total{error="too_many_attempts",route="/mirrory/validate-token"}"# => 3,
        r#"mirrory_http_problems_total{error="not_found",route="other"}"# => 1,
        r#"mirrory_quota_refusals_total{plan="free"}"# => 1,
    );
}

async fn look_ups_in_memory_are_counted(store: Store) {
    let app = measured(store).await;
    let site = app.site("enterprise").await;
    let issued = app.issue(&site).await;
    app.validate(&issued.token, "m").await.ok();
    let before = scrape(&app).await;
    app.tick().await;
    for _ in 0..3 {
        app.validate(&issued.token, "m").await.ok();
    }
    let after = scrape(&app).await;
    let more = |series| count(&after, series) - count(&before, series);
    assert_eq!(
        more(r#"mirrory_cache_lookups_total{cache="tokens",result="hit"}"#),
        2
    );
    assert_eq!(
        more(r#"mirrory_cache_lookups_total{cache="tokens",result="miss"}"#),
        1
    );
    assert!(more(r#"mirrory_cache_lookups_total{cache="sites",result="hit"}"#) >= 2);
}

async fn batches_tell_how_many_calls_they_have(store: Store) {
    let app = measured(store).await;
    let site = app.site("enterprise").await;
    app.issue(&site).await;
    let text = scrape(&app).await;
    assert_series!(text,
        r#"mirrory_store_batch_calls_count{batch="insert tokens"}"# => 1,
        r#"mirrory_store_batch_calls_sum{batch="insert tokens"}"# => 1,
        r#"mirrory_store_batch_calls_count{batch="find tokens"}"# => 0,
    );
    join_all((0..8).map(|_| app.issue(&site))).await;
    let text = scrape(&app).await;
    assert_series!(text, r#"mirrory_store_batch_calls_sum{batch="insert tokens"}"# => 9);
}

async fn rows_that_are_cleaned_up_are_counted_by_table(store: Store) {
    let app = measured(store).await;
    let site = app.site("free").await;
    app.issue(&site).await;
    app.issue(&site).await;
    app.set_wall("2027-11-15T12:00:00Z");
    app.background.janitor.round().await.unwrap();
    let text = scrape(&app).await;
    match store {
        Store::Sqlite => {
            assert_series!(text, r#"mirrory_janitor_removed_rows_total{table="tokens"}"# => 2);
        }
        // All that was issued goes with the partition that it is in.
        Store::Postgres => {
            assert_series!(text, r#"mirrory_janitor_removed_rows_total{table="partitions"}"# => 1);
        }
    }
}

async fn the_store_is_looked_at_when_it_is_asked_for(store: Store) {
    let app = measured(store).await;
    let pool = match store {
        Store::Sqlite => "sqlite_writer",
        Store::Postgres => "postgres",
    };
    let busy = format!(r#"mirrory_store_connections{{pool="{pool}",state="busy"}}"#);
    let held = app.state.database.begin().await.unwrap();
    // Connections come back to the pool a little after their use.
    eventually(async || count(&scrape(&app).await, &busy) == 1).await;
    drop(held);
    eventually(async || count(&scrape(&app).await, &busy) == 0).await;

    app.tick().await;
    app.advance(Duration::from_millis(2500));
    let text = scrape(&app).await;
    assert_series!(text,
        "mirrory_change_log_age_seconds" => 2.5,
        "mirrory_admitted_requests_max" => 1000,
    );
    app.break_store().await;
    app.advance(Duration::from_secs(1));
    assert_series!(scrape(&app).await, "mirrory_ready" => 0);
}

#[tokio::test]
async fn what_goes_on_beside_the_requests_is_told() {
    let mut app = measured(Store::Postgres).await;
    let failures = r#"mirrory_background_failures_total{work="follow the change log"}"#;
    assert_series!(scrape(&app).await, "mirrory_change_listener_up" => 0);
    app.background.poll_interval = Duration::from_millis(1);
    let running = app.background.spawn();
    eventually(async || value(&scrape(&app).await, "mirrory_change_listener_up") == "1").await;
    assert!(
        scrape(&app).await.contains(&format!("{failures} 0")),
        "known from the start"
    );
    app.break_store().await;
    eventually(async || count(&scrape(&app).await, failures) > 2).await;
    running.stop().await;
}

#[tokio::test]
async fn whoever_may_not_have_a_password_looked_at_is_counted() {
    let app = measured(Store::Sqlite).await;
    let turn = app.state.passwords.enter(Whose::Operator).unwrap();
    let text = scrape(&app).await;
    assert_series!(text, r#"mirrory_password_hashing{state="waiting"}"# => 1);
    let _all = (turn, app.fill_hashing_queue());
    assert_series!(scrape(&app).await, "mirrory_password_hashing_refused_total" => 1);
}

#[tokio::test]
async fn requests_that_are_worked_on_are_told() {
    let app = measured(Store::Postgres).await;
    let site = app.site("free").await;
    let held = app.hold("LOCK TABLE tokens IN EXCLUSIVE MODE").await;
    let mut at_work = Box::pin(app.generate_for(&site));
    eventually(async || {
        assert!(at_work.as_mut().now_or_never().is_none(), "it waits");
        app.statements_that_wait().await == 1
    })
    .await;
    assert_series!(scrape(&app).await, "mirrory_admitted_requests" => 1);
    held.release().await;
    at_work.await.ok();
    assert_series!(scrape(&app).await, "mirrory_admitted_requests" => 0);
}

async fn nothing_secret_and_nobody_is_in_it(store: Store) {
    let app = measured(store).await;
    let (site, token) = drive(&app).await;
    let person = app.person("ada", Role::Owner).await;
    for password in [PASSWORD, "a wrong password"] {
        let body = json!({"username": person.email, "password": password});
        app.post("/api/v1/login").json(&body).send().await;
    }
    let text = scrape(&app).await;
    let site_id = site.id.to_string();
    for private in [
        site.secret.as_str(),
        &token,
        &site_id,
        "192.0.2.1",
        "ada",
        PASSWORD,
        "12345",
        "another",
    ] {
        assert!(!text.contains(private), "{private} in\n{text}");
    }
}

async fn promtool_finds_nothing_wrong_with_it(store: Store) {
    let app = measured(store).await;
    drive(&app).await;
    promtool::accepts(&["check", "metrics"], &scrape(&app).await);
}
