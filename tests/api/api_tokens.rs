//! API tokens: made, shown once, listed, revoked, and what they never reach.

use std::time::Duration;

use futures_util::{StreamExt, future::join, stream::FuturesUnordered};
use mirrory::{
    api_tokens::NewApiToken,
    callers::Scopes,
    store::changes::{Actor, Context},
    types::name::Name,
};
use serde_json::{Value, json};

use crate::harness::{Answer, Manager, PASSWORD, SignedIn, Store, TestApp};

on_both_stores! {
    an_account_has_a_hundred_tokens_at_most,
    a_token_is_shown_once_and_then_listed_without_itself,
    a_token_is_accepted_with_its_scheme_alone,
    a_token_ends_when_it_was_told_to,
    a_revoked_token_is_refused_at_once,
    disabling_an_account_ends_its_tokens_for_good,
    resetting_a_password_ends_the_tokens_and_changing_it_does_not,
    a_token_that_is_made_while_its_account_is_disabled_is_ended_or_refused,
    neither_api_tokens_nor_one_hour_tokens_reach_the_account,
    making_one_takes_the_password,
    making_one_takes_a_code_where_two_factor_is_on,
    wrong_codes_at_the_making_count_as_those_of_a_sign_in,
    a_token_may_end_on_the_last_day_that_a_date_can_say,
    bad_fields_are_named,
    anothers_token_is_not_found,
}

const PATH: &str = "/api/v1/api-tokens";

async fn make(app: &TestApp, session: &SignedIn, changed: &[(&str, Value)]) -> Answer {
    let mut body = json!({"name": "report", "scopes": ["sites:read"], "password": PASSWORD});
    for (field, value) in changed {
        body[*field] = value.clone();
    }
    app.ask(session, "POST", PATH, body).await
}

/// What an endpoint that any credential reaches says to one.
async fn tried(app: &TestApp, authorization: &str) -> Answer {
    let call = app.post("/api/v1/jwt/revoke");
    let call = call.header("authorization", authorization);
    call.json(&json!({"token": "x"})).send().await
}

async fn signed_in(app: &TestApp) -> SignedIn {
    let ada = app.owner("ada").await;
    app.sign_in(&ada).await
}

async fn token(app: &TestApp, session: &SignedIn) -> (String, String) {
    let made = make(app, session, &[]).await;
    assert_eq!(made.status, 201);
    let text = |field: &str| made.body[field].as_str().unwrap().to_owned();
    (text("id"), text("token"))
}

async fn a_token_is_shown_once_and_then_listed_without_itself(store: Store) {
    let app = TestApp::start(store).await;
    let session = signed_in(&app).await;
    let scopes = json!(["usage:read", "sites:read", "usage:read"]);
    let made = make(&app, &session, &[("scopes", scopes)]).await;
    assert_eq!(made.status, 201);
    assert_eq!(made.header("cache-control"), Some("no-store"));
    let token = made.body["token"].as_str().unwrap();
    assert_eq!(token.len(), 88);
    assert!(token.starts_with("mat_"));
    assert_eq!(made.body["scopes"], json!(["sites:read", "usage:read"]));
    let list = async || app.signed_in(&session, "GET", PATH).send().await.ok();
    let listed = list().await;
    assert_eq!(listed[0].get("token"), None);
    assert_eq!(listed[0]["id"], made.body["id"]);
    assert_eq!(listed[0]["last_used_at"], Value::Null);
    app.advance(Duration::from_secs(5));
    tried(&app, &format!("token {token}")).await.ok();
    assert_eq!(list().await[0]["last_used_at"], "2026-11-15T12:00:05Z");
    let stored = app.column("SELECT name FROM api_tokens").await;
    assert_eq!(stored, ["report"]);
    let rows = app.audit().await;
    assert!(
        rows.contains(&"account api_token.created success 1".to_owned()),
        "{rows:?}"
    );
}

async fn a_token_is_accepted_with_its_scheme_alone(store: Store) {
    let app = TestApp::start(store).await;
    let session = signed_in(&app).await;
    let (_, token) = token(&app, &session).await;
    tried(&app, &format!("token {token}")).await.ok();
    tried(&app, &format!("Token {token}")).await.ok();
    let (head, _) = token.split_at(token.len() - 1);
    for wrong in [
        token.clone(),
        format!("Bearer {token}"),
        format!("token {head}"),
        format!("token {}", token.replace("mat_", "mps_")),
        format!("token {}", session.access_token),
    ] {
        let answer = tried(&app, &wrong).await;
        assert_eq!(answer.problem(), (401, "unauthorized"), "{wrong}");
    }
}

