//! Whose failures they are: the client's address behind proxies.

use serde_json::json;

use crate::harness::{Store, TestApp};

on_both_stores! {
    the_header_of_an_untrusted_peer_is_not_believed,
    behind_a_trusted_proxy_each_client_counts_for_itself,
    an_entry_that_is_no_address_ends_the_search,
    ipv6_counts_by_its_network,
    ipv4_counts_the_same_in_either_spelling,
}

/// Two failures a minute, behind proxies in 10.0.0.0/8.
async fn start(store: Store) -> TestApp {
    let settings = [
        ("limits.failures_per_minute", "2"),
        ("server.trusted_proxies", "10.0.0.0/8"),
    ];
    TestApp::with(store, &settings).await
}

/// The status of a failure from a peer that says whom it speaks for.
async fn fail(app: &TestApp, peer: &str, forwarded: &[&str]) -> u16 {
    let mut call = app.post("/mirrory/generate-token").peer(peer);
    for line in forwarded {
        call = call.header("x-forwarded-for", line);
    }
    let body = json!({"wp_user_id": 1, "proxy_secret": "wrong"});
    call.json(&body).send().await.status
}

async fn the_header_of_an_untrusted_peer_is_not_believed(store: Store) {
    let app = start(store).await;
    let peer = "192.0.2.1:1000";
    assert_eq!(fail(&app, peer, &["203.0.113.1"]).await, 401);
    assert_eq!(fail(&app, peer, &["203.0.113.2"]).await, 401);
    assert_eq!(fail(&app, peer, &["203.0.113.3"]).await, 429);
    assert_eq!(fail(&app, "192.0.2.1:2000", &[]).await, 429);
    assert_eq!(fail(&app, "192.0.2.2:1000", &["192.0.2.1"]).await, 401);
}

async fn behind_a_trusted_proxy_each_client_counts_for_itself(store: Store) {
    let app = start(store).await;
    let (one, two) = ("10.0.0.1:1000", "10.9.9.9:1000");
    assert_eq!(fail(&app, one, &["203.0.113.1"]).await, 401);
    assert_eq!(fail(&app, two, &["198.51.100.1, 203.0.113.1"]).await, 401);
    assert_eq!(
        fail(&app, one, &["1.1.1.1", "203.0.113.1, 10.3.3.3"]).await,
        429
    );
    assert_eq!(fail(&app, one, &["203.0.113.2"]).await, 401);
    assert_eq!(fail(&app, "203.0.113.1:1", &[]).await, 429);
}

async fn an_entry_that_is_no_address_ends_the_search(store: Store) {
    let app = start(store).await;
    let peer = "10.0.0.1:1000";
    assert_eq!(fail(&app, peer, &["203.0.113.1, unknown"]).await, 401);
    assert_eq!(fail(&app, peer, &["203.0.113.2, _hidden"]).await, 401);
    assert_eq!(fail(&app, peer, &[]).await, 429);
    assert_eq!(fail(&app, peer, &["203.0.113.1"]).await, 401);
}

async fn ipv6_counts_by_its_network(store: Store) {
    let app = start(store).await;
    assert_eq!(fail(&app, "[2001:db8:1:2::1]:1", &[]).await, 401);
    assert_eq!(fail(&app, "[2001:db8:1:2:ffff::]:1", &[]).await, 401);
    assert_eq!(fail(&app, "[2001:db8:1:2::2]:1", &[]).await, 429);
    assert_eq!(fail(&app, "[2001:db8:1:3::1]:1", &[]).await, 401);
}

async fn ipv4_counts_the_same_in_either_spelling(store: Store) {
    let app = start(store).await;
    assert_eq!(fail(&app, "192.0.2.1:1", &[]).await, 401);
    assert_eq!(fail(&app, "[::ffff:192.0.2.1]:1", &[]).await, 401);
    assert_eq!(fail(&app, "192.0.2.1:1", &[]).await, 429);
    assert_eq!(fail(&app, "192.0.2.2:1", &[]).await, 401);
}
