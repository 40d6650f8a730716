//! Forged tokens over HTTP: each is refused with its reason, and shows nothing.

use aws_lc_rs::hmac;
use data_encoding::BASE64URL_NOPAD;
use serde_json::{Value, json};

use crate::harness::{Issued, Store, TestApp, TestSite};

on_both_stores! {
    a_token_that_we_would_have_signed_is_taken,
    no_algorithm_is_no_signature,
    another_algorithm_than_the_keys_is_refused,
    a_public_key_is_no_hmac_secret,
    an_unknown_or_missing_kid_is_refused,
    a_critical_header_is_refused,
    another_type_is_refused,
    a_token_for_another_issuer_or_audience_is_refused,
    a_claim_that_differs_from_the_record_is_refused,
    a_changed_claim_breaks_the_signature,
    a_missing_claim_is_malformed,
    a_token_without_a_record_is_unknown,
    a_key_inside_the_header_is_not_used,
    a_token_of_another_service_is_refused,
}

/// A service, a token of it, and its stolen key.
struct Heist {
    app: TestApp,
    site: TestSite,
    issued: Issued,
    kid: String,
    key: hmac::Key,
}

impl Heist {
    async fn on(store: Store) -> Self {
        let app = TestApp::with(store, &[("limits.failures_per_minute", "0")]).await;
        let site = app.site("professional").await;
        let issued = app.issue(&site).await;
        let (kid, key) = app.stolen_key().await;
        Self {
            app,
            site,
            issued,
            kid,
            key,
        }
    }

    fn header(&self) -> Value {
        json!({"alg": "HS256", "typ": "JWT", "kid": self.kid})
    }

    fn claims(&self) -> Value {
        part(&self.issued.token, 1)
    }

    /// A token whose signature is right, whatever else it says.
    fn signed(&self, header: &Value, claims: &Value) -> String {
        let input = format!("{}.{}", encode(header), encode(claims));
        let signature = hmac::sign(&self.key, input.as_bytes());
        format!("{input}.{}", BASE64URL_NOPAD.encode(signature.as_ref()))
    }

    async fn assert_refused(&self, reason: &str, token: &str) {
        let answer = self.app.validate(token, "m").await;
        assert_eq!(answer.reason(), reason, "{token}");
        assert_eq!(answer.body, json!({"valid": false, "reason": reason}));
    }
}

fn encode(value: &Value) -> String {
    BASE64URL_NOPAD.encode(value.to_string().as_bytes())
}

fn part(token: &str, index: usize) -> Value {
    let text = token.split('.').nth(index).unwrap();
    serde_json::from_slice(&BASE64URL_NOPAD.decode(text.as_bytes()).unwrap()).unwrap()
}

fn with(value: &Value, member: &str, changed: Value) -> Value {
    let mut value = value.clone();
    value[member] = changed;
    value
}

fn without(value: &Value, member: &str) -> Value {
    let mut value = value.clone();
    value.as_object_mut().unwrap().remove(member).unwrap();
    value
}

/// Else all the others would prove nothing.
async fn a_token_that_we_would_have_signed_is_taken(store: Store) {
    let heist = Heist::on(store).await;
    let token = heist.signed(&heist.header(), &heist.claims());
    assert!(heist.app.validate(&token, "m").await.is_valid());
}

async fn no_algorithm_is_no_signature(store: Store) {
    let heist = Heist::on(store).await;
    for algorithm in ["none", "None", "NONE", "nOnE", ""] {
        let header = with(&heist.header(), "alg", json!(algorithm));
        let token = format!("{}.{}.", encode(&header), encode(&heist.claims()));
        heist.assert_refused("bad_signature", &token).await;
        let token = heist.signed(&header, &heist.claims());
        heist.assert_refused("bad_signature", &token).await;
    }
}

