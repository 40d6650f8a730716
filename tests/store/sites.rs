//! Sites: their making, their states, their end.

use futures_util::future::join_all;
use mirrory::{
    sites::{NewSite, SiteStatus, Sites},
    store::changes::{self, Actor},
    types::secret::ProxySecret,
};

use crate::harness::{DAY, Instance, NOON, Store, commit, on_both_stores};

on_both_stores!(
    a_new_site_is_found_as_it_was_made,
    a_site_is_suspended_resumed_and_put_on_another_plan,
    a_deleted_site_is_gone_for_good,
    of_eight_first_sites_at_once_one_is_made,
    a_first_site_is_made_on_an_empty_store_alone,
    of_eight_default_sites_at_once_one_is_made,
    the_configured_secret_proves_the_default_site,
    sweep_removes_deleted_sites_whose_tokens_are_gone,
);

async fn a_new_site_is_found_as_it_was_made(store: Store) {
    let Instance {
        database, sites, ..
    } = store.instance().await;
    let name = "Käsé's \"shop\"; DROP TABLE sites --";
    let new = NewSite::parse(name, Some("https://shop.example/?a=1"), "developer").unwrap();
    let (made, secret) = commit!(database, |tx| sites.create(tx, Actor::Operator, &new));
    assert_eq!(made.name, name);
    assert_eq!(made.url.as_deref(), Some("https://shop.example/?a=1"));
    assert_eq!(
        (made.plan.as_str(), made.status),
        ("developer", SiteStatus::Active)
    );
    assert_eq!(made.created_at, NOON);
    assert_eq!(sites.find(made.id).await.unwrap(), Some(made.clone()));

    store.hand.advance(DAY);
    let plain = NewSite::parse("Second", None, "free").unwrap();
    let (second, _) = commit!(database, |tx| sites.create(tx, Actor::Operator, &plain));
    assert_eq!(sites.list().await.unwrap(), [made.clone(), second]);

    let caller = sites.authenticate(&secret).await.unwrap().unwrap();
    assert_eq!((caller.site_id, &*caller.plan), (made.id, "developer"));
    assert_eq!(caller.status, SiteStatus::Active);
}

async fn a_site_is_suspended_resumed_and_put_on_another_plan(store: Store) {
    let instance = store.instance().await;
    let Instance {
        database, sites, ..
    } = &instance;
    let (site_id, secret) = instance.create_site().await;
    let (other, _) = instance.create_site().await;
    let actor = Actor::Operator;

    let suspended = commit!(database, |tx| sites.suspend(tx, actor, site_id)).unwrap();
    assert_eq!(suspended.status, SiteStatus::Suspended);
    let caller = sites.authenticate(&secret).await.unwrap().unwrap();
    assert_eq!(
        caller.status,
        SiteStatus::Suspended,
        "known, and to be refused by who calls"
    );

    let moved = commit!(database, |tx| sites.set_plan(
        tx,
        actor,
        site_id,
        "enterprise"
    ))
    .unwrap();
    assert_eq!(
        (moved.plan.as_str(), moved.status),
        ("enterprise", SiteStatus::Suspended)
    );

    let resumed = commit!(database, |tx| sites.resume(tx, actor, site_id)).unwrap();
    assert_eq!(
        (resumed.plan.as_str(), resumed.status),
        ("enterprise", SiteStatus::Active)
    );
    assert_eq!(sites.find(site_id).await.unwrap(), Some(resumed));

    let untouched = sites.find(other).await.unwrap().unwrap();
    assert_eq!(
        (untouched.plan.as_str(), untouched.status),
        ("free", SiteStatus::Active)
    );
}

async fn a_deleted_site_is_gone_for_good(store: Store) {
    let instance = store.instance().await;
    let Instance {
        database, sites, ..
    } = &instance;
    let (site_id, secret) = instance.create_site().await;
    let (other, other_secret) = instance.create_site().await;
    let deleted = commit!(database, |tx| sites.delete(tx, Actor::Operator, site_id));
    assert_eq!(deleted.unwrap().id, site_id);
    assert!(sites.authenticate(&secret).await.unwrap().is_none());
    assert!(sites.find(site_id).await.unwrap().is_none());
    assert!(commit!(database, |tx| sites.resume(tx, Actor::Operator, site_id)).is_none());
    assert!(commit!(database, |tx| sites.delete(tx, Actor::Operator, site_id)).is_none());
    assert!(sites.authenticate(&secret).await.unwrap().is_none());
    assert!(sites.authenticate(&other_secret).await.unwrap().is_some());
    let left: Vec<_> = sites
        .list()
        .await
        .unwrap()
        .iter()
        .map(|site| site.id)
        .collect();
    assert_eq!(left, [other]);
}

async fn of_eight_first_sites_at_once_one_is_made(store: Store) {
    let instances = join_all((0..4).map(|_| store.instance())).await;
    let new = NewSite::parse("First", None, "free").unwrap();
    let made = join_all((0..8).map(async |number: usize| {
        let Instance {
            database, sites, ..
        } = &instances[number % 4];
        commit!(database, |tx| sites.create_first(tx, &new))
    }));
    let made: Vec<_> = made.await.into_iter().flatten().collect();
    assert_eq!(made.len(), 1);
    let Instance {
        database, sites, ..
    } = &instances[0];
    assert_eq!(sites.list().await.unwrap(), [made[0].0.clone()]);
    assert!(sites.authenticate(&made[0].1).await.unwrap().is_some());
    assert_eq!(changes::end(database).await.unwrap().seq, 1);
}

