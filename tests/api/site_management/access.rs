//! Who gets to a site, with which credential.

use serde_json::json;

use super::{SITES, path};
use crate::harness::{Store, TestApp};

on_both_stores! {
    anothers_site_is_not_found_whatever_is_asked,
    a_script_does_what_its_scopes_say,
    no_credential_is_refused,
}

async fn anothers_site_is_not_found_whatever_is_asked(store: Store) {
    let app = TestApp::start(store).await;
    let (ada, bob) = (app.manager("ada").await, app.manager("bob").await);
    let site = app.site_of(&ada).await;
    let issued = app.issue(&site).await;
    let of_none = path(&app.site("free").await);
    let nowhere = format!("{SITES}/site_00000000000000000000000000");
    let no_id = format!("{SITES}/nonsense");
    for one in [path(&site), of_none, nowhere, no_id] {
        let token = format!("/tokens/{}", issued.token_id);
        for (method, path) in [
            ("GET", one.clone()),
            ("PATCH", one.clone()),
            ("DELETE", one.clone()),
            ("POST", format!("{one}/rotate-secret")),
            ("GET", format!("{one}/usage")),
            ("GET", format!("{one}/tokens")),
            ("POST", format!("{one}{token}/revoke")),
            ("POST", format!("{one}{token}/release")),
        ] {
            let body = if method == "PATCH" {
                json!({"plan": "free"})
            } else {
                json!({})
            };
            let answer = app.ask(&bob.session, method, &path, body).await;
            assert_eq!(answer.problem(), (404, "not_found"), "{method} {path}");
        }
    }
    app.issue(&site).await;
    assert!(app.validate(&issued.token, "m").await.is_valid());
}

async fn a_script_does_what_its_scopes_say(store: Store) {
    let app = TestApp::start(store).await;
    let ada = app.manager("ada").await;
    let site = app.site_of(&ada).await;
    let issued = app.issue(&site).await;
    let one = path(&site);
    let token = format!("{one}/tokens/{}", issued.token_id);
    let calls = [
        ("sites:read", "GET", SITES.to_owned(), 200),
        ("sites:read", "GET", one.clone(), 200),
        ("sites:read", "GET", "/api/v1/plans".to_owned(), 200),
        ("sites:write", "POST", SITES.to_owned(), 422),
        ("sites:write", "PATCH", one.clone(), 200),
        ("sites:write", "POST", format!("{one}/rotate-secret"), 200),
        ("usage:read", "GET", format!("{one}/usage"), 200),
        ("tokens:read", "GET", format!("{one}/tokens"), 200),
        ("tokens:write", "POST", format!("{token}/release"), 200),
        ("tokens:write", "POST", format!("{token}/revoke"), 200),
        ("audit:read", "GET", "/api/v1/audit-log".to_owned(), 200),
        ("sites:write", "DELETE", one.clone(), 200),
    ];
    let scopes = [
        "sites:read",
        "sites:write",
        "tokens:read",
        "tokens:write",
        "usage:read",
        "audit:read",
    ];
    for (scope, method, path, status) in calls {
        let others: Vec<_> = scopes.into_iter().filter(|other| *other != scope).collect();
        let script = app.script(&ada, &others).await;
        let call = app.scripted(&script, method, &path);
        let answer = call.json(&json!({})).send().await;
        assert_eq!(
            answer.problem(),
            (403, "insufficient_scope"),
            "{method} {path}"
        );
        let detail = answer.body["detail"].as_str().unwrap();
        assert!(detail.contains(scope), "{detail}");
        let script = app.script(&ada, &[scope]).await;
        let call = app.scripted(&script, method, &path);
        let answer = call.json(&json!({})).send().await;
        assert_eq!(answer.status, status, "{method} {path} {}", answer.body);
    }
}

async fn no_credential_is_refused(store: Store) {
    let app = TestApp::start(store).await;
    let ada = app.manager("ada").await;
    let site = app.site_of(&ada).await;
    let one_hour = app.one_hour(&ada.person).await;
    for (method, path) in [
        ("GET", SITES.to_owned()),
        ("POST", SITES.to_owned()),
        ("GET", path(&site)),
        ("PATCH", path(&site)),
        ("DELETE", path(&site)),
        ("POST", format!("{}/rotate-secret", path(&site))),
        ("GET", format!("{}/usage", path(&site))),
        ("GET", format!("{}/tokens", path(&site))),
        ("GET", "/api/v1/plans".to_owned()),
        ("GET", "/api/v1/audit-log".to_owned()),
    ] {
        let answer = app.request(method, &path).json(&json!({})).send().await;
        assert_eq!(answer.problem(), (401, "unauthorized"), "{method} {path}");
        let secret = format!("Bearer {}", site.secret);
        let call = app.request(method, &path).header("authorization", secret);
        assert_eq!(
            call.json(&json!({})).send().await.status,
            401,
            "{method} {path}"
        );
        if method == "GET" {
            let bare = app
                .request(method, &path)
                .header("authorization", &one_hour);
            bare.send().await.ok();
        }
    }
}
