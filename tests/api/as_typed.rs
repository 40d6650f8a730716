//! Names, passwords and codes as people type and paste them.

use std::{ops::Range, time::Duration};

use argon2::{Argon2, PasswordHasher, password_hash::phc::PasswordHash};
use serde_json::{Value, json};

use crate::harness::{PASSWORD, Person, SignedIn, Store, TestApp};

on_both_stores! {
    white_space_around_a_name_is_cut_off,
    an_address_and_a_username_are_kept_without_the_white_space_around_them,
    a_password_is_the_same_however_its_accents_are_typed,
    a_new_password_is_judged_as_it_is_compared,
    an_old_hash_of_what_was_typed_is_taken_and_renewed,
    how_a_password_is_typed_tells_nothing_of_the_account,
    white_space_and_hyphens_in_a_code_do_not_count,
    a_recovery_code_is_read_as_crockford_has_it,
    what_can_be_no_code_is_a_bad_field_and_does_not_count,
    a_right_recovery_code_ends_the_row_of_wrong_ones,
}

const COMPOSED: &str = "caf\u{e9} au lait";
const DECOMPOSED: &str = "cafe\u{301} au lait";

const TWO_FACTOR: &str = "/api/v1/account/two-factor";

async fn white_space_around_a_name_is_cut_off(store: Store) {
    let app = TestApp::start(store).await;
    app.owner("ada").await;
    for name in [
        " ada@shop.example",
        "ada@shop.example\r\n",
        "\tADA@shop.example\u{a0}",
        " ada ",
    ] {
        app.try_sign_in(name, PASSWORD).await.ok();
        let body = json!({"username": name, "password": PASSWORD});
        app.post("/api/v1/login").json(&body).send().await.ok();
    }
    for name in [" ", "", "\r\n"] {
        let answer = app.try_sign_in(name, PASSWORD).await;
        assert_eq!(answer.bad_fields(), ["email"], "{name:?}");
    }
    let answer = app.try_sign_in("ada @shop.example", PASSWORD).await;
    assert_eq!(answer.problem(), (401, "invalid_credentials"));
}

async fn an_address_and_a_username_are_kept_without_the_white_space_around_them(store: Store) {
    let app = TestApp::start(store).await;
    let admin = app.admin("ada").await;
    let body = json!({"email": " bob@shop.example\n", "username": "\tbob ", "password": PASSWORD});
    let made = app.ask(&admin.session, "POST", "/api/v1/accounts", body);
    let made = made.await;
    assert_eq!(made.status, 201, "{}", made.body);
    assert_eq!(made.body["email"], "bob@shop.example");
    assert_eq!(made.body["username"], "bob");
    let body = json!({"email": "ada@home.example\u{a0}", "password": PASSWORD});
    let changed = app.ask(&admin.session, "PATCH", "/api/v1/account", body);
    assert_eq!(changed.await.ok()["email"], "ada@home.example");
}

/// An account with this password.
async fn account(app: &TestApp, username: &str, password: &str) -> Value {
    let admin = app.admin("admin").await;
    let email = format!("{username}@shop.example");
    let body = json!({"email": email, "username": username, "password": password});
    let made = app.ask(&admin.session, "POST", "/api/v1/accounts", body);
    let made = made.await;
    assert_eq!(made.status, 201, "{}", made.body);
    made.body
}

async fn a_password_is_the_same_however_its_accents_are_typed(store: Store) {
    let app = TestApp::start(store).await;
    account(&app, "ada", DECOMPOSED).await;
    let mut session = None;
    for typed in [COMPOSED, DECOMPOSED, "caf\u{e9}\u{a0}au lait"] {
        let answer = app.try_sign_in("ada", typed).await.ok();
        session = Some(SignedIn::from(&answer));
    }
    for other in ["cafe au lait", "Caf\u{e9} au lait", "caf\u{e9} au lait "] {
        let answer = app.try_sign_in("ada", other).await;
        assert_eq!(answer.problem(), (401, "invalid_credentials"), "{other}");
    }
    let body = json!({"current_password": DECOMPOSED, "new_password": "nai\u{308}ve approach"});
    let path = "/api/v1/account/password";
    app.ask(&session.unwrap(), "POST", path, body).await.ok();
    for typed in ["na\u{ef}ve approach", "nai\u{308}ve approach"] {
        app.try_sign_in("ada", typed).await.ok();
    }
}