async fn a_token_ends_when_it_was_told_to(store: Store) {
    let app = TestApp::start(store).await;
    let session = signed_in(&app).await;
    for wrong in [
        "2026-11-15T12:00:00Z",
        "2020-01-01T00:00:00Z",
        "2026-11-15T13:00:01+01:00",
        "tomorrow",
    ] {
        let answer = make(&app, &session, &[("expires_at", json!(wrong))]).await;
        assert_eq!(answer.bad_fields(), ["expires_at"]);
    }
    let soon = [("expires_at", json!("2026-11-15T12:00:01Z"))];
    let made = make(&app, &session, &soon).await;
    assert_eq!(made.body["expires_at"], "2026-11-15T12:00:01Z");
    let authorization = format!("token {}", made.body["token"].as_str().unwrap());
    tried(&app, &authorization).await.ok();
    app.advance(Duration::from_secs(1));
    let answer = tried(&app, &authorization).await;
    assert_eq!(answer.problem(), (401, "unauthorized"));
    let listed = app.signed_in(&session, "GET", PATH).send().await.ok();
    assert_eq!(listed, json!([]));
    app.background.janitor.round().await.unwrap();
    assert_eq!(app.number("SELECT count(*) FROM api_tokens").await, 0);
}

async fn a_revoked_token_is_refused_at_once(store: Store) {
    let app = TestApp::start(store).await;
    let session = signed_in(&app).await;
    let (id, first) = token(&app, &session).await;
    let (_, second) = token(&app, &session).await;
    let end = app.signed_in(&session, "DELETE", &format!("{PATH}/{id}"));
    assert_eq!(end.send().await.ok(), json!({}));
    assert_eq!(tried(&app, &format!("token {first}")).await.status, 401);
    tried(&app, &format!("token {second}")).await.ok();
    assert_eq!(app.revoke_jwt(&session, &second).await.ok(), json!({}));
    assert_eq!(tried(&app, &format!("token {second}")).await.status, 401);
    let rows = app.audit().await;
    let revoked = rows.iter().filter(|row| row.contains("api_token.revoked"));
    assert_eq!(revoked.count(), 2);
}

/// The subjects of the rows that say that a token was revoked.
async fn revoked(app: &TestApp) -> Vec<String> {
    let rows = "SELECT subject FROM audit_log WHERE event = 'api_token.revoked' ORDER BY subject";
    app.column(rows).await
}

async fn disabling_an_account_ends_its_tokens_for_good(store: Store) {
    let app = TestApp::start(store).await;
    let (ada, bob) = (app.owner("ada").await, app.owner("bob").await);
    let session = app.sign_in(&ada).await;
    let (first_id, first) = token(&app, &session).await;
    let (second_id, second) = token(&app, &session).await;
    let (_, of_bob) = token(&app, &app.sign_in(&bob).await).await;
    app.disable(&ada).await;
    app.enable(&ada).await;
    for token in [first, second] {
        let answer = tried(&app, &format!("token {token}")).await;
        assert_eq!(answer.problem(), (401, "unauthorized"));
    }
    tried(&app, &format!("token {of_bob}")).await.ok();
    let mut both = [first_id, second_id];
    both.sort();
    assert_eq!(revoked(&app).await, both);
}

async fn resetting_a_password_ends_the_tokens_and_changing_it_does_not(store: Store) {
    let app = TestApp::start(store).await;
    let ada = app.owner("ada").await;
    let session = app.sign_in(&ada).await;
    let (id, token) = token(&app, &session).await;
    let authorization = format!("token {token}");
    let body = json!({"current_password": PASSWORD, "new_password": "another horse battery"});
    let change = app.ask(&session, "POST", "/api/v1/account/password", body);
    change.await.ok();
    tried(&app, &authorization).await.ok();
    app.reset_password(&ada, PASSWORD).await;
    assert_eq!(tried(&app, &authorization).await.status, 401);
    assert_eq!(revoked(&app).await, [id]);
}

