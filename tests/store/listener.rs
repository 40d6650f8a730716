//! The listener: it hears of changes, and of nothing else, and comes back when it was lost.

use std::time::Duration;

use mirrory::{
    store::{
        Database,
        changes::{self, Actor, Change, SiteChange},
        listener::{Listener, TRUSTED_SILENCE},
    },
    types::{
        ids::{SiteId, TokenId},
        randomness::Randomness,
    },
};
use sqlx::postgres::PgListener;
use tokio::{
    sync::mpsc::{UnboundedReceiver, unbounded_channel},
    task::JoinHandle,
    time::timeout,
};
use uuid::Uuid;

use crate::{
    harness::{Instance, NOON, Store, commit, machine},
    postgres::Cluster,
    quota::{ledger, plans, reserve},
    servers::Pair,
    wire::Wire,
};

/// Far beyond what anything here takes, for machines under load.
const PATIENCE: Duration = Duration::from_secs(30);

/// A listener that runs until it is dropped.
struct Ear {
    woken: UnboundedReceiver<()>,
    running: JoinHandle<()>,
}

impl Ear {
    /// Listens, and has been woken for the first time.
    async fn open(database: &Database, trusted_silence: Duration) -> Self {
        let (wake, woken) = unbounded_channel();
        let listener = Listener::new(database, trusted_silence).unwrap();
        let running = tokio::spawn(async move {
            listener
                .run(|| wake.send(()).expect("the test goes on"))
                .await;
        });
        let mut ear = Self { woken, running };
        ear.is_woken().await;
        ear
    }

    async fn is_woken(&mut self) {
        let woken = timeout(PATIENCE, self.woken.recv()).await;
        woken.expect("the listener wakes the follower").unwrap();
    }

    /// Hears the next change, whatever it was woken for before.
    async fn hears(&mut self, database: &Database) {
        while self.woken.try_recv().is_ok() {}
        change(database).await;
        self.is_woken().await;
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        self.running.abort();
    }
}

async fn change(database: &Database) {
    let nil = Uuid::nil();
    let change = Change::TokenRevoked(TokenId::from_uuid(nil), SiteId::from_uuid(nil));
    commit!(database, |tx| changes::record(
        tx,
        &Actor::Operator.into(),
        &change,
        NOON,
        &Randomness::system()
    ));
}

#[tokio::test]
async fn the_embedded_store_has_no_listener() {
    let database = Store::sqlite().await.open().await;
    assert!(Listener::new(&database, TRUSTED_SILENCE).is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_is_told_with_its_commit_and_a_call_never() {
    let store = Store::postgres().await;
    let instance = store.instance().await;
    let (site_id, _) = instance.create_site().await;
    let mut told = PgListener::connect(store.config.database.url.expose())
        .await
        .unwrap();
    told.listen("mirrory_changes").await.unwrap();

    let record = instance.issue(site_id).await;
    let bound = instance.tokens.bind(record.claims(), &machine("m")).await;
    assert!(bound.unwrap().is_some());
    let ledger = ledger(
        &store,
        instance.database.clone(),
        plans(&[("plan", 10, 100)]),
    );
    reserve(&ledger, site_id).await.settle(None).await;
    ledger.flush().await.unwrap();
    let mut undone = instance.database.begin().await.unwrap();
    let suspended = Change::OfSite(site_id, SiteChange::Suspended);
    let operator = Actor::Operator.into();
    changes::record(&mut undone, &operator, &suspended, NOON, &store.randomness)
        .await
        .unwrap();
    drop(undone);
    change(&instance.database).await;
    // Notifications come in the order of the commits.
    store
        .execute("SELECT pg_notify('mirrory_changes', 'the end')")
        .await
        .unwrap();

    let first = told.recv().await.unwrap();
    assert_eq!(first.payload(), "", "the change");
    assert_eq!(told.recv().await.unwrap().payload(), "the end");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listener_takes_no_connection_of_the_pool_and_does_not_keep_it_open() {
    let mut store = Store::postgres().await;
    store.config.database.max_connections = 1;
    let database = store.open().await;
    let held = database.begin().await.unwrap();
    let mut ear = Ear::open(&database, TRUSTED_SILENCE).await;
    held.commit().await.unwrap();
    ear.hears(&database).await;
    timeout(PATIENCE, database.close())
        .await
        .expect("the pool closes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listener_whose_connection_was_ended_wakes_the_follower_and_hears_again() {
    let store = Store::postgres().await;
    let database = store.open().await;
    let mut ear = Ear::open(&database, TRUSTED_SILENCE).await;
    for _ in 0..3 {
        ear.hears(&database).await;
        let ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                     WHERE datname = current_database() AND application_name = 'mirrory listener'";
        store.execute(ended).await.unwrap();
        ear.is_woken().await;
    }
    ear.hears(&database).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listener_whose_server_restarted_wakes_the_follower_and_hears_again() {
    let cluster = Cluster::start();
    let store = Store::new(&cluster.create_database().await, None);
    let database = store.open().await;
    let mut ear = Ear::open(&database, TRUSTED_SILENCE).await;
    cluster.stop();
    cluster.start_again();
    ear.is_woken().await;
    // The first ones may meet connections that the restart ended.
    while database.now().await.is_err() {}
    ear.hears(&database).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_died_without_a_word_is_found_out() {
    let here = Store::postgres().await;
    let wire = Wire::to(here.config.database.url.expose()).await;
    let through_the_wire = Store::new(&wire.url, None);
    let database = through_the_wire.open_with(Duration::from_secs(1)).await;
    let mut ear = Ear::open(&database, Duration::from_millis(50)).await;
    wire.fall_silent().await;
    ear.is_woken().await;
    let instance = Instance::new(&here, here.open().await);
    ear.hears(&instance.database).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listener_goes_over_to_the_server_that_takes_the_writes() {
    let pair = Pair::start().await;
    let instance = pair.instance().await;
    let mut ear = Ear::open(&instance.database, Duration::from_millis(50)).await;
    pair.fail_over(&instance).await;
    ear.is_woken().await;
    ear.hears(&instance.database).await;
}
