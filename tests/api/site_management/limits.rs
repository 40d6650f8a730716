//! How many sites one owner has, and how many changes one account makes.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::{SITES, make, path};
use crate::harness::{Answer, Manager, Store, TestApp, TestSite};

on_both_stores! {
    an_owner_has_so_many_sites_however_many_are_asked_for_at_once,
    a_site_that_goes_makes_room_and_no_limit_is_one,
    no_owner_is_given_one_site_too_many,
    admins_have_as_many_sites_as_they_like,
    changes_are_limited_by_the_account_and_the_minute,
    what_takes_back_is_no_change,
    a_hundred_and_twenty_changes_a_minute_unless_told_otherwise,
}

async fn app_with(store: Store, setting: &str, value: &str) -> TestApp {
    TestApp::with(store, &[(setting, value)]).await
}

fn new_site() -> Value {
    json!({"name": "a shop"})
}

fn assert_full(answer: &Answer) {
    assert_eq!(answer.problem(), (409, "conflict"));
}

async fn count_of_sites(app: &TestApp, of: &Manager) -> usize {
    app.see(of, SITES).await.ok().as_array().unwrap().len()
}

async fn an_owner_has_so_many_sites_however_many_are_asked_for_at_once(store: Store) {
    let app = app_with(store, "limits.sites_per_owner", "3").await;
    let other = app.restarted(&[("limits.sites_per_owner", "3")]).await;
    let (ada, bob) = (app.manager("ada").await, app.manager("bob").await);
    let asked = (0..12).map(|number| {
        let instance = [&app, &other][number % 2];
        make(instance, &ada, new_site())
    });
    let answers = join_all(asked).await;
    let (made, refused): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.status == 201);
    assert_eq!(made.len(), 3);
    refused.into_iter().for_each(assert_full);
    assert_eq!(count_of_sites(&app, &ada).await, 3);
    assert_eq!(
        make(&app, &bob, new_site()).await.status,
        201,
        "another owner"
    );
}

async fn a_site_that_goes_makes_room_and_no_limit_is_one(store: Store) {
    let app = app_with(store, "limits.sites_per_owner", "1").await;
    let ada = app.manager("ada").await;
    let site = app.site_of(&ada).await;
    app.suspend(&site).await;
    assert_full(&make(&app, &ada, new_site()).await);
    app.delete(&site).await;
    app.site_of(&ada).await;
    let unlimited = app.restarted(&[("limits.sites_per_owner", "0")]).await;
    for _ in 0..3 {
        unlimited.site_of(&ada).await;
    }
}

async fn no_owner_is_given_one_site_too_many(store: Store) {
    let app = app_with(store, "limits.sites_per_owner", "1").await;
    let (root, ada) = (app.admin("root").await, app.manager("ada").await);
    let full = app.site_of(&ada).await;
    let for_ada = json!({"name": "a shop", "owner": ada.person.id.to_string()});
    assert_full(&make(&app, &root, for_ada).await);
    let site = app.site_of(&root).await;
    let owner = json!({"owner": ada.person.id.to_string()});
    let given = async |site: &TestSite| {
        app.ask(&root.session, "PATCH", &path(site), owner.clone())
            .await
    };
    assert_full(&given(&site).await);
    given(&full).await.ok();
    app.delete(&full).await;
    given(&site).await.ok();
}

async fn admins_have_as_many_sites_as_they_like(store: Store) {
    let app = app_with(store, "limits.sites_per_owner", "1").await;
    let root = app.admin("root").await;
    for _ in 0..3 {
        app.site_of(&root).await;
    }
}

async fn change(app: &TestApp, by: &Manager, site: &TestSite, update: Value) -> Answer {
    app.ask(&by.session, "PATCH", &path(site), update).await
}

async fn changes_are_limited_by_the_account_and_the_minute(store: Store) {
    let app = app_with(store, "limits.changes_per_minute", "3").await;
    let (ada, bob) = (app.manager("ada").await, app.manager("bob").await);
    let (site, of_bob) = (app.site_of(&ada).await, app.site_of(&bob).await);
    app.advance(Duration::from_secs(20));
    for name in ["one", "two"] {
        change(&app, &ada, &site, json!({"name": name})).await.ok();
    }
    let rotate = format!("{}/rotate-secret", path(&site));
    let refused = [
        change(&app, &ada, &site, json!({"name": "three"})).await,
        make(&app, &ada, new_site()).await,
        app.ask(&ada.session, "POST", &rotate, json!({"grace_seconds": 0}))
            .await,
        app.signed_in(&ada.session, "DELETE", &path(&site))
            .send()
            .await,
        app.ask(
            &ada.session,
            "PATCH",
            "/api/v1/account",
            json!({"name": "Ada"}),
        )
        .await,
    ];
    for answer in refused {
        assert_eq!(answer.problem(), (429, "too_many_attempts"));
        assert_eq!(answer.retry_after(), 40);
    }
    assert_eq!(app.see(&ada, &path(&site)).await.ok()["name"], "two");
    change(&app, &bob, &of_bob, json!({"name": "bob's"}))
        .await
        .ok();
    app.advance(Duration::from_secs(40));
    change(&app, &ada, &site, json!({"name": "three"}))
        .await
        .ok();
}

async fn what_takes_back_is_no_change(store: Store) {
    let app = app_with(store, "limits.changes_per_minute", "2").await;
    let root = app.admin("root").await;
    let site = app.site_of(&root).await;
    let script = app.script(&root, &["sites:read"]).await;
    let refused = change(&app, &root, &site, json!({"name": "another"})).await;
    assert_eq!(refused.problem(), (429, "too_many_attempts"));
    let token = app.issue(&site).await;
    for action in ["release", "revoke"] {
        let path = format!("{}/tokens/{}/{action}", path(&site), token.token_id);
        app.signed_in(&root.session, "POST", &path)
            .send()
            .await
            .ok();
    }
    let suspended = change(&app, &root, &site, json!({"status": "suspended"})).await;
    assert_eq!(suspended.ok()["status"], "suspended");
    let both = json!({"status": "suspended", "name": "another"});
    assert_eq!(change(&app, &root, &site, both).await.status, 429);
    let resumed = change(&app, &root, &site, json!({"status": "active"})).await;
    assert_eq!(resumed.status, 429);
    app.revoke_jwt(&root.session, &script).await.ok();
    let other = app.sign_in(&root.person).await;
    app.revoke_jwt(&root.session, &other.access_token)
        .await
        .ok();
    app.revoke_jwt(&root.session, &root.session.access_token)
        .await
        .ok();
    assert_eq!(app.account(&root.session).await.status, 401);
}

async fn a_hundred_and_twenty_changes_a_minute_unless_told_otherwise(store: Store) {
    let app = TestApp::start(store).await;
    let ada = app.manager("ada").await;
    let limits = &app.state.config.limits;
    assert_eq!(
        (limits.sites_per_owner, limits.changes_per_minute),
        (100, 120)
    );
    let now = app.clock.clock().monotonic();
    for _ in 0..120 {
        app.state.attempts.change(ada.person.id, now).unwrap();
    }
    let refused = make(&app, &ada, new_site()).await;
    assert_eq!(refused.problem(), (429, "too_many_attempts"));
    assert_eq!(refused.retry_after(), 60);
}
