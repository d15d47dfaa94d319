//! What a pod went through, and a rough end for it.

use anyhow::{Context as _, Result};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;

use crate::kubectl::kubectl;

/// How often its containers were started again.
pub fn restarts(pod: &Pod) -> i32 {
    let statuses = pod
        .status
        .as_ref()
        .and_then(|status| status.container_statuses.as_deref());
    statuses
        .unwrap_or_default()
        .iter()
        .map(|container| container.restart_count)
        .sum()
}

/// Deletes it without a word to what runs in it, and does not wait.
pub async fn delete_by_force(pod: &Pod) -> Result<()> {
    let (name, namespace) = (pod.name_any(), pod.namespace().context("a pod without a namespace")?);
    let pod = ["delete", "pod", &name, "--namespace", &namespace];
    let force = ["--force", "--grace-period=0", "--wait=false"];
    kubectl(&[pod.as_slice(), &force].concat()).await.map(drop)
}
