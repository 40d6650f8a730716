//! `mirrory key …`

use std::time::Duration;

use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::{MACHINE, assert_fields, follows, kid, reason};
use crate::{
    client::Client,
    harness::{Place, on_both_stores},
    server::Server,
};

on_both_stores! {
    rotating_a_key_is_followed_and_old_tokens_stay_valid,
    revoking_the_signing_key_waits_for_its_successor,
    revoking_another_key_leaves_the_signing_one_alone,
}

const KEY: &[&str] = &["kid", "algorithm", "state", "created_at"];

fn key_state(place: &Place, kid: &str) -> String {
    let keys = place.ask(["key", "list"]);
    let keys = keys.as_array().unwrap();
    let key = keys.iter().find(|key| key["kid"] == kid).unwrap();
    key["state"].as_str().unwrap().to_owned()
}

/// Issues tokens until one is signed by this key; each must be valid. How long it took.
async fn until_signed_by(client: &mut Client, secret: &str, expected: &str) -> Duration {
    let began = Instant::now();
    loop {
        let asked = began.elapsed();
        let token = client.token(secret).await;
        assert!(client.validate(&token, MACHINE).await.is_valid());
        if kid(&token) == expected {
            return asked;
        }
        assert!(asked < Duration::from_secs(4), "{expected} does not sign");
        sleep(Duration::from_millis(50)).await;
    }
}

async fn rotating_a_key_is_followed_and_old_tokens_stay_valid(place: Place) {
    let server = place.start().await;
    let site = place.create_site("enterprise");
    let mut client = server.client();
    let old = client.token(&site.secret).await;
    let made = place.ask(["key", "rotate", "--algorithm", "EdDSA"]);
    assert_fields(&made, KEY);
    assert_eq!(made["algorithm"], "EdDSA");
    assert_eq!(made["state"], "pending");
    let new = made["kid"].as_str().unwrap();
    let published = async || published_kids(&server).await;
    follows(vec![new.to_owned()], published).await;
    until_signed_by(&mut client, &site.secret, new).await;
    assert!(client.validate(&old, MACHINE).await.is_valid());
    assert_eq!(key_state(&place, &kid(&old)), "verifying");
    assert_eq!(key_state(&place, new), "signing");
}

async fn published_kids(server: &Server) -> Vec<String> {
    let jwks = server.client().get("/.well-known/jwks.json").await.unwrap();
    let keys = jwks.ok().body()["keys"].clone();
    let kid = |key: &Value| key["kid"].as_str().unwrap().to_owned();
    keys.as_array().unwrap().iter().map(kid).collect()
}

async fn revoking_the_signing_key_waits_for_its_successor(place: Place) {
    let server = place.start().await;
    let site = place.create_site("enterprise");
    let mut client = server.client();
    let old = client.token(&site.secret).await;
    let began = Instant::now();
    let revoked = place.ask(["key", "revoke", &kid(&old)]);
    assert!(
        began.elapsed() >= Duration::from_secs(2),
        "it waits for its successor"
    );
    assert_fields(&revoked, KEY);
    assert_eq!(revoked["state"], "revoked");
    follows("bad_signature".into(), async || reason(&server, &old).await).await;
    let new = client.token(&site.secret).await;
    assert_ne!(kid(&new), kid(&old));
    assert!(client.validate(&new, MACHINE).await.is_valid());
    assert_eq!(key_state(&place, &kid(&new)), "signing");
}

async fn revoking_another_key_leaves_the_signing_one_alone(place: Place) {
    let server = place.start().await;
    let site = place.create_site("enterprise");
    let mut client = server.client();
    let old = client.token(&site.secret).await;
    let made = place.ask(["key", "rotate"]);
    let new = made["kid"].as_str().unwrap();
    until_signed_by(&mut client, &site.secret, new).await;
    assert_eq!(place.ask(["key", "revoke", &kid(&old)])["state"], "revoked");
    follows("bad_signature".into(), async || reason(&server, &old).await).await;
    assert_eq!(kid(&client.token(&site.secret).await), new);
    assert_eq!(place.ask(["key", "list"]).as_array().unwrap().len(), 2);
}
