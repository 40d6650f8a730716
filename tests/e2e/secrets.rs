//! One full run with every log line there is: what is secret is nowhere in what the program says.

mod kept;
mod refusals;

use std::fs;

use serde_json::{Value, json};
use sqlx::{Connection, SqliteConnection};

use self::{
    kept::Secrets,
    refusals::{assert_refused, exhaust, provoke},
};
use crate::{
    cli::follows,
    harness::{MASTER_KEY, Place},
    postgres::Cluster,
    server::Server,
};

const BOOTSTRAP: &str = "canary: a secret of our own choosing";
const DATABASE_PASSWORD: &str = "canary-database-password";
const IDEMPOTENCY_KEY: &str = "canary-idempotency-key";
const OTHER_MASTER_KEY: &str = "Y2FuYXJ5OiBhIG1hc3RlciBrZXkgb2Ygb3RoZXJzLi4=";

fn talkative(place: Place) -> Place {
    place
        .with("RUST_LOG", "trace")
        .with("MIRRORY__SERVER__BODY_TIMEOUT_SECONDS", "1")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_run_on_sqlite_keeps_its_secrets() {
    let place = talkative(Place::sqlite()).with("MIRRORY__LOG__FORMAT", "pretty");
    let mut secrets = Secrets::default();
    let server = place.start().await;
    let introduced: Value = serde_json::from_str(&server.stdout()).unwrap();
    secrets.shown_in(&introduced["site"]);
    server.stop().await;
    let file = place.work().join("data/master.key");
    let master_key = fs::read_to_string(file).unwrap();
    secrets.never(master_key.trim());

    let place = place.with("MIRRORY__BOOTSTRAP__PROXY_SECRET", BOOTSTRAP);
    let server = place.start().await;
    let run = run(&place, &server, &mut secrets).await;
    let database = place.work().join("data/mirrory.db");
    let url = format!("sqlite://{}", database.display());
    let mut locker = SqliteConnection::connect(&url).await.unwrap();
    sqlx::raw_sql("BEGIN IMMEDIATE")
        .execute(&mut locker)
        .await
        .unwrap();
    let unavailable = ask_without_store(&server, &run).await;
    sqlx::raw_sql("ROLLBACK")
        .execute(&mut locker)
        .await
        .unwrap();
    assert_eq!(unavailable, 503);
    finish(&place, server, secrets).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_run_on_postgres_keeps_its_secrets() {
    let cluster = Cluster::start();
    let url = cluster.create_database().await;
    let url = url.replace("postgres@", &format!("postgres:{DATABASE_PASSWORD}@"));
    let place =
        talkative(Place::on_database(&url)).with("MIRRORY__BOOTSTRAP__PROXY_SECRET", BOOTSTRAP);
    let mut secrets = Secrets::default();
    secrets.never(MASTER_KEY);
    secrets.never(DATABASE_PASSWORD);
    let server = place.start().await;
    let run = run(&place, &server, &mut secrets).await;
    cluster.stop();
    assert_eq!(ask_without_store(&server, &run).await, 503);
    assert_eq!(place.run(["site", "list"]).code, Some(1));
    assert_eq!(place.run(["serve"]).code, Some(1));
    cluster.start_again();
    finish(&place, server, secrets).await;
}

/// A live secret and a token, to go on with.
struct Run {
    secret: String,
    token: String,
}

async fn run(place: &Place, server: &Server, secrets: &mut Secrets) -> Run {
    secrets.never(BOOTSTRAP);
    secrets.never(IDEMPOTENCY_KEY);
    secrets.never(OTHER_MASTER_KEY);
    let mut client = server.client();
    let created = place.ask(["site", "create", "--name", "Shop", "--plan", "developer"]);
    let site = created["id"].as_str().unwrap();
    let secret = secrets.shown_in(&created);

    let key = IDEMPOTENCY_KEY;
    let issued = client.generate_once(&secret, 1, key).await.ok();
    let token = secrets.token(&issued);
    let replayed = client.generate_once(&secret, 1, key).await.ok();
    assert_eq!(replayed.header("idempotency-replayed"), Some("true"));
    secrets.token(&replayed);
    secrets.token(&client.generate(BOOTSTRAP, 1).await.ok());
    assert!(client.validate(&token, "canary-machine").await.is_valid());
    secrets.never("canary-wrong-machine");
    assert_eq!(
        client.reason(&token, "canary-wrong-machine").await,
        "machine_mismatch"
    );
    let forged = format!("{}canary-forged", token.rsplit_once('.').unwrap().0);
    client.reason(&forged, "canary-wrong-machine").await;
    provoke(server, &secret, secrets).await;
    place.ask(["site", "suspend", site]);
    follows(403, async || client.generate(&secret, 1).await.status).await;
    let suspended = client.generate(&secret, 1).await;
    assert_refused(&suspended, "site_suspended", &[&secret]);
    place.ask(["site", "resume", site]);

    let rotated = place.ask(["site", "rotate-secret", site]);
    let secret = secrets.shown_in(&rotated);
    follows(200, async || client.generate(&secret, 1).await.status).await;
    secrets.token(&client.generate(&secret, 1).await.ok());
    let token_id = issued.field("token_id");
    give_commands(place, server, site, &token_id);
    follows(false, async || {
        client.validate(&token, "canary-machine").await.is_valid()
    })
    .await;
    let refused = client.validate(&token, "canary-machine").await;
    assert!(!refused.is_valid() && !refused.text.contains(&token));
    exhaust(&mut client, &secret, secrets).await;
    Run { secret, token }
}

fn give_commands(place: &Place, server: &Server, site: &str, token_id: &str) {
    let kid = place.ask(["key", "list"])[0]["kid"].clone();
    for arguments in [
        &["site", "list"][..],
        &["site", "show", site],
        &["site", "suspend", site],
        &["site", "resume", site],
        &["token", "list", "--site", site],
        &["token", "show", token_id],
        &["token", "release", token_id],
        &["token", "revoke", token_id],
        &["usage", site],
        &["key", "rotate"],
        &["key", "revoke", kid.as_str().unwrap()],
        &["config"],
        &["openapi"],
        &["migrate"],
    ] {
        place.ask(arguments);
        // The commands that change nothing a second time are also asked in words.
        if !arguments.contains(&"rotate") {
            assert_eq!(place.run(arguments).code, Some(0), "{arguments:?}");
        }
    }
    let with = |name: &str, value: &str, arguments: &[&str]| {
        let mut command = place.program(arguments);
        command.env(name, value);
        place.finish(command).code
    };
    let address = server.address.to_string();
    assert_eq!(
        with("MIRRORY__SERVER__LISTEN", &address, &["healthcheck"]),
        Some(0)
    );
    assert_eq!(
        with("MIRRORY__SERVER__LISTEN", BOOTSTRAP, &["config"]),
        Some(1)
    );
    assert_eq!(
        with("MIRRORY__SECRETS__MASTER_KEY", BOOTSTRAP, &["serve"]),
        Some(1)
    );
    assert_eq!(
        with("MIRRORY__SECRETS__MASTER_KEY", OTHER_MASTER_KEY, &["serve"]),
        Some(1)
    );
}

/// Calls that need the store while it is away; the status that all of them have.
async fn ask_without_store(server: &Server, run: &Run) -> u16 {
    let mut client = server.client();
    let issued = client.generate(BOOTSTRAP, 1).await;
    let body =
        json!({"token_id": "019abf3e-7d2a-7c64-9a51-3f0e8a6b1c2d", "proxy_secret": run.secret});
    let released = client
        .post("/mirrory/release-machine", &[], &body)
        .await
        .unwrap();
    for answer in [&issued, &released] {
        assert_refused(answer, "store_unavailable", &[&run.secret, BOOTSTRAP]);
        assert_eq!(answer.status, issued.status);
    }
    client.validate(&run.token, "canary-machine").await;
    client.get("/mirrory/health").await.unwrap();
    issued.status
}

async fn finish(place: &Place, server: Server, secrets: Secrets) {
    server.stop().await;
    secrets.assert_kept(place);
    let log: String = place
        .said()
        .into_iter()
        .filter(|(file, _)| file.extension().unwrap() == "stderr")
        .map(|(_, text)| text)
        .collect();
    assert!(!log.contains("canary"), "a part of a request is in the log");
}
