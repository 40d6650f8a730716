//! Tokens that an instance has never seen, of a site on a plan that is taken in blocks: they are bound
//! without a look at their record before, and what that finds is told as if there had been one.

use std::time::Duration;

use futures_util::future::join_all;
use mirrory::types::ids::MachineId;
use serde_json::json;

use crate::harness::{Issued, Store, TestApp, TestSite, eventually};

on_both_stores! {
    what_binding_finds_is_told_with_its_reason_and_costs_nothing,
    with_the_quota_used_up_what_binding_would_find_is_told,
    of_many_machines_one_binds_and_one_call_is_charged,
    what_is_expired_is_told_before_it_is_bound,
    with_its_verdicts_used_up_a_token_is_read_before_it_is_refused_for_that,
    an_instance_that_thinks_the_site_active_binds_nothing_when_it_is_not,
    an_instance_that_is_not_sure_of_the_site_asks_the_store,
    what_is_bound_and_in_use_elsewhere_is_valid_and_not_written_again,
    a_signature_that_binding_finds_bad_is_a_failure_of_its_address,
}

const PLAN: (&str, &str) = ("PLANS__BIG__CALLS_PER_DAY", "2000");
const MONTH: (&str, &str) = ("PLANS__BIG__CALLS_PER_MONTH", "2000");

/// An instance that knows the site, and one that issued tokens of it, which the first has not seen.
async fn instances(store: Store) -> (TestApp, TestApp, TestSite) {
    let app = TestApp::with(store, &[PLAN, MONTH]).await;
    let other = app.restarted(&[PLAN, MONTH]).await;
    let site = app.site("big").await;
    app.tick().await;
    let seen = app.issue(&site).await;
    assert!(app.validate(&seen.token, "m").await.is_valid());
    (app, other, site)
}

async fn charged(app: &TestApp, site: &TestSite) -> i64 {
    app.state.ledger.flush().await.unwrap();
    let days = app.state.ledger.history(site.id).await.unwrap();
    days.iter().map(|day| day.validated).sum()
}

async fn bound_to(app: &TestApp, issued: &Issued) -> Option<MachineId> {
    let token_id = issued.token_id.parse().unwrap();
    let held = app.state.tokens.find(token_id).await.unwrap().unwrap();
    held.record.machine_id.clone()
}

async fn what_binding_finds_is_told_with_its_reason_and_costs_nothing(store: Store) {
    let (app, other, site) = instances(store).await;
    let [bound, revoked, unknown] = [
        other.issue(&site).await,
        other.issue(&site).await,
        other.issue(&site).await,
    ];
    assert!(other.validate(&bound.token, "there").await.is_valid());
    other.revoke(&site, &revoked.token_id).await.ok();
    app.execute(&match store {
        Store::Postgres => format!("DELETE FROM tokens WHERE token_id = '{}'", unknown.token_id),
        Store::Sqlite => format!(
            "DELETE FROM tokens WHERE token_id = x'{}'",
            unknown.token_id.replace('-', "")
        ),
    })
    .await;
    let before = charged(&app, &site).await;
    for (issued, reason) in [
        (&bound, "machine_mismatch"),
        (&revoked, "revoked"),
        (&unknown, "unknown_token"),
    ] {
        for _ in 0..2 {
            assert_eq!(app.validate(&issued.token, "here").await.reason(), reason);
        }
    }
    assert_eq!(charged(&app, &site).await, before);
    assert_eq!(bound_to(&app, &revoked).await, None);
    assert!(app.validate(&bound.token, "there").await.is_valid());
    assert_eq!(charged(&app, &site).await, before + 1);
    app.state.tally.flush().await.unwrap();
    let refused = "SELECT CAST(count AS TEXT) FROM audit_log WHERE event = 'machine.refused'";
    assert_eq!(app.column(refused).await, ["2"]);
}

async fn with_the_quota_used_up_what_binding_would_find_is_told(store: Store) {
    let (app, other, site) = instances(store).await;
    let [bound, free] = [other.issue(&site).await, other.issue(&site).await];
    assert!(other.validate(&bound.token, "there").await.is_valid());
    other.state.ledger.flush().await.unwrap();
    app.execute("UPDATE usage SET day_used = 2000, month_used = 2000")
        .await;
    // What is left of the block.
    let mut answer = app.generate_for(&site).await;
    while answer.status == 200 {
        answer = app.generate_for(&site).await;
    }
    assert_eq!(answer.problem(), (429, "quota_exceeded"));
    let refused = app.validate(&bound.token, "here").await;
    assert_eq!(refused.reason(), "machine_mismatch");
    let refused = app.validate(&free.token, "here").await;
    assert_eq!(refused.problem(), (429, "quota_exceeded"));
    assert_eq!(bound_to(&app, &free).await, None);
}

