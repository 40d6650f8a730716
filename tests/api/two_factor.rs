//! The second factor: codes of an app, recovery codes, and the lock.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::harness::{PASSWORD, Person, SignedIn, Store, TestApp};

on_both_stores! {
    signing_in_takes_a_code_once_it_is_confirmed,
    a_code_is_good_once_and_only_a_later_step_counts,
    a_code_that_is_used_twice_at_once_is_good_once,
    one_step_either_side_is_taken,
    five_wrong_codes_lock_it_for_fifteen_minutes,
    a_right_code_ends_the_row_of_wrong_ones,
    each_lock_in_a_row_is_longer_and_a_right_code_makes_the_next_short_again,
    a_right_recovery_code_ends_the_row_and_the_lock,
    of_wrong_codes_that_race_one_locks_and_none_prolongs_it,
    a_confirmation_ends_the_row_and_is_refused_while_it_is_locked,
    a_recovery_code_is_good_once_also_while_it_is_locked,
    a_recovery_code_that_is_used_twice_at_once_is_good_once,
    recovery_codes_are_replaced,
    it_is_turned_off_by_password_and_code,
    beginning_takes_the_password_and_confirming_a_code,
    wrong_codes_are_failed_sign_ins,
    wrong_codes_at_the_confirmation_lock_it_and_count_for_the_address,
    a_secret_is_confirmed_within_an_hour,
    the_secret_is_not_readable_in_the_store,
}

/// A change that waited for a second connection while it has one would keep all the others waiting.
#[tokio::test]
async fn changes_with_a_code_need_one_connection_each() {
    let settings = [("database.max_connections", "2")];
    let app = TestApp::with(Store::Postgres, &settings).await;
    let mut secrets = Vec::new();
    // Fewer than an address may get wrong, and more than there are connections.
    for number in 0..3 {
        let ada = app.manager(&format!("ada{number}")).await;
        let begun = app.ask(&ada.session, "POST", PATH, json!({"password": PASSWORD}));
        let secret = begun.await.ok()["secret"].as_str().unwrap().to_owned();
        secrets.push((ada.session, secret));
    }
    let all_at_once = async |method: &str, path: &str, code: Option<&str>| {
        let asking = secrets.iter().map(|(session, secret)| {
            let code = code.map_or_else(|| app.code(secret), ToOwned::to_owned);
            let body = json!({"password": PASSWORD, "otp_attempt": code});
            app.ask(session, method, path, body)
        });
        join_all(asking).await
    };
    let confirm = format!("{PATH}/confirm");
    for answer in all_at_once("POST", &confirm, Some("000000")).await {
        assert_eq!(answer.problem(), (401, "invalid_otp"));
    }
    for answer in all_at_once("POST", &confirm, None).await {
        answer.ok();
    }
    app.advance(Duration::from_mins(2));
    for answer in all_at_once("DELETE", PATH, None).await {
        answer.ok();
    }
}

const PATH: &str = "/api/v1/account/two-factor";

/// Somebody with the second factor on; its secret and recovery codes.
async fn enrolled(app: &TestApp) -> (Person, SignedIn, String, Vec<String>) {
    let ada = app.owner("ada").await;
    let session = app.sign_in(&ada).await;
    let (secret, codes) = app.enrol(&session).await;
    // The code of this step is used up.
    app.advance(Duration::from_secs(30));
    (ada, session, secret, codes)
}

async fn signing_in_takes_a_code_once_it_is_confirmed(store: Store) {
    let app = TestApp::start(store).await;
    let ada = app.owner("ada").await;
    let session = app.sign_in(&ada).await;
    let begun = app.ask(&session, "POST", PATH, json!({"password": PASSWORD}));
    let begun = begun.await;
    assert_eq!(begun.header("cache-control"), Some("no-store"));
    let begun = begun.ok();
    let secret = begun["secret"].as_str().unwrap();
    assert_eq!(secret.len(), 32);
    let url = format!("otpauth://totp/Mirrory:ada%40shop.example?secret={secret}&issuer=Mirrory");
    assert_eq!(begun["otpauth_url"], url);
    app.sign_in(&ada).await;
    assert_eq!(app.account(&session).await.ok()["two_factor"], false);

    let body = json!({"otp_attempt": app.code(secret)});
    let path = format!("{PATH}/confirm");
    let confirmed = app.ask(&session, "POST", &path, body);
    let codes = confirmed.await.ok()["recovery_codes"].clone();
    assert_eq!(codes.as_array().unwrap().len(), 10);
    assert_eq!(app.account(&session).await.ok()["two_factor"], true);
    let answer = app.try_sign_in(&ada.email, PASSWORD).await;
    assert_eq!(answer.problem(), (401, "otp_required"));
    let answer = app.try_sign_in(&ada.email, "a wrong password").await;
    assert_eq!(answer.problem(), (401, "invalid_credentials"));
    app.advance(Duration::from_secs(30));
    app.try_code(&ada, &app.code(secret)).await.ok();
    let login = json!({"username": "ada", "password": PASSWORD});
    let answer = app.post("/api/v1/login").json(&login).send().await;
    assert_eq!(
        answer.body,
        json!({"status": 401, "message": "A code is needed"})
    );
    app.account(&session).await.ok();
}

