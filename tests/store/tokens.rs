//! Token records: issued, listed, revoked, cleared away.

use mirrory::{
    sites::SiteState,
    store::changes::{self, Actor},
    tokens::{KEPT_AFTER_END, TokenState},
    types::ids::TokenId,
};

use crate::harness::{
    Instance, MICRO, NOON, Store, TIME_TO_LIVE, commit, machine, on_both_stores, user,
};

on_both_stores!(
    a_token_is_found_as_it_was_issued,
    a_token_of_a_deleted_site_has_none,
    a_token_id_is_used_once,
    newest_tokens_of_a_site_or_a_user_are_listed_first,
    a_revoked_token_stays_revoked_since_the_first_time,
    a_proxy_touches_the_tokens_of_its_site_alone,
    sweep_keeps_a_record_for_thirty_days_after_its_end,
    the_last_end_counts_tokens_that_may_yet_be_issued,
);

async fn a_token_is_found_as_it_was_issued(store: Store) {
    let instance = store.instance().await;
    let Instance { tokens, .. } = &instance;
    let (site_id, _) = instance.create_site().await;
    let unbound = tokens.draft(site_id, user(i64::MAX), None);
    let bound = tokens.draft(site_id, user(1), Some(machine("Rechner ✓ 'a\"b\\")));
    assert_eq!(unbound.issued_at, NOON.whole_second());
    assert_eq!(unbound.expires_at, NOON.whole_second().after(TIME_TO_LIVE));
    assert!(tokens.find(unbound.token_id).await.unwrap().is_none());
    for record in [unbound, bound] {
        tokens.insert(&record, None).await.unwrap();
        let held = tokens.find(record.token_id).await.unwrap().unwrap();
        assert_eq!(**held.record, record);
        let SiteState::Present { status, plan } = held.site else {
            panic!("the site is there");
        };
        assert_eq!(
            (status, &*plan),
            (mirrory::sites::SiteStatus::Active, "free")
        );
    }
    let bound_at = "SELECT count(*) FROM tokens WHERE (machine_id IS NULL) = (bound_at IS NULL)";
    assert_eq!(store.number(bound_at).await, 2);
}

async fn a_token_of_a_deleted_site_has_none(store: Store) {
    let instance = store.instance().await;
    let Instance {
        database,
        sites,
        tokens,
    } = &instance;
    let (site_id, _) = instance.create_site().await;
    let token_id = instance.issue(site_id).await.token_id;
    commit!(database, |tx| sites.delete(tx, Actor::Operator, site_id));
    let held = tokens.find(token_id).await.unwrap().unwrap();
    assert_eq!(held.site, SiteState::Deleted);
    store.execute("DELETE FROM sites").await.unwrap();
    let held = tokens.find(token_id).await.unwrap().unwrap();
    assert_eq!(held.site, SiteState::Deleted);
}

async fn a_token_id_is_used_once(store: Store) {
    let instance = store.instance().await;
    let (site_id, _) = instance.create_site().await;
    let record = instance.issue(site_id).await;
    let mut again = instance.tokens.draft(site_id, user(7), None);
    again.token_id = record.token_id;
    assert!(instance.tokens.insert(&again, None).await.is_err());
    let held = instance
        .tokens
        .find(record.token_id)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(**held.record, record);
}

async fn newest_tokens_of_a_site_or_a_user_are_listed_first(store: Store) {
    let instance = store.instance().await;
    let Instance { tokens, .. } = &instance;
    let (site_id, _) = instance.create_site().await;
    let (other, _) = instance.create_site().await;
    let mut issued = Vec::new();
    for number in 0..6 {
        let record = tokens.draft(site_id, user(1 + number % 2), None);
        tokens.insert(&record, None).await.unwrap();
        issued.push(record);
        instance.issue(other).await;
        store.hand.advance(std::time::Duration::from_secs(1));
    }
    issued.reverse();
    assert_eq!(tokens.list(site_id, None, 100).await.unwrap(), issued);
    assert_eq!(tokens.list(site_id, None, 2).await.unwrap(), issued[..2]);
    issued.retain(|record| record.user_id == user(2));
    assert_eq!(
        tokens.list(site_id, Some(user(2)), 100).await.unwrap(),
        issued
    );
    assert!(
        tokens
            .list(site_id, Some(user(3)), 100)
            .await
            .unwrap()
            .is_empty()
    );
}

