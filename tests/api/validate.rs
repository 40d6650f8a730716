//! validate-token: the verdicts, their order, what they show, and the binding.

use std::time::Duration;

use mirrory::types::clock::Timestamp;
use serde_json::{Value, json};

use crate::harness::{Issued, Store, TestApp, TestSite};

on_both_stores! {
    the_first_valid_verdict_binds,
    machine_ids_are_compared_byte_for_byte,
    a_token_ends_to_the_second,
    the_reasons_come_in_their_order,
    what_is_no_token_is_malformed,
    bad_fields_are_named,
    only_a_token_of_ours_shows_its_user_and_its_end,
    the_bound_machine_is_not_told_to_another,
    nothing_but_a_valid_verdict_is_charged,
    a_refusal_is_told_when_the_quota_is_used_up,
    a_refused_charge_binds_nothing,
    a_token_of_a_swept_record_is_unknown,
    verdicts_carry_no_word_of_the_quota,
    a_valid_verdict_is_noted_as_the_last_use_once_a_minute,
}

async fn issued(store: Store, plan: &str) -> (TestApp, TestSite, Issued) {
    let app = TestApp::start(store).await;
    let site = app.site(plan).await;
    let issued = app.issue(&site).await;
    (app, site, issued)
}

async fn the_first_valid_verdict_binds(store: Store) {
    let (app, _, issued) = issued(store, "developer").await;
    let body = app.validate(&issued.token, "first").await.ok();
    assert_eq!(
        body,
        json!({
            "valid": true,
            "user_id": 12345,
            "machine_id": "first",
            "expires_at": "2026-11-16T12:00:00Z",
        })
    );
    let second = app.validate(&issued.token, "second").await;
    assert_eq!(second.reason(), "machine_mismatch");
    assert!(app.validate(&issued.token, "first").await.is_valid());
}

async fn machine_ids_are_compared_byte_for_byte(store: Store) {
    let (app, _, issued) = issued(store, "developer").await;
    assert!(app.validate(&issued.token, "e\u{301}").await.is_valid());
    for other in ["\u{e9}", "e\u{301} ", "E\u{301}", "e"] {
        let answer = app.validate(&issued.token, other).await;
        assert_eq!(answer.reason(), "machine_mismatch", "{other:?}");
    }
}

async fn a_token_ends_to_the_second(store: Store) {
    let (app, _, issued) = issued(store, "developer").await;
    app.clock.set_wall(Timestamp::from_micros(
        crate::harness::at(&issued.expires_at).as_micros() - 1,
    ));
    assert!(app.validate(&issued.token, "m").await.is_valid());
    app.set_wall(&issued.expires_at);
    let answer = app.validate(&issued.token, "m").await;
    assert_eq!(answer.reason(), "expired");
    assert_eq!(answer.body["expires_at"], issued.expires_at);
    assert_eq!(answer.body["user_id"], 12345);
}

/// Everything is wrong with the token; what is checked first is mended first.
async fn the_reasons_come_in_their_order(store: Store) {
    let (app, site, issued) = issued(store, "developer").await;
    assert!(app.validate(&issued.token, "bound").await.is_valid());
    app.revoke(&site, &issued.token_id).await.ok();
    app.suspend(&site).await;
    let start = app.now();
    app.set_wall(&issued.expires_at);
    let reason = async |token: &str| {
        let answer = app.validate(token, "another").await;
        answer.reason().to_owned()
    };
    assert_eq!(reason("no.token").await, "malformed");
    let (signed, _) = issued.token.rsplit_once('.').unwrap();
    assert_eq!(reason(&format!("{signed}.AAAA")).await, "bad_signature");
    assert_eq!(reason(&issued.token).await, "expired");
    app.clock.set_wall(start);
    assert_eq!(reason(&issued.token).await, "revoked");
    app.execute("UPDATE tokens SET revoked_at = NULL").await;
    assert_eq!(reason(&issued.token).await, "site_suspended");
    app.resume(&site).await;
    assert_eq!(reason(&issued.token).await, "machine_mismatch");
    app.release(&site, &issued.token_id).await.ok();
    assert!(app.validate(&issued.token, "another").await.is_valid());
    app.execute("DELETE FROM tokens").await;
    assert_eq!(reason(&issued.token).await, "unknown_token");
    app.set_wall(&issued.expires_at);
    assert_eq!(reason(&issued.token).await, "expired");
}

