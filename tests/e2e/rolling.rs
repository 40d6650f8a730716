//! Two instances behind nginx are restarted one after the other, under load: no request fails.

use std::{fs, net::SocketAddr};

use tokio::time::Instant;

use crate::{
    harness::{PATIENCE, Place, free_address},
    load::{Call, Load, assert_all_validate},
    postgres::{Cluster, free_ports, shared},
    programs::{Program, nginx},
    server::Server,
};

const WORKERS: u64 = 3;

/// Half of it is longer than nginx leaves an instance alone that refused connections: it counts
/// whole seconds.
const DRAIN_SECONDS: &str = "4";

/// Starts nginx with the configuration that is handed out, before these two instances.
fn balance(cluster: &Cluster, instances: [&str; 2]) -> (Program, SocketAddr) {
    let port = free_ports().next().unwrap();
    // Cargo starts tests in the package's folder, and `tests/run` in its copy.
    let server = fs::read_to_string("config/deploy/nginx.conf")
        .unwrap()
        .replace("mirrory-1:8080", instances[0])
        .replace("mirrory-2:8080", instances[1])
        .replace("listen 80;", &format!("listen 127.0.0.1:{port};"));
    for address in instances {
        assert!(server.contains(address), "{server}");
    }
    let program = nginx(cluster, port, &server);
    (program, ([127, 0, 0, 1], port).into())
}

#[tokio::test(flavor = "multi_thread")]
async fn instances_that_are_restarted_one_after_the_other_fail_no_request() {
    let cluster = shared();
    let url = cluster.create_database().await;
    let addresses = [free_address(), free_address()];
    let places = addresses.each_ref().map(|address| {
        Place::on_database(&url)
            .with("MIRRORY__SERVER__LISTEN", address)
            .with("MIRRORY__SERVER__DRAIN_SECONDS", DRAIN_SECONDS)
    });
    let mut servers = [places[0].start().await, places[1].start().await];
    let site = places[0].create_site("enterprise");
    let (_nginx, address) = balance(cluster, addresses.each_ref().map(String::as_str));
    let load = Load::at(address, &site, WORKERS);
    load.wait_for_served(200, Instant::now()).await;

    let mut restarts = 0;
    for _ in 0..2 {
        for (server, place) in servers.iter_mut().zip(&places) {
            restart(server, place).await;
            restarts += 1;
            load.wait_for_served(100, Instant::now()).await;
        }
    }
    assert_eq!(restarts, 4);
    let calls = load.stop().await;

    let failed: Vec<&Call> = calls.iter().filter(|call| !call.is_served()).collect();
    assert!(
        failed.is_empty(),
        "{} of {}: {failed:?}",
        failed.len(),
        calls.len()
    );
    let issued = calls.iter().filter(|call| !call.is_validation).count();
    assert_eq!(assert_all_validate(&servers[0], &calls).await, issued);
    println!(
        "{} requests, none failed, {issued} tokens, none lost",
        calls.len()
    );
}

async fn restart(server: &mut Server, place: &Place) {
    server.signal("TERM");
    server.wait_for_status("/readyz", 503, PATIENCE).await;
    assert_eq!(server.ended().await, Some(0), "{}", server.stderr());
    assert!(!server.stderr().contains("cut off"), "{}", server.stderr());
    *server = place.start().await;
}
