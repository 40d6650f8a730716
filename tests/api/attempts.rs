//! Too many failures of one address, and too many verdicts of one token.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Store, TestApp};

on_both_stores! {
    thirty_failures_a_minute_are_told_what_they_are,
    every_kind_of_failure_counts,
    what_is_no_failure_does_not_count,
    a_right_secret_and_a_token_of_ours_are_always_served,
    a_limit_of_zero_is_off,
    a_token_has_thirty_verdicts_and_one_more_every_two_minutes,
    a_verdict_that_is_not_told_is_given_back,
    a_refusal_takes_no_verdict,
    each_token_has_its_own_verdicts,
    a_verdict_limit_of_zero_is_off,
}

fn wrong() -> Value {
    json!({"wp_user_id": 1, "proxy_secret": "wrong"})
}

async fn thirty_failures_a_minute_are_told_what_they_are(store: Store) {
    let app = TestApp::start(store).await;
    for _ in 0..30 {
        let answer = app.generate(wrong()).await;
        assert_eq!(answer.problem(), (401, "invalid_proxy_secret"));
        assert_eq!(answer.header("ratelimit"), None);
        app.advance(Duration::from_secs(1));
    }
    let answer = app.generate(wrong()).await;
    assert_eq!(answer.problem(), (429, "too_many_attempts"));
    assert_eq!(answer.retry_after(), 30);
    assert_eq!(answer.header("ratelimit"), None);
    app.advance(Duration::from_millis(29_500));
    assert_eq!(app.generate(wrong()).await.retry_after(), 1);
    app.advance(Duration::from_millis(500));
    assert_eq!(app.generate(wrong()).await.status, 401);
}

async fn every_kind_of_failure_counts(store: Store) {
    let app = TestApp::with(store, &[("limits.failures_per_minute", "5")]).await;
    let site = app.site("developer").await;
    let issued = app.issue(&site).await;
    let (signed, _) = issued.token.rsplit_once('.').unwrap();
    let forged = format!("{signed}.AAAA");
    let manage = json!({"token_id": issued.token_id, "proxy_secret": "wrong"});
    assert_eq!(app.generate(wrong()).await.status, 401);
    for path in ["/mirrory/revoke-token", "/mirrory/release-machine"] {
        assert_eq!(app.post(path).json(&manage).send().await.status, 401);
    }
    assert_eq!(app.validate("no token", "m").await.reason(), "malformed");
    assert_eq!(app.validate(&forged, "m").await.reason(), "bad_signature");

    let too_many = (429, "too_many_attempts");
    assert_eq!(app.generate(wrong()).await.problem(), too_many);
    for path in ["/mirrory/revoke-token", "/mirrory/release-machine"] {
        let answer = app.post(path).json(&manage).send().await;
        assert_eq!(answer.problem(), too_many);
    }
    assert_eq!(app.validate("no token", "m").await.problem(), too_many);
    assert_eq!(app.validate(&forged, "m").await.problem(), too_many);
}

async fn what_is_no_failure_does_not_count(store: Store) {
    let app = TestApp::with(store, &[("limits.failures_per_minute", "1")]).await;
    let site = app.site("free").await;
    let issued = app.issue(&site).await;
    app.validate(&issued.token, "m").await.ok();
    app.validate(&issued.token, "another").await.ok();
    app.revoke(&site, &issued.token_id).await.ok();
    app.validate(&issued.token, "m").await.ok();
    app.generate(json!({})).await;
    app.get("/nowhere").await;
    app.suspend(&site).await;
    assert_eq!(app.generate_for(&site).await.status, 403);
    assert_eq!(app.generate(wrong()).await.status, 401);
    assert_eq!(app.generate(wrong()).await.status, 429);
}

async fn a_right_secret_and_a_token_of_ours_are_always_served(store: Store) {
    let app = TestApp::with(store, &[("limits.failures_per_minute", "1")]).await;
    let site = app.site("developer").await;
    for _ in 0..3 {
        app.generate(wrong()).await;
    }
    assert_eq!(app.generate(wrong()).await.status, 429);
    let issued = app.issue(&site).await;
    assert!(app.validate(&issued.token, "m").await.is_valid());
    let other = app.validate(&issued.token, "another").await;
    assert_eq!(other.reason(), "machine_mismatch");
    app.release(&site, &issued.token_id).await.ok();
    app.revoke(&site, &issued.token_id).await.ok();
    assert_eq!(app.validate(&issued.token, "m").await.reason(), "revoked");
}

