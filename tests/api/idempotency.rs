//! `Idempotency-Key`: the same request again is the same token, for nothing.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Answer, Store, TestApp, TestSite};

on_both_stores! {
    the_same_request_gets_the_same_token_for_nothing,
    a_key_is_the_same_with_quotes_and_without,
    a_replay_says_how_much_time_is_left,
    a_replay_of_a_revoked_token_is_answered,
    a_replay_works_when_the_quota_is_used_up,
    another_request_with_the_key_is_refused,
    another_spelling_of_the_user_is_the_same_request,
    after_a_day_the_key_is_new,
    only_success_uses_up_a_key,
    a_fault_uses_up_no_key,
    what_cannot_be_signed_uses_up_no_key,
    a_key_of_another_site_is_another,
    a_replay_needs_a_live_secret_and_an_active_site,
    a_replay_takes_any_live_secret_of_the_site,
    a_replay_is_signed_by_the_key_of_today,
}

const PATH: &str = "/mirrory/generate-token";

async fn send(app: &TestApp, key: &str, body: &Value) -> Answer {
    let call = app.post(PATH).header("idempotency-key", key);
    call.json(body).send().await
}

fn request(site: &TestSite) -> Value {
    json!({"wp_user_id": 1, "proxy_secret": site.secret})
}

fn is_replay(answer: &Answer) -> bool {
    let replayed = answer.header("idempotency-replayed");
    assert!(matches!(replayed, None | Some("true")));
    answer.status == 200 && replayed.is_some()
}

async fn the_same_request_gets_the_same_token_for_nothing(store: Store) {
    let app = TestApp::start(store).await;
    let site = app.site("free").await;
    let body = json!({"wp_user_id": 1, "proxy_secret": site.secret, "machine_id": "m"});
    let first = send(&app, "order-1", &body).await;
    assert!(!is_replay(&first));
    let again = send(&app, "order-1", &body).await;
    assert!(is_replay(&again));
    assert_eq!(again.header("cache-control"), Some("no-store"));
    assert_eq!(app.used(&site).await, (1, 1));
    let (first, again) = (first.issued(), again.issued());
    assert_eq!(first.token_id, again.token_id);
    assert!(app.validate(&again.token, "m").await.is_valid());
    let third = send(&app, "order-2", &body).await;
    assert!(!is_replay(&third));
    assert_ne!(third.issued().token_id, first.token_id);
}

async fn a_key_is_the_same_with_quotes_and_without(store: Store) {
    let app = TestApp::start(store).await;
    let site = app.site("free").await;
    let plain = send(&app, "order-1", &request(&site)).await.issued();
    let quoted = send(&app, "\"order-1\"", &request(&site)).await;
    assert!(is_replay(&quoted));
    assert_eq!(quoted.issued().token_id, plain.token_id);
    let other = send(&app, "ORDER-1", &request(&site)).await;
    assert!(!is_replay(&other));
}

async fn a_replay_says_how_much_time_is_left(store: Store) {
    let app = TestApp::with(store, &[("tokens.ttl_seconds", "100")]).await;
    let site = app.site("free").await;
    let first = send(&app, "k", &request(&site)).await.ok();
    assert_eq!(first["expires_in"], 100);
    for (passed, left) in [(30, 70), (69, 1), (1, 0), (1000, 0)] {
        app.advance(Duration::from_secs(passed));
        let again = send(&app, "k", &request(&site)).await.ok();
        assert_eq!(again["expires_in"], left);
        assert_eq!(again["expires_at"], first["expires_at"]);
        assert_eq!(again["token_id"], first["token_id"]);
    }
    let token = send(&app, "k", &request(&site)).await.issued().token;
    assert_eq!(app.validate(&token, "m").await.reason(), "expired");
}

async fn a_replay_of_a_revoked_token_is_answered(store: Store) {
    let app = TestApp::start(store).await;
    let site = app.site("free").await;
    let first = send(&app, "k", &request(&site)).await.issued();
    app.revoke(&site, &first.token_id).await.ok();
    let again = send(&app, "k", &request(&site)).await;
    assert!(is_replay(&again));
    let again = again.issued();
    assert_eq!(again.token_id, first.token_id);
    assert_eq!(app.validate(&again.token, "m").await.reason(), "revoked");
}

