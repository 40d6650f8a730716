//! When a bound token was last validated: kept to the minute, gone with the binding.

use std::time::Duration;

use futures_util::future::join_all;
use mirrory::{
    store::changes::Actor,
    types::{
        clock::{LAST_USE_STEP, Timestamp},
        ids::TokenId,
    },
};

use crate::harness::{
    Instance, MICRO, NOON, Store, commit, just_under, machine, on_both_stores, user,
};

on_both_stores!(
    a_use_is_written_once_a_minute_whichever_instance_saw_it,
    a_use_before_the_last_one_is_not_written,
    a_binding_is_a_use,
    a_release_clears_it_and_what_was_noted_before_does_not_come_back,
    a_token_that_is_not_bound_has_none,
    a_flush_that_failed_is_made_up_for,
    uses_of_many_tokens_are_all_written,
);

async fn bound(instance: &Instance) -> TokenId {
    let (site_id, _) = instance.create_site().await;
    let token_id = instance.issue(site_id).await.token_id;
    assert!(bind(instance, token_id, "m").await);
    token_id
}

async fn bind(instance: &Instance, token_id: TokenId, name: &str) -> bool {
    let claims = instance.claims(token_id).await;
    let bound = instance.tokens.bind(claims, &machine(name)).await;
    bound.unwrap().is_some()
}

async fn use_and_flush(instance: &Instance, token_id: TokenId, used_at: Timestamp) {
    instance.tokens.note_use(token_id, used_at);
    instance.tokens.flush_uses().await.unwrap();
}

async fn last_use(instance: &Instance, token_id: TokenId) -> Option<Timestamp> {
    let held = instance.tokens.find(token_id).await.unwrap().unwrap();
    held.record.last_validated_at
}

async fn a_use_is_written_once_a_minute_whichever_instance_saw_it(store: Store) {
    let instances = [store.instance().await, store.instance().await];
    let token_id = bound(&instances[0]).await;
    let mut written = NOON;
    for round in 0..3 {
        let instance = &instances[round % 2];
        let too_early = written.after(just_under(LAST_USE_STEP));
        use_and_flush(instance, token_id, too_early).await;
        assert_eq!(last_use(instance, token_id).await, Some(written));
        written = written.after(LAST_USE_STEP);
        use_and_flush(instance, token_id, written).await;
        assert_eq!(last_use(instance, token_id).await, Some(written));
    }
}

async fn a_use_before_the_last_one_is_not_written(store: Store) {
    let instance = store.instance().await;
    let token_id = bound(&instance).await;
    use_and_flush(&instance, token_id, NOON.before(LAST_USE_STEP)).await;
    assert_eq!(last_use(&instance, token_id).await, Some(NOON));
}

async fn a_binding_is_a_use(store: Store) {
    let instance = store.instance().await;
    let token_id = bound(&instance).await;
    assert_eq!(last_use(&instance, token_id).await, Some(NOON));
    store.hand.advance(just_under(LAST_USE_STEP));
    assert!(!bind(&instance, token_id, "m").await, "too early");
    assert_eq!(last_use(&instance, token_id).await, Some(NOON));
    store.hand.advance(MICRO);
    assert!(bind(&instance, token_id, "m").await);
    let written = Some(NOON.after(LAST_USE_STEP));
    assert_eq!(last_use(&instance, token_id).await, written);
    store.hand.advance(LAST_USE_STEP);
    assert!(!bind(&instance, token_id, "n").await);
    assert_eq!(last_use(&instance, token_id).await, written);
}

async fn a_release_clears_it_and_what_was_noted_before_does_not_come_back(store: Store) {
    let instance = store.instance().await;
    let Instance {
        database, tokens, ..
    } = &instance;
    let token_id = bound(&instance).await;
    let noted = NOON.after(LAST_USE_STEP);
    tokens.note_use(token_id, noted);
    store.hand.set_wall(noted.after(MICRO));
    commit!(database, |tx| tokens.release(tx, Actor::Operator, token_id));
    tokens.flush_uses().await.unwrap();
    assert_eq!(last_use(&instance, token_id).await, None);

    tokens.note_use(token_id, noted);
    assert!(bind(&instance, token_id, "next").await);
    tokens.flush_uses().await.unwrap();
    assert_eq!(
        last_use(&instance, token_id).await,
        Some(noted.after(MICRO))
    );
}

async fn a_token_that_is_not_bound_has_none(store: Store) {
    let instance = store.instance().await;
    let (site_id, _) = instance.create_site().await;
    let unbound = instance.issue(site_id).await.token_id;
    use_and_flush(&instance, unbound, NOON).await;
    assert_eq!(last_use(&instance, unbound).await, None);
    let born_bound = instance.tokens.draft(site_id, user(1), Some(machine("m")));
    instance.tokens.insert(&born_bound, None).await.unwrap();
    assert_eq!(last_use(&instance, born_bound.token_id).await, None);
    use_and_flush(&instance, born_bound.token_id, NOON).await;
    assert_eq!(last_use(&instance, born_bound.token_id).await, Some(NOON));
}

async fn a_flush_that_failed_is_made_up_for(store: Store) {
    let instance = store.instance().await;
    let token_id = bound(&instance).await;
    let [first, second] = [LAST_USE_STEP, 2 * LAST_USE_STEP].map(|later| NOON.after(later));
    let hide = "ALTER TABLE tokens RENAME TO hidden";
    store.execute(hide).await.unwrap();
    instance.tokens.note_use(token_id, first);
    assert!(instance.tokens.flush_uses().await.is_err());
    instance.tokens.note_use(token_id, second);
    assert!(instance.tokens.flush_uses().await.is_err());
    let show = "ALTER TABLE hidden RENAME TO tokens";
    store.execute(show).await.unwrap();
    instance.tokens.flush_uses().await.unwrap();
    assert_eq!(last_use(&instance, token_id).await, Some(second));
}

async fn uses_of_many_tokens_are_all_written(store: Store) {
    let instance = store.instance().await;
    let (site_id, _) = instance.create_site().await;
    let tokens = &instance.tokens;
    let drafts: Vec<_> = (0..2001)
        .map(|_| tokens.draft(site_id, user(1), Some(machine("m"))))
        .collect();
    join_all(drafts.iter().map(|draft| tokens.insert(draft, None))).await;
    for (draft, second) in drafts.iter().zip(1..) {
        let used_at = NOON.after(Duration::from_secs(second));
        tokens.note_use(draft.token_id, used_at);
    }
    tokens.flush_uses().await.unwrap();
    let written = "SELECT count(DISTINCT last_validated_at) FROM tokens";
    assert_eq!(store.number(written).await, 2001);
}