async fn a_code_is_good_once_and_only_a_later_step_counts(store: Store) {
    let app = TestApp::start(store).await;
    let (ada, _, secret, _) = enrolled(&app).await;
    let earlier = app.code(&secret);
    app.advance(Duration::from_secs(30));
    let code = app.code(&secret);
    app.try_code(&ada, &code).await.ok();
    for used in [&code, &earlier] {
        let answer = app.try_code(&ada, used).await;
        assert_eq!(answer.problem(), (401, "invalid_otp"));
    }
    app.advance(Duration::from_secs(30));
    app.try_code(&ada, &app.code(&secret)).await.ok();
}

async fn a_code_that_is_used_twice_at_once_is_good_once(store: Store) {
    let app = TestApp::start(store).await;
    let other = app.another().await;
    let (ada, _, secret, _) = enrolled(&app).await;
    other.advance(Duration::from_secs(30));
    for _ in 0..3 {
        let code = app.code(&secret);
        let racing = [&app, &other, &app, &other].map(|app| app.try_code(&ada, &code));
        let answers = join_all(racing).await;
        let good = answers.iter().filter(|answer| answer.status == 200).count();
        assert_eq!(good, 1);
        for answer in answers.iter().filter(|answer| answer.status != 200) {
            assert_eq!(answer.problem(), (401, "invalid_otp"));
        }
        for instance in [&app, &other] {
            // Beyond what failures of an address cost.
            instance.advance(Duration::from_hours(25));
        }
    }
}

async fn one_step_either_side_is_taken(store: Store) {
    let app = TestApp::start(store).await;
    let (ada, _, secret, _) = enrolled(&app).await;
    let ahead = {
        let fast = app.another().await;
        fast.advance(Duration::from_secs(30));
        fast.code(&secret)
    };
    let behind = app.code(&secret);
    app.advance(Duration::from_secs(30));
    app.try_code(&ada, &behind).await.ok();
    app.try_code(&ada, &ahead).await.ok();
    let late = app.code(&secret);
    app.advance(Duration::from_mins(1));
    let answer = app.try_code(&ada, &late).await;
    assert_eq!(answer.problem(), (401, "invalid_otp"));
}

/// Sends wrong codes, each from an address of its own.
async fn wrong_codes(app: &TestApp, person: &Person, count: u8) {
    for number in 0..count {
        let body = json!({
            "email": person.email, "password": PASSWORD, "otp_attempt": "000000"
        });
        let call = app
            .post("/api/v1/jwt")
            .peer(&format!("203.0.113.{number}:1"));
        let answer = call.json(&body).send().await;
        assert_eq!(answer.problem(), (401, "invalid_otp"));
    }
}

async fn five_wrong_codes_lock_it_for_fifteen_minutes(store: Store) {
    let app = TestApp::start(store).await;
    let (ada, _, secret, _) = enrolled(&app).await;
    wrong_codes(&app, &ada, 4).await;
    app.try_code(&ada, &app.code(&secret)).await.ok();
    wrong_codes(&app, &ada, 5).await;
    app.advance(Duration::from_mins(10));
    for _ in 0..10 {
        let answer = app.try_code(&ada, &app.code(&secret)).await;
        assert_eq!(answer.problem(), (429, "two_factor_locked"));
        assert_eq!(answer.retry_after(), 300);
    }
    // A recovery code is looked at also now, and a wrong one does not prolong it either.
    for number in 100..105 {
        let body = json!({
            "email": ada.email, "password": PASSWORD, "otp_attempt": "0000-0000-0000-0000"
        });
        let call = app
            .post("/api/v1/jwt")
            .peer(&format!("203.0.113.{number}:1"));
        let answer = call.json(&body).send().await;
        assert_eq!(answer.problem(), (401, "invalid_otp"));
        let answer = app.try_code(&ada, &app.code(&secret)).await;
        assert_eq!(answer.problem(), (429, "two_factor_locked"));
        assert_eq!(answer.retry_after(), 300);
    }
    let answer = app.try_sign_in(&ada.email, "a wrong password").await;
    assert_eq!(answer.problem(), (401, "invalid_credentials"));
    app.advance(Duration::from_mins(5));
    app.try_code(&ada, &app.code(&secret)).await.ok();
}

