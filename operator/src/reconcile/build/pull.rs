//! What Harmony's image is pulled with.

use k8s_openapi::api::core::v1::{LocalObjectReference, PodSpec};

use super::Settings;

/// Adds the operator's Secrets to those that a pod names already.
pub(super) fn fill(pod: &mut PodSpec, settings: &Settings) {
    for secret in &settings.image_pull_secrets {
        let secret = LocalObjectReference { name: secret.clone() };
        let secrets = pod.image_pull_secrets.get_or_insert_default();
        if !secrets.contains(&secret) {
            secrets.push(secret);
        }
    }
}
