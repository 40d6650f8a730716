//! A charge is settled whatever becomes of its call: the store is blocked, the caller hangs up, the
//! time runs out, a handler panics.

use std::{sync::Arc, time::Duration};

use axum::{
    Extension, Router,
    body::Body,
    extract::Request,
    response::{IntoResponse, Response},
    routing::{MethodRouter, get},
};
use futures_util::{FutureExt, future::join_all};
use mirrory::{
    error::ApiError,
    middleware::edge::EdgeLayer,
    quota::{Charge, Disclosure, Meter, Outcome, Payer, QuotaLayer, SecondLook},
    telemetry::metrics::Metrics,
    types::{clock::Clock, randomness::Randomness},
};
use serde_json::json;
use tokio::sync::Notify;
use tower::ServiceExt;

use crate::harness::{Answer, Call, Store, TestApp, TestSite, eventually};

on_both_stores! {
    a_call_that_is_cut_off_is_settled_at_its_own_end,
    a_call_that_panics_is_given_back,
}

const UNAVAILABLE: (u16, &str) = (503, "store_unavailable");

/// Lets what reads the tokens through, and nothing that writes them.
const LOCK_TOKENS: &str = "LOCK TABLE tokens IN EXCLUSIVE MODE";

fn generate_once<'a>(app: &'a TestApp, site: &TestSite) -> Call<'a> {
    app.post("/mirrory/generate-token")
        .header("idempotency-key", "order-1")
        .json(&json!({"wp_user_id": 1, "proxy_secret": site.secret}))
}

/// How many tokens a site was charged for.
async fn issued(app: &TestApp, site: &TestSite) -> i64 {
    let ledger = &app.state.ledger;
    ledger.flush().await.unwrap();
    let days = ledger.history(site.id).await.unwrap();
    days.iter().map(|day| day.issued).sum()
}

#[tokio::test]
async fn a_charge_that_was_given_up_is_not_made_later() {
    let app = TestApp::impatient().await;
    let site = app.site("free").await;
    app.issue(&site).await;
    let held = app.hold("SELECT * FROM usage FOR UPDATE").await;
    for answer in join_all((0..5).map(|_| app.generate_for(&site))).await {
        assert_eq!(answer.problem(), UNAVAILABLE);
    }
    // While the lock is held, no statement ends but by its own end.
    eventually(async || app.statements_that_wait().await == 0).await;
    held.release().await;
    assert_eq!(app.number("SELECT day_used FROM usage").await, 1);
    app.issue(&site).await;
    assert_eq!(app.used(&site).await, (2, 2));
}

#[tokio::test]
async fn what_may_have_been_issued_stays_charged_if_it_can_be_asked_for_again() {
    let app = TestApp::start(Store::Postgres).await;
    let site = app.site("free").await;
    let held = app.hold(LOCK_TOKENS).await;
    let without_key = while_it_waits(&app, CUT, app.generate_for(&site)).await;
    assert_eq!(without_key.problem(), UNAVAILABLE);
    assert_eq!(app.used(&site).await, (0, 0));
    let with_key = while_it_waits(&app, CUT, generate_once(&app, &site).send()).await;
    assert_eq!(with_key.problem(), UNAVAILABLE);
    assert_eq!(app.used(&site).await, (1, 1));
    assert_eq!(issued(&app, &site).await, 0);
    held.release().await;
    generate_once(&app, &site).send().await.ok();
    assert_eq!(app.used(&site).await, (2, 2));
    assert_eq!(issued(&app, &site).await, 1);
}

const CUT: &str = "pg_terminate_backend";
const CANCEL: &str = "pg_cancel_backend";

/// Makes a call whose statement waits for a lock, and ends it there.
async fn while_it_waits(app: &TestApp, end: &str, call: impl Future<Output = Answer>) -> Answer {
    let ending = async {
        eventually(async || app.statements_that_wait().await == 1).await;
        let waiting = format!(
            "SELECT count({end}(pid)) FROM pg_stat_activity \
             WHERE datname = current_database() AND wait_event_type = 'Lock'"
        );
        assert_eq!(app.number(&waiting).await, 1);
    };
    tokio::join!(call, ending).0
}

