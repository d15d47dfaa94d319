//! All objects of a batch but its workers: short YAML of a batch in, whole objects out.

#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)] // helpers of tests fail by them

mod support;

use harmony_api::BatchName;
use harmony_operator::reconcile::build::{Links, Names, Resources, build, label_value};
use harmony_protocol::ids::BatchUid;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::json;

use self::support::{SMALL, assert_written, batch, restricted, settings};

const CLAIMED: &str = "  collector:
    storage: {size: 10Gi, storageClassName: fast}
    resources: {requests: {memory: 2Gi}}
    nodeSelector: {disk: fast}
    tolerations: [{key: disk, operator: Exists}]
";

fn built(spec: &str) -> Resources {
    build(&batch(spec), &settings(Links::InsecureTcp))
}

fn claimed() -> String {
    format!("{SMALL}{CLAIMED}")
}

/// The metadata of every object, with its kind.
fn metadata(resources: &Resources) -> Vec<(&'static str, &ObjectMeta)> {
    let Resources {
        network_policies: [workers, collector],
        disruption_budget,
        collector_service,
        collector_claim,
        collector: pod,
    } = resources;
    let claim = collector_claim
        .iter()
        .map(|claim| ("PersistentVolumeClaim", &claim.metadata));
    [
        ("NetworkPolicy", &workers.metadata),
        ("NetworkPolicy", &collector.metadata),
        ("PodDisruptionBudget", &disruption_budget.metadata),
        ("Service", &collector_service.metadata),
        ("Pod", &pod.metadata),
    ]
    .into_iter()
    .chain(claim)
    .collect()
}

#[test]
fn these_objects_and_no_others_are_built() {
    let names = |spec: &str| {
        let resources = built(spec);
        let all = metadata(&resources).into_iter();
        all.map(|(kind, metadata)| format!("{kind}/{}", metadata.name.as_deref().unwrap()))
            .collect::<Vec<_>>()
    };
    let mut expected = vec![
        "NetworkPolicy/hb-render-6f1c2a34-w",
        "NetworkPolicy/hb-render-6f1c2a34-c",
        "PodDisruptionBudget/hb-render-6f1c2a34-w",
        "Service/hb-render-6f1c2a34-c",
        "Pod/hb-render-6f1c2a34-c",
    ];
    assert_eq!(names(SMALL), expected);
    expected.push("PersistentVolumeClaim/hb-render-6f1c2a34-c");
    assert_eq!(names(&claimed()), expected);
}

#[test]
fn every_object_is_owned_by_the_batch_and_found_by_its_labels() {
    for (kind, metadata) in metadata(&built(&claimed())) {
        let [owner] = metadata.owner_references.as_deref().unwrap() else {
            panic!("{kind} has several owners");
        };
        assert_eq!((owner.kind.as_str(), owner.name.as_str()), ("HarmonyBatch", "render"));
        assert_eq!(
            (owner.controller, owner.block_owner_deletion),
            (Some(true), Some(false)),
            "{kind}"
        );
        assert_eq!(metadata.finalizers, None, "{kind} could hang");
        let labels = metadata.labels.as_ref().unwrap();
        assert_eq!(labels["harmony.dev/batch"], "render", "{kind}");
        assert_eq!(
            labels["harmony.dev/batch-uid"], "6f1c2a34-5b6d-4e7f-8a9b-0c1d2e3f4a5b",
            "{kind}"
        );
    }
}

#[test]
fn the_smallest_batch_has_a_collector_on_its_nodes_disk() {
    assert_written(&built(SMALL).collector, include_str!("expected/collector.yaml"));
    assert!(restricted::violations(&built(SMALL).collector.spec.unwrap()).is_empty());
}

#[test]
fn a_claim_is_for_one_pod_and_its_file_system_is_the_limit() {
    let resources = built(&claimed());
    let claim = resources.collector_claim.unwrap().spec.unwrap();
    assert_eq!(
        json!(claim),
        json!({
            "accessModes": ["ReadWriteOncePod"],
            "resources": {"requests": {"storage": "10Gi"}},
            "storageClassName": "fast",
        })
    );
    let pod = resources.collector.spec.unwrap();
    assert!(restricted::violations(&pod).is_empty());
    assert_eq!(
        json!(pod.volumes),
        json!([{"name": "data", "persistentVolumeClaim": {"claimName": "hb-render-6f1c2a34-c"}}])
    );
    assert_eq!(pod.security_context.unwrap().fs_group, Some(65_532));
    let container = &pod.containers[0];
    assert!(
        container
            .command
            .as_ref()
            .unwrap()
            .join(" ")
            .contains("--max-log-bytes fs")
    );
    assert_eq!(json!(container.resources), json!({"requests": {"memory": "2Gi"}}));
    assert_eq!(json!(pod.node_selector), json!({"disk": "fast"}));
    let keys: Vec<_> = pod
        .tolerations
        .unwrap()
        .into_iter()
        .filter_map(|toleration| toleration.key)
        .collect();
    assert_eq!(
        keys,
        ["disk", "node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"]
    );
}

