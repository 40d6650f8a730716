//! Behind `PgBouncer`: it works where sessions are ours, and says so where they are not.

use std::fs::File;

use tokio::time::Instant;

use crate::{
    harness::{PATIENCE, Place},
    postgres::{Cluster, free_ports},
    programs::{Program, find},
};

/// Starts a pooler before a cluster, and returns the URL of an empty database behind it.
async fn pooled(cluster: &Cluster, pool_mode: &str) -> (Program, String) {
    let port = free_ports().next().unwrap();
    let server = cluster.port();
    let log = cluster.write("pgbouncer.log", "");
    let users = cluster.write("users.txt", "\"postgres\" \"\"\n");
    let settings = format!(
        "[databases]\n* = host=127.0.0.1 port={server}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
         listen_port = {port}\nunix_socket_dir =\nauth_type = trust\nauth_file = {}\n\
         pool_mode = {pool_mode}\n",
        users.display()
    );
    let settings = cluster.write("pgbouncer.ini", &settings);
    let mut command = cluster.beside(&find("pgbouncer"));
    command.arg(settings).stderr(File::create(&log).unwrap());
    let program = Program::start(command, port, &log);
    let url = cluster.create_database().await;
    let pooled = url.replace(&format!(":{server}/"), &format!(":{port}/"));
    (program, pooled)
}

#[tokio::test(flavor = "multi_thread")]
async fn two_instances_work_behind_a_pooler_that_leaves_them_their_sessions() {
    let cluster = Cluster::start();
    let (_pooler, url) = pooled(&cluster, "session").await;
    let place = Place::on_database(&url).with("MIRRORY__DATABASE__MAX_CONNECTIONS", "4");
    // Who makes a store says so with a warning.
    assert_eq!(place.run(["migrate"]).code, Some(0));
    let [one, other] = [place.start().await, place.start().await];
    let site = place.create_site("developer");
    let issued = one.client().generate(&site.secret, 1).await.ok();
    let token = issued.field("token");
    let mut client = other.client();
    assert!(client.validate(&token, "machine").await.is_valid());
    place.ask(["token", "revoke", &issued.field("token_id")]);
    let revoked = Instant::now();
    while client.reason(&token, "machine").await != "revoked" {
        assert!(revoked.elapsed() < PATIENCE, "{}", other.stderr());
    }
    for server in [one, other] {
        let log = server.stderr();
        assert!(!log.contains("WARN") && !log.contains("ERROR"), "{log}");
        server.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pooler_that_shares_sessions_stops_the_start_with_one_line() {
    let cluster = Cluster::start();
    let (_pooler, url) = pooled(&cluster, "transaction").await;
    for arguments in [&["serve"][..], &["site", "list"]] {
        let done = Place::on_database(&url).run(arguments);
        assert_eq!(done.code, Some(1), "{done:?}");
        let line = done.complaint();
        assert!(
            line.contains("set PgBouncer's pool_mode to session"),
            "{line}"
        );
    }
}
