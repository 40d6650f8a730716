use std::{collections::BTreeSet, fs, path::PathBuf, process};

use axum::{Router, body::Body, http::Request};
use tower::ServiceExt;

use super::{operations, written};
use crate::{
    app::{open_state, open_store},
    config::Config,
    router::router,
    store::{database::COMMAND_DEADLINE, freshness::Freshness},
    types::{
        clock::{ManualClock, Timestamp},
        randomness::Randomness,
    },
};

/// The document and the page are the description, and not described in it.
const UNDESCRIBED: [&str; 4] = ["/openapi.json", "/docs", "/docs/", "/docs/{*asset}"];

/// Removes what a test made.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The whole router on an empty store.
async fn whole_router(name: &str) -> (Folder, Router) {
    let folder = std::env::temp_dir().join(format!("mirrory-{name}-{}", process::id()));
    let url = format!("sqlite://{}", folder.join("mirrory.db").display());
    let config = Config::load(None, [("DATABASE_URL".to_owned(), url)]).unwrap();
    let database = open_store(&config.database, COMMAND_DEADLINE)
        .await
        .unwrap();
    // The time of a test is before the program's own.
    database.set_least_time(Timestamp::from_micros(0));
    let clock = ManualClock::starting_at(Timestamp::from_seconds(1_794_744_000)).clock();
    let freshness = Freshness::new(clock.clone());
    let state = open_state(config, database, clock, Randomness::seeded(1), freshness)
        .await
        .unwrap();
    (Folder(folder), router(&state))
}

/// The paths of a router but its fallback's; axum tells them in its `Debug` output alone.
fn paths(router: &Router) -> BTreeSet<String> {
    let shown = format!("{router:?}");
    let (mounted, _) = shown.split_once("fallback_router").unwrap();
    let quoted = mounted.split('"').skip(1).step_by(2);
    let paths = quoted.filter(|text| text.starts_with('/'));
    paths.map(str::to_owned).collect()
}

#[tokio::test]
async fn every_route_is_described() {
    let (_folder, router) = whole_router("described").await;
    let document = written();
    let described = document["paths"].as_object().unwrap().keys().cloned();
    let expected: BTreeSet<_> = described.chain(UNDESCRIBED.map(str::to_owned)).collect();
    assert_eq!(paths(&router), expected);
}

#[tokio::test]
async fn every_described_operation_is_routed_behind_the_edge_and_no_other_method() {
    let (_folder, router) = whole_router("routed").await;
    let document = written();
    let described = operations(&document);
    for path in document["paths"].as_object().unwrap().keys() {
        for method in ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"] {
            let request = Request::builder()
                .method(method)
                .uri(path)
                .header("host", "here")
                .body(Body::empty())
                .unwrap();
            let response = router.clone().oneshot(request).await.unwrap();
            let is_described = described.contains_key(&format!("{method} {path}"));
            assert_eq!(response.status() != 405, is_described, "{method} {path}");
            assert_ne!(response.status(), 404, "{method} {path}");
            for header in ["x-request-id", "x-content-type-options"] {
                let passed_the_edge = response.headers().contains_key(header);
                assert!(passed_the_edge, "{header} of {method} {path}");
            }
        }
    }
}
