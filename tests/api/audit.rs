//! The audit log: what is written, with what, by whom it is seen, and that no change is without it.

use std::time::Duration;

use futures_util::{FutureExt, future::join_all};
use mirrory::{keys::Algorithm, types::clock::Timestamp};
use serde_json::{Value, json};

use crate::harness::{Answer, Manager, START, Store, TestApp, TestSite, eventually};

on_both_stores! {
    a_change_of_a_site_is_told_with_all_that_was_changed,
    what_changes_nothing_is_not_told,
    a_script_is_told_with_its_account,
    a_proxy_and_an_operator_are_told,
    a_change_and_its_row_are_one,
    a_refused_machine_is_one_row_a_token_and_hour,
    a_used_up_quota_is_one_row_a_window,
    what_strangers_cause_waits_bounded_in_memory,
    a_flood_of_one_event_leaves_the_others_their_room,
    rows_that_cannot_be_written_take_no_others_with_them,
    an_owner_sees_its_own_account_and_sites_and_an_admin_all,
    an_owner_sees_that_its_site_was_deleted,
    rows_are_found_by_event_site_and_time,
    rows_are_told_page_by_page,
    bad_filters_are_refused,
    rows_are_kept_as_long_as_is_configured,
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

fn sorted_events(rows: &[Value]) -> Vec<&str> {
    let mut events = events(rows);
    events.sort_unstable();
    events
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

async fn a_refused_machine_is_one_row_a_token_and_hour(store: Store) {
    let app = TestApp::start(store).await;
    let root = app.admin("root").await;
    let site = app.site("free").await;
    let (one, other) = (app.issue(&site).await, app.issue(&site).await);
    for token in [&one.token, &other.token] {
        assert!(app.validate(token, "mine").await.is_valid());
    }
    let try_elsewhere = async |token: &str, times: usize| {
        for _ in 0..times {
            let answer = app.validate(token, "another").await;
            assert_eq!(answer.reason(), "machine_mismatch");
        }
        app.background.tally.flush().await.unwrap();
    };
    let refused = "SELECT CAST(count(*) AS TEXT) FROM audit_log WHERE event = 'machine.refused'";
    assert_eq!(
        app.validate(&one.token, "another").await.reason(),
        "machine_mismatch"
    );
    assert_eq!(
        app.column(refused).await,
        ["0"],
        "nothing is written before the answer"
    );
    try_elsewhere(&one.token, 2).await;
    try_elsewhere(&one.token, 1).await;
    try_elsewhere(&other.token, 1).await;
    let rows_of = async |query: &str| rows(&app, &root, query).await;
    let told = rows_of("event=machine.refused").await;
    let count_of = |id: &str| {
        let row = told.iter().find(|row| row["subject"] == id).unwrap();
        row["count"].as_i64().unwrap()
    };
    assert_eq!(
        (
            told.len(),
            count_of(&one.token_id),
            count_of(&other.token_id)
        ),
        (2, 4, 1)
    );
    assert_eq!(
        told[0]["actor"],
        json!({"kind": "nobody", "id": null, "account_id": null})
    );
    assert_eq!(told[0]["outcome"], "refused");
    assert_eq!(told[0]["site_id"], site.id.to_string());
    assert_eq!(told[0]["address"], "192.0.2.1");
    app.advance(Duration::from_hours(1));
    try_elsewhere(&one.token, 1).await;
    assert_eq!(app.column(refused).await, ["3"]);
}

/// How often machines were refused, by all that was written.
async fn refused(app: &TestApp) -> Vec<String> {
    app.background.tally.flush().await.unwrap();
    let counts = "SELECT CAST(count AS TEXT) FROM audit_log WHERE event = 'machine.refused'";
    app.column(counts).await
}

/// Both found the token free, and bind it at the same time.
#[tokio::test]
async fn the_machine_that_loses_the_race_for_a_token_is_told() {
    let app = TestApp::start(Store::Postgres).await;
    let other = app.another().await;
    let site = app.site("free").await;
    let issued = app.issue(&site).await;
    let held = app.hold("LOCK TABLE tokens IN EXCLUSIVE MODE").await;
    let both = join_all([
        app.validate(&issued.token, "one"),
        other.validate(&issued.token, "other"),
    ]);
    let mut both = Box::pin(both);
    eventually(async || {
        assert!(both.as_mut().now_or_never().is_none(), "they wait");
        app.statements_that_wait().await == 2
    })
    .await;
    held.release().await;
    let answers = both.await;
    let lost = answers.iter().filter(|answer| !answer.is_valid());
    let lost: Vec<_> = lost.map(Answer::reason).collect();
    assert_eq!(lost, ["machine_mismatch"]);
    other.background.tally.flush().await.unwrap();
    assert_eq!(refused(&app).await, ["1"]);
}

#[tokio::test]
async fn a_machine_that_is_refused_at_a_second_look_is_told() {
    let app = TestApp::start(Store::Postgres).await;
    let site = app.site("free").await;
    let issued = app.issue(&site).await;
    let held = app.hold("SELECT * FROM usage FOR UPDATE").await;
    let mut call = Box::pin(app.validate(&issued.token, "mine"));
    eventually(async || {
        assert!(call.as_mut().now_or_never().is_none(), "it waits");
        app.statements_that_wait().await == 1
    })
    .await;
    app.execute("UPDATE tokens SET machine_id = 'another', bound_at = 1")
        .await;
    app.advance(Duration::from_secs(1));
    held.release().await;
    assert_eq!(call.await.reason(), "machine_mismatch");
    assert_eq!(refused(&app).await, ["1"]);
}

async fn a_used_up_quota_is_one_row_a_window(store: Store) {
    let settings = [
        ("plans.free.calls_per_day", "1"),
        ("plans.free.calls_per_month", "2"),
    ];
    let app = TestApp::with(store, &settings).await;
    let site = app.site("free").await;
    let exhaust = async |times: usize| {
        for _ in 0..times {
            assert_eq!(app.generate_for(&site).await.status, 429);
            app.background.tally.flush().await.unwrap();
        }
    };
    app.issue(&site).await;
    exhaust(2).await;
    app.advance(Duration::from_hours(5));
    exhaust(1).await;
    app.advance(Duration::from_hours(24));
    app.issue(&site).await;
    exhaust(1).await;
    let root = app.admin("root").await;
    let told = rows(&app, &root, "event=quota.exhausted").await;
    let mut told: Vec<_> = told
        .iter()
        .map(|row| {
            assert_eq!(row["subject"], site.id.to_string());
            assert_eq!(row["site_id"], row["subject"]);
            format!("{} {}", row["detail"], row["count"])
        })
        .collect();
    told.sort();
    let expected = [
        r#"{"resets_at":"2026-11-16T00:00:00Z","window":"day"} 3"#,
        r#"{"resets_at":"2026-11-17T00:00:00Z","window":"day"} 1"#,
        r#"{"resets_at":"2026-12-01T00:00:00Z","window":"month"} 1"#,
    ];
    assert_eq!(told, expected);
}

async fn what_strangers_cause_waits_bounded_in_memory(store: Store) {
    let app = TestApp::start(store).await;
    let site = app.site("free").await;
    for window in 0..5000 {
        let ends = Timestamp::from_seconds(START + window);
        app.state.tally.exhausted(site.id, "day", ends);
    }
    app.background.tally.flush().await.unwrap();
    let count = "SELECT CAST(count(*) AS TEXT) FROM audit_log WHERE event = 'quota.exhausted'";
    assert_eq!(app.column(count).await, ["4096"]);
}

async fn a_flood_of_one_event_leaves_the_others_their_room(store: Store) {
    let app = TestApp::start(store).await;
    let site = app.site("free").await;
    for window in 0..5000 {
        let ends = Timestamp::from_seconds(START + window);
        app.state.tally.exhausted(site.id, "day", ends);
    }
    app.try_sign_in("nobody", "a wrong password").await;
    let rows = app.audit().await;
    let failed = "nobody sign_in.failed refused 1".to_owned();
    assert!(rows.contains(&failed), "{rows:?}");
}

async fn rows_that_cannot_be_written_take_no_others_with_them(store: Store) {
    let app = TestApp::start(store).await;
    let site = app.site("free").await;
    let early = Timestamp::from_seconds(START);
    app.state.tally.exhausted(site.id, "a first window", early);
    for window in 0..150 {
        let ends = Timestamp::from_seconds(START + window);
        app.state.tally.exhausted(site.id, "day", ends);
    }
    app.execute(match store {
        Store::Sqlite => {
            "CREATE TRIGGER refuse BEFORE INSERT ON audit_log WHEN NEW.tally LIKE '%first%' \
             BEGIN SELECT RAISE(ABORT, 'refused'); END"
        }
        Store::Postgres => {
            "ALTER TABLE audit_log ADD CONSTRAINT refuse CHECK (tally NOT LIKE '%first%')"
        }
    })
    .await;
    app.background.tally.flush().await.unwrap_err();
    let count = "SELECT CAST(count(*) AS TEXT) FROM audit_log WHERE event = 'quota.exhausted'";
    // The batch of 100 that it was in is lost.
    assert_eq!(app.column(count).await, ["51"]);
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
