//! Several PostgreSQL servers: the first that takes writes is used, and left only when it no longer does.

use std::time::Duration;

use mirrory::store::changes;

use crate::{
    harness::{Instance, Store},
    postgres::{Cluster, shared},
};

const DEADLINE: Duration = Duration::from_secs(5);

/// A store at several places, tried in this order.
fn at(urls: &[&str]) -> Store {
    let mut store = Store::new(urls[0], None);
    let urls = urls.iter().map(|url| url.parse().unwrap());
    store.config.database.urls = urls.collect();
    store
}

async fn sites(store: &Store) -> i64 {
    store.number("SELECT count(*) FROM sites").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_turns_read_only_is_left_for_the_next() {
    let cluster = Cluster::start();
    let first = Store::new(&cluster.create_database().await, None);
    let second = Store::postgres().await;
    second.open().await.close().await;
    let urls = [&first, &second].map(|store| store.config.database.url.expose());
    let both = at(&urls);
    let instance = Instance::new(&both, both.open_with(DEADLINE).await);
    instance.create_site().await;
    // Other connections must not go on there either.
    let mut transactions = Vec::new();
    for _ in 0..3 {
        transactions.push(instance.database.begin().await.unwrap());
    }
    drop(transactions);
    instance.database.choose_server().await.unwrap();

    cluster.set("default_transaction_read_only = on").await;
    while !is_refused(&instance).await {}
    instance.database.choose_server().await.unwrap();
    for _ in 0..4 {
        instance.create_site().await;
    }
    let mut transactions = Vec::new();
    for _ in 0..4 {
        transactions.push(instance.database.begin().await.unwrap());
    }
    drop(transactions);
    assert_eq!(sites(&second).await, 4);
    assert_eq!(sites(&first).await, 1);
}

/// Whether a change fails; the server hears of its new setting a moment after it was told.
async fn is_refused(instance: &Instance) -> bool {
    let mut tx = instance.database.begin().await.unwrap();
    let refused = changes::lock(&mut tx).await;
    refused.is_err()
}

/// Two databases that both take writes, and an instance that knows both.
pub async fn two() -> ([Store; 2], Instance) {
    let cluster = shared();
    let urls = [
        cluster.create_database().await,
        cluster.create_database().await,
    ];
    let both = at(&[&urls[0], &urls[1]]);
    let [first, second] = urls.map(|url| Store::new(&url, None));
    second.open().await.close().await;
    let instance = both.instance().await;
    ([first, second], instance)
}

/// Whether new sessions of a database may write.
pub async fn set_read_only(store: &Store, value: &str) {
    let url = store.config.database.url.expose();
    let (_, name) = url.rsplit_once('/').unwrap();
    let setting = format!(
        "SET TRANSACTION READ WRITE; \
         ALTER DATABASE {name} SET default_transaction_read_only = {value}"
    );
    store.execute(&setting).await.unwrap();
}

/// Cuts the connections of an instance's pool, one of them in use, and lets it choose.
pub async fn lose_connections(store: &Store, instance: &Instance, read_only: &str) {
    let cut = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity \
               WHERE datname = current_database() AND application_name = 'mirrory'";
    let mut tx = instance.database.begin().await.unwrap();
    set_read_only(store, read_only).await;
    store.execute(cut).await.unwrap();
    changes::lock(&mut tx).await.unwrap_err();
    instance.database.choose_server().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_server_in_use_is_kept_while_it_takes_writes() {
    let ([first, second], instance) = two().await;
    lose_connections(&first, &instance, "off").await;
    instance.create_site().await;
    assert_eq!([sites(&first).await, sites(&second).await], [1, 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_was_given_up_and_comes_back_is_not_used_again() {
    let ([first, second], instance) = two().await;
    lose_connections(&first, &instance, "on").await;
    instance.create_site().await;
    set_read_only(&first, "off").await;
    lose_connections(&second, &instance, "off").await;
    instance.create_site().await;
    assert_eq!([sites(&first).await, sites(&second).await], [0, 2]);
}
