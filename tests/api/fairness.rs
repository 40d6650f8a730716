//! One caller that asks for more than can be done keeps the others waiting for nothing.

use std::collections::BTreeSet;

use axum::http::StatusCode;
use futures_util::future::join_all;
use mirrory::{
    accounts::Role,
    passwords::Whose,
    types::{clock::Timestamp, ids::SecretId, randomness::Randomness, secret::ProxySecret},
};
use serde_json::json;

use crate::harness::{Answer, Crowd, Issued, Manager, PASSWORD, Store, TestApp, TestSite};

/// Fewer places and connections than the crowds need that come here.
const FEW: [(&str, &str); 3] = [
    ("server.concurrent_requests", "16"),
    ("database.max_connections", "8"),
    ("limits.changes_per_minute", "0"),
];

/// How many requests may be at one subject.
const MOST: usize = 256;

/// And from one address, before it is known who asks.
const MOST_AT_ONE_ADDRESS: usize = 512;

/// Of eight connections, how many are for calls.
const FOR_CALLS: i64 = 4;

const OVERLOADED: StatusCode = StatusCode::SERVICE_UNAVAILABLE;

/// Every change waits.
const LOCK_CHANGES: &str = "SELECT seq FROM change_counter WHERE id = 1 FOR UPDATE";

async fn few() -> TestApp {
    TestApp::with(Store::Postgres, &FEW).await
}

/// Nobody is charged to a site that has been charged before.
fn lock_usage_of(site: &TestSite) -> String {
    let site_id = site.id.as_uuid();
    format!("SELECT day FROM usage WHERE site_id = '{site_id}' FOR UPDATE")
}

fn count(answers: &[Answer], status: StatusCode) -> usize {
    let is_so = |answer: &&Answer| answer.status == status;
    answers.iter().filter(is_so).count()
}

fn assert_overloaded(answer: &Answer) {
    assert_eq!(answer.problem(), (503, "overloaded"));
    assert_eq!(answer.retry_after(), 1);
}

async fn is_waited_for(app: &TestApp, statements: i64) -> bool {
    app.statements_that_wait().await == statements
}

/// Calls of a shop that has nothing to do with the crowd.
async fn assert_served(app: &TestApp, shop: &TestSite) {
    for machine in ["one", "two", "three", "four"] {
        let issued = app.issue(shop).await;
        let verdict = app.validate(&issued.token, machine).await;
        assert!(verdict.is_valid(), "{}", verdict.body);
    }
}

fn generate_with<'a>(
    app: &'a TestApp,
    site: &'a TestSite,
    key: &str,
) -> impl Future<Output = Answer> + use<'a> {
    let body = json!({"wp_user_id": 12345, "proxy_secret": site.secret});
    let call = app.post("/mirrory/generate-token");
    call.header("idempotency-key", key).json(&body).send()
}

/// A busy site and a token of it, and a shop that is not busy.
async fn busy_and_quiet(app: &TestApp, plan: &str) -> (TestSite, Issued, TestSite) {
    let (busy, quiet) = (app.site(plan).await, app.site("professional").await);
    // From now on what is in memory is trusted.
    app.tick().await;
    let issued = app.issue(&busy).await;
    assert_served(app, &quiet).await;
    (busy, issued, quiet)
}

#[tokio::test]
async fn a_crowd_at_one_token_keeps_no_other_call_out() {
    let app = few().await;
    let (busy, issued, quiet) = busy_and_quiet(&app, "professional").await;
    let held = app.hold(&lock_usage_of(&busy)).await;
    let mut crowd = Crowd::of((0..40).map(|_| app.validate(&issued.token, "m")));
    crowd.until(async |_| is_waited_for(&app, 1).await).await;
    crowd.beside(assert_served(&app, &quiet)).await;
    assert!(is_waited_for(&app, 1).await, "none of the crowd asks twice");
    held.release().await;
    let answers = crowd.end().await;
    let (valid, refused): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.is_valid());
    assert!(!valid.is_empty());
    for answer in refused {
        // Its own limit, or who waited longer than two seconds.
        assert!(matches!(answer.status, 429 | 503), "{}", answer.body);
    }
}

