use serde_json::{Value, json};

use super::{violations, written};

fn accepts(document: &Value, name: &str, instance: &Value) -> bool {
    let schema = json!({"$ref": format!("#/components/schemas/{name}")});
    violations(document, &schema, instance).is_empty()
}

#[test]
fn user_id_is_an_integer_or_a_string_of_its_digits() {
    let document = written();
    let user_id = |value: Value| accepts(&document, "WpUserIdInput", &value);
    for good in [
        json!(1),
        json!(i64::MAX),
        json!("1"),
        json!("9223372036854775807"),
    ] {
        assert!(user_id(good.clone()), "{good}");
    }
    let too_large = json!(9_223_372_036_854_775_808_u64);
    for bad in [
        json!(0),
        json!(-1),
        too_large,
        json!("0"),
        json!("01"),
        json!("1 "),
        json!(1.5),
    ] {
        assert!(!user_id(bad.clone()), "{bad}");
    }
}

#[test]
fn limits_of_strings_are_in_bytes_and_never_in_characters() {
    let document = written();
    let schemas = &document["components"]["schemas"];
    let limit = |schema: &Value| schema["x-max-bytes"].clone();
    assert_eq!(limit(&schemas["MachineId"]), 256);
    assert_eq!(limit(&schemas["ProxySecret"]), 512);
    let token = &schemas["ValidateTokenRequest"]["properties"]["token"];
    assert_eq!(limit(token), 8192);
    for limited in [&schemas["MachineId"], &schemas["ProxySecret"], token] {
        assert_eq!(limited.get("maxLength"), None);
        assert_eq!(limited["minLength"], 1);
    }
    assert!(!accepts(&document, "MachineId", &json!("a\u{85}b")));
    assert!(accepts(&document, "MachineId", &json!(" é\u{a0}")));
}

#[test]
fn verdict_is_one_of_two_by_its_field_valid() {
    let document = written();
    let verdict = |value: Value| accepts(&document, "ValidateTokenResponse", &value);
    let valid = json!({
        "valid": true, "user_id": 1, "machine_id": "m", "expires_at": "2026-12-31T23:59:59Z"
    });
    let refused = json!({"valid": false, "reason": "expired"});
    assert!(verdict(valid.clone()));
    assert!(verdict(refused));
    let with = |name: &str, value: Value| {
        let mut changed = valid.clone();
        changed[name] = value;
        changed
    };
    assert!(verdict(with("a_field_of_later", json!(1))));
    assert!(!verdict(with("valid", json!(false))));
    assert!(!verdict(with(
        "expires_at",
        json!("2026-12-31T23:59:59.5Z")
    )));
    assert!(!verdict(json!({"valid": false, "reason": "another"})));
    assert!(!verdict(json!({"valid": false})));
}
