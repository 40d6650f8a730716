//! PostgreSQL stopped, frozen, restarted, or gone without a word.

use std::time::Duration;

use futures_util::{FutureExt, future::join_all};
use mirrory::{
    app::open_keys,
    keys::KeysError,
    quota::{Ledger, QuotaError, Standing},
    store::{
        Database, StoreError,
        changes::{self, Actor},
        database::SERVING_DEADLINE,
        freshness::Freshness,
    },
    types::{clock::Clock, ids::SiteId},
};
use tokio::time::{Instant, timeout};

use crate::{
    harness::{Hold, Instance, Store, commit, machine, user},
    keys::claims,
    postgres::Cluster,
    quota::{ledger, new_site, plans, reserve, used},
    wire::Wire,
};

/// More than a call waits for its turn and for the store: these tests share their machine.
const SOON: Duration = Duration::from_millis(1800);

/// A server of its own, since the tests break it, and a pool with `connections` for calls: five
/// eighths of few, rounded up.
async fn breakable(connections: u32) -> (Cluster, Store, Instance) {
    let cluster = Cluster::start();
    let mut store = Store::new(&cluster.create_database().await, None);
    store.config.database.max_connections = connections * 8 / 5;
    let database = store.open_with(SERVING_DEADLINE).await;
    let instance = Instance::new(&store, database);
    (cluster, store, instance)
}

/// Opens as many connections as there may be for calls.
async fn warm(database: &Database, connections: usize) {
    let held = join_all((0..connections).map(|_| database.begin())).await;
    for tx in held {
        tx.unwrap().commit().await.unwrap();
    }
}

/// What the call answered, if it did so soon.
async fn soon<T>(call: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    let began = Instant::now();
    let answer = call.await;
    assert!(began.elapsed() < SOON, "after {:?}", began.elapsed());
    answer
}

