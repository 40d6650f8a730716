//! Calls that are done together: each is answered as if it were alone.

use std::{
    collections::HashSet,
    pin::pin,
    sync::atomic::{AtomicBool, Ordering},
};

use futures_util::future::join_all;
use mirrory::{
    config::DatabaseKind,
    keys::TokenClaims,
    store::{StoreError, changes::Actor},
    tokens::{Idempotency, Inserted, TokenRecord},
    types::ids::{SiteId, TokenId},
};

use crate::harness::{DAY, Hold, Instance, NOON, Store, commit, machine, on_both_stores, user};

on_both_stores!(
    what_comes_while_the_store_is_busy_is_all_done,
    one_bad_row_hurts_nobody_else,
    of_a_key_that_comes_twice_in_one_queue_one_is_written,
    keys_raced_by_two_instances_in_opposite_orders_are_taken_once,
    tokens_raced_by_two_instances_in_opposite_orders_are_bound_once,
    what_its_caller_hung_up_on_is_written_all_the_same,
    records_are_found_with_what_is_not_there_and_what_is_asked_twice,
    a_record_that_cannot_be_read_hurts_no_other_look,
);

/// Makes all the calls while nobody can write, and only then lets them through.
async fn all_at_once<T>(
    store: &Store,
    calls: impl IntoIterator<Item = impl Future<Output = T>>,
) -> Vec<T> {
    let hold = Hold::of(store).await;
    let mut all = pin!(join_all(calls));
    // The first look makes every call.
    tokio::select! {
        biased;
        _ = &mut all => panic!("nobody can write"),
        () = std::future::ready(()) => {}
    }
    hold.release().await;
    all.await
}

fn drafts(instance: &Instance, site_id: SiteId, count: usize) -> Vec<TokenRecord> {
    (0..count)
        .map(|number| {
            let machine_id = number
                .is_multiple_of(3)
                .then(|| machine(&format!("'{number}\" \\ ✓")));
            instance.tokens.draft(
                site_id,
                user(1 + i64::try_from(number).unwrap()),
                machine_id,
            )
        })
        .collect()
}

async fn found(instance: &Instance, token_id: TokenId) -> Option<TokenRecord> {
    let held = instance.tokens.find(token_id).await.unwrap();
    held.map(|held| TokenRecord::clone(&held.record))
}

async fn what_comes_while_the_store_is_busy_is_all_done(store: Store) {
    let instance = store.instance().await;
    let (site_id, _) = instance.create_site().await;
    // More than one batch takes.
    let drafts = drafts(&instance, site_id, 600);
    let insert = async |(number, record): (usize, &TokenRecord)| {
        let key = Idempotency::new(&number.to_string(), record.user_id, None);
        let key = number.is_multiple_of(2).then_some(&key);
        instance.tokens.insert(record, key).await.unwrap()
    };
    let inserted = all_at_once(&store, drafts.iter().enumerate().map(insert)).await;
    assert!(inserted.iter().all(|outcome| *outcome == Inserted::Yes));
    let found = join_all(drafts.iter().map(|draft| found(&instance, draft.token_id))).await;
    for (draft, found) in drafts.iter().zip(found) {
        assert_eq!(found.as_ref(), Some(draft));
    }
    let keys = "SELECT count(*) FROM idempotency_keys JOIN tokens USING (token_id, site_id)";
    assert_eq!(store.number(keys).await, 300);
}

async fn one_bad_row_hurts_nobody_else(store: Store) {
    let instance = store.instance().await;
    let (site_id, _) = instance.create_site().await;
    let known = instance.issue(site_id).await;
    let mut drafts = drafts(&instance, site_id, 300);
    drafts[10].token_id = known.token_id;
    let insert = async |record| instance.tokens.insert(record, None).await;
    let inserted = all_at_once(&store, drafts.iter().map(insert)).await;
    for (number, outcome) in inserted.iter().enumerate() {
        match outcome {
            Ok(Inserted::Yes) => assert_ne!(number, 10),
            Err(StoreError::Fault(_)) => assert_eq!(number, 10),
            other => panic!("{number}: {other:?}"),
        }
    }
    assert_eq!(store.number("SELECT count(*) FROM tokens").await, 300);
    assert_eq!(found(&instance, known.token_id).await, Some(known));
}

