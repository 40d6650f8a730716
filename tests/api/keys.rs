//! The signing keys, as callers notice them: the JWKS, rotation, revocation.

use std::time::Duration;

use jsonwebtoken::{DecodingKey, Validation, jwk::JwkSet};
use mirrory::keys::{Algorithm, KeyState, SIGNS_AFTER};
use serde_json::{Value, json};

use crate::harness::{Store, TestApp};

on_both_stores! {
    an_hmac_key_is_never_published,
    a_client_can_check_a_token_by_the_published_key,
    the_key_set_may_be_cached,
    tokens_have_the_published_header_and_claims,
    a_new_key_signs_two_seconds_after_it_was_made,
    a_replaced_key_verifies_until_thirty_days_after_its_last_token,
    a_new_key_may_have_another_algorithm,
    a_revoked_key_ends_at_once,
    an_unknown_kid_reads_the_keys_again_at_most_once_a_second,
    a_second_instance_uses_the_same_keys,
    a_restart_keeps_the_keys,
}

const PATH: &str = "/.well-known/jwks.json";

async fn jwks(app: &TestApp) -> Vec<Value> {
    let body = app.get(PATH).await.ok();
    body["keys"].as_array().unwrap().clone()
}

/// A part of a token, decoded: 0 the header, 1 the claims.
fn part(token: &str, index: usize) -> Value {
    let text = token.split('.').nth(index).unwrap();
    let bytes = data_encoding::BASE64URL_NOPAD
        .decode(text.as_bytes())
        .unwrap();
    serde_json::from_slice(&bytes).unwrap()
}

fn kid(token: &str) -> String {
    part(token, 0)["kid"].as_str().unwrap().to_owned()
}

async fn an_hmac_key_is_never_published(store: Store) {
    let app = TestApp::start(store).await;
    let expected = json!({"keys": []});
    assert_eq!(app.get(PATH).await.ok(), expected);
    app.rotate_key(Algorithm::HS256).await;
    app.tick().await;
    assert_eq!(app.get(PATH).await.ok(), expected);
}

async fn a_client_can_check_a_token_by_the_published_key(store: Store) {
    for (algorithm, members) in [
        ("RS256", json!({"kty": "RSA", "e": "AQAB"})),
        ("ES256", json!({"kty": "EC", "crv": "P-256"})),
        ("EdDSA", json!({"kty": "OKP", "crv": "Ed25519"})),
    ] {
        let app = TestApp::with(store, &[("tokens.algorithm", algorithm)]).await;
        let site = app.site("free").await;
        let issued = app.issue(&site).await;
        let keys = jwks(&app).await;
        let [key] = &keys[..] else {
            panic!("{algorithm}: {keys:?}");
        };
        for (name, value) in members.as_object().unwrap() {
            assert_eq!(&key[name], value, "{algorithm}");
        }
        assert_eq!(key["alg"], algorithm);
        assert_eq!(key["use"], "sig");
        assert_eq!(key["kid"], kid(&issued.token));
        for private in ["d", "p", "q", "dp", "dq", "qi", "oth", "k"] {
            assert!(key.get(private).is_none(), "{algorithm} shows {private}");
        }

        let set: JwkSet = serde_json::from_value(json!({"keys": keys})).unwrap();
        let key = DecodingKey::from_jwk(set.find(&kid(&issued.token)).unwrap()).unwrap();
        let mut validation = Validation::new(algorithm.parse().unwrap());
        validation.set_issuer(&["mirrory"]);
        validation.set_audience(&["mirrory-desktop"]);
        validation.validate_exp = false;
        let decoded = jsonwebtoken::decode::<Value>(&issued.token, &key, &validation).unwrap();
        assert_eq!(decoded.claims["jti"], issued.token_id);
        assert!(app.validate(&issued.token, "m").await.is_valid());
    }
}

async fn the_key_set_may_be_cached(store: Store) {
    let app = TestApp::start(store).await;
    let answer = app.get(PATH).await;
    assert_eq!(answer.header("cache-control"), Some("max-age=300"));
    assert_eq!(answer.header("content-type"), Some("application/json"));
}

async fn tokens_have_the_published_header_and_claims(store: Store) {
    let settings = [
        ("tokens.issuer", "https://tokens.example"),
        ("tokens.audience", "the app"),
    ];
    let app = TestApp::with(store, &settings).await;
    let site = app.site("free").await;
    let issued = app.issue(&site).await;
    let header = part(&issued.token, 0);
    assert_eq!(header["alg"], "HS256");
    assert_eq!(header["typ"], "JWT");
    assert_eq!(header.as_object().unwrap().len(), 3);
    assert_eq!(
        part(&issued.token, 1),
        json!({
            "iss": "https://tokens.example",
            "aud": "the app",
            "sub": "12345",
            "site": site.id,
            "jti": issued.token_id,
            "iat": crate::harness::START,
            "exp": crate::harness::START + 86_400,
        })
    );
}

async fn a_new_key_signs_two_seconds_after_it_was_made(store: Store) {
    let app = TestApp::with(store, &[("tokens.algorithm", "ES256")]).await;
    let site = app.site("developer").await;
    let before = app.issue(&site).await.token;
    let made = app.rotate_key(Algorithm::ES256).await;
    app.tick().await;
    // It is published before it signs.
    assert_eq!(jwks(&app).await.len(), 2);
    app.advance(Duration::from_micros(1_999_999));
    app.tick().await;
    let still = app.issue(&site).await.token;
    assert_eq!(kid(&still), kid(&before));
    app.advance(Duration::from_micros(1));
    let after = app.issue(&site).await.token;
    assert_eq!(kid(&after), made.as_str());
    for token in [before, still, after] {
        assert!(app.validate(&token, "m").await.is_valid());
    }
    assert_eq!(jwks(&app).await.len(), 2);
}

