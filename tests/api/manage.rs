//! revoke-token and release-machine.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Store, TestApp};

on_both_stores! {
    a_revoked_token_is_never_valid_again,
    a_released_token_is_bound_anew,
    the_tokens_of_another_site_are_left_alone,
    what_is_unknown_is_done,
    nothing_is_charged_and_no_quota_needed,
    a_suspended_site_may_still_revoke_and_release,
    a_site_has_sixty_calls_a_minute,
    bad_fields_are_named,
    a_wrong_secret_is_refused,
}

const PATHS: [&str; 2] = ["/mirrory/revoke-token", "/mirrory/release-machine"];

async fn a_revoked_token_is_never_valid_again(store: Store) {
    let app = TestApp::start(store).await;
    let site = app.site("developer").await;
    let issued = app.issue(&site).await;
    app.validate(&issued.token, "m").await.ok();
    for _ in 0..2 {
        assert_eq!(app.revoke(&site, &issued.token_id).await.ok(), json!({}));
    }
    assert_eq!(app.validate(&issued.token, "m").await.reason(), "revoked");
    assert_eq!(app.release(&site, &issued.token_id).await.ok(), json!({}));
    assert_eq!(app.validate(&issued.token, "m").await.reason(), "revoked");
}

async fn a_released_token_is_bound_anew(store: Store) {
    let app = TestApp::start(store).await;
    let site = app.site("developer").await;
    let issued = app.issue(&site).await;
    assert!(app.validate(&issued.token, "old").await.is_valid());
    for _ in 0..2 {
        assert_eq!(app.release(&site, &issued.token_id).await.ok(), json!({}));
    }
    assert!(app.validate(&issued.token, "new").await.is_valid());
    let old = app.validate(&issued.token, "old").await;
    assert_eq!(old.reason(), "machine_mismatch");
}

async fn the_tokens_of_another_site_are_left_alone(store: Store) {
    let app = TestApp::start(store).await;
    let (site, stranger) = (app.site("developer").await, app.site("developer").await);
    let issued = app.issue(&site).await;
    app.validate(&issued.token, "mine").await.ok();
    assert_eq!(
        app.revoke(&stranger, &issued.token_id).await.ok(),
        json!({})
    );
    assert_eq!(
        app.release(&stranger, &issued.token_id).await.ok(),
        json!({})
    );
    let other = app.validate(&issued.token, "another").await;
    assert_eq!(other.reason(), "machine_mismatch");
    assert!(app.validate(&issued.token, "mine").await.is_valid());
}

async fn what_is_unknown_is_done(store: Store) {
    let app = TestApp::start(store).await;
    let site = app.site("developer").await;
    let unknown = "01890a5d-ac96-774b-bcce-b302099a8057";
    assert_eq!(app.revoke(&site, unknown).await.ok(), json!({}));
    assert_eq!(app.release(&site, unknown).await.ok(), json!({}));
}

async fn nothing_is_charged_and_no_quota_needed(store: Store) {
    let app = TestApp::start(store).await;
    let site = app.site("free").await;
    let issued = app.issue(&site).await;
    for _ in 0..4 {
        app.issue(&site).await;
    }
    assert_eq!(app.used(&site).await, (5, 5));
    for answer in [
        app.release(&site, &issued.token_id).await,
        app.revoke(&site, &issued.token_id).await,
    ] {
        assert_eq!(answer.header("ratelimit"), None);
        assert_eq!(answer.ok(), json!({}));
    }
    assert_eq!(app.used(&site).await, (5, 5));
}

async fn a_suspended_site_may_still_revoke_and_release(store: Store) {
    let app = TestApp::start(store).await;
    let site = app.site("free").await;
    let issued = app.issue(&site).await;
    app.suspend(&site).await;
    assert_eq!(app.revoke(&site, &issued.token_id).await.ok(), json!({}));
    assert_eq!(app.release(&site, &issued.token_id).await.ok(), json!({}));
    app.resume(&site).await;
    assert_eq!(app.validate(&issued.token, "m").await.reason(), "revoked");
}

async fn a_site_has_sixty_calls_a_minute(store: Store) {
    let app = TestApp::start(store).await;
    let (site, other) = (app.site("free").await, app.site("free").await);
    let issued = app.issue(&site).await;
    for _ in 0..30 {
        app.revoke(&site, &issued.token_id).await.ok();
        app.release(&site, &issued.token_id).await.ok();
    }
    app.advance(Duration::from_secs(59));
    for answer in [
        app.revoke(&site, &issued.token_id).await,
        app.release(&site, &issued.token_id).await,
    ] {
        assert_eq!(answer.problem(), (429, "too_many_attempts"));
        assert_eq!(answer.retry_after(), 1);
        assert_eq!(answer.header("ratelimit"), None);
    }
    app.revoke(&other, &issued.token_id).await.ok();
    app.advance(Duration::from_secs(1));
    app.revoke(&site, &issued.token_id).await.ok();
}

async fn bad_fields_are_named(store: Store) {
    let app = TestApp::start(store).await;
    let site = app.site("free").await;
    for path in PATHS {
        let send = async |body: Value| app.post(path).json(&body).send().await;
        assert_eq!(
            send(json!({})).await.bad_fields(),
            ["token_id", "proxy_secret"]
        );
        for token_id in [
            json!(""),
            Value::Null,
            json!(1),
            json!("01890A5D-AC96-774B-BCCE-B302099A8057"),
            json!("01890a5dac96774bbcceb302099a8057"),
            json!("eyJhbGciOiJIUzI1NiJ9.e30.AAAA"),
        ] {
            let body = json!({"token_id": token_id, "proxy_secret": site.secret});
            assert_eq!(send(body).await.bad_fields(), ["token_id"], "{token_id}");
        }
    }
}

async fn a_wrong_secret_is_refused(store: Store) {
    let app = TestApp::start(store).await;
    let site = app.site("developer").await;
    let issued = app.issue(&site).await;
    for path in PATHS {
        let body = json!({"token_id": issued.token_id, "proxy_secret": "wrong"});
        let answer = app.post(path).json(&body).send().await;
        assert_eq!(answer.problem(), (401, "invalid_proxy_secret"));
    }
    assert!(app.validate(&issued.token, "m").await.is_valid());
}
