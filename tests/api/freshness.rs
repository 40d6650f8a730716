//! Answers from memory end a second after the change log was last read; and without a store nothing
//! is made up.

use std::time::Duration;

use futures_util::FutureExt;
use mirrory::keys::Algorithm;
use serde_json::json;

use crate::harness::{Answer, Store, TestApp, eventually};

on_both_stores! {
    a_revoked_key_is_seen_within_a_second_also_when_nothing_follows,
    an_instance_that_follows_sees_a_change_at_once,
    whatever_is_changed_elsewhere_is_seen_by_who_follows,
    whatever_is_changed_elsewhere_is_seen_within_a_second_also_when_nothing_follows,
    an_instance_obeys_its_own_changes_at_once,
    a_revoked_token_is_refused_from_memory,
    without_a_store_nothing_is_valid,
    without_a_store_no_verdict_is_made_up_once_memory_is_stale,
    without_a_store_what_needs_none_is_still_answered,
    without_a_store_the_follower_makes_nothing_fresh,
}

const UNAVAILABLE: (u16, &str) = (503, "store_unavailable");

async fn a_revoked_key_is_seen_within_a_second_also_when_nothing_follows(store: Store) {
    let app = TestApp::start(store).await;
    let operator = app.another().await;
    let site = app.site("developer").await;
    let token = app.issue(&site).await.token;
    let old = operator.keys().await[0].kid.clone();
    operator.rotate_key(Algorithm::HS256).await;
    app.tick().await;
    operator.revoke_key(&old).await;
    // It cannot know, and may not be wrong for longer than a second.
    app.advance(Duration::from_micros(999_999));
    assert!(app.freshness.holds());
    assert!(app.validate(&token, "m").await.is_valid());
    app.advance(Duration::from_micros(1));
    assert!(!app.freshness.holds());
    assert_eq!(app.validate(&token, "m").await.reason(), "bad_signature");
}

/// While a request waits for the keys the log may be read, and read no more: memory has been fresh
/// then, and is no longer.
#[tokio::test]
async fn memory_that_grew_stale_while_the_keys_were_waited_for_answers_nothing() {
    let app = TestApp::start(Store::Postgres).await;
    let operator = app.another().await;
    let site = app.site("developer").await;
    let issued = app.issue(&site).await;
    app.tick().await;
    assert!(app.validate(&issued.token, "there").await.is_valid());
    app.advance(Duration::from_secs(1));
    let held = app.hold("LOCK TABLE signing_keys").await;
    let validating = app.post("/mirrory/validate-token").json(&json!({
        "token": issued.token,
        "machine_id": "here",
    }));
    let meanwhile = async {
        eventually(async || app.statements_that_wait().await == 1).await;
        app.tick().await;
        assert!(app.freshness.holds());
        app.advance(Duration::from_secs(1));
        operator.release(&site, &issued.token_id).await.ok();
        held.release().await;
    };
    let (verdict, ()) = tokio::join!(validating.send(), meanwhile);
    assert!(verdict.is_valid(), "{:?}", verdict.reason());
}

async fn an_instance_that_follows_sees_a_change_at_once(store: Store) {
    let app = TestApp::start(store).await;
    let operator = app.another().await;
    let site = app.site("developer").await;
    let token = app.issue(&site).await.token;
    app.tick().await;
    let old = operator.keys().await[0].kid.clone();
    operator.rotate_key(Algorithm::HS256).await;
    operator.revoke_key(&old).await;
    app.tick().await;
    assert!(app.freshness.holds());
    assert_eq!(app.validate(&token, "m").await.reason(), "bad_signature");
}

/// Secrets, plans, states and records are in memory, and forgotten by whoever follows the log.
async fn whatever_is_changed_elsewhere_is_seen_by_who_follows(store: Store) {
    let app = TestApp::start(store).await;
    let operator = app.another().await;
    let site = app.site("free").await;
    let issued = app.issue(&site).await;
    app.tick().await;
    operator.tick().await;
    assert!(operator.validate(&issued.token, "there").await.is_valid());
    assert!(!app.validate(&issued.token, "here").await.is_valid());
    operator.suspend(&site).await;
    app.tick().await;
    let suspended = app.validate(&issued.token, "there").await;
    assert_eq!(suspended.reason(), "site_suspended");
    assert_eq!(app.generate_for(&site).await.status, 403);
    operator.resume(&site).await;
    operator.set_plan(&site, "developer").await;
    app.tick().await;
    let answer = app.generate_for(&site).await;
    let standing = answer.header("ratelimit").unwrap();
    assert!(standing.starts_with("\"day\";r=17;"), "{standing}");
    let here = app.validate(&issued.token, "here").await;
    assert_eq!(here.reason(), "machine_mismatch");
    operator.release(&site, &issued.token_id).await.ok();
    app.tick().await;
    assert!(app.validate(&issued.token, "here").await.is_valid());
    operator.revoke(&site, &issued.token_id).await.ok();
    app.tick().await;
    let revoked = app.validate(&issued.token, "here").await;
    assert_eq!(revoked.reason(), "revoked");
    let (renewed, _) = operator.rotate_secret(&site, Duration::ZERO).await;
    app.tick().await;
    assert_eq!(app.generate_for(&site).await.status, 401);
    app.issue(&renewed).await;
    operator.delete(&site).await;
    app.tick().await;
    assert_eq!(app.generate_for(&renewed).await.status, 401);
}

