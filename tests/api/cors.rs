//! Cross-origin requests: apps in a web view may validate, and nobody may generate.

use serde_json::json;

use crate::harness::{Answer, Store, TestApp};

on_both_stores! {
    without_origins_nothing_is_shared,
    an_allowed_origin_may_ask_for_validate_and_health,
    a_preflight_of_another_origin_is_refused,
    a_plain_options_is_refused,
    generate_and_manage_are_never_shared,
    an_answer_to_an_allowed_origin_may_be_read,
    an_answer_to_another_origin_may_not_be_read,
    a_refusal_may_be_read_too,
}

const SHARED: [(&str, &str); 2] = [
    ("/mirrory/validate-token", "POST"),
    ("/mirrory/health", "GET"),
];
const NEVER: [&str; 3] = [
    "/mirrory/generate-token",
    "/mirrory/revoke-token",
    "/mirrory/release-machine",
];
const ORIGIN: &str = "https://app.example.com";
const SHELL: &str = "tauri://localhost";

async fn with_origins(store: Store) -> TestApp {
    let origins = format!("{ORIGIN}, {SHELL}");
    TestApp::with(store, &[("server.cors_origins", &origins)]).await
}

async fn preflight(app: &TestApp, path: &str, method: &str, origin: &str) -> Answer {
    app.request("OPTIONS", path)
        .header("origin", origin)
        .header("access-control-request-method", method)
        .header("access-control-request-headers", "content-type")
        .send()
        .await
}

fn shares_nothing(answer: &Answer) -> bool {
    let is_cors = |name: &str| name.starts_with("access-control-");
    !answer.headers.keys().any(|name| is_cors(name.as_str()))
}

async fn without_origins_nothing_is_shared(store: Store) {
    let app = TestApp::start(store).await;
    for (path, method) in SHARED {
        let answer = preflight(&app, path, method, ORIGIN).await;
        assert_eq!(answer.problem(), (405, "method_not_allowed"), "{path}");
        assert!(shares_nothing(&answer), "{path}");
        let answer = app
            .request("GET", path)
            .header("origin", ORIGIN)
            .send()
            .await;
        assert!(shares_nothing(&answer), "{path}");
    }
}

async fn an_allowed_origin_may_ask_for_validate_and_health(store: Store) {
    let app = with_origins(store).await;
    for (path, method) in SHARED {
        for origin in [ORIGIN, SHELL] {
            let answer = preflight(&app, path, method, origin).await;
            assert!((200..300).contains(&answer.status), "{path}");
            let allowed = answer.header("access-control-allow-origin");
            assert_eq!(allowed, Some(origin), "{path}");
            let methods = answer.header("access-control-allow-methods").unwrap();
            assert!(methods.split(',').any(|allowed| allowed.trim() == method));
            let headers = answer.header("access-control-allow-headers").unwrap();
            assert!(headers.to_ascii_lowercase().contains("content-type"));
            assert_eq!(answer.header("access-control-allow-credentials"), None);
            assert!(answer.header("x-request-id").is_some());
        }
    }
}

async fn a_preflight_of_another_origin_is_refused(store: Store) {
    let app = with_origins(store).await;
    for (path, method) in SHARED {
        for origin in [
            "https://evil.example",
            "null",
            "*",
            "http://app.example.com",
            "https://app.example.com:8443",
            "https://app.example.com.evil.example",
            "HTTPS://APP.EXAMPLE.COM",
        ] {
            let answer = preflight(&app, path, method, origin).await;
            assert_eq!(answer.status, 405, "{path} {origin}");
            assert!(shares_nothing(&answer), "{path} {origin}");
        }
    }
}

async fn a_plain_options_is_refused(store: Store) {
    let app = with_origins(store).await;
    for (path, _) in SHARED {
        let answer = app.request("OPTIONS", path).send().await;
        assert_eq!(answer.problem(), (405, "method_not_allowed"), "{path}");
        let call = app.request("OPTIONS", path).header("origin", ORIGIN);
        let answer = call.send().await;
        assert_eq!(answer.problem(), (405, "method_not_allowed"), "{path}");
    }
}

async fn generate_and_manage_are_never_shared(store: Store) {
    let app = with_origins(store).await;
    let site = app.site("free").await;
    for path in NEVER {
        let answer = preflight(&app, path, "POST", ORIGIN).await;
        assert_eq!(answer.problem(), (405, "method_not_allowed"), "{path}");
        assert!(shares_nothing(&answer), "{path}");
    }
    let body = json!({"wp_user_id": 1, "proxy_secret": site.secret});
    let call = app.post("/mirrory/generate-token").header("origin", ORIGIN);
    let answer = call.json(&body).send().await;
    assert_eq!(answer.status, 200);
    assert!(shares_nothing(&answer));
}

async fn an_answer_to_an_allowed_origin_may_be_read(store: Store) {
    let app = with_origins(store).await;
    let site = app.site("free").await;
    let issued = app.issue(&site).await;
    let body = json!({"token": issued.token, "machine_id": "m"});
    let call = app.post("/mirrory/validate-token").header("origin", SHELL);
    let answer = call.json(&body).send().await;
    assert!(answer.is_valid());
    assert_eq!(answer.header("access-control-allow-origin"), Some(SHELL));
    assert_eq!(answer.header("access-control-allow-credentials"), None);
    assert!(varies_by_origin(&answer));
    let answer = app
        .request("GET", "/mirrory/health")
        .header("origin", ORIGIN)
        .send()
        .await;
    assert_eq!(answer.header("access-control-allow-origin"), Some(ORIGIN));
}

fn varies_by_origin(answer: &Answer) -> bool {
    let vary = answer.headers.get_all("vary").into_iter();
    let mut names = vary.flat_map(|value| value.to_str().unwrap().split(','));
    names.any(|name| name.trim().eq_ignore_ascii_case("origin"))
}

async fn an_answer_to_another_origin_may_not_be_read(store: Store) {
    let app = with_origins(store).await;
    for origin in ["https://evil.example", "null"] {
        let call = app
            .request("GET", "/mirrory/health")
            .header("origin", origin);
        let answer = call.send().await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("access-control-allow-origin"), None);
        assert!(varies_by_origin(&answer));
    }
}

async fn a_refusal_may_be_read_too(store: Store) {
    let app = with_origins(store).await;
    let call = app.request("GET", "/mirrory/validate-token");
    let answer = call.header("origin", ORIGIN).send().await;
    assert_eq!(answer.problem(), (405, "method_not_allowed"));
    assert_eq!(answer.header("allow"), Some("POST"));
    assert_eq!(answer.header("access-control-allow-origin"), Some(ORIGIN));
    let call = app.post("/mirrory/validate-token").header("origin", ORIGIN);
    let answer = call.text("{").send().await;
    assert_eq!(answer.problem(), (400, "malformed_json"));
    assert_eq!(answer.header("access-control-allow-origin"), Some(ORIGIN));
    let exposed = answer.header("access-control-expose-headers").unwrap();
    let exposed = exposed.to_ascii_lowercase();
    assert!(exposed.contains("retry-after") && exposed.contains("x-request-id"));
}
