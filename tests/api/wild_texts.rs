//! Whatever text stands in whatever field, parameter, part of a path or header, on either store: an
//! answer, and never a fault. What there is to be filled in is read from the OpenAPI document.

use std::sync::LazyLock;

use axum::http::Method;
use mirrory::accounts::Role;
use proptest::{
    strategy::{Strategy, ValueTree},
    test_runner::TestRunner,
};
use serde_json::{Map, Value, json};
use url::form_urlencoded;

use crate::harness::{Answer, Issued, Manager, PASSWORD, Store, TestApp, TestSite};

on_both_stores! {
    any_text_in_any_field_is_answered,
    any_text_in_any_parameter_of_a_query_is_answered,
    any_text_in_any_part_of_a_path_is_answered,
    any_header_that_is_kept_is_answered,
    what_postgresql_cannot_store_is_a_bad_field_on_both,
}

static DOCUMENT: LazyLock<Value> =
    LazyLock::new(|| serde_json::to_value(mirrory::openapi::document()).unwrap());

/// Texts that databases have trouble with, none of which can become somebody's new password.
fn wild_texts() -> Vec<String> {
    let mut texts: Vec<_> = [
        "\0",
        "a\0b",
        "a\0@b.c",
        "\u{1}\u{7f}\u{85}",
        "\u{ffff}\u{10ffff}",
        "\u{feff}\u{202e}",
        "'\"\\$1",
    ]
    .map(str::to_owned)
    .into();
    texts.push("é".repeat(1000));
    let mut runner = TestRunner::default();
    let any = proptest::collection::vec(proptest::char::any(), 1..9);
    for _ in 0..2 {
        let characters = any.new_tree(&mut runner).unwrap().current();
        texts.push(characters.into_iter().collect());
    }
    texts
}

