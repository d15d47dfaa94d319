//! The `CustomResourceDefinition` that the types print.

#![allow(clippy::unwrap_used)] // helpers of tests fail by it

use serde_json::Value;

/// A third of what `kubectl apply` can note down of an object (256 KiB), as JSON in an annotation.
const SMALL: usize = 80 * 1_024;

/// What Kubernetes defines, and what only the operator writes.
const FOREIGN: [&str; 4] = [
    ".spec.template",
    ".spec.collector.resources",
    ".spec.collector.tolerations",
    ".status",
];

fn crd() -> Value {
    serde_saphyr::from_str(&harmony_api::crd_yaml().unwrap()).unwrap()
}

fn schema(crd: &Value) -> &Value {
    crd.pointer("/spec/versions/0/schema/openAPIV3Schema").unwrap()
}

/// What the API server asks of a structural schema, and of the formats it knows.
fn assert_structural(schema: &Value, path: &str) {
    let any = schema["x-kubernetes-int-or-string"] == true;
    assert!(schema["type"].is_string() || any, "{path} has no type");
    for word in ["$ref", "definitions", "allOf", "anyOf", "not"] {
        assert!(schema.get(word).is_none(), "{path} has {word}");
    }
    assert!(
        matches!(schema["format"].as_str(), None | Some("int32" | "int64" | "date-time")),
        "{path}: {}",
        schema["format"]
    );
    let is_map = schema.get("additionalProperties").is_some();
    assert!(
        !is_map || schema.get("properties").is_none(),
        "{path} is a map with fields"
    );
    if is_map {
        assert_structural(&schema["additionalProperties"], &format!("{path}{{}}"));
    }
    for alternative in schema["oneOf"].as_array().into_iter().flatten() {
        let words: Vec<_> = alternative.as_object().unwrap().keys().collect();
        assert_eq!(words, ["required"], "{path} says more than which field must be there");
    }
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        assert_structural(field, &format!("{path}.{name}"));
    }
    if schema["type"] == "array" {
        assert_structural(&schema["items"], &format!("{path}[]"));
    }
    let is_ours = FOREIGN.iter().all(|foreign| !path.starts_with(foreign));
    assert!(!is_ours || is_bounded(schema), "{path} is unbounded");
}

fn is_bounded(schema: &Value) -> bool {
    match schema["type"].as_str() {
        Some("array") => schema["maxItems"].is_number(),
        Some("string") => schema["maxLength"].is_number() || schema["enum"].is_array(),
        Some("integer") => schema["maximum"].is_number(),
        _ => !schema["additionalProperties"].is_object() || schema["maxProperties"].is_number(),
    }
}

#[test]
fn the_schema_is_structural_bounded_and_small() {
    let crd = crd();
    assert_structural(schema(&crd), "");
    let annotation = crd.to_string();
    assert!(annotation.len() < SMALL, "{} bytes", annotation.len());
}

#[test]
fn the_resource_is_named_as_documented() {
    let crd = crd();
    assert_eq!(crd["metadata"]["name"], "harmonybatches.harmony.dev");
    assert_eq!(crd["spec"]["group"], "harmony.dev");
    assert_eq!(crd["spec"]["scope"], "Namespaced");
    assert_eq!(crd["spec"]["names"]["kind"], "HarmonyBatch");
    assert_eq!(crd["spec"]["names"]["shortNames"][0], "hb");
    assert_eq!(crd["spec"]["versions"][0]["name"], "v1alpha1");
    assert_eq!(crd["spec"]["versions"][0]["storage"], true);
}

#[test]
fn the_api_server_fills_in_the_same_defaults() {
    let crd = crd();
    let fields = &schema(&crd)["properties"]["spec"]["properties"];
    assert_eq!(fields["parallelism"]["default"], 1);
    assert_eq!(fields["slotsPerWorker"]["default"], 1);
    assert_eq!(fields["backoffLimitPerIndex"]["default"], 3);
    assert_eq!(fields["tasks"]["default"]["range"], serde_json::json!({}));
    assert_eq!(fields["results"]["properties"]["maxBytesPerTask"]["default"], "16Mi");
}

const COPY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../crds/harmonybatches.yaml");

#[test]
fn the_committed_copy_is_what_the_types_print() {
    let copy = std::fs::read_to_string(COPY).unwrap();
    assert!(
        copy == harmony_api::crd_yaml().unwrap(),
        "{COPY} is not what the types print; `cargo xtask crds` writes it anew"
    );
}

/// Levels of lists and mappings below and with this one.
fn depth(schema: &Value) -> usize {
    let fields = schema["properties"]
        .as_object()
        .into_iter()
        .flat_map(|fields| fields.values());
    let inner = fields
        .chain(schema.get("items"))
        .chain(schema.get("additionalProperties"));
    let levels = usize::from(matches!(schema["type"].as_str(), Some("object" | "array")));
    levels + inner.map(depth).max().unwrap_or_default()
}

#[test]
fn a_file_may_nest_as_deep_as_a_pod_template() {
    assert!(depth(schema(&crd())) < harmony_api::limits::MAX_DEPTH);
}
