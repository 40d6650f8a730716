//! Refreshing a session: the next pair, the one before, theft, and who races whom.

use std::{collections::HashSet, time::Duration};

use futures_util::future::join_all;
use mirrory::{
    sessions::SessionKind,
    store::changes::{Actor, Context},
};

use crate::harness::{SignedIn, Store, TestApp};

on_both_stores! {
    the_oldest_of_more_than_a_hundred_sessions_ends,
    a_refresh_token_gives_the_next_pair,
    the_one_before_gives_the_current_one_for_thirty_seconds,
    an_older_one_is_theft_and_ends_the_session,
    the_one_before_is_theft_after_its_thirty_seconds,
    a_session_ends_seven_days_after_its_last_refresh,
    a_session_ends_ninety_days_after_it_began,
    what_is_no_token_of_ours_is_not_valid,
    refreshes_that_race_end_with_the_same_token,
    a_refresh_that_races_a_revocation_leaves_nothing_alive,
}

const DAY: Duration = Duration::from_hours(24);

async fn refreshed(app: &TestApp, token: &str) -> SignedIn {
    let answer = app.refresh(token).await;
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    SignedIn::from(&answer.ok())
}

async fn signed_in(app: &TestApp) -> SignedIn {
    let ada = app.owner("ada").await;
    app.sign_in(&ada).await
}

async fn a_refresh_token_gives_the_next_pair(store: Store) {
    let app = TestApp::start(store).await;
    let mut session = signed_in(&app).await;
    let mut seen = HashSet::from([session.refresh_token.clone()]);
    for _ in 0..3 {
        app.advance(Duration::from_mins(20));
        assert_eq!(app.account(&session).await.status, 401);
        session = refreshed(&app, &session.refresh_token).await;
        app.account(&session).await.ok();
        assert!(seen.insert(session.refresh_token.clone()));
    }
    assert_eq!(app.number("SELECT count(*) FROM sessions").await, 1);
}

async fn the_one_before_gives_the_current_one_for_thirty_seconds(store: Store) {
    let app = TestApp::start(store).await;
    let first = signed_in(&app).await;
    let second = refreshed(&app, &first.refresh_token).await;
    for _ in 0..3 {
        app.advance(Duration::from_secs(10));
        let again = refreshed(&app, &first.refresh_token).await;
        assert_eq!(again.refresh_token, second.refresh_token);
        app.account(&again).await.ok();
    }
    // The window began with the rise and not with its last use.
    app.advance(Duration::from_micros(1));
    let answer = app.refresh(&first.refresh_token).await;
    assert_eq!(answer.problem(), (401, "refresh_token_reused"));
}

async fn an_older_one_is_theft_and_ends_the_session(store: Store) {
    let app = TestApp::start(store).await;
    let first = signed_in(&app).await;
    let second = refreshed(&app, &first.refresh_token).await;
    let third = refreshed(&app, &second.refresh_token).await;
    app.account(&third).await.ok();
    let answer = app.refresh(&first.refresh_token).await;
    assert_eq!(answer.problem(), (401, "refresh_token_reused"));
    for token in [&first, &second, &third] {
        let answer = app.refresh(&token.refresh_token).await;
        assert_eq!(answer.problem(), (401, "invalid_refresh_token"));
        assert_eq!(app.account(token).await.problem(), (401, "unauthorized"));
    }
    let theft = "nobody refresh_token.reused refused 1".to_owned();
    assert!(app.audit().await.contains(&theft));
}

async fn the_one_before_is_theft_after_its_thirty_seconds(store: Store) {
    let app = TestApp::start(store).await;
    let first = signed_in(&app).await;
    let second = refreshed(&app, &first.refresh_token).await;
    app.advance(Duration::from_secs(31));
    let answer = app.refresh(&first.refresh_token).await;
    assert_eq!(answer.problem(), (401, "refresh_token_reused"));
    assert_eq!(app.account(&second).await.problem(), (401, "unauthorized"));
}

async fn a_session_ends_seven_days_after_its_last_refresh(store: Store) {
    let app = TestApp::start(store).await;
    let first = signed_in(&app).await;
    app.advance((7 * DAY).saturating_sub(Duration::from_micros(1)));
    let second = refreshed(&app, &first.refresh_token).await;
    app.advance(7 * DAY);
    let answer = app.refresh(&second.refresh_token).await;
    assert_eq!(answer.problem(), (401, "invalid_refresh_token"));
    // What has ended cannot be stolen.
    let answer = app.refresh(&first.refresh_token).await;
    assert_eq!(answer.problem(), (401, "invalid_refresh_token"));
}

