//! The change log: every mutation in it, none that was undone, in the order of the commits.

use std::{
    pin::Pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::future::join_all;
use mirrory::{
    sites::NewSite,
    store::{
        Database, StoreError,
        changes::{self, Actor, SeenChange},
        follower::{Follower, Follows},
        freshness::Freshness,
    },
    types::ids::SiteId,
};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::sync::watch;

use crate::harness::{Instance, MICRO, NOON, Store, commit, machine, on_both_stores};

on_both_stores!(
    follower_misses_nothing_while_eight_writers_race,
    rollback_leaves_neither_change_nor_mutation,
    every_mutation_is_logged_with_who_acts_and_on_what,
    what_changes_nothing_is_not_logged,
    changes_are_read_in_order_and_no_more_than_asked_for,
    sweep_removes_what_is_old_but_never_the_newest,
);

const WRITERS: u64 = 8;
const ROUNDS: u64 = 15;

/// Keeps what a follower was told.
#[derive(Default)]
struct Recorder {
    seen: Mutex<Vec<SeenChange>>,
    resets: Mutex<usize>,
}

type Told<'a> = Pin<Box<dyn Future<Output = Result<(), StoreError>> + Send + 'a>>;

impl Follows for Recorder {
    fn apply<'a>(&'a self, changes: &'a [SeenChange]) -> Told<'a> {
        self.seen.lock().unwrap().extend_from_slice(changes);
        Box::pin(async { Ok(()) })
    }

    fn reset(&self) -> Told<'_> {
        *self.resets.lock().unwrap() += 1;
        Box::pin(async { Ok(()) })
    }
}

/// Changes a site again and again, now and then without a commit; what was committed, in order.
async fn write(
    instance: Instance,
    elsewhere: Database,
    site_id: SiteId,
    seed: u64,
) -> Vec<(&'static str, String)> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut committed = Vec::new();
    let mut is_suspended = false;
    for _ in 0..ROUNDS {
        // What a site is already is no change.
        let suspends = !is_suspended;
        let mut tx = instance.database.begin().await.unwrap();
        let actor = Actor::Operator;
        if suspends {
            instance
                .sites
                .suspend(&mut tx, actor, site_id)
                .await
                .unwrap();
        } else {
            instance
                .sites
                .resume(&mut tx, actor, site_id)
                .await
                .unwrap();
        }
        // A round trip between the number and the commit: other numbers are asked for meanwhile, on
        // all connections that the instance has for it.
        elsewhere.now().await.unwrap();
        if random.random_bool(0.8) {
            tx.commit().await.unwrap();
            is_suspended = suspends;
            let event = if suspends {
                "site.suspended"
            } else {
                "site.updated"
            };
            committed.push((event, site_id.to_string()));
        }
    }
    committed
}

async fn follower_misses_nothing_while_eight_writers_race(store: Store) {
    let instances = [store.instance().await, store.instance().await];
    let mut sites = Vec::new();
    for _ in 0..WRITERS {
        sites.push(instances[0].create_site().await.0);
    }
    let recorder = Arc::new(Recorder::default());
    let follower = Follower::new(
        store.open().await,
        store.clock.clone(),
        Freshness::new(store.clock.clone()),
        vec![recorder.clone()],
    );
    follower.tick().await.unwrap();
    let (stop, stopped) = watch::channel(false);
    let following = tokio::spawn(async move {
        let mut ticks = 0;
        while !*stopped.borrow() {
            follower.tick().await.unwrap();
            ticks += 1;
        }
        follower.tick().await.unwrap();
        ticks
    });
    let elsewhere = store.open().await;
    let writers = (0_u64..).zip(&sites).map(|(seed, site_id)| {
        let instance = instances[usize::try_from(seed).unwrap() % 2].clone();
        tokio::spawn(write(instance, elsewhere.clone(), *site_id, seed))
    });
    let written = join_all(writers).await;
    stop.send(true).unwrap();
    let ticks: usize = following.await.unwrap();

    let seen = recorder.seen.lock().unwrap().clone();
    assert!(ticks > 2, "the follower read while they wrote");
    assert_eq!(
        *recorder.resets.lock().unwrap(),
        1,
        "of the first look alone"
    );
    let before = i64::try_from(WRITERS).unwrap();
    let numbers: Vec<i64> = seen.iter().map(|change| change.seq).collect();
    let whole: Vec<i64> = (before + 1..).take(numbers.len()).collect();
    assert_eq!(numbers, whole);
    let mut count = 0;
    for (site_id, committed) in sites.iter().zip(written) {
        let committed = committed.unwrap();
        let of_site: Vec<(&str, String)> = seen
            .iter()
            .filter(|change| change.subject == site_id.to_string())
            .map(|change| (change.event.as_str(), change.subject.clone()))
            .collect();
        assert_eq!(of_site, committed);
        count += committed.len();
    }
    assert_eq!(seen.len(), count);
    assert_eq!(
        store.number("SELECT seq FROM change_counter").await,
        before + i64::try_from(count).unwrap()
    );
}

