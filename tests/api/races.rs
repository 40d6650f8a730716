//! Calls that race: for one token, for the last calls of a plan, with one idempotency key; on one
//! instance, and on two that share a database.

use std::{collections::BTreeSet, sync::Arc};

use serde_json::json;
use tokio::task::JoinSet;

use crate::harness::{Answer, Issued, Store, TestApp, TestSite};

/// Makes a test of every race: on each store with one instance, and with two on PostgreSQL.
macro_rules! races {
    ($($race:ident),* $(,)?) => {
        races!(sqlite, Store::Sqlite, 1, $($race)*);
        races!(postgres, Store::Postgres, 1, $($race)*);
        races!(postgres_with_two_instances, Store::Postgres, 2, $($race)*);
    };
    ($module:ident, $store:expr, $instances:literal, $($race:ident)*) => {
        mod $module {
            use super::*;
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $race() {
                super::$race(Instances::start($store, $instances).await).await;
            })*
        }
    };
}

races! {
    one_of_many_machines_wins_a_token,
    a_plan_lets_through_its_calls_whoever_races,
    a_plan_lets_through_its_verdicts_whoever_races,
    one_idempotency_key_is_one_token_and_one_charge,
    one_idempotency_key_with_two_requests_is_one_of_them,
    a_released_token_has_one_new_machine,
    a_token_that_is_revoked_meanwhile_is_never_valid_afterwards,
}

/// Instances of the service on one store.
struct Instances(Vec<Arc<TestApp>>);

impl Instances {
    async fn start(store: Store, count: usize) -> Self {
        let first = TestApp::start(store).await;
        let mut instances = Vec::new();
        for _ in 1..count {
            instances.push(Arc::new(first.restarted(&[]).await));
        }
        instances.push(Arc::new(first));
        Self(instances)
    }

    fn first(&self) -> &TestApp {
        &self.0[0]
    }

    /// Makes `count` calls at once, in turn on each instance.
    async fn race<F>(&self, count: usize, call: impl Fn(Arc<TestApp>, usize) -> F) -> Vec<Answer>
    where
        F: Future<Output = Answer> + Send + 'static,
    {
        let mut racers = JoinSet::new();
        for (number, app) in self.0.iter().cycle().take(count).enumerate() {
            racers.spawn(call(Arc::clone(app), number));
        }
        racers.join_all().await
    }

    async fn validate_on_machines(&self, issued: &Issued, machines: usize) -> Vec<Answer> {
        self.race(machines, |app, number| {
            let token = issued.token.clone();
            async move { app.validate(&token, &format!("machine-{number}")).await }
        })
        .await
    }
}

fn with_status(answers: &[Answer], status: u16) -> usize {
    answers
        .iter()
        .filter(|answer| answer.status == status)
        .count()
}

fn valid(answers: &[Answer]) -> usize {
    answers.iter().filter(|answer| answer.is_valid()).count()
}

/// Every answer is `valid: true` for one machine, and that machine alone is good afterwards.
async fn assert_one_winner(app: &TestApp, issued: &Issued, answers: &[Answer]) {
    assert_eq!(valid(answers), 1);
    for answer in answers.iter().filter(|answer| !answer.is_valid()) {
        assert_eq!(answer.reason(), "machine_mismatch");
    }
    let winner = answers.iter().find(|answer| answer.is_valid()).unwrap();
    let machine = winner.body["machine_id"].as_str().unwrap();
    assert!(app.validate(&issued.token, machine).await.is_valid());
    let other = app.validate(&issued.token, "another").await;
    assert_eq!(other.reason(), "machine_mismatch");
}

async fn one_of_many_machines_wins_a_token(instances: Instances) {
    let app = instances.first();
    let site = app.site("professional").await;
    let issued = app.issue(&site).await;
    let answers = instances.validate_on_machines(&issued, 64).await;
    // The losers got their calls back: the token and the winner are what was charged.
    assert_eq!(app.used(&site).await, (2, 2));
    assert_one_winner(app, &issued, &answers).await;
}

fn generate(site: &TestSite) -> impl Fn(Arc<TestApp>, usize) -> futures::Sent {
    let body = json!({"wp_user_id": 1, "proxy_secret": site.secret});
    move |app, _| {
        let body = body.clone();
        Box::pin(async move { app.generate(body).await })
    }
}

mod futures {
    use std::pin::Pin;

    use crate::harness::Answer;

    pub type Sent = Pin<Box<dyn Future<Output = Answer> + Send>>;
}

