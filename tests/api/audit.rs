//! The audit log: what is written, with what, by whom it is seen, and that no change is without it.

mod listing;
mod strangers;

use std::time::Duration;

use mirrory::keys::Algorithm;
use serde_json::{Value, json};

use crate::harness::{Answer, Manager, Store, TestApp, TestSite};

on_both_stores! {
    a_change_of_a_site_is_told_with_all_that_was_changed,
    what_changes_nothing_is_not_told,
    a_script_is_told_with_its_account,
    a_proxy_and_an_operator_are_told,
    a_change_and_its_row_are_one,
    no_row_has_a_secret_in_it,
}

const LOG: &str = "/api/v1/audit-log";

async fn rows(app: &TestApp, by: &Manager, query: &str) -> Vec<Value> {
    app.background.tally.flush().await.unwrap();
    let rows = app.see(by, &format!("{LOG}?{query}")).await.ok();
    rows.as_array().unwrap().clone()
}

fn events(rows: &[Value]) -> Vec<&str> {
    rows.iter()
        .map(|row| row["event"].as_str().unwrap())
        .collect()
}

async fn change(app: &TestApp, by: &Manager, site: &TestSite, body: Value) -> Answer {
    let path = format!("/api/v1/sites/{}", site.id);
    app.ask(&by.session, "PATCH", &path, body).await
}

async fn a_change_of_a_site_is_told_with_all_that_was_changed(store: Store) {
    let app = TestApp::start(store).await;
    let root = app.admin("root").await;
    let site = app.site_of(&root).await;
    let path = format!("/api/v1/sites/{}", site.id);
    app.advance(Duration::from_secs(1));
    let call = app.signed_in(&root.session, "PATCH", &path);
    let body = json!({"name": "Other", "plan": "developer", "status": "suspended"});
    let call = call
        .header("user-agent", "a browser")
        .peer("198.51.100.7:1");
    call.json(&body).send().await.ok();
    change(&app, &root, &site, json!({"status": "active"}))
        .await
        .ok();
    let rotate = format!("{path}/rotate-secret");
    let body = json!({"grace_seconds": 60});
    app.ask(&root.session, "POST", &rotate, body).await.ok();
    app.signed_in(&root.session, "DELETE", &path)
        .send()
        .await
        .ok();

    let mut rows = rows(&app, &root, &format!("site={}", site.id)).await;
    // Rows of one moment come in any order.
    rows.sort_by_key(|row| {
        (
            row["time"].to_string(),
            row["event"].to_string(),
            row["detail"].to_string(),
        )
    });
    let told: Vec<_> = rows
        .iter()
        .map(|row| (row["event"].as_str().unwrap(), row["detail"].clone()))
        .collect();
    let owner = root.person.id.to_string();
    let expected = [
        (
            "site.created",
            json!({"name": "a shop", "plan": "free", "owner": owner}),
        ),
        ("secret.rotated", json!({"grace_seconds": 60})),
        ("site.deleted", json!({})),
        ("site.suspended", json!({})),
        (
            "site.updated",
            json!({
                "name": {"from": "a shop", "to": "Other"},
                "plan": {"from": "free", "to": "developer"},
            }),
        ),
        (
            "site.updated",
            json!({"status": {"from": "suspended", "to": "active"}}),
        ),
    ];
    assert_eq!(told, expected);
    let suspended = &rows[3];
    let expected = json!({
        "id": suspended["id"],
        "time": "2026-11-15T12:00:01Z",
        "event": "site.suspended",
        "actor": {"kind": "account", "id": owner, "account_id": owner},
        "subject": site.id.to_string(),
        "site_id": site.id.to_string(),
        "account_id": null,
        "address": "198.51.100.7",
        "user_agent": "a browser",
        "outcome": "success",
        "detail": {},
        "count": 1,
    });
    assert_eq!(*suspended, expected);
}

async fn what_changes_nothing_is_not_told(store: Store) {
    let app = TestApp::start(store).await;
    let root = app.admin("root").await;
    let site = app.site_of(&root).await;
    let body = json!({"name": "a shop", "plan": "free", "status": "active", "url": null});
    change(&app, &root, &site, body).await.ok();
    change(&app, &root, &site, json!({"plan": "nonsense"})).await;
    let rows = rows(&app, &root, &format!("site={}", site.id)).await;
    assert_eq!(events(&rows), ["site.created"]);
}

async fn a_script_is_told_with_its_account(store: Store) {
    let app = TestApp::start(store).await;
    let ada = app.manager("ada").await;
    let script = app.script(&ada, &["sites:write"]).await;
    let call = app.scripted(&script, "POST", "/api/v1/sites");
    let made = call.json(&json!({"name": "Shop"})).send().await;
    assert_eq!(made.status, 201);
    let rows = rows(&app, &ada, "event=site.created").await;
    let actor = &rows[0]["actor"];
    assert_eq!(actor["kind"], "api_token");
    assert_eq!(actor["account_id"], ada.person.id.to_string());
    let tokens = app.see(&ada, "/api/v1/api-tokens").await.ok();
    assert_eq!(actor["id"], tokens[0]["id"]);
}