async fn of_many_machines_one_binds_and_one_call_is_charged(store: Store) {
    let (app, other, site) = instances(store).await;
    let issued = other.issue(&site).await;
    let before = charged(&app, &site).await;
    let machines: Vec<_> = (0..20).map(|number| format!("machine {number}")).collect();
    let verdicts = machines
        .iter()
        .map(|machine| app.validate(&issued.token, machine));
    let verdicts = join_all(verdicts).await;
    let valid = verdicts.iter().filter(|verdict| verdict.is_valid()).count();
    assert_eq!(valid, 1);
    for verdict in verdicts.iter().filter(|verdict| !verdict.is_valid()) {
        assert_eq!(verdict.reason(), "machine_mismatch");
    }
    assert_eq!(charged(&app, &site).await, before + 1);
}

async fn what_is_expired_is_told_before_it_is_bound(store: Store) {
    let (app, other, site) = instances(store).await;
    let issued = other.issue(&site).await;
    app.advance(Duration::from_hours(24));
    app.tick().await;
    assert_eq!(app.validate(&issued.token, "m").await.reason(), "expired");
    assert_eq!(bound_to(&app, &issued).await, None);
}

async fn with_its_verdicts_used_up_a_token_is_read_before_it_is_refused_for_that(store: Store) {
    let (app, other, site) = instances(store).await;
    let issued = other.issue(&site).await;
    for _ in 0..30 {
        assert!(app.validate(&issued.token, "m").await.is_valid());
    }
    let used_up = app.validate(&issued.token, "m").await;
    assert_eq!(used_up.problem(), (429, "too_many_attempts"));
    other.revoke(&site, &issued.token_id).await.ok();
    app.tick().await;
    assert_eq!(app.validate(&issued.token, "m").await.reason(), "revoked");
}

async fn an_instance_that_thinks_the_site_active_binds_nothing_when_it_is_not(store: Store) {
    let (app, other, site) = instances(store).await;
    let issued = other.issue(&site).await;
    other.suspend(&site).await;
    // Without a look at the log it may still think that the site is active, and binds nothing.
    let refused = app.validate(&issued.token, "m").await;
    assert_eq!(refused.reason(), "site_suspended");
    assert_eq!(bound_to(&app, &issued).await, None);
}

async fn an_instance_that_is_not_sure_of_the_site_asks_the_store(store: Store) {
    let (app, other, site) = instances(store).await;
    let issued = other.issue(&site).await;
    other.delete(&site).await;
    app.advance(Duration::from_secs(1));
    assert!(!app.freshness.holds());
    assert_eq!(app.validate(&issued.token, "m").await.reason(), "revoked");
    assert_eq!(bound_to(&app, &issued).await, None);
}

/// As after a restart.
async fn what_is_bound_and_in_use_elsewhere_is_valid_and_not_written_again(store: Store) {
    let (app, other, site) = instances(store).await;
    let issued = other.issue(&site).await;
    assert!(other.validate(&issued.token, "m").await.is_valid());
    let used = "SELECT CAST(max(last_validated_at) AS TEXT) FROM tokens";
    let written = app.column(used).await;
    for instance in [&app, &other] {
        instance.advance(Duration::from_secs(30));
        instance.tick().await;
    }
    assert!(app.validate(&issued.token, "m").await.is_valid());
    assert_eq!(app.column(used).await, written);
}

/// Its claims are not those of its record, as when the store was restored from elsewhere.
async fn a_signature_that_binding_finds_bad_is_a_failure_of_its_address(store: Store) {
    let (app, other, site) = instances(store).await;
    let issued = other.issue(&site).await;
    app.execute("UPDATE tokens SET user_id = user_id + 1").await;
    for _ in 0..30 {
        let refused = app.validate(&issued.token, "m").await;
        assert_eq!(refused.reason(), "bad_signature");
    }
    let limited = app.validate(&issued.token, "m").await;
    assert_eq!(limited.problem(), (429, "too_many_attempts"));
    assert_eq!(bound_to(&app, &issued).await, None);
}

/// Its place is with the statement that reads and binds: nothing is read before.
#[tokio::test]
async fn a_token_is_read_and_bound_by_one_statement() {
    let (app, other, site) = instances(Store::Postgres).await;
    let issued = other.issue(&site).await;
    let held = app.hold("LOCK TABLE tokens IN ACCESS EXCLUSIVE MODE").await;
    let validating = app.post("/mirrory/validate-token").json(&json!({
        "token": issued.token,
        "machine_id": "m",
    }));
    let seeing = async {
        eventually(async || app.statements_that_wait().await == 1).await;
        let binding = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' \
                       AND query LIKE 'UPDATE tokens SET machine_id%'";
        assert_eq!(app.number(binding).await, 1);
        held.release().await;
    };
    let (verdict, ()) = tokio::join!(validating.send(), seeing);
    assert!(verdict.is_valid());
}
