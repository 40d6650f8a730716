//! Servers whose machine's clock is wrong, by `faketime`: what they do, and that nothing is gone and
//! nothing charged afterwards.

use std::{fs, net::SocketAddr, path::PathBuf, process::Command};

use serde_json::Value;
use sqlx::{Connection, SqliteConnection};
use tokio::time::{Instant, sleep};

use crate::{
    client::Answer,
    harness::{Done, PATIENCE, POLL, Place, Site, free_address},
    postgres,
    server::Server,
};

/// The library that stands between a program and its clock. Loaded by itself, so that signals reach the
/// program.
fn library() -> PathBuf {
    let folders = [
        "/usr/lib",
        "/usr/lib64",
        "/usr/local/lib",
        "/opt/homebrew/lib",
    ];
    let inner = folders.iter().flat_map(|folder| {
        let inner = fs::read_dir(folder).into_iter().flatten().flatten();
        inner
            .map(|entry| entry.path())
            .chain([PathBuf::from(folder)])
    });
    let mut files = inner.map(|folder| folder.join("faketime/libfaketimeMT.so.1"));
    let found = files.find(|file| file.is_file());
    found.expect("faketime is missing: run `tests/run`, which installs it")
}

impl Place {
    /// The program with these arguments, at another time: `+400d`, `@2019-05-01 12:00:00`.
    fn at(&self, time: &str, arguments: &[&str]) -> Command {
        let mut program = self.program(arguments);
        program
            .env("LD_PRELOAD", library())
            .env("FAKETIME", time)
            .env("TZ", "UTC")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
            .env("NO_FAKE_STAT", "1");
        program
    }

    /// A server at another time, on an address that is known before it says it.
    async fn serve_at(&self, time: &str) -> Server {
        let mut server = self.spawn_command(self.at(time, &["serve", "--json"]));
        server.address = self.listens_at();
        server.wait_for_status("/livez", 200, PATIENCE).await;
        server
    }

    fn run_at(&self, time: &str, arguments: &[&str]) -> Done {
        self.finish(self.at(time, arguments))
    }

    fn at_a_known_address(self) -> Self {
        let address = free_address();
        self.with("MIRRORY__SERVER__LISTEN", &address)
    }

    fn listens_at(&self) -> SocketAddr {
        self.setting("MIRRORY__SERVER__LISTEN").parse().unwrap()
    }
}

const KEY: &str = "order-1";

fn assert_unavailable(answer: &Answer) {
    assert_eq!(answer.status, 503, "{answer:?}");
    assert_eq!(answer.field("error"), "store_unavailable");
    assert_eq!(answer.header("retry-after"), Some("1"));
}

/// The one warning about the clock. What is logged is in the file within a second.
async fn warning(server: &Server) -> String {
    let began = Instant::now();
    loop {
        let said = server.stderr();
        let mut lines = said.lines().filter(|line| line.contains("clock is"));
        if let Some(line) = lines.next() {
            assert_eq!(lines.next(), None, "told once: {said}");
            return line.to_owned();
        }
        assert!(began.elapsed() < PATIENCE, "no warning: {said}");
        sleep(POLL).await;
    }
}

async fn readiness(server: &Server) -> String {
    let answer = server.client().get("/readyz").await.unwrap();
    answer.field("status")
}

fn used(place: &Place, site: &Site) -> i64 {
    let usage = place.ask(["usage", &site.id]);
    usage["day"]["used"].as_i64().unwrap()
}

/// A day ahead, a plan was used up twice; far ahead, it was used up for good.
#[tokio::test(flavor = "multi_thread")]
async fn an_instance_whose_clock_is_off_postgres_charges_and_issues_nothing() {
    let place = Place::postgres(postgres::shared()).await;
    let healthy = place.start().await;
    let site = place.create_site("free");
    let url = place.setting("DATABASE_URL").to_owned();
    for time in ["+400d", "+25h", "-1h"] {
        let beside = Place::on_database(&url).at_a_known_address();
        let wrong = beside.serve_at(time).await;
        wrong
            .wait_for_status("/mirrory/health", 200, PATIENCE)
            .await;
        let secret = site.secret.as_str();
        assert_unavailable(&wrong.client().generate(secret, 12345).await);
        assert_unavailable(&wrong.client().validate("x", "machine").await);
        assert_unavailable(&wrong.client().get("/api/v1/sites").await.unwrap());
        assert_eq!(readiness(&wrong).await, "clock is off the store's");
        for path in ["/livez", "/.well-known/jwks.json", "/openapi.json"] {
            wrong.client().get(path).await.unwrap().ok();
        }
        let told = warning(&wrong).await;
        // That of the line, and the two.
        assert!(told.matches('Z').count() >= 3, "{told}");
        wrong.stop().await;
        let refused = beside.run_at(time, &["site", "suspend", &site.id]);
        assert_eq!(refused.code, Some(1), "{refused:?}");
        assert!(refused.complaint().contains("clock"), "{refused:?}");
    }
    assert_eq!(used(&place, &site), 0);
    let mut client = healthy.client();
    for _ in 0..5 {
        client.generate(&site.secret, 12345).await.ok();
    }
    assert_eq!(client.generate(&site.secret, 12345).await.status, 429);
    healthy.stop().await;
}

/// An embedded store with a site on the plan `free` and a token that was issued under a key.
async fn embedded() -> (Place, Site) {
    let place = Place::sqlite().at_a_known_address();
    let server = place.start().await;
    let site = place.create_site("free");
    server
        .client()
        .generate_once(&site.secret, 12345, KEY)
        .await
        .ok();
    server.stop().await;
    (place, site)
}

