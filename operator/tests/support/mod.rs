//! Batches from short YAML, and the objects that become of them.

#![allow(dead_code)] // each file of tests uses a part

pub(crate) mod manifests;
pub(crate) mod network;
pub(crate) mod restricted;

use harmony_api::spec::HarmonyBatch;
use harmony_operator::reconcile::build::{Delivery, Links, Settings, worker_pod};
use harmony_operator::reconcile::dereference::Dereferenced;
use harmony_operator::reconcile::validate::{Batch, Error, validate};
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};
use serde_json::Value;

/// The smallest spec there is.
pub(crate) const SMALL: &str = "
  completions: 10
  template: {spec: {containers: [{name: worker, image: example/render:1, command: [/render, --index, $(INDEX)]}]}}
";

/// A spec with these containers that runs a filter.
pub(crate) fn filter(containers: &str) -> String {
    format!(
        "
  completions: 10
  executor: {{process: {{command: [/filter]}}}}
  template: {{spec: {{containers: {containers}}}}}
"
    )
}

/// A batch as an API server hands it out.
pub(crate) fn resource(name: &str, spec: &str) -> HarmonyBatch {
    let yaml = format!(
        "
apiVersion: harmony.dev/v1alpha1
kind: HarmonyBatch
metadata: {{name: {name}, namespace: films, uid: 6f1c2a34-5b6d-4e7f-8a9b-0c1d2e3f4a5b, generation: 3}}
spec:{spec}"
    );
    serde_saphyr::from_str(&yaml).unwrap()
}

#[track_caller]
pub(crate) fn batch(spec: &str) -> Batch {
    validate(&resource("render", spec), Dereferenced::default()).unwrap()
}

/// The problems of a spec.
#[track_caller]
pub(crate) fn refused(spec: &str) -> Vec<String> {
    match validate(&resource("render", spec), Dereferenced::default()) {
        Err(Error::Spec(problems)) => problems,
        other => panic!("{other:?}"),
    }
}

pub(crate) fn settings(links: Links) -> Settings {
    Settings {
        image: "harmony:dev".to_owned(),
        image_pull_policy: Some("IfNotPresent".to_owned()),
        image_pull_secrets: Vec::new(),
        delivery: Delivery::Copy,
        links,
        operator_namespace: "harmony-system".to_owned(),
        scrape_annotations: false,
        trace_flags: Vec::new(),
    }
}

/// The pod of the third worker, which was replaced once.
#[track_caller]
pub(crate) fn worker(spec: &str) -> Pod {
    worker_pod(&batch(spec), &settings(Links::InsecureTcp), 2, 1)
}

#[track_caller]
pub(crate) fn worker_spec(spec: &str) -> PodSpec {
    worker(spec).spec.unwrap()
}

#[track_caller]
pub(crate) fn named<'a>(containers: &'a [Container], name: &str) -> &'a Container {
    containers.iter().find(|container| container.name == name).unwrap()
}

/// Compares an object with what is written down of it, field by field.
#[track_caller]
pub(crate) fn assert_written(object: &impl serde::Serialize, expected: &str) {
    let expected: Value = serde_saphyr::from_str(expected).unwrap();
    let built = serde_json::to_value(object).unwrap();
    assert_eq!(
        built,
        expected,
        "built:\n{}",
        serde_json::to_string_pretty(&built).unwrap()
    );
}
