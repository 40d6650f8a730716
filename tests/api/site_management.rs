//! Sites as those manage them who run them: who sees and changes what, with which credential.

use serde_json::{Value, json};

use crate::harness::{Manager, Store, TestApp, TestSite};

on_both_stores! {
    an_owner_makes_a_site_on_the_first_plan,
    an_admin_says_the_plan_and_the_owner,
    an_owner_may_say_neither,
    owners_see_their_own_sites_and_admins_all,
    anothers_site_is_not_found_whatever_is_asked,
    an_owner_changes_name_and_url,
    an_admin_changes_everything,
    what_is_wrong_is_named_and_changes_nothing,
    a_suspension_is_followed,
    a_deleted_site_is_gone,
    a_secret_is_rotated_with_the_grace_that_is_asked_for,
    the_grace_is_bounded,
    lists_are_told_page_by_page,
    a_page_misses_nothing_when_a_site_goes,
    bad_pages_are_refused,
    a_script_does_what_its_scopes_say,
    no_credential_is_refused,
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
    assert_eq!(made.header("location"), Some(path(&site).as_str()));
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

async fn anothers_site_is_not_found_whatever_is_asked(store: Store) {
    let app = TestApp::start(store).await;
    let (ada, bob) = (app.manager("ada").await, app.manager("bob").await);
    let site = app.site_of(&ada).await;
    let issued = app.issue(&site).await;
    let of_none = path(&app.site("free").await);
    let nowhere = format!("{SITES}/site_00000000000000000000000000");
    let no_id = format!("{SITES}/nonsense");
    for one in [path(&site), of_none, nowhere, no_id] {
        let token = format!("/tokens/{}", issued.token_id);
        for (method, path) in [
            ("GET", one.clone()),
            ("PATCH", one.clone()),
            ("DELETE", one.clone()),
            ("POST", format!("{one}/rotate-secret")),
            ("GET", format!("{one}/usage")),
            ("GET", format!("{one}/tokens")),
            ("POST", format!("{one}{token}/revoke")),
            ("POST", format!("{one}{token}/release")),
        ] {
            let body = if method == "PATCH" {
                json!({"plan": "free"})
            } else {
                json!({})
            };
            let answer = app.ask(&bob.session, method, &path, body).await;
            assert_eq!(answer.problem(), (404, "not_found"), "{method} {path}");
        }
    }
    app.issue(&site).await;
    assert!(app.validate(&issued.token, "m").await.is_valid());
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

async fn lists_are_told_page_by_page(store: Store) {
    let app = TestApp::start(store).await;
    let ada = app.manager("ada").await;
    let mut made = Vec::new();
    for _ in 0..7 {
        app.site("free").await;
        made.push(app.site_of(&ada).await.id.to_string());
    }
    made.sort();
    for (limit, expected) in [(3, &[3, 3, 1][..]), (7, &[7]), (1, &[1; 7]), (100, &[7])] {
        let path = format!("{SITES}?limit={limit}");
        let (rows, lengths) = app.pages(&ada, &path).await;
        assert_eq!(lengths, expected);
        let ids: Vec<_> = rows.iter().map(|row| row["id"].as_str().unwrap()).collect();
        assert_eq!(ids, made);
    }
    let answer = app
        .see(&ada, &format!("{SITES}?limit=2&unknown=%26x&unknown=y"))
        .await;
    let link = answer.header("link").unwrap();
    assert!(
        link.starts_with("</api/v1/sites?unknown=%26x&unknown=y&limit=2&cursor="),
        "{link}"
    );
}

async fn a_page_misses_nothing_when_a_site_goes(store: Store) {
    let app = TestApp::start(store).await;
    let root = app.admin("root").await;
    for _ in 0..4 {
        app.site("free").await;
    }
    let all = app.see(&root, SITES).await.ok();
    let first = app.see(&root, &format!("{SITES}?limit=2")).await;
    let link = first.header("link").unwrap().to_owned();
    let next = &link[1..link.find('>').unwrap()];
    let last_seen = all[1]["id"].as_str().unwrap();
    let gone = TestSite {
        id: last_seen.parse().unwrap(),
        secret: String::new(),
    };
    app.delete(&gone).await;
    assert_eq!(app.see(&root, next).await.ok(), json!([all[2], all[3]]));
}

async fn bad_pages_are_refused(store: Store) {
    let app = TestApp::start(store).await;
    let ada = app.manager("ada").await;
    for (query, bad) in [
        ("limit=0", &["limit"][..]),
        ("limit=101", &["limit"]),
        ("limit=x&cursor=x", &["limit", "cursor"]),
        ("limit=", &["limit"]),
        ("limit=1&limit=2", &["limit"]),
        ("cursor=AAAA", &["cursor"]),
    ] {
        let answer = app.see(&ada, &format!("{SITES}?{query}")).await;
        assert_eq!(answer.bad_fields(), bad, "{query}");
    }
}

async fn a_script_does_what_its_scopes_say(store: Store) {
    let app = TestApp::start(store).await;
    let ada = app.manager("ada").await;
    let site = app.site_of(&ada).await;
    let issued = app.issue(&site).await;
    let one = path(&site);
    let token = format!("{one}/tokens/{}", issued.token_id);
    let calls = [
        ("sites:read", "GET", SITES.to_owned(), 200),
        ("sites:read", "GET", one.clone(), 200),
        ("sites:read", "GET", "/api/v1/plans".to_owned(), 200),
        ("sites:write", "POST", SITES.to_owned(), 422),
        ("sites:write", "PATCH", one.clone(), 200),
        ("sites:write", "POST", format!("{one}/rotate-secret"), 200),
        ("usage:read", "GET", format!("{one}/usage"), 200),
        ("tokens:read", "GET", format!("{one}/tokens"), 200),
        ("tokens:write", "POST", format!("{token}/release"), 200),
        ("tokens:write", "POST", format!("{token}/revoke"), 200),
        ("audit:read", "GET", "/api/v1/audit-log".to_owned(), 200),
        ("sites:write", "DELETE", one.clone(), 200),
    ];
    let scopes = [
        "sites:read",
        "sites:write",
        "tokens:read",
        "tokens:write",
        "usage:read",
        "audit:read",
    ];
    for (scope, method, path, status) in calls {
        let others: Vec<_> = scopes.into_iter().filter(|other| *other != scope).collect();
        let script = app.script(&ada, &others).await;
        let call = app.scripted(&script, method, &path);
        let answer = call.json(&json!({})).send().await;
        assert_eq!(
            answer.problem(),
            (403, "insufficient_scope"),
            "{method} {path}"
        );
        let detail = answer.body["detail"].as_str().unwrap();
        assert!(detail.contains(scope), "{detail}");
        let script = app.script(&ada, &[scope]).await;
        let call = app.scripted(&script, method, &path);
        let answer = call.json(&json!({})).send().await;
        assert_eq!(answer.status, status, "{method} {path} {}", answer.body);
    }
}

async fn no_credential_is_refused(store: Store) {
    let app = TestApp::start(store).await;
    let ada = app.manager("ada").await;
    let site = app.site_of(&ada).await;
    let one_hour = app.one_hour(&ada.person).await;
    for (method, path) in [
        ("GET", SITES.to_owned()),
        ("POST", SITES.to_owned()),
        ("GET", path(&site)),
        ("PATCH", path(&site)),
        ("DELETE", path(&site)),
        ("POST", format!("{}/rotate-secret", path(&site))),
        ("GET", format!("{}/usage", path(&site))),
        ("GET", format!("{}/tokens", path(&site))),
        ("GET", "/api/v1/plans".to_owned()),
        ("GET", "/api/v1/audit-log".to_owned()),
    ] {
        let answer = app.request(method, &path).json(&json!({})).send().await;
        assert_eq!(answer.problem(), (401, "unauthorized"), "{method} {path}");
        let secret = format!("Bearer {}", site.secret);
        let call = app.request(method, &path).header("authorization", secret);
        assert_eq!(
            call.json(&json!({})).send().await.status,
            401,
            "{method} {path}"
        );
        if method == "GET" {
            let bare = app
                .request(method, &path)
                .header("authorization", &one_hour);
            bare.send().await.ok();
        }
    }
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
