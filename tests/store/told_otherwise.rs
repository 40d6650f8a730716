//! A PostgreSQL whose role or database was told otherwise than our statements want it.

use std::time::Duration;

use futures_util::future::join_all;
use mirrory::store::{
    changes::{self, Actor},
    listener::{Listener, TRUSTED_SILENCE},
};
use tokio::time::timeout;

use crate::{
    harness::{Instance, Store, commit, machine},
    quota::{ledger, plans, used},
};

/// What the role is told, and what is in force where our statements run.
const SETTINGS: [(&str, &str, &str); 15] = [
    (
        "default_transaction_isolation",
        "serializable",
        "read committed",
    ),
    ("lock_timeout", "1ms", "0"),
    ("idle_session_timeout", "200ms", "0"),
    ("standard_conforming_strings", "off", "on"),
    ("client_min_messages", "debug1", "error"),
    ("client_encoding", "LATIN1", "UTF8"),
    ("TimeZone", "Asia/Kathmandu", "UTC"),
    ("DateStyle", "German, DMY", "ISO, MDY"),
    ("enable_indexscan", "off", "on"),
    ("enable_nestloop", "off", "on"),
    ("enable_partition_pruning", "off", "on"),
    ("plan_cache_mode", "force_custom_plan", "auto"),
    ("synchronous_commit", "off", "on"),
    // What is the operator's to say.
    ("search_path", "elsewhere, public", "elsewhere, public"),
    ("work_mem", "1MB", "1MB"),
];

async fn told(settings: &[(&str, &str)]) -> Store {
    let store = Store::postgres().await;
    for (name, value) in settings {
        let sql = format!(
            "DO $do$ BEGIN EXECUTE format($$ALTER ROLE CURRENT_USER IN DATABASE %I \
             SET {name} = {value}$$, current_database()); END $do$"
        );
        store.execute(&sql).await.unwrap();
    }
    store
}

fn quoted(value: &str) -> String {
    let values = value.split(", ").map(|value| format!("'{value}'"));
    values.collect::<Vec<_>>().join(", ")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_statements_rely_on_is_in_force_on_each_connection() {
    let all = SETTINGS.map(|(name, told, _)| (name, quoted(told)));
    let all: Vec<_> = all.iter().map(|(name, told)| (*name, &**told)).collect();
    let store = told(&all).await;
    store.execute("CREATE SCHEMA elsewhere").await.unwrap();
    let instance = store.instance().await;
    let names: Vec<_> = SETTINGS.map(|(name, ..)| format!("'{name}'")).into();
    // A trigger runs on the connection of the statement.
    let watching = format!(
        "CREATE TABLE seen (name TEXT, value TEXT, isolation TEXT); \
         CREATE FUNCTION watch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
         INSERT INTO seen SELECT name, current_setting(name), \
           current_setting('transaction_isolation') FROM unnest(ARRAY[{}]) AS name; \
         RETURN NEW; END $$; \
         CREATE TRIGGER watch BEFORE INSERT ON sites FOR EACH ROW EXECUTE FUNCTION watch()",
        names.join(", ")
    );
    store.execute(&watching).await.unwrap();
    instance.create_site().await;
    for (name, _, wanted) in SETTINGS {
        let sql = format!("SELECT value FROM seen WHERE name = '{name}'");
        assert_eq!(store.column::<String>(&sql).await, [wanted], "{name}");
    }
    let isolation = store.column::<String>("SELECT DISTINCT isolation FROM seen");
    assert_eq!(isolation.await, ["read committed"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stronger_commit_of_the_operator_stays() {
    let store = told(&[("synchronous_commit", "remote_apply")]).await;
    let instance = store.instance().await;
    let watching = "CREATE TABLE seen (value TEXT); \
         CREATE FUNCTION watch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
         INSERT INTO seen VALUES (current_setting('synchronous_commit')); RETURN NEW; END $$; \
         CREATE TRIGGER watch BEFORE INSERT ON sites FOR EACH ROW EXECUTE FUNCTION watch()";
    store.execute(watching).await.unwrap();
    instance.create_site().await;
    let seen = store.column::<String>("SELECT value FROM seen").await;
    assert_eq!(seen, ["remote_apply"]);
}

/// Under the isolation that the role was told, most of these would fail.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_that_meet_all_succeed_where_the_role_was_told_to_serialize() {
    let store = told(&[
        ("default_transaction_isolation", "serializable"),
        ("lock_timeout", "'1ms'"),
    ])
    .await;
    let instances = [store.instance().await, store.instance().await];
    let (site_id, _) = instances[0].create_site().await;
    let (other_id, _) = instances[0].create_site().await;
    let ledgers = instances.each_ref().map(|instance| {
        ledger(
            &store,
            instance.database.clone(),
            plans(&[("plan", 90, 900)]),
        )
    });
    let flow = async |number: usize| {
        let Instance {
            database,
            sites,
            tokens,
        } = &instances[number % 2];
        drop(
            ledgers[number % 2]
                .reserve(site_id, "plan", 1)
                .await
                .unwrap(),
        );
        let token_id = instances[number % 2].issue(site_id).await.token_id;
        let claims = instances[0].claims(token_id).await;
        let bound = tokens.bind(claims, &machine("m")).await;
        assert!(bound.unwrap().is_some());
        commit!(database, |tx| tokens.revoke(tx, Actor::Operator, token_id));
        commit!(database, |tx| sites.suspend(tx, Actor::Operator, other_id));
        commit!(database, |tx| sites.resume(tx, Actor::Operator, other_id));
        changes::end(database).await.unwrap();
    };
    for _ in 0..3 {
        join_all((0..8).map(flow)).await;
    }
    assert_eq!(used(&ledgers[0], site_id).await, (24, 24));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_listener_is_not_cut_off_for_its_silence() {
    let store = told(&[("idle_session_timeout", "'200ms'")]).await;
    let database = store.open().await;
    let listener = Listener::new(&database, TRUSTED_SILENCE).unwrap();
    let silent = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
                  AND application_name = 'mirrory listener' \
                  AND state_change < clock_timestamp() - INTERVAL '1 s'";
    let is_silent = async { while store.number(silent).await == 0 {} };
    tokio::select! {
        () = listener.run(|| {}) => unreachable!("it listens until it is dropped"),
        waited = timeout(Duration::from_secs(20), is_silent) => waited.expect("it listens on"),
    }
}