async fn a_right_code_ends_the_row_of_wrong_ones(store: Store) {
    let app = TestApp::start(store).await;
    let (ada, _, secret, _) = enrolled(&app).await;
    for _ in 0..3 {
        wrong_codes(&app, &ada, 4).await;
        app.try_code(&ada, &app.code(&secret)).await.ok();
        // Beyond what failures of an address cost.
        app.advance(Duration::from_hours(25));
    }
}

/// Counts wrong codes, as those of sign-ins are that fail.
async fn fail(app: &TestApp, person: &Person, count: usize) {
    for _ in 0..count {
        let failed = app.state.two_factor.failed(person.id).await;
        failed.unwrap();
    }
}

/// How many minutes a right code has to wait.
async fn locked_for(app: &TestApp, person: &Person, secret: &str) -> u64 {
    let answer = app.try_code(person, &app.code(secret)).await;
    assert_eq!(answer.problem(), (429, "two_factor_locked"));
    answer.retry_after() / 60
}

async fn each_lock_in_a_row_is_longer_and_a_right_code_makes_the_next_short_again(store: Store) {
    let app = TestApp::start(store).await;
    let (ada, _, secret, _) = enrolled(&app).await;
    for _ in 0..2 {
        for minutes in [15, 60, 4 * 60, 24 * 60, 24 * 60] {
            fail(&app, &ada, 5).await;
            assert_eq!(locked_for(&app, &ada, &secret).await, minutes);
            // Those while it is locked make neither this lock longer nor the next.
            fail(&app, &ada, 10).await;
            assert_eq!(locked_for(&app, &ada, &secret).await, minutes);
            app.advance(Duration::from_mins(minutes));
        }
        app.try_code(&ada, &app.code(&secret)).await.ok();
    }
}

async fn a_right_recovery_code_ends_the_row_and_the_lock(store: Store) {
    let app = TestApp::start(store).await;
    let (ada, _, secret, codes) = enrolled(&app).await;
    fail(&app, &ada, 5).await;
    app.advance(Duration::from_mins(15));
    fail(&app, &ada, 5).await;
    assert_eq!(locked_for(&app, &ada, &secret).await, 60);
    app.try_code(&ada, &codes[0]).await.ok();
    fail(&app, &ada, 4).await;
    app.try_code(&ada, &codes[1]).await.ok();
    fail(&app, &ada, 4).await;
    app.try_code(&ada, &app.code(&secret)).await.ok();
    fail(&app, &ada, 5).await;
    assert_eq!(locked_for(&app, &ada, &secret).await, 15);
}

async fn of_wrong_codes_that_race_one_locks_and_none_prolongs_it(store: Store) {
    let app = TestApp::start(store).await;
    let other = app.another().await;
    let (ada, _, secret, _) = enrolled(&app).await;
    other.advance(Duration::from_secs(30));
    for minutes in [15, 60, 4 * 60, 24 * 60] {
        fail(&app, &ada, 3).await;
        let racing = (0..6).flat_map(|_| [fail(&app, &ada, 3), fail(&other, &ada, 3)]);
        join_all(racing).await;
        assert_eq!(locked_for(&app, &ada, &secret).await, minutes);
        for instance in [&app, &other] {
            instance.advance(Duration::from_mins(minutes));
        }
    }
    // However a right code and wrong ones race, the row that it ends is over.
    let code = app.code(&secret);
    let wrong = (0..4).map(|_| fail(&other, &ada, 1));
    let (right, _) = futures_util::join!(app.try_code(&ada, &code), join_all(wrong));
    right.ok();
    app.advance(Duration::from_mins(1));
    fail(&app, &ada, 5).await;
    assert_eq!(locked_for(&app, &ada, &secret).await, 15);
}

