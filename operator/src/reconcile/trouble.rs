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
mod tests {
    use super::*;

    #[test]
    fn a_user_that_may_be_root_is_told_what_to_set() {
        let waiting = |message: &str| Waiting {
            reason: "CreateContainerConfigError".to_owned(),
            message: message.to_owned(),
        };
        let kubelet =
            "container has runAsNonRoot and image has non-numeric user (worker), cannot verify user is non-root";
        let trouble = Trouble::of_waiting("pod a", &waiting(kubelet));
        assert_eq!(trouble.reason, reason::POD_NOT_CONFIGURED);
        assert!(
            trouble.message.contains("spec.template.spec.securityContext.runAsUser"),
            "{trouble:?}"
        );
        let other = Trouble::of_waiting("pod a", &waiting("configmap \"lines\" not found"));
        assert!(other.message.ends_with("not found"), "{other:?}");
    }

    #[test]
    fn a_refused_collector_names_what_sizes_it() {
        let refused = apply::Error::Refused {
            kind: "Pod".to_owned(),
            name: "c".to_owned(),
            message: "exceeded quota".to_owned(),
        };
        let message = Trouble::of_refused_collector(&refused).message;
        assert!(
            message.ends_with("exceeded quota; spec.collector.resources says what the collector asks for"),
            "{message}"
        );
    }
}
