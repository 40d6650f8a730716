//! A clock that is wrong: what is judged by it is refused until it is right, and the rest is served.

use std::time::Duration;

use mirrory::{store::time, types::clock::Timestamp};
use serde_json::json;

use crate::harness::{Answer, Store, TestApp};

on_both_stores! {
    with_a_wrong_clock_nothing_is_judged_and_the_rest_is_served,
    with_a_wrong_clock_nothing_is_charged_or_written,
    a_clock_that_is_right_again_is_gone_by_at_once,
    a_clock_that_leaps_is_not_gone_by_until_the_store_was_asked,
    what_is_remembered_is_not_told_after_a_machine_was_suspended,
}

const SECOND: i64 = 1_000_000;
const MINUTE: i64 = 60 * SECOND;
const DAY: i64 = 24 * 60 * MINUTE;

/// Sets the clock wrong, as either store sees it: off the server's, or before what was seen.
async fn set_wrong(app: &TestApp, store: Store) {
    match store {
        Store::Postgres => app.clock.set_off(400 * DAY),
        Store::Sqlite => {
            app.state.database.beat(&app.clock.clock()).await.unwrap();
            app.clock.set_off(-6 * MINUTE);
        }
    }
    app.tick().await;
}

fn assert_unavailable(answer: &Answer, of: &str) {
    assert_eq!(answer.status, 503, "{of}");
    assert_eq!(answer.problem(), (503, "store_unavailable"), "{of}");
    assert_eq!(answer.header("retry-after"), Some("1"), "{of}");
}

async fn ready(app: &TestApp) -> (u16, String) {
    let answer = app.get("/readyz").await;
    let status = answer.body["status"].as_str().unwrap().to_owned();
    (answer.status, status)
}

async fn with_a_wrong_clock_nothing_is_judged_and_the_rest_is_served(store: Store) {
    let app = TestApp::start(store).await;
    let site = app.site("free").await;
    let issued = app.issue(&site).await;
    set_wrong(&app, store).await;
    assert_unavailable(&app.generate_for(&site).await, "generate");
    assert_unavailable(&app.validate(&issued.token, "a").await, "validate");
    assert_unavailable(&app.validate("forged", "a").await, "a failure");
    assert_unavailable(&app.revoke(&site, &issued.token_id).await, "revoke");
    assert_unavailable(&app.release(&site, &issued.token_id).await, "release");
    for (method, path) in [
        ("GET", "/api/v1/sites"),
        ("POST", "/api/v1/sites"),
        ("GET", "/api/v1/account"),
        ("GET", "/api/v1/audit-log"),
        ("GET", "/api/v1/api-tokens"),
        ("GET", "/api/v1/sessions"),
        ("POST", "/api/v1/jwt"),
        ("POST", "/api/v1/jwt/refresh"),
    ] {
        let answer = app.request(method, path).send().await;
        if answer.status != 404 && answer.status != 405 {
            assert_unavailable(&answer, path);
        }
    }
    for path in [
        "/livez",
        "/mirrory/health",
        "/.well-known/jwks.json",
        "/openapi.json",
    ] {
        assert_eq!(app.get(path).await.status, 200, "{path}");
    }
    assert_eq!(app.get("/docs/").await.status, 200);
    assert_eq!(
        ready(&app).await,
        (503, "clock is off the store's".to_owned())
    );
}

async fn with_a_wrong_clock_nothing_is_charged_or_written(store: Store) {
    let app = TestApp::start(store).await;
    let site = app.site("free").await;
    set_wrong(&app, store).await;
    let changes = "SELECT (SELECT count(*) FROM usage) + (SELECT count(*) FROM tokens) \
                   + (SELECT count(*) FROM usage_history) + (SELECT count(*) FROM leases)";
    let before = app.number(changes).await;
    assert_unavailable(&app.generate_for(&site).await, "generate");
    app.background.janitor.tick().await.unwrap();
    app.state.ledger.flush().await.unwrap();
    assert_eq!(app.number(changes).await, before);
}

async fn a_clock_that_is_right_again_is_gone_by_at_once(store: Store) {
    let app = TestApp::start(store).await;
    let site = app.site("free").await;
    set_wrong(&app, store).await;
    assert_unavailable(&app.generate_for(&site).await, "wrong");
    app.clock.set_off(0);
    app.tick().await;
    app.issue(&site).await;
    app.advance(Duration::from_secs(1));
    assert_eq!(ready(&app).await, (200, "ok".to_owned()));
}

