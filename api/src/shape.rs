//! Checks a document against the schema that the API server enforces, so that both say no to the same files.
//!
//! It goes further in one thing: the API server drops unknown fields, here they are problems, since most are typing
//! errors.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use serde_json::Value;

use crate::node::{Content, Entry, Node};
use crate::problem::{FieldPath, Place, Problem};

/// How alike two names are, from 0 to 1, for one to be proposed in place of the other.
const ALIKE: f64 = 0.6;

/// Every problem of `node`, which is at `path`, against `schema`.
pub(crate) fn check(node: &Node, path: &FieldPath, schema: &JSONSchemaProps) -> Vec<Problem> {
    let mut checker = Checker::default();
    checker.value(node, path, schema);
    checker.problems
}

#[derive(Default)]
struct Checker {
    problems: Vec<Problem>,
}

impl Checker {
    fn value(&mut self, node: &Node, path: &FieldPath, schema: &JSONSchemaProps) {
        if node.is_null() && schema.nullable == Some(true) {
            return;
        }
        match (&node.content, schema.type_.as_deref()) {
            (Content::Mapping(entries), Some("object")) => self.mapping(node.place, entries, path, schema),
            (Content::List(nodes), Some("array")) => self.list(node.place, nodes, path, schema),
            (Content::Scalar(Value::String(text)), Some("string")) if schema.enum_.is_none() => {
                self.length(node.place, text, path, schema);
            }
            (Content::Scalar(value), _) if scalar_fits(value, schema) => {}
            // `no` is a boolean in YAML: whoever wrote it needs to hear more than "found false".
            (Content::Scalar(Value::Bool(found)), Some("string")) => {
                let message = format!(
                    "found the boolean {found}, expected {}; quotes make it one",
                    expected(schema)
                );
                self.add(node.place, path, message);
            }
            _ => self.add(node.place, path, format!("found {node}, expected {}", expected(schema))),
        }
    }

    fn length(&mut self, place: Place, text: &str, path: &FieldPath, schema: &JSONSchemaProps) {
        let length = i64::try_from(text.chars().count()).unwrap_or(i64::MAX);
        if schema.min_length.is_some_and(|least| length < least) {
            self.add(place, path, format!("is empty, expected {}", expected(schema)));
        } else if let Some(most) = schema.max_length.filter(|&most| length > most) {
            self.add(
                place,
                path,
                format!("found {length} characters, expected at most {most}"),
            );
        }
    }

    fn list(&mut self, place: Place, nodes: &[Node], path: &FieldPath, schema: &JSONSchemaProps) {
        let count = i64::try_from(nodes.len()).unwrap_or(i64::MAX);
        let (least, most) = (schema.min_items.unwrap_or(0), schema.max_items.unwrap_or(i64::MAX));
        if count < least || count > most {
            self.add(
                place,
                path,
                format!("found {count} entries, expected {least} to {most}"),
            );
            return;
        }
        if let Some(JSONSchemaPropsOrArray::Schema(entry)) = &schema.items {
            for (index, node) in nodes.iter().enumerate() {
                self.value(node, &path.entry(index), entry);
            }
        }
    }

    fn mapping(&mut self, place: Place, entries: &[Entry], path: &FieldPath, schema: &JSONSchemaProps) {
        if schema.x_kubernetes_preserve_unknown_fields == Some(true) {
            return;
        }
        if let Some(JSONSchemaPropsOrBool::Schema(any)) = &schema.additional_properties {
            for entry in entries {
                self.value(&entry.node, &path.field(&entry.name), any);
            }
            return;
        }
        let mut all_known = true;
        for entry in entries {
            let path = path.field(&entry.name);
            if let Some(field) = schema.properties.as_ref().and_then(|fields| fields.get(&entry.name)) {
                self.value(&entry.node, &path, field);
            } else {
                all_known = false;
                self.add(entry.place, &path, unknown_field(&entry.name, schema));
            }
        }
        self.missing(place, entries, path, schema);
        // An unknown field explains why the right one is not there.
        if all_known {
            self.alternatives(place, entries, path, schema);
        }
    }

