//! Sites and their secrets, as far as a caller notices: suspension, deletion, rotation, and the
//! secret of the operator's own choosing.

use std::time::Duration;

use serde_json::json;

use crate::harness::{Answer, Store, TestApp, TestSite};

on_both_stores! {
    a_secret_has_the_published_form,
    whichever_part_of_a_secret_is_wrong_the_answer_is_the_same,
    a_suspended_site_is_refused_until_it_is_resumed,
    a_deleted_site_is_gone_at_once,
    an_old_secret_is_good_for_its_grace,
    an_old_secret_without_grace_ends_at_once,
    grace_is_a_week_at_most,
    a_second_rotation_ends_all_but_the_newest_old_secret,
    secrets_that_end_at_once_end_for_a_clock_that_is_behind,
    a_rotation_leaves_tokens_and_quota_alone,
    the_configured_secret_is_one_of_the_site_default,
    the_configured_secret_survives_rotation,
    the_configured_secret_ends_with_its_setting,
    the_configured_secret_ends_with_its_site,
}

const WRONG: (u16, &str) = (401, "invalid_proxy_secret");

async fn a_secret_has_the_published_form(store: Store) {
    let app = TestApp::start(store).await;
    let site = app.site("free").await;
    let encoded = site.secret.strip_prefix("mps_").unwrap();
    assert_eq!(encoded.len(), 84);
    let symbols = "0123456789abcdefghjkmnpqrstvwxyz";
    assert!(encoded.chars().all(|symbol| symbols.contains(symbol)));
}

async fn whichever_part_of_a_secret_is_wrong_the_answer_is_the_same(store: Store) {
    let app = TestApp::start(store).await;
    let (site, other) = (app.site("free").await, app.site("free").await);
    let another = TestApp::start(store).await.site("free").await;
    let changed = |index: usize| {
        let mut text = site.secret.clone().into_bytes();
        text[index] = if text[index] == b'0' { b'1' } else { b'0' };
        String::from_utf8(text).unwrap()
    };
    let mut bodies = Vec::new();
    for secret in [
        changed(0),
        changed(4),
        changed(40),
        changed(87),
        site.secret[..87].to_owned(),
        format!("{}0", site.secret),
        another.secret,
        "default".to_owned(),
    ] {
        let call = app
            .post("/mirrory/generate-token")
            .header("x-request-id", "same");
        let body = json!({"wp_user_id": 1, "proxy_secret": secret});
        let answer = call.json(&body).send().await;
        assert_eq!(answer.problem(), WRONG, "{secret}");
        let text = String::from_utf8(answer.bytes.to_vec()).unwrap();
        assert!(!text.contains(&secret));
        bodies.push(text);
    }
    bodies.dedup();
    assert_eq!(bodies.len(), 1);
    assert_eq!(app.generate_for(&other).await.status, 200);
}

async fn a_suspended_site_is_refused_until_it_is_resumed(store: Store) {
    let app = TestApp::start(store).await;
    let site = app.site("free").await;
    let issued = app.issue(&site).await;
    app.suspend(&site).await;
    let answer = app.generate_for(&site).await;
    assert_eq!(answer.problem(), (403, "site_suspended"));
    let answer = app.validate(&issued.token, "m").await;
    assert_eq!(answer.reason(), "site_suspended");
    app.resume(&site).await;
    app.issue(&site).await;
    assert!(app.validate(&issued.token, "m").await.is_valid());
}

async fn a_deleted_site_is_gone_at_once(store: Store) {
    let app = TestApp::start(store).await;
    let (site, other) = (app.site("free").await, app.site("free").await);
    let issued = app.issue(&site).await;
    app.delete(&site).await;
    assert_eq!(app.generate_for(&site).await.problem(), WRONG);
    assert_eq!(app.revoke(&site, &issued.token_id).await.problem(), WRONG);
    assert_eq!(app.validate(&issued.token, "m").await.reason(), "revoked");
    app.issue(&other).await;
    app.background.janitor.round().await.unwrap();
    assert_eq!(app.generate_for(&site).await.problem(), WRONG);
    assert_eq!(app.validate(&issued.token, "m").await.reason(), "revoked");
}

