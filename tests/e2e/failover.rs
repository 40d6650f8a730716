//! The primary dies under load and its replica takes over: nothing that was answered is lost.

use std::time::Duration;

use tokio::time::Instant;

use crate::{
    harness::Place,
    load::{Call, Load, assert_all_validate, assert_charged},
    postgres::Cluster,
    server::Server,
};

const WORKERS: u64 = 4;

/// From the promotion of the replica on.
const BACK_WITHIN: Duration = Duration::from_secs(3);

/// Two instances that know both servers, the replica first, so that it is passed over at their start.
async fn instances(primary: &Cluster, replica: &Cluster) -> (Place, [Server; 2]) {
    let url = primary.create_database().await;
    let (_, name) = url.rsplit_once('/').unwrap();
    let urls = format!("{},{url}", replica.url(name));
    let place = Place::on_database(&url)
        .with("MIRRORY__DATABASE__URLS", &urls)
        .without("DATABASE_URL");
    let mut servers = [place.spawn(), place.spawn()];
    for server in &mut servers {
        server.ready().await;
    }
    (place, servers)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_is_promoted_takes_over_and_no_answered_token_is_lost() {
    let primary = Cluster::start();
    let replica = primary.start_replica().await;
    let (place, mut servers) = instances(&primary, &replica).await;
    let site = place.create_site("enterprise");
    let loads = servers
        .each_ref()
        .map(|server| Load::start(server, &site, WORKERS));
    for load in &loads {
        load.wait_for_served(100, Instant::now()).await;
    }

    primary.stop();
    let gone = Instant::now();
    for (load, server) in loads.iter().zip(&servers) {
        load.wait_for_calls(8, gone).await;
        server.wait_for_status("/readyz", 503, BACK_WITHIN).await;
    }
    replica.promote().await;
    let promoted = Instant::now();
    for (load, server) in loads.iter().zip(&servers) {
        load.wait_for_served(1, promoted).await;
        server.wait_for_status("/readyz", 200, BACK_WITHIN).await;
        let took = promoted.elapsed();
        assert!(took < BACK_WITHIN, "back after {took:?}");
    }
    let back = Instant::now();
    let mut calls = Vec::new();
    for load in loads {
        load.wait_for_calls(50, back).await;
        calls.extend(load.stop().await);
    }

    println!(
        "{} requests, back {:?} after the promotion",
        calls.len(),
        back - promoted
    );
    assert_refused_in_between(&calls, gone, back);
    for server in &mut servers {
        assert!(server.is_running());
        assert!(assert_all_validate(server, &calls).await > 200);
    }
    assert_charged(&place, &site, &calls);
}

/// What was not served was a 503 of that time.
fn assert_refused_in_between(calls: &[Call], gone: Instant, back: Instant) {
    let refused: Vec<_> = calls.iter().filter(|call| !call.is_served()).collect();
    assert!(refused.len() >= 16);
    for call in refused {
        let answer = call.answer.as_ref().expect("no connection breaks");
        assert_eq!(answer.status, 503, "{call:?}");
        assert_eq!(answer.field("error"), "store_unavailable");
        assert!(call.began + answer.took > gone - Duration::from_secs(1));
        assert!(call.began < back, "{call:?}");
    }
}

/// Without synchronous replication, and with nobody who keeps the old primary from coming back.
#[tokio::test(flavor = "multi_thread")]
async fn an_old_primary_that_comes_back_is_used_by_nobody_who_can_reach_the_new_one() {
    let primary = Cluster::start();
    let old = primary.create_database().await;
    let replica = primary.start_late_replica();
    let (_, name) = old.rsplit_once('/').unwrap();
    let place = Place::on_database(&old)
        .with(
            "MIRRORY__DATABASE__URLS",
            &format!("{old},{}", replica.url(name)),
        )
        .without("DATABASE_URL");
    let running = place.start().await;
    let site = place.create_site("enterprise");
    let mut client = running.client();
    client.generate(&site.secret, 1).await.ok();
    primary.until_followed().await;

    primary.stop();
    replica.promote().await;
    let promoted = Instant::now();
    let issued = loop {
        let answer = client.generate(&site.secret, 1).await;
        if answer.status == 200 {
            break answer;
        }
        assert!(promoted.elapsed() < BACK_WITHIN, "{answer:?}");
    };
    let (token, token_id) = (issued.field("token"), issued.field("token_id"));
    primary.start_again();

    let started = place.start().await;
    let mut newcomer = started.client();
    assert!(newcomer.validate(&token, "machine").await.is_valid());
    let told = started.stderr();
    assert!(told.contains("old primary, on timeline 1"), "{told}");
    place.ask(["token", "revoke", &token_id]);
    for client in [&mut client, &mut newcomer] {
        let revoked = Instant::now();
        while client.reason(&token, "machine").await != "revoked" {
            assert!(revoked.elapsed() < BACK_WITHIN);
        }
    }
    let done = place.run(["doctor", "--json"]);
    assert_eq!(done.code, Some(1), "{done:?}");
    assert!(
        done.stdout.contains("more than one takes writes"),
        "{done:?}"
    );
    let alone = Place::on_database(&old).run(["token", "show", &token_id]);
    assert_eq!(
        alone.code,
        Some(1),
        "the old primary has not heard of it: {alone:?}"
    );
    for server in [running, started] {
        server.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_dump_and_restore_the_database_is_refused_until_it_is_accepted() {
    let [from, to] = [Cluster::start(), Cluster::start()];
    let place = Place::on_database(&from.create_database().await);
    place.start().await.stop().await;
    let site = place.create_site("free");
    let restored = to.create_database().await;
    copy(&from, place.setting("DATABASE_URL"), &restored);
    let place = place.with("DATABASE_URL", &restored);
    for command in [&["serve"][..], &["site", "list"], &["migrate"], &["export"]] {
        let done = place.run(command);
        assert_eq!(done.code, Some(1), "{done:?}");
        let line = done.complaint();
        assert!(line.contains("`mirrory database accept`"), "{line}");
    }
    let accepted = place.ask(["database", "accept"]);
    assert_eq!(accepted["status"], "accepted");
    assert_eq!(accepted["timeline"], 1);
    let server = place.start().await;
    server.client().generate(&site.secret, 1).await.ok();
    server.stop().await;
    assert_eq!(place.ask(["database", "accept"])["status"], "unchanged");
    let rows = place.ask(["audit", "list", "--event", "database.accepted"]);
    assert_eq!(rows[0]["detail"]["system"], accepted["system"]);

    let done = Place::sqlite().run(["database", "accept"]);
    assert_eq!(done.code, Some(1), "{done:?}");
    assert!(done.complaint().contains("nothing to accept"), "{done:?}");
}

/// Copies what a database has by `pg_dump` and `psql`.
fn copy(beside: &Cluster, from: &str, to: &str) {
    let run = |program: &str, arguments: &[&str]| {
        let mut command = beside.beside(&beside.program(program));
        let output = command.args(arguments).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let script = beside.write("dump.sql", &run("pg_dump", &["-d", from]));
    let script = script.to_str().unwrap();
    run(
        "psql",
        &["-q", "-v", "ON_ERROR_STOP=1", "-d", to, "-f", script],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_without_a_primary_ends_with_one_line_about_every_server() {
    let primary = Cluster::start();
    let replica = primary.start_replica().await;
    primary.stop();
    let urls = format!(
        "{},{}",
        primary
            .url("postgres")
            .replace("postgres@", "postgres:hunter2@"),
        replica.url("postgres")
    );
    let done = Place::on_database(&urls)
        .with("MIRRORY__DATABASE__URLS", &urls)
        .without("DATABASE_URL")
        .run(["serve"]);
    assert_eq!(done.code, Some(1), "{done:?}");
    let line = done.complaint();
    assert!(line.contains("efused"), "{line}");
    assert!(!line.contains("hunter2"), "{line}");
    assert!(line.contains("the server is read-only"), "{line}");
}