async fn a_replay_works_when_the_quota_is_used_up(store: Store) {
    let app = TestApp::start(store).await;
    let site = app.site("free").await;
    let first = send(&app, "k", &request(&site)).await.issued();
    for _ in 0..4 {
        app.issue(&site).await;
    }
    assert_eq!(
        app.generate_for(&site).await.problem(),
        (429, "quota_exceeded")
    );
    let again = send(&app, "k", &request(&site)).await;
    assert!(is_replay(&again));
    assert_eq!(again.issued().token_id, first.token_id);
    let other = send(&app, "new", &request(&site)).await;
    assert_eq!(other.problem(), (429, "quota_exceeded"));
    assert_eq!(app.used(&site).await, (5, 5));
}

async fn another_request_with_the_key_is_refused(store: Store) {
    let app = TestApp::start(store).await;
    let site = app.site("free").await;
    send(&app, "k", &request(&site)).await.ok();
    for body in [
        json!({"wp_user_id": 2, "proxy_secret": site.secret}),
        json!({"wp_user_id": 1, "proxy_secret": site.secret, "machine_id": "m"}),
    ] {
        let answer = send(&app, "k", &body).await;
        assert_eq!(answer.problem(), (422, "idempotency_key_reused"));
        assert_eq!(answer.header("idempotency-replayed"), None);
    }
    assert_eq!(app.used(&site).await, (1, 1));
    assert!(is_replay(&send(&app, "k", &request(&site)).await));
}

async fn another_spelling_of_the_user_is_the_same_request(store: Store) {
    let app = TestApp::start(store).await;
    let site = app.site("free").await;
    send(&app, "k", &request(&site)).await.ok();
    let body = json!({
        "unknown": 1,
        "machine_id": null,
        "wp_user_id": "1",
        "proxy_secret": site.secret,
    });
    assert!(is_replay(&send(&app, "k", &body).await));
}

async fn after_a_day_the_key_is_new(store: Store) {
    let app = TestApp::start(store).await;
    let site = app.site("free").await;
    let first = send(&app, "k", &request(&site)).await.issued();
    app.advance(Duration::from_hours(24) - Duration::from_micros(1));
    assert!(is_replay(&send(&app, "k", &request(&site)).await));
    app.advance(Duration::from_micros(1));
    let other = json!({"wp_user_id": 2, "proxy_secret": site.secret});
    let second = send(&app, "k", &other).await;
    assert!(!is_replay(&second));
    assert_ne!(second.issued().token_id, first.token_id);
    let old = send(&app, "k", &request(&site)).await;
    assert_eq!(old.problem(), (422, "idempotency_key_reused"));
    app.advance(Duration::from_hours(24));
    app.background.janitor.round().await.unwrap();
    assert!(!is_replay(&send(&app, "k", &request(&site)).await));
}

async fn only_success_uses_up_a_key(store: Store) {
    let app = TestApp::start(store).await;
    let site = app.site("free").await;
    let wrong = json!({"wp_user_id": 2, "proxy_secret": "wrong"});
    assert_eq!(send(&app, "k", &wrong).await.status, 401);
    let invalid = json!({"wp_user_id": 0, "proxy_secret": site.secret});
    assert_eq!(send(&app, "k", &invalid).await.status, 422);
    let other = json!({"wp_user_id": 2, "proxy_secret": site.secret});
    app.suspend(&site).await;
    assert_eq!(send(&app, "k", &other).await.status, 403);
    app.resume(&site).await;
    for _ in 0..5 {
        app.issue(&site).await;
    }
    assert_eq!(
        send(&app, "k", &other).await.problem(),
        (429, "quota_exceeded")
    );
    app.set_plan(&site, "developer").await;
    let first = send(&app, "k", &request(&site)).await;
    assert_eq!(first.status, 200);
    assert!(!is_replay(&first));
}