async fn rollback_leaves_neither_change_nor_mutation(store: Store) {
    let instance = store.instance().await;
    let (site_id, _) = instance.create_site().await;
    let before = changes::end(&instance.database).await.unwrap().seq;

    let mut tx = instance.database.begin().await.unwrap();
    let actor = Actor::Operator;
    let suspended = instance
        .sites
        .suspend(&mut tx, actor, site_id)
        .await
        .unwrap();
    instance
        .sites
        .set_plan(&mut tx, actor, site_id, "enterprise")
        .await
        .unwrap();
    assert!(suspended.is_some());
    drop(tx);

    // The next writer comes in only when the first is undone.
    let (other, _) = instance.create_site().await;
    let site = instance.sites.find(site_id).await.unwrap().unwrap();
    assert_eq!(
        (site.status, site.plan.as_str()),
        (mirrory::sites::SiteStatus::Active, "free")
    );
    let after = changes::after(&instance.database, before, 100)
        .await
        .unwrap();
    let after: Vec<_> = after
        .iter()
        .map(|change| (change.seq, change.subject.clone()))
        .collect();
    assert_eq!(after, [(before + 1, other.to_string())]);
}

async fn every_mutation_is_logged_with_who_acts_and_on_what(store: Store) {
    let instance = store.instance().await;
    let Instance {
        database,
        sites,
        tokens,
    } = &instance;
    let (site_id, _) = instance.create_site().await;
    let record = instance.issue(site_id).await;
    let token_id = record.token_id;
    let bound = tokens.bind(record.claims(), &machine("m")).await;
    assert!(bound.unwrap().is_some());
    let operator = Actor::Operator;
    commit!(database, |tx| sites.set_plan(
        tx,
        operator,
        site_id,
        "developer"
    ));
    commit!(database, |tx| sites.suspend(tx, operator, site_id));
    commit!(database, |tx| sites.resume(tx, operator, site_id));
    commit!(database, |tx| sites.rotate_secret(
        tx,
        operator,
        site_id,
        Duration::ZERO
    ));
    commit!(database, |tx| tokens.release(
        tx,
        Actor::Site(site_id),
        token_id
    ));
    commit!(database, |tx| tokens.revoke(
        tx,
        Actor::Site(site_id),
        token_id
    ));
    commit!(database, |tx| sites.delete(tx, operator, site_id));
    commit!(database, |tx| sites.ensure_default(tx, "free"));

    let lines: Vec<String> = store
        .column("SELECT actor || ' ' || event || ' ' || subject FROM changes ORDER BY seq")
        .await;
    let default: String = sites.list().await.unwrap()[0].id.to_string();
    assert_eq!(
        lines,
        [
            format!("operator site.created {site_id}"),
            format!("operator site.updated {site_id}"),
            format!("operator site.suspended {site_id}"),
            format!("operator site.updated {site_id}"),
            format!("operator secret.rotated {site_id}"),
            format!("{site_id} machine.released {token_id}"),
            format!("{site_id} token.revoked {token_id}"),
            format!("operator site.deleted {site_id}"),
            format!("operator site.created {default}"),
        ]
    );
    let times: Vec<i64> = store
        .column("SELECT DISTINCT changed_at FROM changes")
        .await;
    assert_eq!(times, [NOON.as_micros()]);
}

