//! generate-token: what it takes, what it answers, and the order of its checks.

use serde_json::{Value, json};

use crate::harness::{Store, TestApp, at};

on_both_stores! {
    a_token_is_issued_with_its_id_and_its_end,
    the_end_is_what_the_configuration_says,
    user_ids_are_taken_as_numbers_and_as_digits,
    what_is_no_user_id_is_named,
    machine_ids_are_limited_in_bytes_and_characters,
    secrets_are_limited_in_bytes,
    every_bad_field_is_named_at_once,
    an_invalid_idempotency_key_is_named_beside_the_fields,
    each_check_comes_before_the_next,
    a_token_born_with_a_machine_is_bound_to_it,
    two_tokens_are_never_the_same,
}

async fn a_token_is_issued_with_its_id_and_its_end(store: Store) {
    let app = TestApp::start(store).await;
    let site = app.site("free").await;
    let answer = app.generate_for(&site).await;
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert_eq!(answer.header("idempotency-replayed"), None);
    let body = answer.ok();
    insta::assert_json_snapshot!("generated", body, {
        ".token" => "[token]",
        ".token_id" => "[token_id]",
    });
    assert!(body["token"].as_str().unwrap().starts_with("eyJ"));
    let token_id: uuid::Uuid = body["token_id"].as_str().unwrap().parse().unwrap();
    assert_eq!(token_id.get_version_num(), 7);
}

async fn the_end_is_what_the_configuration_says(store: Store) {
    let app = TestApp::with(store, &[("tokens.ttl_seconds", "90")]).await;
    let site = app.site("free").await;
    app.clock.set_wall(at("2026-11-15T12:00:00.9Z"));
    let body = app.generate_for(&site).await.ok();
    assert_eq!(body["expires_in"], 90);
    assert_eq!(body["expires_at"], "2026-11-15T12:01:30Z");
}

async fn user_ids_are_taken_as_numbers_and_as_digits(store: Store) {
    let app = TestApp::start(store).await;
    let site = app.site("professional").await;
    for (given, expected) in [
        (json!(1), 1),
        (json!("1"), 1),
        (json!(i64::MAX), i64::MAX),
        (json!("9223372036854775807"), i64::MAX),
    ] {
        let request = json!({"wp_user_id": given, "proxy_secret": site.secret});
        let body = app.generate(request).await.ok();
        assert_eq!(body["user_id"], expected, "{given}");
    }
    // A string may be spelt with escapes, like any other.
    let body = format!(
        r#"{{"wp_user_id": "\u0034\u0032", "proxy_secret": "{}"}}"#,
        site.secret
    );
    let answer = app.post("/mirrory/generate-token").text(body).send().await;
    assert_eq!(answer.ok()["user_id"], 42);
}

async fn what_is_no_user_id_is_named(store: Store) {
    let app = TestApp::start(store).await;
    let site = app.site("professional").await;
    for given in [
        "0",
        "-0",
        "-1",
        "+1",
        "01",
        "1.0",
        "1e3",
        "1E0",
        "9223372036854775808",
        "true",
        "[]",
        "{}",
        "[1]",
        "null",
        r#""""#,
        r#""0""#,
        r#"" 1""#,
        r#""1 ""#,
        r#""+1""#,
        r#""-1""#,
        r#""01""#,
        r#""1.0""#,
        r#""1e3""#,
        r#""9223372036854775808""#,
        r#""١""#,
        r#""0x1""#,
    ] {
        let body = format!(
            r#"{{"wp_user_id": {given}, "proxy_secret": "{}"}}"#,
            site.secret
        );
        let answer = app.post("/mirrory/generate-token").text(body).send().await;
        // `+1` and `01` are no JSON at all.
        if matches!(given, "+1" | "01") {
            assert_eq!(answer.problem(), (400, "malformed_json"), "{given}");
        } else {
            assert_eq!(answer.bad_fields(), ["wp_user_id"], "{given}");
        }
    }
}

async fn machine_ids_are_limited_in_bytes_and_characters(store: Store) {
    let app = TestApp::start(store).await;
    let site = app.site("professional").await;
    let generate = async |machine_id: Value| {
        let request =
            json!({"wp_user_id": 1, "proxy_secret": site.secret, "machine_id": machine_id});
        app.generate(request).await
    };
    for good in [
        "a",
        " ",
        "é".repeat(128).as_str(),
        "x".repeat(256).as_str(),
        "\u{200b}",
    ] {
        assert_eq!(generate(json!(good)).await.status, 200, "{good:?}");
    }
    for bad in [
        json!(""),
        json!("é".repeat(128) + "x"),
        json!("x".repeat(257)),
        json!("a\u{0}b"),
        json!("a\nb"),
        json!("\u{7f}"),
        json!("\u{85}"),
        json!(5),
        json!(["a"]),
        json!(true),
    ] {
        assert_eq!(
            generate(bad.clone()).await.bad_fields(),
            ["machine_id"],
            "{bad}"
        );
    }
    // A field that may be absent may be null.
    assert_eq!(generate(Value::Null).await.status, 200);
}