/// An old key that verifies tells `expired`; one that does not, `bad_signature`.
async fn a_replaced_key_verifies_until_thirty_days_after_its_last_token(store: Store) {
    let app = TestApp::with(store, &[("tokens.algorithm", "EdDSA")]).await;
    let site = app.site("developer").await;
    app.issue(&site).await;
    app.rotate_key(Algorithm::EdDSA).await;
    // It signs until the new one does.
    app.advance(Duration::from_secs(1));
    let last = app.issue(&site).await;
    let ends = crate::harness::at(&last.expires_at);
    let verifies_until = ends.after(Duration::from_hours(30 * 24));
    app.clock
        .set_wall(verifies_until.before(Duration::from_secs(1)));
    assert_eq!(app.validate(&last.token, "m").await.reason(), "expired");
    assert_eq!(jwks(&app).await.len(), 2);
    app.clock.set_wall(verifies_until.after(SIGNS_AFTER));
    assert_eq!(
        app.validate(&last.token, "m").await.reason(),
        "bad_signature"
    );
    assert_eq!(jwks(&app).await.len(), 1);
    app.background.janitor.round().await.unwrap();
    assert_eq!(app.keys().await.len(), 1);
    let new = app.issue(&site).await;
    assert!(app.validate(&new.token, "m").await.is_valid());
}

async fn a_new_key_may_have_another_algorithm(store: Store) {
    let app = TestApp::start(store).await;
    let site = app.site("developer").await;
    let old = app.issue(&site).await.token;
    app.rotate_key(Algorithm::ES256).await;
    app.advance(SIGNS_AFTER);
    let new = app.issue(&site).await.token;
    assert_eq!(part(&new, 0)["alg"], "ES256");
    let keys = jwks(&app).await;
    assert_eq!(keys.len(), 1);
    assert_eq!(keys[0]["kid"], kid(&new));
    for token in [old, new] {
        assert!(app.validate(&token, "m").await.is_valid());
    }
}

async fn a_revoked_key_ends_at_once(store: Store) {
    let app = TestApp::with(store, &[("tokens.algorithm", "ES256")]).await;
    let site = app.site("developer").await;
    let old = app.issue(&site).await.token;
    let first = app.keys().await[0].kid.clone();
    app.rotate_key(Algorithm::ES256).await;
    app.advance(SIGNS_AFTER);
    let new = app.issue(&site).await.token;
    app.revoke_key(&first).await;
    app.tick().await;
    assert_eq!(app.validate(&old, "m").await.reason(), "bad_signature");
    assert!(app.validate(&new, "m").await.is_valid());
    let keys = jwks(&app).await;
    assert_eq!(keys.len(), 1);
    assert_eq!(keys[0]["kid"], kid(&new));
    let states: Vec<_> = app.keys().await.iter().map(|key| key.state).collect();
    assert_eq!(states, [KeyState::Revoked, KeyState::Signing]);
}

/// The clock of the instance that signs runs ahead, so that a key signs while the other instance
/// has just read the keys without it.
async fn an_unknown_kid_reads_the_keys_again_at_most_once_a_second(store: Store) {
    let signer = TestApp::start(store).await;
    let verifier = signer.another().await;
    let site = signer.site("developer").await;
    let mut tokens = Vec::new();
    for _ in 0..2 {
        verifier.tick().await;
        signer.rotate_key(Algorithm::HS256).await;
        signer.advance(SIGNS_AFTER);
        tokens.push(signer.issue(&site).await.token);
        // Fresh, as if there were nothing new in the change log.
        verifier
            .freshness
            .extend_from(verifier.clock.clock().monotonic());
        if let [first] = &tokens[..] {
            assert!(verifier.validate(first, "m").await.is_valid());
        }
    }
    // The second loop's tick has read the first key, its own key came later: it is unknown.
    let second = &tokens[1];
    assert_eq!(
        verifier.validate(second, "m").await.reason(),
        "bad_signature"
    );
    verifier.advance(Duration::from_millis(999));
    assert!(verifier.freshness.holds());
    assert_eq!(
        verifier.validate(second, "m").await.reason(),
        "bad_signature"
    );
    verifier.advance(Duration::from_millis(1));
    verifier
        .freshness
        .extend_from(verifier.clock.clock().monotonic());
    assert!(verifier.validate(second, "m").await.is_valid());
}

async fn a_second_instance_uses_the_same_keys(store: Store) {
    let one = TestApp::with(store, &[("tokens.algorithm", "ES256")]).await;
    let two = one.another().await;
    let site = one.site("developer").await;
    let (first, second) = (one.issue(&site).await, two.issue(&site).await);
    assert_eq!(kid(&first.token), kid(&second.token));
    assert_eq!(jwks(&one).await, jwks(&two).await);
    assert!(two.validate(&first.token, "m").await.is_valid());
    assert!(one.validate(&second.token, "m").await.is_valid());
}

async fn a_restart_keeps_the_keys(store: Store) {
    let app = TestApp::start(store).await;
    let site = app.site("free").await;
    let issued = app.issue(&site).await;
    // The algorithm is the first key's, and the first key is there.
    let again = app.restarted(&[("tokens.algorithm", "ES256")]).await;
    assert!(again.validate(&issued.token, "m").await.is_valid());
    let second = again.issue(&site).await;
    assert_eq!(kid(&second.token), kid(&issued.token));
}
