//! Plans and their windows: what a site may call, and when it may again.

use serde_json::json;

use crate::harness::{Store, TestApp};

on_both_stores! {
    a_plan_lets_its_calls_through_and_no_more,
    issues_and_verdicts_are_charged_to_one_account,
    the_day_ends_at_midnight,
    the_month_ends_on_the_first,
    the_month_counts_over_days,
    a_plan_that_changes_keeps_its_counters,
    a_site_has_its_own_quota,
    a_fault_is_given_back,
    a_verdict_that_faults_is_given_back,
    a_refusal_charges_nothing,
    a_refused_site_waits_for_the_end_of_its_window,
    a_clock_that_is_set_back_frees_nothing,
    counts_are_written_in_batches,
    a_plan_of_nothing_lets_nothing_through,
}

const EXCEEDED: (u16, &str) = (429, "quota_exceeded");

async fn a_plan_lets_its_calls_through_and_no_more(store: Store) {
    let app = TestApp::start(store).await;
    for (plan, calls) in [("free", 5), ("developer", 20)] {
        let site = app.site(plan).await;
        for _ in 0..calls {
            app.issue(&site).await;
        }
        for _ in 0..3 {
            assert_eq!(app.generate_for(&site).await.problem(), EXCEEDED, "{plan}");
        }
        assert_eq!(app.used(&site).await, (calls, calls));
    }
}

async fn issues_and_verdicts_are_charged_to_one_account(store: Store) {
    let app = TestApp::start(store).await;
    let site = app.site("free").await;
    let issued = app.issue(&site).await;
    for _ in 0..2 {
        app.validate(&issued.token, "m").await.ok();
        app.issue(&site).await;
    }
    assert_eq!(app.used(&site).await, (5, 5));
    assert_eq!(app.validate(&issued.token, "m").await.problem(), EXCEEDED);
    assert_eq!(app.generate_for(&site).await.problem(), EXCEEDED);
}

async fn the_day_ends_at_midnight(store: Store) {
    let app = TestApp::start(store).await;
    let site = app.site("free").await;
    for _ in 0..5 {
        app.issue(&site).await;
    }
    app.set_wall("2026-11-15T23:59:59.999999Z");
    let answer = app.generate_for(&site).await;
    assert_eq!(answer.problem(), EXCEEDED);
    assert_eq!(answer.body["violated-policies"], json!(["day"]));
    assert_eq!(answer.retry_after(), 1);
    app.set_wall("2026-11-16T00:00:00Z");
    for _ in 0..5 {
        app.issue(&site).await;
    }
    assert_eq!(app.generate_for(&site).await.problem(), EXCEEDED);
    assert_eq!(app.used(&site).await, (5, 10));
}

const SMALL_MONTH: [(&str, &str); 2] = [
    ("plans.small.calls_per_day", "3"),
    ("plans.small.calls_per_month", "4"),
];

async fn the_month_ends_on_the_first(store: Store) {
    let app = TestApp::with(store, &SMALL_MONTH).await;
    let site = app.site("small").await;
    app.set_wall("2026-11-29T23:59:59Z");
    for _ in 0..3 {
        app.issue(&site).await;
    }
    app.set_wall("2026-11-30T00:00:00Z");
    app.issue(&site).await;
    let answer = app.generate_for(&site).await;
    assert_eq!(answer.body["violated-policies"], json!(["month"]));
    assert_eq!(answer.retry_after(), 86_400);
    app.set_wall("2026-11-30T23:59:59.999999Z");
    assert_eq!(app.generate_for(&site).await.problem(), EXCEEDED);
    app.set_wall("2026-12-01T00:00:00Z");
    for _ in 0..3 {
        app.issue(&site).await;
    }
    assert_eq!(app.used(&site).await, (3, 3));
}

async fn the_month_counts_over_days(store: Store) {
    let app = TestApp::start(store).await;
    let site = app.site("free").await;
    for day in 1..=10 {
        app.set_wall(&format!("2026-12-{day:02}T00:00:00Z"));
        for _ in 0..5 {
            app.issue(&site).await;
        }
    }
    app.set_wall("2026-12-11T00:00:00Z");
    let answer = app.generate_for(&site).await;
    assert_eq!(answer.problem(), EXCEEDED);
    assert_eq!(answer.body["violated-policies"], json!(["month"]));
    assert_eq!(answer.retry_after(), 21 * 86_400);
    app.set_wall("2027-01-01T00:00:00Z");
    app.issue(&site).await;
}

async fn a_plan_that_changes_keeps_its_counters(store: Store) {
    let app = TestApp::start(store).await;
    let site = app.site("free").await;
    for _ in 0..5 {
        app.issue(&site).await;
    }
    app.set_plan(&site, "developer").await;
    let answer = app.generate_for(&site).await;
    let expected = "\"day\";r=14;t=43200, \"month\";r=494;t=1339200";
    assert_eq!(answer.header("ratelimit"), Some(expected));
    app.set_plan(&site, "free").await;
    let answer = app.generate_for(&site).await;
    assert_eq!(answer.problem(), EXCEEDED);
    let expected = "\"day\";r=0;t=43200, \"month\";r=44;t=1339200";
    assert_eq!(answer.header("ratelimit"), Some(expected));
    app.set_plan(&site, "developer").await;
    app.issue(&site).await;
}

