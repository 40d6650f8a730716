//! What one instance acknowledged, the others obey within a second, also when they are no longer
//! told of it.

use std::time::Duration;

use serde_json::json;
use sqlx::{Connection, PgConnection};
use tokio::time::{Instant, sleep};

use crate::{
    client::{Answer, Client},
    harness::{PATIENCE, POLL, Place, Site},
    postgres::{self, Cluster},
    server::Server,
};

const OBEYED_WITHIN: Duration = Duration::from_secs(1);

const LISTENING: &str = "\
SELECT pid FROM pg_stat_activity WHERE datname = current_database() \
AND application_name = 'mirrory listener' AND query LIKE 'LISTEN%'";

const END_LISTENERS: &str = "\
SELECT pid FROM (SELECT pid, pg_terminate_backend(pid) FROM pg_stat_activity \
WHERE datname = current_database() AND application_name = 'mirrory listener') AS ended";

/// Instances on one store.
struct Fleet {
    place: Place,
    servers: Vec<Server>,
}

/// A token, as the proxy knows it.
struct Issued {
    token: String,
    token_id: String,
}

impl Fleet {
    async fn start(cluster: &Cluster, count: usize) -> Self {
        let place = Place::postgres(cluster).await;
        let mut servers: Vec<Server> = (0..count).map(|_| place.spawn()).collect();
        for server in &mut servers {
            server.ready().await;
        }
        Self { place, servers }
    }

    /// A token that every instance has seen on its machine, more than once.
    async fn known_token(&self, site: &Site) -> Issued {
        let issued = persist(async || self.servers[0].client().generate(&site.secret, 1).await);
        let issued = issued.await.ok();
        let issued = Issued {
            token: issued.field("token"),
            token_id: issued.field("token_id"),
        };
        for server in self.servers.iter().chain(&self.servers) {
            let validated = async || server.client().validate(&issued.token, "old").await;
            assert!(persist(validated).await.is_valid());
        }
        issued
    }

    /// Calls an endpoint of the proxy at the first instance.
    async fn manage(&self, path: &str, site: &Site, issued: &Issued) {
        let body = json!({"token_id": issued.token_id, "proxy_secret": site.secret});
        let call = async || self.servers[0].client().post(path, &[], &body).await;
        persist(async || call().await.unwrap()).await.ok();
    }

    /// Every instance but the one that made it shows a change that was acknowledged just now: what
    /// it is asked a second later, it answers accordingly or not at all.
    async fn obeys(&self, ask: impl AsyncFn(Client) -> Answer, shows: impl Fn(&Answer) -> bool) {
        let acknowledged = Instant::now();
        for server in &self.servers[1..] {
            loop {
                let asked = acknowledged.elapsed();
                let answer = ask(server.client()).await;
                if shows(&answer) {
                    break;
                }
                let may_lag = answer.status == 503 || asked < OBEYED_WITHIN;
                assert!(may_lag && asked < PATIENCE, "{asked:?}: {answer:?}");
                sleep(Duration::from_millis(5)).await;
            }
        }
    }

    async fn refuses(&self, issued: &Issued, reason: &str) {
        self.obeys(
            async |mut client| client.validate(&issued.token, "old").await,
            |answer| answer.body()["reason"] == reason,
        )
        .await;
    }

    async fn answers_generate(&self, secret: &str, status: u16) {
        self.obeys(
            async |mut client| client.generate(secret, 1).await,
            |answer| answer.status == status,
        )
        .await;
    }

    async fn obeys_all_changes(&self) {
        let mut site = self.place.create_site("enterprise");
        let released = self.known_token(&site).await;
        self.manage("/mirrory/release-machine", &site, &released)
            .await;
        self.obeys(
            async |mut client| client.validate(&released.token, "new").await,
            Answer::is_valid,
        )
        .await;
        self.manage("/mirrory/revoke-token", &site, &released).await;
        self.refuses(&released, "revoked").await;

        let known = self.known_token(&site).await;
        self.place.ask(["site", "suspend", &site.id]);
        self.refuses(&known, "site_suspended").await;
        self.place.ask(["site", "resume", &site.id]);
        self.refuses_nothing(&known).await;
        self.place.ask(["site", "set-plan", &site.id, "free"]);
        self.answers_generate(&site.secret, 429).await;
        self.place.ask(["site", "set-plan", &site.id, "enterprise"]);
        self.answers_generate(&site.secret, 200).await;

        let rotate = ["site", "rotate-secret", &site.id, "--grace", "0s"];
        let rotated = self.place.ask(rotate);
        self.answers_generate(&site.secret, 401).await;
        rotated["proxy_secret"]
            .as_str()
            .unwrap()
            .clone_into(&mut site.secret);
        self.answers_generate(&site.secret, 200).await;
        self.place.ask(["site", "delete", &site.id]);
        self.refuses(&known, "revoked").await;
        self.answers_generate(&site.secret, 401).await;
    }

    async fn refuses_nothing(&self, issued: &Issued) {
        self.obeys(
            async |mut client| client.validate(&issued.token, "old").await,
            Answer::is_valid,
        )
        .await;
    }

    /// Waits until every instance listens, and says on which connections.
    async fn listeners(&self, but: &[i32]) -> Vec<i32> {
        let began = Instant::now();
        loop {
            let pids = self.pids(LISTENING).await;
            if pids.len() == self.servers.len() && pids.iter().all(|pid| !but.contains(pid)) {
                return pids;
            }
            assert!(began.elapsed() < PATIENCE, "{pids:?}");
            sleep(POLL).await;
        }
    }

    async fn pids(&self, sql: &'static str) -> Vec<i32> {
        let url = self.place.setting("DATABASE_URL");
        let mut connection = PgConnection::connect(url).await.unwrap();
        let pids = sqlx::query_scalar(sql).fetch_all(&mut connection).await;
        connection.close().await.unwrap();
        pids.unwrap()
    }
}

/// A call's answer once the store was in time for it.
async fn persist(mut call: impl AsyncFnMut() -> Answer) -> Answer {
    let began = Instant::now();
    loop {
        let answer = call().await;
        if answer.status != 503 {
            return answer;
        }
        assert!(began.elapsed() < PATIENCE, "{answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_instances_obey_what_the_other_acknowledged() {
    Fleet::start(postgres::shared(), 2)
        .await
        .obeys_all_changes()
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn three_instances_obey_what_one_acknowledged() {
    Fleet::start(postgres::shared(), 3)
        .await
        .obeys_all_changes()
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_made_while_nobody_listens_is_obeyed_all_the_same() {
    let fleet = Fleet::start(postgres::shared(), 2).await;
    let site = fleet.place.create_site("enterprise");
    let mut lost = Vec::new();
    for _ in 0..3 {
        let known = fleet.known_token(&site).await;
        fleet.listeners(&lost).await;
        lost = fleet.pids(END_LISTENERS).await;
        fleet.manage("/mirrory/revoke-token", &site, &known).await;
        fleet.refuses(&known, "revoked").await;
    }
    fleet.listeners(&lost).await;
    fleet.obeys_all_changes().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_made_right_after_a_restart_of_the_server_is_obeyed() {
    let cluster = Cluster::start();
    let fleet = Fleet::start(&cluster, 2).await;
    let site = fleet.place.create_site("enterprise");
    let known = fleet.known_token(&site).await;
    let lost = fleet.listeners(&[]).await;
    cluster.stop();
    cluster.start_again();
    fleet.manage("/mirrory/revoke-token", &site, &known).await;
    fleet.refuses(&known, "revoked").await;
    fleet.listeners(&lost).await;
    fleet.obeys_all_changes().await;
}
