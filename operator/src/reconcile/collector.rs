//! The collector's pod, as far as decisions need it.

use harmony_api::pod;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;

use crate::fleet::{LOST_AFTER, Waiting};

/// The collector's pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CollectorPod {
    /// There is none.
    Absent,
    /// It is on its way.
    Starting,
    /// It waits for something that a person should know.
    Waiting(Waiting),
    /// It runs.
    Running {
        /// Where it is reached.
        ip: String,
        /// It says that it is ready.
        ready: bool,
        /// Which pod it is: another one has another disk, unless there is a claim.
        uid: String,
        /// How often its process was started again.
        restarts: i32,
    },
    /// It will not run again.
    Ended {
        /// Which pod it was.
        uid: String,
        /// Why.
        message: String,
    },
    /// It is being deleted.
    Terminating {
        /// Which pod it is.
        uid: String,
        /// Its node has not confirmed its end for so long that it is taken for lost.
        lost: bool,
    },
}

impl CollectorPod {
    /// Reads the pod.
    pub(crate) fn observe(pod: Option<&Pod>, now: Timestamp) -> Self {
        let Some(pod) = pod else { return Self::Absent };
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        if let Some(deleted) = &pod.metadata.deletion_timestamp {
            let lost_after = SignedDuration::try_from(LOST_AFTER).unwrap_or(SignedDuration::MAX);
            let lost = now.duration_since(deleted.0) >= lost_after;
            return Self::Terminating { uid, lost };
        }
        let status = pod.status.clone().unwrap_or_default();
        let phase = status.phase.as_deref().unwrap_or_default();
        if matches!(phase, "Failed" | "Succeeded") {
            let message = [status.reason, status.message]
                .into_iter()
                .flatten()
                .collect::<Vec<_>>()
                .join(": ");
            return Self::Ended { uid, message };
        }
        if let Some(waiting) = pod::waiting(pod, now) {
            return Self::Waiting(waiting);
        }
        let container = status.container_statuses.unwrap_or_default().into_iter().next();
        let running =
            container.filter(|container| container.state.as_ref().is_some_and(|state| state.running.is_some()));
        match (status.pod_ip, running) {
            (Some(ip), Some(container)) if !ip.is_empty() => Self::Running {
                ip,
                ready: container.ready,
                uid,
                restarts: container.restart_count,
            },
            _ => Self::Starting,
        }
    }
}