#[tokio::test]
async fn an_equal_crowd_at_many_tokens_is_served_with_the_others() {
    let app = few().await;
    let (_, _, quiet) = busy_and_quiet(&app, "professional").await;
    let busy = app.site("professional").await;
    let mut issued = Vec::new();
    for _ in 0..40 {
        issued.push(app.issue(&busy).await);
    }
    let validations = issued.iter().map(|issued| app.validate(&issued.token, "m"));
    let mut crowd = Crowd::of(validations);
    crowd.beside(assert_served(&app, &quiet)).await;
    assert!(crowd.end().await.iter().all(Answer::is_valid));
}

#[tokio::test]
async fn a_crowd_at_one_idempotency_key_keeps_no_other_call_out() {
    let app = few().await;
    let (busy, _, quiet) = busy_and_quiet(&app, "professional").await;
    let held = app.hold(&lock_usage_of(&busy)).await;
    let mut crowd = Crowd::of((0..40).map(|_| generate_with(&app, &busy, "order-1")));
    crowd.until(async |_| is_waited_for(&app, 1).await).await;
    crowd.beside(assert_served(&app, &quiet)).await;
    held.release().await;
    let answers = crowd.end().await;
    let (issued, refused): (Vec<_>, Vec<_>) =
        answers.into_iter().partition(|answer| answer.status == 200);
    refused.iter().for_each(assert_overloaded);
    let tokens: BTreeSet<_> = issued
        .into_iter()
        .map(|answer| answer.issued().token_id)
        .collect();
    assert_eq!(tokens.len(), 1);
    assert_eq!(app.used(&busy).await, (2, 2));
}

#[tokio::test]
async fn a_crowd_of_one_site_has_one_call_charged_at_a_time_and_keeps_no_other_out() {
    let app = few().await;
    let (busy, _, quiet) = busy_and_quiet(&app, "free").await;
    let held = app.hold(&lock_usage_of(&busy)).await;
    let mut crowd = Crowd::of((0..40).map(|_| app.generate_for(&busy)));
    crowd.until(async |_| is_waited_for(&app, 1).await).await;
    crowd.beside(assert_served(&app, &quiet)).await;
    assert!(is_waited_for(&app, 1).await);
    held.release().await;
    let answers = crowd.end().await;
    assert_eq!(count(&answers, StatusCode::OK), 4, "of five a day");
    assert_eq!(count(&answers, StatusCode::TOO_MANY_REQUESTS), 36);
    assert_eq!(app.used(&busy).await, (5, 5));
}

/// Has the store count how often it is asked to charge a site.
async fn count_charges(app: &TestApp, site: &TestSite) {
    let site_id = site.id.as_uuid();
    app.execute(&format!(
        "CREATE SEQUENCE charges;
         CREATE FUNCTION count_charge() RETURNS trigger LANGUAGE plpgsql AS \
         $$ BEGIN PERFORM nextval('charges'); RETURN NEW; END $$;
         CREATE TRIGGER count_charge BEFORE INSERT ON usage FOR EACH ROW \
         WHEN (NEW.site_id = '{site_id}') EXECUTE FUNCTION count_charge()"
    ))
    .await;
}

#[tokio::test]
async fn calls_of_a_site_out_of_quota_that_wait_share_one_look() {
    let app = few().await;
    let (busy, _, quiet) = busy_and_quiet(&app, "free").await;
    for _ in 0..4 {
        app.issue(&busy).await;
    }
    count_charges(&app, &busy).await;
    let held = app.hold(&lock_usage_of(&busy)).await;
    let mut crowd = Crowd::of((0..40).map(|_| app.generate_for(&busy)));
    crowd.until(async |_| is_waited_for(&app, 1).await).await;
    crowd.beside(assert_served(&app, &quiet)).await;
    held.release().await;
    let answers = crowd.end().await;
    assert_eq!(count(&answers, StatusCode::TOO_MANY_REQUESTS), 40);
    let charges = app.number("SELECT last_value FROM charges").await;
    assert_eq!(charges, 2, "of the first, and of all who came meanwhile");
    let late = app.generate_for(&busy).await;
    assert_eq!(late.problem(), (429, "quota_exceeded"));
    let charges = app.number("SELECT last_value FROM charges").await;
    assert_eq!(charges, 3, "whoever comes later is looked up anew");
}

