//! The account: who am I, name and e-mail address, password, deletion, and new accounts.

use std::time::Duration;

use futures_util::future::join_all;
use mirrory::{accounts::Role, store::changes::Actor};
use serde_json::{Value, json};

use crate::harness::{PASSWORD, Person, SignedIn, Store, TestApp};

on_both_stores! {
    sessions_that_a_change_of_the_account_ends_are_told,
    a_site_address_with_a_password_in_it_is_refused,
    the_name_is_changed_and_the_rest_stays,
    the_email_address_is_changed_by_password,
    a_taken_email_address_is_a_conflict,
    another_password_ends_every_other_session,
    a_password_that_is_short_or_common_is_refused,
    a_changed_password_races_a_sign_in_with_the_old_one,
    an_account_is_deleted_with_all_that_is_its_own,
    the_last_admin_cannot_go,
    of_two_admins_that_go_at_once_one_stays,
    a_disabled_account_is_refused_at_once,
    an_admin_makes_accounts_and_an_owner_does_not,
    two_that_race_for_an_email_address_are_one,
    wrong_passwords_count_like_failed_sign_ins,
    a_change_and_its_row_of_the_audit_log_are_one,
}

const PATH: &str = "/api/v1/account";

async fn signed_in(app: &TestApp) -> (Person, SignedIn) {
    let ada = app.owner("ada").await;
    let session = app.sign_in(&ada).await;
    (ada, session)
}

async fn the_name_is_changed_and_the_rest_stays(store: Store) {
    let app = TestApp::start(store).await;
    let (_, session) = signed_in(&app).await;
    let before = app.account(&session).await.ok();
    let answer = app.ask(&session, "PATCH", PATH, json!({"name": "Ada Lovelace"}));
    let after = answer.await.ok();
    assert_eq!(after["name"], "Ada Lovelace");
    assert_eq!(after["email"], before["email"]);
    assert_eq!(
        app.ask(&session, "PATCH", PATH, json!({})).await.ok(),
        after
    );
    let answer = app.ask(
        &session,
        "PATCH",
        PATH,
        json!({"name": "a\nb", "email": "x"}),
    );
    assert_eq!(answer.await.bad_fields(), ["name", "email", "password"]);
}

async fn the_email_address_is_changed_by_password(store: Store) {
    let app = TestApp::start(store).await;
    let (_, session) = signed_in(&app).await;
    let ask = async |body: Value| app.ask(&session, "PATCH", PATH, body).await;
    let body = json!({"email": "Ada@new.example"});
    assert_eq!(ask(body).await.bad_fields(), ["password"]);
    let body = json!({"email": "Ada@new.example", "password": "a wrong password"});
    assert_eq!(ask(body).await.problem(), (401, "invalid_credentials"));
    let body = json!({"email": "Ada@new.example", "password": PASSWORD});
    assert_eq!(ask(body).await.ok()["email"], "Ada@new.example");
    app.try_sign_in("ada@new.example", PASSWORD).await.ok();
    let answer = app.try_sign_in("ada@shop.example", PASSWORD).await;
    assert_eq!(answer.problem(), (401, "invalid_credentials"));
}

async fn a_taken_email_address_is_a_conflict(store: Store) {
    let app = TestApp::start(store).await;
    let (_, session) = signed_in(&app).await;
    app.owner("bob").await;
    let ask = async |email: &str| {
        let body = json!({"email": email, "password": PASSWORD});
        app.ask(&session, "PATCH", PATH, body).await
    };
    assert_eq!(ask("BOB@shop.example").await.problem(), (409, "conflict"));
    assert_eq!(
        ask("ADA@shop.example").await.ok()["email"],
        "ADA@shop.example"
    );
}

async fn change_password(app: &TestApp, session: &SignedIn, new: &str) -> Value {
    let body = json!({"current_password": PASSWORD, "new_password": new});
    let path = format!("{PATH}/password");
    app.ask(session, "POST", &path, body).await.body
}

