//! The janitor: what is past its use goes, nothing else does, by one instance at a time.

use std::{fmt::Write, sync::Mutex, time::Duration};

use mirrory::{
    app::Background,
    config::DatabaseKind,
    janitor::Janitor,
    keys::KeyState,
    store::changes::Actor,
    tokens::{Idempotency, KEPT_AFTER_END, KEY_LIFETIME},
    types::clock::Timestamp,
};

use crate::harness::{DAY, Instance, MICRO, Store, commit, just_under, on_both_stores, user};

on_both_stores!(
    everything_past_its_use_goes_and_nothing_else,
    a_round_clears_more_than_two_batches,
    the_store_is_left_alone_after_each_batch,
    one_instance_cleans_up_at_a_time,
    nothing_is_removed_by_a_clock_that_is_off_the_stores,
);

/// More than two batches of the janitor.
const MANY: usize = 301;

const TABLES: [&str; 8] = [
    "tokens",
    "idempotency_keys",
    "sites",
    "proxy_secrets",
    "signing_keys",
    "usage",
    "usage_history",
    "changes",
];

async fn counts(store: &Store) -> Vec<i64> {
    let mut counts = Vec::new();
    for table in TABLES {
        counts.push(store.number(&format!("SELECT count(*) FROM {table}")).await);
    }
    counts
}

/// Every kind of row at `store.hand`'s time: of each, one that will be past its use in time, and
/// one that stays with what is alive.
async fn fill(store: &Store) {
    let (state, _) = store.state().await;
    let instance = Instance::new(store, state.database.clone());
    let Instance {
        database,
        sites,
        tokens,
    } = &instance;
    let (site_id, _) = instance.create_site().await;
    let (deleted, _) = instance.create_site().await;
    for site_id in [site_id, deleted] {
        let record = tokens.draft(site_id, user(1), None);
        let key = Idempotency::new("a", user(1), None);
        tokens.insert(&record, Some(&key)).await.unwrap();
        let permit = state.ledger.reserve(site_id, "free", 1).await.unwrap();
        permit.settle(Some(mirrory::quota::Outcome::Issued)).await;
    }
    state.ledger.flush().await.unwrap();
    commit!(database, |tx| sites.rotate_secret(
        tx,
        Actor::Operator,
        site_id,
        DAY
    ));
    commit!(database, |tx| sites.delete(tx, Actor::Operator, deleted));
    let algorithm = state.config.tokens.algorithm;
    let key = state.keys.generate(algorithm).await.unwrap();
    let end = store.clock.now().after(Duration::from_hours(1));
    commit!(database, |tx| state.keys.rotate(
        tx,
        Actor::Operator,
        &key,
        end
    ));
}

async fn everything_past_its_use_goes_and_nothing_else(store: Store) {
    fill(&store).await;
    let (state, freshness) = store.state().await;
    let janitor = Background::new(&state, freshness).janitor;
    let start = store.clock.now();
    let step = Duration::from_secs(200);
    //  tokens, keys of idempotency, sites, secrets, signing keys, counters, days, changes
    let mut expected = vec![2, 2, 2, 3, 2, 2, 2, 6];
    assert_eq!(counts(&store).await, expected);

    // The secret of the deleted site is of no use any more, at once.
    janitor.round().await.unwrap();
    expected[3] = 2;
    assert_eq!(counts(&store).await, expected);

    let at = async |moment: Timestamp| {
        store.hand.set_wall(moment);
        janitor.round().await.unwrap();
        counts(&store).await
    };
    assert_eq!(at(start.after(KEY_LIFETIME).before(MICRO)).await, expected);
    // The keys of idempotency, the secret in grace, and all changes but the newest.
    (expected[1], expected[3]) = (0, 1);
    let after_a_day = at(start.after(KEY_LIFETIME)).await;
    assert_eq!(after_a_day[..7], expected[..7]);
    expected[7] = 1;
    assert_eq!(at(start.after(KEY_LIFETIME + MICRO)).await, expected);

    // The tokens thirty days after their end, and then the deleted site and its counter.
    let end = start
        .whole_second()
        .after(Duration::from_hours(1))
        .after(KEPT_AFTER_END);
    assert_eq!(at(end.before(MICRO)).await, expected);
    (expected[0], expected[2], expected[5]) = (0, 1, 1);
    assert_eq!(at(end).await, expected);
    expected[4] = 1;
    assert_eq!(at(end.after(step)).await, expected);
    expected[6] = 0;
    assert_eq!(at(start.after(91 * DAY)).await, expected);
    assert_eq!(at(start.after(1000 * DAY)).await, expected);
    let key = &state.keys.list().await.unwrap()[0];
    assert_eq!(key.state, KeyState::Signing);
}

/// The id of row `number`.
fn id(store: &Store, number: usize) -> String {
    match store.kind() {
        DatabaseKind::Postgres => format!("'00000000-0000-7000-8000-{number:012x}'"),
        DatabaseKind::Sqlite => format!("x'00000000000070008000{number:012x}'"),
    }
}

fn bytes(store: &Store, number: usize) -> String {
    match store.kind() {
        DatabaseKind::Postgres => format!(r"'\x{number:08x}'"),
        DatabaseKind::Sqlite => format!("x'{number:08x}'"),
    }
}

