//! The collector's pod and its storage.

use harmony_api::conventions::COLLECTOR_CONTAINER;
use harmony_api::spec::{ByteSize, StorageSpec};
use k8s_openapi::api::core::v1::{
    Container, EmptyDirVolumeSource, PersistentVolumeClaim, PersistentVolumeClaimSpec,
    PersistentVolumeClaimVolumeSource, Pod, PodSecurityContext, PodSpec, ResourceRequirements, Volume, VolumeMount,
    VolumeResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::agent::quantities;
use super::labels::{self, Role, owned};
use super::worker::{leave_lost_nodes, ports};
use super::{Links, Settings, certificates, command, probes, pull, security};
use crate::reconcile::validate::Batch;

/// What autoscalers must leave alone: a collector that moves makes every worker of the batch wait.
const LEFT_ALONE: [(&str, &str); 3] = [
    ("cluster-autoscaler.kubernetes.io/safe-to-evict", "false"),
    ("karpenter.sh/do-not-disrupt", "true"),
    ("linkerd.io/inject", "disabled"),
];
/// Meshes stay out: Istio reads a label.
const WITHOUT_ISTIO: (&str, &str) = ("sidecar.istio.io/inject", "false");
/// Seconds to write and sync what has arrived, of which the disk needs one or two.
const GRACE: i64 = 30;
/// The volume with the logs.
const VOLUME: &str = "data";
/// Bytes of the logs on a node's own disk, 10Gi. There must be a bound: kubelets evict pods when the disk is full.
const NODE_BYTES: u64 = 10 << 30;
/// What a collector needs at most: 192Mi of outcomes under way, its index, and two cores when results are tiny. It asks
/// for less, since most batches do.
const REQUESTS: [(&str, &str); 2] = [("cpu", "100m"), ("memory", "256Mi")];
const LIMITS: [(&str, &str); 2] = [("cpu", "2"), ("memory", "1Gi")];

/// The collector's pod. Its fixed name makes it at most one.
pub(super) fn pod(batch: &Batch, settings: &Settings) -> Pod {
    let mut metadata = labels::metadata(batch, Role::Collector, batch.names.collector());
    let left_alone = owned(LEFT_ALONE).into_iter();
    metadata.annotations = Some(left_alone.chain(labels::scraping(settings)).collect());
    metadata.labels.get_or_insert_default().extend(owned([WITHOUT_ISTIO]));
    let mut volumes = vec![data(batch)];
    if settings.links == Links::MutualTls {
        volumes.push(certificates::volume(batch.names.collector_certificate()));
    }
    let mut tolerations = batch.collector.tolerations.clone().unwrap_or_default();
    leave_lost_nodes(&mut tolerations);
    let mut spec = PodSpec {
        automount_service_account_token: Some(false),
        containers: vec![container(batch, settings)],
        enable_service_links: Some(false),
        hostname: Some(batch.names.collector()),
        node_selector: batch.collector.node_selector.clone(),
        restart_policy: Some("Always".to_owned()),
        security_context: Some(security_context(batch)),
        subdomain: Some(batch.names.collector()),
        termination_grace_period_seconds: Some(GRACE),
        tolerations: Some(tolerations),
        volumes: Some(volumes),
        ..PodSpec::default()
    };
    pull::fill(&mut spec, settings);
    Pod {
        metadata,
        spec: Some(spec),
        status: None,
    }
}

/// The claim that keeps the logs, if the batch asks for one.
pub(super) fn claim(batch: &Batch) -> Option<PersistentVolumeClaim> {
    let storage = batch.collector.storage.as_ref()?;
    Some(PersistentVolumeClaim {
        metadata: labels::metadata(batch, Role::Collector, batch.names.collector()),
        spec: Some(claim_spec(storage)),
        status: None,
    })
}

/// One pod at a time: two collectors must never write one log, not even when a node is lost.
fn claim_spec(storage: &StorageSpec) -> PersistentVolumeClaimSpec {
    let size = Quantity(match &storage.size {
        ByteSize::Number(bytes) => bytes.to_string(),
        ByteSize::Text(quantity) => quantity.clone(),
    });
    PersistentVolumeClaimSpec {
        access_modes: Some(vec!["ReadWriteOncePod".to_owned()]),
        resources: Some(VolumeResourceRequirements {
            requests: Some([("storage".to_owned(), size)].into()),
            limits: None,
        }),
        storage_class_name: storage.storage_class_name.clone(),
        ..PersistentVolumeClaimSpec::default()
    }
}

fn data(batch: &Batch) -> Volume {
    let mut volume = Volume {
        name: VOLUME.to_owned(),
        ..Volume::default()
    };
    if batch.collector.storage.is_some() {
        volume.persistent_volume_claim = Some(PersistentVolumeClaimVolumeSource {
            claim_name: batch.names.collector(),
            read_only: None,
        });
    } else {
        volume.empty_dir = Some(EmptyDirVolumeSource {
            medium: None,
            size_limit: Some(Quantity(NODE_BYTES.to_string())),
        });
    }
    volume
}

fn container(batch: &Batch, settings: &Settings) -> Container {
    // A claim's file system is the collector's own; of the node's disk it gets what the volume may hold.
    let size = batch.collector.storage.is_none().then_some(NODE_BYTES);
    let mut mounts = vec![VolumeMount {
        name: VOLUME.to_owned(),
        mount_path: command::LOG_DIR.to_owned(),
        ..VolumeMount::default()
    }];
    if settings.links == Links::MutualTls {
        mounts.push(certificates::mount());
    }
    let mut container = Container {
        name: COLLECTOR_CONTAINER.to_owned(),
        image: Some(settings.image.clone()),
        image_pull_policy: settings.image_pull_policy.clone(),
        command: Some(command::collector(settings, size)),
        ports: Some(ports().into()),
        resources: Some(batch.collector.resources.clone().unwrap_or_else(resources)),
        security_context: Some(security::own_container()),
        volume_mounts: Some(mounts),
        ..Container::default()
    };
    probes::fill(&mut container);
    container
}

fn resources() -> ResourceRequirements {
    ResourceRequirements {
        claims: None,
        limits: Some(quantities(LIMITS)),
        requests: Some(quantities(REQUESTS)),
    }
}

/// A claim's file system belongs to root until the kubelet hands it to a group.
fn security_context(batch: &Batch) -> PodSecurityContext {
    let claimed = batch.collector.storage.is_some();
    PodSecurityContext {
        fs_group: claimed.then_some(security::OWN_USER),
        fs_group_change_policy: claimed.then(|| "OnRootMismatch".to_owned()),
        run_as_group: Some(security::OWN_USER),
        run_as_non_root: Some(true),
        run_as_user: Some(security::OWN_USER),
        seccomp_profile: Some(security::runtime_default()),
        ..PodSecurityContext::default()
    }
}
