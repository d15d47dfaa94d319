//! The agent, which is `harmony` itself, in a user's pod: an init container brings it in a volume of its own.

use std::collections::BTreeMap;

use harmony_api::conventions::{AGENT_CONTAINER, AGENT_DIR, AGENT_VOLUME};
use k8s_openapi::api::core::v1::{Container, EmptyDirVolumeSource, ResourceRequirements, Volume, VolumeMount};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::labels::owned;
use super::{Settings, command, security};

/// What the volume may hold: several times the program, also when it is built for debugging.
const VOLUME_SIZE: &str = "256Mi";
/// What copying the program takes. Limits equal requests, so that a pod keeps its class of service, and both are there,
/// so that quotas of either kind take the pod.
const CPU: &str = "50m";
const MEMORY: &str = "64Mi";

/// Copies the program into the volume. As the first of the init containers, it is there for all others.
pub(super) fn container(settings: &Settings) -> Container {
    Container {
        name: AGENT_CONTAINER.to_owned(),
        image: Some(settings.image.clone()),
        image_pull_policy: settings.image_pull_policy.clone(),
        command: Some(command::install()),
        // A working directory of an image may be closed to the user that this runs as.
        working_dir: Some("/".to_owned()),
        resources: Some(resources()),
        security_context: Some(security::own_container()),
        volume_mounts: Some(vec![mount(false)]),
        ..Container::default()
    }
}

/// The volume, gone with the pod.
pub(super) fn volume() -> Volume {
    Volume {
        name: AGENT_VOLUME.to_owned(),
        empty_dir: Some(EmptyDirVolumeSource {
            medium: None,
            size_limit: Some(Quantity(VOLUME_SIZE.to_owned())),
        }),
        ..Volume::default()
    }
}

/// The volume's place in a container.
pub(super) fn mount(read_only: bool) -> VolumeMount {
    VolumeMount {
        name: AGENT_VOLUME.to_owned(),
        mount_path: AGENT_DIR.to_owned(),
        read_only: Some(read_only),
        ..VolumeMount::default()
    }
}

fn resources() -> ResourceRequirements {
    let amounts = quantities([("cpu", CPU), ("memory", MEMORY)]);
    ResourceRequirements {
        claims: None,
        limits: Some(amounts.clone()),
        requests: Some(amounts),
    }
}

/// Amounts of resources.
pub(super) fn quantities<const N: usize>(amounts: [(&str, &str); N]) -> BTreeMap<String, Quantity> {
    owned(amounts)
        .into_iter()
        .map(|(name, amount)| (name, Quantity(amount)))
        .collect()
}
