//! Sites as those manage them who run them: who sees and changes what, with which credential.

mod access;
mod changing;
mod limits;
mod paging;

use serde_json::{Value, json};

use crate::harness::{Manager, Store, TestApp, TestSite, resolve};

on_both_stores! {
    an_owner_makes_a_site_on_the_first_plan,
    an_admin_says_the_plan_and_the_owner,
    an_owner_may_say_neither,
    owners_see_their_own_sites_and_admins_all,
    a_deleted_site_is_gone,
    a_secret_is_rotated_with_the_grace_that_is_asked_for,
    the_grace_is_bounded,
    an_account_with_sites_stays,
    plans_are_told,
}

const SITES: &str = "/api/v1/sites";

fn path(site: &TestSite) -> String {
    format!("{SITES}/{}", site.id)
}

async fn make(app: &TestApp, by: &Manager, body: Value) -> crate::harness::Answer {
    app.ask(&by.session, "POST", SITES, body).await
}

async fn an_owner_makes_a_site_on_the_first_plan(store: Store) {
    let app = TestApp::start(store).await;
    let ada = app.manager("ada").await;
    let made = make(
        &app,
        &ada,
        json!({"name": "My shop", "url": "https://shop.example"}),
    )
    .await;
    assert_eq!(made.status, 201);
    assert_eq!(made.header("cache-control"), Some("no-store"));
    let site = TestSite::from(&made.body);
    let location = made.header("location").unwrap();
    assert_eq!(resolve(SITES, location), path(&site));
    let mut expected = json!({
        "id": site.id.to_string(),
        "name": "My shop",
        "url": "https://shop.example",
        "plan": "free",
        "owner": ada.person.id.to_string(),
        "status": "active",
        "created_at": "2026-11-15T12:00:00Z",
    });
    assert_eq!(app.see(&ada, &path(&site)).await.ok(), expected);
    assert_eq!(app.see(&ada, SITES).await.ok(), json!([expected]));
    expected["proxy_secret"] = site.secret.clone().into();
    assert_eq!(made.body, expected);
    app.issue(&site).await;
}

async fn an_admin_says_the_plan_and_the_owner(store: Store) {
    let app = TestApp::start(store).await;
    let (root, ada) = (app.admin("root").await, app.manager("ada").await);
    let owner = ada.person.id.to_string();
    let body = json!({"name": "Shop", "plan": "professional", "owner": owner});
    let made = make(&app, &root, body).await;
    assert_eq!(
        (made.status, &made.body["plan"]),
        (201, &json!("professional"))
    );
    app.see(&ada, &path(&TestSite::from(&made.body))).await.ok();
    let made = make(&app, &root, json!({"name": "Shop", "url": null})).await;
    assert_eq!(made.body["plan"], "free");
    assert_eq!(made.body["owner"], root.person.id.to_string());
    let nobody = "019abf3e-7d2a-7c64-9a51-3f0e8a6b1c2d";
    let body = json!({"name": "Shop", "plan": "nonsense", "owner": nobody});
    assert_eq!(
        make(&app, &root, body).await.bad_fields(),
        ["plan", "owner"]
    );
}

async fn an_owner_may_say_neither(store: Store) {
    let app = TestApp::start(store).await;
    let ada = app.manager("ada").await;
    for (field, value) in [("plan", "free"), ("owner", &ada.person.id.to_string())] {
        let body = json!({"name": "Shop", field: value});
        assert_eq!(make(&app, &ada, body).await.problem(), (403, "forbidden"));
    }
    assert_eq!(app.see(&ada, SITES).await.ok(), json!([]));
}

