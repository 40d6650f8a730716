use std::sync::LazyLock;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::Validation;
use serde_json::{Value, json};

use super::*;
use crate::types::randomness::Randomness;

mod forgeries;
mod malformed;
mod material;
mod properties;
mod signatures;
mod vectors;

const ISSUER: &str = "mirrory";
const AUDIENCE: &str = "mirrory-desktop";

/// A key of each algorithm with its private half; made once, since RSA takes its time.
static KEYS: LazyLock<[(SigningKey, PrivateKey); 4]> = LazyLock::new(|| {
    let randomness = Randomness::seeded(1);
    Algorithm::ALL.map(|algorithm| {
        let private_key = PrivateKey::generate(algorithm, &randomness).unwrap();
        (signing_key(&private_key), private_key)
    })
});

fn signing_key(private_key: &PrivateKey) -> SigningKey {
    let kid = Kid::generate(&Randomness::system());
    SigningKey::new(kid, private_key, ISSUER, AUDIENCE).unwrap()
}

fn keys() -> impl Iterator<Item = &'static SigningKey> {
    KEYS.iter().map(|(key, _)| key)
}

fn key(algorithm: Algorithm) -> &'static SigningKey {
    keys().find(|key| key.algorithm() == algorithm).unwrap()
}

fn private_key(algorithm: Algorithm) -> &'static PrivateKey {
    let (_, private_key) = KEYS
        .iter()
        .find(|(key, _)| key.algorithm() == algorithm)
        .unwrap();
    private_key
}

fn claims() -> TokenClaims {
    let randomness = Randomness::seeded(2);
    let now = Timestamp::from_seconds(1_800_000_000);
    TokenClaims {
        site_id: SiteId::new(now, &randomness),
        token_id: TokenId::new(now, &randomness),
        user_id: WpUserId::parse("12345").unwrap(),
        issued_at: now,
        expires_at: Timestamp::from_seconds(1_800_086_400),
    }
}

/// The whole way of a token that came in.
fn check(key: &SigningKey, token: &str) -> Result<TokenClaims, &'static str> {
    let token = UnverifiedToken::parse(token).map_err(|Malformed| "malformed")?;
    key.verify(&token).map_err(|BadSignature| "bad signature")
}

/// Checks that a token of good form is not taken for one of `key`'s.
fn bad_signature(key: &SigningKey, token: &str, why: &str) {
    let verdict = check(key, token);
    assert_eq!(verdict, Err("bad signature"), "{why} ({})", key.algorithm());
}

fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The token's first two parts, and the bytes of its signature.
fn taken_apart(token: &str) -> (&str, Vec<u8>) {
    (token.rsplit_once('.').unwrap().0, part(token, 2))
}

fn part(token: &str, index: usize) -> Vec<u8> {
    URL_SAFE_NO_PAD
        .decode(token.split('.').nth(index).unwrap())
        .unwrap()
}

/// What `key` would write as a header.
fn header_of(key: &SigningKey) -> Value {
    serde_json::to_value(&key.header).unwrap()
}

/// What `key` would write as claims.
fn claims_of(key: &SigningKey) -> Value {
    serde_json::from_slice(&part(&key.sign(&claims()).unwrap(), 1)).unwrap()
}

/// Signs any two texts with the right key and algorithm, as only this service could.
fn signed(key: &SigningKey, header: impl AsRef<[u8]>, claims: impl AsRef<[u8]>) -> String {
    let input = format!("{}.{}", encode(header), encode(claims));
    let signature =
        jsonwebtoken::crypto::sign(input.as_bytes(), &key.encoding, jwa(key.algorithm)).unwrap();
    format!("{input}.{signature}")
}

#[test]
fn every_algorithm_signs_and_verifies_its_own_token() {
    for key in keys() {
        let token = key.sign(&claims()).unwrap();
        assert_eq!(check(key, &token), Ok(claims()), "{}", key.algorithm());
        assert_eq!(
            UnverifiedToken::parse(&token).unwrap().kid(),
            Some(key.kid().as_str())
        );
    }
}

#[test]
fn header_and_claims_are_the_published_ones() {
    for key in keys() {
        let token = key.sign(&claims()).unwrap();
        let header: Value = serde_json::from_slice(&part(&token, 0)).unwrap();
        let expected =
            json!({"alg": key.algorithm().name(), "typ": "JWT", "kid": key.kid().as_str()});
        assert_eq!(header, expected);
        let claims: Value = serde_json::from_slice(&part(&token, 1)).unwrap();
        let expected = json!({
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": "12345",
            "site": self::claims().site_id.to_string(),
            "jti": self::claims().token_id.to_string(),
            "iat": 1_800_000_000,
            "exp": 1_800_086_400,
        });
        assert_eq!(claims, expected);
    }
}

#[test]
fn fraction_of_a_second_is_cut_off_by_signing() {
    let key = key(Algorithm::HS256);
    let exact = TokenClaims {
        issued_at: Timestamp::from_micros(1_800_000_000_999_999),
        ..claims()
    };
    assert_eq!(check(key, &key.sign(&exact).unwrap()), Ok(claims()));
}

#[test]
fn expired_token_is_left_to_the_caller() {
    let key = key(Algorithm::HS256);
    let expired = TokenClaims {
        issued_at: Timestamp::from_seconds(0),
        expires_at: Timestamp::from_seconds(1),
        ..claims()
    };
    assert_eq!(check(key, &key.sign(&expired).unwrap()), Ok(expired));
}

#[test]
fn public_jwk_alone_verifies_for_a_client() {
    for key in keys().filter(|key| key.algorithm() != Algorithm::HS256) {
        let published = serde_json::to_string(key.public_jwk().unwrap()).unwrap();
        let jwk: Jwk = serde_json::from_str(&published).unwrap();
        let mut validation = Validation::new(jwa(key.algorithm()));
        validation.set_issuer(&[ISSUER]);
        validation.set_audience(&[AUDIENCE]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        validation.validate_exp = false;
        let token = key.sign(&claims()).unwrap();
        let public_key = DecodingKey::from_jwk(&jwk).unwrap();
        let data = jsonwebtoken::decode::<Value>(token, &public_key, &validation).unwrap();
        assert_eq!(data.claims, claims_of(key));
    }
}

#[test]
fn nothing_shows_a_key_or_a_token() {
    for (key, private_key) in KEYS.iter() {
        let token = key.sign(&claims()).unwrap();
        let token = UnverifiedToken::parse(&token).unwrap();
        assert_eq!(
            format!("{private_key:?} {token:?}"),
            "[private key] [unverified token]"
        );
        let shown = format!("{key:?}");
        for secret in [
            &encode(private_key.reveal())[8..],
            &format!("{:?}", private_key.reveal()),
        ] {
            assert!(!shown.contains(&secret[..20]), "{}", key.algorithm());
        }
        assert!(shown.contains("[redacted]"));
    }
}