async fn a_confirmation_ends_the_row_and_is_refused_while_it_is_locked(store: Store) {
    let app = TestApp::start(store).await;
    let ada = app.owner("ada").await;
    let session = app.sign_in(&ada).await;
    let begun = app.ask(&session, "POST", PATH, json!({"password": PASSWORD}));
    let secret = begun.await.ok()["secret"].as_str().unwrap().to_owned();
    let path = format!("{PATH}/confirm");
    let confirm = async |session: &SignedIn| {
        let body = json!({"otp_attempt": app.code(&secret)});
        app.ask(session, "POST", &path, body).await
    };
    fail(&app, &ada, 5).await;
    let answer = confirm(&session).await;
    assert_eq!(answer.problem(), (429, "two_factor_locked"));
    app.advance(Duration::from_mins(15));
    confirm(&app.sign_in(&ada).await).await.ok();
    app.advance(Duration::from_mins(1));
    fail(&app, &ada, 5).await;
    assert_eq!(locked_for(&app, &ada, &secret).await, 15);
}

async fn a_recovery_code_is_good_once_also_while_it_is_locked(store: Store) {
    let app = TestApp::start(store).await;
    let (ada, _, secret, codes) = enrolled(&app).await;
    app.try_code(&ada, &codes[0]).await.ok();
    let answer = app.try_code(&ada, &codes[0]).await;
    assert_eq!(answer.problem(), (401, "invalid_otp"));
    wrong_codes(&app, &ada, 4).await;
    let answer = app.try_code(&ada, &app.code(&secret)).await;
    assert_eq!(answer.problem(), (429, "two_factor_locked"));
    let typed = codes[1].to_uppercase().replace('-', "");
    app.try_code(&ada, &typed).await.ok();
    let used = "account recovery_code.used success 1".to_owned();
    assert_eq!(
        app.audit().await.iter().filter(|row| **row == used).count(),
        2
    );
}

async fn a_recovery_code_that_is_used_twice_at_once_is_good_once(store: Store) {
    let app = TestApp::start(store).await;
    let other = app.another().await;
    let (ada, _, _, codes) = enrolled(&app).await;
    let racing = [&app, &other, &app, &other].map(|app| app.try_code(&ada, &codes[0]));
    let answers = join_all(racing).await;
    let good = answers.iter().filter(|answer| answer.status == 200).count();
    assert_eq!(good, 1);
    assert_eq!(app.number("SELECT count(*) FROM recovery_codes").await, 9);
}

async fn recovery_codes_are_replaced(store: Store) {
    let app = TestApp::start(store).await;
    let (ada, session, secret, old) = enrolled(&app).await;
    let path = format!("{PATH}/recovery-codes");
    let ask = async |body: Value| app.ask(&session, "POST", &path, body).await;
    let code = app.code(&secret);
    let answer = ask(json!({"password": "a wrong password", "otp_attempt": code})).await;
    assert_eq!(answer.problem(), (401, "invalid_credentials"));
    let answer = ask(json!({"password": PASSWORD, "otp_attempt": "000000"})).await;
    assert_eq!(answer.problem(), (401, "invalid_otp"));
    let answer = ask(json!({"password": PASSWORD, "otp_attempt": code})).await;
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    let new: Vec<String> = serde_json::from_value(answer.ok()["recovery_codes"].clone()).unwrap();
    let answer = app.try_code(&ada, &old[0]).await;
    assert_eq!(answer.problem(), (401, "invalid_otp"));
    app.try_code(&ada, &new[0]).await.ok();
    let answer = app.try_code(&ada, &code).await;
    assert_eq!(answer.problem(), (401, "invalid_otp"));
}

async fn it_is_turned_off_by_password_and_code(store: Store) {
    let app = TestApp::start(store).await;
    let (ada, session, secret, codes) = enrolled(&app).await;
    let ask = async |body: Value| app.ask(&session, "DELETE", PATH, body).await;
    assert_eq!(
        ask(json!({})).await.bad_fields(),
        ["password", "otp_attempt"]
    );
    let answer = ask(json!({"password": PASSWORD, "otp_attempt": "000000"})).await;
    assert_eq!(answer.problem(), (401, "invalid_otp"));
    let both = json!({"password": PASSWORD, "otp_attempt": app.code(&secret)});
    assert_eq!(ask(both.clone()).await.ok(), json!({}));
    app.sign_in(&ada).await;
    assert_eq!(ask(both).await.problem(), (409, "conflict"));
    let body = json!({"password": PASSWORD, "otp_attempt": codes[0]});
    assert_eq!(ask(body).await.problem(), (409, "conflict"));
    let rows = app.audit().await;
    for event in ["two_factor.enabled", "two_factor.disabled"] {
        assert!(
            rows.contains(&format!("account {event} success 1")),
            "{rows:?}"
        );
    }
}

