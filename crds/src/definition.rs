//! The CustomResourceDefinitions, as the API server takes them.
//!
//! In: the schemas derived from the types. Out: a JSON value for each definition, with what the derivation cannot say: rules that
//! see the object's name, and integer formats that OpenAPI knows. Absent: YAML and files, which are `crdgen`'s.

use kube::CustomResourceExt;
use serde_json::{Map, Value};

use crate::{KvCluster, Tenant, cluster, tenant};

/// Every definition, in the order of the kinds.
#[must_use]
pub fn all() -> [Value; 2] {
    [
        definition::<KvCluster>(cluster::object_rules()),
        definition::<Tenant>(tenant::object_rules()),
    ]
}

/// The file name of a definition: its plural.
#[must_use]
pub fn plural(definition: &Value) -> &str {
    definition
        .pointer("/spec/names/plural")
        .and_then(Value::as_str)
        .expect("every definition made here has its plural")
}

/// The schema of a definition's only version.
#[must_use]
pub fn schema(definition: &Value) -> &Value {
    definition
        .pointer(SCHEMA)
        .expect("every definition made here has one version with a schema")
}

/// Every file made from the definitions, as its path in a checkout and its content. `page` renders the reference.
///
/// # Errors
/// When a definition cannot be rendered as YAML.
pub fn files(page: fn(&[Value]) -> String) -> Result<Vec<(String, String)>, serde_yaml::Error> {
    let definitions = all();
    let mut files = vec![("docs/crds.md".to_owned(), page(&definitions))];
    for definition in definitions {
        let name = plural(&definition);
        let note = "# Made by crdgen from the types in crds/: `make fix` writes it, `make verify` compares it.\n";
        let plain = serde_yaml::to_string(&definition)?;
        files.push((format!("crds/generated/{name}.yaml"), format!("{note}{plain}")));
        files.push((
            format!("charts/kvfleet/templates/crds/{name}.yaml"),
            format!(
                "{{{{- if .Values.crds.install }}}}\n{note}{}{{{{- end }}}}\n",
                for_the_chart(&definition)?
            ),
        ));
    }
    Ok(files)
}

/// The definition as a template of the chart: upgraded with it, and kept when it is uninstalled, because the deletion of a
/// definition deletes every object of its kind.
fn for_the_chart(definition: &Value) -> Result<String, serde_yaml::Error> {
    let mut definition = definition.clone();
    if let Some(metadata) = definition.pointer_mut("/metadata").and_then(Value::as_object_mut) {
        metadata.insert("annotations".to_owned(), serde_json::json!({ "helm.sh/resource-policy": "keep" }));
    }
    serde_yaml::to_string(&definition)
}

const SCHEMA: &str = "/spec/versions/0/schema/openAPIV3Schema";

fn definition<K: CustomResourceExt>(object_rules: Value) -> Value {
    let mut definition = serde_json::to_value(K::crd()).expect("a definition is plain data, always JSON");
    let schema = definition
        .pointer_mut(SCHEMA)
        .and_then(Value::as_object_mut)
        .expect("the derivation gives one version with a schema");
    tidy(schema);
    schema.remove("title");
    schema.insert("x-kubernetes-validations".to_owned(), object_rules);
    definition
}

/// Brings a derived schema to what the API server knows, here and below.
fn tidy(schema: &mut Map<String, Value>) {
    // `null` for a field that is not nullable counts as leaving it out, and then its default applies: so nothing is nullable.
    schema.remove("nullable");
    if schema.get("default").is_some_and(Value::is_null) {
        schema.remove("default");
    }
    // A doc comment's line ends are not the reader's; its paragraphs are.
    if let Some(Value::String(description)) = schema.get_mut("description") {
        let paragraphs: Vec<_> = description.split("\n\n").map(|text| text.replace('\n', " ")).collect();
        *description = paragraphs.join("\n\n");
    }
    // Kubernetes reads bounds as floats; whole ones are clearer whole.
    for bound in ["minimum", "maximum"] {
        if let Some(bound) = schema.get_mut(bound)
            && let Some(number) = bound.as_f64().filter(|number| number.fract() == 0.0)
            && let Ok(whole) = format!("{number:.0}").parse::<i64>()
        {
            *bound = Value::from(whole);
        }
    }
    // Formats of Rust's unsigned integers are unknown to OpenAPI, and the API server warns of them.
    if let Some(format) = schema.get_mut("format")
        && let Some("uint8" | "uint16" | "uint32" | "uint64" | "uint") = format.as_str()
    {
        *format = Value::from("int64");
    }
    if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
        properties.values_mut().filter_map(Value::as_object_mut).for_each(tidy);
    }
    for inner in ["items", "additionalProperties"] {
        if let Some(inner) = schema.get_mut(inner).and_then(Value::as_object_mut) {
            tidy(inner);
        }
    }
}