async fn an_old_secret_is_good_for_its_grace(store: Store) {
    let app = TestApp::start(store).await;
    let site = app.site("developer").await;
    let (renewed, rotated) = app.rotate_secret(&site, Duration::from_hours(24)).await;
    let ends = rotated.previous_expires_at.unwrap().to_string();
    assert_eq!(ends, "2026-11-16T12:00:00Z");
    app.issue(&site).await;
    app.issue(&renewed).await;
    app.advance(Duration::from_hours(24) - Duration::from_micros(1));
    app.issue(&site).await;
    app.advance(Duration::from_micros(1));
    assert_eq!(app.generate_for(&site).await.problem(), WRONG);
    app.issue(&renewed).await;
    app.background.janitor.round().await.unwrap();
    assert_eq!(app.generate_for(&site).await.problem(), WRONG);
    app.issue(&renewed).await;
}

async fn an_old_secret_without_grace_ends_at_once(store: Store) {
    let app = TestApp::start(store).await;
    let site = app.site("free").await;
    let (renewed, _) = app.rotate_secret(&site, Duration::ZERO).await;
    assert_eq!(app.generate_for(&site).await.problem(), WRONG);
    app.issue(&renewed).await;
}

async fn grace_is_a_week_at_most(store: Store) {
    let app = TestApp::start(store).await;
    let site = app.site("free").await;
    let (_, rotated) = app
        .rotate_secret(&site, Duration::from_hours(24 * 365))
        .await;
    let ends = rotated.previous_expires_at.unwrap().to_string();
    assert_eq!(ends, "2026-11-22T12:00:00Z");
    app.set_wall("2026-11-22T11:59:59Z");
    app.issue(&site).await;
    app.set_wall(&ends);
    assert_eq!(app.generate_for(&site).await.problem(), WRONG);
}

async fn a_second_rotation_ends_all_but_the_newest_old_secret(store: Store) {
    let app = TestApp::start(store).await;
    let first = app.site("developer").await;
    let grace = Duration::from_hours(24);
    let (second, _) = app.rotate_secret(&first, grace).await;
    app.advance(Duration::from_hours(1));
    let (third, _) = app.rotate_secret(&first, grace).await;
    assert_eq!(app.generate_for(&first).await.problem(), WRONG);
    app.issue(&second).await;
    app.issue(&third).await;
    app.advance(Duration::from_secs(24 * 60 * 60 - 1));
    app.issue(&second).await;
    app.advance(Duration::from_secs(1));
    assert_eq!(app.generate_for(&second).await.problem(), WRONG);
    app.issue(&third).await;
}

async fn secrets_that_end_at_once_end_for_a_clock_that_is_behind(store: Store) {
    let app = TestApp::start(store).await;
    let behind = app.another().await;
    behind
        .clock
        .set_wall(app.now().before(Duration::from_secs(4)));
    let first = app.site("developer").await;
    let (second, _) = app.rotate_secret(&first, Duration::from_hours(1)).await;
    assert_eq!(behind.generate_for(&first).await.status, 200);
    let (third, _) = app.rotate_secret(&first, Duration::from_hours(1)).await;
    assert_eq!(behind.generate_for(&first).await.problem(), WRONG);
    assert_eq!(behind.generate_for(&second).await.status, 200);
    let (newest, _) = app.rotate_secret(&first, Duration::ZERO).await;
    for ended in [&first, &second, &third] {
        assert_eq!(behind.generate_for(ended).await.problem(), WRONG);
    }
    assert_eq!(behind.generate_for(&newest).await.status, 200);
}