    fn missing(&mut self, place: Place, entries: &[Entry], path: &FieldPath, schema: &JSONSchemaProps) {
        for name in schema.required.iter().flatten() {
            if !entries.iter().any(|entry| entry.name == *name) {
                let field = schema.properties.as_ref().and_then(|fields| fields.get(name));
                let wanted = field.map_or_else(|| "a value".to_owned(), expected);
                self.add(place, &path.field(name), format!("missing, expected {wanted}"));
            }
        }
    }

    fn alternatives(&mut self, place: Place, entries: &[Entry], path: &FieldPath, schema: &JSONSchemaProps) {
        let allowed = alternatives(schema);
        let found: Vec<_> = entries
            .iter()
            .map(|entry| entry.name.as_str())
            .filter(|name| allowed.contains(name))
            .collect();
        if !allowed.is_empty() && found.len() != 1 {
            let found = if found.is_empty() {
                "none".to_owned()
            } else {
                found.join(" and ")
            };
            self.add(
                place,
                path,
                format!("found {found}, expected exactly one of {}", allowed.join(", ")),
            );
        }
    }

    fn add(&mut self, place: Place, path: &FieldPath, message: String) {
        self.problems.push(Problem {
            place,
            path: path.clone(),
            message,
        });
    }
}

fn scalar_fits(value: &Value, schema: &JSONSchemaProps) -> bool {
    if let Some(allowed) = &schema.enum_ {
        return allowed.iter().any(|allowed| allowed.0 == *value);
    }
    match (value, schema.type_.as_deref()) {
        (Value::Number(number), Some("integer")) => {
            let in_range = number.as_f64().is_some_and(|number| {
                schema.minimum.is_none_or(|least| number >= least) && schema.maximum.is_none_or(|most| number <= most)
            });
            !number.is_f64() && in_range
        }
        (Value::Bool(_), Some("boolean")) => true,
        (Value::Number(number), None) => schema.x_kubernetes_int_or_string == Some(true) && number.is_i64(),
        (Value::String(_), None) => schema.x_kubernetes_int_or_string == Some(true),
        _ => false,
    }
}

/// What the schema allows, in words.
fn expected(schema: &JSONSchemaProps) -> String {
    if let Some(allowed) = &schema.enum_ {
        return allowed
            .iter()
            .map(|allowed| allowed.0.to_string())
            .collect::<Vec<_>>()
            .join(" or ");
    }
    let title = schema.title.as_deref();
    match schema.type_.as_deref() {
        Some("object") if !alternatives(schema).is_empty() => {
            format!("exactly one of {}", alternatives(schema).join(", "))
        }
        Some("object") => "a mapping".to_owned(),
        Some("array") => "a list".to_owned(),
        Some("boolean") => "true or false".to_owned(),
        Some("integer") => format!("an integer{}", bounds(schema.minimum, schema.maximum)),
        Some("string") => title.map_or_else(|| "a string".to_owned(), |title| format!("{title} (a string)")),
        _ => title.unwrap_or("a value").to_owned(),
    }
}

fn bounds(least: Option<f64>, most: Option<f64>) -> String {
    match (least, most) {
        (Some(least), Some(most)) => format!(" from {least} to {most}"),
        (Some(least), None) => format!(" of at least {least}"),
        (None, Some(most)) => format!(" of at most {most}"),
        (None, None) => String::new(),
    }
}

/// The fields of which exactly one must be there.
fn alternatives(schema: &JSONSchemaProps) -> Vec<&str> {
    schema
        .one_of
        .iter()
        .flatten()
        .flat_map(|one| one.required.iter().flatten())
        .map(String::as_str)
        .collect()
}

fn unknown_field(name: &str, schema: &JSONSchemaProps) -> String {
    let allowed: Vec<_> = schema
        .properties
        .iter()
        .flat_map(|fields| fields.keys())
        .map(String::as_str)
        .collect();
    if allowed.is_empty() {
        return "unknown field; none is allowed here".to_owned();
    }
    let likeness =
        |allowed: &str| strsim::normalized_damerau_levenshtein(&allowed.to_lowercase(), &name.to_lowercase());
    let closest = allowed.iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
    let hint = closest.filter(|closest| likeness(closest) >= ALIKE);
    let hint = hint.map_or_else(|| ".".to_owned(), |hint| format!(", did you mean {hint}?"));
    format!("unknown field{hint} Allowed here: {}", allowed.join(", "))
}