async fn a_revoked_token_stays_revoked_since_the_first_time(store: Store) {
    let instance = store.instance().await;
    let Instance {
        database, tokens, ..
    } = &instance;
    let (site_id, _) = instance.create_site().await;
    let [token_id, other] = [
        instance.issue(site_id).await.token_id,
        instance.issue(site_id).await.token_id,
    ];
    for actor in [Actor::Site(site_id), Actor::Operator] {
        commit!(database, |tx| tokens.revoke(tx, actor, token_id));
        let state = tokens.find(token_id).await.unwrap().unwrap().record.state;
        assert_eq!(state, TokenState::Revoked { at: NOON });
        store.hand.advance(MICRO);
    }
    let state = tokens.find(other).await.unwrap().unwrap().record.state;
    assert_eq!(state, TokenState::Active);
}

async fn a_proxy_touches_the_tokens_of_its_site_alone(store: Store) {
    let instance = store.instance().await;
    let Instance {
        database, tokens, ..
    } = &instance;
    let (site_id, _) = instance.create_site().await;
    let (other, _) = instance.create_site().await;
    let record = tokens.draft(site_id, user(1), Some(machine("mine")));
    tokens.insert(&record, None).await.unwrap();
    let before = changes::end(database).await.unwrap().seq;

    let unknown = TokenId::new(NOON, &store.randomness);
    for token_id in [record.token_id, unknown] {
        let actor = Actor::Site(other);
        commit!(database, |tx| tokens.revoke(tx, actor, token_id));
        commit!(database, |tx| tokens.release(tx, actor, token_id));
    }
    let held = tokens.find(record.token_id).await.unwrap().unwrap();
    assert_eq!(**held.record, record);
    assert_eq!(changes::end(database).await.unwrap().seq, before);
}

async fn sweep_keeps_a_record_for_thirty_days_after_its_end(store: Store) {
    let instance = store.instance().await;
    let Instance { tokens, .. } = &instance;
    let (site_id, _) = instance.create_site().await;
    let old = instance.issue(site_id).await;
    instance.issue(site_id).await;
    instance.issue(site_id).await;
    store.hand.advance(std::time::Duration::from_secs(1));
    let newer = instance.issue(site_id).await;

    let cutoff = old.expires_at.after(KEPT_AFTER_END);
    store.hand.set_wall(cutoff.before(MICRO));
    assert_eq!(tokens.sweep(100).await.unwrap(), 0);
    store.hand.set_wall(cutoff);
    assert_eq!(tokens.sweep(2).await.unwrap(), 2);
    assert_eq!(tokens.sweep(2).await.unwrap(), 1);
    assert!(tokens.find(old.token_id).await.unwrap().is_none());
    assert!(tokens.find(newer.token_id).await.unwrap().is_some());
    store.hand.advance(std::time::Duration::from_secs(1));
    assert_eq!(tokens.sweep(2).await.unwrap(), 1);
}

async fn the_last_end_counts_tokens_that_may_yet_be_issued(store: Store) {
    let instance = store.instance().await;
    let Instance {
        database, tokens, ..
    } = &instance;
    let (site_id, _) = instance.create_site().await;
    let end = async || {
        let mut tx = database.begin().await.unwrap();
        tokens.latest_end(&mut tx, store.clock.now()).await.unwrap()
    };
    assert_eq!(end().await, NOON.after(TIME_TO_LIVE));
    let mut long = tokens.draft(site_id, user(1), None);
    long.expires_at = NOON.after(10 * TIME_TO_LIVE);
    tokens.insert(&long, None).await.unwrap();
    instance.issue(site_id).await;
    assert_eq!(end().await, long.expires_at);
}