#[tokio::test]
async fn what_the_store_answered_that_it_did_not_write_is_not_charged() {
    let app = TestApp::start(Store::Postgres).await;
    let site = app.site("free").await;
    let held = app.hold(LOCK_TOKENS).await;
    let canceled = while_it_waits(&app, CANCEL, generate_once(&app, &site).send()).await;
    assert_eq!(canceled.problem(), UNAVAILABLE);
    assert_eq!(app.used(&site).await, (0, 0));
    held.release().await;
    generate_once(&app, &site).send().await.ok();
    assert_eq!(app.used(&site).await, (1, 1));
}

#[tokio::test]
async fn a_caller_that_hangs_up_cancels_nothing() {
    let app = TestApp::start(Store::Postgres).await;
    let site = app.site("free").await;
    let held = app.hold(LOCK_TOKENS).await;
    let mut call = Box::pin(generate_once(&app, &site).send());
    eventually(async || {
        assert!(call.as_mut().now_or_never().is_none(), "it waits");
        app.statements_that_wait().await == 1
    })
    .await;
    drop(call);
    held.release().await;
    eventually(async || issued(&app, &site).await == 1).await;
    assert_eq!(app.number("SELECT count(*) FROM tokens").await, 1);
    let again = generate_once(&app, &site).send().await;
    assert_eq!(again.header("idempotency-replayed"), Some("true"));
    assert_eq!(app.used(&site).await, (1, 1));
}

#[derive(Clone)]
struct NothingNew;

impl SecondLook for NothingNew {
    async fn costs_nothing(&self, _: &mut axum::http::Extensions) -> Result<bool, ApiError> {
        Ok(false)
    }
}

/// A call that a site pays for, to a handler that the service does not have.
async fn call(app: &TestApp, site: &TestSite, handler: MethodRouter, patience: Duration) -> Answer {
    let ledger = app.state.ledger.clone();
    let quota = QuotaLayer::new(
        ledger,
        app.clock.clock(),
        app.state.tally.clone(),
        Metrics::default(),
        NothingNew,
    );
    let edge = EdgeLayer::new(Clock::system(), Randomness::seeded(1), patience);
    let meter = Meter {
        payer: Some(Payer {
            site_id: site.id,
            plan: "free".into(),
        }),
        charge: Charge::Call,
        disclosure: Disclosure::Hidden,
    };
    let request = Request::builder().extension(meter).body(Body::empty());
    let router = Router::new().route("/", handler.route_layer(quota));
    let response = router.layer(edge).oneshot(request.unwrap()).await;
    Answer::read(response.unwrap()).await
}

async fn a_call_that_is_cut_off_is_settled_at_its_own_end(store: Store) {
    let app = TestApp::start(store).await;
    let site = app.site("free").await;
    for (outcome, stays) in [(None, 0), (Some(Outcome::Issued), 1)] {
        let may_end = Arc::new(Notify::new());
        let end = Arc::clone(&may_end);
        let handler = get(async move || -> Response {
            end.notified().await;
            match outcome {
                Some(outcome) => Extension(outcome).into_response(),
                None => ApiError::NotFound.into_response(),
            }
        });
        let answer = call(&app, &site, handler, Duration::from_millis(20)).await;
        assert_eq!(answer.problem(), (503, "overloaded"));
        eventually(async || app.used(&site).await == (1, 1)).await;
        may_end.notify_one();
        eventually(async || app.used(&site).await == (stays, stays)).await;
        eventually(async || issued(&app, &site).await == i64::from(outcome.is_some())).await;
    }
}

async fn a_call_that_panics_is_given_back(store: Store) {
    let app = TestApp::start(store).await;
    let site = app.site("free").await;
    let handler = get(async || -> Response {
        tokio::task::yield_now().await;
        panic!("on purpose");
    });
    let answer = call(&app, &site, handler, Duration::from_mins(1)).await;
    assert_eq!(answer.problem(), (500, "internal_error"));
    // It was charged before.
    assert_eq!(app.number("SELECT count(*) FROM usage").await, 1);
    assert_eq!(app.used(&site).await, (0, 0));
}
