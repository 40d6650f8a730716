//! Who sees which rows, and for how long.

use std::time::Duration;

use serde_json::{Value, json};

use super::{LOG, change, events, rows};
use crate::harness::{Manager, Store, TestApp};

on_both_stores! {
    an_owner_sees_its_own_account_and_sites_and_an_admin_all,
    an_owner_sees_that_its_site_was_deleted,
    an_owner_does_not_see_where_another_account_called_from,
    rows_are_found_by_event_site_and_time,
    rows_are_told_page_by_page,
    bad_filters_are_refused,
    rows_are_kept_as_long_as_is_configured,
}

fn sorted_events(rows: &[Value]) -> Vec<&str> {
    let mut events = events(rows);
    events.sort_unstable();
    events
}

async fn an_owner_sees_its_own_account_and_sites_and_an_admin_all(store: Store) {
    let app = TestApp::start(store).await;
    let (ada, bob) = (app.manager("ada").await, app.manager("bob").await);
    let root = app.admin("root").await;
    let site = app.site_of(&ada).await;
    app.site_of(&bob).await;
    app.site("free").await;
    let issued = app.issue(&site).await;
    app.revoke(&site, &issued.token_id).await.ok();
    change(&app, &root, &site, json!({"plan": "developer"}))
        .await
        .ok();
    let seen = rows(&app, &ada, "").await;
    let expected = [
        "account.created",
        "sign_in.succeeded",
        "site.created",
        "site.updated",
        "token.revoked",
    ];
    assert_eq!(sorted_events(&seen), expected);
    let seen = rows(&app, &bob, "").await;
    assert_eq!(
        sorted_events(&seen),
        ["account.created", "sign_in.succeeded", "site.created"]
    );
    assert!(seen.iter().all(
        |row| row["event"] == "site.created" || row["account_id"] == bob.person.id.to_string()
    ));
    assert_eq!(rows(&app, &root, "").await.len(), 3 + 3 + 3 + 1 + 1 + 1);
    let other = format!("site={}", site.id);
    assert_eq!(rows(&app, &bob, &other).await, Vec::<Value>::new());
    let body = json!({"owner": bob.person.id.to_string()});
    change(&app, &root, &site, body).await.ok();
    assert_eq!(rows(&app, &bob, &other).await.len(), 4);
}

async fn an_owner_sees_that_its_site_was_deleted(store: Store) {
    let app = TestApp::start(store).await;
    let (ada, root) = (app.manager("ada").await, app.admin("root").await);
    let site = app.site_of(&ada).await;
    let path = format!("/api/v1/sites/{}", site.id);
    app.signed_in(&root.session, "DELETE", &path)
        .send()
        .await
        .ok();
    assert_eq!(rows(&app, &ada, "event=site.deleted").await.len(), 1);
    app.background.janitor.round().await.unwrap();
    let gone = "SELECT CAST(count(*) AS TEXT) FROM sites";
    assert_eq!(app.column(gone).await, ["0"]);
    assert_eq!(rows(&app, &ada, "event=site.deleted").await.len(), 1);
}

