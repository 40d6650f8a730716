//! Changes of one account that race.

use std::time::Duration;

use futures_util::{FutureExt, future::join_all};
use mirrory::accounts::Role;
use serde_json::{Value, json};

use crate::harness::{Answer, Manager, PASSWORD, SignedIn, Store, TestApp, eventually};

on_both_stores! {
    an_account_that_goes_and_what_is_made_of_it_exclude_each_other,
    a_refresh_that_races_another_password_leaves_nothing_alive,
    a_refresh_that_races_a_disabling_leaves_nothing_alive,
    a_stolen_token_that_comes_many_times_at_once_ends_its_session_once,
    sign_ins_that_race_to_renew_a_hash_all_get_in,
}

const ROUNDS: usize = 5;
const TWO_FACTOR: &str = "/api/v1/account/two-factor";
const API_TOKENS: &str = "/api/v1/api-tokens";

async fn leave(app: &TestApp, ada: &Manager) -> Answer {
    let body = json!({"password": PASSWORD});
    app.ask(&ada.session, "DELETE", "/api/v1/account", body)
        .await
}

/// What belongs to an account, and is made by its password: where, and from what.
fn made() -> [(&'static str, Value); 2] {
    let token = json!({"name": "script", "scopes": ["sites:read"], "password": PASSWORD});
    [
        (TWO_FACTOR, json!({"password": PASSWORD})),
        (API_TOKENS, token),
    ]
}

async fn an_account_that_goes_and_what_is_made_of_it_exclude_each_other(store: Store) {
    let app = TestApp::start(store).await;
    let other = app.another().await;
    for round in 0..ROUNDS {
        for (number, (path, body)) in made().into_iter().enumerate() {
            let ada = app.manager(&format!("ada-{round}-{number}")).await;
            let making = other.ask(&ada.session, "POST", path, body);
            let sign_in = other.try_sign_in(&ada.person.email, PASSWORD);
            let (left, made, signed_in) = tokio::join!(leave(&app, &ada), making, sign_in);
            left.ok();
            assert!(matches!(made.status, 200 | 201 | 401), "{}", made.body);
            assert!(matches!(signed_in.status, 200 | 401), "{}", signed_in.body);
        }
        // Beyond what failures of an address cost.
        other.advance(Duration::from_hours(25));
    }
    for table in ["accounts", "sessions", "two_factor", "api_tokens"] {
        let rows = format!("SELECT count(*) FROM {table}");
        assert_eq!(app.number(&rows).await, 0, "{table}");
    }
}

/// Both have proven their password when the account goes: PostgreSQL lets them through in the order
/// in which they came.
#[tokio::test]
async fn who_is_deleted_between_proof_and_change_is_unauthorized() {
    let app = TestApp::start(Store::Postgres).await;
    // Within an instance, one change of an account waits for the other.
    let other = app.another().await;
    for (number, (path, body)) in made().into_iter().enumerate() {
        let ada = app.signed_in_as(&format!("ada{number}"), Role::Owner).await;
        let held = app.hold("UPDATE change_counter SET seq = seq").await;
        let mut leaving = Box::pin(leave(&app, &ada));
        eventually(async || {
            assert!(leaving.as_mut().now_or_never().is_none(), "it waits");
            app.statements_that_wait().await == 1
        })
        .await;
        let mut making = Box::pin(other.ask(&ada.session, "POST", path, body));
        eventually(async || {
            assert!(making.as_mut().now_or_never().is_none(), "it waits");
            app.statements_that_wait().await == 2
        })
        .await;
        held.release().await;
        let (left, made) = tokio::join!(leaving, making);
        left.ok();
        assert_eq!(made.problem(), (401, "unauthorized"), "{path}");
    }
}

/// Neither the tokens from before a refresh nor those that it gave are good for anything.
async fn assert_ended(app: &TestApp, before: &SignedIn, refreshed: Answer) {
    let after = if refreshed.status == 200 {
        SignedIn::from(&refreshed.ok())
    } else {
        assert_eq!(refreshed.problem(), (401, "invalid_refresh_token"));
        before.clone()
    };
    for pair in [before, &after] {
        assert_eq!(app.account(pair).await.problem(), (401, "unauthorized"));
        let answer = app.refresh(&pair.refresh_token).await;
        assert_eq!(answer.problem(), (401, "invalid_refresh_token"));
    }
}

async fn a_refresh_that_races_another_password_leaves_nothing_alive(store: Store) {
    let app = TestApp::start(store).await;
    let other = app.another().await;
    for round in 0..ROUNDS {
        let ada = app.manager(&format!("ada{round}")).await;
        let session = app.sign_in(&ada.person).await;
        let body = json!({"current_password": PASSWORD, "new_password": "another battery"});
        let changing = app.ask(&ada.session, "POST", "/api/v1/account/password", body);
        // Again and again, until the password is another.
        let mut last = session.clone();
        let refreshing = async {
            loop {
                let refreshed = other.refresh(&last.refresh_token).await;
                if refreshed.status != 200 {
                    break refreshed;
                }
                last = SignedIn::from(&refreshed.ok());
            }
        };
        let (changed, refreshed) = tokio::join!(changing, refreshing);
        changed.ok();
        assert_ended(&app, &last, refreshed).await;
        app.account(&ada.session).await.ok();
    }
}

async fn a_refresh_that_races_a_disabling_leaves_nothing_alive(store: Store) {
    let app = TestApp::start(store).await;
    let other = app.another().await;
    for round in 0..ROUNDS {
        let ada = app.manager(&format!("ada{round}")).await;
        let refreshing = other.refresh(&ada.session.refresh_token);
        let (refreshed, ()) = tokio::join!(refreshing, app.disable(&ada.person));
        app.enable(&ada.person).await;
        assert_ended(&app, &ada.session, refreshed).await;
    }
}

async fn a_stolen_token_that_comes_many_times_at_once_ends_its_session_once(store: Store) {
    let app = TestApp::start(store).await;
    let other = app.another().await;
    for round in 1..=ROUNDS {
        let stolen = app.manager(&format!("ada{round}")).await.session;
        let second = SignedIn::from(&app.refresh(&stolen.refresh_token).await.ok());
        let third = SignedIn::from(&app.refresh(&second.refresh_token).await.ok());
        let thieves = [&app, &other, &app, &other];
        let thieves = join_all(thieves.map(|app| app.refresh(&stolen.refresh_token)));
        let (thieves, refreshed) = tokio::join!(thieves, other.refresh(&third.refresh_token));
        let codes = thieves.iter().map(|answer| answer.problem().1);
        let mut codes: Vec<&str> = codes.collect();
        codes.sort_unstable();
        let invalid = "invalid_refresh_token";
        assert_eq!(codes, [invalid, invalid, invalid, "refresh_token_reused"]);
        assert_ended(&app, &third, refreshed).await;
        let told = app.audit().await;
        let told = told.iter().filter(|row| row.contains("reused")).count();
        assert_eq!(told, round);
    }
}

async fn sign_ins_that_race_to_renew_a_hash_all_get_in(store: Store) {
    let app = TestApp::start(store).await;
    let other = app.another().await;
    let ada = app.owner("ada").await;
    for _ in 0..2 {
        app.age_password(&ada).await;
        let racing = [&app, &other, &app, &other];
        let racing = racing.map(|app| app.try_sign_in(&ada.email, PASSWORD));
        for answer in join_all(racing).await {
            app.account(&SignedIn::from(&answer.ok())).await.ok();
        }
        let stored = app.column("SELECT password_hash FROM accounts").await;
        let is_of_today = stored[0].starts_with("$argon2id$v=19$m=19456,t=2,p=1$");
        assert!(is_of_today, "{stored:?}");
    }
}
