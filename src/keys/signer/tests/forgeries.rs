//! Well-formed tokens that this service did not sign, or not so: the cases of RFC 8725.

use aws_lc_rs::{
    encoding::{AsDer, PublicKeyX509Der},
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RsaKeyPair,
    },
};
use base64::engine::general_purpose::STANDARD;

use super::*;

const HMAC: jsonwebtoken::Algorithm = jsonwebtoken::Algorithm::HS256;

fn set(object: &Value, name: &str, value: impl Into<Value>) -> String {
    let mut object = object.clone();
    object[name] = value.into();
    object.to_string()
}

fn hmac(secret: &[u8], header: impl AsRef<[u8]>, claims: impl AsRef<[u8]>) -> String {
    let input = format!("{}.{}", encode(header), encode(claims));
    let secret = EncodingKey::from_secret(secret);
    let signature = jsonwebtoken::crypto::sign(input.as_bytes(), &secret, HMAC).unwrap();
    format!("{input}.{signature}")
}

/// RFC 8725, section 2.1.
#[test]
fn unsecured_token_is_refused_in_any_spelling_of_none() {
    for key in keys() {
        for none in ["none", "None", "NONE", "nOnE", "", " none", "none\0"] {
            let header = set(&header_of(key), "alg", none);
            let right = signed(key, &header, claims_of(key).to_string());
            bad_signature(key, &right, "signed all the same");
            let (input, _) = taken_apart(&right);
            bad_signature(key, &format!("{input}."), "without a signature");
        }
    }
}

/// RFC 8725, section 3.1: the name must be the key's, also with a right signature.
#[test]
fn another_algorithm_in_the_header_is_refused() {
    for key in keys() {
        let names = Algorithm::ALL.map(Algorithm::name).into_iter();
        let others = names.filter(|name| *name != key.algorithm().name());
        for name in others.chain([
            "HS384", "HS512", "RS384", "PS256", "ES384", "Ed25519", "hs256",
        ]) {
            let header = set(&header_of(key), "alg", name);
            bad_signature(key, &signed(key, header, claims_of(key).to_string()), name);
        }
    }
}

/// A public key as the library has it, and as an X.509 `SubjectPublicKeyInfo`.
fn raw_and_der<K: AsRef<[u8]> + AsDer<PublicKeyX509Der<'static>>>(key: &K) -> [Vec<u8>; 2] {
    let der = key.as_der().unwrap();
    [key.as_ref().to_vec(), der.as_ref().to_vec()]
}

/// The public key in each form in which an attacker could have it.
fn public_forms(key: &SigningKey) -> Vec<Vec<u8>> {
    let private = private_key(key.algorithm()).reveal();
    let p256 = &ECDSA_P256_SHA256_FIXED_SIGNING;
    let [raw, der] = match key.algorithm() {
        Algorithm::RS256 => raw_and_der(RsaKeyPair::from_der(private).unwrap().public_key()),
        Algorithm::ES256 => raw_and_der(
            EcdsaKeyPair::from_pkcs8(p256, private)
                .unwrap()
                .public_key(),
        ),
        Algorithm::EdDSA => raw_and_der(Ed25519KeyPair::from_pkcs8(private).unwrap().public_key()),
        Algorithm::HS256 => unreachable!("it has no public half"),
    };
    let base64 = STANDARD.encode(&der);
    let lines = base64.as_bytes().chunks(64);
    let lines: Vec<_> = lines.map(|line| str::from_utf8(line).unwrap()).collect();
    let body = lines.join("\n");
    let pem = format!("-----BEGIN PUBLIC KEY-----\n{body}\n-----END PUBLIC KEY-----\n");
    let without_line_end = pem.trim_end().to_owned();
    let jwk = json!(key.public_jwk());
    let member = jwk
        .get("n")
        .unwrap_or(&jwk["x"])
        .as_str()
        .unwrap()
        .to_owned();
    let jwk = serde_json::to_string(&key.public_jwk()).unwrap();
    let jwks = serde_json::to_string(&keys().collect::<Jwks>()).unwrap();
    let texts = [base64, pem, without_line_end, member, jwk, jwks];
    let texts = texts.map(String::into_bytes).into_iter();
    texts.chain([raw, der, Vec::new()]).collect()
}

