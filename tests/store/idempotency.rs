//! Idempotency keys: the same call twice is one token.

use futures_util::future::join_all;
use mirrory::{
    tokens::{Idempotency, Inserted, KEY_LIFETIME, KeyUse, TokenRecord},
    types::ids::SiteId,
};
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::harness::{Instance, MICRO, NOON, Store, just_under, machine, on_both_stores, user};

on_both_stores!(
    a_used_key_leads_to_its_token,
    a_key_stands_for_its_request_alone,
    a_key_belongs_to_one_site,
    of_sixteen_with_one_key_one_is_written,
    a_failed_insert_uses_up_no_key,
    a_key_ends_after_a_day_and_is_then_taken_over,
    of_eight_that_take_over_an_old_key_one_does,
    sweep_removes_keys_after_a_day,
    sweep_goes_on_where_it_ended_and_another_instance_begins_anew,
);

async fn insert(instance: &Instance, record: &TokenRecord, text: &str) -> Inserted {
    let key = key(text);
    let inserted = instance.tokens.insert(record, Some(&key));
    inserted.await.unwrap()
}

fn key(text: &str) -> Idempotency {
    Idempotency::new(text, user(1), None)
}

fn draft(instance: &Instance, site_id: SiteId) -> TokenRecord {
    instance.tokens.draft(site_id, user(1), None)
}

async fn lookup(instance: &Instance, site_id: SiteId, key: &Idempotency) -> Option<KeyUse> {
    instance.tokens.find_key(site_id, key).await.unwrap()
}

/// The record that a key leads to.
async fn replayed(instance: &Instance, site_id: SiteId, key: &Idempotency) -> TokenRecord {
    match lookup(instance, site_id, key).await {
        Some(KeyUse::Same(record)) => record,
        other => panic!("{other:?}"),
    }
}

async fn a_used_key_leads_to_its_token(store: Store) {
    let instance = store.instance().await;
    let (site_id, _) = instance.create_site().await;
    assert!(lookup(&instance, site_id, &key("a")).await.is_none());
    let record = draft(&instance, site_id);
    let inserted = insert(&instance, &record, "a").await;
    assert_eq!(inserted, Inserted::Yes);
    assert_eq!(replayed(&instance, site_id, &key("a")).await, record);

    let second = draft(&instance, site_id);
    let inserted = insert(&instance, &second, "a").await;
    assert_eq!(inserted, Inserted::KeyTaken);
    assert!(
        instance
            .tokens
            .find(second.token_id)
            .await
            .unwrap()
            .is_none()
    );
    assert_eq!(replayed(&instance, site_id, &key("a")).await, record);
    let inserted = insert(&instance, &second, "b").await;
    assert_eq!(inserted, Inserted::Yes);
}

async fn a_key_stands_for_its_request_alone(store: Store) {
    let instance = store.instance().await;
    let (site_id, _) = instance.create_site().await;
    let record = draft(&instance, site_id);
    insert(&instance, &record, "a").await;
    for other in [
        Idempotency::new("a", user(2), None),
        Idempotency::new("a", user(1), Some(&machine("m"))),
    ] {
        let found = lookup(&instance, site_id, &other).await;
        assert!(matches!(found, Some(KeyUse::Other)), "{found:?}");
        let inserted = instance
            .tokens
            .insert(&draft(&instance, site_id), Some(&other))
            .await;
        assert_eq!(inserted.unwrap(), Inserted::KeyTaken);
    }
    assert_eq!(store.number("SELECT count(*) FROM tokens").await, 1);
}

async fn a_key_belongs_to_one_site(store: Store) {
    let instance = store.instance().await;
    let mut records = Vec::new();
    for _ in 0..2 {
        let (site_id, _) = instance.create_site().await;
        let record = draft(&instance, site_id);
        let inserted = insert(&instance, &record, "a").await;
        assert_eq!(inserted, Inserted::Yes);
        records.push(record);
    }
    for record in records {
        assert_eq!(replayed(&instance, record.site_id, &key("a")).await, record);
    }
}

async fn race(instances: &[Instance], site_id: SiteId, calls: usize) -> Vec<TokenRecord> {
    let calls = (0..calls).map(async |number| {
        let instance = &instances[number % instances.len()];
        let record = draft(instance, site_id);
        let inserted = insert(instance, &record, "a").await;
        (inserted == Inserted::Yes).then_some(record)
    });
    join_all(calls).await.into_iter().flatten().collect()
}

async fn of_sixteen_with_one_key_one_is_written(store: Store) {
    let instances = [store.instance().await, store.instance().await];
    let (site_id, _) = instances[0].create_site().await;
    let written = race(&instances, site_id, 16).await;
    assert_eq!(written.len(), 1);
    assert_eq!(
        replayed(&instances[1], site_id, &key("a")).await,
        written[0]
    );
    assert_eq!(store.number("SELECT count(*) FROM tokens").await, 1);
    assert_eq!(
        store.number("SELECT count(*) FROM idempotency_keys").await,
        1
    );
}

