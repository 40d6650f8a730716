//! What holds for every endpoint: routing, methods, request ids.

use crate::harness::{Store, TestApp, TestSite};

on_both_stores! {
    every_call_of_the_data_plane_passes_both_layers,
    unknown_paths_are_not_found,
    other_methods_are_answered_with_those_allowed,
    head_answers_where_get_does,
    a_request_id_is_echoed,
    what_is_no_request_id_is_replaced,
}

const CALLS: [&str; 4] = [
    "/mirrory/generate-token",
    "/mirrory/validate-token",
    "/mirrory/revoke-token",
    "/mirrory/release-machine",
];
const PAGES: [&str; 5] = [
    "/mirrory/health",
    "/livez",
    "/readyz",
    "/.well-known/jwks.json",
    "/openapi.json",
];

async fn start(store: Store) -> (TestApp, TestSite) {
    let settings = [("limits.failures_per_minute", "0")];
    let app = TestApp::with(store, &settings).await;
    let site = app.site("professional").await;
    (app, site)
}

/// The extractors behind a layer answer 500 when it is missing.
async fn every_call_of_the_data_plane_passes_both_layers(store: Store) {
    let (app, site) = start(store).await;
    for path in CALLS {
        let answer = app.post(path).text("{}").send().await;
        assert_eq!(answer.problem(), (422, "invalid_request"), "{path}");
    }
    let issued = app.issue(&site).await;
    assert!(app.validate(&issued.token, "m").await.is_valid());
    app.release(&site, &issued.token_id).await.ok();
    app.revoke(&site, &issued.token_id).await.ok();
}

async fn unknown_paths_are_not_found(store: Store) {
    let (app, _) = start(store).await;
    for path in [
        "/",
        "/mirrory",
        "/mirrory/",
        "/mirrory/generate-token/",
        "/mirrory//generate-token",
        "/Mirrory/generate-token",
        "/mirrory/generate-token%00",
        "/mirrory/%2e%2e/livez",
        "/livez/x",
        "/.well-known/",
        "/%ff",
    ] {
        for method in ["GET", "HEAD", "POST", "OPTIONS", "DELETE", "BREW"] {
            let answer = app.request(method, path).send().await;
            assert_eq!(answer.status, 404, "{method} {path}");
        }
        let answer = app.get(path).await;
        assert_eq!(answer.problem(), (404, "not_found"), "{path}");
    }
}

async fn other_methods_are_answered_with_those_allowed(store: Store) {
    let (app, _) = start(store).await;
    for path in CALLS {
        for method in [
            "GET", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "BREW",
        ] {
            // CONNECT takes no path.
            if method == "CONNECT" {
                continue;
            }
            let answer = app.request(method, path).send().await;
            let expected = (405, "method_not_allowed");
            assert_eq!(answer.problem(), expected, "{method} {path}");
            assert_eq!(answer.header("allow"), Some("POST"), "{method} {path}");
        }
        let answer = app.request("HEAD", path).send().await;
        assert_eq!(answer.status, 405, "{path}");
    }
    for path in PAGES {
        for method in ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"] {
            let answer = app.request(method, path).send().await;
            let expected = (405, "method_not_allowed");
            assert_eq!(answer.problem(), expected, "{method} {path}");
            assert_eq!(answer.header("allow"), Some("GET,HEAD"), "{method} {path}");
        }
    }
}

async fn head_answers_where_get_does(store: Store) {
    let (app, _) = start(store).await;
    app.clock.set_wall(crate::harness::real_now());
    for path in PAGES {
        let head = app.request("HEAD", path).send().await;
        let get = app.get(path).await;
        assert_eq!((head.status, get.status), (200, 200), "{path}");
        for name in ["content-type", "cache-control"] {
            assert_eq!(head.header(name), get.header(name), "{path}");
        }
    }
}

async fn a_request_id_is_echoed(store: Store) {
    let (app, _) = start(store).await;
    for id in ["x", "0", "!~\"{}", &"i".repeat(128)] {
        let answer = app.get("/livez").await;
        assert_ne!(answer.header("x-request-id"), Some(id));
        for path in ["/livez", "/nowhere", "/mirrory/generate-token"] {
            let answer = app
                .request("GET", path)
                .header("x-request-id", id)
                .send()
                .await;
            assert_eq!(answer.header("x-request-id"), Some(id), "{path}");
        }
    }
}

async fn what_is_no_request_id_is_replaced(store: Store) {
    let (app, _) = start(store).await;
    let too_long = "i".repeat(129);
    for id in ["", "a b", "a\tb", "é", too_long.as_str()] {
        let answer = app
            .request("GET", "/livez")
            .header("x-request-id", id)
            .send()
            .await;
        let given = answer.header("x-request-id").unwrap();
        let given: uuid::Uuid = given.parse().unwrap();
        assert_eq!(given.get_version_num(), 7, "{id:?}");
    }
    let one = app.get("/livez").await;
    let other = app.get("/livez").await;
    assert_ne!(one.header("x-request-id"), other.header("x-request-id"));
}
