//! What is refused for its form, whoever signed it: each of these has a right signature, so that
//! the form alone is judged.

use super::*;

fn malformed(key: &SigningKey, token: &str) {
    assert_eq!(check(key, token), Err("malformed"), "{token}");
}

fn good() -> (&'static SigningKey, String, String) {
    let key = key(Algorithm::HS256);
    (key, header_of(key).to_string(), claims_of(key).to_string())
}

/// `object` with `name` set to `value`, or taken out.
fn with(object: &Value, name: &str, value: Option<Value>) -> String {
    let mut object = object.clone();
    let members = object.as_object_mut().unwrap();
    members.remove(name);
    members.extend(value.map(|value| (name.to_owned(), value)));
    object.to_string()
}

#[test]
fn token_signed_by_these_tests_is_accepted() {
    let (key, header, claims) = good();
    assert_eq!(check(key, &signed(key, header, claims)), Ok(self::claims()));
}

#[test]
fn anything_but_three_parts_is_refused() {
    let (key, header, claims) = good();
    let token = signed(key, header, claims);
    let (input, signature) = token.rsplit_once('.').unwrap();
    let (header, claims) = input.split_once('.').unwrap();
    for token in [
        String::new(),
        ".".to_owned(),
        "..".to_owned(),
        "...".to_owned(),
        "....".to_owned(),
        header.to_owned(),
        input.to_owned(),
        format!("{token}."),
        format!(".{token}"),
        format!("{header}..{claims}.{signature}"),
        format!("{token}.{signature}"),
        format!("{header}.{claims}.{signature}.{signature}.{signature}"),
        format!("{claims}.{header}.{signature}"),
        format!(".{claims}.{signature}"),
        format!("{header}..{signature}"),
        format!(" {token}"),
        format!("{token} "),
        format!("{token}\n"),
        format!("Bearer {token}"),
        format!("\"{token}\""),
        format!("{header}.{claims}\n.{signature}"),
    ] {
        malformed(key, &token);
    }
}

#[test]
fn encrypted_token_is_refused() {
    let (key, ..) = good();
    // RFC 7516, section 3.3.
    let jwe = "eyJhbGciOiJSU0EtT0FFUCIsImVuYyI6IkEyNTZHQ00ifQ.\
        OKOawDo13gRp2ojaHV7LFpZcgV7T6DVZKTyKOMTYUmKoTCVJRgckCL9kiMT03JGe.48V1_ALb6US04U3b.\
        5eym8TW_c8SuK0ltJ3rpYIzOeDQz7TALvtu6UG9oMo4vpzs9tX_EFShS8iB7j6ji.\
        XFBoMYUZodetZdvTiFvSkQ";
    malformed(key, jwe);
}

#[test]
fn nested_token_is_refused() {
    let (key, header, claims) = good();
    let inner = signed(key, &header, claims);
    malformed(key, &signed(key, &header, &inner));
    malformed(key, &signed(key, &header, json!(inner).to_string()));
    let nested = with(&header_of(key), "cty", Some(json!("JWT")));
    malformed(key, &signed(key, nested, inner));
}

#[test]
fn base64_in_another_spelling_is_refused() {
    let (key, header, claims) = good();
    let token = signed(key, &header, &claims);
    let (input, signature) = token.rsplit_once('.').unwrap();
    let (encoded_header, encoded_claims) = input.split_once('.').unwrap();
    for token in [
        format!("{token}="),
        format!("{encoded_header}=.{encoded_claims}.{signature}"),
        format!("{encoded_header}.{encoded_claims}=.{signature}"),
        format!("{encoded_header}.{encoded_claims}==.{signature}"),
        format!("{token}AA"),
        format!("{encoded_header}.{encoded_claims}.+{}", &signature[1..]),
        format!("{encoded_header}.{encoded_claims}./{}", &signature[1..]),
        format!("{encoded_header}.{encoded_claims}.é{}", &signature[2..]),
        format!("{encoded_header}.{encoded_claims}.\0{}", &signature[1..]),
    ] {
        malformed(key, &token);
    }
}

/// 32 bytes end in a character of which two bits count for nothing, 64 bytes in one of which
/// four do: a decoder that ignores them gives one token many spellings.
#[test]
fn stray_bits_in_the_last_character_are_refused() {
    const ALPHABET: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    for key in keys() {
        let token = key.sign(&claims()).unwrap();
        let (rest, last) = token.split_at(token.len() - 1);
        let last = ALPHABET.find(last).unwrap();
        let spare = if key.algorithm() == Algorithm::HS256 {
            0b11
        } else {
            0b1111
        };
        assert_eq!(last & spare, 0);
        for stray in 1..=spare {
            let last = &ALPHABET[last + stray..=last + stray];
            malformed(key, &format!("{rest}{last}"));
        }
    }
}

