//! Proxy secrets: what proves a site, and how one secret follows another.

use std::time::Duration;

use futures_util::future::join_all;
use mirrory::{
    sites::{MAX_GRACE, Rotated},
    store::changes::Actor,
    types::{
        ids::{SecretId, SiteId},
        secret::ProxySecret,
    },
};

use crate::harness::{Instance, MICRO, NOON, Store, commit, just_under, on_both_stores};

on_both_stores!(
    a_secret_that_is_wrong_in_any_part_proves_nothing,
    a_rotated_secret_is_good_until_the_end_of_its_grace,
    without_grace_the_old_secret_ends_at_once,
    a_second_rotation_ends_the_older_secret_at_once,
    a_grace_is_never_longer_than_seven_days,
    racing_rotations_leave_one_newest_and_at_most_one_in_grace,
    sweep_removes_dead_secrets_alone,
);

const HOUR: Duration = Duration::from_hours(1);

async fn rotate(instance: &Instance, site_id: SiteId, grace: Duration) -> Rotated {
    let Instance {
        database, sites, ..
    } = instance;
    let rotated = commit!(database, |tx| sites.rotate_secret(
        tx,
        Actor::Operator,
        site_id,
        grace
    ));
    rotated.unwrap()
}

async fn is_live(instance: &Instance, secret: &ProxySecret) -> bool {
    instance.sites.authenticate(secret).await.unwrap().is_some()
}

async fn a_secret_that_is_wrong_in_any_part_proves_nothing(store: Store) {
    let instance = store.instance().await;
    let (site_id, secret) = instance.create_site().await;
    let (_, other) = instance.create_site().await;
    let caller = instance.sites.authenticate(&secret).await.unwrap().unwrap();
    assert_eq!(caller.site_id, site_id);

    // The id and the checksum are right, the random part is not.
    let forged = ProxySecret::generate(secret.id().unwrap(), &store.randomness);
    assert_eq!(forged.id(), secret.id());
    assert!(!is_live(&instance, &forged).await);

    let of_no_one =
        ProxySecret::generate(SecretId::new(NOON, &store.randomness), &store.randomness);
    assert!(of_no_one.id().is_some());
    assert!(!is_live(&instance, &of_no_one).await);

    let mut mistyped = secret.reveal().to_owned();
    let last = if mistyped.pop() == Some('0') {
        '1'
    } else {
        '0'
    };
    mistyped.push(last);
    assert!(!is_live(&instance, &ProxySecret::parse(mistyped).unwrap()).await);
    assert!(is_live(&instance, &other).await);
}

async fn a_rotated_secret_is_good_until_the_end_of_its_grace(store: Store) {
    let instance = store.instance().await;
    let (site_id, old) = instance.create_site().await;
    let (_, of_other) = instance.create_site().await;
    let rotated = rotate(&instance, site_id, HOUR).await;
    assert_eq!(rotated.previous_expires_at, Some(NOON.after(HOUR)));
    assert!(is_live(&instance, &rotated.secret).await);
    store.hand.set_wall(NOON.after(HOUR).before(MICRO));
    assert!(is_live(&instance, &old).await);
    store.hand.set_wall(NOON.after(HOUR));
    assert!(!is_live(&instance, &old).await);
    assert!(is_live(&instance, &rotated.secret).await);
    assert!(is_live(&instance, &of_other).await);
}

async fn without_grace_the_old_secret_ends_at_once(store: Store) {
    let instance = store.instance().await;
    let (site_id, old) = instance.create_site().await;
    let rotated = rotate(&instance, site_id, Duration::ZERO).await;
    assert_eq!(rotated.previous_expires_at, Some(NOON));
    assert!(!is_live(&instance, &old).await);
    assert!(is_live(&instance, &rotated.secret).await);
}

async fn a_second_rotation_ends_the_older_secret_at_once(store: Store) {
    let instance = store.instance().await;
    let (site_id, first) = instance.create_site().await;
    let second = rotate(&instance, site_id, 24 * HOUR).await.secret;
    store.hand.advance(HOUR);
    let third = rotate(&instance, site_id, 2 * HOUR).await;
    assert_eq!(third.previous_expires_at, Some(NOON.after(3 * HOUR)));
    assert!(!is_live(&instance, &first).await);
    assert!(is_live(&instance, &second).await);
    store.hand.advance(2 * HOUR);
    assert!(
        !is_live(&instance, &first).await,
        "it is not given a new grace"
    );
    assert!(!is_live(&instance, &second).await);
    assert!(is_live(&instance, &third.secret).await);
}

async fn a_grace_is_never_longer_than_seven_days(store: Store) {
    let instance = store.instance().await;
    let (site_id, _) = instance.create_site().await;
    let rotated = rotate(&instance, site_id, 365 * 24 * HOUR).await;
    assert_eq!(MAX_GRACE, 7 * 24 * HOUR);
    assert_eq!(rotated.previous_expires_at, Some(NOON.after(MAX_GRACE)));
}

async fn racing_rotations_leave_one_newest_and_at_most_one_in_grace(store: Store) {
    let instances = [store.instance().await, store.instance().await];
    let (site_id, first) = instances[0].create_site().await;
    let (_, of_other) = instances[0].create_site().await;
    for _ in 0..3 {
        let rotations = (0..8).map(|number| rotate(&instances[number % 2], site_id, HOUR));
        let rotated = join_all(rotations).await;
        let mut live = 0;
        for rotated in &rotated {
            live += usize::from(is_live(&instances[0], &rotated.secret).await);
        }
        assert_eq!(live, 2);
        assert!(!is_live(&instances[0], &first).await);
        let newest = "SELECT count(*) FROM proxy_secrets WHERE expires_at IS NULL";
        assert_eq!(store.number(newest).await, 2, "one of each site");
        let now = store.clock.now().as_micros();
        let in_grace = format!("SELECT count(*) FROM proxy_secrets WHERE expires_at > {now}");
        assert_eq!(store.number(&in_grace).await, 1);
        store.hand.advance(MICRO);
    }
    assert!(is_live(&instances[0], &of_other).await);
}

async fn sweep_removes_dead_secrets_alone(store: Store) {
    let instance = store.instance().await;
    let (site_id, first) = instance.create_site().await;
    let second = rotate(&instance, site_id, HOUR).await.secret;
    let count = async || store.number("SELECT count(*) FROM proxy_secrets").await;
    store.hand.advance(just_under(HOUR));
    assert_eq!(instance.sites.sweep_secrets(100).await.unwrap(), 0);
    assert!(is_live(&instance, &first).await);
    store.hand.advance(MICRO);
    assert_eq!(instance.sites.sweep_secrets(100).await.unwrap(), 1);
    assert_eq!(count().await, 1);
    assert!(is_live(&instance, &second).await);
}
