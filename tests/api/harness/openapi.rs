//! Holds every answer against the OpenAPI document that the service publishes.

use std::{
    collections::HashMap,
    sync::{LazyLock, Mutex, PoisonError},
};

use axum::http::Method;
use jsonschema::Validator;
use serde_json::{Value, json};

use super::Answer;

/// The document.
#[derive(Clone, Copy)]
pub(super) struct Contract(&'static Value);

/// Headers that a caller acts on: one that is sent must be documented.
const HEADERS: &[&str] = &[
    "allow",
    "cache-control",
    "idempotency-replayed",
    "link",
    "location",
    "ratelimit",
    "ratelimit-policy",
    "retry-after",
    "www-authenticate",
    "x-request-id",
];

impl Contract {
    pub(super) fn read() -> Self {
        static DOCUMENT: LazyLock<Value> =
            LazyLock::new(|| serde_json::to_value(mirrory::openapi::document()).unwrap());
        Self(&DOCUMENT)
    }

    pub(super) fn check(self, method: &Method, path: &str, answer: &Answer) {
        // An answer to HEAD is that to GET without its body.
        if *method == Method::HEAD {
            return;
        }
        let verb = method.as_str().to_ascii_lowercase();
        let operation = self.item(path).and_then(|item| item.get(&verb));
        let context = format!("{method} {path}: {} {}", answer.status, answer.body);
        let Some(operation) = operation else {
            if answer.status >= 400 && path != "/api/v1/login" {
                let schema = json!({"$ref": "#/components/schemas/ProblemDetails"});
                self.check_body("problem", &schema, &answer.body, &context);
            }
            return;
        };
        let status = answer.status.to_string();
        let response = self.resolve(&operation["responses"][&status]);
        assert!(response.is_object(), "not documented: {context}");
        check_headers(self, response, answer, &context);
        let media_type = answer.header("content-type").unwrap_or_default();
        let documented = &response["content"][media_type];
        if answer.bytes.is_empty() && response.get("content").is_none() {
            return;
        }
        assert!(
            documented.is_object(),
            "{media_type:?} is not documented: {context}"
        );
        let name = format!("{verb} {path} {status}");
        self.check_body(&name, &documented["schema"], &answer.body, &context);
    }

    /// The path's item, which may have a parameter in it.
    fn item(self, path: &str) -> Option<&'static Value> {
        let fits = |template: &str| {
            let mut segments = template.split('/').zip(path.split('/'));
            template.split('/').count() == path.split('/').count()
                && segments.all(|(segment, given)| segment.starts_with('{') || segment == given)
        };
        let paths = self.0["paths"].as_object().unwrap();
        let item = paths.iter().find(|(template, _)| fits(template));
        item.map(|(_, item)| item)
    }

    fn resolve(self, value: &'static Value) -> &'static Value {
        match value["$ref"].as_str() {
            Some(reference) => {
                let pointer = reference.strip_prefix('#').expect("an inner reference");
                self.0
                    .pointer(pointer)
                    .expect("the reference leads somewhere")
            }
            None => value,
        }
    }

    fn check_body(self, name: &str, schema: &Value, body: &Value, context: &str) {
        static VALIDATORS: LazyLock<Mutex<HashMap<String, Validator>>> =
            LazyLock::new(Mutex::default);
        let mut validators = VALIDATORS.lock().unwrap_or_else(PoisonError::into_inner);
        let validator = validators
            .entry(name.to_owned())
            .or_insert_with(|| self.validator(schema));
        let errors: Vec<_> = validator
            .iter_errors(body)
            .map(|error| format!("{}: {error}", error.instance_path()))
            .collect();
        assert!(errors.is_empty(), "{context}\n{}", errors.join("\n"));
    }

    fn validator(self, schema: &Value) -> Validator {
        let mut root = schema.clone();
        root["components"] = self.0["components"].clone();
        close(&mut root);
        jsonschema::options()
            .with_draft(jsonschema::Draft::Draft202012)
            .should_validate_formats(true)
            .build(&root)
            .unwrap()
    }
}

/// Refuses members that an object's schema does not name: every field is to be documented.
fn close(schema: &mut Value) {
    if let Value::Object(members) = schema {
        let is_object = members.contains_key("properties")
            || members.get("type").is_some_and(|kind| kind == "object");
        if is_object && !members.contains_key("additionalProperties") {
            members.insert("additionalProperties".to_owned(), json!(false));
        }
        members.values_mut().for_each(close);
    } else if let Value::Array(items) = schema {
        items.iter_mut().for_each(close);
    }
}

fn check_headers(contract: Contract, response: &'static Value, answer: &Answer, context: &str) {
    let documented = response["headers"].as_object();
    let documented = |name: &str| {
        let headers = documented?;
        let (_, header) = headers
            .iter()
            .find(|(documented, _)| documented.eq_ignore_ascii_case(name))?;
        Some(contract.resolve(header))
    };
    for name in HEADERS {
        let Some(value) = answer.header(name) else {
            let required = documented(name).is_some_and(|header| header["required"] == true);
            assert!(!required, "the header {name} is missing: {context}");
            continue;
        };
        let header = documented(name);
        let header = header.unwrap_or_else(|| panic!("{name} is not documented: {context}"));
        let typed = match header["schema"]["type"].as_str() {
            Some("integer") => json!(value.parse::<i64>().expect(context)),
            Some("boolean") => json!(value.parse::<bool>().expect(context)),
            _ => json!(value),
        };
        let schema = &header["schema"];
        contract.check_body(&format!("{name} {schema}"), schema, &typed, context);
    }
}

mod tests;
