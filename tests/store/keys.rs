//! Signing keys: the first one, those that follow, and what is read of them.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use mirrory::{
    app::open_keys,
    keys::{Algorithm, KeyInfo, KeyState, Keys, KeysError, Kid, Rejected, TokenClaims},
    store::{
        Database,
        changes::{self, Actor},
        follower::Follower,
        freshness::Freshness,
    },
    types::{
        clock::{Clock, Timestamp},
        ids::{SiteId, TokenId},
    },
};

use crate::harness::{DAY, MICRO, NOON, Store, commit, just_under, on_both_stores, user};

on_both_stores!(
    of_eight_first_keys_at_once_one_is_kept,
    a_new_key_signs_after_two_seconds,
    a_replaced_key_verifies_until_thirty_days_after_its_last_token,
    a_new_key_of_another_instance_is_known_after_a_look_at_the_log,
    an_unknown_key_makes_an_instance_look_once_a_second,
    a_revoked_key_verifies_nothing,
    an_old_key_signs_on_when_its_successor_is_revoked,
    racing_rotations_leave_one_key_without_an_end,
    the_change_is_undone_with_its_transaction,
    the_only_key_that_is_left_is_not_revoked,
    a_pending_key_signs_when_no_other_is_left,
    keys_that_cannot_be_opened_answer_none_of_those_who_wait,
    sweep_removes_keys_that_nothing_needs,
);

const SIGNS_AFTER: Duration = Duration::from_secs(2);

/// The keys as one instance has them.
pub struct Ring {
    pub database: Database,
    pub keys: Keys,
    pub freshness: Freshness,
}

impl Ring {
    pub async fn open(store: &Store) -> Self {
        let database = store.open().await;
        let freshness = Freshness::new(store.clock.clone());
        let keys = open_keys(
            &store.config,
            &database,
            &store.clock,
            &store.randomness,
            freshness.clone(),
        );
        Self {
            keys: keys.await.unwrap(),
            database,
            freshness,
        }
    }

    /// Adds a key; tokens that the old one signed end within the hour.
    pub async fn rotate(&self, algorithm: Algorithm, store: &Store) -> Kid {
        let Self { database, keys, .. } = self;
        let key = keys.generate(algorithm).await.unwrap();
        let end = store.clock.now().after(Duration::from_hours(1));
        commit!(database, |tx| keys.rotate(tx, Actor::Operator, &key, end)).kid
    }

    pub async fn revoke(&self, kid: &Kid) -> bool {
        let Self { database, keys, .. } = self;
        commit!(database, |tx| keys.revoke(tx, Actor::Operator, kid))
    }

    pub async fn states(&self) -> Vec<KeyState> {
        self.keys
            .list()
            .await
            .unwrap()
            .iter()
            .map(|key| key.state)
            .collect()
    }

    async fn kid(&self, state: KeyState) -> Kid {
        let keys = self.keys.list().await.unwrap();
        let is = |key: &KeyInfo| key.state == state;
        keys.into_iter().find(is).unwrap().kid
    }

    async fn verifies(&self, token: &str) -> bool {
        match self.keys.verify(token).await.unwrap() {
            Ok(_) => true,
            Err(rejected) => {
                assert_eq!(rejected, Rejected::BadSignature);
                false
            }
        }
    }

    async fn algorithm_of_signing(&self) -> Algorithm {
        let keys = self.keys.list().await.unwrap();
        let signing = |key: &&KeyInfo| key.state == KeyState::Signing;
        keys.iter().find(signing).unwrap().algorithm
    }
}

pub fn claims(store: &Store) -> TokenClaims {
    TokenClaims {
        site_id: SiteId::new(NOON, &store.randomness),
        token_id: TokenId::new(NOON, &store.randomness),
        user_id: user(1),
        issued_at: NOON.whole_second(),
        expires_at: NOON.whole_second().after(Duration::from_hours(1)),
    }
}