/// The same as they stand in JSON, and halves of characters, which only there can be written.
fn wild_strings() -> Vec<String> {
    let written = |text: String| Value::from(text).to_string();
    let halves = [r#""\ud800""#, r#""a\udc00b""#].map(str::to_owned);
    wild_texts()
        .into_iter()
        .map(written)
        .chain(halves)
        .collect()
}

/// Every operation: its method, its path, and what the document says of it.
fn operations() -> impl Iterator<Item = (Method, &'static str, &'static Value)> {
    let paths = DOCUMENT["paths"].as_object().unwrap();
    paths.iter().flat_map(|(path, item)| {
        let verbs = item.as_object().unwrap().iter();
        verbs.map(move |(verb, operation)| {
            let method = verb.to_uppercase().parse().unwrap();
            (method, path.as_str(), operation)
        })
    })
}

/// The fields of an operation's body, and what the document says of each.
fn fields(operation: &'static Value) -> Vec<(&'static str, &'static Value)> {
    let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
    let Some(reference) = schema["$ref"].as_str() else {
        return Vec::new();
    };
    let schema = DOCUMENT.pointer(&reference[1..]).unwrap();
    let properties = schema["properties"].as_object().unwrap().iter();
    properties
        .map(|(name, schema)| (name.as_str(), schema))
        .collect()
}

/// Somebody who may do everything, and something to do it with.
struct Bench {
    app: TestApp,
    admin: Manager,
    site: TestSite,
    issued: Issued,
    calls: std::cell::Cell<u32>,
}

impl Bench {
    async fn set_up(store: Store) -> Self {
        let settings = [
            ("limits.failures_per_minute", "0"),
            ("limits.validations_per_token_per_hour", "0"),
        ];
        let app = TestApp::with(store, &settings).await;
        let admin = app.signed_in_as("ada", Role::Admin).await;
        let site = app.site("enterprise").await;
        let issued = app.issue(&site).await;
        Self {
            app,
            admin,
            site,
            issued,
            calls: std::cell::Cell::new(0),
        }
    }

    /// What a field is good with, as far as it is worth to come that far.
    fn good(&self, field: &str, schema: &Value) -> Value {
        match field {
            "password" | "current_password" => json!(PASSWORD),
            "proxy_secret" => json!(self.site.secret),
            "token" => json!(self.issued.token),
            "token_id" => json!(self.issued.token_id),
            "machine_id" => json!("m"),
            "otp_attempt" | "owner" => Value::Null,
            _ => schema["examples"][0].clone(),
        }
    }

    /// The path with ids of what there is.
    fn path(&self, template: &str) -> String {
        let site = self.site.id.to_string();
        let token = &self.issued.token_id;
        template.replace("{id}", &site).replace("{token_id}", token)
    }

    /// Calls from an address of its own, so that no limit hides what is behind it.
    async fn call(&self, method: &Method, path: &str, body: Option<String>) -> Answer {
        let number = self.calls.replace(self.calls.get() + 1);
        let [_, a, b, c] = number.to_be_bytes();
        let call = self.app.request(method.as_str(), path);
        let call = call.peer(&format!("10.{a}.{b}.{c}:1"));
        let call = call.bearer(&self.admin.session.access_token);
        let answer = match &body {
            Some(body) => call.text(body.clone()).send().await,
            None => call.send().await,
        };
        assert!(
            answer.status < 500,
            "{method} {path} {body:?}: {} {}",
            answer.status,
            answer.body
        );
        answer
    }
}

async fn any_text_in_any_field_is_answered(store: Store) {
    let bench = Bench::set_up(store).await;
    let mut tried = 0;
    for (method, template, operation) in operations() {
        let fields = fields(operation);
        for (wild_field, _) in &fields {
            for wild in wild_strings() {
                let mut body = Map::new();
                for (field, schema) in &fields {
                    body.insert((*field).to_owned(), bench.good(field, schema));
                }
                body.insert((*wild_field).to_owned(), json!("WILD"));
                let body = Value::from(body).to_string().replace("\"WILD\"", &wild);
                bench.call(&method, &bench.path(template), Some(body)).await;
            }
            tried += 1;
        }
    }
    assert!(tried > 40, "{tried}");
}

async fn any_text_in_any_parameter_of_a_query_is_answered(store: Store) {
    let bench = Bench::set_up(store).await;
    let mut tried = 0;
    for (method, template, operation) in operations() {
        let parameters = operation["parameters"].as_array().into_iter().flatten();
        for parameter in parameters.filter(|parameter| parameter["in"] == "query") {
            for wild in wild_texts() {
                let name = parameter["name"].as_str().unwrap();
                let mut query = form_urlencoded::Serializer::new(String::new());
                let query = query.append_pair(name, &wild).finish();
                let path = format!("{}?{query}", bench.path(template));
                bench.call(&method, &path, None).await;
            }
            // No UTF-8.
            let name = parameter["name"].as_str().unwrap();
            let path = format!("{}?{name}=%ff%00%ed%a0%80", bench.path(template));
            bench.call(&method, &path, None).await;
            tried += 1;
        }
    }
    assert!(tried >= 9, "{tried}");
}

async fn any_text_in_any_part_of_a_path_is_answered(store: Store) {
    let bench = Bench::set_up(store).await;
    for (method, template, operation) in operations() {
        for part in ["{id}", "{token_id}"] {
            if !template.contains(part) {
                continue;
            }
            for wild in wild_texts().into_iter().filter(|text| text.len() < 100) {
                let escapes: Vec<_> = wild.bytes().map(|byte| format!("%{byte:02x}")).collect();
                let path = bench.path(&template.replace(part, &escapes.concat()));
                let has_body = !fields(operation).is_empty();
                let answer = bench.call(&method, &path, has_body.then(|| "{}".to_owned()));
                let answer = answer.await;
                assert!(answer.status >= 400, "{method} {path}: {}", answer.status);
            }
        }
    }
}

async fn any_header_that_is_kept_is_answered(store: Store) {
    let bench = Bench::set_up(store).await;
    let body = json!({"email": "ada@shop.example", "password": PASSWORD});
    for agent in [
        &b"a\tb"[..],
        b"caf\xc3\xa9",
        b"\xff\xfe",
        b" ",
        b"a\xed\xa0\x80",
        &[b'x'; 5000],
        &[0xc3; 300],
    ] {
        let call = bench.app.post("/api/v1/jwt").header("user-agent", agent);
        call.json(&body).send().await.ok();
        let call = bench.app.post("/mirrory/generate-token");
        let call = call.header("idempotency-key", agent);
        let body = json!({"wp_user_id": 1, "proxy_secret": bench.site.secret});
        let answer = call.json(&body).send().await;
        assert!(matches!(answer.status, 200 | 422), "{}", answer.status);
    }
}

async fn what_postgresql_cannot_store_is_a_bad_field_on_both(store: Store) {
    let bench = Bench::set_up(store).await;
    let app = &bench.app;
    for name in ["a\0b", "\0", "ada\0", "a\nb", "a\u{85}b"] {
        let body = json!({"email": name, "password": "x"});
        let answer = app.post("/api/v1/jwt").json(&body).send().await;
        assert_eq!(answer.bad_fields(), ["email"], "{name:?}");
        let body = json!({"username": name, "password": "x"});
        let answer = app.post("/api/v1/login").json(&body).send().await;
        assert_eq!(answer.status, 422, "{name:?}");
    }
    for query in ["event=%00", "event=a%00b", "event=sign_in.failed%00"] {
        let path = format!("/api/v1/audit-log?{query}");
        let answer = app.see(&bench.admin, &path).await;
        assert_eq!(answer.bad_fields(), ["event"], "{query}");
    }
    let path = format!("/api/v1/sites/{}", bench.site.id);
    for (field, value) in [
        ("name", "a\0b"),
        ("url", "https://a\0b.example"),
        ("plan", "free\0"),
        ("status", "active\0"),
    ] {
        let body = json!({field: value});
        let answer = app.ask(&bench.admin.session, "PATCH", &path, body).await;
        assert_eq!(answer.bad_fields(), [field]);
    }
    // What is bound to no statement is what it was.
    let body = json!({"email": "ada@shop.example", "password": "x\0"});
    let answer = app.post("/api/v1/jwt").json(&body).send().await;
    assert_eq!(answer.problem(), (401, "invalid_credentials"));
    assert_eq!(app.validate("a\0b", "m").await.reason(), "malformed");
    let body = json!({"wp_user_id": 1, "proxy_secret": "a secret\0 of mine"});
    assert_eq!(
        app.generate(body).await.problem(),
        (401, "invalid_proxy_secret")
    );
}