/// Whichever comes first: none is left that works.
async fn a_token_that_is_made_while_its_account_is_disabled_is_ended_or_refused(store: Store) {
    let app = TestApp::start(store).await;
    let ada = app.owner("ada").await;
    let session = app.sign_in(&ada).await;
    let mut making: FuturesUnordered<_> = (0..4).map(|_| make(&app, &session, &[])).collect();
    let first = making.next().await.unwrap();
    assert_eq!(first.status, 201);
    let (others, ()) = join(making.collect::<Vec<_>>(), app.disable(&ada)).await;
    for made in others {
        assert!([201, 401].contains(&made.status), "{}", made.body);
    }
    assert_eq!(app.number("SELECT count(*) FROM api_tokens").await, 0);
}

async fn neither_api_tokens_nor_one_hour_tokens_reach_the_account(store: Store) {
    let app = TestApp::start(store).await;
    let ada = app.owner("ada").await;
    let session = app.sign_in(&ada).await;
    let (_, token) = token(&app, &session).await;
    let one_hour = app.one_hour(&ada).await;
    for authorization in [
        format!("token {token}"),
        format!("Bearer {one_hour}"),
        one_hour,
    ] {
        for (method, path) in [
            ("GET", "/api/v1/account"),
            ("PATCH", "/api/v1/account"),
            ("DELETE", "/api/v1/account"),
            ("POST", "/api/v1/account/password"),
            ("POST", "/api/v1/account/two-factor"),
            ("POST", "/api/v1/account/two-factor/confirm"),
            ("POST", "/api/v1/account/two-factor/recovery-codes"),
            ("DELETE", "/api/v1/account/two-factor"),
            ("GET", "/api/v1/account/sessions"),
            ("DELETE", "/api/v1/account/sessions/x"),
            ("GET", "/api/v1/api-tokens"),
            ("POST", "/api/v1/api-tokens"),
            ("DELETE", "/api/v1/api-tokens/x"),
            ("POST", "/api/v1/accounts"),
        ] {
            let call = app.request(method, path);
            let answer = call.header("authorization", &authorization).send().await;
            assert_eq!(answer.problem(), (403, "forbidden"), "{method} {path}");
            let answer = app.request(method, path).send().await;
            assert_eq!(answer.problem(), (401, "unauthorized"), "{method} {path}");
        }
    }
}

async fn making_one_takes_the_password(store: Store) {
    let app = TestApp::start(store).await;
    let session = signed_in(&app).await;
    let wrong = [("password", json!("a wrong password"))];
    let answer = make(&app, &session, &wrong).await;
    assert_eq!(answer.problem(), (401, "invalid_credentials"));
    assert_eq!(app.number("SELECT count(*) FROM api_tokens").await, 0);
}

async fn making_one_takes_a_code_where_two_factor_is_on(store: Store) {
    let app = TestApp::start(store).await;
    let session = signed_in(&app).await;
    let unneeded = [("otp_attempt", json!("000000"))];
    assert_eq!(make(&app, &session, &unneeded).await.status, 201);
    let (secret, codes) = app.enrol(&session).await;
    let with = async |code: &str| make(&app, &session, &[("otp_attempt", json!(code))]).await;
    let answer = make(&app, &session, &[]).await;
    assert_eq!(answer.problem(), (401, "otp_required"));
    let used = app.code(&secret);
    assert_eq!(with(&used).await.problem(), (401, "invalid_otp"));
    app.advance(Duration::from_secs(30));
    let wrong_password = [
        ("password", json!("a wrong password")),
        ("otp_attempt", json!(app.code(&secret))),
    ];
    let answer = make(&app, &session, &wrong_password).await;
    assert_eq!(answer.problem(), (401, "invalid_credentials"));
    assert_eq!(with(&app.code(&secret)).await.status, 201);
    assert_eq!(
        with(&app.code(&secret)).await.problem(),
        (401, "invalid_otp")
    );
    assert_eq!(with(&codes[0]).await.status, 201);
    assert_eq!(with(&codes[0]).await.problem(), (401, "invalid_otp"));
    assert_eq!(app.number("SELECT count(*) FROM api_tokens").await, 3);
}