/// Fills `into` with [`MANY`] rows, each made from its number.
async fn insert(store: &Store, into: &str, row: impl Fn(usize) -> String) {
    let mut sql = format!("INSERT INTO {into} VALUES ");
    for number in 0..MANY {
        let comma = if number == 0 { "" } else { ", " };
        write!(sql, "{comma}({})", row(number)).unwrap();
    }
    store.execute(&sql).await.unwrap();
}

async fn insert_idempotency_keys(store: &Store) {
    let (id, bytes) = (|number| id(store, number), |number| bytes(store, number));
    let keys = "idempotency_keys (site_id, key_digest, request_digest, token_id, created_at)";
    insert(store, keys, |number| {
        format!(
            "{}, {}, {}, {}, {number}",
            id(0),
            bytes(number),
            bytes(0),
            id(number)
        )
    })
    .await;
}

async fn a_round_clears_more_than_two_batches(store: Store) {
    let (state, _) = store.state().await;
    let (id, bytes) = (|number| id(&store, number), |number| bytes(&store, number));
    let tokens = "tokens (token_id, site_id, user_id, coins, issued_at, expires_at)";
    insert(&store, tokens, |number| {
        format!("{}, {}, 1, 1, 1, 2", id(number), id(0))
    })
    .await;
    insert_idempotency_keys(&store).await;
    let sites = "sites (site_id, name, plan, status, created_at, deleted_at)";
    insert(&store, sites, |number| {
        format!("{}, 'x', 'free', 'active', 1, 2", id(number))
    })
    .await;
    let secrets = "proxy_secrets (secret_id, site_id, digest, created_at, expires_at)";
    insert(&store, secrets, |number| {
        format!("{0}, {0}, {1}, 1, 2", id(number), bytes(0))
    })
    .await;
    let usage = "usage (site_id, day, day_used, month, month_used)";
    insert(&store, usage, |number| {
        format!("{}, 1, 1, 1, 1", id(number))
    })
    .await;
    let days = "usage_history (site_id, day, issued, validated)";
    insert(&store, days, |number| format!("{}, {number}, 1, 1", id(0))).await;
    let keys = "signing_keys (kid, algorithm, sealed, created_at, signs_from, verifies_until)";
    insert(&store, keys, |number| {
        format!("'{number}', 'HS256', {}, 1, 1, 2", bytes(0))
    })
    .await;
    store.execute("DELETE FROM changes").await.unwrap();
    let changes = "changes (seq, changed_at, actor, event, subject)";
    insert(&store, changes, |number| {
        format!("{}, 1, 'a', 'b', 'c'", number + 1)
    })
    .await;
    store
        .execute(&format!("UPDATE change_counter SET seq = {MANY}"))
        .await
        .unwrap();

    Janitor::new(&state).round().await.unwrap();
    assert_eq!(counts(&store).await, [0, 0, 0, 0, 1, 0, 0, 1]);
}

async fn the_store_is_left_alone_after_each_batch(store: Store) {
    let (state, _) = store.state().await;
    insert_idempotency_keys(&store).await;
    let left = Mutex::new(Vec::new());
    let pause = async || {
        let count = "SELECT count(*) FROM idempotency_keys";
        let count = store.number(count).await;
        left.lock().unwrap().push(count);
    };
    Janitor::new(&state).round_with(pause).await.unwrap();
    assert_eq!(*left.lock().unwrap(), [201, 101, 1]);
}

async fn nothing_is_removed_by_a_clock_that_is_off_the_stores(store: Store) {
    let (state, _) = store.state().await;
    let count = async || store.number("SELECT count(*) FROM tokens").await;
    let old_token = format!(
        "INSERT INTO tokens (token_id, site_id, user_id, coins, issued_at, expires_at) \
         VALUES ({0}, {0}, 1, 1, 1, 2)",
        id(&store, 1)
    );
    store.execute(&old_token).await.unwrap();
    let janitor = Janitor::new(&state);
    // The embedded store goes by the greatest time that it has seen.
    state.database.beat(&store.clock).await.unwrap();
    let minute = 60_000_000;
    let off = match store.kind() {
        DatabaseKind::Postgres => minute,
        DatabaseKind::Sqlite => -6 * minute,
    };
    store.hand.set_off(off);
    janitor.tick().await.unwrap();
    assert_eq!(count().await, 1);
    store.hand.set_off(0);
    janitor.tick().await.unwrap();
    assert_eq!(count().await, 0);
}

async fn one_instance_cleans_up_at_a_time(store: Store) {
    let (state, _) = store.state().await;
    let [first, second] = [Janitor::new(&state), Janitor::new(&state)];
    let count = async || store.number("SELECT count(*) FROM tokens").await;
    let old_token = format!(
        "INSERT INTO tokens (token_id, site_id, user_id, coins, issued_at, expires_at) \
         VALUES ({0}, {0}, 1, 1, 1, 2)",
        id(&store, 1)
    );
    first.round().await.unwrap();
    store.execute(&old_token).await.unwrap();
    store.hand.advance(just_under(Duration::from_mins(3)));
    second.round().await.unwrap();
    assert_eq!(count().await, 1, "it is the first one's turn");
    store.hand.advance(MICRO);
    second.round().await.unwrap();
    assert_eq!(count().await, 0);
    store.execute(&old_token).await.unwrap();
    store.hand.advance(Duration::from_mins(1));
    first.round().await.unwrap();
    assert_eq!(count().await, 1, "it is the second one's turn");
    second.round().await.unwrap();
    assert_eq!(count().await, 0);
}