async fn a_first_site_is_made_on_an_empty_store_alone(store: Store) {
    let instance = store.instance().await;
    let Instance {
        database, sites, ..
    } = &instance;
    let (site_id, _) = instance.create_site().await;
    let new = NewSite::parse("First", None, "free").unwrap();
    assert!(commit!(database, |tx| sites.create_first(tx, &new)).is_none());
    // An operator who deleted the last site wants none of our making.
    commit!(database, |tx| sites.delete(tx, Actor::Operator, site_id));
    assert!(commit!(database, |tx| sites.create_first(tx, &new)).is_none());
    assert!(sites.list().await.unwrap().is_empty());
}

async fn of_eight_default_sites_at_once_one_is_made(store: Store) {
    let instances = join_all((0..4).map(|_| store.instance())).await;
    join_all((0..8).map(async |number: usize| {
        let Instance {
            database, sites, ..
        } = &instances[number % 4];
        commit!(database, |tx| sites.ensure_default(tx, "developer"));
    }))
    .await;
    let Instance {
        database, sites, ..
    } = &instances[0];
    let all = sites.list().await.unwrap();
    assert_eq!(all.len(), 1);
    assert_eq!(
        (all[0].name.as_str(), all[0].plan.as_str()),
        ("default", "developer")
    );
    assert_eq!(changes::end(database).await.unwrap().seq, 1);

    commit!(database, |tx| sites.set_plan(
        tx,
        Actor::Operator,
        all[0].id,
        "free"
    ));
    commit!(database, |tx| sites.ensure_default(tx, "developer"));
    assert_eq!(
        sites.list().await.unwrap()[0].plan,
        "free",
        "the operator's word stays"
    );
}

async fn the_configured_secret_proves_the_default_site(store: Store) {
    let secret = |text: &str| ProxySecret::parse(text.to_owned()).unwrap();
    let configured = secret("a secret of my own");
    let database = store.open().await;
    let rooms = |configured: Option<&ProxySecret>| {
        let (clock, randomness) = (store.clock.clone(), store.randomness.clone());
        Sites::new(database.clone(), clock, randomness, configured)
    };
    let sites = rooms(Some(&configured));
    let proves = async |secret: &ProxySecret| sites.authenticate(secret).await.unwrap();
    assert!(proves(&configured).await.is_none(), "there is no site yet");
    commit!(database, |tx| sites.ensure_default(tx, "free"));
    let caller = proves(&configured).await.unwrap();
    assert!(proves(&secret("a secret of my owm")).await.is_none());
    let without = rooms(None).authenticate(&configured).await.unwrap();
    assert!(without.is_none(), "it ends with the setting");

    let actor = Actor::Operator;
    let grace = std::time::Duration::ZERO;
    let rotated = commit!(database, |tx| sites.rotate_secret(
        tx,
        actor,
        caller.site_id,
        grace
    ));
    let rotated = rotated.unwrap();
    assert!(rotated.previous_expires_at.is_none(), "none was stored");
    assert!(
        proves(&configured).await.is_some(),
        "rotation does not touch it"
    );
    assert!(proves(&rotated.secret).await.is_some());

    commit!(database, |tx| sites.suspend(tx, actor, caller.site_id));
    assert_eq!(
        proves(&configured).await.unwrap().status,
        SiteStatus::Suspended
    );
    commit!(database, |tx| sites.delete(tx, actor, caller.site_id));
    assert!(proves(&configured).await.is_none());
    commit!(database, |tx| sites.ensure_default(tx, "free"));
    assert_ne!(proves(&configured).await.unwrap().site_id, caller.site_id);
}

async fn sweep_removes_deleted_sites_whose_tokens_are_gone(store: Store) {
    let instance = store.instance().await;
    let Instance {
        database, sites, ..
    } = &instance;
    let (kept, kept_secret) = instance.create_site().await;
    let (with_token, _) = instance.create_site().await;
    let token_id = instance.issue(with_token).await.token_id;
    let mut gone = Vec::new();
    for _ in 0..3 {
        gone.push(instance.create_site().await.0);
    }
    for site_id in gone.iter().chain([&with_token]) {
        commit!(database, |tx| sites.delete(tx, Actor::Operator, *site_id));
    }
    let count = async || store.number("SELECT count(*) FROM sites").await;
    assert_eq!(sites.sweep(2).await.unwrap(), 2);
    assert_eq!(count().await, 3, "two of the three that nothing keeps");
    while sites.sweep(2).await.unwrap() > 0 {}
    assert_eq!(count().await, 2, "one is there, one has a token");
    assert!(instance.tokens.find(token_id).await.unwrap().is_some());
    store.execute("DELETE FROM tokens").await.unwrap();
    assert_eq!(sites.sweep(2).await.unwrap(), 1);
    assert_eq!(sites.sweep(2).await.unwrap(), 0);
    assert_eq!(count().await, 1);
    assert!(sites.find(kept).await.unwrap().is_some());
    assert!(sites.authenticate(&kept_secret).await.unwrap().is_some());
}
