//! The API as a real API server takes it: every rule accepted and refused, what is pruned, and what `kubectl` shows.

#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests fail by it

#[path = "../../api/tests/rules/cases.rs"]
mod cases;

use std::time::Duration;

use harmony_api::spec::HarmonyBatch;
use harmony_e2e::{ensure_installed, eventually, kubectl};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};

use crate::cases::{BASE, CHANGED, CREATED, Case};

/// How long the API server may take to publish the schema of a new resource.
const PUBLISHED: Duration = Duration::from_mins(1);

/// A namespace of its own on a cluster that knows the resource.
struct Place {
    client: Client,
    namespace: String,
}

impl Place {
    async fn new() -> Self {
        // Another provider may be linked too, and then none is the default.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        // Once for all tests of this program: two that apply at the same time would both create.
        ensure_installed().await.unwrap();
        let client = Client::try_default().await.unwrap();
        let namespace = format!("api-{}", uuid::Uuid::new_v4());
        let object = serde_json::from_value(json!({ "metadata": { "name": namespace } })).unwrap();
        let namespaces: Api<Namespace> = Api::all(client.clone());
        namespaces.create(&PostParams::default(), &object).await.unwrap();
        Self { client, namespace }
    }

    fn batches(&self) -> Api<HarmonyBatch> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Creates a batch from [`BASE`] and a change to it; the answer is what the API server keeps, or says.
    async fn create(&self, name: &str, change: &str, dry_run: bool) -> Result<Value, String> {
        let mut spec: Value = serde_json::from_str(BASE).unwrap();
        json_merge(&mut spec, &serde_json::from_str(change).unwrap());
        let object = json!({
            "apiVersion": "harmony.dev/v1alpha1", "kind": "HarmonyBatch", "metadata": {"name": name}, "spec": spec,
        });
        // Not as a typed object: that would drop what the API server is to prune.
        let resource = kube::core::ApiResource::erase::<HarmonyBatch>(&());
        let api: Api<kube::core::DynamicObject> = Api::namespaced_with(self.client.clone(), &self.namespace, &resource);
        let params = PostParams {
            dry_run,
            ..PostParams::default()
        };
        let created = api.create(&params, &serde_json::from_value(object).unwrap()).await;
        created
            .map(|created| serde_json::to_value(created).unwrap())
            .map_err(|error| error.to_string())
    }

    async fn leave(self) {
        let namespaces: Api<Namespace> = Api::all(self.client);
        namespaces
            .delete(&self.namespace, &DeleteParams::default())
            .await
            .unwrap();
    }
}

fn json_merge(target: &mut Value, patch: &Value) {
    for (name, value) in patch.as_object().unwrap() {
        match value {
            Value::Null => drop(target.as_object_mut().unwrap().remove(name)),
            Value::Object(_) if target[name].is_object() => json_merge(&mut target[name], value),
            value => target[name] = value.clone(),
        }
    }
}

#[track_caller]
fn assert_verdict<T>(case: &Case, answer: Result<T, String>) {
    match (case.refused, answer.err()) {
        (None, None) => {}
        (Some(message), Some(said)) if said.contains(message) => {}
        (expected, said) => panic!("{}: expected {expected:?}, found {said:?}", case.change),
    }
}

#[tokio::test]
async fn every_rule_is_enforced() {
    let place = Place::new().await;
    for case in CREATED {
        assert_verdict(case, place.create("created", case.change, true).await);
    }
    place.create("changed", "{}", false).await.unwrap();
    let dry_run = PatchParams {
        dry_run: true,
        ..PatchParams::default()
    };
    for case in CHANGED {
        let change: Value = serde_json::from_str(case.change).unwrap();
        let patched = place
            .batches()
            .patch("changed", &dry_run, &Patch::Merge(json!({ "spec": change })))
            .await;
        assert_verdict(case, patched.map_err(|error| error.to_string()));
    }
    place.leave().await;
}