async fn a_rotation_leaves_tokens_and_quota_alone(store: Store) {
    let app = TestApp::start(store).await;
    let site = app.site("free").await;
    let issued = app.issue(&site).await;
    let (renewed, _) = app.rotate_secret(&site, Duration::ZERO).await;
    assert!(app.validate(&issued.token, "m").await.is_valid());
    assert_eq!(app.used(&site).await, (2, 2));
    app.release(&renewed, &issued.token_id).await.ok();
    assert!(app.validate(&issued.token, "another").await.is_valid());
}

const CHOSEN: &str = "a secret of my own choosing";
const BOOTSTRAP: [(&str, &str); 2] = [
    ("bootstrap.proxy_secret", CHOSEN),
    ("bootstrap.plan", "developer"),
];

async fn with_chosen(app: &TestApp, secret: &str) -> Answer {
    app.generate(json!({"wp_user_id": 1, "proxy_secret": secret}))
        .await
}

async fn default_site(app: &TestApp) -> TestSite {
    let sites = app.state.sites.list().await.unwrap();
    let mut sites = sites.into_iter().filter(|site| site.name == "default");
    let site = sites.next().expect("there is a site `default`");
    assert!(sites.next().is_none());
    TestSite {
        id: site.id,
        secret: CHOSEN.to_owned(),
    }
}

async fn the_configured_secret_is_one_of_the_site_default(store: Store) {
    let app = TestApp::with(store, &BOOTSTRAP).await;
    let answer = with_chosen(&app, CHOSEN).await;
    let policy = answer.header("ratelimit-policy").unwrap();
    assert!(policy.starts_with("\"day\";q=20;"));
    let issued = answer.issued();
    assert!(app.validate(&issued.token, "m").await.is_valid());
    let site = default_site(&app).await;
    app.revoke(&site, &issued.token_id).await.ok();
    assert_eq!(app.validate(&issued.token, "m").await.reason(), "revoked");
    for wrong in [
        &CHOSEN[1..],
        "A secret of my own choosing",
        "a secret of my own choosing ",
    ] {
        assert_eq!(with_chosen(&app, wrong).await.problem(), WRONG);
    }
    app.suspend(&site).await;
    assert_eq!(
        with_chosen(&app, CHOSEN).await.problem(),
        (403, "site_suspended")
    );
    // It is made once, and keeps what the operator changed.
    let again = app.restarted(&BOOTSTRAP).await;
    assert_eq!(default_site(&again).await.id, site.id);
    assert_eq!(with_chosen(&again, CHOSEN).await.status, 403);
}

async fn the_configured_secret_survives_rotation(store: Store) {
    let app = TestApp::with(store, &BOOTSTRAP).await;
    let site = default_site(&app).await;
    let (first, rotated) = app.rotate_secret(&site, Duration::ZERO).await;
    assert_eq!(rotated.previous_expires_at, None);
    let (second, _) = app.rotate_secret(&site, Duration::ZERO).await;
    assert_eq!(app.generate_for(&first).await.problem(), WRONG);
    app.issue(&second).await;
    with_chosen(&app, CHOSEN).await.ok();
}

async fn the_configured_secret_ends_with_its_setting(store: Store) {
    let app = TestApp::with(store, &BOOTSTRAP).await;
    with_chosen(&app, CHOSEN).await.ok();
    let without = app.restarted(&[]).await;
    assert_eq!(with_chosen(&without, CHOSEN).await.problem(), WRONG);
    let other = [("bootstrap.proxy_secret", "another secret altogether")];
    let other = app.restarted(&other).await;
    assert_eq!(with_chosen(&other, CHOSEN).await.problem(), WRONG);
    with_chosen(&other, "another secret altogether").await.ok();
}

async fn the_configured_secret_ends_with_its_site(store: Store) {
    let app = TestApp::with(store, &BOOTSTRAP).await;
    let site = default_site(&app).await;
    app.delete(&site).await;
    assert_eq!(with_chosen(&app, CHOSEN).await.problem(), WRONG);
}
