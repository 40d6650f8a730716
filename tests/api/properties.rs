//! Whatever is sent, the answer is a problem document or what the endpoint promises: never a fault,
//! never a panic. The harness holds every answer against the promises and the OpenAPI document.

use axum::http::{HeaderName, HeaderValue, Method, Uri};
use proptest::{
    prelude::*,
    sample::select,
    test_runner::{Config, TestCaseError, TestError, TestRunner},
};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::harness::{Answer, Issued, Store, TestApp, TestSite};

const CALLS: [&str; 4] = [
    "/mirrory/generate-token",
    "/mirrory/validate-token",
    "/mirrory/revoke-token",
    "/mirrory/release-machine",
];
const PAGES: [&str; 6] = [
    "/mirrory/health",
    "/livez",
    "/readyz",
    "/.well-known/jwks.json",
    "/openapi.json",
    "/docs/",
];

/// One service for all cases of a property.
struct Bench {
    runtime: Runtime,
    app: TestApp,
    site: TestSite,
    issued: Issued,
}

impl Bench {
    fn set_up() -> Self {
        let runtime = Runtime::new().unwrap();
        let (app, site, issued) = runtime.block_on(async {
            let settings = [
                ("limits.failures_per_minute", "0"),
                ("server.cors_origins", "https://app.example.com"),
                ("server.trusted_proxies", "0.0.0.0/0"),
            ];
            let app = TestApp::with(Store::Sqlite, &settings).await;
            app.clock.set_wall(crate::harness::real_now());
            let site = app.site("enterprise").await;
            let issued = app.issue(&site).await;
            (app, site, issued)
        });
        Self {
            runtime,
            app,
            site,
            issued,
        }
    }

    /// Tries a property on many inputs, and says which one breaks it.
    fn check<S: Strategy>(&self, inputs: &S, property: &impl AsyncFn(&Self, &S::Value) -> Answer)
    where
        S::Value: Clone,
    {
        let config = Config {
            failure_persistence: None,
            ..Config::with_cases(256)
        };
        let mut runner = TestRunner::new(config);
        let outcome = runner.run(inputs, |input| {
            let answer = self.runtime.block_on(property(self, &input));
            let is_fault = answer.status >= 500;
            if is_fault {
                let told = format!("{} {}", answer.status, answer.body);
                return Err(TestCaseError::fail(told));
            }
            Ok(())
        });
        match outcome {
            Ok(()) => {}
            Err(TestError::Fail(reason, input)) => panic!("{reason}\n{input:?}"),
            Err(abort) => panic!("{abort}"),
        }
    }
}

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        "[0-9]{0,20}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::hash_map(".{0,8}", inner, 0..4).prop_map(Value::from_iter),
        ]
    })
}

fn header_value() -> impl Strategy<Value = HeaderValue> {
    prop::collection::vec(any::<u8>(), 0..300)
        .prop_filter_map("no header", |bytes| HeaderValue::from_bytes(&bytes).ok())
}

#[test]
fn any_bytes_as_a_body_are_answered() {
    let bench = Bench::set_up();
    let body = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..200),
        any::<String>().prop_map(String::into_bytes),
        prop::collection::vec(any::<u8>(), 16_380..16_390),
    ];
    bench.check(
        &(select(CALLS.to_vec()), body),
        &async |bench, (path, body)| {
            let answer = bench.app.post(path).text(body.clone()).send().await;
            assert!(
                matches!(answer.status, 400 | 413 | 422),
                "{}",
                answer.status
            );
            answer
        },
    );
}

#[test]
fn any_json_in_our_fields_is_answered() {
    let bench = Bench::set_up();
    let names = [
        "wp_user_id",
        "proxy_secret",
        "machine_id",
        "token",
        "token_id",
        "other",
    ];
    let field = (select(names.to_vec()), json_value());
    let fields = prop::collection::vec(field, 0..6);
    bench.check(&(select(CALLS.to_vec()), fields), &async |bench,
                                                           (
        path,
        fields,
    )| {
        let body = Value::from_iter(fields.clone());
        bench.app.post(path).json(&body).send().await
    });
}