#[test]
fn header_that_is_no_object_of_the_right_types_is_refused() {
    let (key, header, claims) = good();
    let object = header_of(key);
    for header in [
        String::new(),
        "null".to_owned(),
        "\"HS256\"".to_owned(),
        json!(["HS256", "JWT", key.kid()]).to_string(),
        json!([object]).to_string(),
        header[1..].to_owned(),
        header[..header.len() - 1].to_owned(),
        format!("{header}{header}"),
        format!("{header}\0"),
        format!("\u{feff}{header}"),
        format!("\u{c}{header}"),
        with(&object, "alg", None),
        with(&object, "alg", Some(Value::Null)),
        with(&object, "alg", Some(json!(256))),
        with(&object, "alg", Some(json!(["HS256"]))),
        with(&object, "typ", Some(json!(["JWT"]))),
        with(&object, "kid", Some(json!(7))),
        with(&object, "kid", Some(json!({"a": 1}))),
        format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000)),
        format!(r#"{{"a":{}"#, "[".repeat(100_000)),
    ] {
        malformed(key, &signed(key, header, &claims));
    }
}

#[test]
fn member_given_twice_is_refused() {
    let (key, header, claims) = good();
    for twice in [
        r#","alg":"HS256"}"#,
        r#","alg":"none"}"#,
        r#","\u0061lg":"HS256"}"#,
        r#","typ":"JWT"}"#,
        r#","kid":null}"#,
        r#","crit":[],"crit":[]}"#,
    ] {
        let header = header.replace('}', twice);
        malformed(key, &signed(key, header, &claims));
    }
    for name in ["iss", "aud", "sub", "site", "jti", "iat", "exp"] {
        let value = &claims_of(key)[name];
        let twice = claims.replace('}', &format!(r#","{name}":{value}}}"#));
        malformed(key, &signed(key, &header, twice));
    }
}

#[test]
fn claim_that_is_missing_or_of_the_wrong_type_is_refused() {
    let (key, header, _) = good();
    let object = claims_of(key);
    for name in ["iss", "aud", "sub", "site", "jti", "iat", "exp"] {
        let value = &object[name];
        let other_type = match value {
            Value::String(text) => json!([text]),
            number => json!(number.to_string()),
        };
        let wrong = [
            None,
            Some(Value::Null),
            Some(json!(true)),
            Some(json!([])),
            Some(json!({})),
            Some(json!(1.5)),
            Some(other_type),
        ];
        for wrong in wrong {
            malformed(key, &signed(key, &header, with(&object, name, wrong)));
        }
        let renamed = object
            .to_string()
            .replace(&format!("\"{name}\""), &format!("\"{name} \""));
        malformed(key, &signed(key, &header, renamed));
    }
    for seconds in [
        "1e9",
        "1800000000.0",
        "9223372036854775808",
        "-9223372036854775809",
        "01",
    ] {
        let claims = object.to_string().replace("1800086400", seconds);
        malformed(key, &signed(key, &header, claims));
    }
}

#[test]
fn claims_that_are_no_object_are_refused() {
    let (key, header, claims) = good();
    let values: Vec<_> = claims_of(key)
        .as_object()
        .unwrap()
        .values()
        .cloned()
        .collect();
    for claims in [
        String::new(),
        "{}".to_owned(),
        "null".to_owned(),
        json!(values).to_string(),
        json!([claims_of(key)]).to_string(),
        format!("{claims}{claims}"),
        claims[..claims.len() - 1].to_owned(),
    ] {
        malformed(key, &signed(key, &header, claims));
    }
}

#[test]
fn bytes_that_are_no_utf_8_are_refused_also_where_nobody_reads() {
    let (key, header, claims) = good();
    let mut spoilt = claims.replace('}', r#","note":"?"}"#).into_bytes();
    let place = spoilt.len() - 3;
    for byte in [0x80, 0xc0, 0xed, 0xff] {
        spoilt[place] = byte;
        malformed(key, &signed(key, &header, &spoilt));
    }
    malformed(key, &signed(key, b"\xff\xfe{\0}\0", &claims));
    malformed(key, &signed(key, &header, [0xff; 64]));
}

/// A caller learns that the text is no token before anyone looks at the signature.
#[test]
fn malformed_goes_before_a_bad_signature() {
    let (key, header, _) = good();
    let object = claims_of(key);
    let token = signed(key, &header, with(&object, "jti", None));
    malformed(key, &token.replace(token.rsplit('.').next().unwrap(), ""));
    let unsecured = with(&header_of(key), "alg", Some(json!("none")));
    malformed(key, &signed(key, unsecured, with(&object, "exp", None)));
}
