//! Keys, their names, their private and their public half.

use std::collections::HashSet;

use clap::ValueEnum;

use super::*;

#[test]
fn private_key_survives_being_stored() {
    for algorithm in Algorithm::ALL {
        let stored = private_key(algorithm).reveal().to_vec();
        let restored = PrivateKey::from_bytes(algorithm, &stored);
        let key = key(algorithm);
        let restored = SigningKey::new(key.kid().clone(), &restored, ISSUER, AUDIENCE).unwrap();
        let token = restored.sign(&claims()).unwrap();
        assert_eq!(check(key, &token), Ok(claims()), "{algorithm}");
        assert_eq!(restored.public_jwk(), key.public_jwk());
    }
}

#[test]
fn bytes_that_are_no_key_of_the_algorithm_are_refused() {
    for algorithm in Algorithm::ALL {
        let good = private_key(algorithm).reveal();
        let others = Algorithm::ALL
            .into_iter()
            .filter(|other| *other != algorithm);
        let of_others = others.map(|other| private_key(other).reveal());
        for bytes in of_others.chain([&b""[..], b"\x30", &good[1..], &good[..good.len() - 1]]) {
            let kid = Kid::generate(&Randomness::system());
            let private_key = PrivateKey::from_bytes(algorithm, bytes);
            let key = SigningKey::new(kid, &private_key, ISSUER, AUDIENCE);
            assert!(key.is_err(), "{algorithm}: {} bytes", bytes.len());
        }
    }
}

#[test]
fn keys_are_never_made_twice() {
    for algorithm in [Algorithm::HS256, Algorithm::ES256, Algorithm::EdDSA] {
        let randomness = Randomness::system();
        let made: HashSet<_> = (0..20)
            .map(|_| {
                PrivateKey::generate(algorithm, &randomness)
                    .unwrap()
                    .reveal()
                    .to_vec()
            })
            .collect();
        assert_eq!(made.len(), 20, "{algorithm}");
    }
}

#[test]
fn jwks_holds_the_public_members_alone_and_no_hmac_key() {
    let jwks = serde_json::to_value(keys().collect::<Jwks>()).unwrap();
    let members: Vec<(&str, Vec<&str>)> = vec![
        ("RS256", vec!["alg", "e", "kid", "kty", "n", "use"]),
        ("ES256", vec!["alg", "crv", "kid", "kty", "use", "x", "y"]),
        ("EdDSA", vec!["alg", "crv", "kid", "kty", "use", "x"]),
    ];
    let jwks = jwks["keys"].as_array().unwrap();
    assert_eq!(jwks.len(), members.len());
    for (jwk, (algorithm, members)) in jwks.iter().zip(members) {
        let names: Vec<_> = jwk
            .as_object()
            .unwrap()
            .keys()
            .map(String::as_str)
            .collect();
        assert_eq!(names, members);
        assert_eq!(jwk["alg"], algorithm);
        assert_eq!(jwk["use"], "sig");
        assert_eq!(jwk["kid"], key(algorithm.parse().unwrap()).kid().as_str());
    }
    assert_eq!(
        (&jwks[0]["kty"], &jwks[0]["e"]),
        (&json!("RSA"), &json!("AQAB"))
    );
    assert_eq!(
        URL_SAFE_NO_PAD
            .decode(jwks[0]["n"].as_str().unwrap())
            .unwrap()
            .len(),
        256
    );
    assert_eq!(
        (&jwks[1]["kty"], &jwks[1]["crv"]),
        (&json!("EC"), &json!("P-256"))
    );
    assert_eq!(
        (&jwks[2]["kty"], &jwks[2]["crv"]),
        (&json!("OKP"), &json!("Ed25519"))
    );
    assert_eq!(
        serde_json::to_value(Jwks::default()).unwrap(),
        json!({"keys": []})
    );
}

#[test]
fn algorithm_has_one_name_everywhere() {
    for (algorithm, name) in Algorithm::ALL
        .into_iter()
        .zip(["HS256", "RS256", "ES256", "EdDSA"])
    {
        assert_eq!(algorithm.to_string(), name);
        assert_eq!(name.parse(), Ok(algorithm));
        assert_eq!(serde_json::to_value(algorithm).unwrap(), name);
        assert_eq!(
            serde_json::from_value::<Algorithm>(json!(name)).unwrap(),
            algorithm
        );
        assert_eq!(algorithm.to_possible_value().unwrap().get_name(), name);
    }
    for other in ["", "hs256", "EDDSA", "none", "HS512", "PS256", "HS256 "] {
        assert_eq!(other.parse::<Algorithm>(), Err(InvalidAlgorithm), "{other}");
        assert!(
            serde_json::from_value::<Algorithm>(json!(other)).is_err(),
            "{other}"
        );
    }
}

#[test]
fn kid_is_random_and_has_one_spelling() {
    let randomness = Randomness::system();
    let kids: HashSet<_> = (0..200).map(|_| Kid::generate(&randomness)).collect();
    assert_eq!(kids.len(), 200);
    for kid in &kids {
        assert_eq!(kid.as_str().len(), 26);
        assert_eq!(kid.to_string().parse(), Ok(kid.clone()));
        assert_eq!(kids.get(kid.as_str()), Some(kid), "found by its text");
        assert!(kid.as_str().to_uppercase().parse::<Kid>().is_err());
    }
    for text in [
        "",
        "-",
        "0123456789abcdefghjkmnpqr",
        "zzzzzzzzzzzzzzzzzzzzzzzzzz",
    ] {
        assert_eq!(text.parse::<Kid>(), Err(InvalidKid), "{text}");
    }
}