async fn a_new_password_is_judged_as_it_is_compared(store: Store) {
    let app = TestApp::start(store).await;
    let ada = app.owner("ada").await;
    let session = app.sign_in(&ada).await;
    for new in [
        "correct horse\n",
        "correct\u{0}horse",
        "e\u{301}e\u{301}e\u{301}e\u{301}e\u{301}",
    ] {
        let body = json!({"current_password": PASSWORD, "new_password": new});
        let answer = app.ask(&session, "POST", "/api/v1/account/password", body);
        assert_eq!(answer.await.bad_fields(), ["new_password"], "{new:?}");
    }
}

/// Keeps a password as it was hashed before it was normalised.
async fn keep_raw(app: &TestApp, person: &Person, password: &str) -> String {
    let raw: PasswordHash = Argon2::default()
        .hash_password_with_salt(password.as_bytes(), &[7; 16])
        .unwrap();
    let Person { email, .. } = person;
    let keep = format!("UPDATE accounts SET password_hash = '{raw}' WHERE email = '{email}'");
    app.execute(&keep).await;
    raw.to_string()
}

async fn an_old_hash_of_what_was_typed_is_taken_and_renewed(store: Store) {
    let app = TestApp::start(store).await;
    let ada = app.owner("ada").await;
    let stored = async || {
        let hashes = app.column("SELECT password_hash FROM accounts").await;
        hashes[0].clone()
    };
    let old = keep_raw(&app, &ada, DECOMPOSED).await;
    let answer = app.try_sign_in("ada", COMPOSED).await;
    assert_eq!(answer.problem(), (401, "invalid_credentials"));
    assert_eq!(stored().await, old);
    app.try_sign_in("ada", DECOMPOSED).await.ok();
    let renewed = stored().await;
    assert_ne!(renewed, old);
    for typed in [COMPOSED, DECOMPOSED] {
        app.try_sign_in("ada", typed).await.ok();
    }
    assert_eq!(stored().await, renewed);
    // One of what was typed in its normal form is as one is made today.
    let old = keep_raw(&app, &ada, COMPOSED).await;
    for typed in [DECOMPOSED, COMPOSED] {
        app.try_sign_in("ada", typed).await.ok();
    }
    assert_eq!(stored().await, old);
}

async fn how_a_password_is_typed_tells_nothing_of_the_account(store: Store) {
    let app = TestApp::start(store).await;
    let ada = app.owner("ada").await;
    let bob = app.owner("bob").await;
    keep_raw(&app, &ada, COMPOSED).await;
    keep_raw(&app, &bob, DECOMPOSED).await;
    for person in [&ada, &bob] {
        app.disable(person).await;
    }
    for name in ["ada", "bob", "nobody"] {
        for (typed, work) in [(COMPOSED, 1), (DECOMPOSED, 2), ("e\u{301}", 2)] {
            let before = app.state.passwords.runs();
            let answer = app.try_sign_in(name, typed).await;
            assert_eq!(answer.problem(), (401, "invalid_credentials"));
            assert_eq!(app.state.passwords.runs() - before, work, "{name} {typed}");
            // Beyond what failures of an address cost.
            app.advance(Duration::from_hours(25));
        }
    }
}

/// Somebody with the second factor on; its secret and recovery codes.
async fn enrolled(app: &TestApp) -> (Person, String, Vec<String>) {
    let ada = app.owner("ada").await;
    let session = app.sign_in(&ada).await;
    let (secret, codes) = app.enrol(&session).await;
    // The code of this step is used up.
    app.advance(Duration::from_secs(30));
    (ada, secret, codes)
}