async fn another_password_ends_every_other_session(store: Store) {
    let app = TestApp::start(store).await;
    let (ada, session) = signed_in(&app).await;
    let other = app.sign_in(&ada).await;
    let one_hour = app.one_hour(&ada).await;
    let new = "another horse battery";
    assert_eq!(change_password(&app, &session, new).await, json!({}));
    app.account(&session).await.ok();
    app.refresh(&session.refresh_token).await.ok();
    assert_eq!(app.account(&other).await.problem(), (401, "unauthorized"));
    let answer = app.refresh(&other.refresh_token).await;
    assert_eq!(answer.problem(), (401, "invalid_refresh_token"));
    let call = app.post("/api/v1/jwt/revoke").bearer(&one_hour);
    let answer = call.json(&json!({"token": "x"})).send().await;
    assert_eq!(answer.problem(), (401, "unauthorized"));
    app.try_sign_in(&ada.email, new).await.ok();
    let answer = app.try_sign_in(&ada.email, PASSWORD).await;
    assert_eq!(answer.problem(), (401, "invalid_credentials"));
    let body = change_password(&app, &session, new).await;
    assert_eq!(body["error"], "invalid_credentials");
}

async fn a_password_that_is_short_or_common_is_refused(store: Store) {
    let app = TestApp::start(store).await;
    let (_, session) = signed_in(&app).await;
    for new in ["xk2vq9wzt", "Password123"] {
        let body = change_password(&app, &session, new).await;
        assert_eq!(body["errors"][0]["field"], "new_password", "{new}");
    }
}

async fn a_changed_password_races_a_sign_in_with_the_old_one(store: Store) {
    let app = TestApp::start(store).await;
    let other = app.another().await;
    for round in 0..5 {
        let ada = app.owner(&format!("ada{round}")).await;
        let session = app.sign_in(&ada).await;
        let (signed_in, changed) = tokio::join!(
            other.try_sign_in(&ada.email, PASSWORD),
            change_password(&app, &session, "another horse battery")
        );
        assert_eq!(changed, json!({}));
        // Whoever came first: no session by the old password goes on.
        if signed_in.status == 200 {
            let old = SignedIn::from(&signed_in.ok());
            assert_eq!(app.account(&old).await.problem(), (401, "unauthorized"));
        } else {
            assert_eq!(signed_in.problem(), (401, "invalid_credentials"));
        }
        app.account(&session).await.ok();
    }
}

async fn an_account_is_deleted_with_all_that_is_its_own(store: Store) {
    let app = TestApp::start(store).await;
    let (ada, session) = signed_in(&app).await;
    let body = json!({"name": "n", "scopes": ["sites:read"], "password": PASSWORD});
    let created = app.ask(&session, "POST", "/api/v1/api-tokens", body).await;
    assert_eq!(created.status, 201);
    app.enrol(&session).await;
    let answer = app.ask(
        &session,
        "DELETE",
        PATH,
        json!({"password": "a wrong password"}),
    );
    assert_eq!(answer.await.problem(), (401, "invalid_credentials"));
    let answer = app.ask(&session, "DELETE", PATH, json!({"password": PASSWORD}));
    assert_eq!(answer.await.ok(), json!({}));
    assert_eq!(app.account(&session).await.problem(), (401, "unauthorized"));
    let answer = app.try_sign_in(&ada.email, PASSWORD).await;
    assert_eq!(answer.problem(), (401, "invalid_credentials"));
    for table in [
        "accounts",
        "sessions",
        "two_factor",
        "recovery_codes",
        "api_tokens",
    ] {
        let left = app.number(&format!("SELECT count(*) FROM {table}")).await;
        assert_eq!(left, 0, "{table}");
    }
    assert!(
        app.audit()
            .await
            .contains(&"account account.deleted success 1".to_owned())
    );
}

