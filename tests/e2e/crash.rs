//! `kill -9` of the service, and a crash of PostgreSQL, under load: what was answered holds.

use tokio::time::Instant;

use crate::{
    harness::{Place, Site},
    load::{Call, Load, assert_all_validate, assert_charged},
    postgres::Cluster,
    server::Server,
};

const WORKERS: u64 = 6;

/// Loads a server, kills it amid the load, and hands over what it had answered.
async fn kill_under_load(server: Server, site: &Site) -> Vec<Call> {
    let load = Load::start(&server, site, WORKERS);
    load.wait_for_served(150, Instant::now()).await;
    server.kill();
    load.stop().await
}

async fn survives_kill_9(place: &Place) {
    let mut server = place.start().await;
    let site = place.create_site("enterprise");
    let mut calls = Vec::new();
    for _ in 0..3 {
        calls.extend(kill_under_load(server, &site).await);
        server = place.start().await;
        assert_charged(place, &site, &calls);
    }
    let tokens = assert_all_validate(&server, &calls).await;
    assert!(tokens >= 3 * 75, "{tokens} tokens were answered");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_token_that_was_answered_survives_kill_9_on_sqlite() {
    survives_kill_9(&Place::sqlite()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_token_that_was_answered_survives_kill_9_on_postgres() {
    let cluster = Cluster::start_durable();
    survives_kill_9(&Place::postgres(&cluster).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_token_that_was_answered_survives_a_crash_of_both() {
    let cluster = Cluster::start_durable();
    let place = Place::postgres(&cluster).await;
    let server = place.start().await;
    let site = place.create_site("enterprise");
    let load = Load::start(&server, &site, WORKERS);
    load.wait_for_served(150, Instant::now()).await;
    cluster.stop();
    server.kill();
    let calls = load.stop().await;
    cluster.start_again();

    let server = place.start().await;
    assert_charged(&place, &site, &calls);
    assert!(assert_all_validate(&server, &calls).await >= 75);
}