async fn a_site_has_its_own_quota(store: Store) {
    let app = TestApp::start(store).await;
    let (one, two) = (app.site("free").await, app.site("free").await);
    for _ in 0..5 {
        app.issue(&one).await;
    }
    assert_eq!(app.generate_for(&one).await.problem(), EXCEEDED);
    assert_eq!(app.used(&two).await, (0, 0));
    app.issue(&two).await;
}

async fn a_fault_is_given_back(store: Store) {
    let app = TestApp::start(store).await;
    let site = app.site("free").await;
    app.execute("ALTER TABLE tokens RENAME TO hidden").await;
    for _ in 0..7 {
        let answer = app.generate_for(&site).await;
        assert_eq!(answer.problem(), (500, "internal_error"));
    }
    app.execute("ALTER TABLE hidden RENAME TO tokens").await;
    assert_eq!(app.used(&site).await, (0, 0));
    for _ in 0..5 {
        app.issue(&site).await;
    }
}

async fn a_verdict_that_faults_is_given_back(store: Store) {
    let app = TestApp::start(store).await;
    let site = app.site("free").await;
    let issued = app.issue(&site).await;
    // The record is read, and cannot be bound.
    app.execute("ALTER TABLE tokens RENAME COLUMN bound_at TO hidden")
        .await;
    for _ in 0..7 {
        let answer = app.validate(&issued.token, "m").await;
        assert_eq!(answer.problem(), (500, "internal_error"));
    }
    app.execute("ALTER TABLE tokens RENAME COLUMN hidden TO bound_at")
        .await;
    assert_eq!(app.used(&site).await, (1, 1));
    assert!(app.validate(&issued.token, "another").await.is_valid());
}

async fn a_refusal_charges_nothing(store: Store) {
    let app = TestApp::start(store).await;
    let site = app.site("free").await;
    app.generate(json!({"wp_user_id": 0, "proxy_secret": site.secret}))
        .await;
    app.suspend(&site).await;
    app.generate_for(&site).await;
    app.resume(&site).await;
    assert_eq!(app.used(&site).await, (0, 0));
}

async fn a_refused_site_waits_for_the_end_of_its_window(store: Store) {
    let app = TestApp::with(store, &SMALL_MONTH).await;
    let site = app.site("small").await;
    let issued = app.issue(&site).await;
    for _ in 0..2 {
        app.issue(&site).await;
    }
    app.set_wall("2026-11-15T23:00:00.5Z");
    for answer in [
        app.generate_for(&site).await,
        app.validate(&issued.token, "m").await,
    ] {
        assert_eq!(answer.body["violated-policies"], json!(["day"]));
        assert_eq!(answer.retry_after(), 3600);
    }
    app.set_wall("2026-11-16T00:00:00Z");
    app.issue(&site).await;
    let answer = app.validate(&issued.token, "m").await;
    assert_eq!(answer.body["violated-policies"], json!(["month"]));
    assert_eq!(answer.retry_after(), 15 * 86_400);
}

async fn a_clock_that_is_set_back_frees_nothing(store: Store) {
    let app = TestApp::start(store).await;
    let site = app.site("free").await;
    app.set_wall("2026-11-16T00:00:01Z");
    for _ in 0..5 {
        app.issue(&site).await;
    }
    app.set_wall("2026-11-15T23:59:59Z");
    assert_eq!(app.generate_for(&site).await.problem(), EXCEEDED);
    app.set_wall("2026-11-16T00:00:02Z");
    assert_eq!(app.generate_for(&site).await.problem(), EXCEEDED);
}

async fn counts_are_written_in_batches(store: Store) {
    let app = TestApp::start(store).await;
    let site = app.site("developer").await;
    let issued = app.issue(&site).await;
    app.validate(&issued.token, "m").await.ok();
    app.validate(&issued.token, "m").await.ok();
    app.validate(&issued.token, "another").await.ok();
    app.set_wall("2026-11-16T00:00:00Z");
    app.issue(&site).await;
    let ledger = &app.state.ledger;
    assert!(ledger.history(site.id).await.unwrap().is_empty());
    ledger.flush().await.unwrap();
    ledger.flush().await.unwrap();
    let history = ledger.history(site.id).await.unwrap();
    let counts: Vec<_> = history
        .iter()
        .map(|day| (day.issued, day.validated))
        .collect();
    assert_eq!(counts, [(1, 0), (1, 2)]);
}

async fn a_plan_of_nothing_lets_nothing_through(store: Store) {
    let settings = [
        ("plans.nothing.calls_per_day", "0"),
        ("plans.nothing.calls_per_month", "0"),
    ];
    let app = TestApp::with(store, &settings).await;
    let site = app.site("nothing").await;
    let answer = app.generate_for(&site).await;
    assert_eq!(answer.problem(), EXCEEDED);
    assert_eq!(answer.body["violated-policies"], json!(["day", "month"]));
}
