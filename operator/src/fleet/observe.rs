//! What a pod's status says.

use harmony_api::conventions::{GENERATION_LABEL, ORDINAL_LABEL, REVISION_LABEL};
use harmony_api::pod::{condition, waiting, worker_status};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStateTerminated, ContainerStatus, Pod, PodStatus};

use super::{End, EndReason, Exit, Phase, WorkerPod};

/// What kubelets say of pods that they do not take, besides `OutOfcpu` and the like.
const REJECTIONS: [&str; 4] = [
    "NodeAffinity",
    "NodePorts",
    "TopologyAffinityError",
    "UnexpectedAdmissionError",
];

/// Reads a worker pod. Nothing if it lacks the labels with ordinal and generation, so that it is not a worker of ours.
pub fn observe(pod: &Pod, now: Timestamp) -> Option<WorkerPod> {
    let labels = pod.metadata.labels.as_ref()?;
    let no_status = PodStatus::default();
    let status = pod.status.as_ref().unwrap_or(&no_status);
    let worker = worker_status(pod.spec.as_ref(), status);
    let deleted = pod.metadata.deletion_timestamp.as_ref();
    Some(WorkerPod {
        name: pod.metadata.name.clone()?,
        ordinal: labels.get(ORDINAL_LABEL)?.parse().ok()?,
        generation: labels.get(GENERATION_LABEL)?.parse().ok()?,
        uid: pod.metadata.uid.clone().unwrap_or_default(),
        revision: labels.get(REVISION_LABEL).cloned().unwrap_or_default(),
        phase: phase(status),
        ip: status.pod_ip.clone().filter(|ip| !ip.is_empty()),
        ready: condition(status, "Ready").is_some_and(|condition| condition.status == "True"),
        node: pod.spec.as_ref().and_then(|spec| spec.node_name.clone()),
        terminating: deleted.map(|time| now.duration_since(time.0)),
        ended: ended(status, worker, deleted.is_some()),
        waiting: waiting(pod, now),
    })
}

fn phase(status: &PodStatus) -> Phase {
    match status.phase.as_deref() {
        Some("Running") => Phase::Running,
        Some("Succeeded") => Phase::Succeeded,
        Some("Failed") => Phase::Failed,
        Some("Unknown") => Phase::Unknown,
        _ => Phase::Pending,
    }
}

/// The pod has ended once its worker has, whatever runs beside it.
fn ended(status: &PodStatus, worker: Option<&ContainerStatus>, deleted: bool) -> Option<End> {
    let state = worker.and_then(|worker| worker.state.as_ref());
    let terminated = state.and_then(|state| state.terminated.as_ref());
    if terminated.is_none() && !matches!(phase(status), Phase::Failed | Phase::Succeeded) {
        return None;
    }
    let (from_outside, said) = outside_cause(status, terminated, deleted);
    let init = terminated.is_none().then(|| failed_init(status)).flatten();
    let failed_init = init.map(|(name, terminated)| {
        let said = terminated.message.as_deref().map(|said| format!(": {said}"));
        let said = said.unwrap_or_default();
        format!("init container {name}, exit code {}{said}", terminated.exit_code)
    });
    let reason = from_outside.unwrap_or_else(|| match terminated {
        Some(terminated) => own_cause(terminated),
        None if init.is_some() => EndReason::InitError,
        None if phase(status) == Phase::Succeeded => EndReason::Completed,
        None => EndReason::Error,
    });
    let exit_code = terminated.map(|terminated| terminated.exit_code);
    let signal = terminated
        .and_then(|terminated| terminated.signal)
        .filter(|signal| *signal > 0);
    let ran = terminated.is_some() && !matches!(reason, EndReason::StartError);
    let message = said
        .or(failed_init)
        .or_else(|| terminated.and_then(|terminated| terminated.message.clone()));
    Some(End {
        exit_code,
        // Shells and the kubelet say 128 + n where a signal ended a process.
        signal: signal.or(exit_code
            .filter(|code| (129..=192).contains(code))
            .map(|code| code - 128)),
        reason,
        counts: ran && from_outside.is_none(),
        message: message.or_else(|| status.message.clone()).unwrap_or_default(),
        exits: exits(status, worker),
        conditions: conditions(status),
    })
}

/// The containers that have ended, the worker first: then those that failed, the init containers before the others.
fn exits(status: &PodStatus, worker: Option<&ContainerStatus>) -> Vec<Exit> {
    let init = status.init_container_statuses.iter().flatten();
    let all = init.chain(status.container_statuses.iter().flatten());
    let ended = all.filter_map(|container| {
        Some(Exit {
            container: container.name.clone(),
            code: container.state.as_ref()?.terminated.as_ref()?.exit_code,
        })
    });
    let mut exits: Vec<_> = ended.collect();
    exits.sort_by_key(|exit| {
        (
            worker.is_none_or(|worker| worker.name != exit.container),
            exit.code == 0,
        )
    });
    exits
}

fn conditions(status: &PodStatus) -> Vec<(String, String)> {
    let conditions = status.conditions.iter().flatten();
    let told = conditions.map(|condition| (condition.type_.clone(), condition.status.clone()));
    told.collect()
}

/// A cause that lies outside the pod, and what is said of it.
fn outside_cause(
    status: &PodStatus,
    terminated: Option<&ContainerStateTerminated>,
    deleted: bool,
) -> (Option<EndReason>, Option<String>) {
    let disruption = condition(status, "DisruptionTarget").filter(|condition| condition.status == "True");
    let forgotten = terminated.and_then(|terminated| terminated.reason.as_deref()) == Some("ContainerStatusUnknown");
    match status.reason.as_deref() {
        // More than the worker itself may use: its tasks can be the cause, yet the kubelet judges by the whole pod.
        Some("Evicted") => return (Some(EndReason::Evicted), status.message.clone()),
        Some("NodeLost") => {
            return (Some(EndReason::NodeLost), status.message.clone());
        }
        // Such as OutOfcpu: the node had no room after all.
        Some(reason) if reason.starts_with("OutOf") || REJECTIONS.contains(&reason) => {
            let message = status.message.clone().unwrap_or_default();
            return (Some(EndReason::Rejected), Some(format!("{reason}: {message}")));
        }
        _ => {}
    }
    match disruption {
        Some(condition) => {
            let reason = condition.reason.clone().unwrap_or_default();
            let message = condition.message.clone().unwrap_or_default();
            (Some(EndReason::DisruptionTarget), Some(format!("{reason}: {message}")))
        }
        None if deleted => (Some(EndReason::Deleted), None),
        None if forgotten => (Some(EndReason::NodeLost), None),
        None => (None, None),
    }
}

fn own_cause(terminated: &ContainerStateTerminated) -> EndReason {
    match terminated.reason.as_deref() {
        Some("StartError" | "ContainerCannotRun") => EndReason::StartError,
        // Also where the kernel had killed one of its tasks before: containerd calls that container OOMKilled as well.
        _ if terminated.exit_code == 0 => EndReason::Completed,
        Some("OOMKilled") => EndReason::OomKilled,
        _ => EndReason::Error,
    }
}

/// The init container that failed, and how.
fn failed_init(status: &PodStatus) -> Option<(&str, &ContainerStateTerminated)> {
    let statuses = status.init_container_statuses.as_deref().unwrap_or_default();
    let mut terminated = statuses
        .iter()
        .filter_map(|container| Some((container.name.as_str(), container.state.as_ref()?.terminated.as_ref()?)));
    terminated.find(|(_, terminated)| terminated.exit_code != 0)
}
