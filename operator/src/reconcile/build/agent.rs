//! The agent, which is `harmony` itself, in a user's pod: in a volume of its own, which an init container fills or which is
//! Harmony's image.

use std::collections::BTreeMap;

use harmony_api::conventions::{AGENT_CONTAINER, AGENT_DIR, AGENT_VOLUME, IMAGE_PROGRAM};
use k8s_openapi::api::core::v1::{
    Container, EmptyDirVolumeSource, ImageVolumeSource, PodSpec, ResourceRequirements, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::labels::owned;
use super::{Delivery, Settings, command, security};

/// What the volume may hold: several times the program, also when it is built for debugging.
const VOLUME_SIZE: &str = "256Mi";
/// Memory that copying the program takes. Requests and limits are both there, so that quotas of either kind take the pod.
const MEMORY: &str = "64Mi";
/// CPU for copying, request and limit: a pod is charged the request for as long as it lives, and the limit slows its start.
const CPU: [&str; 2] = ["10m", "500m"];
/// The same where the template's containers have limits equal to their requests, so that the pod keeps its class of service.
const GUARANTEED_CPU: [&str; 2] = ["50m", "50m"];

/// Copies the program into the volume. As the first of the init containers, it is there for all `others` of the pod.
fn container<'a>(settings: &Settings, others: impl Iterator<Item = &'a Container>) -> Container {
    Container {
        name: AGENT_CONTAINER.to_owned(),
        image: Some(settings.image.clone()),
        image_pull_policy: settings.image_pull_policy.clone(),
        command: Some(command::install()),
        // A working directory of an image may be closed to the user that this runs as.
        working_dir: Some("/".to_owned()),
        resources: Some(resources(others)),
        security_context: Some(security::own_container()),
        volume_mounts: Some(vec![mount(false)]),
        ..Container::default()
    }
}

/// Brings the agent into a pod, and its volume into the container that runs it.
pub(super) fn bring(settings: &Settings, pod: &mut PodSpec, worker: &mut Container) {
    if settings.delivery == Delivery::Copy {
        let others = pod.init_containers.iter().flatten().chain(&pod.containers);
        let agent = container(settings, others.chain([&*worker]));
        pod.init_containers.get_or_insert_default().insert(0, agent);
    }
    pod.volumes.get_or_insert_default().push(volume(settings));
    worker.volume_mounts.get_or_insert_default().push(mount(true));
}

/// Where the agent is in a worker's container.
pub(super) fn program(delivery: Delivery) -> String {
    match delivery {
        Delivery::Copy => format!("{AGENT_DIR}/harmony"),
        // The whole image is there.
        Delivery::ImageVolume => format!("{AGENT_DIR}{IMAGE_PROGRAM}"),
    }
}

/// The volume, gone with the pod.
fn volume(settings: &Settings) -> Volume {
    let name = AGENT_VOLUME.to_owned();
    match settings.delivery {
        Delivery::Copy => Volume {
            name,
            empty_dir: Some(EmptyDirVolumeSource {
                medium: None,
                size_limit: Some(Quantity(VOLUME_SIZE.to_owned())),
            }),
            ..Volume::default()
        },
        Delivery::ImageVolume => Volume {
            name,
            image: Some(ImageVolumeSource {
                reference: Some(settings.image.clone()),
                pull_policy: settings.image_pull_policy.clone(),
            }),
            ..Volume::default()
        },
    }
}

/// The volume's place in a container.
fn mount(read_only: bool) -> VolumeMount {
    VolumeMount {
        name: AGENT_VOLUME.to_owned(),
        mount_path: AGENT_DIR.to_owned(),
        read_only: Some(read_only),
        ..VolumeMount::default()
    }
}

fn resources<'a>(mut others: impl Iterator<Item = &'a Container>) -> ResourceRequirements {
    let [request, limit] = if others.all(is_guaranteed) { GUARANTEED_CPU } else { CPU };
    let amounts = |cpu| quantities([("cpu", cpu), ("memory", MEMORY)]);
    ResourceRequirements {
        claims: None,
        limits: Some(amounts(limit)),
        requests: Some(amounts(request)),
    }
}

/// Whether a pod of such containers is of the class Guaranteed: they have limits, and ask for no less.
fn is_guaranteed(container: &Container) -> bool {
    let Some(resources) = &container.resources else {
        return false;
    };
    ["cpu", "memory"].iter().all(|&name| {
        let limit = resources.limits.as_ref().and_then(|limits| limits.get(name));
        // A request that is left out is the limit.
        let request = resources.requests.as_ref().and_then(|requests| requests.get(name));
        limit.is_some() && request.or(limit) == limit
    })
}

/// Amounts of resources.
pub(super) fn quantities<const N: usize>(amounts: [(&str, &str); N]) -> BTreeMap<String, Quantity> {
    owned(amounts)
        .into_iter()
        .map(|(name, amount)| (name, Quantity(amount)))
        .collect()
}