async fn of_a_key_that_comes_twice_in_one_queue_one_is_written(store: Store) {
    let instance = store.instance().await;
    let (site_id, _) = instance.create_site().await;
    let key = Idempotency::new("a", user(1), None);
    let drafts = drafts(&instance, site_id, 30);
    let insert = async |(number, record): (usize, &TokenRecord)| {
        let key = number.is_multiple_of(3).then_some(&key);
        instance.tokens.insert(record, key).await.unwrap()
    };
    let inserted = all_at_once(&store, drafts.iter().enumerate().map(insert)).await;
    for (number, outcome) in inserted.into_iter().enumerate() {
        let is_late = number.is_multiple_of(3) && number > 0;
        let expected = if is_late {
            Inserted::KeyTaken
        } else {
            Inserted::Yes
        };
        assert_eq!(outcome, expected, "{number}");
    }
    assert_eq!(store.number("SELECT count(*) FROM tokens").await, 21);
}

/// Does something for each of many by two instances at once, by one of them backwards; what each
/// of them was answered, both forwards.
async fn raced<T, A>(things: &[T], call: impl AsyncFn(usize, &T) -> A) -> (Vec<A>, Vec<A>) {
    let (forwards, mut backwards) = tokio::join!(
        join_all(things.iter().map(|thing| call(0, thing))),
        join_all(things.iter().rev().map(|thing| call(1, thing))),
    );
    backwards.reverse();
    (forwards, backwards)
}

async fn keys_raced_by_two_instances_in_opposite_orders_are_taken_once(store: Store) {
    let instances = [store.instance().await, store.instance().await];
    let (site_id, _) = instances[0].create_site().await;
    for round in 0..5 {
        let keys: Vec<_> = (0..100)
            .map(|number| Idempotency::new(&format!("{round} {number}"), user(1), None))
            .collect();
        let (forwards, backwards) = raced(&keys, async |instance, key| {
            let tokens = &instances[instance].tokens;
            let record = tokens.draft(site_id, user(1), None);
            tokens.insert(&record, Some(key)).await.unwrap()
        })
        .await;
        for outcomes in forwards.iter().zip(&backwards) {
            let pair = [outcomes.0, outcomes.1];
            assert!(pair.contains(&&Inserted::Yes) && pair.contains(&&Inserted::KeyTaken));
        }
        assert_eq!(
            store.number("SELECT count(*) FROM tokens").await,
            100 * (round + 1)
        );
    }
}

async fn tokens_raced_by_two_instances_in_opposite_orders_are_bound_once(store: Store) {
    let instances = [store.instance().await, store.instance().await];
    let machines = [machine("first"), machine("second")];
    let (site_id, _) = instances[0].create_site().await;
    for _ in 0..5 {
        let drafts: Vec<_> = (0..100)
            .map(|_| instances[0].tokens.draft(site_id, user(1), None))
            .collect();
        join_all(
            drafts
                .iter()
                .map(|draft| instances[0].tokens.insert(draft, None)),
        )
        .await;
        let (forwards, backwards) = raced(&drafts, async |instance, draft| {
            let bound = instances[instance]
                .tokens
                .bind(draft.claims(), &machines[instance]);
            bound.await.unwrap().is_some()
        })
        .await;
        for (draft, (first, second)) in drafts.iter().zip(forwards.into_iter().zip(backwards)) {
            assert!(first ^ second, "one of them");
            let winner = &machines[usize::from(second)];
            let bound = found(&instances[0], draft.token_id).await.unwrap();
            assert_eq!(bound.machine_id.as_ref(), Some(winner));
        }
    }
}

