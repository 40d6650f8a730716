//! Holds the document against itself, and against the router.

mod routes;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::document;

fn written() -> Value {
    serde_json::to_value(document()).unwrap()
}

/// Calls `visit` for every object in the document, with the way to it.
fn walk(value: &Value, path: &str, visit: &mut impl FnMut(&str, &serde_json::Map<String, Value>)) {
    match value {
        Value::Object(members) => {
            visit(path, members);
            for (name, member) in members {
                let name = name.replace('~', "~0").replace('/', "~1");
                walk(member, &format!("{path}/{name}"), visit);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                walk(item, &format!("{path}/{index}"), visit);
            }
        }
        _ => {}
    }
}

fn resolve<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
    match value["$ref"].as_str() {
        Some(reference) => document.pointer(&reference[1..]).unwrap(),
        None => value,
    }
}

/// Every operation, with its method and path.
fn operations(document: &Value) -> BTreeMap<String, &Value> {
    let paths = document["paths"].as_object().unwrap();
    let operations = paths.iter().flat_map(|(path, item)| {
        let methods = item.as_object().unwrap().iter();
        methods.map(move |(method, operation)| {
            (format!("{} {path}", method.to_uppercase()), operation)
        })
    });
    operations.collect()
}

/// The codes that an operation's problems may have, by status.
fn codes(operation: &Value) -> BTreeMap<&str, Vec<&str>> {
    let responses = operation["responses"].as_object().unwrap();
    let problems = responses.iter().filter_map(|(status, response)| {
        let schema = &response["content"]["application/problem+json"]["schema"];
        let codes = schema["allOf"][1]["properties"]["error"]["enum"].as_array()?;
        let codes = codes.iter().map(|code| code.as_str().unwrap()).collect();
        Some((status.as_str(), codes))
    });
    problems.collect()
}

#[test]
fn version_and_licence_are_those_of_the_crate() {
    let document = written();
    assert_eq!(document["openapi"], "3.1.0");
    assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
    let licence =
        json!({"name": env!("CARGO_PKG_LICENSE"), "identifier": env!("CARGO_PKG_LICENSE")});
    assert_eq!(document["info"]["license"], licence);
    assert_eq!(document["info"].get("contact"), None);
}

#[test]
fn operations_are_named_like_their_handlers() {
    let document = written();
    let operations = operations(&document);
    let named: Vec<_> = operations
        .iter()
        .map(|(route, operation)| (route.as_str(), operation["operationId"].as_str().unwrap()))
        .collect();
    let expected = [
        ("GET /.well-known/jwks.json", "get_jwks"),
        ("GET /livez", "get_liveness"),
        ("GET /mirrory/health", "get_health"),
        ("GET /readyz", "get_readiness"),
        ("POST /mirrory/generate-token", "generate_token"),
        ("POST /mirrory/release-machine", "release_machine"),
        ("POST /mirrory/revoke-token", "revoke_token"),
        ("POST /mirrory/validate-token", "validate_token"),
    ];
    assert_eq!(named, expected);
}

#[test]
fn every_operation_says_what_it_does_under_a_tag_that_is_described() {
    let document = written();
    let tags = document["tags"].as_array().unwrap();
    let tags: BTreeSet<_> = tags
        .iter()
        .map(|tag| tag["name"].as_str().unwrap())
        .collect();
    for (route, operation) in operations(&document) {
        assert!(operation["summary"].is_string(), "{route}");
        assert!(operation["description"].is_string(), "{route}");
        assert!(
            tags.contains(operation["tags"][0].as_str().unwrap()),
            "{route}"
        );
    }
}

#[test]
fn every_reference_leads_somewhere() {
    let document = written();
    let mut references = 0;
    walk(&document, "", &mut |path, members| {
        if let Some(Value::String(reference)) = members.get("$ref") {
            let pointer = reference.strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some(), "{path}: {reference}");
            references += 1;
        }
    });
    assert!(references > 100);
}

#[test]
fn every_component_is_used() {
    let document = written();
    let mut used = BTreeSet::new();
    walk(&document, "", &mut |_, members| {
        if let Some(Value::String(reference)) = members.get("$ref") {
            used.insert(reference.clone());
        }
    });
    for (kind, components) in document["components"].as_object().unwrap() {
        for name in components.as_object().unwrap().keys() {
            assert!(
                used.contains(&format!("#/components/{kind}/{name}")),
                "{kind}/{name}"
            );
        }
    }
}

#[test]
fn every_field_has_a_description_and_an_example() {
    let document = written();
    let schemas = &document["components"]["schemas"];
    let mut fields = 0;
    walk(schemas, "", &mut |path, members| {
        let Some(Value::Object(properties)) = members.get("properties") else {
            return;
        };
        for (name, field) in properties {
            let choices = field["oneOf"].as_array();
            let field = choices.map_or(field, |choices| &choices[0]);
            assert!(field["description"].is_string(), "{path}: {name}");
            assert!(has_example(&document, field), "{path}: {name}");
            fields += 1;
        }
    });
    assert!(fields > 30);
}

/// Its own; or those of what it consists of, which is looked at too.
fn has_example(document: &Value, schema: &Value) -> bool {
    let schema = resolve(document, schema);
    let consists_of_fields = schema["properties"].is_object();
    let consists_of_choices = schema["items"]["oneOf"].is_array();
    let items = schema.get("items");
    consists_of_fields
        || consists_of_choices
        || schema["examples"].is_array()
        || items.is_some_and(|items| has_example(document, items))
}

