//! What strangers cause: counted, and written after the answer.

use std::time::Duration;

use futures_util::{FutureExt, future::join_all};
use mirrory::types::clock::Timestamp;
use serde_json::json;

use super::rows;
use crate::harness::{Answer, START, Store, TestApp, eventually};

on_both_stores! {
    a_refused_machine_is_one_row_a_token_and_hour,
    a_used_up_quota_is_one_row_a_window,
    what_strangers_cause_waits_bounded_in_memory,
    a_flood_of_one_event_leaves_the_others_their_room,
    rows_that_cannot_be_written_take_no_others_with_them,
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