/// Between two looks: nobody has asked the store since.
async fn a_clock_that_leaps_is_not_gone_by_until_the_store_was_asked(store: Store) {
    let app = TestApp::start(store).await;
    let site = app.site("free").await;
    let issued = app.issue(&site).await;
    app.tick().await;
    for off in [2 * SECOND, -2 * SECOND, 400 * DAY] {
        app.clock.set_off(off);
        assert_unavailable(&app.generate_for(&site).await, "generate");
        assert_unavailable(&app.validate(&issued.token, "a").await, "validate");
        assert_unavailable(&app.get("/api/v1/sites").await, "manage");
    }
    app.clock.set_off(2 * SECOND);
    app.tick().await;
    assert_eq!(app.validate(&issued.token, "a").await.ok()["valid"], true);
}

/// Its wall clock was set ahead when it went on, and its monotonic one had stood still: what is in
/// memory still seems to be fresh.
async fn what_is_remembered_is_not_told_after_a_machine_was_suspended(store: Store) {
    let app = TestApp::start(store).await;
    let other = app.another().await;
    let site = app.site("free").await;
    let issued = app.issue(&site).await;
    app.tick().await;
    assert_eq!(app.validate(&issued.token, "a").await.ok()["valid"], true);
    assert_eq!(app.validate(&issued.token, "a").await.ok()["valid"], true);
    other.revoke(&site, &issued.token_id).await.ok();
    // To this test's store no time has passed; only the difference counts.
    app.clock.set_off(3600 * SECOND);
    assert_unavailable(&app.validate(&issued.token, "a").await, "not yet looked");
    app.clock.set_off(0);
    app.tick().await;
    let verdict = app.validate(&issued.token, "a").await.ok();
    assert_eq!(verdict["reason"], "revoked");
}

/// Notes the present time, as the work in the background does every few seconds.
async fn remember(app: &TestApp) {
    app.tick().await;
    app.state.database.beat(&app.clock.clock()).await.unwrap();
}

async fn seen(app: &TestApp) -> i64 {
    app.number("SELECT seen_at FROM store_clock").await
}

async fn accept(app: &TestApp) {
    let mut tx = app.state.database.begin().await.unwrap();
    let by = mirrory::store::changes::Actor::Operator.into();
    let (now, randomness) = (app.now(), &app.state.randomness);
    time::accept(&mut tx, &by, now, randomness).await.unwrap();
    tx.commit().await.unwrap();
}

#[tokio::test]
async fn an_embedded_store_remembers_the_time_and_a_clock_before_it_is_wrong() {
    let app = TestApp::start(Store::Sqlite).await;
    let site = app.site("free").await;
    remember(&app).await;
    let noted = app.now();
    assert_eq!(seen(&app).await, noted.as_micros());
    app.advance(Duration::from_secs(5));
    remember(&app).await;
    assert_eq!(seen(&app).await, noted.as_micros() + 5 * SECOND);
    // A time daemon may set it back a little; remembered is the greatest.
    app.clock.set_off(-5 * MINUTE);
    remember(&app).await;
    assert_eq!(seen(&app).await, noted.as_micros() + 5 * SECOND);
    app.issue(&site).await;
    app.clock.set_off(-5 * MINUTE - 1);
    app.tick().await;
    assert_unavailable(&app.generate_for(&site).await, "behind");
    // Until it has caught up.
    app.advance(Duration::from_micros(1));
    app.tick().await;
    app.issue(&site).await;
}

#[tokio::test]
async fn a_clock_before_what_was_seen_is_right_when_the_operator_says_so() {
    let app = TestApp::start(Store::Sqlite).await;
    let site = app.site("free").await;
    remember(&app).await;
    app.clock.set_off(-100 * DAY);
    app.tick().await;
    assert_unavailable(&app.generate_for(&site).await, "behind");
    remember(&app).await;
    assert!(seen(&app).await > app.now().as_micros(), "not by itself");
    accept(&app).await;
    app.tick().await;
    app.issue(&site).await;
    remember(&app).await;
    assert_eq!(seen(&app).await, app.now().as_micros());
    let detail = app
        .column("SELECT detail FROM audit_log WHERE event = 'clock.accepted'")
        .await;
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(&detail[0]).unwrap(),
        json!({"seen": "2026-11-15T12:00:00Z", "now": "2026-08-07T12:00:00Z"})
    );
}