async fn a_fault_uses_up_no_key(store: Store) {
    let app = TestApp::start(store).await;
    let site = app.site("free").await;
    let other = json!({"wp_user_id": 2, "proxy_secret": site.secret});
    app.execute("ALTER TABLE tokens RENAME COLUMN coins TO hidden")
        .await;
    assert_eq!(
        send(&app, "k", &other).await.problem(),
        (500, "internal_error")
    );
    app.execute("ALTER TABLE tokens RENAME COLUMN hidden TO coins")
        .await;
    let first = send(&app, "k", &request(&site)).await;
    assert_eq!(first.status, 200);
    assert!(!is_replay(&first));
    assert_eq!(app.used(&site).await, (1, 1));
}

async fn what_cannot_be_signed_uses_up_no_key(store: Store) {
    let app = TestApp::start(store).await;
    let site = app.site("free").await;
    for (broken, mended) in [
        (
            "UPDATE signing_keys SET revoked_at = created_at",
            "UPDATE signing_keys SET revoked_at = NULL",
        ),
        (
            "ALTER TABLE signing_keys RENAME TO hidden",
            "ALTER TABLE hidden RENAME TO signing_keys",
        ),
    ] {
        app.execute(broken).await;
        for _ in 0..2 {
            let answer = send(&app, "k", &request(&site)).await;
            assert_eq!(answer.problem(), (500, "internal_error"), "{broken}");
        }
        app.execute(mended).await;
        for table in ["tokens", "idempotency_keys"] {
            let rows = format!("SELECT count(*) FROM {table}");
            assert_eq!(app.number(&rows).await, 0, "{table} after {broken}");
        }
        assert_eq!(app.used(&site).await, (0, 0), "{broken}");
    }
    let first = send(&app, "k", &request(&site)).await;
    assert_eq!(first.status, 200);
    assert!(!is_replay(&first));
    assert!(is_replay(&send(&app, "k", &request(&site)).await));
    assert_eq!(app.used(&site).await, (1, 1));
}

async fn a_key_of_another_site_is_another(store: Store) {
    let app = TestApp::start(store).await;
    let (one, two) = (app.site("free").await, app.site("free").await);
    let first = send(&app, "k", &request(&one)).await.issued();
    let second = send(&app, "k", &request(&two)).await;
    assert!(!is_replay(&second));
    assert_ne!(second.issued().token_id, first.token_id);
    assert!(is_replay(&send(&app, "k", &request(&one)).await));
    assert!(is_replay(&send(&app, "k", &request(&two)).await));
}

async fn a_replay_needs_a_live_secret_and_an_active_site(store: Store) {
    let app = TestApp::start(store).await;
    let site = app.site("free").await;
    send(&app, "k", &request(&site)).await.ok();
    app.suspend(&site).await;
    let answer = send(&app, "k", &request(&site)).await;
    assert_eq!(answer.problem(), (403, "site_suspended"));
    app.resume(&site).await;
    app.rotate_secret(&site, Duration::ZERO).await;
    let answer = send(&app, "k", &request(&site)).await;
    assert_eq!(answer.problem(), (401, "invalid_proxy_secret"));
}

async fn a_replay_takes_any_live_secret_of_the_site(store: Store) {
    let app = TestApp::start(store).await;
    let site = app.site("free").await;
    send(&app, "k", &request(&site)).await.ok();
    let (renewed, _) = app.rotate_secret(&site, Duration::from_mins(1)).await;
    assert!(is_replay(&send(&app, "k", &request(&renewed)).await));
    assert!(is_replay(&send(&app, "k", &request(&site)).await));
}

async fn a_replay_is_signed_by_the_key_of_today(store: Store) {
    let app = TestApp::start(store).await;
    let site = app.site("free").await;
    let first = send(&app, "k", &request(&site)).await.issued();
    let old = app.keys().await[0].kid.clone();
    app.rotate_key(mirrory::keys::Algorithm::HS256).await;
    app.advance(Duration::from_secs(2));
    app.revoke_key(&old).await;
    assert_eq!(
        app.validate(&first.token, "m").await.reason(),
        "bad_signature"
    );
    let again = send(&app, "k", &request(&site)).await.issued();
    assert_eq!(again.token_id, first.token_id);
    assert!(app.validate(&again.token, "m").await.is_valid());
}
