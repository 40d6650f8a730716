//! Several PostgreSQL servers: the first that takes writes is used, and left when it no longer does.

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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_server_is_used_while_it_takes_writes() {
    let urls = [
        shared().create_database().await,
        shared().create_database().await,
    ];
    let both = at(&[&urls[0], &urls[1]]);
    let instance = both.instance().await;
    instance.create_site().await;
    assert_eq!(sites(&Store::new(&urls[0], None)).await, 1);
}
