//! A worker's pod: the user's template, with the agent brought in and everything filled that it leaves open.

use std::collections::BTreeMap;

use harmony_api::Executor;
use harmony_api::conventions::{LINK_PORT, LINK_PORT_NAME, METRICS_PORT, METRICS_PORT_NAME, REVISION_LABEL};
use k8s_openapi::api::core::v1::{ContainerPort, Pod, PodSpec, Toleration};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::labels::{self, Role, worker_labels};
use super::{Links, Settings, agent, certificates, command, probes, pull, security, spool};
use crate::reconcile::validate::Batch;

/// Autoscalers may take a worker away: its tasks are handed back.
const EVICTABLE: (&str, &str) = ("cluster-autoscaler.kubernetes.io/safe-to-evict", "true");
/// Meshes stay out: links are protected already, and a sidecar that does not end keeps the pod.
const WITHOUT_ISTIO: (&str, &str) = ("sidecar.istio.io/inject", "false");
const WITHOUT_LINKERD: (&str, &str) = ("linkerd.io/inject", "disabled");

/// The taints of a node that is lost, and the seconds that a pod stays bound to it. Kubernetes would say 300, but the
/// tasks of such a worker run elsewhere long before.
const LOST_NODE: [&str; 2] = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"];
const LOST_AFTER: i64 = 30;

/// The pod of one worker.
pub fn worker_pod(batch: &Batch, settings: &Settings, ordinal: u32, generation: u64) -> Pod {
    let name = batch.names.worker_pod(ordinal, generation);
    let template = &batch.template;
    let mut worker = template.worker.clone();
    command::run_worker(batch, settings, &name, &mut worker);
    worker.ports.get_or_insert_default().extend(ports());
    probes::fill(&mut worker);

    let mut pod = template.pod.clone();
    if !matches!(batch.spec.executor, Executor::Library(_)) {
        agent::bring(settings, &mut pod, &mut worker);
    }
    pod.volumes.get_or_insert_default().push(spool::volume());
    worker.volume_mounts.get_or_insert_default().push(spool::mount());
    if settings.links == Links::MutualTls {
        let secret = batch.names.worker_certificate();
        pod.volumes.get_or_insert_default().push(certificates::volume(secret));
        worker.volume_mounts.get_or_insert_default().push(certificates::mount());
    }
    let place = template.position.min(pod.containers.len());
    pod.containers.insert(place, worker);
    fill(&mut pod);
    pull::fill(&mut pod, settings);
    Pod {
        metadata: metadata(batch, settings, name, ordinal, generation),
        spec: Some(pod),
        status: None,
    }
}

fn metadata(batch: &Batch, settings: &Settings, name: String, ordinal: u32, generation: u64) -> ObjectMeta {
    let mut metadata = labels::metadata(batch, Role::Worker, name);
    let all = metadata.labels.get_or_insert_default();
    all.extend(batch.template.labels.clone());
    all.extend(labels::selector(batch, Role::Worker));
    all.extend(worker_labels(ordinal, generation));
    all.insert(REVISION_LABEL.to_owned(), batch.revision.clone());
    let mut annotations: BTreeMap<_, _> = labels::scraping(settings).collect();
    annotations.extend(batch.template.annotations.clone());
    // Istio reads its switch as a label first, and as an annotation too.
    if !annotations.contains_key(WITHOUT_ISTIO.0) {
        all.entry(WITHOUT_ISTIO.0.to_owned())
            .or_insert_with(|| WITHOUT_ISTIO.1.to_owned());
    }
    if !all.contains_key(WITHOUT_LINKERD.0) {
        annotations
            .entry(WITHOUT_LINKERD.0.to_owned())
            .or_insert_with(|| WITHOUT_LINKERD.1.to_owned());
    }
    annotations
        .entry(EVICTABLE.0.to_owned())
        .or_insert_with(|| EVICTABLE.1.to_owned());
    metadata.annotations = Some(annotations);
    metadata
}

fn fill(pod: &mut PodSpec) {
    pod.restart_policy = Some("Never".to_owned());
    pod.enable_service_links.get_or_insert(false);
    pod.automount_service_account_token.get_or_insert(false);
    leave_lost_nodes(pod.tolerations.get_or_insert_default());
    security::restrict(pod);
}

/// Bounds how long a pod stays bound to a lost node, unless its tolerations already speak of that.
pub(super) fn leave_lost_nodes(tolerations: &mut Vec<Toleration>) {
    for taint in LOST_NODE {
        if !tolerations.iter().any(|toleration| tolerates(toleration, taint)) {
            tolerations.push(Toleration {
                key: Some(taint.to_owned()),
                operator: Some("Exists".to_owned()),
                effect: Some("NoExecute".to_owned()),
                toleration_seconds: Some(LOST_AFTER),
                value: None,
            });
        }
    }
}

fn tolerates(toleration: &Toleration, taint: &str) -> bool {
    let names = |text: &Option<String>, wanted| text.as_deref().is_none_or(|text| text.is_empty() || text == wanted);
    names(&toleration.key, taint) && names(&toleration.effect, "NoExecute")
}

/// The ports of both roles.
pub(super) fn ports() -> [ContainerPort; 2] {
    [(LINK_PORT_NAME, LINK_PORT), (METRICS_PORT_NAME, METRICS_PORT)].map(|(name, port)| ContainerPort {
        name: Some(name.to_owned()),
        container_port: i32::from(port),
        protocol: Some("TCP".to_owned()),
        ..ContainerPort::default()
    })
}