/// Two instances that lock rows in opposite orders would each hold some that the other one needs
/// when `in_the_middle` is let go. The server counts what waits for each other after a second, long
/// before these instances give up.
async fn assert_that_none_wait_for_each_other<A>(
    store: &Store,
    instances: &[Instance],
    in_the_middle: Hold,
    race: impl Future<Output = (Vec<A>, Vec<A>)>,
) {
    let letting_go = async {
        store.until_waiting(2).await;
        in_the_middle.release().await;
    };
    tokio::join!(race, letting_go);
    store.end(instances).await;
    let deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()";
    assert_eq!(store.number(deadlocks).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches_that_take_the_same_keys_do_not_wait_for_each_other() {
    let store = Store::postgres().await;
    let instances = [store.instance().await, store.instance().await];
    let (site_id, _) = instances[0].create_site().await;
    let keys: Vec<_> = (0..100)
        .map(|number| Idempotency::new(&number.to_string(), user(1), None))
        .collect();
    let take = "INSERT INTO idempotency_keys \
                SELECT site_id, sha256('50'), sha256(''), site_id, 0 FROM sites";
    let hold = Hold::with(&store, take).await;
    let race = raced(&keys, async |instance, key| {
        let tokens = &instances[instance].tokens;
        let record = tokens.draft(site_id, user(1), None);
        tokens.insert(&record, Some(key)).await.unwrap()
    });
    assert_that_none_wait_for_each_other(&store, &instances, hold, race).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches_that_bind_the_same_tokens_do_not_wait_for_each_other() {
    let store = Store::postgres().await;
    let instances = [store.instance().await, store.instance().await];
    let (site_id, _) = instances[0].create_site().await;
    let mut records = Vec::new();
    for _ in 0..100 {
        records.push(instances[0].issue(site_id).await);
    }
    let lock = format!(
        "SELECT 1 FROM tokens WHERE token_id = '{}' FOR UPDATE",
        records[50].token_id
    );
    let hold = Hold::with(&store, &lock).await;
    let machine_id = machine("m");
    let race = raced(&records, async |instance, record| {
        let binds = instances[instance].binds(record.claims(), &machine_id);
        assert!(binds.await.unwrap());
    });
    assert_that_none_wait_for_each_other(&store, &instances, hold, race).await;
}

/// The server has made its plans when no two tokens ended at once, and then many did.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_of_bindings_reads_no_rows_but_its_own() {
    let store = Store::postgres().await;
    let [instance, other] = [store.instance().await, store.instance().await];
    for _ in 0..60 {
        instance.create_site().await;
    }
    store.execute(PARTITIONS_OF_ALL_TIMES).await.unwrap();
    let issue = async |distance: u32| {
        let issue = format!(
            "INSERT INTO tokens (token_id, site_id, user_id, coins, issued_at, expires_at) \
             SELECT gen_random_uuid(), site_id, 1, 200, 0, {} + {distance} * row_number() OVER () \
             FROM sites, generate_series(1, 200)",
            NOON.after(DAY).as_micros()
        );
        store.execute(&issue).await.unwrap();
        let some = "SELECT token_id FROM tokens WHERE machine_id IS NULL \
                    ORDER BY right(token_id::text, 12) LIMIT 1000";
        let token_ids: Vec<TokenId> = store.column(some).await;
        join_all(token_ids.into_iter().map(|id| other.claims(id))).await
    };
    let machine_id = machine("m");
    let bind = async |claims: &TokenClaims| {
        let bound = instance.tokens.bind(*claims, &machine_id).await;
        bound.unwrap().is_some()
    };
    let claims = issue(1).await;
    store.execute("ANALYZE tokens").await.unwrap();
    for claims in &claims[..60] {
        assert!(bind(claims).await);
    }
    let claims = issue(0).await;
    let bound = all_at_once(&store, claims.iter().map(bind)).await;
    assert!(bound.into_iter().all(|is_bound| is_bound));
    store.end(&[instance, other]).await;

    let bound = "SELECT count(*) FROM pg_stat_user_tables \
                 WHERE relname LIKE 'tokens%' AND n_tup_upd > 50";
    assert_eq!(store.number(bound).await, 6, "they are in all partitions");
    // Without those that the test itself looks through to choose some.
    let read = "SELECT sum(idx_tup_fetch)::bigint FROM pg_stat_user_tables \
                WHERE relname = 'sites' OR relname LIKE 'tokens%'";
    let rows = store.number(read).await;
    assert!(rows < 10_000, "{rows} rows read to bind 1060 tokens");
}

/// Five partitions, by the first digit of their ids, beside the one of the rest.
const PARTITIONS_OF_ALL_TIMES: &str = "\
DO $$ BEGIN \
  FOR number IN 2..6 LOOP \
    EXECUTE format('CREATE TABLE tokens_%s PARTITION OF tokens FOR VALUES FROM (%L) TO (%L) \
      WITH (autovacuum_enabled = off)', number, rpad(to_hex(number * 2), 32, '0'), \
      rpad(to_hex(number * 2 + 2), 32, '0')); \
  END LOOP; \
END $$; \
ALTER TABLE sites SET (autovacuum_enabled = off); \
ALTER TABLE tokens_default SET (autovacuum_enabled = off);";

/// They keep their connection from one batch to the next, and there is but one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches_that_follow_each_other_leave_others_the_connection() {
    let mut store = Store::postgres().await;
    store.config.database.max_connections = 1;
    let instance = store.instance().await;
    let (site_id, _) = instance.create_site().await;
    let is_over = AtomicBool::new(false);
    let issuing = join_all((0..8).map(async |_| {
        while !is_over.load(Ordering::Relaxed) {
            instance.issue(site_id).await;
        }
    }));
    let reading = async {
        let mut read = Vec::new();
        for _ in 0..5 {
            read.push(instance.database.now().await);
        }
        is_over.store(true, Ordering::Relaxed);
        read
    };
    let (_, read) = tokio::join!(issuing, reading);
    assert!(read.iter().all(Result::is_ok), "{read:?}");
}

/// It stays for the next caller for a moment, if the pool may open others.
#[tokio::test]
async fn the_connection_of_a_lone_caller_goes_back_to_the_pool() {
    let mut store = Store::postgres().await;
    store.config.database.max_connections = 2;
    let instance = store.instance().await;
    let (site_id, _) = instance.create_site().await;
    instance.issue(site_id).await;
    // Both at once.
    let all = async || {
        let first = instance.database.begin().await?;
        let second = instance.database.begin().await?;
        drop((first, second));
        Ok::<_, StoreError>(())
    };
    all().await.unwrap();
}

async fn what_its_caller_hung_up_on_is_written_all_the_same(store: Store) {
    let instance = store.instance().await;
    let (site_id, _) = instance.create_site().await;
    let drafts = drafts(&instance, site_id, 8);
    let hold = Hold::of(&store).await;
    for draft in &drafts {
        let mut insert = pin!(instance.tokens.insert(draft, None));
        tokio::select! {
            biased;
            _ = &mut insert => panic!("nobody can write"),
            () = std::future::ready(()) => {}
        }
    }
    hold.release().await;
    // It comes behind all of them.
    instance.issue(site_id).await;
    for draft in drafts {
        assert_eq!(found(&instance, draft.token_id).await, Some(draft));
    }
}

async fn records_are_found_with_what_is_not_there_and_what_is_asked_twice(store: Store) {
    let instance = store.instance().await;
    let (site_id, _) = instance.create_site().await;
    let mut issued = Vec::new();
    for _ in 0..40 {
        issued.push(instance.issue(site_id).await);
    }
    let unknown = instance.tokens.draft(site_id, user(1), None);
    let asked: Vec<_> = (0..200)
        .map(|number| match number % 5 {
            0 => &unknown,
            1 => &issued[0],
            _ => &issued[number % issued.len()],
        })
        .collect();
    let found = join_all(asked.iter().map(|record| found(&instance, record.token_id))).await;
    for (asked, found) in asked.into_iter().zip(found) {
        let known = (asked.token_id != unknown.token_id).then_some(asked);
        assert_eq!(found.as_ref(), known);
    }
    let distinct: HashSet<_> = issued.iter().map(|record| record.token_id).collect();
    assert_eq!(distinct.len(), 40);
}

async fn a_record_that_cannot_be_read_hurts_no_other_look(store: Store) {
    let instance = store.instance().await;
    let (known, _) = instance.create_site().await;
    let (strange, _) = instance.create_site().await;
    commit!(instance.database, |tx| instance.sites.suspend(
        tx,
        Actor::Operator,
        strange
    ));
    let mut issued = Vec::new();
    for number in 0..40 {
        let site_id = if number % 2 == 0 { known } else { strange };
        issued.push(instance.issue(site_id).await);
    }
    let later_version = match store.kind() {
        DatabaseKind::Postgres => "ALTER TABLE sites DROP CONSTRAINT sites_status_check",
        DatabaseKind::Sqlite => "PRAGMA ignore_check_constraints = ON",
    };
    let closed =
        format!("{later_version}; UPDATE sites SET status = 'closed' WHERE status = 'suspended'");
    store.execute(&closed).await.unwrap();
    let looks = issued
        .iter()
        .map(|record| instance.tokens.find(record.token_id));
    for (record, found) in issued.iter().zip(join_all(looks).await) {
        match found {
            Ok(found) => assert_eq!(found.unwrap().record.site_id, known),
            Err(StoreError::Fault(_)) => assert_eq!(record.site_id, strange),
            Err(other) => panic!("{other:?}"),
        }
    }
}
