//! What the chart renders: it holds what the code needs, and no more rights. The default rendering is the file for a plain
//! `kubectl apply`.

#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)] // helpers of tests fail by them

mod support;

use std::collections::BTreeSet;

use clap::Parser as _;
use harmony_admin::Address;
use harmony_api::conventions::{IMAGE_OPERATOR, METRICS_PORT, METRICS_PORT_NAME};
use harmony_operator::args::Program;
use harmony_operator::reconcile::build::{Links, build};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, Subject};
use serde_json::Value;

use self::support::manifests::{
    ALL, DEPLOY, NAMESPACED, NARROW, args, container, documents, objects, of_kind, only, pod, read,
};
use self::support::{batch, restricted, settings};

/// The kinds without a namespace.
const CLUSTER_WIDE: [&str; 4] = [
    "Namespace",
    "CustomResourceDefinition",
    "ClusterRole",
    "ClusterRoleBinding",
];

#[test]
fn the_definition_is_the_committed_one_wherever_it_is() {
    let committed = read("crds/harmonybatches.yaml");
    assert!(
        documents(DEPLOY)
            .iter()
            .any(|document| document == committed.trim_end()),
        "{DEPLOY} holds another definition; `cargo xtask crds` writes it anew"
    );
    let charts = read("charts/harmony/files/crds/harmonybatches.yaml");
    assert!(charts == committed, "`cargo xtask crds` writes the chart's copy anew");
}

