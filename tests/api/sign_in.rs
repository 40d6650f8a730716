//! Signing in by a password, and what an access token is good for.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::harness::{Answer, PASSWORD, SignedIn, Store, TestApp};

on_both_stores! {
    a_password_gives_a_pair_of_tokens,
    the_username_and_another_case_sign_in_too,
    what_is_wrong_is_one_answer_after_the_same_work,
    an_access_token_is_good_for_fifteen_minutes,
    what_proves_nothing_is_unauthorized,
    bad_fields_are_named,
    seven_failures_of_an_address_cost_a_minute,
    a_right_password_is_no_failure_and_a_wrong_one_stays_one,
    attempts_that_race_are_limited_too,
    failures_under_a_name_are_limited_whether_it_exists_or_not,
    nobody_is_locked_out_by_failures_of_others,
    a_failure_under_a_used_up_name_counts_for_its_address,
    a_full_hashing_queue_is_told_before_the_look_up,
    a_hash_with_older_parameters_is_renewed,
    a_login_gives_a_token_of_an_hour,
    errors_of_a_login_have_a_shape_of_their_own,
    failures_are_one_row_an_address_account_and_hour,
    failures_of_one_ipv6_network_are_one_row,
    a_sign_in_is_recorded_with_address_and_user_agent,
    rows_of_the_audit_log_are_kept_for_400_days,
    no_secret_of_an_account_is_in_the_store,
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

async fn fail(app: &TestApp, peer: &str, name: &str) -> Answer {
    let body = json!({"email": name, "password": "a wrong password"});
    app.post("/api/v1/jwt").peer(peer).json(&body).send().await
}

async fn seven_failures_of_an_address_cost_a_minute(store: Store) {
    let app = TestApp::start(store).await;
    let ada = app.owner("ada").await;
    for number in 0..7 {
        let answer = fail(&app, "192.0.2.1:1", &format!("name-{number}")).await;
        assert_eq!(answer.problem(), (401, "invalid_credentials"));
    }
    let runs = app.state.passwords.runs();
    for name in ["nobody", &ada.email] {
        let answer = fail(&app, "192.0.2.1:2", name).await;
        assert_eq!(answer.problem(), (429, "too_many_attempts"));
        assert_eq!(answer.retry_after(), 60);
    }
    let answer = app.try_sign_in(&ada.email, PASSWORD).await;
    assert_eq!(answer.problem(), (429, "too_many_attempts"));
    assert_eq!(app.state.passwords.runs(), runs, "nothing is worked out");
    let answer = fail(&app, "203.0.113.9:1", &ada.email).await;
    assert_eq!(answer.problem(), (401, "invalid_credentials"));
    app.advance(Duration::from_mins(1));
    app.sign_in(&ada).await;
}

async fn a_right_password_is_no_failure_and_a_wrong_one_stays_one(store: Store) {
    let app = TestApp::start(store).await;
    let ada = app.owner("ada").await;
    for _ in 0..6 {
        fail(&app, "192.0.2.1:1", &ada.email).await;
        app.sign_in(&ada).await;
    }
    let answer = fail(&app, "192.0.2.1:1", &ada.email).await;
    assert_eq!(answer.problem(), (401, "invalid_credentials"));
    let answer = fail(&app, "192.0.2.1:1", &ada.email).await;
    assert_eq!(answer.problem(), (429, "too_many_attempts"));
}

async fn attempts_that_race_are_limited_too(store: Store) {
    let app = TestApp::start(store).await;
    let racing = (0..20).map(|_| fail(&app, "192.0.2.1:1", "nobody"));
    let answers = join_all(racing).await;
    let judged = answers.iter().filter(|answer| answer.status == 401);
    assert_eq!(judged.count(), 7);
}

/// Lets strangers fail under a name until it is refused.
fn wear_out(app: &TestApp, name: &str) {
    let now = app.clock.clock().monotonic();
    while app.state.attempts.sign_in_as(name, now).is_ok() {}
}

async fn failures_under_a_name_are_limited_whether_it_exists_or_not(store: Store) {
    let app = TestApp::start(store).await;
    let ada = app.owner("ada").await;
    for (name, network) in [(ada.email.as_str(), 1), ("nobody@shop.example", 2)] {
        wear_out(&app, name);
        let runs = app.state.passwords.runs();
        for host in 0..10 {
            let peer = format!("203.0.{network}.{host}:1");
            let body = json!({"email": name, "password": "a wrong password"});
            let call = app.post("/api/v1/jwt").peer(&peer).json(&body);
            let answer = call.send().await;
            assert_eq!(answer.problem(), (429, "too_many_attempts"));
            assert_eq!(answer.retry_after(), 36);
        }
        assert_eq!(app.state.passwords.runs(), runs + 10);
    }
    app.advance(Duration::from_secs(36));
    let answer = app.try_sign_in(&ada.email, "a wrong password").await;
    assert_eq!(answer.problem(), (401, "invalid_credentials"));
}

async fn nobody_is_locked_out_by_failures_of_others(store: Store) {
    let app = TestApp::start(store).await;
    let ada = app.owner("ada").await;
    let id = ada.id.to_string();
    for name in [&ada.email, &ada.username, &id] {
        wear_out(&app, name);
    }
    for host in 0..3 {
        let body = json!({"email": ada.email, "password": PASSWORD});
        let call = app.post("/api/v1/jwt").peer(&format!("203.0.113.{host}:1"));
        call.json(&body).send().await.ok();
    }
    let session = app.sign_in(&ada).await;
    let path = "/api/v1/account/password";
    let wrong = json!({"current_password": "a wrong password", "new_password": "a new password"});
    let answer = app.ask(&session, "POST", path, wrong).await;
    assert_eq!(answer.problem(), (401, "invalid_credentials"));
    let right = json!({"current_password": PASSWORD, "new_password": "a new password"});
    app.ask(&session, "POST", path, right).await.ok();
}

async fn a_failure_under_a_used_up_name_counts_for_its_address(store: Store) {
    let app = TestApp::start(store).await;
    let ada = app.owner("ada").await;
    wear_out(&app, &ada.email);
    for _ in 0..7 {
        let answer = app.try_sign_in(&ada.email, "a wrong password").await;
        assert_eq!(answer.retry_after(), 36);
    }
    let runs = app.state.passwords.runs();
    let answer = app.try_sign_in(&ada.email, PASSWORD).await;
    assert_eq!(
        (answer.problem(), answer.retry_after()),
        ((429, "too_many_attempts"), 60)
    );
    assert_eq!(app.state.passwords.runs(), runs);
}

async fn a_full_hashing_queue_is_told_before_the_look_up(store: Store) {
    let app = TestApp::start(store).await;
    let turns = app.fill_hashing_queue();
    app.break_store().await;
    let answer = app.try_sign_in("ada", PASSWORD).await;
    assert_eq!(answer.problem(), (503, "overloaded"));
    drop(turns);
    // Neither this nor that was a failure.
    for _ in 0..10 {
        let answer = app.try_sign_in("ada", PASSWORD).await;
        assert_eq!(answer.problem(), (503, "store_unavailable"));
    }
}

async fn a_hash_with_older_parameters_is_renewed(store: Store) {
    let app = TestApp::start(store).await;
    let ada = app.owner("ada").await;
    let older = app.age_password(&ada).await;
    let stored = async || {
        app.column("SELECT password_hash FROM accounts")
            .await
            .remove(0)
    };
    let answer = app.try_sign_in(&ada.email, "a wrong password").await;
    assert_eq!(answer.problem(), (401, "invalid_credentials"));
    assert_eq!(stored().await, older);
    app.sign_in(&ada).await;
    let renewed = stored().await;
    assert!(
        renewed.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"),
        "{renewed}"
    );
    app.sign_in(&ada).await;
    assert_eq!(stored().await, renewed);
}

async fn a_login_gives_a_token_of_an_hour(store: Store) {
    let app = TestApp::start(store).await;
    app.owner("ada").await;
    for username in ["ada", "ada@shop.example"] {
        let body = json!({"username": username, "password": PASSWORD});
        let answer = app.post("/api/v1/login").json(&body).send().await;
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        let body = answer.ok();
        assert_eq!(body["status"], 200);
        assert_eq!(body["message"], "Data retrieved successfully");
        assert!(body["data"]["token"].is_string());
    }
}

async fn errors_of_a_login_have_a_shape_of_their_own(store: Store) {
    let app = TestApp::start(store).await;
    app.owner("ada").await;
    let login = async |body: Value| app.post("/api/v1/login").json(&body).send().await;
    let wrong = json!({"username": "ada", "password": "a wrong password"});
    for _ in 0..7 {
        let answer = login(wrong.clone()).await;
        assert_eq!(answer.status, 401);
        let expected = json!({"status": 401, "message": "The credentials are not valid"});
        assert_eq!(answer.body, expected);
    }
    let answer = login(wrong).await;
    assert_eq!((answer.status, answer.retry_after()), (429, 60));
    let expected = json!({"status": 429, "message": "Too many attempts"});
    assert_eq!(answer.body, expected);
    let answer = login(json!({})).await;
    let message = "The request is not valid; username is required; password is required";
    assert_eq!(answer.body, json!({"status": 422, "message": message}));
    let answer = app.post("/api/v1/login").text("x").send().await;
    assert_eq!((answer.status, &answer.body["status"]), (400, &json!(400)));
    let answer = app.post("/api/v1/login").body("x").send().await;
    assert_eq!((answer.status, &answer.body["status"]), (415, &json!(415)));
    let answer = app.get("/api/v1/login").await;
    assert_eq!((answer.status, answer.header("allow")), (405, Some("POST")));
    assert_eq!(answer.header("content-type"), Some("application/json"));
}

/// The edge gives up on it, around every layer of the route.
#[tokio::test]
async fn a_login_that_takes_too_long_is_told_in_its_own_shape() {
    let settings = [("server.request_timeout_seconds", "1")];
    let app = TestApp::with(Store::Postgres, &settings).await;
    app.owner("ada").await;
    let held = app.hold("LOCK TABLE accounts").await;
    let body = json!({"username": "ada", "password": PASSWORD});
    let answer = app.post("/api/v1/login").json(&body).send().await;
    assert_eq!(
        (answer.status, answer.header("retry-after")),
        (503, Some("1"))
    );
    let expected = json!({"status": 503, "message": "The service is overloaded"});
    assert_eq!(answer.body, expected);
    held.release().await;
}

async fn failures_are_one_row_an_address_account_and_hour(store: Store) {
    let app = TestApp::start(store).await;
    let ada = app.owner("ada").await;
    let other = app.another().await;
    for instance in [&app, &other] {
        for name in ["nobody", &ada.email, "a secret typed as a name"] {
            fail(instance, "192.0.2.1:1", name).await;
        }
        instance.background.tally.flush().await.unwrap();
    }
    fail(&app, "203.0.113.9:1", "nobody").await;
    let rows = "SELECT coalesce(address, '-') || ' ' || coalesce(subject, '-') || ' ' || count \
                FROM audit_log WHERE event = 'sign_in.failed' ORDER BY address, count";
    app.background.tally.flush().await.unwrap();
    let expected = [
        format!("192.0.2.1 {} 2", ada.id),
        "192.0.2.1 - 4".to_owned(),
        "203.0.113.9 - 1".to_owned(),
    ];
    assert_eq!(app.column(rows).await, expected);
    app.advance(Duration::from_hours(1));
    fail(&app, "203.0.113.9:1", "nobody").await;
    app.background.tally.flush().await.unwrap();
    assert_eq!(app.column(rows).await.len(), 4);
    let whole = "SELECT coalesce(subject, '') || detail || coalesce(tally, '') FROM audit_log";
    for row in app.column(whole).await {
        let tells = row.contains("nobody") || row.contains("secret typed");
        assert!(!tells, "{row}");
    }
}

async fn failures_of_one_ipv6_network_are_one_row(store: Store) {
    let app = TestApp::start(store).await;
    for host in 1..4 {
        fail(&app, &format!("[2001:db8:1:2::{host}]:1"), "nobody").await;
    }
    fail(&app, "[2001:db8:1:3::1]:1", "nobody").await;
    app.background.tally.flush().await.unwrap();
    let rows = "SELECT CAST(count AS TEXT) FROM audit_log WHERE event = 'sign_in.failed' \
                ORDER BY count";
    assert_eq!(app.column(rows).await, ["1", "3"]);
}

async fn a_sign_in_is_recorded_with_address_and_user_agent(store: Store) {
    let app = TestApp::start(store).await;
    let ada = app.owner("ada").await;
    let body = json!({"email": ada.email, "password": PASSWORD});
    let call = app.post("/api/v1/jwt").header("user-agent", "curl/8.5.0");
    call.peer("203.0.113.9:1").json(&body).send().await.ok();
    let row = "SELECT actor_kind || ' ' || actor_id || ' ' || address || ' ' || user_agent || ' ' \
               || outcome || ' ' || detail FROM audit_log WHERE event = 'sign_in.succeeded'";
    let expected = format!("account {} 203.0.113.9 curl/8.5.0 success {{}}", ada.id);
    assert_eq!(app.column(row).await, [expected]);
    let created = "SELECT actor_kind || ' ' || subject || ' ' || detail FROM audit_log \
                   WHERE event = 'account.created'";
    let expected = format!("operator {} {{\"role\":\"owner\"}}", ada.id);
    assert_eq!(app.column(created).await, [expected]);
}

async fn rows_of_the_audit_log_are_kept_for_400_days(store: Store) {
    let app = TestApp::start(store).await;
    app.execute("DELETE FROM audit_log").await;
    app.owner("ada").await;
    let day = Duration::from_hours(24);
    for (age, rows) in [(400 * day, 1), (Duration::from_micros(1), 0)] {
        app.advance(age);
        app.background.janitor.round().await.unwrap();
        let left = app.number("SELECT count(*) FROM audit_log").await;
        assert_eq!(left, rows);
    }
}

async fn no_secret_of_an_account_is_in_the_store(store: Store) {
    let app = TestApp::start(store).await;
    let ada = app.owner("ada").await;
    let session = app.sign_in(&ada).await;
    let body = json!({"name": "n", "scopes": ["sites:read"], "password": PASSWORD});
    let token = app.ask(&session, "POST", "/api/v1/api-tokens", body).await;
    let token = token.body["token"].as_str().unwrap().to_owned();
    let (secret, codes) = app.enrol(&session).await;
    let rows = app.everything().await;
    assert!(rows.contains("ada@shop.example"), "it was looked at");
    let plain = codes[0].replace('-', "");
    for held in [
        PASSWORD,
        &session.access_token,
        &session.refresh_token,
        &secret,
        &codes[0],
        &plain,
        &token,
    ] {
        assert!(!rows.contains(held), "{held}");
    }
}
