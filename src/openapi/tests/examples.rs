use serde_json::{Map, Value};

use super::{operations, resolve, violations, walk, written};

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
fn examples_in(members: &Map<String, Value>) -> Vec<Value> {
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