/// RFC 8725, section 2.1: the classic confusion of a public key with an HMAC secret.
#[test]
fn public_key_as_an_hmac_secret_is_refused() {
    for key in keys().filter(|key| key.algorithm() != Algorithm::HS256) {
        for secret in public_forms(key) {
            for alg in ["HS256", key.algorithm().name()] {
                let header = set(&header_of(key), "alg", alg);
                bad_signature(key, &hmac(&secret, header, claims_of(key).to_string()), alg);
            }
        }
    }
}

#[test]
fn public_key_algorithm_under_the_kid_of_an_hmac_key_is_refused() {
    let hmac_key = key(Algorithm::HS256);
    for attacker in keys().filter(|key| key.algorithm() != Algorithm::HS256) {
        for alg in ["HS256", attacker.algorithm().name()] {
            let header = set(&header_of(hmac_key), "alg", alg);
            bad_signature(
                hmac_key,
                &signed(attacker, header, claims_of(hmac_key).to_string()),
                alg,
            );
        }
    }
}

#[test]
fn token_under_another_kid_is_refused() {
    for key in keys() {
        let header = header_of(key);
        let unknown = Kid::generate(&Randomness::system());
        for kid in [
            json!(unknown),
            json!(""),
            json!("../../dev/null"),
            json!(null),
        ] {
            let token = signed(key, set(&header, "kid", kid), claims_of(key).to_string());
            bad_signature(key, &token, "the kid of no key");
        }
        for other in keys().filter(|other| other.kid() != key.kid()) {
            let token = signed(
                key,
                set(&header, "kid", other.kid().as_str()),
                claims_of(key).to_string(),
            );
            bad_signature(key, &token, "the kid of another key");
            bad_signature(other, &token, "the kid of a key that did not sign");
            bad_signature(
                other,
                &key.sign(&claims()).unwrap(),
                "a token of another key",
            );
        }
        let without = json!({"alg": key.algorithm().name(), "typ": "JWT"}).to_string();
        let token = signed(key, without, claims_of(key).to_string());
        assert_eq!(UnverifiedToken::parse(&token).unwrap().kid(), None);
        bad_signature(key, &token, "no kid");
    }
}

#[test]
fn token_of_another_key_with_the_same_kid_is_refused() {
    for key in keys().filter(|key| key.algorithm() != Algorithm::RS256) {
        let other = PrivateKey::generate(key.algorithm(), &Randomness::system()).unwrap();
        let other = SigningKey::new(key.kid().clone(), &other, ISSUER, AUDIENCE).unwrap();
        bad_signature(key, &other.sign(&claims()).unwrap(), "other material");
    }
}

/// RFC 7515, section 4.1.11: what must be understood and is not, is refused; we understand none.
#[test]
fn critical_header_members_are_refused_whatever_they_are() {
    for key in keys() {
        for crit in [
            json!(["exp"]),
            json!(["b64"]),
            json!([]),
            json!(null),
            json!("kid"),
            json!(1),
        ] {
            let header = set(&header_of(key), "crit", crit);
            bad_signature(
                key,
                &signed(key, header, claims_of(key).to_string()),
                "crit",
            );
        }
    }
}

/// RFC 8725, section 3.11.
#[test]
fn another_type_is_refused() {
    for key in keys() {
        for typ in [
            json!("at+jwt"),
            json!("jwt"),
            json!("application/jwt"),
            json!(""),
            json!(null),
        ] {
            let header = set(&header_of(key), "typ", typ);
            bad_signature(key, &signed(key, header, claims_of(key).to_string()), "typ");
        }
        let header = json!({"alg": key.algorithm().name(), "kid": key.kid()}).to_string();
        bad_signature(
            key,
            &signed(key, header, claims_of(key).to_string()),
            "no typ",
        );
    }
}

/// RFC 8725, sections 3.8 and 3.9: exactly ours, also with a right signature.
#[test]
fn another_issuer_or_audience_is_refused() {
    for key in keys() {
        for (name, ours) in [("iss", ISSUER), ("aud", AUDIENCE)] {
            for other in [
                "",
                "other",
                &ours.to_uppercase(),
                &format!("{ours} "),
                &ours[1..],
            ] {
                let claims = set(&claims_of(key), name, other);
                bad_signature(key, &signed(key, header_of(key).to_string(), claims), name);
            }
        }
        let swapped = set(&claims_of(key), "iss", AUDIENCE);
        bad_signature(
            key,
            &signed(key, header_of(key).to_string(), swapped),
            "swapped",
        );
    }
    let private_key = private_key(Algorithm::HS256);
    let kid = key(Algorithm::HS256).kid();
    for (issuer, audience) in [("other", AUDIENCE), (ISSUER, "other")] {
        let other = SigningKey::new(kid.clone(), private_key, issuer, audience).unwrap();
        bad_signature(
            key(Algorithm::HS256),
            &other.sign(&claims()).unwrap(),
            "another service",
        );
    }
}