async fn of_eight_first_keys_at_once_one_is_kept(store: Store) {
    let rings = join_all((0..8).map(|_| Ring::open(&store))).await;
    let claims = claims(&store);
    for signer in &rings {
        let token = signer.keys.sign(&claims).await.unwrap();
        for verifier in &rings {
            assert_eq!(verifier.keys.verify(&token).await.unwrap().unwrap(), claims);
        }
    }
    assert_eq!(rings[0].states().await, [KeyState::Signing]);
    assert_eq!(changes::end(&rings[0].database).await.unwrap().seq, 1);
    assert_eq!(store.number("SELECT count(*) FROM data_keys").await, 1);
}

async fn a_new_key_signs_after_two_seconds(store: Store) {
    let ring = Ring::open(&store).await;
    let old = ring.keys.sign(&claims(&store)).await.unwrap();
    assert!(ring.keys.successor().await.unwrap().is_none());
    let kid = ring.rotate(Algorithm::ES256, &store).await;

    assert_eq!(ring.states().await, [KeyState::Signing, KeyState::Pending]);
    let successor = ring.keys.successor().await.unwrap().unwrap();
    assert_eq!(
        (&successor.kid, successor.signs_from),
        (&kid, NOON.after(SIGNS_AFTER))
    );
    let published = serde_json::to_value(ring.keys.public().await.unwrap()).unwrap();
    assert_eq!(published["keys"][0]["kid"], kid.as_str(), "before it signs");
    store.hand.advance(just_under(SIGNS_AFTER));
    assert_eq!(ring.algorithm_of_signing().await, Algorithm::HS256);
    store.hand.advance(MICRO);
    assert_eq!(
        ring.states().await,
        [KeyState::Verifying, KeyState::Signing]
    );
    assert_eq!(ring.algorithm_of_signing().await, Algorithm::ES256);
    assert!(ring.keys.successor().await.unwrap().is_none());
    let new = ring.keys.sign(&claims(&store)).await.unwrap();
    assert!(ring.verifies(&new).await && ring.verifies(&old).await);
}

async fn a_replaced_key_verifies_until_thirty_days_after_its_last_token(store: Store) {
    let ring = Ring::open(&store).await;
    let old = ring.keys.sign(&claims(&store)).await.unwrap();
    ring.rotate(Algorithm::EdDSA, &store).await;
    let end = NOON.after(Duration::from_hours(1)).after(30 * DAY);

    // Another rotation gives no key a later end.
    store.hand.advance(SIGNS_AFTER);
    let between = ring.keys.sign(&claims(&store)).await.unwrap();
    ring.rotate(Algorithm::ES256, &store).await;
    store.hand.set_wall(end.before(MICRO));
    assert!(ring.verifies(&old).await);
    let states = [KeyState::Verifying, KeyState::Verifying, KeyState::Signing];
    assert_eq!(ring.states().await, states);
    store.hand.set_wall(end);
    assert!(!ring.verifies(&old).await);
    assert!(ring.verifies(&between).await);
    let states = [KeyState::Expired, KeyState::Verifying, KeyState::Signing];
    assert_eq!(ring.states().await, states);
    store.hand.set_wall(end.after(SIGNS_AFTER));
    assert!(!ring.verifies(&between).await);
    assert_eq!(ring.algorithm_of_signing().await, Algorithm::ES256);
}

async fn a_new_key_of_another_instance_is_known_after_a_look_at_the_log(store: Store) {
    let [ring, other] = [Ring::open(&store).await, Ring::open(&store).await];
    let follower = Follower::new(
        other.database.clone(),
        store.clock.clone(),
        other.freshness.clone(),
        vec![Arc::new(other.keys.clone())],
    );
    follower.tick().await.unwrap();
    let kid = ring.rotate(Algorithm::ES256, &store).await;
    let published = async || serde_json::to_value(other.keys.public().await.unwrap()).unwrap();
    assert_eq!(
        published().await["keys"].as_array().unwrap().len(),
        0,
        "from memory"
    );
    follower.tick().await.unwrap();
    assert_eq!(published().await["keys"][0]["kid"], kid.as_str());

    // Without a look at the log within the last second, the store is asked.
    assert!(ring.revoke(&kid).await);
    assert_eq!(
        published().await["keys"].as_array().unwrap().len(),
        1,
        "from memory"
    );
    store.hand.advance(Duration::from_secs(1));
    assert_eq!(published().await["keys"].as_array().unwrap().len(), 0);
}