#[tokio::test]
async fn a_clock_far_ahead_serves_and_neither_cleans_up_nor_is_remembered() {
    let app = TestApp::start(Store::Sqlite).await;
    let site = app.site("enterprise").await;
    app.post("/mirrory/generate-token")
        .header("idempotency-key", "a")
        .json(&json!({"wp_user_id": 1, "proxy_secret": site.secret}))
        .send()
        .await
        .ok();
    remember(&app).await;
    let noted = seen(&app).await;
    let rows = "SELECT (SELECT count(*) FROM tokens) + (SELECT count(*) FROM idempotency_keys) \
                + (SELECT count(*) FROM audit_log) + (SELECT count(*) FROM changes)";
    let before = app.number(rows).await;

    app.clock.set_off(70 * 365 * DAY);
    remember(&app).await;
    app.background.janitor.tick().await.unwrap();
    assert_eq!(app.number(rows).await, before, "nothing is gone");
    assert_eq!(seen(&app).await, noted, "it is not remembered");
    let far = "clock is far ahead of the store's".to_owned();
    assert_eq!(ready(&app).await, (503, far.clone()));
    app.issue(&site).await;
    // For an hour from when that was seen, by the monotonic clock.
    app.advance(Duration::from_secs(3599));
    remember(&app).await;
    assert_eq!(ready(&app).await, (503, far));
    app.advance(Duration::from_secs(1));
    remember(&app).await;
    assert_eq!(ready(&app).await, (200, "ok".to_owned()));
    app.background.janitor.tick().await.unwrap();
    assert_eq!(
        app.number(rows).await,
        before + 1,
        "the token that was issued"
    );
    assert_eq!(seen(&app).await, noted);

    // The right time is not shut out, and what was used then is of no day that is near.
    app.clock.set_off(0);
    remember(&app).await;
    assert_eq!(app.issue(&site).await.token_id.len(), 36);
    assert!(seen(&app).await > noted);
}

#[tokio::test]
async fn a_clock_far_ahead_is_as_any_other_once_the_operator_has_accepted_it() {
    let app = TestApp::start(Store::Sqlite).await;
    let site = app.site("free").await;
    app.issue(&site).await;
    remember(&app).await;
    app.clock.set_off(31 * DAY);
    app.tick().await;
    assert_eq!(ready(&app).await.0, 503);
    accept(&app).await;
    app.tick().await;
    app.advance(Duration::from_secs(1));
    assert_eq!(ready(&app).await, (200, "ok".to_owned()));
    remember(&app).await;
    assert_eq!(seen(&app).await, app.now().as_micros());
    app.advance(Duration::from_hours(60 * 24));
    // The machine was off, or nobody called: time went by as it should.
    accept(&app).await;
    app.background.janitor.tick().await.unwrap();
    assert_eq!(app.number("SELECT count(*) FROM tokens").await, 0);
}

#[tokio::test]
async fn a_clock_that_leaps_before_the_time_is_noted_is_not_noted() {
    let app = TestApp::start(Store::Sqlite).await;
    remember(&app).await;
    let noted = seen(&app).await;
    app.clock.set_off(31 * DAY);
    app.state.database.beat(&app.clock.clock()).await.unwrap();
    assert_eq!(seen(&app).await, noted, "nobody had looked");
}

#[tokio::test]
async fn a_clock_before_the_newest_migration_is_wrong_beside_an_empty_store() {
    let app = TestApp::start(Store::Sqlite).await;
    let site = app.site("free").await;
    app.state
        .database
        .set_least_time(app.now().after(Duration::from_mins(6)));
    app.tick().await;
    assert_unavailable(&app.generate_for(&site).await, "before");
    accept(&app).await;
    app.tick().await;
    app.issue(&site).await;
}

#[tokio::test]
async fn the_time_of_postgres_is_not_to_be_accepted() {
    let app = TestApp::start(Store::Postgres).await;
    let mut tx = app.state.database.begin().await.unwrap();
    let by = mirrory::store::changes::Actor::Operator.into();
    let accepted = time::accept(&mut tx, &by, app.now(), &app.state.randomness).await;
    assert!(matches!(accepted, Err(time::AcceptError::HasItsOwn)));
    remember(&app).await;
    assert_eq!(seen(&app).await, Timestamp::from_micros(0).as_micros());
}