#[test]
fn ids_that_we_never_sign_are_refused() {
    for key in keys() {
        for (name, other) in [
            ("sub", "0"),
            ("sub", "012345"),
            ("sub", "9223372036854775808"),
            ("sub", "admin"),
            ("site", "site_"),
            ("site", "SITE_01H455VB4PEX5VSKNK084SN02Q"),
            ("jti", "01890A5D-AC96-774B-BCCE-B302099A8057"),
            ("jti", ""),
        ] {
            let claims = set(&claims_of(key), name, other);
            bad_signature(key, &signed(key, header_of(key).to_string(), claims), name);
        }
    }
}

#[test]
fn every_changed_claim_breaks_the_signature() {
    for key in keys() {
        let token = key.sign(&claims()).unwrap();
        let (header, rest) = token.split_once('.').unwrap();
        let signature = rest.split_once('.').unwrap().1;
        for (name, value) in claims_of(key).as_object().unwrap() {
            let other = match value {
                Value::String(text) => json!(text.replace('1', "2").replace('m', "n")),
                number => json!(number.as_i64().unwrap() + 1),
            };
            assert_ne!(&other, value);
            let claims = encode(set(&claims_of(key), name, other));
            bad_signature(key, &format!("{header}.{claims}.{signature}"), name);
        }
        let more = encode(set(&claims_of(key), "plan", "enterprise"));
        bad_signature(
            key,
            &format!("{header}.{more}.{signature}"),
            "one more claim",
        );
        let spaced = encode(serde_json::to_string_pretty(&claims_of(key)).unwrap());
        bad_signature(
            key,
            &format!("{header}.{spaced}.{signature}"),
            "other white space",
        );
    }
}

/// RFC 8725, section 3.10: keys in or behind a header are an attacker's.
#[test]
fn key_in_the_header_is_not_used() {
    let randomness = Randomness::system();
    for algorithm in [Algorithm::ES256, Algorithm::EdDSA] {
        let key = key(algorithm);
        let attacker = PrivateKey::generate(algorithm, &randomness).unwrap();
        let attacker = signing_key(&attacker);
        let mut header = header_of(key);
        header["jwk"] = json!(attacker.public_jwk());
        header["jku"] = json!("https://attacker.example/jwks.json");
        header["x5u"] = json!("https://attacker.example/cert.pem");
        header["x5c"] = json!(["AAAA"]);
        bad_signature(
            key,
            &signed(&attacker, header.to_string(), claims_of(key).to_string()),
            "jwk",
        );
        let right = signed(key, header.to_string(), claims_of(key).to_string());
        assert_eq!(check(key, &right), Ok(claims()), "ignored, not feared");
    }
    let secret = [7; 32];
    let mut header = header_of(key(Algorithm::HS256));
    header["jwk"] = json!({"kty": "oct", "k": encode(secret)});
    let token = hmac(
        &secret,
        header.to_string(),
        claims_of(key(Algorithm::HS256)).to_string(),
    );
    bad_signature(key(Algorithm::HS256), &token, "an HMAC key in the header");
}

/// RFC 7797: without `crit` the member means nothing, and the claims are base64url as ever.
#[test]
fn unencoded_payload_is_not_known() {
    let key = key(Algorithm::HS256);
    let header = set(&header_of(key), "b64", false);
    let token = signed(key, &header, claims_of(key).to_string());
    assert_eq!(check(key, &token), Ok(claims()));
    let raw = format!("{}.{}", encode(&header), claims_of(key));
    let signature = jsonwebtoken::crypto::sign(raw.as_bytes(), &key.encoding, HMAC).unwrap();
    assert_eq!(check(key, &format!("{raw}.{signature}")), Err("malformed"));
}

#[test]
fn huge_header_is_borne() {
    let key = key(Algorithm::HS256);
    let header = set(&header_of(key), "x5c", vec!["A".repeat(1000); 1000]);
    let token = signed(key, &header, claims_of(key).to_string());
    assert_eq!(check(key, &token), Ok(claims()));
    let header = set(&header_of(key), "kid", "k".repeat(1_000_000));
    bad_signature(
        key,
        &signed(key, header, claims_of(key).to_string()),
        "a huge kid",
    );
}