async fn what_changes_nothing_is_not_logged(store: Store) {
    let instance = store.instance().await;
    let Instance {
        database,
        sites,
        tokens,
    } = &instance;
    let (site_id, _) = instance.create_site().await;
    let token_id = instance.issue(site_id).await.token_id;
    commit!(database, |tx| tokens.revoke(tx, Actor::Operator, token_id));
    commit!(database, |tx| sites.delete(tx, Actor::Operator, site_id));
    let before = changes::end(database).await.unwrap().seq;

    let operator = Actor::Operator;
    let unknown = SiteId::new(NOON, &store.randomness);
    for gone in [site_id, unknown] {
        assert!(commit!(database, |tx| sites.set_plan(tx, operator, gone, "free")).is_none());
        assert!(commit!(database, |tx| sites.suspend(tx, operator, gone)).is_none());
        assert!(commit!(database, |tx| sites.resume(tx, operator, gone)).is_none());
        assert!(commit!(database, |tx| sites.delete(tx, operator, gone)).is_none());
        assert!(
            commit!(database, |tx| sites.rotate_secret(
                tx,
                operator,
                gone,
                Duration::ZERO
            ))
            .is_none()
        );
    }
    let site = NewSite::parse("First", None, "free").unwrap();
    assert!(commit!(database, |tx| sites.create_first(tx, &site)).is_none());
    commit!(database, |tx| tokens.revoke(tx, operator, token_id));
    commit!(database, |tx| tokens.release(tx, operator, token_id));
    assert_eq!(changes::end(database).await.unwrap().seq, before);
    assert_eq!(store.number("SELECT count(*) FROM changes").await, before);
}

async fn changes_are_read_in_order_and_no_more_than_asked_for(store: Store) {
    let instance = store.instance().await;
    for _ in 0..5 {
        instance.create_site().await;
    }
    let read = async |seq, limit| {
        let changes = changes::after(&instance.database, seq, limit)
            .await
            .unwrap();
        changes
            .iter()
            .map(|change| change.seq)
            .collect::<Vec<i64>>()
    };
    assert_eq!(read(0, 100).await, [1, 2, 3, 4, 5]);
    assert_eq!(read(2, 2).await, [3, 4]);
    assert_eq!(read(5, 100).await, [0_i64; 0]);
    assert_eq!(changes::end(&instance.database).await.unwrap().seq, 5);
}

async fn sweep_removes_what_is_old_but_never_the_newest(store: Store) {
    let instance = store.instance().await;
    for _ in 0..3 {
        instance.create_site().await;
    }
    store.hand.advance(MICRO);
    for _ in 0..2 {
        instance.create_site().await;
    }
    let database = &instance.database;
    let left = async || {
        store
            .column::<i64>("SELECT seq FROM changes ORDER BY seq")
            .await
    };

    assert_eq!(changes::sweep(database, NOON, 100).await.unwrap(), 0);
    let later = NOON.after(MICRO);
    assert_eq!(changes::sweep(database, later, 2).await.unwrap(), 2);
    assert_eq!(left().await, [3, 4, 5]);
    assert_eq!(changes::sweep(database, later, 2).await.unwrap(), 1);
    assert_eq!(left().await, [4, 5]);
    let much_later = later.after(Duration::from_secs(1));
    assert_eq!(changes::sweep(database, much_later, 100).await.unwrap(), 1);
    assert_eq!(left().await, [5]);
    assert_eq!(changes::end(database).await.unwrap().seq, 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_lock_is_taken_once_a_transaction() {
    let store = Store::postgres().await;
    let instance = store.instance().await;
    let (site_id, _) = instance.create_site().await;
    let Instance {
        database, sites, ..
    } = &instance;
    let updates = "SELECT n_tup_upd FROM pg_stat_user_tables WHERE relname = 'change_counter'";
    let mut tx = database.begin().await.unwrap();
    for _ in 0..3 {
        changes::lock(&mut tx).await.unwrap();
        assert!(sites.find_locked(&mut tx, site_id).await.unwrap().is_some());
    }
    tx.commit().await.unwrap();
    store.end(&[instance]).await;
    // One for the lock and one for the number of the site's making, and one for the lock here.
    assert_eq!(store.number(updates).await, 3);
}