#[test]
fn one_wild_field_beside_good_ones_is_answered() {
    let bench = Bench::set_up();
    let names = [
        "wp_user_id",
        "proxy_secret",
        "machine_id",
        "token",
        "token_id",
    ];
    let inputs = (select(CALLS.to_vec()), select(names.to_vec()), json_value());
    bench.check(&inputs, &async |bench, (path, name, value)| {
        let mut body = json!({
            "wp_user_id": 1,
            "proxy_secret": bench.site.secret,
            "machine_id": "m",
            "token": bench.issued.token,
            "token_id": bench.issued.token_id,
        });
        body[name] = value.clone();
        // The limits of calls are no subject here.
        bench.app.advance(std::time::Duration::from_mins(2));
        bench.app.post(path).json(&body).send().await
    });
}

#[test]
fn any_changed_byte_of_a_token_is_answered_with_a_refusal() {
    let bench = Bench::set_up();
    let length = bench.issued.token.len();
    bench.check(&(0..length, any::<char>()), &async |bench, (index, new)| {
        let mut token: Vec<char> = bench.issued.token.chars().collect();
        let changed = token[*index] != *new;
        token[*index] = *new;
        let token: String = token.into_iter().collect();
        bench.app.advance(std::time::Duration::from_millis(1));
        let answer = bench.app.validate(&token, "m").await;
        let is_refused = answer.status == 422 || answer.body["valid"] == false;
        assert!(!changed || is_refused, "{token}");
        answer
    });
}

#[test]
fn any_header_is_answered() {
    let bench = Bench::set_up();
    let names = [
        "content-type",
        "content-encoding",
        "content-length",
        "transfer-encoding",
        "idempotency-key",
        "x-request-id",
        "x-forwarded-for",
        "origin",
        "access-control-request-method",
        "access-control-request-headers",
        "accept",
        "accept-encoding",
        "range",
        "if-none-match",
        "expect",
        "authorization",
        "host",
        "cookie",
        "x-other",
    ];
    let headers = prop::collection::vec((select(names.to_vec()), header_value()), 0..5);
    let paths: Vec<_> = CALLS.into_iter().chain(PAGES).collect();
    let methods = select(&["GET", "HEAD", "POST", "OPTIONS", "DELETE"]);
    let inputs = (methods, select(paths), headers);
    bench.check(&inputs, &async |bench, (method, path, headers)| {
        let body = json!({"wp_user_id": 1, "proxy_secret": bench.site.secret}).to_string();
        let mut call = bench.app.request(method, path).text(body);
        for (name, value) in headers {
            call = call.header(name, value.as_bytes());
        }
        call.send().await
    });
}

#[test]
fn any_name_of_a_header_is_answered() {
    let bench = Bench::set_up();
    let name = "[!#$%&'*+.^_`|~0-9a-z-]{1,40}".prop_filter("no name", |name| {
        HeaderName::from_bytes(name.as_bytes()).is_ok()
    });
    bench.check(&(name, header_value()), &async |bench, (name, value)| {
        let call = bench.app.post(CALLS[0]).header(name, value.as_bytes());
        call.text("{}").send().await
    });
}

#[test]
fn any_path_and_method_is_answered() {
    let bench = Bench::set_up();
    let path = prop_oneof![
        "/[!-~]{0,60}",
        "/(mirrory|docs|\\.well-known|%2e%2e|\\.\\.|livez|%00|/){0,4}(/[a-z-]{0,15})?",
        "/mirrory/(generate|validate|revoke)-token[?/#%;].{0,10}",
        "/docs/.{0,30}",
    ];
    let path = path.prop_filter("no path", |path| {
        path.parse::<Uri>()
            .is_ok_and(|uri| uri.path().starts_with('/'))
    });
    let method = prop_oneof![
        select(&[
            "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"
        ])
        .prop_map(str::to_owned),
        "[A-Z]{1,12}".prop_filter("no method", |name| {
            name != "CONNECT" && Method::from_bytes(name.as_bytes()).is_ok()
        }),
    ];
    bench.check(&(method, path), &async |bench, (method, path)| {
        bench.app.request(method, path).send().await
    });
}