async fn what_is_no_token_is_malformed(store: Store) {
    let (app, _, issued) = issued(store, "developer").await;
    let parts: Vec<_> = issued.token.split('.').collect();
    let [header, claims, signature] = parts[..] else {
        panic!("a token has three parts");
    };
    for token in [
        "x".to_owned(),
        ".".to_owned(),
        "..".to_owned(),
        "é".to_owned(),
        "x".repeat(8192),
        format!(" {}", issued.token),
        format!("{}\n", issued.token),
        format!("{}.", issued.token),
        format!("{header}.{claims}"),
        format!("{header}.{claims}.{signature}="),
        format!("{claims}.{header}.{signature}"),
        format!("{header}.e30.{signature}"),
    ] {
        let answer = app.validate(&token, "m").await;
        assert_eq!(answer.reason(), "malformed", "{token}");
        assert_eq!(answer.body, json!({"valid": false, "reason": "malformed"}));
    }
}

async fn bad_fields_are_named(store: Store) {
    let app = TestApp::start(store).await;
    let validate = async |body: Value| app.post("/mirrory/validate-token").json(&body).send().await;
    let answer = validate(json!({})).await;
    assert_eq!(answer.bad_fields(), ["token", "machine_id"]);
    for token in [
        Value::Null,
        json!(""),
        json!("x".repeat(8193)),
        json!(1),
        json!({}),
    ] {
        let answer = validate(json!({"token": token, "machine_id": "m"})).await;
        assert_eq!(answer.bad_fields(), ["token"]);
    }
    for machine_id in [
        Value::Null,
        json!(""),
        json!("a\tb"),
        json!("x".repeat(257)),
        json!(1),
    ] {
        let answer = validate(json!({"token": "t", "machine_id": machine_id})).await;
        assert_eq!(answer.bad_fields(), ["machine_id"]);
    }
}

async fn only_a_token_of_ours_shows_its_user_and_its_end(store: Store) {
    let (app, site, issued) = issued(store, "developer").await;
    let (signed, _) = issued.token.rsplit_once('.').unwrap();
    let forged = app.validate(&format!("{signed}.AAAA"), "m").await.ok();
    assert_eq!(forged, json!({"valid": false, "reason": "bad_signature"}));
    app.revoke(&site, &issued.token_id).await.ok();
    let expected = |reason: &str| {
        json!({
            "valid": false,
            "reason": reason,
            "user_id": 12345,
            "expires_at": issued.expires_at,
        })
    };
    assert_eq!(
        app.validate(&issued.token, "m").await.ok(),
        expected("revoked")
    );
    app.execute("UPDATE tokens SET revoked_at = NULL").await;
    app.suspend(&site).await;
    let answer = app.validate(&issued.token, "m").await.ok();
    assert_eq!(answer, expected("site_suspended"));
    app.delete(&site).await;
    assert_eq!(
        app.validate(&issued.token, "m").await.ok(),
        expected("revoked")
    );
    app.set_wall(&issued.expires_at);
    assert_eq!(
        app.validate(&issued.token, "m").await.ok(),
        expected("expired")
    );
    // Without a record nothing agrees.
    app.execute("DELETE FROM tokens").await;
    let answer = app.validate(&issued.token, "m").await.ok();
    assert_eq!(answer, json!({"valid": false, "reason": "expired"}));
}