async fn a_plan_lets_through_its_calls_whoever_races(instances: Instances) {
    let app = instances.first();
    let site = app.site("free").await;
    let answers = instances.race(40, generate(&site)).await;
    assert_eq!(
        (with_status(&answers, 200), with_status(&answers, 429)),
        (5, 35)
    );
    assert_eq!(app.used(&site).await, (5, 5));
    for answer in answers.iter().filter(|answer| answer.status == 429) {
        assert_eq!(answer.problem(), (429, "quota_exceeded"));
        assert_eq!(answer.body["violated-policies"], json!(["day"]));
    }
}

async fn a_plan_lets_through_its_verdicts_whoever_races(instances: Instances) {
    let app = instances.first();
    let site = app.site("free").await;
    let issued = app.issue(&site).await;
    let answers = instances
        .race(40, |app, _| {
            let token = issued.token.clone();
            async move { app.validate(&token, "m").await }
        })
        .await;
    assert_eq!((valid(&answers), with_status(&answers, 429)), (4, 36));
    assert_eq!(app.used(&site).await, (5, 5));
}

async fn one_idempotency_key_is_one_token_and_one_charge(instances: Instances) {
    let app = instances.first();
    let site = app.site("free").await;
    let body = json!({"wp_user_id": 1, "proxy_secret": site.secret, "machine_id": "m"});
    let answers = instances
        .race(16, |app, _| {
            let body = body.clone();
            async move { send_with_key(&app, &body).await }
        })
        .await;
    assert_eq!(with_status(&answers, 200), 16);
    let replays = answers
        .iter()
        .filter(|answer| answer.header("idempotency-replayed").is_some());
    assert_eq!(replays.count(), 15);
    let ids: BTreeSet<_> = answers
        .iter()
        .map(|answer| answer.body["token_id"].as_str().unwrap())
        .collect();
    assert_eq!(ids.len(), 1);
    assert_eq!(app.used(&site).await, (1, 1));
}

async fn send_with_key(app: &TestApp, body: &serde_json::Value) -> Answer {
    let call = app.post("/mirrory/generate-token");
    call.header("idempotency-key", "order-1")
        .json(body)
        .send()
        .await
}

async fn one_idempotency_key_with_two_requests_is_one_of_them(instances: Instances) {
    let app = instances.first();
    let site = app.site("professional").await;
    let answers = instances
        .race(16, |app, number| {
            let body = json!({"wp_user_id": 1 + number % 4 / 2, "proxy_secret": site.secret});
            async move { send_with_key(&app, &body).await }
        })
        .await;
    assert_eq!(
        (with_status(&answers, 200), with_status(&answers, 422)),
        (8, 8)
    );
    let users: BTreeSet<_> = answers
        .iter()
        .filter(|answer| answer.status == 200)
        .map(|answer| {
            (
                answer.body["user_id"].as_i64(),
                answer.body["token_id"].as_str(),
            )
        })
        .collect();
    assert_eq!(users.len(), 1);
    assert_eq!(app.used(&site).await, (1, 1));
}

async fn a_released_token_has_one_new_machine(instances: Instances) {
    let app = instances.first();
    let site = app.site("professional").await;
    let issued = app.issue(&site).await;
    assert!(app.validate(&issued.token, "old").await.is_valid());
    app.release(&site, &issued.token_id).await.ok();
    let answers = instances.validate_on_machines(&issued, 16).await;
    assert_one_winner(app, &issued, &answers).await;
}

async fn a_token_that_is_revoked_meanwhile_is_never_valid_afterwards(instances: Instances) {
    let app = instances.first();
    let site = app.site("professional").await;
    let issued = app.issue(&site).await;
    let answers = instances
        .race(24, |app, number| {
            let (site, issued) = (site.clone(), issued.clone());
            async move {
                if number == 12 {
                    return app.revoke(&site, &issued.token_id).await;
                }
                app.validate(&issued.token, "m").await
            }
        })
        .await;
    assert_eq!(with_status(&answers, 200), 24);
    let told = answers
        .iter()
        .filter(|answer| answer.body.get("valid").is_some());
    for answer in told.filter(|answer| !answer.is_valid()) {
        assert_eq!(answer.reason(), "revoked");
    }
    let after = instances.validate_on_machines(&issued, 4).await;
    assert!(after.iter().all(|answer| answer.reason() == "revoked"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_race_does_not_count_for_what_its_token_is_good_for() {
    let instances = Instances(vec![Arc::new(TestApp::start(Store::Sqlite).await)]);
    let app = instances.first();
    let site = app.site("professional").await;
    let issued = app.issue(&site).await;
    let answers = instances.validate_on_machines(&issued, 64).await;
    assert_eq!(valid(&answers), 1);
    let winner = answers.iter().find(|answer| answer.is_valid()).unwrap();
    let machine = winner.body["machine_id"].as_str().unwrap();
    for _ in 0..29 {
        assert!(app.validate(&issued.token, machine).await.is_valid());
    }
    assert_eq!(app.validate(&issued.token, machine).await.status, 429);
}
