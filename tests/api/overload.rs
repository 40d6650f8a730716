//! More at once than an instance works on.

use futures_util::{FutureExt, future::join_all};

use crate::harness::{Answer, Store, TestApp, eventually};

/// Nothing that writes the tokens gets through.
const LOCK_TOKENS: &str = "LOCK TABLE tokens IN EXCLUSIVE MODE";

fn assert_overloaded(answer: &Answer) {
    assert_eq!(answer.problem(), (503, "overloaded"));
    assert_eq!(answer.header("retry-after"), Some("1"));
}

/// A service that works on one request at a time.
async fn one_at_a_time() -> TestApp {
    TestApp::with(Store::Postgres, &[("SERVER__CONCURRENT_REQUESTS", "1")]).await
}

#[tokio::test]
async fn who_finds_no_place_in_time_is_told_to_come_back_and_is_charged_nothing() {
    let app = one_at_a_time().await;
    let site = app.site("free").await;
    let held = app.hold(LOCK_TOKENS).await;
    let mut at_work = Box::pin(app.generate_for(&site));
    eventually(async || {
        assert!(at_work.as_mut().now_or_never().is_none(), "it waits");
        app.statements_that_wait().await == 1
    })
    .await;
    for answer in join_all((0..3).map(|_| app.generate_for(&site))).await {
        assert_overloaded(&answer);
    }
    assert_overloaded(&app.validate("no token", "m").await);
    assert_eq!(app.get("/mirrory/health").await.status, 200);
    held.release().await;
    at_work.await.ok();
    app.issue(&site).await;
    assert_eq!(app.used(&site).await, (2, 2));
}

#[tokio::test]
async fn the_place_of_a_caller_that_hung_up_is_free_when_its_call_is_done_and_not_before() {
    let app = one_at_a_time().await;
    let site = app.site("free").await;
    let held = app.hold(LOCK_TOKENS).await;
    let mut hung_up = Box::pin(app.generate_for(&site));
    eventually(async || {
        assert!(hung_up.as_mut().now_or_never().is_none(), "it waits");
        app.statements_that_wait().await == 1
    })
    .await;
    drop(hung_up);
    assert_overloaded(&app.generate_for(&site).await);
    held.release().await;
    app.issue(&site).await;
}