/// The bounds and alternatives of the schema, which a file is checked against as well.
#[tokio::test]
async fn the_schema_is_enforced() {
    let place = Place::new().await;
    for (change, message) in [
        (r#"{"parallelism": 4001}"#, "should be less than or equal to 4000"),
        (r#"{"slotsPerWorker": 0}"#, "should be greater than or equal to 1"),
        (
            r#"{"tasks": {"range": {}, "items": ["a", "b", "c"]}}"#,
            "must validate one and only one schema (oneOf)",
        ),
        (
            r#"{"executor": {"exec": {"command": []}}}"#,
            "should have at least 1 items",
        ),
        (
            r#"{"completionMode": "NonIndexed"}"#,
            "Unsupported value: \"NonIndexed\"",
        ),
        (
            r#"{"template": {"spec": {"containers": [{"image": "i"}]}}}"#,
            "containers[0].name: Required value",
        ),
    ] {
        let said = place.create("bounds", change, true).await.unwrap_err();
        assert!(said.contains(message), "{change}: {said}");
    }
    let items = vec!["x"; 65_537];
    let change = json!({ "completions": null, "tasks": { "items": items } }).to_string();
    let said = place.create("bounds", &change, true).await.unwrap_err();
    assert!(said.contains("must have at most 65536 items"), "{said}");
    // A list at its limit can be compared with itself within the budget for rules.
    let items: Vec<_> = (0..65_536).map(|number: u32| number.to_string()).collect();
    let change = json!({ "completions": null, "tasks": { "items": items } }).to_string();
    place.create("large", &change, false).await.unwrap();
    let more = Patch::Merge(json!({ "spec": { "parallelism": 2 } }));
    place
        .batches()
        .patch("large", &PatchParams::default(), &more)
        .await
        .unwrap();
    place.leave().await;
}

#[tokio::test]
async fn unknown_fields_are_pruned_and_templates_kept() {
    let place = Place::new().await;
    let change = r#"{"podReplacementPolicy": "Failed",
        "template": {"metadata": {"labels": {"a": "b"}, "annotations": {"c": "d"}, "name": "dropped"},
            "spec": {"nodeSelector": {"e": "f"}, "containers": [{"name": "worker", "image": "i", "zzz": 1,
                "env": [{"name": "G", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]}]}}}"#;
    let kept = place.create("kept", change, true).await.unwrap();
    let template = json!({
        "metadata": { "labels": { "a": "b" }, "annotations": { "c": "d" } },
        "spec": { "nodeSelector": { "e": "f" }, "containers": [{ "name": "worker", "image": "i",
            "env": [{ "name": "G", "valueFrom": { "fieldRef": { "fieldPath": "metadata.name" } } }] }] },
    });
    assert_eq!(kept["spec"]["template"], template);
    assert!(kept["spec"].get("podReplacementPolicy").is_none(), "{kept}");
    assert_eq!(kept["spec"]["parallelism"], 1);
    assert_eq!(kept["spec"]["tasks"], json!({ "range": {} }));
    place.leave().await;
}

#[tokio::test]
async fn the_status_scale_and_fields_are_served() {
    let place = Place::new().await;
    // Whatever operator runs here leaves it alone.
    let foreign = r#"{"suspend": true, "managedBy": "example.org/somebody-else"}"#;
    place.create("shown", foreign, false).await.unwrap();
    let status = json!({ "status": {
        "state": "Running", "completions": "1/3", "progressPercent": 33, "ready": 2, "active": 3, "selector": "a=b",
        "tasks": { "total": 3, "pending": 1, "inFlight": 1, "succeeded": 1, "failed": 0 },
        "epoch": 7, "collectorRef": { "name": "c", "uid": "u" }, "throughputPerSecond": "0.5",
        "conditions": [{ "type": "Complete", "status": "False", "reason": "Running", "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00Z" }],
    } });
    let batches = place.batches();
    batches
        .patch_status("shown", &PatchParams::default(), &Patch::Merge(status))
        .await
        .unwrap();
    let scale = batches.get_scale("shown").await.unwrap();
    assert_eq!(scale.spec.unwrap().replicas, Some(1));
    let replicas = scale.status.unwrap();
    assert_eq!((replicas.replicas, replicas.selector.as_deref()), (3, Some("a=b")));
    kubectl(&["-n", &place.namespace, "scale", "hb/shown", "--replicas=2"])
        .await
        .unwrap();
    assert_eq!(batches.get("shown").await.unwrap().spec.parallelism, 2);
    for selector in ["status.state=Running", "spec.suspend=true"] {
        let shown = kubectl(&[
            "-n",
            &place.namespace,
            "get",
            "hb",
            "--field-selector",
            selector,
            "-o",
            "wide",
        ])
        .await
        .unwrap();
        let columns: Vec<Vec<_>> = shown.lines().map(|line| line.split_whitespace().collect()).collect();
        let (head, row) = (&columns[0], &columns[1]);
        assert_eq!(head[..4], ["NAME", "STATE", "COMPLETIONS", "PROGRESS(%)"], "{shown}");
        assert_eq!(row[..6], ["shown", "Running", "1/3", "33", "2", "0"], "{shown}");
        assert_eq!(row[row.len() - 3..], ["0.5", "7", "c"], "{shown}");
    }
    place.leave().await;
}

#[tokio::test]
async fn fields_are_explained() {
    let place = Place::new().await;
    // The API server publishes a new schema a moment after the resource itself.
    let explained = eventually("the schema to be published", PUBLISHED, async || {
        kubectl(&["explain", "hb.spec"]).await
    })
    .await
    .unwrap();
    for words in [
        "How many tasks there are, numbered from 0.",
        "exactly one source",
        "as in a Job",
    ] {
        assert!(explained.contains(words), "{words:?} is not in\n{explained}");
    }
    let deep = kubectl(&["explain", "hb.spec.template.spec.containers.resources"])
        .await
        .unwrap();
    assert!(deep.contains("limits"), "{deep}");
    place.leave().await;
}
