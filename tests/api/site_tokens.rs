//! A site's tokens, as those see and change them who run it.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Issued, Store, TestApp, TestSite};

on_both_stores! {
    tokens_are_told_without_the_jwt,
    tokens_are_told_the_newest_first_page_by_page,
    tokens_are_found_by_user_and_by_state,
    a_revoked_token_is_never_valid_again,
    a_released_token_is_bound_anew,
    a_token_of_another_site_is_not_found,
}

fn path(site: &TestSite) -> String {
    format!("/api/v1/sites/{}/tokens", site.id)
}

async fn issue_for(app: &TestApp, site: &TestSite, user_id: u32) -> Issued {
    let body = json!({"wp_user_id": user_id, "proxy_secret": site.secret});
    app.generate(body).await.issued()
}

async fn tokens_are_told_without_the_jwt(store: Store) {
    let app = TestApp::start(store).await;
    let ada = app.manager("ada").await;
    let site = app.site_of(&ada).await;
    let issued = app.issue(&site).await;
    assert!(app.validate(&issued.token, "my laptop").await.is_valid());
    let answer = app.see(&ada, &path(&site)).await;
    let text = String::from_utf8(answer.bytes.to_vec()).unwrap();
    assert!(!text.contains(&issued.token) && !text.contains("eyJ"));
    let mut told = answer.ok();
    told[0]["last_validated_at"].take();
    let expected = json!([{
        "token_id": issued.token_id,
        "site_id": site.id.to_string(),
        "user_id": 12345,
        "state": "active",
        "machine_id": "my laptop",
        "last_validated_at": null,
        "coins": 200,
        "issued_at": "2026-11-15T12:00:00Z",
        "expires_at": issued.expires_at,
    }]);
    assert_eq!(told, expected);
}

async fn tokens_are_told_the_newest_first_page_by_page(store: Store) {
    let app = TestApp::start(store).await;
    let root = app.admin("root").await;
    let (site, other) = (app.site("professional").await, app.site("free").await);
    let mut issued = Vec::new();
    for _ in 0..5 {
        app.advance(Duration::from_secs(1));
        issued.push(json!(app.issue(&site).await.token_id));
        issue_for(&app, &other, 1).await;
    }
    issued.reverse();
    let (rows, lengths) = app.pages(&root, &format!("{}?limit=2", path(&site))).await;
    assert_eq!(lengths, [2, 2, 1]);
    let ids: Vec<_> = rows.iter().map(|row| row["token_id"].clone()).collect();
    assert_eq!(ids, issued);
}

async fn tokens_are_found_by_user_and_by_state(store: Store) {
    let app = TestApp::with(store, &[("tokens.ttl_seconds", "60")]).await;
    let ada = app.manager("ada").await;
    let site = app.site_of(&ada).await;
    let expired = issue_for(&app, &site, 7).await;
    app.advance(Duration::from_mins(1));
    let revoked = issue_for(&app, &site, 7).await;
    let active = issue_for(&app, &site, 8).await;
    app.revoke(&site, &revoked.token_id).await.ok();
    let found = async |query: &str| {
        let rows = app
            .see(&ada, &format!("{}?{query}", path(&site)))
            .await
            .ok();
        let rows = rows.as_array().unwrap().clone();
        let mut ids: Vec<Value> = rows.iter().map(|row| row["token_id"].clone()).collect();
        ids.sort_by_key(Value::to_string);
        (ids, rows)
    };
    let sorted = |tokens: &[&Issued]| {
        let mut ids: Vec<_> = tokens.iter().map(|token| json!(token.token_id)).collect();
        ids.sort_by_key(Value::to_string);
        ids
    };
    for (query, expected) in [
        ("user_id=7", sorted(&[&expired, &revoked])),
        ("user_id=8", sorted(&[&active])),
        ("user_id=9", Vec::new()),
        ("state=active", sorted(&[&active])),
        ("state=expired", sorted(&[&expired])),
        ("state=revoked", sorted(&[&revoked])),
        ("state=revoked&user_id=8", Vec::new()),
        ("state=expired&user_id=7", sorted(&[&expired])),
    ] {
        let (ids, rows) = found(query).await;
        assert_eq!(ids, expected, "{query}");
        if let Some(state) = query.strip_prefix("state=") {
            let state = state.split('&').next().unwrap();
            assert!(rows.iter().all(|row| row["state"] == state), "{query}");
        }
    }
    let answer = app
        .see(&ada, &format!("{}?user_id=0&state=gone", path(&site)))
        .await;
    assert_eq!(answer.bad_fields(), ["user_id", "state"]);
}

async fn a_revoked_token_is_never_valid_again(store: Store) {
    let app = TestApp::start(store).await;
    let ada = app.manager("ada").await;
    let site = app.site_of(&ada).await;
    let issued = app.issue(&site).await;
    let revoke = async || {
        let path = format!("{}/{}/revoke", path(&site), issued.token_id);
        let revoked = app.signed_in(&ada.session, "POST", &path).send().await;
        assert_eq!(revoked.ok(), json!({}));
    };
    revoke().await;
    app.tick().await;
    assert_eq!(app.validate(&issued.token, "m").await.reason(), "revoked");
    revoke().await;
    let rows = app.audit().await;
    assert!(
        rows.contains(&"account token.revoked success 1".to_owned()),
        "{rows:?}"
    );
    assert_eq!(
        rows.iter()
            .filter(|row| row.contains("token.revoked"))
            .count(),
        1
    );
}

async fn a_released_token_is_bound_anew(store: Store) {
    let app = TestApp::start(store).await;
    let root = app.admin("root").await;
    let site = app.site("free").await;
    let issued = app.issue(&site).await;
    assert!(app.validate(&issued.token, "old").await.is_valid());
    let path = format!("{}/{}/release", path(&site), issued.token_id);
    app.signed_in(&root.session, "POST", &path)
        .send()
        .await
        .ok();
    app.tick().await;
    assert!(app.validate(&issued.token, "new").await.is_valid());
    assert_eq!(
        app.validate(&issued.token, "old").await.reason(),
        "machine_mismatch"
    );
}

async fn a_token_of_another_site_is_not_found(store: Store) {
    let app = TestApp::start(store).await;
    let (ada, bob) = (app.manager("ada").await, app.manager("bob").await);
    let (site, other) = (app.site_of(&ada).await, app.site_of(&bob).await);
    let issued = app.issue(&other).await;
    assert!(app.validate(&issued.token, "m").await.is_valid());
    for token_id in [
        &issued.token_id,
        "019abf3e-7d2a-7c64-9a51-3f0e8a6b1c2d",
        "x",
    ] {
        for what in ["revoke", "release"] {
            let path = format!("{}/{token_id}/{what}", path(&site));
            let answer = app.signed_in(&ada.session, "POST", &path).send().await;
            assert_eq!(answer.problem(), (404, "not_found"), "{path}");
        }
    }
    app.tick().await;
    assert!(app.validate(&issued.token, "m").await.is_valid());
}