async fn the_last_admin_cannot_go(store: Store) {
    let app = TestApp::start(store).await;
    let root = app.person("root", Role::Admin).await;
    let second = app.person("second", Role::Admin).await;
    let session = app.sign_in(&root).await;
    app.disable(&second).await;
    let answer = app.ask(&session, "DELETE", PATH, json!({"password": PASSWORD}));
    assert_eq!(answer.await.problem(), (409, "conflict"));
    let mut tx = app.state.database.begin().await.unwrap();
    let disabled = app
        .state
        .accounts
        .disable(&mut tx, Actor::Operator, root.id);
    assert!(disabled.await.is_err());
    drop(tx);
    app.account(&session).await.ok();
    app.person("third", Role::Admin).await;
    let answer = app.ask(&session, "DELETE", PATH, json!({"password": PASSWORD}));
    assert_eq!(answer.await.ok(), json!({}));
}

async fn of_two_admins_that_go_at_once_one_stays(store: Store) {
    let app = TestApp::start(store).await;
    let other = app.another().await;
    for round in 0..4 {
        let mut admins = Vec::new();
        for name in ["a", "b"] {
            let admin = app
                .person(&format!("admin-{name}{round}"), Role::Admin)
                .await;
            admins.push(app.sign_in(&admin).await);
        }
        let body = || json!({"password": PASSWORD});
        let racing = [
            app.ask(&admins[0], "DELETE", PATH, body()),
            other.ask(&admins[1], "DELETE", PATH, body()),
        ];
        let answers = join_all(racing).await;
        let gone = answers.iter().filter(|answer| answer.status == 200).count();
        // Of the rounds before, one admin each stayed; the next round may lose it too.
        assert!(gone >= 1);
        let left = "SELECT count(*) FROM accounts WHERE role = 'admin' AND status = 'active'";
        assert!(app.number(left).await >= 1);
        app.execute("DELETE FROM accounts").await;
        assert_eq!(gone, 1);
    }
}

async fn a_disabled_account_is_refused_at_once(store: Store) {
    let app = TestApp::start(store).await;
    let (ada, session) = signed_in(&app).await;
    app.disable(&ada).await;
    assert_eq!(app.account(&session).await.problem(), (401, "unauthorized"));
    let answer = app.refresh(&session.refresh_token).await;
    assert_eq!(answer.problem(), (401, "invalid_refresh_token"));
    let before = app.state.passwords.runs();
    let answer = app.try_sign_in(&ada.email, PASSWORD).await;
    assert_eq!(answer.problem(), (401, "invalid_credentials"));
    assert_eq!(app.state.passwords.runs() - before, 1);
    app.enable(&ada).await;
    assert_eq!(app.account(&session).await.problem(), (401, "unauthorized"));
    app.sign_in(&ada).await;
}

async fn an_admin_makes_accounts_and_an_owner_does_not(store: Store) {
    let app = TestApp::start(store).await;
    let (_, owner) = signed_in(&app).await;
    let root = app.person("root", Role::Admin).await;
    let admin = app.sign_in(&root).await;
    let body = json!({
        "email": "eve@shop.example", "username": "eve", "role": "admin",
        "password": "a horse of her own"
    });
    let path = "/api/v1/accounts";
    let answer = app.ask(&owner, "POST", path, body.clone()).await;
    assert_eq!(answer.problem(), (403, "forbidden"));
    let answer = app.ask(&admin, "POST", path, body.clone()).await;
    assert_eq!(answer.status, 201);
    assert_eq!(answer.body["role"], "admin");
    assert_eq!(answer.body["username"], "eve");
    app.try_sign_in("eve", "a horse of her own").await.ok();
    let answer = app.ask(&admin, "POST", path, body).await;
    assert_eq!(answer.problem(), (409, "conflict"));
    let body =
        json!({"email": "x", "username": "a@b", "name": "", "role": "root", "password": "x"});
    let answer = app.ask(&admin, "POST", path, body).await;
    assert_eq!(
        answer.bad_fields(),
        ["email", "username", "name", "role", "password"]
    );
}

