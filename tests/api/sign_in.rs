//! Signing in by a password, and what an access token is good for.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{PASSWORD, SignedIn, Store, TestApp};

on_both_stores! {
    a_password_gives_a_pair_of_tokens,
    the_username_and_another_case_sign_in_too,
    what_is_wrong_is_one_answer_after_the_same_work,
    an_access_token_is_good_for_fifteen_minutes,
    what_proves_nothing_is_unauthorized,
    bad_fields_are_named,
}

async fn a_password_gives_a_pair_of_tokens(store: Store) {
    let app = TestApp::start(store).await;
    let ada = app.owner("ada").await;
    let answer = app.try_sign_in("ada@shop.example", PASSWORD).await;
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    let body = answer.ok();
    assert_eq!(
        (&body["token_type"], &body["expires_in"]),
        (&json!("Bearer"), &json!(900))
    );
    let account = app.account(&SignedIn::from(&body)).await.ok();
    let expected = json!({
        "id": ada.id.to_string(),
        "email": "ada@shop.example",
        "username": "ada",
        "name": null,
        "role": "owner",
        "status": "active",
        "two_factor": false,
        "created_at": "2026-11-15T12:00:00Z",
    });
    assert_eq!(account, expected);
}

async fn the_username_and_another_case_sign_in_too(store: Store) {
    let app = TestApp::start(store).await;
    app.owner("ada").await;
    for name in ["ada", "Ada", "ADA@Shop.Example"] {
        app.try_sign_in(name, PASSWORD).await.ok();
    }
}

async fn what_is_wrong_is_one_answer_after_the_same_work(store: Store) {
    let app = TestApp::start(store).await;
    app.owner("ada").await;
    let mut answers = Vec::new();
    for (email, password) in [
        ("ada@shop.example", "a wrong password"),
        ("nobody@shop.example", PASSWORD),
        ("ada@shop.example", &PASSWORD.to_uppercase()),
    ] {
        let before = app.state.passwords.runs();
        let mut answer = app.try_sign_in(email, password).await;
        assert_eq!(answer.problem(), (401, "invalid_credentials"));
        assert_eq!(app.state.passwords.runs() - before, 1, "{email}");
        answer.body["request_id"] = Value::Null;
        answers.push(answer.body);
    }
    assert_eq!(answers[0], answers[1]);
    assert_eq!(answers[0], answers[2]);
}

async fn an_access_token_is_good_for_fifteen_minutes(store: Store) {
    let app = TestApp::start(store).await;
    let ada = app.owner("ada").await;
    let signed_in = app.sign_in(&ada).await;
    app.advance(Duration::from_secs(899));
    app.account(&signed_in).await.ok();
    app.advance(Duration::from_secs(1));
    let answer = app.account(&signed_in).await;
    assert_eq!(answer.problem(), (401, "unauthorized"));
}

async fn what_proves_nothing_is_unauthorized(store: Store) {
    let app = TestApp::start(store).await;
    let ada = app.owner("ada").await;
    let signed_in = app.sign_in(&ada).await;
    let site = app.site("free").await;
    let issued = app.issue(&site).await;
    let access = &signed_in.access_token;
    for presented in [
        String::new(),
        access.clone(),
        format!("token {access}"),
        format!("Basic {access}"),
        format!("Bearer {access}x"),
        format!("Bearer {}", signed_in.refresh_token),
        format!("Bearer {}", issued.token),
        "Bearer".to_owned(),
        "Bearer ".to_owned(),
    ] {
        let call = app.request("GET", "/api/v1/account");
        let answer = call.header("authorization", &presented).send().await;
        assert_eq!(answer.problem(), (401, "unauthorized"), "{presented}");
    }
    assert_eq!(
        app.get("/api/v1/account").await.problem(),
        (401, "unauthorized")
    );
    let twice = app.signed_in(&signed_in, "GET", "/api/v1/account");
    let twice = twice.bearer(access).send().await;
    assert_eq!(twice.problem(), (401, "unauthorized"));
    let verdict = app.validate(access, "m").await;
    assert_eq!(verdict.reason(), "malformed");
}

async fn bad_fields_are_named(store: Store) {
    let app = TestApp::start(store).await;
    let send = async |body: Value| app.post("/api/v1/jwt").json(&body).send().await;
    assert_eq!(send(json!({})).await.bad_fields(), ["email", "password"]);
    let body = json!({"email": 1, "password": ""});
    assert_eq!(send(body).await.bad_fields(), ["email", "password"]);
}