/// Who does not follow asks the store from one second after the last look on.
async fn whatever_is_changed_elsewhere_is_seen_within_a_second_also_when_nothing_follows(
    store: Store,
) {
    let app = TestApp::start(store).await;
    let operator = app.another().await;
    let site = app.site("professional").await;
    let revoked = app.issue(&site).await;
    let released = app.issue(&site).await;
    let kept = app.issue(&site).await;
    app.tick().await;
    for issued in [&revoked, &released, &kept] {
        assert!(app.validate(&issued.token, "m").await.is_valid());
    }
    operator.revoke(&site, &revoked.token_id).await.ok();
    operator.release(&site, &released.token_id).await.ok();
    assert!(operator.validate(&released.token, "n").await.is_valid());
    app.advance(Duration::from_micros(999_999));
    assert!(app.validate(&kept.token, "m").await.is_valid());
    app.advance(Duration::from_micros(1));
    assert_eq!(app.validate(&revoked.token, "m").await.reason(), "revoked");
    let mismatch = app.validate(&released.token, "m").await;
    assert_eq!(mismatch.reason(), "machine_mismatch");
    operator.suspend(&site).await;
    let suspended = app.validate(&kept.token, "m").await;
    assert_eq!(suspended.reason(), "site_suspended");
    operator.rotate_secret(&site, Duration::ZERO).await;
    assert_eq!(app.generate_for(&site).await.status, 401);
}

/// Who makes a change does not wait for the log to hear of it.
async fn an_instance_obeys_its_own_changes_at_once(store: Store) {
    let app = TestApp::start(store).await;
    let site = app.site("professional").await;
    let issued = app.issue(&site).await;
    app.tick().await;
    assert!(app.validate(&issued.token, "m").await.is_valid());
    app.release(&site, &issued.token_id).await.ok();
    assert!(app.validate(&issued.token, "n").await.is_valid());
    app.suspend(&site).await;
    let suspended = app.validate(&issued.token, "n").await;
    assert_eq!(suspended.reason(), "site_suspended");
    app.resume(&site).await;
    assert!(app.validate(&issued.token, "n").await.is_valid());
    app.revoke(&site, &issued.token_id).await.ok();
    assert_eq!(app.validate(&issued.token, "n").await.reason(), "revoked");
    let (renewed, _) = app.rotate_secret(&site, Duration::ZERO).await;
    assert_eq!(app.generate_for(&site).await.status, 401);
    app.issue(&renewed).await;
    app.delete(&site).await;
    assert_eq!(app.generate_for(&renewed).await.status, 401);
}

/// Whoever hammers with one costs the store nothing.
async fn a_revoked_token_is_refused_from_memory(store: Store) {
    let app = TestApp::start(store).await;
    let site = app.site("developer").await;
    let issued = app.issue(&site).await;
    app.tick().await;
    app.revoke(&site, &issued.token_id).await.ok();
    assert_eq!(app.validate(&issued.token, "m").await.reason(), "revoked");
    app.break_store().await;
    assert_eq!(app.validate(&issued.token, "m").await.reason(), "revoked");
    app.advance(Duration::from_secs(1));
    assert_unavailable(&app.validate(&issued.token, "m").await);
}

/// A verdict from memory is not told when its call was charged so slowly that it may not be true any
/// more.
#[tokio::test]
async fn what_is_revoked_while_its_call_is_charged_is_not_valid() {
    let app = TestApp::start(Store::Postgres).await;
    let site = app.site("developer").await;
    let issued = app.issue(&site).await;
    app.tick().await;
    assert!(app.validate(&issued.token, "m").await.is_valid());
    let held = app.hold("SELECT * FROM usage FOR UPDATE").await;
    let mut call = Box::pin(app.validate(&issued.token, "m"));
    eventually(async || {
        assert!(call.as_mut().now_or_never().is_none(), "it waits");
        app.statements_that_wait().await == 1
    })
    .await;
    app.another()
        .await
        .revoke(&site, &issued.token_id)
        .await
        .ok();
    app.advance(Duration::from_secs(1));
    held.release().await;
    assert_eq!(call.await.reason(), "revoked");
    assert_eq!(app.used(&site).await, (2, 2));
}