#[test]
fn the_service_gives_the_collector_a_name_that_stays() {
    let service = built(SMALL).collector_service.spec.unwrap();
    assert_eq!(
        json!(service),
        json!({
            "clusterIP": "None",
            "publishNotReadyAddresses": true,
            "ports": [
                {"name": "harmony", "port": 27_700, "targetPort": "harmony", "protocol": "TCP"},
                {"name": "metrics", "port": 27_780, "targetPort": "metrics", "protocol": "TCP"},
            ],
            "selector": {
                "harmony.dev/batch-uid": "6f1c2a34-5b6d-4e7f-8a9b-0c1d2e3f4a5b",
                "harmony.dev/role": "collector",
            },
        })
    );
}

#[test]
fn only_the_operator_reaches_workers_and_only_they_and_it_reach_the_collector() {
    let [workers, collector] = built(SMALL).network_policies;
    let uid = "6f1c2a34-5b6d-4e7f-8a9b-0c1d2e3f4a5b";
    let pods = |role: &str| json!({"matchLabels": {"harmony.dev/batch-uid": uid, "harmony.dev/role": role}});
    let operator = json!({
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "harmony-system"}},
        "podSelector": {"matchLabels": {
            "app.kubernetes.io/name": "harmony",
            "app.kubernetes.io/component": "operator",
        }},
    });
    let written = |role: &str, from: serde_json::Value| {
        json!({
            "podSelector": pods(role),
            "policyTypes": ["Ingress"],
            "ingress": [
                {"from": from, "ports": [{"port": 27_700, "protocol": "TCP"}]},
                {"ports": [{"port": 27_780, "protocol": "TCP"}]},
            ],
        })
    };
    assert_eq!(json!(workers.spec), written("worker", json!([operator])));
    let both = json!([operator, {"podSelector": pods("worker")}]);
    assert_eq!(json!(collector.spec), written("collector", both));
}

#[test]
fn a_drain_takes_half_of_the_workers_at_most() {
    let budget = built(SMALL).disruption_budget.spec.unwrap();
    assert_eq!(
        json!(budget),
        json!({
            "maxUnavailable": "50%",
            "selector": {"matchLabels": {
                "harmony.dev/batch-uid": "6f1c2a34-5b6d-4e7f-8a9b-0c1d2e3f4a5b",
                "harmony.dev/role": "worker",
            }},
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
        })
    );
}

#[test]
fn the_collector_has_a_certificate_of_its_own() {
    let batch = batch(SMALL);
    let pod = build(&batch, &settings(Links::MutualTls)).collector.spec.unwrap();
    let command = pod.containers[0].command.as_ref().unwrap().join(" ");
    assert!(command.contains("--tls-ca /harmony-tls/ca.crt"), "{command}");
    assert!(!command.contains("--insecure-tcp"), "{command}");
    let secrets: Vec<_> = pod
        .volumes
        .unwrap()
        .into_iter()
        .filter_map(|volume| volume.secret?.secret_name)
        .collect();
    assert_eq!(secrets, [batch.names.collector_certificate()]);
    assert_ne!(batch.names.collector_certificate(), batch.names.worker_certificate());
}

#[test]
fn names_are_labels_however_long_the_batchs_name_is() {
    let uid = |text: &str| BatchUid(text.parse().unwrap());
    let first = uid("6f1c2a34-5b6d-4e7f-8a9b-0c1d2e3f4a5b");
    for name in [
        "a",
        "0",
        "my.render.job",
        &format!("{}end", "long.name.".repeat(25)),
        &"x".repeat(253),
    ] {
        let name = BatchName::new(name).unwrap();
        let names = Names::new(&name, first);
        let all = [
            names.collector(),
            names.workers(),
            names.worker_pod(0, 0),
            names.worker_pod(3_999, u64::MAX),
            names.collector_certificate(),
            names.worker_certificate(),
        ];
        for object in &all {
            assert!(object.len() <= 63 && !object.contains('.'), "{object}");
            assert!(BatchName::new(object).is_some(), "{object}");
        }
        let label = label_value(&name, first);
        assert!(
            label.len() <= 63 && label.ends_with(|last: char| last.is_ascii_alphanumeric()),
            "{label}"
        );
    }
    let name = BatchName::new("render").unwrap();
    let again = uid("00000000-5b6d-4e7f-8a9b-0c1d2e3f4a5b");
    assert_ne!(
        Names::new(&name, first).collector(),
        Names::new(&name, again).collector()
    );
    assert_ne!(
        Names::new(&name, first).worker_pod(1, 10),
        Names::new(&name, first).worker_pod(1, 11)
    );
}
