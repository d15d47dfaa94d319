//! Whatever valid template comes in: what the user set is still there, and who breaks no rule of Pod Security
//! "restricted" passes it.

#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)] // helpers of tests fail by them

mod support;

use harmony_api::spec::HarmonyBatch;
use harmony_operator::reconcile::build::{Links, worker_pod};
use harmony_operator::reconcile::dereference::Dereferenced;
use harmony_operator::reconcile::validate::validate;
use k8s_openapi::api::core::v1::{Container, Pod, PodTemplateSpec};
use proptest::prelude::*;
use proptest::sample::subsequence;
use serde_json::{Map, Value, json};

use self::support::{SMALL, resource, restricted, settings};

/// Fields of a security context that "restricted" allows.
fn harmless(pod: bool) -> Vec<(&'static str, Value)> {
    let mut fields = vec![
        ("runAsUser", json!(1_000)),
        ("runAsGroup", json!(1_000)),
        ("runAsNonRoot", json!(true)),
        ("seccompProfile", json!({"type": "Localhost", "localhostProfile": "p"})),
    ];
    if pod {
        fields.push(("fsGroup", json!(7)));
    } else {
        fields.extend([
            ("readOnlyRootFilesystem", json!(true)),
            ("allowPrivilegeEscalation", json!(false)),
            ("capabilities", json!({"add": ["NET_BIND_SERVICE"]})),
        ]);
    }
    fields
}

/// Fields of a security context that "restricted" forbids.
fn harmful(pod: bool) -> Vec<(&'static str, Value)> {
    let mut fields = vec![
        ("runAsUser", json!(0)),
        ("runAsNonRoot", json!(false)),
        ("seccompProfile", json!({"type": "Unconfined"})),
    ];
    if !pod {
        fields.extend([
            ("privileged", json!(true)),
            ("allowPrivilegeEscalation", json!(true)),
            ("capabilities", json!({"add": ["SYS_ADMIN"], "drop": ["NET_RAW"]})),
        ]);
    }
    fields
}