#[tokio::test]
async fn who_hears_of_a_change_does_not_wait_for_the_next_look() {
    let unlimited = [("LIMITS__VALIDATIONS_PER_TOKEN_PER_HOUR", "0")];
    let app = TestApp::with(Store::Postgres, &unlimited).await;
    let operator = app.another().await;
    let site = app.site("enterprise").await;
    let issued = app.issue(&site).await;
    let mut background = app.background.clone();
    background.poll_interval = Duration::from_hours(1);
    let running = background.spawn();
    eventually(async || app.freshness.holds()).await;
    assert!(app.validate(&issued.token, "m").await.is_valid());
    operator.revoke(&site, &issued.token_id).await.ok();
    eventually(async || {
        let answer = app.validate(&issued.token, "m").await;
        !answer.is_valid() && answer.reason() == "revoked"
    })
    .await;
    running.stop().await;
}

fn assert_unavailable(answer: &Answer) {
    assert_eq!(answer.problem(), UNAVAILABLE);
    assert_eq!(answer.header("retry-after"), Some("1"));
}

async fn without_a_store_nothing_is_valid(store: Store) {
    let app = TestApp::start(store).await;
    let site = app.site("developer").await;
    let issued = app.issue(&site).await;
    assert!(app.validate(&issued.token, "m").await.is_valid());
    app.tick().await;
    app.break_store().await;
    // Also while memory is fresh, with quota in hand, on the bound machine.
    assert!(app.freshness.holds());
    for _ in 0..3 {
        for answer in [
            app.validate(&issued.token, "m").await,
            app.validate(&issued.token, "another").await,
            app.generate_for(&site).await,
            app.revoke(&site, &issued.token_id).await,
            app.release(&site, &issued.token_id).await,
        ] {
            assert_unavailable(&answer);
        }
        app.advance(Duration::from_secs(1));
    }
    assert_unavailable(&app.get("/.well-known/jwks.json").await);
}

async fn without_a_store_no_verdict_is_made_up_once_memory_is_stale(store: Store) {
    let app = TestApp::start(store).await;
    let site = app.site("developer").await;
    let issued = app.issue(&site).await;
    let (signed, _) = issued.token.rsplit_once('.').unwrap();
    let forged = format!("{signed}.AAAA");
    app.tick().await;
    app.break_store().await;
    assert_eq!(app.validate(&forged, "m").await.reason(), "bad_signature");
    assert_eq!(app.get("/.well-known/jwks.json").await.status, 200);
    app.advance(Duration::from_secs(1));
    assert_unavailable(&app.validate(&forged, "m").await);
    assert_unavailable(&app.get("/.well-known/jwks.json").await);
}

async fn without_a_store_what_needs_none_is_still_answered(store: Store) {
    let app = TestApp::start(store).await;
    app.break_store().await;
    assert_eq!(app.validate("no token", "m").await.reason(), "malformed");
    assert_eq!(app.get("/livez").await.status, 200);
    assert_eq!(app.get("/openapi.json").await.status, 200);
    let guess = json!({"wp_user_id": 1, "proxy_secret": "a guess"});
    let answer = app.generate(guess).await;
    assert_eq!(answer.problem(), (401, "invalid_proxy_secret"));
    assert_eq!(app.generate(json!({})).await.status, 422);
}

async fn without_a_store_the_follower_makes_nothing_fresh(store: Store) {
    let app = TestApp::start(store).await;
    let site = app.site("developer").await;
    let token = app.issue(&site).await.token;
    app.tick().await;
    app.break_store().await;
    app.advance(Duration::from_secs(1));
    assert!(app.background.follower.tick().await.is_err());
    assert!(!app.freshness.holds());
    assert_unavailable(&app.validate(&token, "m").await);
}

/// The server ends every connection, as it does when it restarts.
#[tokio::test]
async fn postgres_that_cuts_its_connections_is_unavailable_for_a_moment_and_never_a_fault() {
    let app = TestApp::start(Store::Postgres).await;
    let site = app.site("professional").await;
    let issued = app.issue(&site).await;
    assert!(app.validate(&issued.token, "m").await.is_valid());
    app.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
         WHERE datname = current_database() AND pid <> pg_backend_pid()",
    )
    .await;
    let mut valid = 0;
    for _ in 0..20 {
        let answer = app.validate(&issued.token, "m").await;
        if answer.is_valid() {
            valid += 1;
        } else {
            assert_unavailable(&answer);
        }
    }
    assert!(valid >= 15, "{valid} of 20");
}