async fn wrong_codes_at_the_making_count_as_those_of_a_sign_in(store: Store) {
    let app = TestApp::start(store).await;
    let session = signed_in(&app).await;
    let (secret, _) = app.enrol(&session).await;
    app.advance(Duration::from_secs(30));
    let with = async |code: &str| make(&app, &session, &[("otp_attempt", json!(code))]).await;
    let wrong = app.wrong_code(&secret);
    for code in [&*wrong, "0000-0000-0000-0000", &wrong, &wrong, &wrong] {
        assert_eq!(with(code).await.problem(), (401, "invalid_otp"));
    }
    let answer = with(&app.code(&secret)).await;
    assert_eq!(answer.problem(), (429, "two_factor_locked"));
    // Recovery codes are looked at while it is locked, and count for the address.
    for _ in 0..2 {
        let answer = with("0000-0000-0000-0000").await;
        assert_eq!(answer.problem(), (401, "invalid_otp"));
    }
    let answer = with("0000-0000-0000-0000").await;
    assert_eq!(answer.problem(), (429, "too_many_attempts"));
    let rows = app.audit().await;
    let failed = "nobody sign_in.failed refused 8".to_owned();
    assert!(rows.contains(&failed), "{rows:?}");
}

async fn a_token_may_end_on_the_last_day_that_a_date_can_say(store: Store) {
    let app = TestApp::start(store).await;
    let session = signed_in(&app).await;
    let last = json!("9999-12-31T23:59:59Z");
    let made = make(&app, &session, &[("expires_at", last.clone())]).await;
    assert_eq!(made.body["expires_at"], last);
    let authorization = format!("token {}", made.body["token"].as_str().unwrap());
    tried(&app, &authorization).await.ok();
    let listed = app.signed_in(&session, "GET", PATH).send().await.ok();
    assert_eq!(listed[0]["expires_at"], last);
    let answer = make(
        &app,
        &session,
        &[("expires_at", json!("10000-01-01T00:00:00Z"))],
    )
    .await;
    assert_eq!(answer.bad_fields(), ["expires_at"]);
}

async fn bad_fields_are_named(store: Store) {
    let app = TestApp::start(store).await;
    let session = signed_in(&app).await;
    let answer = app.ask(&session, "POST", PATH, json!({})).await;
    assert_eq!(answer.bad_fields(), ["name", "scopes", "password"]);
    for scopes in [
        json!([]),
        json!(["sites:read", "all"]),
        json!("sites:read"),
        json!([1]),
    ] {
        let answer = make(&app, &session, &[("scopes", scopes)]).await;
        assert_eq!(answer.bad_fields(), ["scopes"]);
    }
    let answer = make(&app, &session, &[("name", json!(""))]).await;
    assert_eq!(answer.bad_fields(), ["name"]);
}

async fn anothers_token_is_not_found(store: Store) {
    let app = TestApp::start(store).await;
    let session = signed_in(&app).await;
    let bob = app.owner("bob").await;
    let of_bob = app.sign_in(&bob).await;
    let (id, token) = token(&app, &session).await;
    for id in [id.as_str(), "x"] {
        let end = app.signed_in(&of_bob, "DELETE", &format!("{PATH}/{id}"));
        assert_eq!(end.send().await.problem(), (404, "not_found"));
    }
    app.revoke_jwt(&of_bob, &token).await.ok();
    tried(&app, &format!("token {token}")).await.ok();
}

async fn an_account_has_a_hundred_tokens_at_most(store: Store) {
    let app = TestApp::start(store).await;
    let (ada, bob) = (app.manager("ada").await, app.manager("bob").await);
    let rooms = &app.state;
    let by = Context::from(Actor::Account(ada.person.id));
    let token = NewApiToken {
        name: Name::parse("script").unwrap(),
        scopes: Scopes::default(),
        expires_at: None,
    };
    let mut tx = rooms.database.begin().await.unwrap();
    for _ in 0..100 {
        let created = rooms.api_tokens.create(&mut tx, &by, ada.person.id, &token);
        assert!(created.await.unwrap().is_some());
    }
    tx.commit().await.unwrap();
    let body = json!({"name": "script", "scopes": ["sites:read"], "password": PASSWORD});
    let ask = async |by: &Manager| {
        app.ask(&by.session, "POST", "/api/v1/api-tokens", body.clone())
            .await
    };
    assert_eq!(ask(&ada).await.problem(), (409, "conflict"));
    assert_eq!(ask(&bob).await.status, 201);
    let tokens = app.see(&ada, "/api/v1/api-tokens").await.ok();
    let path = format!("/api/v1/api-tokens/{}", tokens[0]["id"].as_str().unwrap());
    app.signed_in(&ada.session, "DELETE", &path)
        .send()
        .await
        .ok();
    assert_eq!(ask(&ada).await.status, 201);
}
