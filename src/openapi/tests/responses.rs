use std::collections::BTreeMap;

use serde_json::Value;

use super::{operations, written};

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
fn problems_of_generate_token_are_those_of_the_contract() {
    let document = written();
    let operations = operations(&document);
    let expected = BTreeMap::from([
        ("400", vec!["malformed_json", "bad_request"]),
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
        assert_eq!(statuses(route), ["400", "405", "500", "503"], "{route}");
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
