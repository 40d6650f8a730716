//! Published JWS examples, run through the signature check that every token goes through. Their
//! claims are not ours, so none of them is a token of this service.

use super::*;

/// RFC 7515, appendix A.1.
const HS256_JWK: &str = r#"{"kty": "oct", "k":
    "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow"}"#;
const HS256_JWS: &str = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.\
    eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFt\
    cGxlLmNvbS9pc19yb290Ijp0cnVlfQ.\
    dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";

/// RFC 7515, appendix A.2.
const RS256_JWK: &str = r#"{"kty": "RSA", "e": "AQAB", "n":
    "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ"}"#;
const RS256_JWS: &str = "eyJhbGciOiJSUzI1NiJ9.\
    eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFt\
    cGxlLmNvbS9pc19yb290Ijp0cnVlfQ.\
    cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7\
    AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4\
    BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K\
    0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqv\
    hJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrB\
    p0igcN_IoypGlUPQGe77Rw";

/// RFC 7515, appendix A.3.
const ES256_JWK: &str = r#"{"kty": "EC", "crv": "P-256",
    "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
    "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}"#;
const ES256_JWS: &str = "eyJhbGciOiJFUzI1NiJ9.\
    eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFt\
    cGxlLmNvbS9pc19yb290Ijp0cnVlfQ.\
    DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSA\
    pmWQxfKTUJqPP3-Kg6NU1Q";

/// RFC 7515, appendix A.5: an unsecured JWS.
const UNSECURED_JWS: &str = "eyJhbGciOiJub25lIn0.\
    eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFt\
    cGxlLmNvbS9pc19yb290Ijp0cnVlfQ.";

/// RFC 8037, appendices A.2, A.4 and A.5; the private key is that of A.1.
const EDDSA_SEED: &str = "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A";
const EDDSA_JWK: &str = r#"{"kty": "OKP", "crv": "Ed25519",
    "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
const EDDSA_JWS: &str = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.\
    hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5B\
    hVsPt9g7sVvpAr_MuM0KAg";

const VECTORS: [(Algorithm, &str, &str); 4] = [
    (Algorithm::HS256, HS256_JWK, HS256_JWS),
    (Algorithm::RS256, RS256_JWK, RS256_JWS),
    (Algorithm::ES256, ES256_JWK, ES256_JWS),
    (Algorithm::EdDSA, EDDSA_JWK, EDDSA_JWS),
];

fn public_key(jwk: &str) -> DecodingKey {
    DecodingKey::from_jwk(&serde_json::from_str(jwk).unwrap()).unwrap()
}

fn is_valid(algorithm: Algorithm, jwk: &str, jws: &str) -> bool {
    let (input, signature) = jws.rsplit_once('.').unwrap();
    signature_is_valid(algorithm, &public_key(jwk), input, signature)
}

#[test]
fn published_signature_is_valid() {
    for (algorithm, jwk, jws) in VECTORS {
        assert!(is_valid(algorithm, jwk, jws), "{algorithm}");
    }
}

#[test]
fn published_signature_with_any_bit_flipped_is_not() {
    for (algorithm, jwk, jws) in VECTORS {
        let (input, signature) = jws.rsplit_once('.').unwrap();
        let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
        for bit in 0..signature.len() * 8 {
            let mut flipped = signature.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let jws = format!("{input}.{}", encode(flipped));
            assert!(!is_valid(algorithm, jwk, &jws), "{algorithm}: bit {bit}");
        }
    }
}

#[test]
fn published_message_with_any_bit_flipped_is_not() {
    for (algorithm, jwk, jws) in VECTORS {
        let (input, signature) = jws.rsplit_once('.').unwrap();
        for index in 0..input.len() {
            let mut flipped = input.as_bytes().to_vec();
            flipped[index] ^= 1;
            let jws = format!("{}.{signature}", String::from_utf8(flipped).unwrap());
            assert!(!is_valid(algorithm, jwk, &jws), "{algorithm}: byte {index}");
        }
    }
}

#[test]
fn published_signature_is_not_valid_by_another_algorithm_or_key() {
    for (algorithm, _, jws) in VECTORS {
        for (other, jwk, _) in VECTORS {
            for claimed in Algorithm::ALL {
                let right = algorithm == other && algorithm == claimed;
                assert_eq!(
                    is_valid(claimed, jwk, jws),
                    right,
                    "{algorithm} {other} {claimed}"
                );
            }
        }
    }
}

#[test]
fn signing_gives_the_published_signature_where_it_is_determined() {
    let secret = serde_json::from_str::<Value>(HS256_JWK).unwrap();
    let secret = URL_SAFE_NO_PAD
        .decode(secret["k"].as_str().unwrap())
        .unwrap();
    let seed = URL_SAFE_NO_PAD.decode(EDDSA_SEED).unwrap();
    let ed25519 = aws_lc_rs::signature::Ed25519KeyPair::from_seed_unchecked(&seed).unwrap();
    let ed25519 = ed25519.to_pkcs8v1().unwrap();
    for (algorithm, key, jws) in [
        (
            Algorithm::HS256,
            EncodingKey::from_secret(&secret),
            HS256_JWS,
        ),
        (
            Algorithm::EdDSA,
            EncodingKey::from_ed_der(ed25519.as_ref()),
            EDDSA_JWS,
        ),
    ] {
        let (input, expected) = jws.rsplit_once('.').unwrap();
        let signature = jsonwebtoken::crypto::sign(input.as_bytes(), &key, jwa(algorithm));
        assert_eq!(signature.unwrap(), expected, "{algorithm}");
    }
}

#[test]
fn published_unsecured_token_is_valid_by_no_key() {
    for (algorithm, jwk, _) in VECTORS {
        assert!(!is_valid(algorithm, jwk, UNSECURED_JWS), "{algorithm}");
    }
    for key in keys() {
        assert_eq!(
            check(key, UNSECURED_JWS),
            Err("malformed"),
            "its claims are not ours"
        );
    }
}
