//! What the derived schemas need before the API server takes them.

use k8s_openapi::api::core::v1::{PodTemplateSpec, ResourceRequirements, Toleration};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value, json};

use crate::limits::{MAX_CONTAINERS, MAX_LABEL, MAX_SELECTOR, MAX_TOLERATIONS};

/// The schema of a pod template, small enough for an annotation: without descriptions, which `kubectl explain pod` has.
pub(super) fn pod_template(generator: &mut SchemaGenerator) -> Schema {
    let mut schema = undescribed::<PodTemplateSpec>(generator);
    let texts = json!({ "type": "object", "nullable": true, "additionalProperties": { "type": "string" } });
    // The API server keeps only what is named here. The time is what `kubectl create --dry-run` writes, as null.
    let metadata = json!({
        "type": "object",
        "properties": {
            "annotations": texts,
            "creationTimestamp": { "type": "string", "format": "date-time", "nullable": true },
            "labels": texts,
        },
    });
    add(&mut schema, "/properties", "metadata", metadata);
    // A rule that looks for the worker's container must have an end.
    let containers = "/properties/spec/properties/containers";
    add(&mut schema, containers, "maxItems", MAX_CONTAINERS);
    add(
        &mut schema,
        &format!("{containers}/items/properties/name"),
        "maxLength",
        MAX_LABEL,
    );
    schema
}

/// The schema of what a container asks for.
pub(super) fn resources(generator: &mut SchemaGenerator) -> Schema {
    undescribed::<ResourceRequirements>(generator)
}

/// The schema of a list of tolerations.
pub(super) fn tolerations(generator: &mut SchemaGenerator) -> Schema {
    let items = undescribed::<Toleration>(generator);
    json_schema!({ "type": "array", "nullable": true, "maxItems": MAX_TOLERATIONS, "items": items })
}

/// The schema of a node selector.
pub(super) fn node_selector(_: &mut SchemaGenerator) -> Schema {
    let value = json!({ "type": "string", "maxLength": MAX_LABEL });
    json_schema!({ "type": "object", "nullable": true, "maxProperties": MAX_SELECTOR, "additionalProperties": value })
}

fn undescribed<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    let mut schema = T::json_schema(generator);
    if let Some(fields) = schema.as_object_mut() {
        strip(fields);
    }
    schema
}

/// Removes the descriptions at every level. A field that is itself called so is a schema, not a text.
fn strip(schema: &mut Map<String, Value>) {
    if schema.get("description").is_some_and(Value::is_string) {
        schema.remove("description");
    }
    for inner in schema.values_mut().filter_map(Value::as_object_mut) {
        strip(inner);
    }
}

fn add(schema: &mut Schema, pointer: &str, word: &str, value: impl Into<Value>) {
    if let Some(place) = schema.pointer_mut(pointer).and_then(Value::as_object_mut) {
        place.insert(word.to_owned(), value.into());
    }
}

/// The API server warns of the formats of unsigned integers, which it does not know.
pub(crate) fn kubernetes_formats(schema: &mut Schema) {
    let properties = schema.get_mut("properties").and_then(Value::as_object_mut);
    for property in properties.into_iter().flat_map(|fields| fields.values_mut()) {
        // Of a map, what it holds.
        let held = if property.get("additionalProperties").is_some_and(Value::is_object) {
            &mut property["additionalProperties"]
        } else {
            property
        };
        if let Some(format) = held
            .get_mut("format")
            .filter(|format| format.as_str().is_some_and(is_unsigned))
        {
            *format = "int64".into();
        }
    }
}

fn is_unsigned(format: &str) -> bool {
    format.starts_with("uint")
}