#[tokio::test]
async fn one_token_or_key_too_many_is_told_at_once_and_costs_nothing() {
    let app = TestApp::start(Store::Postgres).await;
    let (busy, issued, _) = busy_and_quiet(&app, "professional").await;
    let held = app.hold(&lock_usage_of(&busy)).await;
    let mut at_token = Crowd::of((0..300).map(|_| app.validate(&issued.token, "m")));
    let mut at_key = Crowd::of((0..300).map(|_| generate_with(&app, &busy, "order-1")));
    for crowd in [&mut at_token, &mut at_key] {
        // At the first look, before anything else is waited for.
        crowd.go_on();
        assert_eq!(crowd.answers.len(), 300 - MOST);
        crowd.answers.iter().for_each(assert_overloaded);
    }
    let first = async |_: &[Answer]| is_waited_for(&app, 1).await;
    at_token.until(first).await;
    held.release().await;
    let mut first = at_token.end().await;
    first.retain(Answer::is_valid);
    assert!(!first.is_empty());
    at_key.end().await;
    let charged = u64::try_from(first.len()).unwrap() + 2;
    assert_eq!(app.used(&busy).await, (charged, charged));
}

#[tokio::test]
async fn secrets_that_are_looked_up_are_only_so_many_an_address() {
    let app = TestApp::start(Store::Postgres).await;
    let shop = app.site("professional").await;
    let held = app
        .hold("LOCK TABLE proxy_secrets IN ACCESS EXCLUSIVE MODE")
        .await;
    let forged = |number| {
        let now = Timestamp::from_micros(number);
        let randomness = Randomness::seeded(u64::try_from(number).unwrap());
        let secret_id = SecretId::new(now, &randomness);
        let secret = ProxySecret::generate(secret_id, &randomness);
        json!({"wp_user_id": 1, "proxy_secret": secret.reveal()})
    };
    let mut crowd = Crowd::of((1..=600).map(|number| app.generate(forged(number))));
    crowd.go_on();
    assert_eq!(crowd.answers.len(), 600 - MOST_AT_ONE_ADDRESS);
    crowd.answers.iter().for_each(assert_overloaded);
    held.release().await;
    crowd.end().await;
    let own = json!({"wp_user_id": 1, "proxy_secret": shop.secret});
    app.generate(own).await.issued();
}

fn rename<'a>(app: &'a TestApp, by: &'a Manager, site: &TestSite) -> impl Future<Output = Answer> {
    let path = format!("/api/v1/sites/{}", site.id);
    let call = app.signed_in(&by.session, "PATCH", &path);
    call.json(&json!({"name": "another name"})).send()
}

#[tokio::test]
async fn changes_of_one_account_wait_on_one_connection_and_keep_no_call_out() {
    let app = few().await;
    let (_, _, quiet) = busy_and_quiet(&app, "professional").await;
    let ada = app.manager("ada").await;
    let site = app.site_of(&ada).await;
    let held = app.hold(LOCK_CHANGES).await;
    let mut crowd = Crowd::of((0..300).map(|_| rename(&app, &ada, &site)));
    crowd
        .until(async |answers| answers.len() == 300 - MOST && is_waited_for(&app, 1).await)
        .await;
    crowd.answers.iter().for_each(assert_overloaded);
    crowd.beside(assert_served(&app, &quiet)).await;
    assert!(is_waited_for(&app, 1).await);
    held.release().await;
    let answers = crowd.end().await;
    let (done, late) = (count(&answers, StatusCode::OK), count(&answers, OVERLOADED));
    assert!(done > 0);
    assert_eq!(done + late, 300);
}