async fn beginning_takes_the_password_and_confirming_a_code(store: Store) {
    let app = TestApp::start(store).await;
    let ada = app.owner("ada").await;
    let session = app.sign_in(&ada).await;
    let begin = async |password: &str| {
        app.ask(&session, "POST", PATH, json!({"password": password}))
            .await
    };
    let confirm = async |code: &str| {
        let path = format!("{PATH}/confirm");
        app.ask(&session, "POST", &path, json!({"otp_attempt": code}))
            .await
    };
    assert_eq!(confirm("123456").await.problem(), (409, "conflict"));
    let answer = begin("a wrong password").await;
    assert_eq!(answer.problem(), (401, "invalid_credentials"));
    let text = |answer: Value| answer["secret"].as_str().unwrap().to_owned();
    let first = text(begin(PASSWORD).await.ok());
    let second = text(begin(PASSWORD).await.ok());
    let answer = confirm(&app.code(&first)).await;
    assert_eq!(answer.problem(), (401, "invalid_otp"));
    app.sign_in(&ada).await;
    confirm(&app.code(&second)).await.ok();
    assert_eq!(confirm("123456").await.problem(), (409, "conflict"));
    assert_eq!(begin(PASSWORD).await.problem(), (409, "conflict"));
}

async fn wrong_codes_are_failed_sign_ins(store: Store) {
    let app = TestApp::start(store).await;
    let (ada, _, _, _) = enrolled(&app).await;
    wrong_codes(&app, &ada, 1).await;
    let answer = app.try_sign_in(&ada.email, PASSWORD).await;
    assert_eq!(answer.problem(), (401, "otp_required"));
    let rows = app.audit().await;
    let failed = "nobody sign_in.failed refused 1".to_owned();
    assert_eq!(rows.iter().filter(|row| **row == failed).count(), 1);
}

async fn wrong_codes_at_the_confirmation_lock_it_and_count_for_the_address(store: Store) {
    let app = TestApp::start(store).await;
    let ada = app.owner("ada").await;
    let session = app.sign_in(&ada).await;
    app.ask(&session, "POST", PATH, json!({"password": PASSWORD}))
        .await
        .ok();
    let confirm = async |code: &str| {
        let path = format!("{PATH}/confirm");
        app.ask(&session, "POST", &path, json!({"otp_attempt": code}))
            .await
    };
    for _ in 0..5 {
        assert_eq!(confirm("000000").await.problem(), (401, "invalid_otp"));
    }
    assert_eq!(
        confirm("000000").await.problem(),
        (429, "two_factor_locked")
    );
    for _ in 0..2 {
        let answer = app.try_sign_in("nobody", PASSWORD).await;
        assert_eq!(answer.problem(), (401, "invalid_credentials"));
    }
    assert_eq!(
        confirm("000000").await.problem(),
        (429, "too_many_attempts")
    );
}

async fn a_secret_is_confirmed_within_an_hour(store: Store) {
    let app = TestApp::start(store).await;
    let ada = app.owner("ada").await;
    let session = app.sign_in(&ada).await;
    let begun = app
        .ask(&session, "POST", PATH, json!({"password": PASSWORD}))
        .await
        .ok();
    let secret = begun["secret"].as_str().unwrap();
    app.advance(Duration::from_hours(1));
    let session = app.sign_in(&ada).await;
    let body = json!({"otp_attempt": app.code(secret)});
    let answer = app
        .ask(&session, "POST", &format!("{PATH}/confirm"), body)
        .await;
    assert_eq!(answer.problem(), (409, "conflict"));
}

async fn the_secret_is_not_readable_in_the_store(store: Store) {
    let app = TestApp::start(store).await;
    let (_, _, secret, _) = enrolled(&app).await;
    let bytes = data_encoding::BASE32_NOPAD
        .decode(secret.as_bytes())
        .unwrap();
    let hex = data_encoding::HEXUPPER.encode(&bytes);
    let stored = match store {
        Store::Sqlite => "SELECT hex(sealed) FROM two_factor",
        Store::Postgres => "SELECT upper(encode(sealed, 'hex')) FROM two_factor",
    };
    let stored = app.column(stored).await;
    assert_eq!(stored.len(), 1);
    assert!(!stored[0].contains(&hex));
}