/// How often a server has tried to write, which it does every five seconds.
async fn beats(place: &Place) -> i64 {
    let store = format!("sqlite://{}/data/mirrory.db", place.work().display());
    let mut connection = SqliteConnection::connect(&store).await.unwrap();
    sqlx::query_scalar("SELECT beats FROM store_clock")
        .fetch_one(&mut connection)
        .await
        .unwrap()
}

fn rows(place: &Place) -> Vec<Value> {
    let export = place.run(["export"]);
    assert_eq!(export.code, Some(0), "{export:?}");
    let lines = export
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap());
    let kept = [
        "tokens",
        "idempotency_keys",
        "audit_log",
        "usage_history",
        "sites",
    ];
    lines
        .filter(|line: &Value| kept.contains(&line["table"].as_str().unwrap_or_default()))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_embedded_store_loses_nothing_by_a_clock_far_ahead() {
    let (place, site) = embedded().await;
    let before = rows(&place);
    let ahead = place.serve_at("@2099-01-01 00:00:00").await;
    ahead
        .wait_for_status("/mirrory/health", 200, PATIENCE)
        .await;
    assert_eq!(readiness(&ahead).await, "clock is far ahead of the store's");
    assert!(warning(&ahead).await.contains("mirrory clock accept"));
    // The clean-up's first round is over, and a time was to be noted.
    let begun = beats(&place).await;
    while beats(&place).await < begun + 2 {
        sleep(POLL).await;
    }
    ahead.client().generate(&site.secret, 12345).await.ok();
    ahead.stop().await;
    let after = rows(&place);
    for row in &before {
        assert!(after.contains(row), "gone: {row}");
    }

    let right = place.start().await;
    let mut client = right.client();
    let again = client.generate_once(&site.secret, 12345, KEY).await.ok();
    assert_eq!(again.header("idempotency-replayed"), Some("true"));
    // The day that is used up in 2099 is none of today's, which has lost its first call to it.
    for _ in 0..4 {
        client.generate(&site.secret, 12345).await.ok();
    }
    assert!(used(&place, &site) <= 5);
    right.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_embedded_store_sells_nothing_by_a_clock_that_was_set_back() {
    let (place, site) = embedded().await;
    for time in ["@1970-01-02 00:00:00", "@2019-05-01 12:00:00"] {
        let wrong = place.serve_at(time).await;
        wrong
            .wait_for_status("/mirrory/health", 200, PATIENCE)
            .await;
        assert_unavailable(&wrong.client().generate(&site.secret, 12345).await);
        assert_eq!(readiness(&wrong).await, "clock is off the store's");
        assert!(warning(&wrong).await.contains("mirrory clock accept"));
        wrong.stop().await;
        let doctor = place.run_at(time, &["doctor", "--json"]);
        assert_eq!(doctor.code, Some(1), "{doctor:?}");
        let checks = doctor.document();
        let clock = checks
            .as_array()
            .unwrap()
            .iter()
            .find(|it| it["check"] == "clock");
        assert_eq!(clock.unwrap()["status"], "failed");
    }
    // An operator may know better, while it runs.
    let time = "@2019-05-01 12:00:00";
    let server = place.serve_at(time).await;
    let accepted = place.run_at(time, &["clock", "accept"]);
    assert_eq!(accepted.code, Some(0), "{accepted:?}");
    server.wait_for_status("/readyz", 200, PATIENCE).await;
    server.client().generate(&site.secret, 12345).await.ok();
    server.stop().await;
}

/// A machine without a battery begins somewhere, and is set right a while later.
#[tokio::test(flavor = "multi_thread")]
async fn an_empty_store_is_set_up_when_the_clock_is_right() {
    let place = Place::sqlite().at_a_known_address();
    let wrong = place.serve_at("@1970-01-02 00:00:00").await;
    wrong
        .wait_for_status("/mirrory/health", 200, PATIENCE)
        .await;
    assert_eq!(readiness(&wrong).await, "clock is off the store's");
    assert_unavailable(&wrong.client().generate("mps_x", 12345).await);
    assert_eq!(place.ask(["site", "list"]).as_array().unwrap().len(), 0);
    let refused = place.run_at(
        "@1970-01-02 00:00:00",
        &["site", "create", "--name", "Shop"],
    );
    assert_eq!(refused.code, Some(1), "{refused:?}");
    wrong.kill();
    let right = place.start().await;
    assert_eq!(place.ask(["site", "list"]).as_array().unwrap().len(), 1);
    right.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn usage_is_reset_while_a_server_runs() {
    let place = Place::sqlite();
    let server = place.start().await;
    let site = place.create_site("free");
    let mut client = server.client();
    for _ in 0..5 {
        client.generate(&site.secret, 12345).await.ok();
    }
    assert_eq!(client.generate(&site.secret, 12345).await.status, 429);
    let usage = place.ask(["usage", "reset", &site.id]);
    assert_eq!(usage["day"]["used"], 0);
    assert_eq!(usage["month"]["remaining"], 50);
    client.generate(&site.secret, 12345).await.ok();
    let audit = place.ask(["audit", "list", "--event", "usage.reset"]);
    assert_eq!(audit[0]["subject"], Value::from(site.id.as_str()));
    let unknown = place.run(["usage", "reset", "site_00000000000000000000000000"]);
    assert_eq!(unknown.code, Some(1), "{unknown:?}");
    let missing = place.run(["usage"]);
    assert_eq!(missing.code, Some(2), "{missing:?}");
    server.stop().await;
}
