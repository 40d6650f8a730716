//! Revoking tokens, and the sessions of an account.

use std::time::Duration;

use serde_json::json;

use crate::harness::{PASSWORD, Store, TestApp};

on_both_stores! {
    any_token_of_a_session_takes_the_session_with_it,
    what_is_unknown_or_anothers_is_left_alone,
    sessions_are_listed_and_ended,
    anothers_session_is_not_found,
    a_one_hour_session_ends_with_its_token,
    ended_sessions_are_cleared_away,
}

async fn any_token_of_a_session_takes_the_session_with_it(store: Store) {
    let app = TestApp::start(store).await;
    let ada = app.owner("ada").await;
    let keeper = app.sign_in(&ada).await;
    for kind in ["access", "refresh", "old refresh"] {
        let ended = app.sign_in(&ada).await;
        let token = match kind {
            "access" => ended.access_token.clone(),
            "refresh" => ended.refresh_token.clone(),
            _ => {
                app.refresh(&ended.refresh_token).await.ok();
                ended.refresh_token.clone()
            }
        };
        assert_eq!(app.revoke_jwt(&keeper, &token).await.ok(), json!({}));
        assert_eq!(app.account(&ended).await.problem(), (401, "unauthorized"));
        let answer = app.refresh(&ended.refresh_token).await;
        assert_eq!(answer.problem(), (401, "invalid_refresh_token"), "{kind}");
    }
    let one_hour = app.one_hour(&ada).await;
    assert_eq!(app.revoke_jwt(&keeper, &one_hour).await.ok(), json!({}));
    let call = app.post("/api/v1/jwt/revoke").bearer(&one_hour);
    let answer = call.json(&json!({"token": "x"})).send().await;
    assert_eq!(answer.problem(), (401, "unauthorized"));
    app.account(&keeper).await.ok();
    let ended = "account session.ended success 1".to_owned();
    assert_eq!(
        app.audit()
            .await
            .iter()
            .filter(|row| **row == ended)
            .count(),
        4
    );
}

async fn what_is_unknown_or_anothers_is_left_alone(store: Store) {
    let app = TestApp::start(store).await;
    let (ada, bob) = (app.owner("ada").await, app.owner("bob").await);
    let (of_ada, of_bob) = (app.sign_in(&ada).await, app.sign_in(&bob).await);
    for token in ["x", &of_bob.refresh_token, &of_bob.access_token, "mat_x"] {
        assert_eq!(app.revoke_jwt(&of_ada, token).await.ok(), json!({}));
    }
    app.account(&of_bob).await.ok();
    app.refresh(&of_bob.refresh_token).await.ok();
    let answer = app.revoke_jwt(&of_ada, "").await;
    assert_eq!(answer.bad_fields(), ["token"]);
}

async fn sessions_are_listed_and_ended(store: Store) {
    let app = TestApp::start(store).await;
    let ada = app.owner("ada").await;
    let keeper = app.sign_in(&ada).await;
    app.advance(Duration::from_secs(61));
    let call = app.post("/api/v1/jwt").header("user-agent", "curl/8");
    let body = json!({"email": ada.email, "password": PASSWORD});
    let second = call.peer("203.0.113.9:1").json(&body).send().await.ok();
    let path = "/api/v1/account/sessions";
    let sessions = app.signed_in(&keeper, "GET", path).send().await.ok();
    let [newest, oldest] = sessions.as_array().unwrap().as_slice() else {
        panic!("{sessions}");
    };
    assert_eq!(newest["user_agent"], "curl/8");
    assert_eq!(newest["address"], "203.0.113.9");
    assert_eq!(newest["kind"], "refreshed");
    assert_eq!(newest["expires_at"], "2026-11-22T12:01:01Z");
    assert_eq!(oldest["created_at"], "2026-11-15T12:00:00Z");
    assert_eq!(oldest["last_used_at"], "2026-11-15T12:01:01Z");
    let one = format!("{path}/{}", newest["id"].as_str().unwrap());
    let end = || async { app.signed_in(&keeper, "DELETE", &one).send().await };
    assert_eq!(end().await.ok(), json!({}));
    assert_eq!(end().await.problem(), (404, "not_found"));
    let ended = (&second).into();
    assert_eq!(app.account(&ended).await.problem(), (401, "unauthorized"));
}

async fn anothers_session_is_not_found(store: Store) {
    let app = TestApp::start(store).await;
    let (ada, bob) = (app.owner("ada").await, app.owner("bob").await);
    let (of_ada, of_bob) = (app.sign_in(&ada).await, app.sign_in(&bob).await);
    let path = "/api/v1/account/sessions";
    let sessions = app.signed_in(&of_bob, "GET", path).send().await.ok();
    let id = sessions[0]["id"].as_str().unwrap();
    for id in [id, "x", "01890a5d-ac96-774b-bcce-b302099a8057"] {
        let call = app.signed_in(&of_ada, "DELETE", &format!("{path}/{id}"));
        assert_eq!(call.send().await.problem(), (404, "not_found"));
    }
    app.account(&of_bob).await.ok();
}

async fn a_one_hour_session_ends_with_its_token(store: Store) {
    let app = TestApp::start(store).await;
    let ada = app.owner("ada").await;
    let keeper = app.sign_in(&ada).await;
    app.advance(Duration::from_secs(1));
    let token = app.one_hour(&ada).await;
    let revoke = async |authorization: &str| {
        let call = app.post("/api/v1/jwt/revoke");
        let call = call.header("authorization", authorization);
        call.json(&json!({"token": "x"})).send().await
    };
    let path = "/api/v1/account/sessions";
    let sessions = app.signed_in(&keeper, "GET", path).send().await.ok();
    assert_eq!(sessions[0]["kind"], "one_hour");
    assert_eq!(sessions[0]["expires_at"], "2026-11-15T13:00:01Z");
    app.advance(Duration::from_secs(3599));
    revoke(&token).await.ok();
    revoke(&format!("Bearer {token}")).await.ok();
    assert_eq!(revoke(&format!("token {token}")).await.status, 401);
    app.advance(Duration::from_secs(1));
    assert_eq!(revoke(&token).await.problem(), (401, "unauthorized"));
}

async fn ended_sessions_are_cleared_away(store: Store) {
    let app = TestApp::start(store).await;
    let ada = app.owner("ada").await;
    app.sign_in(&ada).await;
    app.one_hour(&ada).await;
    let left = async || app.number("SELECT count(*) FROM sessions").await;
    app.background.janitor.round().await.unwrap();
    assert_eq!(left().await, 2);
    app.advance(Duration::from_hours(1));
    app.background.janitor.round().await.unwrap();
    assert_eq!(left().await, 1);
    app.advance(Duration::from_hours(7 * 24));
    app.background.janitor.round().await.unwrap();
    assert_eq!(left().await, 0);
}