#[test]
fn the_chart_is_of_the_programs_version() {
    let chart: Value = serde_saphyr::from_str(&read("charts/harmony/Chart.yaml")).unwrap();
    assert_eq!(chart["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(chart["appVersion"], env!("CARGO_PKG_VERSION"));
}

/// Each value has its place in the schema, of the right type; the table of values is made from both.
#[test]
fn the_schema_knows_the_values_and_no_others() {
    fn compare(path: &str, schema: &Value, value: &Value) {
        let kind = match value {
            Value::String(_) => "string",
            Value::Bool(_) => "boolean",
            Value::Number(number) if number.is_f64() => "number",
            Value::Number(_) => "integer",
            Value::Array(_) => "array",
            _ => "object",
        };
        match schema["enum"].as_array() {
            // Words and truth values, such as true, false and auto.
            Some(values) if schema["type"].is_null() => assert!(values.contains(value), "{path}"),
            _ => assert_eq!(schema["type"], kind, "{path}"),
        }
        let Some(fields) = schema["properties"].as_object() else {
            return;
        };
        assert_eq!(schema["additionalProperties"], false, "{path}");
        let known: BTreeSet<_> = fields.keys().filter(|name| *name != "global").collect();
        let values = value.as_object().unwrap();
        assert_eq!(known, values.keys().collect(), "{path}");
        for (name, value) in values {
            compare(&format!("{path}.{name}"), &fields[name], value);
        }
    }
    let schema: Value = serde_json::from_str(&read("charts/harmony/values.schema.json")).unwrap();
    let values: Value = serde_saphyr::from_str(&read("charts/harmony/values.yaml")).unwrap();
    assert_eq!(schema["$schema"], "http://json-schema.org/draft-07/schema#");
    compare("", &schema, &values);
}

#[test]
fn every_object_says_what_it_is_and_where() {
    for path in ALL {
        let objects = objects(path);
        assert!(objects.len() > 6, "{}", objects.len());
        for object in objects {
            let kind = object["kind"].as_str().unwrap();
            let metadata = &object["metadata"];
            assert!(
                object["apiVersion"].is_string() && metadata["name"].is_string(),
                "{object}"
            );
            let namespace = metadata["namespace"].as_str();
            assert_eq!(namespace.is_none(), CLUSTER_WIDE.contains(&kind), "{object}");
            let namespaces = if path == NAMESPACED {
                ["harmony-system", "team-a", "team-b"].as_slice()
            } else {
                &["harmony-system"]
            };
            assert!(
                namespace.is_none_or(|namespace| namespaces.contains(&namespace)),
                "{object}"
            );
        }
    }
}

#[test]
fn the_operator_takes_the_command_line_it_is_given() {
    for path in ALL {
        let (args, container) = (args(path), container(path));
        assert_eq!(container.command, Some(vec![IMAGE_OPERATOR.to_owned()]));
        assert!(args.link.insecure_tcp);
        assert_eq!(
            Some(args.image),
            container.image,
            "the agent is of the operator's version"
        );
        assert_eq!(Some(args.image_pull_policy), container.image_pull_policy);
        assert!(matches!(args.admin.admin, Some(Address::Tcp(address)) if address.port() == METRICS_PORT));
        assert!(args.admin.loopback.unwrap().ip().is_loopback());
        let mounts = container.volume_mounts.unwrap();
        assert!(mounts.iter().any(|mount| args.spool_dir.starts_with(&mount.mount_path)));
        let ports = container.ports.unwrap();
        assert_eq!(ports[0].name.as_deref(), Some(METRICS_PORT_NAME));
        assert_eq!(ports[0].container_port, i32::from(METRICS_PORT));
    }
}

#[test]
fn values_reach_the_operator() {
    assert_eq!(args(DEPLOY).watch_namespaces, Vec::<String>::new());
    assert_eq!(args(NAMESPACED).watch_namespaces, ["team-a", "team-b"]);
    let narrow = args(NARROW);
    let hosts: Vec<_> = narrow.source_hosts.iter().map(ToString::to_string).collect();
    assert_eq!(hosts, ["data.example.org", "*.lake.example.org"]);
    assert_eq!(narrow.image_pull_secrets, ["registry"]);
    assert_eq!(
        (narrow.max_spool_bytes, narrow.max_spool_bytes_total),
        (1 << 30, 3 << 30)
    );
    let (own, default) = (args(DEPLOY), Program::parse_from([IMAGE_OPERATOR]).args);
    assert_eq!(own.max_spool_bytes, default.max_spool_bytes);
    assert_eq!(own.max_spool_bytes_total, default.max_spool_bytes_total);
    assert_eq!(pod(NARROW).image_pull_secrets.unwrap()[0].name, "registry");
    assert!(narrow.image.starts_with("registry.example.org/harmony@sha256:"));
}

#[test]
fn its_pod_tells_the_operator_who_it_is() {
    let told = container(DEPLOY).env.unwrap().into_iter().filter_map(|variable| {
        let field = variable.value_from?.field_ref.unwrap().field_path;
        Some((variable.name, field))
    });
    let wanted = [("POD_NAME", "metadata.name"), ("POD_NAMESPACE", "metadata.namespace")];
    let wanted = wanted.map(|(name, field)| (name.to_owned(), field.to_owned()));
    assert_eq!(told.collect::<Vec<_>>(), wanted);
}

#[test]
fn its_pod_passes_pod_security_restricted() {
    for path in ALL {
        assert_eq!(restricted::violations(&pod(path)), Vec::<String>::new());
        let context = container(path).security_context.unwrap();
        assert_eq!(context.read_only_root_filesystem, Some(true));
    }
}

#[test]
fn what_picks_the_operators_pods_does() {
    for path in ALL {
        let deployment: Deployment = only(path, "Deployment");
        let spec = deployment.spec.unwrap();
        let labels = spec.template.metadata.unwrap().labels.unwrap();
        let budget: PodDisruptionBudget = only(path, "PodDisruptionBudget");
        for selector in [spec.selector, budget.spec.unwrap().selector.unwrap()] {
            let wanted = selector.match_labels.unwrap();
            assert!(!wanted.is_empty() && wanted.iter().all(|(name, value)| labels.get(name) == Some(value)));
        }
    }
}

#[test]
fn links_from_the_operator_are_let_in() {
    let deployment: Deployment = only(DEPLOY, "Deployment");
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

/// What the operator may do in the namespaces of batches.
fn work() -> Vec<PolicyRule> {
    let roles: Vec<ClusterRole> = of_kind(DEPLOY, "ClusterRole");
    let own = |role: &ClusterRole| role.metadata.name.as_deref() == Some("harmony-operator");
    roles.into_iter().find(own).unwrap().rules.unwrap()
}

/// Rights that nothing in this crate has a use for, and that would let the operator be used against others.
#[test]
fn the_operator_may_not_read_secrets_nor_enter_pods() {
    for rule in work() {
        assert!(!rule.verbs.iter().any(|verb| verb == "*"));
        for resource in rule.resources.unwrap() {
            assert!(
                !["*", "secrets", "pods/exec", "pods/portforward"].contains(&resource.as_str()),
                "{resource}"
            );
        }
    }
}

#[test]
fn every_rule_of_the_operator_says_what_it_is_for() {
    for path in [DEPLOY, NAMESPACED] {
        let mut rules = 0;
        let roles = documents(path).into_iter().filter(|document| {
            document.contains("Role\n") && document.contains("name: harmony-operator") && document.contains("\nrules:")
        });
        for role in roles {
            let lines: Vec<_> = role.lines().collect();
            for pair in lines.windows(2).filter(|pair| pair[1].starts_with("  - apiGroups")) {
                assert!(pair[0].trim_start().starts_with("# "), "{pair:?}");
                rules += 1;
            }
        }
        assert!(rules >= work().len(), "{path}: {rules}");
    }
}

/// The subjects that a binding names, each with its namespace.
fn bound(subjects: Option<Vec<Subject>>) -> Vec<(String, Option<String>)> {
    let subjects = subjects.unwrap().into_iter();
    subjects.map(|subject| (subject.name, subject.namespace)).collect()
}

#[test]
fn in_namespaced_scope_the_same_is_allowed_in_these_namespaces_and_nothing_beyond() {
    assert!(of_kind::<ClusterRole>(NAMESPACED, "ClusterRole").is_empty());
    assert!(of_kind::<ClusterRoleBinding>(NAMESPACED, "ClusterRoleBinding").is_empty());
    let account: ServiceAccount = only(NAMESPACED, "ServiceAccount");
    let account = vec![(account.metadata.name.unwrap(), account.metadata.namespace)];
    let roles: Vec<Role> = of_kind(NAMESPACED, "Role");
    let bindings: Vec<RoleBinding> = of_kind(NAMESPACED, "RoleBinding");
    assert_eq!(bindings.len(), 3, "two namespaces and the lease");
    for binding in bindings {
        assert_eq!(bound(binding.subjects), account);
        let (name, namespace) = (binding.role_ref.name, binding.metadata.namespace);
        assert_eq!(binding.role_ref.kind, "Role");
        let role = roles
            .iter()
            .find(|role| role.metadata.name.as_ref() == Some(&name) && role.metadata.namespace == namespace);
        let rules = role.unwrap().rules.clone().unwrap();
        if namespace.as_deref() == Some("harmony-system") {
            let leases = |rule: &PolicyRule| rule.resources == Some(vec!["leases".to_owned()]);
            assert!(rules.iter().all(leases), "{rules:?}");
        } else {
            assert_eq!(rules, work());
        }
    }
}

#[test]
fn people_get_their_rights_by_the_roles_that_they_have() {
    let aggregated: Vec<_> = of_kind::<ClusterRole>(DEPLOY, "ClusterRole")
        .into_iter()
        .filter_map(|role| {
            let labels = role.metadata.labels.unwrap();
            let to = labels
                .keys()
                .filter_map(|label| label.strip_prefix("rbac.authorization.k8s.io/aggregate-to-"));
            let to: Vec<_> = to.map(str::to_owned).collect();
            let verbs: BTreeSet<_> = role.rules.unwrap().into_iter().flat_map(|rule| rule.verbs).collect();
            (!to.is_empty()).then(|| (to.join(" "), verbs.contains("create"), verbs.contains("get")))
        })
        .collect();
    // Kubernetes itself adds view to edit, and edit to admin.
    let wanted = [("view", false, true), ("admin edit", true, false)];
    assert_eq!(aggregated, wanted.map(|(to, create, get)| (to.to_owned(), create, get)));
}
