//! The `CustomResourceDefinition` that the types print.

#![allow(clippy::unwrap_used)] // helpers of tests fail by it

use serde_json::Value;

/// Far below what `kubectl apply` can note down of an object (256 KiB), and quick to read.
const SMALL: usize = 16 * 1_024;

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
    for word in ["$ref", "definitions", "additionalProperties", "allOf", "anyOf", "not"] {
        assert!(schema.get(word).is_none(), "{path} has {word}");
    }
    assert!(
        matches!(schema["format"].as_str(), None | Some("int32" | "int64")),
        "{path}: {}",
        schema["format"]
    );
    for alternative in schema["oneOf"].as_array().into_iter().flatten() {
        let words: Vec<_> = alternative.as_object().unwrap().keys().collect();
        assert_eq!(words, ["required"], "{path} says more than which field must be there");
    }
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        assert_structural(field, &format!("{path}.{name}"));
    }
    if schema["type"] == "array" {
        assert_structural(&schema["items"], &format!("{path}[]"));
        assert!(schema["maxItems"].is_number(), "{path} is unbounded");
    }
    if schema["type"] == "string" && schema["enum"].is_null() {
        assert!(schema["maxLength"].is_number(), "{path} is unbounded");
    }
    if schema["type"] == "integer" {
        assert!(schema["maximum"].is_number(), "{path} is unbounded");
    }
}

#[test]
fn the_schema_is_structural_bounded_and_small() {
    let crd = crd();
    assert_structural(schema(&crd), "");
    let yaml = harmony_api::crd_yaml().unwrap();
    assert!(yaml.len() < SMALL, "{} bytes", yaml.len());
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