async fn the_bound_machine_is_not_told_to_another(store: Store) {
    let (app, _, issued) = issued(store, "developer").await;
    app.validate(&issued.token, "the-secret-machine").await.ok();
    let answer = app.validate(&issued.token, "another").await;
    assert_eq!(
        answer.clone().ok(),
        json!({
            "valid": false,
            "reason": "machine_mismatch",
            "user_id": 12345,
            "expires_at": issued.expires_at,
        })
    );
    let whole = format!("{:?}{:?}", answer.headers, answer.bytes);
    assert!(!whole.contains("the-secret-machine"));
}

async fn nothing_but_a_valid_verdict_is_charged(store: Store) {
    let (app, site, issued) = issued(store, "developer").await;
    assert_eq!(app.used(&site).await, (1, 1));
    app.validate(&issued.token, "m").await.ok();
    assert_eq!(app.used(&site).await, (2, 2));
    app.validate(&issued.token, "another").await.ok();
    app.validate("no token", "m").await.ok();
    app.revoke(&site, &issued.token_id).await.ok();
    app.validate(&issued.token, "m").await.ok();
    assert_eq!(app.used(&site).await, (2, 2));
}

async fn a_refusal_is_told_when_the_quota_is_used_up(store: Store) {
    let (app, site, issued) = issued(store, "free").await;
    for _ in 0..4 {
        assert!(app.validate(&issued.token, "m").await.is_valid());
    }
    let answer = app.validate(&issued.token, "m").await;
    assert_eq!(answer.problem(), (429, "quota_exceeded"));
    let answer = app.validate(&issued.token, "another").await;
    assert_eq!(answer.reason(), "machine_mismatch");
    app.suspend(&site).await;
    let answer = app.validate(&issued.token, "m").await;
    assert_eq!(answer.reason(), "site_suspended");
    assert_eq!(app.validate("x", "m").await.reason(), "malformed");
}

async fn a_refused_charge_binds_nothing(store: Store) {
    let (app, site, issued) = issued(store, "free").await;
    for _ in 0..4 {
        app.issue(&site).await;
    }
    let answer = app.validate(&issued.token, "too-early").await;
    assert_eq!(answer.problem(), (429, "quota_exceeded"));
    app.set_wall("2026-11-16T00:00:00Z");
    assert!(app.validate(&issued.token, "first").await.is_valid());
}

async fn a_token_of_a_swept_record_is_unknown(store: Store) {
    let (app, _, issued) = issued(store, "free").await;
    app.background.janitor.round().await.unwrap();
    app.advance(Duration::from_hours(24) + Duration::from_hours(30 * 24));
    app.background.janitor.round().await.unwrap();
    app.set_wall("2026-11-15T12:00:00Z");
    let answer = app.validate(&issued.token, "m").await;
    assert_eq!(answer.reason(), "unknown_token");
    assert_eq!(
        answer.body,
        json!({"valid": false, "reason": "unknown_token"})
    );
}

async fn verdicts_carry_no_word_of_the_quota(store: Store) {
    let (app, _, issued) = issued(store, "free").await;
    for _ in 0..6 {
        let answer = app.validate(&issued.token, "m").await;
        assert_eq!(answer.header("ratelimit"), None);
        assert_eq!(answer.header("ratelimit-policy"), None);
    }
    let answer = app.validate(&issued.token, "another").await;
    assert_eq!(answer.header("ratelimit"), None);
}

async fn a_valid_verdict_is_noted_as_the_last_use_once_a_minute(store: Store) {
    let (app, _, issued) = issued(store, "developer").await;
    let bound_at = app.now();
    assert!(app.validate(&issued.token, "m").await.is_valid());
    for (seconds, expected) in [(59, 0), (1, 60), (59, 60), (30, 149)] {
        app.advance(Duration::from_secs(seconds));
        assert!(app.validate(&issued.token, "m").await.is_valid());
        assert_eq!(
            app.validate(&issued.token, "n").await.reason(),
            "machine_mismatch"
        );
        app.state.tokens.flush_uses().await.unwrap();
        let last_use = app.number("SELECT last_validated_at FROM tokens").await;
        let expected = bound_at.after(Duration::from_secs(expected));
        assert_eq!(last_use, expected.as_micros());
    }
}
