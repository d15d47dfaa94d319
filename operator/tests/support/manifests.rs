//! The committed manifests: what the chart renders.

use std::fs;
use std::path::Path;

use clap::Parser as _;
use harmony_operator::args::{OperatorArgs, Program};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Container, PodSpec};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// With the chart's own values, for kubectl.
pub(crate) const DEPLOY: &str = "deploy/harmony.yaml";
/// With rights in two namespaces alone.
pub(crate) const NAMESPACED: &str = "charts/harmony/ci/namespaced.yaml";
/// With all that can be bounded.
pub(crate) const NARROW: &str = "charts/harmony/ci/narrow.yaml";
/// All of them.
pub(crate) const ALL: [&str; 3] = [DEPLOY, NAMESPACED, NARROW];

const SEPARATOR: &str = "\n---\n";

/// A file of the checkout.
#[track_caller]
pub(crate) fn read(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    fs::read_to_string(root.join(path)).unwrap()
}

/// The texts of a file's documents.
#[track_caller]
pub(crate) fn documents(path: &str) -> Vec<String> {
    read(path).split(SEPARATOR).map(str::to_owned).collect()
}

/// A file's objects.
#[track_caller]
pub(crate) fn objects(path: &str) -> Vec<Value> {
    let documents = documents(path);
    let read = |document: &String| serde_saphyr::from_str(document).unwrap();
    documents.iter().map(read).collect()
}

/// A file's objects of one kind.
#[track_caller]
pub(crate) fn of_kind<T: DeserializeOwned>(path: &str, kind: &str) -> Vec<T> {
    let found = objects(path).into_iter().filter(|object| object["kind"] == kind);
    found.map(|object| serde_json::from_value(object).unwrap()).collect()
}

/// The only one of its kind.
#[track_caller]
pub(crate) fn only<T: DeserializeOwned>(path: &str, kind: &str) -> T {
    let [object] = <[T; 1]>::try_from(of_kind(path, kind)).ok().unwrap();
    object
}

/// The operator's pods.
#[track_caller]
pub(crate) fn pod(path: &str) -> PodSpec {
    let deployment: Deployment = only(path, "Deployment");
    deployment.spec.unwrap().template.spec.unwrap()
}

/// Their container.
#[track_caller]
pub(crate) fn container(path: &str) -> Container {
    let [container] = <[Container; 1]>::try_from(pod(path).containers).unwrap();
    container
}

/// Its arguments, as the operator takes them.
#[track_caller]
pub(crate) fn args(path: &str) -> OperatorArgs {
    let container = container(path);
    let words = container.command.unwrap().into_iter().chain(container.args.unwrap());
    let program = Program::try_parse_from(words).unwrap();
    assert!(program.command.is_none());
    program.args
}
