//! What keeps a batch from going on: one reason for programs, one message for people.

use harmony_api::conditions::reason;

use super::collector::CollectorPod;
use super::{apply, dereference, validate};
use crate::fleet::{EndReason, Waiting, WorkerPod};
use crate::ventilators::VentilatorState;

/// The kubelet's word for a pod that is only slow to start, or waits for something that it does not name.
const SLOW: &str = "ContainerCreating";

/// What keeps a batch from going on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trouble {
    /// For programs: a reason of [`harmony_api::conditions::reason`].
    pub(crate) reason: &'static str,
    /// For people.
    pub(crate) message: String,
}

impl Trouble {
    /// Trouble.
    pub(crate) fn new(reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
        }
    }

    /// What a ventilator that does not run any more says.
    pub(crate) fn of_ventilator(state: &VentilatorState) -> Option<Self> {
        match state {
            VentilatorState::SourceFailed { error, .. } => Some(Self::new(reason::TASKS_SOURCE_UNAVAILABLE, error)),
            VentilatorState::SourceChanged { .. } => Some(Self::new(
                reason::TASKS_SOURCE_CHANGED,
                "the source of the tasks holds others than when the batch began; bring the old ones back, or run the new ones \
                 as a batch of another name",
            )),
            VentilatorState::Failed { reason: why } => Some(Self::new(reason::VENTILATOR_FAILED, why)),
            VentilatorState::Fenced { epoch } => Some(Self::new(
                reason::VENTILATOR_FAILED,
                format!("another ventilator has taken the batch over with epoch {epoch}"),
            )),
            VentilatorState::Opening | VentilatorState::Running(_) | VentilatorState::Done { .. } => None,
        }
    }

    /// What the collector's pod waits for.
    pub(crate) fn of_collector(pod: &CollectorPod) -> Option<Self> {
        match pod {
            CollectorPod::Waiting(waiting) => Some(Self::of_waiting("the collector's pod", waiting)),
            CollectorPod::Ended { message, .. } => Some(Self::new(
                reason::COLLECTOR_UNREACHABLE,
                format!("the collector's pod ended: {message}"),
            )),
            _ => None,
        }
    }

    /// What keeps workers from being there: that pods were refused, what they wait for, what is known of them from
    /// elsewhere, or how they end.
    pub(crate) fn of_fleet(refused: Option<Self>, workers: &[WorkerPod], known: [Option<&Self>; 2]) -> Option<Self> {
        let waits = |vague: bool| {
            let mut pods = workers.iter();
            pods.find_map(move |pod| {
                let waiting = pod.waiting.as_ref().filter(|it| (it.reason == SLOW) == vague)?;
                Some(Self::of_waiting(&format!("pod {}", pod.name), waiting))
            })
        };
        refused
            .or_else(|| waits(false))
            .or_else(|| known.into_iter().flatten().next().cloned())
            .or_else(|| workers.iter().find_map(Self::of_end))
            .or_else(|| waits(true))
    }

    /// What the end of a worker pod says of all of them; most ends say something of that one only.
    pub(crate) fn of_end(pod: &WorkerPod) -> Option<Self> {
        let end = pod.ended.as_ref()?;
        let reason = match end.reason {
            EndReason::InitError => reason::INIT_FAILED,
            EndReason::StartError => reason::EXECUTOR_FAILED,
            EndReason::Error => reason::PODS_CRASH,
            _ => return None,
        };
        let code = end
            .exit_code
            .map(|code| format!(", exit code {code}"))
            .unwrap_or_default();
        let said = if end.message.is_empty() {
            String::new()
        } else {
            format!(": {}", end.message)
        };
        Some(Self::new(
            reason,
            format!("pod {} ended ({}{code}){said}", pod.name, end.reason.name()),
        ))
    }

    fn of_waiting(who: &str, waiting: &Waiting) -> Self {
        let reason = match waiting.reason.as_str() {
            "ErrImagePull" | "ImagePullBackOff" | "InvalidImageName" | "ErrImageNeverPull" | "ImageInspectError" => {
                reason::IMAGE_PULL_FAILED
            }
            "Unschedulable" | "SchedulingGated" => reason::UNSCHEDULABLE,
            "CrashLoopBackOff" => reason::PODS_CRASH,
            "RunContainerError" => reason::EXECUTOR_FAILED,
            _ => reason::POD_NOT_CONFIGURED,
        };
        let said = if waiting.message.is_empty() { "" } else { ": " };
        let way_out = way_out(&waiting.message);
        Self::new(
            reason,
            format!("{who} waits: {}{said}{}{way_out}", waiting.reason, waiting.message),
        )
    }

    /// What the API server has against the collector's pod. A person who wrote no such pod is told what sizes it.
    pub(crate) fn of_refused_collector(error: &apply::Error) -> Self {
        let way_out = "spec.collector.resources says what the collector asks for";
        Self::new(reason::PODS_REFUSED, format!("{error}; {way_out}"))
    }
}

/// What to set, where Kubernetes does not say it.
fn way_out(message: &str) -> &'static str {
    if message.contains("runAsNonRoot") {
        "; set spec.template.spec.securityContext.runAsUser to the number of the image's user, other than 0"
    } else {
        ""
    }
}

impl From<dereference::Error> for Trouble {
    fn from(error: dereference::Error) -> Self {
        Self::new(error.reason(), error.to_string())
    }
}

impl From<validate::Error> for Trouble {
    fn from(error: validate::Error) -> Self {
        Self::new(error.reason(), error.to_string())
    }
}

impl From<apply::Error> for Trouble {
    fn from(error: apply::Error) -> Self {
        Self::new(reason::PODS_REFUSED, error.to_string())
    }
}

#[cfg(test)]
mod tests;
