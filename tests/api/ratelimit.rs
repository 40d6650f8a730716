//! The `RateLimit` fields (draft-ietf-httpapi-ratelimit-headers-11): where they are, and exactly
//! what they say.

use serde_json::json;

use crate::harness::{Answer, Store, TestApp};

on_both_stores! {
    an_answer_says_where_the_quota_stands,
    a_month_is_as_long_as_it_is,
    every_answer_after_the_proof_carries_them,
    no_answer_before_the_proof_carries_them,
    a_lower_plan_leaves_nothing,
}

const DEVELOPER: &str = "\"day\";q=20;w=86400, \"month\";q=500;w=2592000";
const FREE: &str = "\"day\";q=5;w=86400, \"month\";q=50;w=2592000";

fn fields(answer: &Answer) -> (Option<&str>, Option<&str>) {
    (
        answer.header("ratelimit-policy"),
        answer.header("ratelimit"),
    )
}

async fn an_answer_says_where_the_quota_stands(store: Store) {
    let app = TestApp::start(store).await;
    let site = app.site("developer").await;
    let answer = app.generate_for(&site).await;
    let limit = "\"day\";r=19;t=43200, \"month\";r=499;t=1339200";
    assert_eq!(fields(&answer), (Some(DEVELOPER), Some(limit)));
    app.set_wall("2026-11-15T23:59:59.5Z");
    let answer = app.generate_for(&site).await;
    let limit = "\"day\";r=18;t=1, \"month\";r=498;t=1296001";
    assert_eq!(fields(&answer), (Some(DEVELOPER), Some(limit)));
    app.set_wall("2026-11-16T00:00:00Z");
    let answer = app.generate_for(&site).await;
    let limit = "\"day\";r=19;t=86400, \"month\";r=497;t=1296000";
    assert_eq!(fields(&answer), (Some(DEVELOPER), Some(limit)));
}

async fn a_month_is_as_long_as_it_is(store: Store) {
    let app = TestApp::start(store).await;
    let site = app.site("free").await;
    for (moment, seconds) in [
        ("2026-12-31T23:59:59Z", 31 * 86_400),
        ("2027-02-01T00:00:00Z", 28 * 86_400),
        ("2028-02-29T12:00:00Z", 29 * 86_400),
        ("2028-04-30T12:00:00Z", 30 * 86_400),
    ] {
        app.set_wall(moment);
        let answer = app.generate_for(&site).await;
        let policy = format!("\"day\";q=5;w=86400, \"month\";q=50;w={seconds}");
        assert_eq!(answer.header("ratelimit-policy"), Some(policy.as_str()));
    }
}

async fn every_answer_after_the_proof_carries_them(store: Store) {
    let app = TestApp::start(store).await;
    let site = app.site("free").await;
    let send = async |key: &str, user: u32| {
        let body = json!({"wp_user_id": user, "proxy_secret": site.secret});
        let call = app
            .post("/mirrory/generate-token")
            .header("idempotency-key", key);
        call.json(&body).send().await
    };
    let standing =
        |day: u32, month: u32| format!("\"day\";r={day};t=43200, \"month\";r={month};t=1339200");
    let check = |answer: &Answer, status: u16, used: u32| {
        assert_eq!(answer.status, status, "{}", answer.body);
        let limit = standing(5 - used, 50 - used);
        assert_eq!(fields(answer), (Some(FREE), Some(limit.as_str())));
    };
    check(&send("k", 1).await, 200, 1);
    check(&send("k", 1).await, 200, 1);
    check(&send("k", 2).await, 422, 1);
    app.suspend(&site).await;
    check(&send("k", 1).await, 403, 1);
    app.resume(&site).await;
    for used in 2..=5 {
        check(&app.generate_for(&site).await, 200, used);
    }
    check(&app.generate_for(&site).await, 429, 5);
    check(&send("k", 1).await, 200, 5);
}

async fn no_answer_before_the_proof_carries_them(store: Store) {
    let app = TestApp::start(store).await;
    let wrong = json!({"wp_user_id": 1, "proxy_secret": "wrong"});
    for answer in [
        app.generate(wrong).await,
        app.generate(json!({})).await,
        app.post("/mirrory/generate-token").text("{").send().await,
        app.post("/mirrory/generate-token").body("{}").send().await,
        app.get("/mirrory/generate-token").await,
    ] {
        assert_eq!(fields(&answer), (None, None), "{}", answer.body);
    }
}

async fn a_lower_plan_leaves_nothing(store: Store) {
    let app = TestApp::start(store).await;
    let site = app.site("developer").await;
    for _ in 0..7 {
        app.issue(&site).await;
    }
    app.set_plan(&site, "free").await;
    let answer = app.generate_for(&site).await;
    let limit = "\"day\";r=0;t=43200, \"month\";r=43;t=1339200";
    assert_eq!(fields(&answer), (Some(FREE), Some(limit)));
    assert_eq!(answer.problem(), (429, "quota_exceeded"));
}
