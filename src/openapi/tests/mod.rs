//! Holds the document against itself, and against the router.

mod examples;
mod responses;
mod routes;
mod schemas;

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
        ("DELETE /api/v1/account", "delete_account"),
        ("DELETE /api/v1/account/sessions/{id}", "end_session"),
        ("DELETE /api/v1/account/two-factor", "disable_two_factor"),
        ("DELETE /api/v1/api-tokens/{id}", "revoke_api_token"),
        ("DELETE /api/v1/sites/{id}", "delete_site"),
        ("GET /.well-known/jwks.json", "get_jwks"),
        ("GET /api/v1/account", "get_account"),
        ("GET /api/v1/account/sessions", "list_sessions"),
        ("GET /api/v1/api-tokens", "list_api_tokens"),
        ("GET /api/v1/audit-log", "list_audit_log"),
        ("GET /api/v1/plans", "list_plans"),
        ("GET /api/v1/sites", "list_sites"),
        ("GET /api/v1/sites/{id}", "get_site"),
        ("GET /api/v1/sites/{id}/tokens", "list_site_tokens"),
        ("GET /api/v1/sites/{id}/usage", "get_site_usage"),
        ("GET /livez", "get_liveness"),
        ("GET /mirrory/health", "get_health"),
        ("GET /readyz", "get_readiness"),
        ("PATCH /api/v1/account", "update_account"),
        ("PATCH /api/v1/sites/{id}", "update_site"),
        ("POST /api/v1/account/password", "change_password"),
        ("POST /api/v1/account/two-factor", "begin_two_factor"),
        (
            "POST /api/v1/account/two-factor/confirm",
            "confirm_two_factor",
        ),
        (
            "POST /api/v1/account/two-factor/recovery-codes",
            "replace_recovery_codes",
        ),
        ("POST /api/v1/accounts", "create_account"),
        ("POST /api/v1/api-tokens", "create_api_token"),
        ("POST /api/v1/jwt", "create_jwt"),
        ("POST /api/v1/jwt/refresh", "refresh_jwt"),
        ("POST /api/v1/jwt/revoke", "revoke_jwt"),
        ("POST /api/v1/login", "login"),
        ("POST /api/v1/sites", "create_site"),
        ("POST /api/v1/sites/{id}/rotate-secret", "rotate_secret"),
        (
            "POST /api/v1/sites/{id}/tokens/{token_id}/release",
            "release_site_token",
        ),
        (
            "POST /api/v1/sites/{id}/tokens/{token_id}/revoke",
            "revoke_site_token",
        ),
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
        if let Some(Value::Array(alternatives)) = members.get("security") {
            let names = alternatives
                .iter()
                .flat_map(|one| one.as_object().unwrap().keys());
            used.extend(names.map(|name| format!("#/components/securitySchemes/{name}")));
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
fn who_may_call_the_management_api_is_said_of_each_operation() {
    let document = written();
    let open = [
        "POST /api/v1/jwt",
        "POST /api/v1/jwt/refresh",
        "POST /api/v1/login",
    ];
    for (route, operation) in operations(&document) {
        let is_management = route.contains(" /api/v1/");
        let is_open = open.contains(&route.as_str());
        let says = operation.get("security").is_some();
        assert_eq!(says, is_management && !is_open, "{route}");
        let refuses = operation["responses"]["401"]["headers"].get("WWW-Authenticate");
        assert_eq!(refuses.is_some(), is_management, "{route}");
    }
}