async fn an_unknown_key_makes_an_instance_look_once_a_second(store: Store) {
    let [ring, other] = [Ring::open(&store).await, Ring::open(&store).await];
    let hold = || other.freshness.extend_from(store.clock.monotonic());
    let next_token = async |ring: &Ring| {
        ring.rotate(Algorithm::HS256, &store).await;
        store.hand.advance(SIGNS_AFTER);
        ring.keys.sign(&claims(&store)).await.unwrap()
    };
    let first = next_token(&ring).await;
    hold();
    assert!(other.verifies(&first).await);

    ring.rotate(Algorithm::HS256, &store).await;
    store.hand.set_wall(store.clock.now().after(SIGNS_AFTER));
    let second = ring.keys.sign(&claims(&store)).await.unwrap();
    assert!(
        !other.verifies(&second).await,
        "it has looked within this second"
    );
    store.hand.advance(just_under(Duration::from_secs(1)));
    assert!(!other.verifies(&second).await);
    store.hand.advance(MICRO);
    hold();
    assert!(other.verifies(&second).await);
}

async fn a_revoked_key_verifies_nothing(store: Store) {
    let ring = Ring::open(&store).await;
    let old = ring.keys.sign(&claims(&store)).await.unwrap();
    let first = ring.kid(KeyState::Signing).await;
    ring.rotate(Algorithm::ES256, &store).await;
    store.hand.advance(SIGNS_AFTER);
    let new = ring.keys.sign(&claims(&store)).await.unwrap();
    assert!(ring.revoke(&first).await);
    assert!(!ring.verifies(&old).await);
    assert!(ring.verifies(&new).await);
    assert_eq!(ring.states().await, [KeyState::Revoked, KeyState::Signing]);

    let before = changes::end(&ring.database).await.unwrap().seq;
    assert!(!ring.revoke(&first).await);
    assert!(!ring.revoke(&Kid::generate(&store.randomness)).await);
    assert_eq!(changes::end(&ring.database).await.unwrap().seq, before);
    assert_eq!(ring.states().await, [KeyState::Revoked, KeyState::Signing]);
}

async fn an_old_key_signs_on_when_its_successor_is_revoked(store: Store) {
    let ring = Ring::open(&store).await;
    let token = ring.keys.sign(&claims(&store)).await.unwrap();
    for waits in [Duration::ZERO, SIGNS_AFTER] {
        let kid = ring.rotate(Algorithm::ES256, &store).await;
        store.hand.advance(waits);
        assert!(ring.revoke(&kid).await);
        let state = ring.kid(KeyState::Signing).await;
        assert_ne!(state, kid);
    }
    assert_eq!(ring.algorithm_of_signing().await, Algorithm::HS256);
    store.hand.advance(365 * DAY);
    assert!(ring.verifies(&token).await, "it has no end any more");
    ring.keys.sign(&claims(&store)).await.unwrap();
}

async fn racing_rotations_leave_one_key_without_an_end(store: Store) {
    let rings = [Ring::open(&store).await, Ring::open(&store).await];
    let rotations = (0..8).map(|number| rings[number % 2].rotate(Algorithm::HS256, &store));
    join_all(rotations).await;
    let open = "SELECT count(*) FROM signing_keys WHERE verifies_until IS NULL";
    assert_eq!(store.number(open).await, 1);
    assert_eq!(store.number("SELECT count(*) FROM signing_keys").await, 9);
    store.hand.advance(SIGNS_AFTER);
    let token = rings[0].keys.sign(&claims(&store)).await.unwrap();
    assert!(rings[1].verifies(&token).await);
}