async fn a_proxy_and_an_operator_are_told(store: Store) {
    let app = TestApp::start(store).await;
    let root = app.admin("root").await;
    let site = app.site("free").await;
    let issued = app.issue(&site).await;
    assert!(app.validate(&issued.token, "m").await.is_valid());
    app.release(&site, &issued.token_id).await.ok();
    app.revoke(&site, &issued.token_id).await.ok();
    app.advance(Duration::from_secs(1));
    let kid = app.rotate_key(Algorithm::HS256).await;
    app.revoke_key(&kid).await;
    for (event, kind, subject) in [
        ("machine.released", "site", issued.token_id.clone()),
        ("token.revoked", "site", issued.token_id.clone()),
        ("site.created", "operator", site.id.to_string()),
        ("key.rotated", "operator", kid.to_string()),
        ("key.revoked", "operator", kid.to_string()),
    ] {
        let rows = rows(&app, &root, &format!("event={event}")).await;
        assert_eq!(rows[0]["actor"]["kind"], kind, "{event}");
        assert_eq!(rows[0]["subject"], subject, "{event}");
        if kind == "site" {
            assert_eq!(rows[0]["actor"]["id"], site.id.to_string());
            assert_eq!(rows[0]["site_id"], site.id.to_string());
        }
    }
}

/// Makes the audit log refuse every row that is not counted, or takes that back.
async fn refuse_rows(app: &TestApp, store: Store) {
    app.execute(match store {
        Store::Sqlite => {
            "CREATE TRIGGER refuse BEFORE INSERT ON audit_log \
             BEGIN SELECT RAISE(ABORT, 'refused'); END"
        }
        Store::Postgres => {
            "ALTER TABLE audit_log ADD CONSTRAINT refuse CHECK (count > 1) NOT VALID"
        }
    })
    .await;
}

async fn a_change_and_its_row_are_one(store: Store) {
    let app = TestApp::start(store).await;
    let root = app.admin("root").await;
    let site = app.site_of(&root).await;
    let issued = app.issue(&site).await;
    assert!(app.validate(&issued.token, "m").await.is_valid());
    let path = format!("/api/v1/sites/{}", site.id);
    let before = app.see(&root, &path).await.ok();
    refuse_rows(&app, store).await;
    let token = format!("{path}/tokens/{}", issued.token_id);
    for (method, path, body) in [
        ("POST", "/api/v1/sites".to_owned(), json!({"name": "Shop"})),
        (
            "PATCH",
            path.clone(),
            json!({"name": "Other", "status": "suspended"}),
        ),
        ("DELETE", path.clone(), json!({})),
        (
            "POST",
            format!("{path}/rotate-secret"),
            json!({"grace_seconds": 0}),
        ),
        ("POST", format!("{token}/revoke"), json!({})),
        ("POST", format!("{token}/release"), json!({})),
    ] {
        let answer = app.ask(&root.session, method, &path, body).await;
        assert_eq!(answer.problem(), (500, "internal_error"), "{method} {path}");
    }
    for path in ["/mirrory/revoke-token", "/mirrory/release-machine"] {
        let body = json!({"token_id": issued.token_id, "proxy_secret": site.secret});
        assert_eq!(
            app.post(path).json(&body).send().await.status,
            500,
            "{path}"
        );
    }
    app.tick().await;
    assert_eq!(app.see(&root, &path).await.ok(), before);
    assert_eq!(app.see(&root, "/api/v1/sites").await.ok(), json!([before]));
    app.issue(&site).await;
    assert!(app.validate(&issued.token, "m").await.is_valid());
    assert_eq!(
        app.validate(&issued.token, "n").await.reason(),
        "machine_mismatch"
    );
}

async fn no_row_has_a_secret_in_it(store: Store) {
    let app = TestApp::start(store).await;
    let (ada, root) = (app.manager("ada").await, app.admin("root").await);
    let site = app.site_of(&ada).await;
    let script = app.script(&ada, &["sites:read"]).await;
    let issued = app.issue(&site).await;
    assert!(app.validate(&issued.token, "m").await.is_valid());
    app.validate(&issued.token, "n").await;
    let path = format!("/api/v1/sites/{}/rotate-secret", site.id);
    let rotated = app.ask(&ada.session, "POST", &path, json!({})).await.ok();
    app.background.tally.flush().await.unwrap();
    let log = app.see(&root, LOG).await;
    let log = String::from_utf8(log.bytes.to_vec()).unwrap();
    let renewed = rotated["proxy_secret"].as_str().unwrap();
    for secret in [
        crate::harness::PASSWORD,
        &ada.session.access_token,
        &ada.session.refresh_token,
        &script,
        &site.secret,
        renewed,
        &issued.token,
    ] {
        assert!(!log.contains(secret), "{secret}");
    }
}