async fn two_that_race_for_an_email_address_are_one(store: Store) {
    let app = TestApp::start(store).await;
    let other = app.another().await;
    let root = app.person("root", Role::Admin).await;
    let admin = app.sign_in(&root).await;
    let racing = [&app, &other, &app, &other].map(|app| {
        let body = json!({"email": "eve@shop.example", "password": "a horse of her own"});
        app.ask(&admin, "POST", "/api/v1/accounts", body)
    });
    let answers = join_all(racing).await;
    let made = answers.iter().filter(|answer| answer.status == 201).count();
    assert_eq!(made, 1);
    for answer in answers.iter().filter(|answer| answer.status != 201) {
        assert_eq!(answer.problem(), (409, "conflict"));
    }
}

async fn wrong_passwords_count_like_failed_sign_ins(store: Store) {
    let app = TestApp::start(store).await;
    let (_, session) = signed_in(&app).await;
    let delete = async || {
        let body = json!({"password": "a wrong password"});
        app.ask(&session, "DELETE", PATH, body).await
    };
    for _ in 0..7 {
        assert_eq!(delete().await.problem(), (401, "invalid_credentials"));
    }
    let answer = delete().await;
    assert_eq!(answer.problem(), (429, "too_many_attempts"));
    assert_eq!(answer.retry_after(), 60);
    app.advance(Duration::from_mins(1));
    assert_eq!(delete().await.problem(), (401, "invalid_credentials"));
}

async fn a_change_and_its_row_of_the_audit_log_are_one(store: Store) {
    let app = TestApp::start(store).await;
    let (_, session) = signed_in(&app).await;
    let rows = async || app.number("SELECT count(*) FROM audit_log").await;
    let before = rows().await;
    let break_log = "ALTER TABLE audit_log RENAME COLUMN detail TO gone";
    app.execute(break_log).await;
    let answer = app
        .ask(&session, "PATCH", PATH, json!({"name": "Ada"}))
        .await;
    assert_eq!(answer.problem(), (500, "internal_error"));
    app.execute("ALTER TABLE audit_log RENAME COLUMN gone TO detail")
        .await;
    assert_eq!(app.account(&session).await.ok()["name"], Value::Null);
    assert_eq!(rows().await, before);
    app.ask(&session, "PATCH", PATH, json!({"name": "Ada"}))
        .await
        .ok();
    assert_eq!(rows().await, before + 1);
}

async fn sessions_that_a_change_of_the_account_ends_are_told(store: Store) {
    let app = TestApp::start(store).await;
    let ada = app.owner("ada").await;
    let session = app.sign_in(&ada).await;
    let told = async || {
        let rows = "SELECT subject || ' ' || detail FROM audit_log \
                    WHERE event = 'session.ended' ORDER BY audit_id";
        app.column(rows).await
    };
    let change = async |from: &str, to: &str| {
        let body = json!({"current_password": from, "new_password": to});
        let answer = app.ask(&session, "POST", "/api/v1/account/password", body);
        answer.await.ok();
    };
    change(PASSWORD, "another battery").await;
    assert_eq!(told().await, Vec::<String>::new(), "there was no other");
    change("another battery", PASSWORD).await;
    for _ in 0..2 {
        app.sign_in(&ada).await;
    }
    change(PASSWORD, "another battery").await;
    let ended = |count: u32| format!("{} {{\"count\":{count}}}", ada.id);
    assert_eq!(told().await, [ended(2)]);
    app.advance(Duration::from_secs(1));
    app.disable(&ada).await;
    assert_eq!(told().await, [ended(2), ended(1)]);
}

async fn a_site_address_with_a_password_in_it_is_refused(store: Store) {
    let app = TestApp::start(store).await;
    let ada = app.manager("ada").await;
    for url in [
        "https://user:password@shop.example",
        "https://user@shop.example",
    ] {
        let body = json!({"name": "Shop", "url": url});
        let answer = app.ask(&ada.session, "POST", "/api/v1/sites", body).await;
        assert_eq!(answer.bad_fields(), ["url"]);
    }
}
