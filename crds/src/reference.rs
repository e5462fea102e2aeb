//! The reference page of the custom resources, in Markdown.
//!
//! In: the definitions. Out: the text of `docs/crds.md`: every field with its type, default and description, and every
//! rule by the message that its violation gives. Absent: anything that is not in the schema, and the insides of the
//! types that Kubernetes itself documents.

use std::fmt::Write;

use serde_json::Value;

use crate::definition;

/// Fields whose insides are those of a Pod.
const AS_IN_A_POD: [&str; 3] = ["affinity", "tolerations", "topologySpreadConstraints"];

/// The whole page.
#[must_use]
pub fn page(definitions: &[Value]) -> String {
    let mut page = String::from(
        "<!-- Made by crdgen from the schemas: `make fix` writes it, `make verify` compares it. -->\n\n\
         # The custom resources\n\n\
         Quantities are whole numbers of bytes, as an integer or as text with a unit (`64Ki`, `10Gi`); durations are numbers with the units\n\
         `ms`, `s`, `m` and `h` (`500ms`, `1h30m`). The API server refuses unknown fields, and every violation of a rule with the message\n\
         given here. `kubectl explain kvcluster.spec` shows the same descriptions.\n",
    );
    for definition in definitions {
        describe(&mut page, definition).expect("writing to a String does not fail");
    }
    page
}

fn describe(page: &mut String, definition: &Value) -> std::fmt::Result {
    let text = |pointer: &str| definition.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let schema = definition::schema(definition);
    writeln!(
        page,
        "\n## {} (`{}`)\n\n`apiVersion: {}/{}`\n\n{}",
        text("/spec/names/kind"),
        text("/spec/names/shortNames/0"),
        text("/spec/group"),
        text("/spec/versions/0/name"),
        description(schema),
    )?;
    for part in ["spec", "status"] {
        writeln!(page, "\n### {part}\n\n| field | type | default | meaning |\n|---|---|---|---|")?;
        if let Some(part_schema) = schema.pointer(&format!("/properties/{part}")) {
            rows(page, part, part_schema)?;
        }
    }
    writeln!(page, "\n### Rules\n\n| at | message |\n|---|---|")?;
    rules(page, "", schema)
}

/// A row for each field below `path`, depth first.
fn rows(page: &mut String, path: &str, schema: &Value) -> std::fmt::Result {
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else {
        return Ok(());
    };
    let required: Vec<&str> = schema
        .get("required")
        .and_then(Value::as_array)
        .map(|names| names.iter().filter_map(Value::as_str).collect())
        .unwrap_or_default();
    for (name, field) in properties {
        let path = format!("{path}.{name}");
        let default = match field.get("default") {
            _ if required.contains(&name.as_str()) => "required".to_owned(),
            // The default of an object is that of its fields, which have rows of their own.
            None | Some(Value::Object(_)) => String::new(),
            Some(Value::String(text)) => format!("`{text}`"),
            Some(value) => format!("`{value}`"),
        };
        writeln!(
            page,
            "| `{}` | {} | {default} | {} |",
            path.split_once('.').map_or(path.as_str(), |(_, inner)| inner),
            type_of(name, field),
            in_a_cell(description(field)),
        )?;
        if AS_IN_A_POD.contains(&name.as_str()) {
            continue;
        }
        rows(page, &path, field)?;
        if let Some(item) = field.get("items") {
            rows(page, &format!("{path}[]"), item)?;
        }
    }
    Ok(())
}

fn rules(page: &mut String, path: &str, schema: &Value) -> std::fmt::Result {
    let own = schema.get("x-kubernetes-validations").and_then(Value::as_array);
    for rule in own.into_iter().flatten() {
        let text = |name: &str| rule.get(name).and_then(Value::as_str).unwrap_or_default();
        let field = format!("{path}{}", text("fieldPath"));
        let at = field.trim_start_matches('.');
        writeln!(
            page,
            "| `{}` | {} |",
            if at.is_empty() { "metadata.name" } else { at },
            in_a_cell(text("message")),
        )?;
    }
    let properties = schema.get("properties").and_then(Value::as_object);
    for (name, field) in properties.into_iter().flatten() {
        rules(page, &format!("{path}.{name}"), field)?;
    }
    Ok(())
}

fn type_of(name: &str, field: &Value) -> String {
    let simple = field.get("type").and_then(Value::as_str).unwrap_or("quantity");
    if AS_IN_A_POD.contains(&name) {
        return format!("{simple}, as in a Pod");
    }
    if let Some(values) = field.get("enum").and_then(Value::as_array) {
        let values: Vec<_> = values.iter().filter_map(Value::as_str).collect();
        return values.join(", ");
    }
    match simple {
        "object" if field.get("additionalProperties").is_some() => "map".to_owned(),
        "array" => "list".to_owned(),
        other => other.to_owned(),
    }
}

fn description(schema: &Value) -> &str {
    schema.get("description").and_then(Value::as_str).unwrap_or_default()
}

/// A cell of a Markdown table holds no line break and no bare bar.
fn in_a_cell(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}
