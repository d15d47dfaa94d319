//! How the kubelet asks a pod how it is: by HTTP at the metrics port.

use harmony_api::conventions::METRICS_PORT_NAME;
use k8s_openapi::api::core::v1::{Container, HTTPGetAction, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// Seconds that an answer may take: a node with more to do than it can is slow, not stuck.
const TIMEOUT: i32 = 5;
/// Seconds between two questions whether a loop is stuck, and how many wrong answers in a row make it so: a minute.
const LIVENESS_EVERY: i32 = 10;
const LIVENESS_FAILURES: i32 = 6;
/// Seconds between two questions whether a pod is ready. What dials does not wait for it, so it may be rare.
const READINESS_EVERY: i32 = 5;
/// A new pod is asked every second, so that it counts as soon as it is up, and for as many seconds: a program of the
/// user's own may load for minutes before it listens.
const STARTUP_EVERY: i32 = 1;
const STARTUP_FAILURES: i32 = 300;

/// Fills the probes that a container does not have yet.
pub(super) fn fill(container: &mut Container) {
    let ask = |path: &str, every, failures| Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::String(METRICS_PORT_NAME.to_owned()),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(every),
        timeout_seconds: Some(TIMEOUT),
        failure_threshold: Some(failures),
        ..Probe::default()
    };
    container
        .liveness_probe
        .get_or_insert_with(|| ask("/healthz", LIVENESS_EVERY, LIVENESS_FAILURES));
    container
        .readiness_probe
        .get_or_insert_with(|| ask("/readyz", READINESS_EVERY, 1));
    container
        .startup_probe
        .get_or_insert_with(|| ask("/healthz", STARTUP_EVERY, STARTUP_FAILURES));
}