async fn a_session_ends_ninety_days_after_it_began(store: Store) {
    let app = TestApp::start(store).await;
    let mut session = signed_in(&app).await;
    for _ in 0..15 {
        app.advance((6 * DAY).saturating_sub(Duration::from_secs(1)));
        session = refreshed(&app, &session.refresh_token).await;
    }
    app.account(&session).await.ok();
    app.advance(Duration::from_secs(15));
    assert_eq!(app.account(&session).await.problem(), (401, "unauthorized"));
    let answer = app.refresh(&session.refresh_token).await;
    assert_eq!(answer.problem(), (401, "invalid_refresh_token"));
}

async fn what_is_no_token_of_ours_is_not_valid(store: Store) {
    let app = TestApp::start(store).await;
    let session = signed_in(&app).await;
    let token = &session.refresh_token;
    let (head, last) = token.split_at(token.len() - 1);
    let other = if last == "0" { "1" } else { "0" };
    for guess in [
        "x".to_owned(),
        format!("{head}{other}"),
        format!("mrt_0{}", &token["mrt_0".len()..]).replace("mrt_00", "mrt_01"),
        format!("{token}0"),
        token.to_uppercase(),
        session.access_token.clone(),
    ] {
        if guess == *token {
            continue;
        }
        let answer = app.refresh(&guess).await;
        assert_eq!(answer.problem(), (401, "invalid_refresh_token"), "{guess}");
    }
    refreshed(&app, token).await;
}

async fn refreshes_that_race_end_with_the_same_token(store: Store) {
    let app = TestApp::start(store).await;
    let other = app.another().await;
    let mut session = signed_in(&app).await;
    for _ in 0..5 {
        let racing = (0..8).map(|number| {
            let instance = if number % 2 == 0 { &app } else { &other };
            refreshed(instance, &session.refresh_token)
        });
        let pairs = join_all(racing).await;
        let tokens: HashSet<_> = pairs.iter().map(|pair| &pair.refresh_token).collect();
        assert_eq!(tokens.len(), 1);
        for pair in &pairs {
            app.account(pair).await.ok();
        }
        session = pairs[0].clone();
    }
    assert_eq!(app.number("SELECT generation FROM sessions").await, 6);
}

async fn a_refresh_that_races_a_revocation_leaves_nothing_alive(store: Store) {
    let app = TestApp::start(store).await;
    let other = app.another().await;
    let ada = app.owner("ada").await;
    for _ in 0..6 {
        let session = app.sign_in(&ada).await;
        let (answer, revoked) = tokio::join!(
            app.refresh(&session.refresh_token),
            other.revoke_jwt(&session, &session.refresh_token)
        );
        revoked.ok();
        let last = if answer.status == 200 {
            SignedIn::from(&answer.ok())
        } else {
            assert_eq!(answer.problem(), (401, "invalid_refresh_token"));
            session.clone()
        };
        for pair in [&session, &last] {
            assert_eq!(app.account(pair).await.status, 401);
            let answer = app.refresh(&pair.refresh_token).await;
            assert_eq!(answer.problem(), (401, "invalid_refresh_token"));
        }
    }
    assert_eq!(app.number("SELECT count(*) FROM sessions").await, 0);
}

async fn the_oldest_of_more_than_a_hundred_sessions_ends(store: Store) {
    let app = TestApp::start(store).await;
    let ada = app.owner("ada").await;
    let first = app.sign_in(&ada).await;
    let sessions = app.signed_in(&first, "GET", "/api/v1/account/sessions");
    let sessions = sessions.send().await.ok();
    let oldest = sessions[0]["id"].as_str().unwrap().to_owned();
    app.advance(Duration::from_secs(1));
    let second = app.sign_in(&ada).await;
    app.advance(Duration::from_secs(1));
    let by = Context::from(Actor::Account(ada.id));
    let mut tx = app.state.database.begin().await.unwrap();
    for _ in 0..99 {
        let sessions = &app.state.sessions;
        let opened = sessions.open(&mut tx, &by, ada.id, SessionKind::Refreshed);
        opened.await.unwrap();
    }
    tx.commit().await.unwrap();
    assert_eq!(app.account(&first).await.problem(), (401, "unauthorized"));
    app.account(&second).await.ok();
    let told = async || {
        let subjects = "SELECT subject FROM audit_log WHERE event = 'session.ended'";
        app.column(subjects).await
    };
    assert_eq!(told().await, [oldest.as_str()]);
    // What has ended by itself is in nobody's way, and not ended again.
    app.advance(8 * DAY);
    app.sign_in(&ada).await;
    assert_eq!(told().await, [oldest.as_str()]);
}
