//! Callers who lose what they were let in with, between being let in and their change.

use std::convert::Infallible;

use axum::{
    body::{Body, Bytes},
    extract::FromRef,
    response::IntoResponse,
};
use futures_util::stream;
use mirrory::{
    accounts::Role,
    callers::{Caller, Credential, Transactions},
    middleware::client::Client,
};
use serde_json::{Value, json};

use crate::harness::{Manager, PASSWORD, Store, TestApp};

on_both_stores! {
    nothing_is_changed_by_an_account_that_is_disabled_meanwhile,
    nothing_is_changed_in_a_session_that_is_ended_meanwhile,
    nothing_is_changed_by_a_role_that_is_another_meanwhile,
    nothing_is_changed_by_a_script_that_is_revoked_meanwhile,
    a_password_that_is_changed_meanwhile_proves_nothing,
}

/// A body that comes after something else has happened.
fn after(happened: impl Future<Output = ()> + Send + 'static, body: &Value) -> Body {
    let body = Bytes::from(body.to_string());
    Body::from_stream(stream::once(async move {
        happened.await;
        Ok::<_, Infallible>(body)
    }))
}

/// Every change that a body goes with, with a body that is good.
fn changes(site: &str) -> Vec<(&'static str, String, Value)> {
    let site = format!("/api/v1/sites/{site}");
    vec![
        (
            "PATCH",
            "/api/v1/account".to_owned(),
            json!({"name": "Other"}),
        ),
        ("POST", "/api/v1/sites".to_owned(), json!({"name": "Other"})),
        ("PATCH", site.clone(), json!({"name": "Other"})),
        (
            "POST",
            format!("{site}/rotate-secret"),
            json!({"grace_seconds": 0}),
        ),
    ]
}

async fn nothing_is_changed_by_an_account_that_is_disabled_meanwhile(store: Store) {
    let app = TestApp::start(store).await;
    let root = app.admin("root").await;
    let site = app.site("free").await;
    for (number, (method, path, body)) in changes(&site.id.to_string()).into_iter().enumerate() {
        let ada = app.admin(&format!("ada{number}")).await;
        let disabled = "UPDATE accounts SET status = 'disabled' WHERE username <> 'root'";
        let body = after(app.executing(disabled), &body);
        let call = app.signed_in(&ada.session, method, &path).text(body);
        assert_eq!(call.send().await.problem(), (401, "unauthorized"), "{path}");
    }
    let path = format!("/api/v1/sites/{}", site.id);
    assert_eq!(app.see(&root, &path).await.ok()["name"], "a shop");
    assert_eq!(
        app.see(&root, "/api/v1/sites")
            .await
            .ok()
            .as_array()
            .unwrap()
            .len(),
        1
    );
}

/// What `ada` gets who makes a site, when a statement is run before the body comes.
async fn made_after(app: &TestApp, ada: &Manager, statement: &'static str) -> (u16, String) {
    let call = app.signed_in(&ada.session, "POST", "/api/v1/sites");
    let happened = app.executing(statement);
    let answer = call
        .text(after(happened, &json!({"name": "Other"})))
        .send()
        .await;
    let (status, code) = answer.problem();
    (status, code.to_owned())
}

async fn nothing_is_changed_in_a_session_that_is_ended_meanwhile(store: Store) {
    let app = TestApp::start(store).await;
    let ada = app.manager("ada").await;
    let answer = made_after(&app, &ada, "DELETE FROM sessions").await;
    assert_eq!(answer, (401, "unauthorized".to_owned()));
}

async fn nothing_is_changed_by_a_role_that_is_another_meanwhile(store: Store) {
    let app = TestApp::start(store).await;
    let ada = app.admin("ada").await;
    let answer = made_after(&app, &ada, "UPDATE accounts SET role = 'owner'").await;
    assert_eq!(answer, (401, "unauthorized".to_owned()));
}

async fn nothing_is_changed_by_a_script_that_is_revoked_meanwhile(store: Store) {
    let app = TestApp::start(store).await;
    let ada = app.manager("ada").await;
    let script = app.script(&ada, &["sites:write"]).await;
    let call = app.scripted(&script, "POST", "/api/v1/sites");
    let body = after(
        app.executing("DELETE FROM api_tokens"),
        &json!({"name": "Other"}),
    );
    let answer = call.text(body).send().await;
    assert_eq!(answer.problem(), (401, "unauthorized"));
}

async fn a_password_that_is_changed_meanwhile_proves_nothing(store: Store) {
    let app = TestApp::start(store).await;
    let ada = app.manager("ada").await;
    let sessions = app.see(&ada, "/api/v1/account/sessions").await.ok();
    let transactions = Transactions::from_ref(&app.state);
    let caller = Caller {
        account_id: ada.person.id,
        role: Role::Owner,
        credential: Credential::AccessToken {
            session_id: sessions[0]["id"].as_str().unwrap().parse().unwrap(),
        },
        client: Client {
            address: [192, 0, 2, 1].into(),
            user_agent: None,
        },
    };
    let proof = app
        .state
        .accounts
        .find_proof_by_id(ada.person.id)
        .await
        .unwrap()
        .unwrap();
    drop(transactions.begin_proven(&caller, &proof).await.unwrap());
    let body = json!({"current_password": PASSWORD, "new_password": "a new password"});
    app.ask(&ada.session, "POST", "/api/v1/account/password", body)
        .await
        .ok();
    let refused = transactions
        .begin_proven(&caller, &proof)
        .await
        .err()
        .unwrap();
    assert_eq!(refused.into_response().status(), 401);
    transactions.begin(&caller).await.unwrap();
}