async fn the_change_is_undone_with_its_transaction(store: Store) {
    let ring = Ring::open(&store).await;
    let key = ring.keys.generate(Algorithm::HS256).await.unwrap();
    let mut tx = ring.database.begin().await.unwrap();
    let end = Timestamp::from_seconds(0);
    ring.keys
        .rotate(&mut tx, Actor::Operator, &key, end)
        .await
        .unwrap();
    drop(tx);
    assert_eq!(ring.states().await, [KeyState::Signing]);
    let open = "SELECT count(*) FROM signing_keys WHERE verifies_until IS NULL";
    assert_eq!(store.number(open).await, 1);
}

async fn the_only_key_that_is_left_is_not_revoked(store: Store) {
    let ring = Ring::open(&store).await;
    let kid = ring.kid(KeyState::Signing).await;
    let mut tx = ring.database.begin().await.unwrap();
    let refused = ring.keys.revoke(&mut tx, Actor::Operator, &kid).await;
    assert!(matches!(refused, Err(KeysError::LastKey)), "{refused:?}");
    drop(tx);
    assert_eq!(ring.states().await, [KeyState::Signing]);
}

/// As when the operator's clock runs before this instance's.
async fn a_pending_key_signs_when_no_other_is_left(store: Store) {
    let ring = Ring::open(&store).await;
    let first = ring.kid(KeyState::Signing).await;
    let next = ring.rotate(Algorithm::HS256, &store).await;
    store.hand.set_wall(NOON.before(Duration::from_secs(3)));
    assert!(ring.revoke(&first).await);
    let signed = ring.keys.sign(&claims(&store)).await;
    assert!(signed.is_ok(), "{signed:?}");
    assert_eq!(ring.kid(KeyState::Pending).await, next);
}

/// The clock must run here: who waits is told from who asked before by their times.
async fn keys_that_cannot_be_opened_answer_none_of_those_who_wait(store: Store) {
    let ring = Ring::open(&store).await;
    let first = ring.kid(KeyState::Signing).await;
    let clock = Clock::system();
    let stale = Freshness::new(clock.clone());
    let opening = open_keys(
        &store.config,
        &ring.database,
        &clock,
        &store.randomness,
        stale,
    );
    let keys = opening.await.unwrap();
    let token = keys.sign(&claims(&store)).await.unwrap();
    let next = ring.rotate(Algorithm::HS256, &store).await;
    store
        .execute(&format!(
            "UPDATE signing_keys SET sealed = \
             (SELECT sealed FROM signing_keys WHERE kid = '{first}') WHERE kid = '{next}'"
        ))
        .await
        .unwrap();
    for answer in join_all((0..8).map(|_| keys.verify(&token))).await {
        assert!(matches!(answer, Err(KeysError::Vault(_))), "{answer:?}");
    }
}

async fn sweep_removes_keys_that_nothing_needs(store: Store) {
    let ring = Ring::open(&store).await;
    let revoked = ring.rotate(Algorithm::HS256, &store).await;
    ring.rotate(Algorithm::HS256, &store).await;
    assert!(ring.revoke(&revoked).await);
    let count = async || store.number("SELECT count(*) FROM signing_keys").await;

    store.hand.set_wall(NOON.after(30 * DAY).before(MICRO));
    assert_eq!(ring.keys.sweep(100).await.unwrap(), 0);
    store.hand.set_wall(NOON.after(30 * DAY));
    assert_eq!(ring.keys.sweep(100).await.unwrap(), 1, "the revoked one");
    let end = NOON.after(30 * DAY).after(Duration::from_hours(1));
    store.hand.set_wall(end.before(MICRO));
    assert_eq!(ring.keys.sweep(100).await.unwrap(), 0);
    store.hand.set_wall(end);
    assert_eq!(ring.keys.sweep(100).await.unwrap(), 1, "the replaced one");
    assert_eq!(count().await, 1);
    store.hand.advance(365 * DAY);
    assert_eq!(ring.keys.sweep(100).await.unwrap(), 0);
    assert_eq!(ring.states().await, [KeyState::Signing]);
}