async fn white_space_and_hyphens_in_a_code_do_not_count(store: Store) {
    let app = TestApp::start(store).await;
    let (ada, secret, _) = enrolled(&app).await;
    for separator in [" ", "-", "\u{a0}", " - ", "\u{2013}"] {
        let code = app.code(&secret);
        let typed = format!(" {}{separator}{}\r\n", &code[..3], &code[3..]);
        app.try_code(&ada, &typed).await.ok();
        app.advance(Duration::from_secs(30));
    }
}

async fn a_recovery_code_is_read_as_crockford_has_it(store: Store) {
    let app = TestApp::start(store).await;
    let (ada, _, codes) = enrolled(&app).await;
    let typed = [
        codes[0].to_uppercase(),
        codes[1].replace('-', ""),
        codes[2].replace('-', " "),
        format!("\t{}\n", codes[3].replace('0', "O").replace('1', "I")),
        codes[4].replace('0', "o").replace('1', "l"),
        codes[5].replace('1', "L").replace('-', "\u{2010}"),
    ];
    for typed in typed {
        app.try_code(&ada, &typed).await.ok();
    }
}

async fn what_can_be_no_code_is_a_bad_field_and_does_not_count(store: Store) {
    let app = TestApp::start(store).await;
    let ada = app.owner("ada").await;
    let session = app.sign_in(&ada).await;
    let begun = app.ask(&session, "POST", TWO_FACTOR, json!({"password": PASSWORD}));
    let secret = begun.await.ok()["secret"].as_str().unwrap().to_owned();
    let confirm = async |code: &str| {
        let path = format!("{TWO_FACTOR}/confirm");
        app.ask(&session, "POST", &path, json!({"otp_attempt": code}))
            .await
    };
    for _ in 0..3 {
        for text in ["", "12345", "1234567", "not a code", "7g9x-2kqm-v4ht-0b8d"] {
            assert_eq!(confirm(text).await.bad_fields(), ["otp_attempt"], "{text}");
        }
    }
    confirm(&app.code(&secret)).await.ok();
    app.advance(Duration::from_secs(30));
    for text in [
        "",
        " ",
        "12345",
        "1234567",
        "not a code",
        "\0",
        "7g9x-2kqm-v4ht-0b8u",
    ] {
        for _ in 0..3 {
            let answer = app.try_code(&ada, text).await;
            assert_eq!(answer.bad_fields(), ["otp_attempt"], "{text:?}");
        }
    }
    app.try_code(&ada, &app.code(&secret)).await.ok();
    let rows = app.audit().await;
    assert!(
        !rows.iter().any(|row| row.contains("sign_in.failed")),
        "{rows:?}"
    );
}

async fn a_right_recovery_code_ends_the_row_of_wrong_ones(store: Store) {
    let app = TestApp::start(store).await;
    let (ada, secret, codes) = enrolled(&app).await;
    // Each from an address of its own, for those are limited too.
    let wrong = async |numbers: Range<u8>| {
        for number in numbers {
            let body = json!({
                "email": ada.email, "password": PASSWORD, "otp_attempt": "000000"
            });
            let call = app
                .post("/api/v1/jwt")
                .peer(&format!("203.0.113.{number}:1"));
            let answer = call.json(&body).send().await;
            assert_eq!(answer.problem(), (401, "invalid_otp"));
        }
    };
    wrong(0..4).await;
    app.try_code(&ada, &codes[0]).await.ok();
    wrong(10..14).await;
    app.try_code(&ada, &app.code(&secret)).await.ok();
    app.advance(Duration::from_secs(30));
    wrong(20..25).await;
    let answer = app.try_code(&ada, &app.code(&secret)).await;
    assert_eq!(answer.problem(), (429, "two_factor_locked"));
    // A wrong one ends nothing.
    let answer = app.try_code(&ada, "0000-0000-0000-0000").await;
    assert_eq!(answer.problem(), (401, "invalid_otp"));
    let answer = app.try_code(&ada, &app.code(&secret)).await;
    assert_eq!(answer.problem(), (429, "two_factor_locked"));
    app.try_code(&ada, &codes[1]).await.ok();
    app.try_code(&ada, &app.code(&secret)).await.ok();
}
