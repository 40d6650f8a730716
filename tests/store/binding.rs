//! Bindings: a token is good on one machine, the first that asks.

use futures_util::future::join_all;
use mirrory::{
    keys::TokenClaims,
    store::changes::{self, Actor},
    types::{
        clock::LAST_USE_STEP,
        ids::{MachineId, TokenId},
    },
};

use crate::harness::{
    Instance, MICRO, NOON, SECOND, Store, commit, just_under, machine, on_both_stores, user,
};

on_both_stores!(
    of_sixty_four_machines_one_binds,
    a_bound_machine_binds_again_and_another_does_not,
    a_token_whose_claims_are_not_those_of_its_record_does_not_bind,
    a_released_token_binds_to_the_next_machine,
    what_is_no_longer_good_does_not_bind,
    a_token_that_is_good_again_binds,
    machine_ids_are_compared_byte_for_byte,
);

async fn bind(instance: &Instance, token_id: TokenId, machine_id: &MachineId) -> bool {
    let claims = instance.claims(token_id).await;
    is_bound(instance, claims, machine_id).await
}

async fn is_bound(instance: &Instance, claims: TokenClaims, machine_id: &MachineId) -> bool {
    let bound = instance.tokens.bind(claims, machine_id).await.unwrap();
    bound.is_some()
}

async fn bound_to(instance: &Instance, token_id: TokenId) -> Option<MachineId> {
    let held = instance.tokens.find(token_id).await.unwrap().unwrap();
    held.record.machine_id.clone()
}

async fn of_sixty_four_machines_one_binds(store: Store) {
    let instances = [store.instance().await, store.instance().await];
    let (site_id, _) = instances[0].create_site().await;
    let record = instances[0].issue(site_id).await;
    let machines: Vec<_> = (0..64)
        .map(|number| machine(&format!("machine {number}")))
        .collect();
    let bindings = machines
        .iter()
        .enumerate()
        .map(async |(number, machine_id)| {
            let bound = is_bound(&instances[number % 2], record.claims(), machine_id).await;
            bound.then_some(machine_id)
        });
    let won: Vec<_> = join_all(bindings).await.into_iter().flatten().collect();
    assert_eq!(won.len(), 1);
    assert_eq!(
        bound_to(&instances[0], record.token_id).await.as_ref(),
        Some(won[0])
    );
}

async fn a_bound_machine_binds_again_and_another_does_not(store: Store) {
    let instance = store.instance().await;
    let (site_id, _) = instance.create_site().await;
    let [token_id, other] = [
        instance.issue(site_id).await.token_id,
        instance.issue(site_id).await.token_id,
    ];
    let [first, second] = [machine("first"), machine("second")];
    assert!(bind(&instance, token_id, &first).await);
    store.hand.advance(just_under(LAST_USE_STEP));
    assert!(!bind(&instance, token_id, &first).await, "it is in use");
    store.hand.advance(MICRO);
    assert!(bind(&instance, token_id, &first).await);
    assert!(!bind(&instance, token_id, &second).await);
    assert_eq!(bound_to(&instance, token_id).await, Some(first));
    assert_eq!(bound_to(&instance, other).await, None);
    let since: Vec<i64> = store
        .column("SELECT bound_at FROM tokens WHERE bound_at > 0")
        .await;
    assert_eq!(since, [NOON.as_micros()], "since the first time");
}

async fn a_token_whose_claims_are_not_those_of_its_record_does_not_bind(store: Store) {
    let instance = store.instance().await;
    let (site_id, _) = instance.create_site().await;
    let (other_site, _) = instance.create_site().await;
    let record = instance.issue(site_id).await;
    let machine_id = machine("m");
    let differing = |differ: fn(&mut TokenClaims)| {
        let mut claims = record.claims();
        differ(&mut claims);
        claims
    };
    let of_other_site = TokenClaims {
        site_id: other_site,
        ..record.claims()
    };
    let unknown = TokenClaims {
        token_id: TokenId::new(NOON, &store.randomness),
        ..record.claims()
    };
    for claims in [
        of_other_site,
        unknown,
        differing(|claims| claims.user_id = user(1)),
        differing(|claims| claims.issued_at = claims.issued_at.before(SECOND)),
        differing(|claims| claims.expires_at = claims.expires_at.after(SECOND)),
    ] {
        assert!(
            !is_bound(&instance, claims, &machine_id).await,
            "{claims:?}"
        );
    }
    assert_eq!(bound_to(&instance, record.token_id).await, None);
    let bound = instance.tokens.bind(record.claims(), &machine_id).await;
    let bound = bound.unwrap().unwrap();
    let held = instance
        .tokens
        .find(record.token_id)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(**bound, **held.record, "what is told is what is written");
}