#[test]
fn every_header_and_parameter_has_a_description_and_an_example() {
    let document = written();
    let mut described = 0;
    for (route, operation) in operations(&document) {
        let parameters = operation["parameters"].as_array().unwrap().iter();
        let responses = operation["responses"].as_object().unwrap().values();
        let headers =
            responses.flat_map(|response| response["headers"].as_object().unwrap().values());
        for header in parameters.chain(headers) {
            let header = resolve(&document, header);
            assert!(header["description"].is_string(), "{route}: {header}");
            assert!(header.get("example").is_some(), "{route}: {header}");
            assert!(header["schema"].is_object(), "{route}: {header}");
            described += 1;
        }
    }
    assert!(described > 100);
}

#[test]
fn every_example_is_of_its_schema() {
    let document = written();
    let mut examples = 0;
    walk(&document, "", &mut |path, members| {
        let own = members.contains_key("type") || members.contains_key("oneOf");
        let schema = match members.get("schema") {
            Some(schema) => schema.clone(),
            None if own => Value::Object(members.clone()),
            None => return,
        };
        for example in examples_in(members) {
            assert_eq!(
                violations(&document, &schema, &example),
                [""; 0],
                "{path}: {example}"
            );
            examples += 1;
        }
    });
    assert!(examples > 100);
}

/// Those of a schema are a list; those of a body or a header, one value or named ones.
fn examples_in(members: &serde_json::Map<String, Value>) -> Vec<Value> {
    match (members.get("examples"), members.get("example")) {
        (Some(Value::Array(examples)), _) => examples.clone(),
        (Some(Value::Object(examples)), _) => {
            let values = examples.values().map(|example| example["value"].clone());
            values.collect()
        }
        (_, Some(example)) => vec![example.clone()],
        _ => vec![],
    }
}

fn violations(document: &Value, schema: &Value, instance: &Value) -> Vec<String> {
    let mut root = schema.clone();
    root["components"] = document["components"].clone();
    let validator = jsonschema::options()
        .with_draft(jsonschema::Draft::Draft202012)
        .should_validate_formats(true)
        .build(&root)
        .unwrap();
    let errors = validator.iter_errors(instance);
    errors.map(|error| error.to_string()).collect()
}

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

#[test]
fn problems_of_generate_token_are_those_of_the_contract() {
    let document = written();
    let operations = operations(&document);
    let expected = BTreeMap::from([
        ("400", vec!["malformed_json"]),
        ("401", vec!["invalid_proxy_secret"]),
        ("403", vec!["site_suspended"]),
        ("405", vec!["method_not_allowed"]),
        ("408", vec!["request_timeout"]),
        ("413", vec!["body_too_large"]),
        ("415", vec!["unsupported_media_type"]),
        ("422", vec!["invalid_request", "idempotency_key_reused"]),
        ("429", vec!["quota_exceeded", "too_many_attempts"]),
        ("500", vec!["internal_error"]),
        ("503", vec!["store_unavailable", "overloaded"]),
    ]);
    assert_eq!(codes(operations["POST /mirrory/generate-token"]), expected);
}

#[test]
fn problems_of_the_other_operations_are_fewer() {
    let document = written();
    let operations = operations(&document);
    let statuses = |route: &str| codes(operations[route]).into_keys().collect::<Vec<_>>();
    let validate = [
        "400", "405", "408", "413", "415", "422", "429", "500", "503",
    ];
    assert_eq!(statuses("POST /mirrory/validate-token"), validate);
    let manage = [
        "400", "401", "405", "408", "413", "415", "422", "429", "500", "503",
    ];
    assert_eq!(statuses("POST /mirrory/revoke-token"), manage);
    assert_eq!(statuses("POST /mirrory/release-machine"), manage);
    for route in [
        "GET /.well-known/jwks.json",
        "GET /livez",
        "GET /readyz",
        "GET /mirrory/health",
    ] {
        assert_eq!(statuses(route), ["405", "500", "503"], "{route}");
    }
    let unavailable = ["store_unavailable", "overloaded"];
    assert_eq!(
        codes(operations["GET /.well-known/jwks.json"])["503"],
        unavailable
    );
    assert_eq!(
        codes(operations["GET /mirrory/health"])["503"],
        ["overloaded"]
    );
    let validate = codes(operations["POST /mirrory/validate-token"]);
    assert_eq!(validate["503"], unavailable);
    assert_eq!(validate["422"], ["invalid_request"]);
    assert_eq!(validate["429"], ["quota_exceeded", "too_many_attempts"]);
    let revoke = codes(operations["POST /mirrory/revoke-token"]);
    assert_eq!(revoke["429"], ["too_many_attempts"]);
}

#[test]
fn headers_stand_where_the_service_sends_them() {
    let document = written();
    for (route, operation) in operations(&document) {
        for (status, response) in operation["responses"].as_object().unwrap() {
            let headers = response["headers"].as_object().unwrap();
            let has = |name: &str| headers.contains_key(name);
            let place = format!("{route} {status}");
            assert!(has("x-request-id"), "{place}");
            assert_eq!(
                has("Retry-After"),
                ["429", "503"].contains(&status.as_str()),
                "{place}"
            );
            assert_eq!(has("Allow"), status == "405", "{place}");
            let generates = operation["operationId"] == "generate_token";
            let after_proof = ["200", "403", "422", "429", "500", "503"].contains(&status.as_str());
            assert_eq!(has("RateLimit"), generates && after_proof, "{place}");
            assert_eq!(has("RateLimit-Policy"), generates && after_proof, "{place}");
            assert_eq!(
                has("Idempotency-Replayed"),
                generates && status == "200",
                "{place}"
            );
        }
    }
    let headers = &document["components"]["headers"];
    assert_eq!(headers["x-request-id"]["required"], true);
    assert_eq!(headers["Retry-After"]["required"], true);
    assert_eq!(headers["RateLimit"].get("required"), None);
}
