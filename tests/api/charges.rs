//! A charge is settled whatever becomes of its call: the store is blocked, the caller hangs up, the
//! time runs out, a handler panics.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::Request,
    response::{IntoResponse, Response},
    routing::get,
};
use futures_util::{FutureExt, future::join_all};
use mirrory::{
    error::ApiError,
    middleware::edge::EdgeLayer,
    quota::{self, Charge, Disclosure, Meter, Metered, Outcome, Payer, QuotaLayer, SecondLook},
    store::Share,
    telemetry::metrics::Metrics,
    types::{clock::Clock, randomness::Randomness},
};
use serde_json::json;
use tokio::sync::Notify;
use tower::{Layer, ServiceExt, service_fn};

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

/// What the service does not have.
struct Work;

impl SecondLook for Work {
    async fn costs_nothing(&mut self) -> Result<bool, ApiError> {
        Ok(false)
    }
}

/// A call that a site pays for, to an endpoint that the service does not have.
async fn call<F>(
    app: &TestApp,
    site: &TestSite,
    endpoint: impl Fn() -> F + Clone + Send + Sync + 'static,
    patience: Duration,
) -> Answer
where
    F: Future<Output = quota::Answer> + Send + 'static,
{
    let state = &app.state;
    let layer = QuotaLayer::new(
        state.ledger.clone(),
        app.clock.clock(),
        state.tally.clone(),
        Metrics::default(),
    );
    let meter = Meter {
        payer: Some(Payer {
            site_id: site.id,
            plan: "free".into(),
        }),
        charge: Charge::Call,
        disclosure: Disclosure::Hidden,
    };
    let admission = state.admission.clone();
    let charged = layer.layer(service_fn(move |Work| {
        let answering = endpoint();
        async { Ok::<_, Infallible>(answering.await) }
    }));
    let handler = async move || -> Result<Response, ApiError> {
        let metered = Metered {
            request: Work,
            meter,
            admitted: admission.admit(Share::Calls).await?,
        };
        let Ok(answer) = charged.oneshot(metered).await;
        Ok(answer.response)
    };
    let edge = EdgeLayer::new(Clock::system(), Randomness::seeded(1), patience);
    let router = Router::new().route("/", get(handler)).layer(edge);
    let request = Request::get("/").header("host", "here");
    let request = request.body(Body::empty()).unwrap();
    Answer::read(router.oneshot(request).await.unwrap()).await
}

async fn a_call_that_is_cut_off_is_settled_at_its_own_end(store: Store) {
    let app = TestApp::start(store).await;
    let site = app.site("free").await;
    for (outcome, stays) in [(None, 0), (Some(Outcome::Issued), 1)] {
        let may_end = Arc::new(Notify::new());
        let end = Arc::clone(&may_end);
        let endpoint = move || {
            let end = Arc::clone(&end);
            async move {
                end.notified().await;
                quota::Answer {
                    response: ApiError::NotFound.into_response(),
                    outcome,
                }
            }
        };
        let answer = call(&app, &site, endpoint, Duration::from_millis(20)).await;
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
    let endpoint = || async {
        tokio::task::yield_now().await;
        panic!("on purpose");
    };
    let answer = call(&app, &site, endpoint, Duration::from_mins(1)).await;
    assert_eq!(answer.problem(), (500, "internal_error"));
    // It was charged before.
    assert_eq!(app.number("SELECT count(*) FROM usage").await, 1);
    assert_eq!(app.used(&site).await, (0, 0));
}