/// Some of these fields; of two with one name, the last.
fn some(fields: Vec<(&'static str, Value)>) -> impl Strategy<Value = Map<String, Value>> {
    let most = fields.len();
    subsequence(fields, 0..=most).prop_map(|fields| {
        fields
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect()
    })
}

fn security_context(pod: bool, harm: bool) -> impl Strategy<Value = Map<String, Value>> {
    let harmful = if harm { harmful(pod) } else { Vec::new() };
    some([harmless(pod), harmful].concat()).prop_map(|mut context| {
        // The API server refuses these together, whoever wrote them.
        if context.contains_key("privileged") || admin(&context) {
            context.remove("allowPrivilegeEscalation");
        }
        context
    })
}

fn admin(context: &Map<String, Value>) -> bool {
    let capabilities = context.get("capabilities");
    capabilities.is_some_and(|capabilities| capabilities["add"] == json!(["SYS_ADMIN"]))
}

fn container(name: &'static str, harm: bool) -> impl Strategy<Value = Value> {
    let probe = json!({"exec": {"command": ["true"]}, "periodSeconds": 7});
    let fields = vec![
        ("workingDir", json!("/work")),
        ("imagePullPolicy", json!("Always")),
        ("env", json!([{"name": "A", "value": "$(B)"}])),
        (
            "ports",
            json!([{"name": "web", "containerPort": 8_080, "protocol": "TCP"}]),
        ),
        (
            "resources",
            json!({"requests": {"cpu": "2"}, "limits": {"memory": "1Gi"}}),
        ),
        ("volumeMounts", json!([{"name": "scratch", "mountPath": "/tmp"}])),
        ("livenessProbe", probe.clone()),
        ("readinessProbe", probe.clone()),
        ("startupProbe", probe),
        ("lifecycle", json!({"preStop": {"exec": {"command": ["sync"]}}})),
    ];
    (some(fields), prop::option::of(security_context(false, harm))).prop_map(move |(mut container, context)| {
        container.insert("name".to_owned(), json!(name));
        container.insert("image".to_owned(), json!("example/image:1"));
        container.insert("command".to_owned(), json!(["run", name]));
        if let Some(context) = context {
            container.insert("securityContext".to_owned(), context.into());
        }
        container.into()
    })
}

fn template(harm: bool) -> impl Strategy<Value = Value> {
    let toleration = json!([{"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute"}]);
    let mut fields = vec![
        ("restartPolicy", json!("Never")),
        ("serviceAccountName", json!("renderer")),
        ("automountServiceAccountToken", json!(true)),
        ("enableServiceLinks", json!(true)),
        ("terminationGracePeriodSeconds", json!(3)),
        ("nodeSelector", json!({"gpu": "yes"})),
        ("tolerations", toleration),
        ("priorityClassName", json!("batch")),
        (
            "topologySpreadConstraints",
            json!([{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"}]),
        ),
        ("volumes", json!([{"name": "scratch", "emptyDir": {}}])),
    ];
    if harm {
        fields.push(("hostNetwork", json!(true)));
    }
    let metadata = vec![
        (
            "labels",
            json!({"team": "films", "app.kubernetes.io/name": "render", "sidecar.istio.io/inject": "true"}),
        ),
        (
            "annotations",
            json!({"linkerd.io/inject": "enabled", "cluster-autoscaler.kubernetes.io/safe-to-evict": "false"}),
        ),
    ];
    let containers = subsequence(vec!["log", "worker", "db"], 1..=3)
        .prop_flat_map(move |names| names.into_iter().map(|name| container(name, harm)).collect::<Vec<_>>());
    let inits = prop::option::of(container("fetch", harm));
    let context = prop::option::of(security_context(true, harm));
    (some(fields), some(metadata), containers, inits, context).prop_map(
        |(mut pod, metadata, containers, init, context)| {
            pod.insert("containers".to_owned(), containers.into());
            if let Some(init) = init {
                pod.insert("initContainers".to_owned(), json!([init]));
            }
            if let Some(context) = context {
                pod.insert("securityContext".to_owned(), context.into());
            }
            json!({"metadata": metadata, "spec": pod})
        },
    )
}

/// The pod that a template becomes. The executor has a command of its own, or is the container's.
fn pod(template: &Value, own: bool, links: Links) -> Pod {
    let mut batch: HarmonyBatch = resource("render", SMALL);
    batch.spec.template = Some(serde_json::from_value::<PodTemplateSpec>(template.clone()).unwrap());
    if own {
        batch.spec.executor = Some(serde_json::from_value(json!({"process": {"command": ["/filter"]}})).unwrap());
    }
    let batch = validate(&batch, Dereferenced::default()).unwrap();
    worker_pod(&batch, &settings(links), 0, 0)
}

/// Says where the second lacks something of the first. Lists may be longer.
fn lacking(wanted: &Value, found: &Value, path: &str) -> Option<String> {
    match (wanted, found) {
        (Value::Object(wanted), Value::Object(found)) => wanted.iter().find_map(|(name, value)| {
            let path = format!("{path}.{name}");
            found
                .get(name)
                .map_or(Some(path.clone()), |found| lacking(value, found, &path))
        }),
        (Value::Array(wanted), Value::Array(found)) => wanted.iter().find_map(|wanted| {
            let there = found.iter().any(|found| lacking(wanted, found, path).is_none());
            (!there).then(|| format!("{path} lacks {wanted} in {found:?}"))
        }),
        _ => (wanted != found).then(|| format!("{path}: {found} for {wanted}")),
    }
}

/// The template without what the worker's container hands over: its command.
fn kept(template: &Value) -> Value {
    let mut kept = template.clone();
    let containers = kept["spec"]["containers"].as_array_mut().unwrap();
    let worker = containers
        .iter()
        .position(|container| container["name"] == "worker")
        .unwrap_or(0);
    containers[worker].as_object_mut().unwrap().remove("command");
    kept
}

/// What the API server refuses, whatever a namespace allows.
fn contradicts(container: &Container) -> bool {
    let context = container.security_context.clone().unwrap_or_default();
    let added = context
        .capabilities
        .and_then(|capabilities| capabilities.add)
        .unwrap_or_default();
    let escalates = context.privileged == Some(true) || added.contains(&"SYS_ADMIN".to_owned());
    escalates && context.allow_privilege_escalation == Some(false)
}

fn any_links() -> impl Strategy<Value = Links> {
    prop_oneof![Just(Links::InsecureTcp), Just(Links::MutualTls)]
}

proptest! {
    #[test]
    fn what_a_user_set_is_still_there(template in template(true), own: bool, links in any_links()) {
        let pod = pod(&template, own, links);
        let built = serde_json::to_value(&pod).unwrap();
        prop_assert_eq!(lacking(&kept(&template), &built, ""), None);
        let spec = pod.spec.unwrap();
        for container in spec.init_containers.iter().flatten().chain(&spec.containers) {
            prop_assert!(!contradicts(container), "{}", container.name);
        }
    }

    #[test]
    fn who_breaks_no_rule_passes_restricted(template in template(false), own: bool, links in any_links()) {
        let pod = pod(&template, own, links).spec.unwrap();
        prop_assert_eq!(restricted::violations(&pod), Vec::<String>::new());
    }
}