#[tokio::test]
async fn what_takes_back_comes_by_changes_that_wait() {
    let app = few().await;
    let (busy, issued, _) = busy_and_quiet(&app, "professional").await;
    let (ada, bob) = (app.manager("ada").await, app.manager("bob").await);
    let (of_ada, of_bob) = (app.site_of(&ada).await, app.site_of(&bob).await);
    let token = app.issue(&of_ada).await;
    let held = app.hold(LOCK_CHANGES).await;
    let both = [(&ada, &of_ada), (&bob, &of_bob)];
    let changes = (0..128).map(|number| both[number % 2]);
    let mut crowd = Crowd::of(changes.map(|(by, site)| rename(&app, by, site)));
    crowd.until(async |_| is_waited_for(&app, 1).await).await;
    let path = format!(
        "/api/v1/sites/{}/tokens/{}/revoke",
        of_ada.id, token.token_id
    );
    let by_owner = async { app.signed_in(&ada.session, "POST", &path).send().await };
    let mut urgent = Crowd::of([by_owner]);
    urgent.until(async |_| is_waited_for(&app, 2).await).await;
    held.release().await;
    let mut revoked = crowd.beside(urgent.end()).await;
    revoked.remove(0).ok();
    let by_proxy = app.revoke(&busy, &issued.token_id);
    crowd.beside(by_proxy).await.ok();
    for token in [&token, &issued] {
        let verdict = app.validate(&token.token, "m").await;
        assert_eq!(verdict.reason(), "revoked");
    }
    crowd.end().await;
}

#[tokio::test]
async fn a_crowd_of_calls_leaves_connections_for_managing_signing_in_and_revoking() {
    let app = few().await;
    let (busy, issued, _) = busy_and_quiet(&app, "professional").await;
    let ada = app.manager("ada").await;
    let site = app.site_of(&ada).await;
    let shops = join_all((0..12).map(|_| app.site("free"))).await;
    let held = app.hold("LOCK TABLE usage IN EXCLUSIVE MODE").await;
    let mut crowd = Crowd::of(shops.iter().map(|shop| app.generate_for(shop)));
    crowd
        .until(async |_| is_waited_for(&app, FOR_CALLS).await)
        .await;
    let others = async {
        app.see(&ada, "/api/v1/sites").await.ok();
        rename(&app, &ada, &site).await.ok();
        app.sign_in(&ada.person).await;
        app.tick().await;
        app.get("/mirrory/health").await.ok();
        app.revoke(&busy, &issued.token_id).await.ok();
    };
    crowd.beside(others).await;
    assert!(is_waited_for(&app, FOR_CALLS).await);
    held.release().await;
    assert_eq!(count(&crowd.end().await, StatusCode::OK), 12);
}

#[tokio::test]
async fn right_passwords_of_one_account_leave_places_for_others() {
    let app = TestApp::start(Store::Sqlite).await;
    let ada = app.owner("ada").await;
    let admin = app.person("root", Role::Admin).await;
    let sign_in = |number: usize| {
        let peer = format!("192.0.2.{}:1", number % 8);
        let name = [&ada.email, &ada.username][number % 2];
        let body = json!({"email": name, "password": PASSWORD});
        app.post("/api/v1/jwt").peer(&peer).json(&body).send()
    };
    let mut crowd = Crowd::of((0..48).map(sign_in));
    crowd.go_on();
    assert!(!crowd.answers.is_empty(), "more than its share");
    crowd.answers.iter().for_each(assert_overloaded);
    assert!(app.state.passwords.enter(Whose::Operator).is_ok());
    let refused = crowd.answers.len();
    crowd.beside(app.sign_in(&admin)).await;
    let answers = crowd.end().await;
    assert_eq!(count(&answers, StatusCode::OK), 48 - refused);
}

#[tokio::test]
async fn refreshes_of_one_session_wait_on_one_connection() {
    let app = few().await;
    let (_, _, quiet) = busy_and_quiet(&app, "professional").await;
    let ada = app.manager("ada").await;
    let held = app.hold("SELECT session_id FROM sessions FOR UPDATE").await;
    let token = &ada.session.refresh_token;
    let mut crowd = Crowd::of((0..10).map(|_| app.refresh(token)));
    crowd.until(async |_| is_waited_for(&app, 1).await).await;
    crowd.beside(assert_served(&app, &quiet)).await;
    assert!(is_waited_for(&app, 1).await);
    held.release().await;
    assert_eq!(count(&crowd.end().await, StatusCode::OK), 10);
}
