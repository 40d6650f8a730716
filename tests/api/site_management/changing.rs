//! What is changed of a site that stays.

use serde_json::{Value, json};

use super::{make, path};
use crate::harness::{Store, TestApp};

on_both_stores! {
    an_owner_changes_name_and_url,
    an_admin_changes_everything,
    what_is_wrong_is_named_and_changes_nothing,
    a_suspension_is_followed,
}

async fn an_owner_changes_name_and_url(store: Store) {
    let app = TestApp::start(store).await;
    let ada = app.manager("ada").await;
    let site = app.site_of(&ada).await;
    let change = async |body: Value| app.ask(&ada.session, "PATCH", &path(&site), body).await;
    let changed = change(json!({"name": "Other", "url": "https://other.example"}))
        .await
        .ok();
    assert_eq!(changed["name"], "Other");
    assert_eq!(changed["url"], "https://other.example");
    assert_eq!(change(json!({"url": null})).await.ok()["url"], Value::Null);
    let same = change(json!({})).await.ok();
    assert_eq!(same, app.see(&ada, &path(&site)).await.ok());
    for body in [
        json!({"plan": "free"}),
        json!({"name": "Third", "plan": "enterprise"}),
        json!({"status": "active"}),
        json!({"owner": ada.person.id.to_string()}),
        json!({"owner": null}),
    ] {
        assert_eq!(change(body).await.problem(), (403, "forbidden"));
    }
    assert_eq!(app.see(&ada, &path(&site)).await.ok(), same);
}

async fn an_admin_changes_everything(store: Store) {
    let app = TestApp::start(store).await;
    let (ada, bob) = (app.manager("ada").await, app.manager("bob").await);
    let root = app.admin("root").await;
    let site = app.site_of(&ada).await;
    let change = async |body: Value| app.ask(&root.session, "PATCH", &path(&site), body).await;
    let body = json!({
        "name": "Other", "url": "https://other.example", "plan": "developer",
        "status": "suspended", "owner": bob.person.id.to_string(),
    });
    let changed = change(body.clone()).await.ok();
    for (field, value) in body.as_object().unwrap() {
        assert_eq!(changed[field], *value);
    }
    assert_eq!(
        app.see(&ada, &path(&site)).await.problem(),
        (404, "not_found")
    );
    app.see(&bob, &path(&site)).await.ok();
    assert_eq!(
        change(json!({"owner": null})).await.ok()["owner"],
        Value::Null
    );
    assert_eq!(
        app.see(&bob, &path(&site)).await.problem(),
        (404, "not_found")
    );
}

async fn what_is_wrong_is_named_and_changes_nothing(store: Store) {
    let app = TestApp::start(store).await;
    let root = app.admin("root").await;
    let site = app.site_of(&root).await;
    let before = app.see(&root, &path(&site)).await.ok();
    let change = async |body: Value| app.ask(&root.session, "PATCH", &path(&site), body).await;
    let body = json!({"name": "", "url": "ftp://shop", "plan": 1, "status": "gone", "owner": "x"});
    let answer = change(body).await;
    assert_eq!(
        answer.bad_fields(),
        ["name", "url", "plan", "status", "owner"]
    );
    let body = json!({"name": null, "plan": null, "status": null});
    assert_eq!(change(body).await.bad_fields(), ["name", "plan", "status"]);
    let nobody = "019abf3e-7d2a-7c64-9a51-3f0e8a6b1c2d";
    let body = json!({"name": "Other", "plan": "nonsense", "owner": nobody});
    assert_eq!(change(body).await.bad_fields(), ["plan", "owner"]);
    assert_eq!(app.see(&root, &path(&site)).await.ok(), before);
    let answer = make(&app, &root, json!({"url": 1, "plan": [], "owner": 2})).await;
    assert_eq!(answer.bad_fields(), ["name", "url", "plan", "owner"]);
}

async fn a_suspension_is_followed(store: Store) {
    let app = TestApp::start(store).await;
    let root = app.admin("root").await;
    let site = app.site_of(&root).await;
    let issued = app.issue(&site).await;
    let set = async |status: &str| {
        let body = json!({"status": status});
        app.ask(&root.session, "PATCH", &path(&site), body)
            .await
            .ok();
        app.tick().await;
    };
    set("suspended").await;
    assert_eq!(
        app.generate_for(&site).await.problem(),
        (403, "site_suspended")
    );
    assert_eq!(
        app.validate(&issued.token, "m").await.reason(),
        "site_suspended"
    );
    set("active").await;
    assert!(app.validate(&issued.token, "m").await.is_valid());
}