async fn a_failed_insert_uses_up_no_key(store: Store) {
    let instance = store.instance().await;
    let (site_id, _) = instance.create_site().await;
    let mut record = draft(&instance, site_id);
    record.token_id = instance.issue(site_id).await.token_id;
    assert!(
        instance
            .tokens
            .insert(&record, Some(&key("a")))
            .await
            .is_err()
    );
    assert!(lookup(&instance, site_id, &key("a")).await.is_none());
    let record = draft(&instance, site_id);
    let inserted = insert(&instance, &record, "a").await;
    assert_eq!(inserted, Inserted::Yes);
}

async fn a_key_ends_after_a_day_and_is_then_taken_over(store: Store) {
    let instance = store.instance().await;
    let (site_id, _) = instance.create_site().await;
    let first = draft(&instance, site_id);
    insert(&instance, &first, "a").await;

    store.hand.set_wall(NOON.after(KEY_LIFETIME).before(MICRO));
    assert_eq!(replayed(&instance, site_id, &key("a")).await, first);
    assert_eq!(race(std::slice::from_ref(&instance), site_id, 1).await, []);

    store.hand.set_wall(NOON.after(KEY_LIFETIME));
    assert!(lookup(&instance, site_id, &key("a")).await.is_none());
    // It may stand for another request now.
    let other = Idempotency::new("a", user(2), None);
    let second = draft(&instance, site_id);
    let inserted = instance.tokens.insert(&second, Some(&other)).await.unwrap();
    assert_eq!(inserted, Inserted::Yes);
    assert_eq!(replayed(&instance, site_id, &other).await, second);
    assert!(matches!(
        lookup(&instance, site_id, &key("a")).await,
        Some(KeyUse::Other)
    ));
    store.hand.advance(just_under(KEY_LIFETIME));
    assert_eq!(replayed(&instance, site_id, &other).await, second);
}

async fn of_eight_that_take_over_an_old_key_one_does(store: Store) {
    let instances = [store.instance().await, store.instance().await];
    let (site_id, _) = instances[0].create_site().await;
    for round in 1..=5 {
        let written = race(&instances, site_id, 8).await;
        assert_eq!(written.len(), 1);
        assert_eq!(
            replayed(&instances[0], site_id, &key("a")).await,
            written[0]
        );
        assert_eq!(store.number("SELECT count(*) FROM tokens").await, round);
        store.hand.advance(KEY_LIFETIME);
    }
}

async fn sweep_removes_keys_after_a_day(store: Store) {
    let instance = store.instance().await;
    let (site_id, _) = instance.create_site().await;
    for text in ["a", "b", "c"] {
        let record = draft(&instance, site_id);
        instance
            .tokens
            .insert(&record, Some(&key(text)))
            .await
            .unwrap();
    }
    store.hand.advance(MICRO);
    let newer = draft(&instance, site_id);
    insert(&instance, &newer, "d").await;

    store.hand.set_wall(NOON.after(KEY_LIFETIME).before(MICRO));
    assert_eq!(instance.tokens.sweep_keys(2).await.unwrap(), 0);
    store.hand.set_wall(NOON.after(KEY_LIFETIME));
    assert_eq!(instance.tokens.sweep_keys(2).await.unwrap(), 2);
    assert_eq!(instance.tokens.sweep_keys(2).await.unwrap(), 1);
    assert_eq!(replayed(&instance, site_id, &key("d")).await, newer);
    assert_eq!(store.number("SELECT count(*) FROM tokens").await, 4);
}

async fn sweep_goes_on_where_it_ended_and_another_instance_begins_anew(store: Store) {
    let instances = [store.instance().await, store.instance().await];
    let [first, second] = [&instances[0].tokens, &instances[1].tokens];
    let (site_id, _) = instances[0].create_site().await;
    for text in ["a", "b", "c"] {
        let record = draft(&instances[0], site_id);
        insert(&instances[0], &record, text).await;
        store.hand.advance(MICRO);
    }
    store.hand.set_wall(NOON.after(2 * KEY_LIFETIME));
    assert_eq!(first.sweep_keys(2).await.unwrap(), 2);
    let late = "UPDATE idempotency_keys SET created_at = 1";
    store.execute(late).await.unwrap();
    assert_eq!(first.sweep_keys(2).await.unwrap(), 0);
    assert_eq!(second.sweep_keys(2).await.unwrap(), 1);
}

/// The embedded store writes one thing at a time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_is_taken_anew_while_it_is_removed_stays() {
    let store = Store::postgres().await;
    let instance = store.instance().await;
    let (site_id, _) = instance.create_site().await;
    let record = draft(&instance, site_id);
    insert(&instance, &record, "a").await;
    store.hand.advance(KEY_LIFETIME);
    let now = store.clock.now().as_micros();

    let url = store.config.database.url.expose();
    let mut taking = PgConnection::connect(url).await.unwrap();
    let take = format!("BEGIN; UPDATE idempotency_keys SET created_at = {now}");
    let taken = sqlx::raw_sql(AssertSqlSafe(take)).execute(&mut taking);
    taken.await.unwrap();
    let committing = async {
        store.until_waiting(1).await;
        let committed = sqlx::raw_sql("COMMIT").execute(&mut taking);
        committed.await.unwrap();
    };
    let (removed, ()) = tokio::join!(instance.tokens.sweep_keys(100), committing);
    assert_eq!(removed.unwrap(), 0);
    assert_eq!(replayed(&instance, site_id, &key("a")).await, record);
}