async fn another_algorithm_than_the_keys_is_refused(store: Store) {
    let heist = Heist::on(store).await;
    for algorithm in [
        "HS384", "HS512", "hs256", "RS256", "ES256", "EdDSA", "PS256",
    ] {
        let header = with(&heist.header(), "alg", json!(algorithm));
        let token = heist.signed(&header, &heist.claims());
        heist.assert_refused("bad_signature", &token).await;
    }
    for algorithm in [Value::Null, json!(1), json!(["HS256"])] {
        let header = with(&heist.header(), "alg", algorithm);
        let token = heist.signed(&header, &heist.claims());
        heist.assert_refused("malformed", &token).await;
    }
    let token = heist.signed(&without(&heist.header(), "alg"), &heist.claims());
    heist.assert_refused("malformed", &token).await;
}

/// RFC 8725, section 2.1: the public key is known to all.
async fn a_public_key_is_no_hmac_secret(store: Store) {
    for algorithm in ["RS256", "ES256", "EdDSA"] {
        let settings = [
            ("tokens.algorithm", algorithm),
            ("limits.failures_per_minute", "0"),
        ];
        let app = TestApp::with(store, &settings).await;
        let site = app.site("free").await;
        let issued = app.issue(&site).await;
        let jwk = app.get("/.well-known/jwks.json").await.ok()["keys"][0].clone();
        let header = json!({"alg": "HS256", "typ": "JWT", "kid": jwk["kid"]});
        let input = format!("{}.{}", encode(&header), encode(&part(&issued.token, 1)));
        let mut secrets = vec![jwk.to_string().into_bytes()];
        for member in ["n", "x", "y", "e"] {
            if let Some(text) = jwk[member].as_str() {
                secrets.push(text.as_bytes().to_vec());
                secrets.push(BASE64URL_NOPAD.decode(text.as_bytes()).unwrap());
            }
        }
        for secret in secrets {
            let signature = hmac::sign(
                &hmac::Key::new(hmac::HMAC_SHA256, &secret),
                input.as_bytes(),
            );
            let token = format!("{input}.{}", BASE64URL_NOPAD.encode(signature.as_ref()));
            let answer = app.validate(&token, "m").await;
            assert_eq!(answer.reason(), "bad_signature", "{algorithm}");
        }
    }
}

async fn an_unknown_or_missing_kid_is_refused(store: Store) {
    let heist = Heist::on(store).await;
    for kid in ["", "unknown", "../../dev/null", "' OR 1=1 --", "0"] {
        let token = heist.signed(&with(&heist.header(), "kid", json!(kid)), &heist.claims());
        heist.assert_refused("bad_signature", &token).await;
    }
    let token = heist.signed(&without(&heist.header(), "kid"), &heist.claims());
    heist.assert_refused("bad_signature", &token).await;
}

async fn a_critical_header_is_refused(store: Store) {
    let heist = Heist::on(store).await;
    for critical in [
        json!(["b64"]),
        json!([]),
        json!(["exp"]),
        Value::Null,
        json!("x"),
    ] {
        let header = with(&heist.header(), "crit", critical);
        let token = heist.signed(&header, &heist.claims());
        heist.assert_refused("bad_signature", &token).await;
    }
}

async fn another_type_is_refused(store: Store) {
    let heist = Heist::on(store).await;
    for kind in ["jwt", "at+jwt", "JWS", ""] {
        let token = heist.signed(&with(&heist.header(), "typ", json!(kind)), &heist.claims());
        heist.assert_refused("bad_signature", &token).await;
    }
    let token = heist.signed(&without(&heist.header(), "typ"), &heist.claims());
    heist.assert_refused("bad_signature", &token).await;
}

async fn a_token_for_another_issuer_or_audience_is_refused(store: Store) {
    let heist = Heist::on(store).await;
    for claim in ["iss", "aud"] {
        for value in ["", "another", "Mirrory", "mirrory-desktop ", "mirrory/"] {
            let claims = with(&heist.claims(), claim, json!(value));
            let token = heist.signed(&heist.header(), &claims);
            heist.assert_refused("bad_signature", &token).await;
        }
    }
    let claims = with(&heist.claims(), "aud", json!(["mirrory-desktop"]));
    let token = heist.signed(&heist.header(), &claims);
    heist.assert_refused("malformed", &token).await;
}

