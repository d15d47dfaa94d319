//! The file for a plain `kubectl apply`: what it holds is what the code needs.

#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)] // helpers of tests fail by them

mod support;

use std::fs;

use clap::Parser as _;
use harmony_api::conventions::{IMAGE_OPERATOR, METRICS_PORT, METRICS_PORT_NAME};
use harmony_operator::args::Program;
use harmony_operator::reconcile::build::{Links, build};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Container, PodSpec};
use k8s_openapi::api::rbac::v1::ClusterRole;
use serde::de::DeserializeOwned;
use serde_json::Value;

use self::support::{batch, restricted, settings};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/harmony.yaml");
const SEPARATOR: &str = "\n---\n";

fn documents() -> Vec<String> {
    let text = fs::read_to_string(FILE).unwrap();
    text.split(SEPARATOR).map(str::to_owned).collect()
}

fn value(document: &str) -> Value {
    serde_saphyr::from_str(document).unwrap()
}

#[track_caller]
fn object<T: DeserializeOwned>(kind: &str, name: &str) -> T {
    let found = documents()
        .iter()
        .map(|document| value(document))
        .find(|value| value["kind"] == kind && value["metadata"]["name"] == name);
    serde_json::from_value(found.unwrap()).unwrap()
}

fn pod() -> PodSpec {
    let deployment: Deployment = object("Deployment", "harmony-operator");
    deployment.spec.unwrap().template.spec.unwrap()
}

fn container() -> Container {
    let [container] = <[Container; 1]>::try_from(pod().containers).unwrap();
    container
}

#[test]
fn the_definition_is_the_committed_one() {
    let committed = include_str!("../../crds/harmonybatches.yaml").trim_end();
    assert!(
        documents().iter().any(|document| document == committed),
        "{FILE} holds another definition; `cargo xtask crds` writes it anew"
    );
}

#[test]
fn every_object_says_what_it_is_and_where() {
    let cluster_wide = [
        "Namespace",
        "CustomResourceDefinition",
        "ClusterRole",
        "ClusterRoleBinding",
    ];
    let documents = documents();
    assert!(documents.len() > 10, "{}", documents.len());
    for document in documents {
        let object = value(&document);
        let kind = object["kind"].as_str().unwrap();
        assert!(
            object["apiVersion"].is_string() && object["metadata"]["name"].is_string(),
            "{document}"
        );
        let namespace = object["metadata"]["namespace"].as_str();
        let expected = (!cluster_wide.contains(&kind)).then_some("harmony-system");
        assert_eq!(namespace, expected, "{document}");
    }
}

#[test]
fn the_operator_takes_the_command_line_it_is_given() {
    let container = container();
    assert_eq!(container.command, Some(vec![IMAGE_OPERATOR.to_owned()]));
    let args = container.args.unwrap();
    let program = Program::try_parse_from([IMAGE_OPERATOR.to_owned()].into_iter().chain(args)).unwrap();
    assert!(program.command.is_none());
    assert!(program.args.link.insecure_tcp);
    assert_eq!(
        Some(program.args.image),
        container.image,
        "the agent is of the operator's version"
    );
    assert_eq!(Some(program.args.image_pull_policy), container.image_pull_policy);
    assert_eq!(program.args.admin.admin.unwrap().port(), METRICS_PORT);
    assert!(program.args.admin.loopback.unwrap().ip().is_loopback());
    let mounts = container.volume_mounts.unwrap();
    assert!(
        mounts
            .iter()
            .any(|mount| program.args.spool_dir.starts_with(&mount.mount_path))
    );
    let ports = container.ports.unwrap();
    assert_eq!(ports[0].name.as_deref(), Some(METRICS_PORT_NAME));
    assert_eq!(ports[0].container_port, i32::from(METRICS_PORT));
}

#[test]
fn its_pod_tells_the_operator_who_it_is() {
    let told = container().env.unwrap().into_iter().map(|variable| {
        let field = variable.value_from.unwrap().field_ref.unwrap().field_path;
        (variable.name, field)
    });
    let wanted = [("POD_NAME", "metadata.name"), ("POD_NAMESPACE", "metadata.namespace")];
    let wanted = wanted.map(|(name, field)| (name.to_owned(), field.to_owned()));
    assert_eq!(told.collect::<Vec<_>>(), wanted);
}

#[test]
fn its_pod_passes_pod_security_restricted() {
    assert_eq!(restricted::violations(&pod()), Vec::<String>::new());
    assert_eq!(
        container().security_context.unwrap().read_only_root_filesystem,
        Some(true)
    );
}

#[test]
fn links_from_the_operator_are_let_in() {
    let deployment: Deployment = object("Deployment", "harmony-operator");
    let labels = deployment.spec.unwrap().template.metadata.unwrap().labels.unwrap();
    let batch = batch(support::SMALL);
    let settings = settings(Links::InsecureTcp);
    assert_eq!(
        deployment.metadata.namespace.as_ref(),
        Some(&settings.operator_namespace)
    );
    for policy in build(&batch, &settings).network_policies {
        let rules = policy.spec.unwrap().ingress.unwrap();
        let from = rules[0].from.as_ref().unwrap();
        let pods = from[0].pod_selector.as_ref().unwrap().match_labels.as_ref().unwrap();
        for (name, value) in pods {
            assert_eq!(labels.get(name), Some(value), "{name}");
        }
    }
}

/// Rights that nothing in this crate has a use for, and that would let the operator be used against others.
#[test]
fn the_operator_may_not_read_secrets_nor_enter_pods() {
    let role: ClusterRole = object("ClusterRole", "harmony-operator");
    for rule in role.rules.unwrap() {
        assert!(!rule.verbs.iter().any(|verb| verb == "*"));
        for resource in rule.resources.unwrap() {
            assert!(
                !["*", "secrets", "pods/exec", "pods/portforward"].contains(&resource.as_str()),
                "{resource}"
            );
        }
    }
}