async fn an_owner_does_not_see_where_another_account_called_from(store: Store) {
    let app = TestApp::start(store).await;
    let (ada, bob) = (app.manager("ada").await, app.manager("bob").await);
    let root = app.admin("root").await;
    let site = app.site_of(&ada).await;
    let path = format!("/api/v1/sites/{}", site.id);
    let change = async |by: &Manager, peer: &str, body: Value| {
        let call = app.signed_in(&by.session, "PATCH", &path);
        let call = call.header("user-agent", "a browser").peer(peer);
        call.json(&body).send().await.ok();
    };
    change(&ada, "198.51.100.1:1", json!({"name": "One"})).await;
    app.advance(Duration::from_secs(1));
    change(&root, "198.51.100.2:1", json!({"name": "Two"})).await;
    // Who tried to get in is the owner's business, and so is a machine or a proxy of its site.
    app.try_sign_in(&ada.person.email, "a wrong password").await;
    let issued = app.issue(&site).await;
    app.revoke(&site, &issued.token_id).await.ok();
    let seen = async |by: &Manager, event: &str| {
        let rows = rows(&app, by, &format!("event={event}")).await;
        let text = |row: &Value, field: &str| row[field].as_str().unwrap_or("-").to_owned();
        let called = rows
            .iter()
            .map(|row| text(row, "address") + " " + &text(row, "user_agent"));
        called.collect::<Vec<_>>()
    };
    let both = ["198.51.100.2 a browser", "198.51.100.1 a browser"];
    assert_eq!(seen(&root, "site.updated").await, both);
    assert_eq!(
        seen(&ada, "site.updated").await,
        ["- -", "198.51.100.1 a browser"]
    );
    for event in ["sign_in.failed", "token.revoked"] {
        assert_eq!(seen(&ada, event).await, ["192.0.2.1 -"], "{event}");
    }
    app.advance(Duration::from_secs(1));
    let owner = json!({"owner": bob.person.id.to_string()});
    change(&root, "198.51.100.2:1", owner).await;
    assert_eq!(seen(&bob, "site.updated").await, ["- -", "- -", "- -"]);
    assert_eq!(seen(&bob, "token.revoked").await, ["192.0.2.1 -"]);
}

async fn rows_are_found_by_event_site_and_time(store: Store) {
    let app = TestApp::start(store).await;
    let ada = app.manager("ada").await;
    let (one, other) = (app.site_of(&ada).await, app.site_of(&ada).await);
    app.advance(Duration::from_secs(10));
    for site in [&one, &other] {
        change(&app, &ada, site, json!({"name": "Other"}))
            .await
            .ok();
    }
    let (one, other) = (one.id, other.id);
    for (query, expected) in [
        ("event=site.updated".to_owned(), 2),
        (format!("event=site.updated&site={one}"), 1),
        (format!("site={other}"), 2),
        ("since=2026-11-15T12:00:10Z".to_owned(), 2),
        ("since=2026-11-15T12:00:11Z".to_owned(), 0),
        (
            format!("since=2026-11-15T12:00:10Z&event=site.created&site={one}"),
            0,
        ),
        ("event=no.such.event".to_owned(), 0),
    ] {
        assert_eq!(rows(&app, &ada, &query).await.len(), expected, "{query}");
    }
}

async fn rows_are_told_page_by_page(store: Store) {
    let app = TestApp::start(store).await;
    let (ada, root) = (app.manager("ada").await, app.admin("root").await);
    let site = app.site_of(&ada).await;
    for number in 0..6 {
        app.advance(Duration::from_secs(1));
        change(&app, &ada, &site, json!({"name": format!("Shop {number}")}))
            .await
            .ok();
    }
    for by in [&ada, &root] {
        let (rows, lengths) = app
            .pages(by, &format!("{LOG}?event=site.updated&limit=4"))
            .await;
        assert_eq!(lengths, [4, 2]);
        let names: Vec<_> = rows
            .iter()
            .map(|row| row["detail"]["name"]["to"].as_str().unwrap())
            .collect();
        let expected = ["Shop 5", "Shop 4", "Shop 3", "Shop 2", "Shop 1", "Shop 0"];
        assert_eq!(names, expected);
    }
}

async fn bad_filters_are_refused(store: Store) {
    let app = TestApp::start(store).await;
    let ada = app.manager("ada").await;
    let answer = app
        .see(
            &ada,
            &format!("{LOG}?since=yesterday&event=&site=x&limit=0"),
        )
        .await;
    assert_eq!(answer.bad_fields(), ["since", "event", "site", "limit"]);
}

async fn rows_are_kept_as_long_as_is_configured(store: Store) {
    let app = TestApp::with(store, &[("audit.kept_days", "3")]).await;
    app.site("free").await;
    let count = "SELECT CAST(count(*) AS TEXT) FROM audit_log WHERE event = 'site.created'";
    app.advance(Duration::from_hours(3 * 24));
    app.background.janitor.round().await.unwrap();
    assert_eq!(app.column(count).await, ["1"]);
    app.advance(Duration::from_secs(1));
    app.background.janitor.round().await.unwrap();
    assert_eq!(app.column(count).await, ["0"]);
}