async fn a_claim_that_differs_from_the_record_is_refused(store: Store) {
    let heist = Heist::on(store).await;
    let other_site = heist.app.site("free").await;
    let other_token = heist.app.issue(&heist.site).await;
    let claims = heist.claims();
    let exp = claims["exp"].as_i64().unwrap();
    heist.app.advance(std::time::Duration::from_secs(5));
    for (claim, value) in [
        ("sub", json!("1")),
        ("site", json!(other_site.id)),
        ("iat", json!(claims["iat"].as_i64().unwrap() - 1)),
        ("exp", json!(exp + 1)),
        ("exp", json!(exp + 86_400 * 365)),
        // Over already, by its own word; but its word is not the record's.
        ("exp", json!(1)),
    ] {
        let token = heist.signed(&heist.header(), &with(&claims, claim, value));
        heist.assert_refused("bad_signature", &token).await;
    }
    // Another token of the same user, but for its times.
    let mixed = with(&claims, "jti", json!(other_token.token_id));
    let mixed = with(&mixed, "exp", json!(exp + 1));
    let token = heist.signed(&heist.header(), &mixed);
    heist.assert_refused("bad_signature", &token).await;
}

async fn a_changed_claim_breaks_the_signature(store: Store) {
    let heist = Heist::on(store).await;
    let parts: Vec<_> = heist.issued.token.split('.').collect();
    let claims = with(&heist.claims(), "sub", json!("1"));
    let token = format!("{}.{}.{}", parts[0], encode(&claims), parts[2]);
    heist.assert_refused("bad_signature", &token).await;
    let longer = format!("{}.{}.{}AA", parts[0], parts[1], &parts[2][..40]);
    heist.assert_refused("bad_signature", &longer).await;
    let empty = format!("{}.{}.", parts[0], parts[1]);
    heist.assert_refused("bad_signature", &empty).await;
}

async fn a_missing_claim_is_malformed(store: Store) {
    let heist = Heist::on(store).await;
    for claim in ["iss", "aud", "sub", "site", "jti", "iat", "exp"] {
        let token = heist.signed(&heist.header(), &without(&heist.claims(), claim));
        heist.assert_refused("malformed", &token).await;
        let claims = with(&heist.claims(), claim, json!({}));
        let token = heist.signed(&heist.header(), &claims);
        heist.assert_refused("malformed", &token).await;
    }
}

async fn a_token_without_a_record_is_unknown(store: Store) {
    let heist = Heist::on(store).await;
    let unknown = json!("01890a5d-ac96-774b-bcce-b302099a8057");
    let claims = with(&heist.claims(), "jti", unknown);
    let token = heist.signed(&heist.header(), &claims);
    heist.assert_refused("unknown_token", &token).await;
}

/// RFC 8725, section 3.10: what a header points to is not fetched, and not believed.
async fn a_key_inside_the_header_is_not_used(store: Store) {
    let heist = Heist::on(store).await;
    let own = hmac::Key::new(hmac::HMAC_SHA256, &[7; 32]);
    let jwk = json!({"kty": "oct", "k": BASE64URL_NOPAD.encode(&[7; 32]), "kid": heist.kid});
    for (member, value) in [
        ("jwk", jwk),
        ("jku", json!("https://evil.example/jwks.json")),
        ("x5u", json!("https://evil.example/cert.pem")),
    ] {
        let header = with(&heist.header(), member, value);
        let input = format!("{}.{}", encode(&header), encode(&heist.claims()));
        let signature = hmac::sign(&own, input.as_bytes());
        let token = format!("{input}.{}", BASE64URL_NOPAD.encode(signature.as_ref()));
        heist.assert_refused("bad_signature", &token).await;
    }
}

async fn a_token_of_another_service_is_refused(store: Store) {
    let heist = Heist::on(store).await;
    let other = TestApp::start(store).await;
    let site = other.site("free").await;
    let foreign = other.issue(&site).await.token;
    heist.assert_refused("bad_signature", &foreign).await;
    assert!(other.validate(&foreign, "m").await.is_valid());
}
