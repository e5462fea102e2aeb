//! The definitions as files: complete, small enough, up to date, and in agreement with the types.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

use std::{fs, path::Path};

use kvfleet_crds::{KvCluster, Tenant, cluster, definition, reference};
use serde_json::{Value, json};

fn checkout() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// Calls `visit` for the schema of every field, with its path.
fn each_field(schema: &Value, path: &str, visit: &mut impl FnMut(&str, &Value)) {
    let properties = schema.get("properties").and_then(Value::as_object);
    for (name, field) in properties.into_iter().flatten() {
        let path = format!("{path}.{name}");
        visit(&path, field);
        each_field(field, &path, visit);
    }
    if let Some(items) = schema.get("items") {
        each_field(items, &format!("{path}[]"), visit);
    }
}

#[test]
fn every_field_says_what_it_is() {
    for definition in definition::all() {
        let mut fields = 0;
        each_field(definition::schema(&definition), "", &mut |path, field| {
            fields += 1;
            let described = field.get("description").and_then(Value::as_str);
            assert!(described.is_some_and(|text| text.len() > 5), "{path} has no description");
        });
        assert!(fields > 20, "the walk saw only {fields} fields");
    }
}

#[test]
fn schemas_are_what_the_api_server_takes_without_a_warning() {
    for definition in definition::all() {
        each_field(definition::schema(&definition), "", &mut |path, field| {
            assert!(field.get("nullable").is_none(), "{path} is nullable");
            assert_ne!(field.get("default"), Some(&Value::Null), "{path} has a null default");
            if let Some(format) = field.get("format").and_then(Value::as_str) {
                assert!(["int32", "int64", "date-time"].contains(&format), "{path}: {format}");
            }
        });
    }
}

#[test]
fn every_rule_has_a_message() {
    fn walk(value: &Value, rules: &mut usize) {
        match value {
            Value::Object(members) => {
                for rule in members
                    .get("x-kubernetes-validations")
                    .and_then(Value::as_array)
                    .into_iter()
                    .flatten()
                {
                    *rules += 1;
                    let message = rule.get("message").and_then(Value::as_str).unwrap_or_default();
                    assert!(message.len() > 30, "a rule without a message that helps: {rule}");
                }
                members.values().for_each(|inner| walk(inner, rules));
            }
            Value::Array(items) => items.iter().for_each(|inner| walk(inner, rules)),
            _ => {}
        }
    }
    let mut rules = 0;
    definition::all().iter().for_each(|definition| walk(definition, &mut rules));
    assert!(rules > 30, "the walk saw only {rules} rules");
}

#[test]
fn each_definition_is_under_256_kib() {
    for definition in definition::all() {
        let yaml = serde_yaml::to_string(&definition).unwrap();
        assert!(
            yaml.len() < 256 * 1024,
            "{} has {} bytes",
            definition::plural(&definition),
            yaml.len()
        );
    }
}

#[test]
fn generated_files_are_up_to_date() {
    let files = definition::files(reference::page).unwrap();
    assert_eq!(files.len(), 5);
    for (path, content) in files {
        let found = fs::read_to_string(checkout().join(&path)).unwrap_or_default();
        assert!(
            found == content,
            "{path} differs: run `cargo run -p kvfleet-crds --bin crdgen -- --write`"
        );
        let braces = content.matches("{{").count();
        assert_eq!(
            braces,
            if path.starts_with("charts/") { 2 } else { 0 },
            "{path}: braces that Helm would take for its own"
        );
    }
}

/// The defaults of the schema and of the types are one: what the API server fills in is what the operator would.
#[test]
fn defaults_of_the_schema_are_those_of_the_types() {
    fn filled(schema: &Value, given: &Value) -> Value {
        let mut object = given.clone();
        for (name, field) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
            let members = object.as_object_mut().unwrap();
            let value = members.get(name).or(field.get("default")).cloned();
            if let Some(value) = value {
                let value = if field.get("properties").is_some() {
                    filled(field, &value)
                } else {
                    value
                };
                members.insert(name.clone(), value);
            }
        }
        object
    }
    let [cluster, tenant] = definition::all();
    let given = json!({ "storage": { "size": "1Gi" } });
    let typed: cluster::KvClusterSpec = serde_json::from_value(given.clone()).unwrap();
    let spec = definition::schema(&cluster).pointer("/properties/spec").unwrap();
    assert_eq!(serde_json::to_value(typed).unwrap(), filled(spec, &given));

    let given = json!({ "clusterRef": { "name": "demo" } });
    let typed: kvfleet_crds::TenantSpec = serde_json::from_value(given.clone()).unwrap();
    let spec = definition::schema(&tenant).pointer("/properties/spec").unwrap();
    assert_eq!(serde_json::to_value(typed).unwrap(), filled(spec, &given));
}

/// An object that was stored under other rules is read all the same: one bad object must not hide the others.
#[test]
fn reading_is_more_tolerant_than_admission() {
    let cluster: KvCluster = serde_json::from_value(json!({
        "apiVersion": "kvfleet.dev/v1alpha1", "kind": "KvCluster", "metadata": { "name": "Odd" },
        "spec": { "storage": { "size": -5, "later": true }, "replicas": 4, "replication": { "heartbeatInterval": "soon" } },
    }))
    .unwrap();
    assert!(cluster.spec.storage.size.bytes().is_err());
    assert!(cluster.spec.replication.heartbeat_interval.get().is_err());
    assert_eq!(cluster.spec.replication.election_timeout.as_str(), "900ms");
}

/// Each example holds only fields that exist, spelt as they are: what it says survives a round through the types.
#[test]
fn examples_survive_the_types() {
    fn contains(whole: &Value, part: &Value, path: &str) {
        match part {
            Value::Object(members) => members.iter().for_each(|(name, inner)| {
                let found = whole.get(name).unwrap_or_else(|| panic!("{path}.{name} is no field"));
                contains(found, inner, &format!("{path}.{name}"));
            }),
            Value::Array(items) => items.iter().enumerate().for_each(|(index, inner)| {
                contains(whole.get(index).unwrap(), inner, &format!("{path}[{index}]"));
            }),
            scalar => assert_eq!(whole, scalar, "{path}"),
        }
    }
    let mut documents = 0;
    for entry in fs::read_dir(checkout().join("examples")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        for document in serde_yaml::Deserializer::from_str(&fs::read_to_string(&path).unwrap()) {
            let given: Value = serde::Deserialize::deserialize(document).unwrap();
            let name = path.display().to_string();
            let read = match given.get("kind").and_then(Value::as_str) {
                Some("KvCluster") => serde_json::to_value(serde_json::from_value::<KvCluster>(given.clone()).unwrap()),
                Some("Tenant") => serde_json::to_value(serde_json::from_value::<Tenant>(given.clone()).unwrap()),
                Some("Namespace") => continue,
                other => panic!("{name}: unexpected kind {other:?}"),
            };
            contains(&read.unwrap(), &given, &name);
            documents += 1;
        }
    }
    assert!(documents >= 6, "the examples hold only {documents} documents");
}
