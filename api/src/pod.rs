//! What a pod waits for: judged alike by the operator and the command line.

use std::time::Duration;

use k8s_openapi::api::core::v1::{ContainerState, ContainerStatus, Pod, PodCondition, PodSpec, PodStatus};
use k8s_openapi::jiff::{SignedDuration, Timestamp};

use crate::conventions::WORKER_CONTAINER;

/// A pod that cannot start is given this long before its state is worth telling: images are pulled, volumes are mounted.
pub const STUCK_AFTER: Duration = Duration::from_secs(15);

/// What a pod waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Kubernetes' own word: `ErrImagePull`, `ImagePullBackOff`, `CreateContainerConfigError`, `InvalidImageName`,
    /// `Unschedulable` ... `ContainerCreating` after [`STUCK_AFTER`] means that events of the pod say more.
    pub reason: String,
    /// Kubernetes' own message; empty if there is none.
    pub message: String,
}

/// What a pod waits for, if a person should know.
pub fn waiting(pod: &Pod, now: Timestamp) -> Option<Waiting> {
    let status = pod.status.as_ref()?;
    let worker = worker_status(pod.spec.as_ref(), status);
    let waits = worker.and_then(|worker| worker.state.as_ref()?.waiting.as_ref());
    if !is_pending(status) && waits.is_none() {
        return None;
    }
    let unscheduled = condition(status, "PodScheduled").filter(|condition| condition.status == "False");
    if let Some(condition) = unscheduled {
        return Some(Waiting {
            reason: condition.reason.clone().unwrap_or_else(|| "Unschedulable".to_owned()),
            message: condition.message.clone().unwrap_or_default(),
        });
    }
    let init = status.init_container_statuses.as_deref().unwrap_or_default();
    let containers = status.container_statuses.as_deref().unwrap_or_default();
    let states = init
        .iter()
        .chain(containers)
        .filter_map(|container| container.state.as_ref());
    let mut stuck = states.filter_map(|state| stuck(state, was_long_ago(status, now)));
    stuck.next()
}

/// Whether a pod has not begun.
fn is_pending(status: &PodStatus) -> bool {
    !matches!(
        status.phase.as_deref(),
        Some("Running" | "Succeeded" | "Failed" | "Unknown")
    )
}

/// The status of the container that runs tasks: the one named `worker`, else the first.
pub fn worker_status<'a>(spec: Option<&PodSpec>, status: &'a PodStatus) -> Option<&'a ContainerStatus> {
    let containers = spec.map(|spec| spec.containers.as_slice()).unwrap_or_default();
    let named = containers.iter().find(|container| container.name == WORKER_CONTAINER);
    let name = &named.or(containers.first())?.name;
    let statuses = status.container_statuses.as_deref().unwrap_or_default();
    statuses.iter().find(|container| container.name == *name)
}

/// A condition of a pod.
pub fn condition<'a>(status: &'a PodStatus, kind: &str) -> Option<&'a PodCondition> {
    let mut conditions = status.conditions.as_deref().unwrap_or_default().iter();
    conditions.find(|condition| condition.type_ == kind)
}

fn stuck(state: &ContainerState, long: bool) -> Option<Waiting> {
    let waiting = state.waiting.as_ref()?;
    let reason = waiting.reason.clone().unwrap_or_default();
    let usual = match reason.as_str() {
        "" | "PodInitializing" => true,
        "ContainerCreating" => !long,
        _ => false,
    };
    (!usual).then(|| Waiting {
        reason,
        message: waiting.message.clone().unwrap_or_default(),
    })
}

/// Whether the kubelet has had the pod for longer than starting it should take.
fn was_long_ago(status: &PodStatus, now: Timestamp) -> bool {
    let long = SignedDuration::try_from(STUCK_AFTER).unwrap_or(SignedDuration::MAX);
    let started = status.start_time.as_ref();
    started.is_some_and(|time| now.duration_since(time.0) >= long)
}