async fn a_released_token_binds_to_the_next_machine(store: Store) {
    let instance = store.instance().await;
    let Instance {
        database, tokens, ..
    } = &instance;
    let (site_id, _) = instance.create_site().await;
    let born_bound = tokens.draft(site_id, user(1), Some(machine("first")));
    tokens.insert(&born_bound, None).await.unwrap();
    let token_id = born_bound.token_id;
    let [first, second] = [machine("first"), machine("second")];
    commit!(database, |tx| tokens.release(
        tx,
        Actor::Site(site_id),
        token_id
    ));
    assert_eq!(bound_to(&instance, token_id).await, None);
    assert!(bind(&instance, token_id, &second).await);
    assert!(!bind(&instance, token_id, &first).await);
    commit!(database, |tx| tokens.release(tx, Actor::Operator, token_id));
    assert!(bind(&instance, token_id, &first).await);
}

async fn what_is_no_longer_good_does_not_bind(store: Store) {
    let instance = store.instance().await;
    let Instance {
        database,
        sites,
        tokens,
    } = &instance;
    let (site_id, _) = instance.create_site().await;
    let (suspended, _) = instance.create_site().await;
    let (deleted, _) = instance.create_site().await;
    let machine_id = machine("m");
    let issue = async |site_id| instance.issue(site_id).await;
    let [good, expiring, revoked] = [
        issue(site_id).await,
        issue(site_id).await,
        issue(site_id).await,
    ];
    let [of_suspended, of_deleted] = [issue(suspended).await, issue(deleted).await];
    // A binding does not outlive what it was made in, either.
    let bound = issue(suspended).await;
    assert!(bind(&instance, bound.token_id, &machine_id).await);

    let actor = Actor::Operator;
    commit!(database, |tx| tokens.revoke(tx, actor, revoked.token_id));
    commit!(database, |tx| sites.suspend(tx, actor, suspended));
    commit!(database, |tx| sites.delete(tx, actor, deleted));
    for record in [&revoked, &of_suspended, &of_deleted, &bound] {
        assert!(
            !bind(&instance, record.token_id, &machine_id).await,
            "{record:?}"
        );
    }
    store.hand.set_wall(expiring.expires_at.before(MICRO));
    assert!(bind(&instance, good.token_id, &machine_id).await);
    store.hand.set_wall(expiring.expires_at);
    assert!(!bind(&instance, expiring.token_id, &machine_id).await);
    assert!(!bind(&instance, good.token_id, &machine_id).await);
    for record in [&revoked, &of_suspended, &of_deleted, &expiring] {
        assert_eq!(bound_to(&instance, record.token_id).await, None);
    }
}

async fn a_token_that_is_good_again_binds(store: Store) {
    let instance = store.instance().await;
    let Instance {
        database, sites, ..
    } = &instance;
    let (site_id, _) = instance.create_site().await;
    let token_id = instance.issue(site_id).await.token_id;
    commit!(database, |tx| sites.suspend(tx, Actor::Operator, site_id));
    assert!(!bind(&instance, token_id, &machine("m")).await);
    commit!(database, |tx| sites.resume(tx, Actor::Operator, site_id));
    assert!(bind(&instance, token_id, &machine("m")).await);
}

async fn machine_ids_are_compared_byte_for_byte(store: Store) {
    let instance = store.instance().await;
    let (site_id, _) = instance.create_site().await;
    // One letter each: composed, decomposed, in the other case, with a space.
    let spellings = ["\u{e9}", "e\u{301}", "\u{c9}", "\u{e9} "];
    for bound in spellings {
        let token_id = instance.issue(site_id).await.token_id;
        assert!(bind(&instance, token_id, &machine(bound)).await);
        for other in spellings {
            store.hand.advance(LAST_USE_STEP);
            assert_eq!(
                bind(&instance, token_id, &machine(other)).await,
                other == bound
            );
        }
    }
}

/// A change waits for others before it takes the token's row, so that no binding waits with it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revocation_or_release_that_waits_for_other_changes_holds_up_no_binding() {
    let store = Store::postgres().await;
    let instance = store.instance().await;
    let Instance {
        database, tokens, ..
    } = &instance;
    let (site_id, _) = instance.create_site().await;
    let machine_id = machine("m");
    let other = database.begin().await;
    let mut other = other.unwrap();
    changes::lock(&mut other).await.unwrap();
    let [revoked, released] = [
        instance.issue(site_id).await.token_id,
        instance.issue(site_id).await.token_id,
    ];
    assert!(bind(&instance, released, &machine_id).await);
    store.hand.advance(LAST_USE_STEP);
    let changing = async {
        tokio::join!(
            async { commit!(database, |tx| tokens.revoke(tx, Actor::Operator, revoked)) },
            async { commit!(database, |tx| tokens.release(tx, Actor::Operator, released)) },
        )
    };
    let binding = async {
        store.until_waiting(2).await;
        assert!(bind(&instance, revoked, &machine_id).await);
        assert!(bind(&instance, released, &machine_id).await);
        other.commit().await.unwrap();
    };
    tokio::join!(changing, binding);
    assert!(!bind(&instance, revoked, &machine_id).await);
    assert_eq!(bound_to(&instance, released).await, None);
}
