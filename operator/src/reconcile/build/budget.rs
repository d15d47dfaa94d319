//! How many workers an orderly disruption, such as the drain of a node, may take at once.

use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::labels::{self, Role};
use crate::reconcile::validate::Batch;

/// Of the batch's parallelism, which the disruption controller reads from the scale subresource. An evicted worker hands
/// its tasks back, so that only throughput is at stake: half of it stays. Rounded up, it lets a single worker go too.
const MAX_UNAVAILABLE: &str = "50%";

/// The budget of the workers. Pods that are not ready run nothing that would be lost, and never hold a drain up.
pub(super) fn workers(batch: &Batch) -> PodDisruptionBudget {
    PodDisruptionBudget {
        metadata: labels::metadata(batch, Role::Worker, batch.names.workers()),
        spec: Some(PodDisruptionBudgetSpec {
            max_unavailable: Some(IntOrString::String(MAX_UNAVAILABLE.to_owned())),
            selector: Some(labels::pods_of(batch, Role::Worker)),
            unhealthy_pod_eviction_policy: Some("AlwaysAllow".to_owned()),
            ..PodDisruptionBudgetSpec::default()
        }),
        status: None,
    }
}