/// The store is away, and nobody is at fault.
fn is_outage<T>(answer: &Result<T, StoreError>) -> bool {
    match answer {
        Err(StoreError::Timeout | StoreError::Unavailable(_) | StoreError::Unreachable(_)) => true,
        Err(
            error @ (StoreError::Fault(_)
            | StoreError::Refused(_)
            | StoreError::Overloaded
            | StoreError::WrongClock(_)),
        ) => panic!("{error:?}"),
        Ok(_) => false,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_store_is_not_waited_for_and_works_again_after_the_thaw() {
    let (cluster, store, instance) = breakable(4).await;
    let Instance {
        database,
        sites,
        tokens,
    } = &instance;
    let (site_id, secret) = instance.create_site().await;
    let claims = instance.issue(site_id).await.claims();
    warm(database, 4).await;
    let mut began = database.begin().await.unwrap();
    cluster.freeze();

    let locked = soon(changes::lock(&mut began)).await;
    assert!(matches!(locked, Err(StoreError::Timeout)), "{locked:?}");
    drop(began);
    let machine_id = machine("m");
    for _ in 0..3 {
        let (found, bound, tx, read) = tokio::join!(
            soon(sites.authenticate(&secret)),
            soon(tokens.bind(claims, &machine_id)),
            soon(database.begin()),
            soon(changes::end(database)),
        );
        assert!(is_outage(&found) && is_outage(&bound) && is_outage(&read));
        assert!(tx.is_err());
    }
    cluster.thaw();
    works_again(database, 4).await;
    assert!(soon(sites.authenticate(&secret)).await.unwrap().is_some());
    assert!(soon(instance.binds(claims, &machine_id)).await.unwrap());
    commit!(database, |tx| sites.suspend(tx, Actor::Operator, site_id));
    let all = join_all((0..8).map(|_| soon(database.now()))).await;
    assert!(all.iter().all(Result::is_ok));
    assert_eq!(
        store.number("SELECT count(*) FROM changes").await,
        2,
        "none of the frozen ones"
    );
}

/// More than one batch takes: the last wait for so long that they are not begun any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_that_write_to_a_frozen_store_all_are_told_soon_and_who_waited_long_writes_nothing()
{
    let (cluster, store, instance) = breakable(4).await;
    let Instance {
        database, tokens, ..
    } = &instance;
    let (site_id, _) = instance.create_site().await;
    let claims = instance.issue(site_id).await.claims();
    warm(database, 4).await;
    let machine_id = machine("m");
    let drafts: Vec<_> = (0..300)
        .map(|_| tokens.draft(site_id, user(1), None))
        .collect();
    cluster.freeze();
    let (inserted, bindings, found) = tokio::join!(
        join_all(drafts.iter().map(|draft| soon(tokens.insert(draft, None)))),
        join_all((0..20).map(|_| soon(tokens.bind(claims, &machine_id)))),
        join_all((0..60).map(|_| soon(tokens.find(claims.token_id)))),
    );
    assert!(inserted.iter().all(is_outage) && found.iter().all(is_outage));
    assert!(bindings.iter().all(is_outage));
    cluster.thaw();
    works_again(database, 4).await;

    let not_begun = inserted
        .iter()
        .zip(&drafts)
        .filter(|(outcome, _)| matches!(outcome, Err(StoreError::Unreachable(_))));
    assert!(not_begun.clone().count() > 0);
    for (_, draft) in not_begun {
        assert!(soon(tokens.find(draft.token_id)).await.unwrap().is_none());
        soon(tokens.insert(draft, None)).await.unwrap();
    }
    assert!(soon(instance.binds(claims, &machine_id)).await.unwrap());
    assert!(store.number("SELECT count(*) FROM tokens").await <= 301);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_ends_amid_a_batch_fails_all_of_it_and_the_next_one_works() {
    let (cluster, store, instance) = breakable(4).await;
    let Instance { tokens, .. } = &instance;
    let (site_id, _) = instance.create_site().await;
    let drafts: Vec<_> = (0..40)
        .map(|_| tokens.draft(site_id, user(1), None))
        .collect();
    let held = Hold::of(&store).await;
    let (inserted, ()) = tokio::join!(
        join_all(drafts.iter().map(|draft| soon(tokens.insert(draft, None)))),
        async { cluster.stop() },
    );
    assert!(inserted.iter().all(is_outage));
    drop(held);
    cluster.start_again();
    works_again(&instance.database, 4).await;
    assert_eq!(store.number("SELECT count(*) FROM tokens").await, 0);
    for draft in &drafts {
        soon(tokens.insert(draft, None)).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_return_whose_outcome_is_unknown_is_not_made_twice() {
    let (cluster, store, instance) = breakable(1).await;
    let ledger = ledger(
        &store,
        instance.database.clone(),
        plans(&[("plan", 10, 100)]),
    );
    let site_id = new_site(&store);
    drop(reserve(&ledger, site_id).await);
    // The statement is known to the connection now, and goes out in one piece.
    reserve(&ledger, site_id).await.settle(None).await;
    let permit = reserve(&ledger, site_id).await;
    cluster.freeze();
    permit.settle(None).await;
    cluster.thaw();
    works_again(&instance.database, 1).await;
    ledger.flush().await.unwrap();
    has_done_what_it_was_sent(&store, &instance.database).await;
    let afterwards = crate::quota::ledger(&store, store.open().await, plans(&[("plan", 10, 100)]));
    let (day, month) = used(&afterwards, site_id).await;
    assert!(day >= 1 && day == month, "{day} and {month} are used");
}

/// A site that made seven calls, and of which an instance holds a block that is used up: the
/// statements are known to the connection, and go out in one piece.
async fn with_a_block(store: &Store, database: &Database) -> (Ledger, SiteId) {
    let ledger = ledger(store, database.clone(), plans(&[("plan", 1_100, 5_000)]));
    let site_id = new_site(store);
    for _ in 0..7 {
        drop(reserve(&ledger, site_id).await);
    }
    ledger.flush().await.unwrap();
    (ledger, site_id)
}

/// Waits until the server has done what it was sent on connections that are closed.
async fn has_done_what_it_was_sent(store: &Store, database: &Database) {
    database.close().await;
    let connections = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'mirrory'";
    let ended = async {
        while store.number(connections).await > 0 {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(10), ended)
        .await
        .expect("the server has done what it was sent");
}

/// How many more calls pass, and what is then counted.
async fn use_up(store: &Store, site_id: SiteId) -> (u64, Standing) {
    let ledger = ledger(store, store.open().await, plans(&[("plan", 1_100, 5_000)]));
    let mut made = 0;
    while ledger.reserve(site_id, "plan", 1).await.is_ok() {
        made += 1;
        assert!(made <= 1_100);
    }
    ledger.close().await.unwrap();
    (made, ledger.standing(site_id, "plan").await.unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_block_whose_taking_is_in_doubt_is_lost_and_not_spent() {
    let (cluster, store, instance) = breakable(1).await;
    let (ledger, site_id) = with_a_block(&store, &instance.database).await;
    cluster.freeze();
    let taken = ledger.reserve(site_id, "plan", 1).await;
    // On a busy machine the connection may be tried first: then nothing was asked for.
    let Err(QuotaError::Store(error)) = taken else {
        panic!("nothing was taken");
    };
    assert!(is_outage::<()>(&Err(error)));
    // What is held is had at once.
    let again = ledger.reserve(site_id, "plan", 1).now_or_never();
    assert!(again.is_none_or(|taken| taken.is_err()));
    cluster.thaw();
    has_done_what_it_was_sent(&store, &instance.database).await;
    let (made, standing) = use_up(&store, site_id).await;
    assert!(7 + made <= 1_100, "{made} more pass");
    assert_eq!(standing.day.remaining(), 0);
    assert!(
        standing.day.reserved <= 7,
        "at most the block: {standing:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_told_in_doubt_is_never_given_back_twice() {
    let (cluster, store, instance) = breakable(1).await;
    let (ledger, site_id) = with_a_block(&store, &instance.database).await;
    // Of a block of eight, two are made.
    drop(reserve(&ledger, site_id).await);
    drop(reserve(&ledger, site_id).await);
    cluster.freeze();
    assert!(ledger.close().await.is_err());
    cluster.thaw();
    works_again(&instance.database, 1).await;
    // As it would be told again by itself.
    ledger.flush().await.unwrap();
    has_done_what_it_was_sent(&store, &instance.database).await;
    let (made, standing) = use_up(&store, site_id).await;
    assert!(9 + made <= 1_100, "{made} more pass");
    assert!(
        9 + made + standing.day.reserved >= 1_100,
        "{made} more pass"
    );
}

/// Nothing follows the change log, so every one of them must ask for the keys.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_that_need_the_keys_of_a_frozen_store_all_are_answered_soon() {
    let (cluster, mut store, instance) = breakable(4).await;
    store.clock = Clock::system();
    let freshness = Freshness::new(store.clock.clone());
    let keys = open_keys(
        &store.config,
        &instance.database,
        &store.clock,
        &store.randomness,
        freshness,
    );
    let keys = keys.await.unwrap();
    let token = keys.sign(&claims(&store)).await.unwrap();
    cluster.freeze();
    let began = Instant::now();
    let asked = join_all((0..40).map(|_| keys.verify(&token))).await;
    let took = began.elapsed();
    assert!(took < Duration::from_millis(2500), "after {took:?}");
    for answer in asked {
        let Err(KeysError::Store(error)) = answer else {
            panic!("{answer:?}");
        };
        assert!(is_outage::<()>(&Err(error)));
    }
    cluster.thaw();
    works_again(&instance.database, 4).await;
    assert!(keys.verify(&token).await.unwrap().is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_store_works_at_the_first_call() {
    let (cluster, _store, instance) = breakable(4).await;
    let Instance {
        database, sites, ..
    } = &instance;
    let (site_id, secret) = instance.create_site().await;
    for _ in 0..2 {
        warm(database, 4).await;
        let mut undone = database.begin().await.unwrap();
        sites
            .suspend(&mut undone, Actor::Operator, site_id)
            .await
            .unwrap();
        cluster.stop();
        assert!(is_outage(&soon(undone.commit()).await));
        let (read, begun) = tokio::join!(soon(sites.authenticate(&secret)), soon(database.begin()));
        assert!(is_outage(&read) && begun.is_err());
        cluster.start_again();
        let caller = soon(sites.authenticate(&secret)).await.unwrap().unwrap();
        assert_eq!(caller.status, mirrory::sites::SiteStatus::Active);
        let all = join_all((0..8).map(|_| soon(database.now()))).await;
        assert!(all.iter().all(Result::is_ok));
    }
}

/// Nothing was called meanwhile, so the first call finds a dead connection, which looks alive.
/// It is the only one that may fail.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_restart_unseen_at_most_one_call_fails() {
    let (cluster, _store, instance) = breakable(4).await;
    let Instance { database, .. } = &instance;
    for transactions in [true, false] {
        warm(database, 4).await;
        cluster.stop();
        cluster.start_again();
        let mut failed = 0;
        for _ in 0..6 {
            let answer = if transactions {
                soon(database.begin()).await.map(drop)
            } else {
                soon(database.now()).await.map(drop)
            };
            failed += usize::from(answer.is_err());
        }
        assert!(failed <= 1, "{failed} calls failed");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_fell_silent_do_not_use_up_the_pool() {
    let cluster = Cluster::start();
    let wire = Wire::to(&cluster.create_database().await).await;
    let mut store = Store::new(&wire.url, None);
    store.config.database.max_connections = 2;
    let database = store.open_with(SERVING_DEADLINE).await;

    let held = [
        database.begin().await.unwrap(),
        database.begin().await.unwrap(),
    ];
    wire.fall_silent().await;
    let ended = join_all(held.map(|tx| soon(tx.commit()))).await;
    assert!(ended.iter().all(is_outage));
    works_again(&database, 2).await;
}

/// Calls until one is answered, and then as many at once as there are connections.
async fn works_again(database: &Database, connections: usize) {
    let answered = async { while soon(database.now()).await.is_err() {} };
    timeout(Duration::from_secs(5), answered)
        .await
        .expect("the store is used again");
    let held = join_all((0..connections).map(|_| soon(database.begin()))).await;
    let held: Result<Vec<_>, _> = held.into_iter().collect();
    held.unwrap();
}