async fn secrets_are_limited_in_bytes(store: Store) {
    let app = TestApp::start(store).await;
    let generate = async |secret: Value| {
        let request = json!({"wp_user_id": 1, "proxy_secret": secret});
        app.generate(request).await
    };
    for secret in ["x".to_owned(), "x".repeat(512), "é".repeat(256)] {
        let answer = generate(json!(secret)).await;
        assert_eq!(answer.problem(), (401, "invalid_proxy_secret"));
    }
    for secret in [
        json!(""),
        json!("x".repeat(513)),
        json!("é".repeat(256) + "x"),
        json!(1),
        Value::Null,
    ] {
        let answer = generate(secret.clone()).await;
        assert_eq!(answer.bad_fields(), ["proxy_secret"], "{secret}");
    }
}

async fn every_bad_field_is_named_at_once(store: Store) {
    let app = TestApp::start(store).await;
    let answer = app.generate(json!({})).await;
    assert_eq!(answer.bad_fields(), ["wp_user_id", "proxy_secret"]);
    let answer = app
        .generate(json!({"wp_user_id": 0, "proxy_secret": "", "machine_id": ""}))
        .await;
    assert_eq!(
        answer.bad_fields(),
        ["wp_user_id", "proxy_secret", "machine_id"]
    );
}

async fn an_invalid_idempotency_key_is_named_beside_the_fields(store: Store) {
    let app = TestApp::start(store).await;
    let site = app.site("professional").await;
    let good = json!({"wp_user_id": 1, "proxy_secret": site.secret});
    let send = async |keys: &[&str], body: &Value| {
        let mut call = app.post("/mirrory/generate-token").json(body);
        for key in keys {
            call = call.header("idempotency-key", key);
        }
        call.send().await
    };
    let longest = "k".repeat(255);
    for key in [
        "k",
        "\"k\"",
        "\"",
        "a,b;c=\"d",
        longest.as_str(),
        &format!("\"{longest}\""),
    ] {
        assert_eq!(send(&[key], &good).await.status, 200, "{key}");
    }
    let too_long = "k".repeat(256);
    for key in ["", "\"\"", "a b", "\"a b\"", "é", "a\tb", too_long.as_str()] {
        let answer = send(&[key], &good).await;
        assert_eq!(answer.bad_fields(), ["Idempotency-Key"], "{key}");
    }
    let twice = send(&["a", "a"], &good).await;
    assert_eq!(twice.bad_fields(), ["Idempotency-Key"]);
    let all = send(&[""], &json!({"machine_id": 1})).await;
    assert_eq!(
        all.bad_fields(),
        [
            "wp_user_id",
            "proxy_secret",
            "machine_id",
            "Idempotency-Key"
        ]
    );
}

/// The order: routing, size, media type, JSON, fields, secret, suspension, idempotency key, quota.
async fn each_check_comes_before_the_next(store: Store) {
    let app = TestApp::start(store).await;
    let site = app.site("free").await;
    let path = "/mirrory/generate-token";
    let good = json!({"wp_user_id": 1, "proxy_secret": site.secret});
    for _ in 0..5 {
        let call = app.post(path).json(&good).header("idempotency-key", "used");
        call.send().await.ok();
        app.generate(good.clone()).await;
    }
    app.suspend(&site).await;
    let other = json!({"wp_user_id": 2, "proxy_secret": site.secret});

    let huge = vec![b' '; 16 * 1024 + 1];
    let answer = app.request("PUT", path).body(huge.clone()).send().await;
    assert_eq!(answer.problem(), (405, "method_not_allowed"));
    let answer = app.post(path).body(huge).send().await;
    assert_eq!(answer.problem(), (413, "body_too_large"));
    let answer = app.post(path).body("{").send().await;
    assert_eq!(answer.problem(), (415, "unsupported_media_type"));
    let answer = app
        .post(path)
        .text("{")
        .header("idempotency-key", "")
        .send();
    assert_eq!(answer.await.problem(), (400, "malformed_json"));
    let wrong = json!({"wp_user_id": 0, "proxy_secret": "wrong"});
    assert_eq!(app.generate(wrong).await.bad_fields(), ["wp_user_id"]);
    let wrong = json!({"wp_user_id": 2, "proxy_secret": "wrong"});
    let answer = app
        .post(path)
        .json(&wrong)
        .header("idempotency-key", "used")
        .send();
    assert_eq!(answer.await.problem(), (401, "invalid_proxy_secret"));
    let answer = app
        .post(path)
        .json(&other)
        .header("idempotency-key", "used")
        .send();
    assert_eq!(answer.await.problem(), (403, "site_suspended"));
    app.resume(&site).await;
    let answer = app
        .post(path)
        .json(&other)
        .header("idempotency-key", "used")
        .send();
    assert_eq!(answer.await.problem(), (422, "idempotency_key_reused"));
    assert_eq!(app.generate(other).await.problem(), (429, "quota_exceeded"));
}

async fn a_token_born_with_a_machine_is_bound_to_it(store: Store) {
    let app = TestApp::start(store).await;
    let site = app.site("developer").await;
    let request = json!({"wp_user_id": 1, "proxy_secret": site.secret, "machine_id": "mine"});
    let token = app.generate(request).await.issued().token;
    let stranger = app.validate(&token, "another").await;
    assert_eq!(stranger.reason(), "machine_mismatch");
    assert!(app.validate(&token, "mine").await.is_valid());
}

async fn two_tokens_are_never_the_same(store: Store) {
    let app = TestApp::start(store).await;
    let site = app.site("free").await;
    let (first, second) = (app.issue(&site).await, app.issue(&site).await);
    assert_ne!(first.token_id, second.token_id);
    assert_ne!(first.token, second.token);
}
