//! PostgreSQL goes away under load, and comes back: 503 meanwhile, service again at once, and
//! nothing was answered that the store did not back.

use std::{collections::BTreeSet, ops::Range, time::Duration};

use futures_util::future::join_all;
use serde_json::Value;
use tokio::time::Instant;

use crate::{
    client::{Answer, Client},
    harness::Place,
    load::{Call, Load, assert_all_validate, assert_charged},
    postgres::Cluster,
    server::Server,
};

const WORKERS: u64 = 6;

/// A call has a second for the store; what it takes beyond that is the machine's.
const ANSWERED_WITHIN: Duration = Duration::from_millis(2500);
const BACK_WITHIN: Duration = Duration::from_secs(2);

/// How the store goes away and comes back.
#[derive(Clone, Copy)]
enum Outage {
    Crashed,
    Frozen,
}

impl Outage {
    fn begin(self, cluster: &Cluster) {
        match self {
            Self::Crashed => cluster.stop(),
            Self::Frozen => cluster.freeze(),
        }
    }

    fn end(self, cluster: &Cluster) {
        match self {
            Self::Crashed => cluster.start_again(),
            Self::Frozen => cluster.thaw(),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_of_the_database_is_survived() {
    survive(Outage::Crashed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_database_is_survived() {
    survive(Outage::Frozen).await;
}

async fn survive(outage: Outage) {
    let cluster = Cluster::start();
    let place = Place::postgres(&cluster).await;
    let mut server = place.start().await;
    let site = place.create_site("enterprise");
    let load = Load::start(&server, &site, WORKERS);
    load.wait_for_served(60, Instant::now()).await;

    let leaving = Instant::now();
    outage.begin(&cluster);
    let gone = Instant::now();
    load.wait_for_calls(12, gone).await;
    assert_says_that_it_is_down(&server).await;
    assert_bears_many_probes(&server).await;

    let before_return = Instant::now();
    outage.end(&cluster);
    let back = Instant::now();
    load.wait_for_served(1, back).await;
    assert!(
        back.elapsed() < BACK_WITHIN,
        "back after {:?}",
        back.elapsed()
    );
    let late = back + BACK_WITHIN;
    load.wait_for_calls(30, late).await;
    server.wait_for_status("/readyz", 200, BACK_WITHIN).await;
    server
        .wait_for_status("/mirrory/health", 200, BACK_WITHIN)
        .await;
    let calls = load.stop().await;
    let ended = Instant::now();

    assert_refused_meanwhile(&calls, leaving, gone..before_return);
    assert!(
        calls
            .iter()
            .filter(|call| call.began >= late)
            .all(Call::is_served)
    );
    assert!(server.is_running());
    assert!(assert_all_validate(&server, &calls).await > 60);
    assert_charged(&place, &site, &calls);
    server.signal("TERM");
    assert_eq!(server.ended().await, Some(0), "{}", server.stderr());
    assert_told_once_a_second(&server, ended - leaving);
}

/// Every call during the outage is a prompt 503 that says so, and none at any time is a 500.
fn assert_refused_meanwhile(calls: &[Call], leaving: Instant, outage: Range<Instant>) {
    let mut refused = 0;
    for call in calls {
        let answer = call.answer.as_ref().expect("no connection breaks");
        assert!(answer.took < ANSWERED_WITHIN, "{call:?}");
        let ended = call.began + answer.took;
        match answer.status {
            200 => {
                let was_down = outage.contains(&call.began) && outage.contains(&ended);
                assert!(!was_down && call.is_served(), "{call:?}");
            }
            503 => {
                assert_eq!(answer.field("error"), "store_unavailable");
                assert_eq!(answer.header("retry-after"), Some("1"));
                assert!(ended > leaving, "{call:?}");
                refused += 1;
            }
            _ => panic!("{call:?}"),
        }
    }
    assert!(refused >= 12);
}

async fn assert_says_that_it_is_down(server: &Server) {
    // What the store said is repeated for a second.
    server.wait_for_status("/readyz", 503, BACK_WITHIN).await;
    let mut client = server.client();
    client.get("/livez").await.unwrap().ok();
    let ready = client.get("/readyz").await.unwrap();
    assert_eq!(
        (ready.status, ready.field("status").as_str()),
        (503, "store is down")
    );
    let health = client.get("/mirrory/health").await.unwrap();
    assert_eq!(
        (health.status, health.field("status").as_str()),
        (503, "unhealthy")
    );
    assert_eq!(health.body()["store"]["status"], "down");
    assert_eq!(health.body()["store"]["kind"], "postgres");
    assert_eq!(health.header("cache-control"), Some("no-store"));
}

/// However many ask how the service is, the store is asked once a second.
async fn assert_bears_many_probes(server: &Server) {
    let asked_before = times_the_store_was_asked(server);
    let began = Instant::now();
    let mut clients: Vec<Client> = (0..300).map(|_| server.client()).collect();
    let probes = clients
        .iter_mut()
        .map(|client| client.get("/mirrory/health"));
    let answers: Vec<Answer> = join_all(probes)
        .await
        .into_iter()
        .map(Result::unwrap)
        .collect();
    assert!(answers.iter().all(|answer| answer.status == 503));
    let slowest = answers.iter().map(|answer| answer.took).max().unwrap();
    assert!(slowest < ANSWERED_WITHIN, "{slowest:?}");
    let asked = times_the_store_was_asked(server) - asked_before;
    let seconds = began.elapsed().as_secs();
    assert!(asked <= 2 + seconds, "{asked} times in {seconds} s");
}

/// Each time that it does not answer is told.
fn times_the_store_was_asked(server: &Server) -> u64 {
    told(server, "did not answer a health check").1
}

/// How many lines have this in them, and of how many they tell: some were left out, and counted.
fn told(server: &Server, text: &str) -> (usize, u64) {
    let stderr = server.stderr();
    let whole = stderr
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok());
    let lines: Vec<Value> = whole
        .filter(|line: &Value| {
            let said = [&line["message"], &line["line"]];
            said.iter()
                .any(|said| said.as_str().is_some_and(|said| said.contains(text)))
        })
        .collect();
    let counts = lines
        .iter()
        .map(|line| line["left_out"].as_u64().unwrap_or(1));
    (lines.len(), counts.sum())
}

/// Every request that failed for the store is told with its cause, and of each cause there is one line
/// at first and one a second.
fn assert_told_once_a_second(server: &Server, outage: Duration) {
    let stderr = server.stderr();
    let (lines, failures) = told(server, "a request failed on our side");
    let refused = stderr
        .matches(r#""error.code":"store_unavailable""#)
        .count();
    assert_eq!(failures, u64::try_from(refused).unwrap(), "{stderr}");
    let seconds = usize::try_from(outage.as_secs()).unwrap() + 2;
    let causes: BTreeSet<_> = stderr
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|line| line["message"] == "a request failed on our side")
        .map(|line| line["error"].to_string())
        .collect();
    assert!(
        lines <= causes.len() * seconds,
        "{lines} in {outage:?}: {stderr}"
    );
    assert!(lines < refused, "{lines} lines of {refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_database_stops_a_start_with_one_line() {
    let cluster = Cluster::start();
    let url = cluster.create_database().await;
    let place = Place::on_database(&url.replace("postgres@", "postgres:hunter2@"));
    cluster.freeze();
    let began = Instant::now();
    let done = place.run(["serve"]);
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(done.code, Some(1), "{done:?}");
    let line = done.complaint();
    assert!(
        line.contains("cannot open the store postgres://postgres:[secret]@"),
        "{line}"
    );
    assert!(!line.contains("hunter2"), "{line}");

    cluster.thaw();
    place.start().await.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_does_not_wait_for_a_database_that_is_gone() {
    let cluster = Cluster::start();
    let place = Place::postgres(&cluster).await;
    let mut server = place.start().await;
    let site = place.create_site("free");
    server.client().token(&site.secret).await;
    cluster.freeze();
    let began = Instant::now();
    server.signal("TERM");
    assert_eq!(server.ended().await, Some(0), "{}", server.stderr());
    assert!(
        began.elapsed() < Duration::from_secs(8),
        "{:?}",
        began.elapsed()
    );
}
