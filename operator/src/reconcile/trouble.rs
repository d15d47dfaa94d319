//! What keeps a batch from going on: one reason for programs, one message for people.

use harmony_api::conditions::reason;

use super::collector::CollectorPod;
use super::{apply, dereference, validate};
use crate::fleet::{EndReason, Waiting, WorkerPod};
use crate::ventilators::VentilatorState;

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

    /// Whether it says no more than that a pod is slow to start.
    pub(crate) fn is_vague(&self) -> bool {
        self.message.contains("ContainerCreating")
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

    /// What a worker pod waits for, or ended by again and again.
    pub(crate) fn of_workers(workers: &[WorkerPod]) -> Option<Self> {
        let waiting = workers
            .iter()
            .find_map(|pod| Some(Self::of_waiting(&format!("pod {}", pod.name), pod.waiting.as_ref()?)));
        waiting.or_else(|| workers.iter().find_map(Self::of_end))
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
        Self::new(
            reason,
            format!("{who} waits: {}{said}{}", waiting.reason, waiting.message),
        )
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