async fn owners_see_their_own_sites_and_admins_all(store: Store) {
    let app = TestApp::start(store).await;
    let (ada, bob) = (app.manager("ada").await, app.manager("bob").await);
    let root = app.admin("root").await;
    let of_none = app.site("free").await;
    let (of_ada, of_bob) = (app.site_of(&ada).await, app.site_of(&bob).await);
    let seen = async |by: &Manager| -> Vec<String> {
        let rows = app.see(by, SITES).await.ok();
        let rows = rows.as_array().unwrap();
        rows.iter()
            .map(|row| row["id"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(seen(&ada).await, [of_ada.id.to_string()]);
    assert_eq!(seen(&bob).await, [of_bob.id.to_string()]);
    let mut all = seen(&root).await;
    all.sort();
    let mut expected = [&of_none, &of_ada, &of_bob].map(|site| site.id.to_string());
    expected.sort();
    assert_eq!(all, expected);
    assert_eq!(
        app.see(&root, &path(&of_none)).await.ok()["owner"],
        Value::Null
    );
}

async fn a_deleted_site_is_gone(store: Store) {
    let app = TestApp::start(store).await;
    let ada = app.manager("ada").await;
    let site = app.site_of(&ada).await;
    let issued = app.issue(&site).await;
    let delete = async || {
        let call = app.signed_in(&ada.session, "DELETE", &path(&site));
        call.send().await
    };
    assert_eq!(delete().await.ok(), json!({}));
    app.tick().await;
    assert_eq!(delete().await.problem(), (404, "not_found"));
    assert_eq!(app.see(&ada, &path(&site)).await.status, 404);
    assert_eq!(app.see(&ada, SITES).await.ok(), json!([]));
    assert_eq!(
        app.generate_for(&site).await.problem(),
        (401, "invalid_proxy_secret")
    );
    assert_eq!(app.validate(&issued.token, "m").await.reason(), "revoked");
}

async fn a_secret_is_rotated_with_the_grace_that_is_asked_for(store: Store) {
    let app = TestApp::start(store).await;
    let ada = app.manager("ada").await;
    let first = app.site_of(&ada).await;
    let rotate = async |body: Value| {
        let path = format!("{}/rotate-secret", path(&first));
        let rotated = app.ask(&ada.session, "POST", &path, body).await;
        app.tick().await;
        let rotated = rotated.ok();
        (
            TestSite::from(&rotated),
            rotated["previous_expires_at"].clone(),
        )
    };
    let (second, ends) = rotate(json!({})).await;
    assert_eq!((second.id, ends), (first.id, json!("2026-11-16T12:00:00Z")));
    app.issue(&first).await;
    let (third, ends) = rotate(json!({"grace_seconds": 3600})).await;
    assert_eq!(ends, "2026-11-15T13:00:00Z");
    assert_eq!(app.generate_for(&first).await.status, 401);
    app.issue(&second).await;
    let (newest, _) = rotate(json!({"grace_seconds": 0})).await;
    assert_eq!(app.generate_for(&third).await.status, 401);
    app.issue(&newest).await;
}

async fn the_grace_is_bounded(store: Store) {
    let app = TestApp::start(store).await;
    let ada = app.manager("ada").await;
    let site = app.site_of(&ada).await;
    for grace in [
        json!(-1),
        json!(604_801),
        json!(1.5),
        json!("60"),
        json!([]),
    ] {
        let path = format!("{}/rotate-secret", path(&site));
        let answer = app.ask(&ada.session, "POST", &path, json!({"grace_seconds": grace}));
        assert_eq!(answer.await.bad_fields(), ["grace_seconds"]);
    }
    app.issue(&site).await;
}

async fn an_account_with_sites_stays(store: Store) {
    let app = TestApp::start(store).await;
    let ada = app.manager("ada").await;
    let site = app.site_of(&ada).await;
    let delete = async || {
        let body = json!({"password": crate::harness::PASSWORD});
        app.ask(&ada.session, "DELETE", "/api/v1/account", body)
            .await
    };
    assert_eq!(delete().await.problem(), (409, "conflict"));
    let deleted = app
        .signed_in(&ada.session, "DELETE", &path(&site))
        .send()
        .await;
    deleted.ok();
    delete().await.ok();
    assert_eq!(app.see(&ada, SITES).await.status, 401);
}

async fn plans_are_told(store: Store) {
    let app = TestApp::with(store, &[("plans.free.calls_per_day", "7")]).await;
    let ada = app.manager("ada").await;
    let plans = app.see(&ada, "/api/v1/plans").await.ok();
    let free = json!({"name": "free", "calls_per_day": 7, "calls_per_month": 50});
    assert_eq!(plans[0], free);
    let names: Vec<_> = plans
        .as_array()
        .unwrap()
        .iter()
        .map(|plan| &plan["name"])
        .collect();
    assert_eq!(names, ["free", "developer", "professional", "enterprise"]);
}
