//! What the ledger writes later: counts by day, and calls that could not be given back at once.

use mirrory::{
    quota::{DayCounts, Ledger, Outcome},
    store::{Database, changes::Actor, database::SERVING_DEADLINE},
};

use crate::{
    harness::{DAY, Instance, Store, commit, on_both_stores},
    quota::{ledger, new_site, plans, reserve, used},
};

on_both_stores!(
    delivered_calls_are_counted_by_day,
    counts_of_two_instances_add_up,
    what_cannot_be_given_back_at_once_is_given_back_later_and_once,
    counts_that_cannot_be_written_are_written_later_and_once,
    days_are_kept_for_ninety_days,
);

const NOVEMBER_21: i64 = 20_778;

fn on(day: i64, issued: i64, validated: i64) -> DayCounts {
    DayCounts {
        day,
        issued,
        validated,
    }
}

/// A ledger over as many connections that write as one transaction takes away.
async fn narrow(mut store: Store) -> (Store, Database, Ledger) {
    store.config.database.max_connections = 1;
    let database = store.open_with(SERVING_DEADLINE).await;
    let ledger = ledger(&store, database.clone(), plans(&[("plan", 10, 100)]));
    (store, database, ledger)
}

async fn delivered_calls_are_counted_by_day(store: Store) {
    let ledger = ledger(&store, store.open().await, plans(&[("plan", 10, 100)]));
    let [site_id, other] = [new_site(&store), new_site(&store)];
    let settle = async |site_id, outcome| reserve(&ledger, site_id).await.settle(outcome).await;
    settle(site_id, Some(Outcome::Issued)).await;
    settle(site_id, Some(Outcome::Validated)).await;
    settle(site_id, Some(Outcome::Validated)).await;
    settle(site_id, None).await;
    settle(other, Some(Outcome::Issued)).await;
    assert_eq!(
        ledger.history(site_id).await.unwrap(),
        [],
        "not yet written"
    );
    let late = reserve(&ledger, site_id).await;
    store.hand.advance(DAY);
    settle(site_id, Some(Outcome::Issued)).await;
    late.settle(Some(Outcome::Issued)).await;
    ledger.flush().await.unwrap();

    let history = ledger.history(site_id).await.unwrap();
    assert_eq!(history, [on(NOVEMBER_21 + 1, 1, 0), on(NOVEMBER_21, 2, 2)]);
    assert_eq!(
        ledger.history(other).await.unwrap(),
        [on(NOVEMBER_21, 1, 0)]
    );
    ledger.flush().await.unwrap();
    assert_eq!(
        ledger.history(site_id).await.unwrap(),
        history,
        "written once"
    );
}

async fn counts_of_two_instances_add_up(store: Store) {
    let limits = plans(&[("plan", 100, 100)]);
    let ledgers = [
        ledger(&store, store.open().await, limits.clone()),
        ledger(&store, store.open().await, limits),
    ];
    let site_id = new_site(&store);
    for _ in 0..5 {
        for ledger in &ledgers {
            reserve(ledger, site_id)
                .await
                .settle(Some(Outcome::Issued))
                .await;
        }
        let [one, two] = &ledgers;
        let (one, two) = tokio::join!(one.flush(), two.flush());
        one.and(two).unwrap();
    }
    assert_eq!(
        ledgers[0].history(site_id).await.unwrap(),
        [on(NOVEMBER_21, 10, 0)]
    );
}

async fn what_cannot_be_given_back_at_once_is_given_back_later_and_once(store: Store) {
    let (store, database, ledger) = narrow(store).await;
    let site_id = new_site(&store);
    let permits = [
        reserve(&ledger, site_id).await,
        reserve(&ledger, site_id).await,
    ];
    drop(reserve(&ledger, site_id).await);

    let takes_the_connection = database.begin().await.unwrap();
    for permit in permits {
        permit.settle(None).await;
    }
    assert!(ledger.flush().await.is_err());
    drop(takes_the_connection);
    assert_eq!(used(&ledger, site_id).await, (3, 3));
    for _ in 0..2 {
        ledger.flush().await.unwrap();
        assert_eq!(used(&ledger, site_id).await, (1, 1));
    }
}

async fn counts_that_cannot_be_written_are_written_later_and_once(store: Store) {
    let (store, database, ledger) = narrow(store).await;
    let site_id = new_site(&store);
    let first = reserve(&ledger, site_id).await;
    let second = reserve(&ledger, site_id).await;
    first.settle(Some(Outcome::Issued)).await;

    let takes_the_connection = database.begin().await.unwrap();
    assert!(ledger.flush().await.is_err());
    second.settle(Some(Outcome::Validated)).await;
    drop(takes_the_connection);
    for _ in 0..2 {
        ledger.flush().await.unwrap();
        assert_eq!(
            ledger.history(site_id).await.unwrap(),
            [on(NOVEMBER_21, 1, 1)]
        );
    }
}

async fn days_are_kept_for_ninety_days(store: Store) {
    let instance = store.instance().await;
    let ledger = ledger(&store, store.open().await, plans(&[("plan", 10, 100)]));
    let mut sites = Vec::new();
    for _ in 0..3 {
        sites.push(instance.create_site().await.0);
    }
    for _ in 0..2 {
        for site_id in &sites {
            reserve(&ledger, *site_id)
                .await
                .settle(Some(Outcome::Issued))
                .await;
        }
        ledger.flush().await.unwrap();
        store.hand.advance(DAY);
    }
    store.hand.advance(88 * DAY);
    assert_eq!(ledger.sweep(100).await.unwrap(), 0);
    assert_eq!(ledger.history(sites[0]).await.unwrap().len(), 2);
    store.hand.advance(DAY);
    let history = ledger.history(sites[0]).await.unwrap();
    assert_eq!(
        history,
        [on(NOVEMBER_21 + 1, 1, 0)],
        "before it is cleared away, too"
    );
    assert_eq!(ledger.sweep(2).await.unwrap(), 2);
    assert_eq!(ledger.sweep(2).await.unwrap(), 1);
    assert_eq!(ledger.history(sites[0]).await.unwrap(), history);
    assert_eq!(store.number("SELECT count(*) FROM usage_history").await, 3);

    let Instance {
        database,
        sites: room,
        ..
    } = &instance;
    commit!(database, |tx| room.delete(tx, Actor::Operator, sites[0]));
    assert_eq!(room.sweep(100).await.unwrap(), 1);
    assert_eq!(
        ledger.sweep_counters(100).await.unwrap(),
        1,
        "the counter of the site that is gone"
    );
    assert_eq!(store.number("SELECT count(*) FROM usage").await, 2);
}