async fn a_limit_of_zero_is_off(store: Store) {
    let app = TestApp::with(store, &[("limits.failures_per_minute", "0")]).await;
    for _ in 0..100 {
        assert_eq!(app.generate(wrong()).await.status, 401);
    }
}

async fn a_token_has_thirty_verdicts_and_one_more_every_two_minutes(store: Store) {
    let app = TestApp::start(store).await;
    let site = app.site("professional").await;
    let issued = app.issue(&site).await;
    for _ in 0..30 {
        assert!(app.validate(&issued.token, "m").await.is_valid());
    }
    let answer = app.validate(&issued.token, "m").await;
    assert_eq!(answer.problem(), (429, "too_many_attempts"));
    assert_eq!(answer.retry_after(), 120);
    assert_eq!(answer.header("ratelimit"), None);
    assert_eq!(app.used(&site).await, (31, 31));
    for _ in 0..2 {
        app.advance(Duration::from_mins(2) - Duration::from_millis(1));
        let answer = app.validate(&issued.token, "m").await;
        assert_eq!(answer.retry_after(), 1);
        app.advance(Duration::from_millis(1));
        assert!(app.validate(&issued.token, "m").await.is_valid());
    }
    app.advance(Duration::from_hours(1));
    for _ in 0..30 {
        assert!(app.validate(&issued.token, "m").await.is_valid());
    }
    assert_eq!(app.validate(&issued.token, "m").await.status, 429);
}

async fn a_verdict_that_is_not_told_is_given_back(store: Store) {
    let settings = [
        ("limits.validations_per_token_per_hour", "2"),
        ("plans.tiny.calls_per_day", "2"),
        ("plans.tiny.calls_per_month", "50"),
    ];
    let app = TestApp::with(store, &settings).await;
    let site = app.site("tiny").await;
    let (issued, _) = (app.issue(&site).await, app.issue(&site).await);
    for _ in 0..5 {
        let answer = app.validate(&issued.token, "m").await;
        assert_eq!(answer.problem(), (429, "quota_exceeded"));
    }
    app.set_plan(&site, "developer").await;
    for _ in 0..2 {
        assert!(app.validate(&issued.token, "m").await.is_valid());
    }
    let answer = app.validate(&issued.token, "m").await;
    assert_eq!(answer.problem(), (429, "too_many_attempts"));
}

async fn a_refusal_takes_no_verdict(store: Store) {
    let settings = [("limits.validations_per_token_per_hour", "1")];
    let app = TestApp::with(store, &settings).await;
    let site = app.site("developer").await;
    let issued = app.issue(&site).await;
    app.suspend(&site).await;
    for _ in 0..5 {
        let answer = app.validate(&issued.token, "m").await;
        assert_eq!(answer.reason(), "site_suspended");
    }
    app.resume(&site).await;
    assert!(app.validate(&issued.token, "m").await.is_valid());
    for _ in 0..5 {
        let answer = app.validate(&issued.token, "another").await;
        assert_eq!(answer.reason(), "machine_mismatch");
    }
    assert_eq!(app.validate(&issued.token, "m").await.status, 429);
}

async fn each_token_has_its_own_verdicts(store: Store) {
    let settings = [("limits.validations_per_token_per_hour", "1")];
    let app = TestApp::with(store, &settings).await;
    let site = app.site("developer").await;
    let (one, two) = (app.issue(&site).await, app.issue(&site).await);
    assert!(app.validate(&one.token, "m").await.is_valid());
    assert_eq!(app.validate(&one.token, "m").await.status, 429);
    assert!(app.validate(&two.token, "m").await.is_valid());
}

async fn a_verdict_limit_of_zero_is_off(store: Store) {
    let settings = [("limits.validations_per_token_per_hour", "0")];
    let app = TestApp::with(store, &settings).await;
    let site = app.site("professional").await;
    let issued = app.issue(&site).await;
    for _ in 0..60 {
        assert!(app.validate(&issued.token, "m").await.is_valid());
    }
}
