//! What a person would look at after a failure.

use std::fmt::Write as _;

use crate::kubectl::kubectl;
use crate::operator::OPERATOR_NAMESPACE;

/// Lines of each container's log.
const TAIL: &str = "--tail=60";

/// The objects, events and logs of a namespace, and what the operator says.
pub(crate) async fn dump(namespace: &str) -> String {
    let mut text = String::new();
    let objects = "harmonybatches,pods,services,persistentvolumeclaims,jobs,networkpolicies,poddisruptionbudgets";
    // One kind that the cluster does not know would hide all others.
    for kind in objects.split(',') {
        show(&mut text, &["get", kind, "--namespace", namespace, "--output=wide"]).await;
    }
    show(
        &mut text,
        &["get", "harmonybatches", "--namespace", namespace, "--output=yaml"],
    )
    .await;
    let events = ["get", "events", "--namespace", namespace, "--sort-by=.lastTimestamp"];
    show(&mut text, &events).await;
    show(&mut text, &["describe", "pods", "--namespace", namespace]).await;
    logs(&mut text, namespace).await;
    logs(&mut text, OPERATOR_NAMESPACE).await;
    text
}

async fn logs(text: &mut String, namespace: &str) {
    let pods = ["get", "pods", "--namespace", namespace, "--output=name"];
    for pod in kubectl(&pods).await.unwrap_or_default().lines() {
        let logs = [
            "logs",
            pod,
            "--namespace",
            namespace,
            "--all-containers",
            "--prefix",
            TAIL,
        ];
        show(text, &logs).await;
    }
}

async fn show(text: &mut String, arguments: &[&str]) {
    let said = match kubectl(arguments).await {
        Ok(said) if said.is_empty() => return,
        Ok(said) => said,
        Err(error) => format!("{error:#}\n"),
    };
    let _ = write!(text, "--- kubectl {}\n{said}", arguments.join(" "));
}
