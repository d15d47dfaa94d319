//! What a pod's status says.

use harmony_operator::fleet::{End, EndReason, Phase, STUCK_AFTER, Waiting, observe};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

fn now() -> Timestamp {
    "2026-01-01T00:10:00Z".parse().unwrap()
}

fn pod(status: &Value) -> Pod {
    let pod = json!({
        "metadata": {
            "name": "hb-x-w-3-7",
            "uid": "the-uid",
            "labels": {"harmony.dev/ordinal": "3", "harmony.dev/generation": "7", "harmony.dev/revision": "r9"},
        },
        "spec": {"nodeName": "n1", "containers": [{"name": "proxy"}, {"name": "worker"}]},
        "status": status,
    });
    serde_json::from_value(pod).unwrap()
}

fn end_of(status: &Value) -> Option<End> {
    observe(&pod(status), now()).unwrap().ended
}

/// The worker container has ended so.
fn terminated(state: &Value) -> Value {
    json!({"phase": "Running", "containerStatuses": [
        {"name": "proxy", "image": "", "imageID": "", "ready": true, "restartCount": 0, "state": {"running": {}}},
        {"name": "worker", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": {"terminated": state}},
    ]})
}

#[test]
fn a_running_pod_is_read() {
    let status = json!({"phase": "Running", "podIP": "10.1.2.3", "conditions": [{"type": "Ready", "status": "True"}]});
    let seen = observe(&pod(&status), now()).unwrap();
    assert_eq!(
        (seen.name.as_str(), seen.ordinal, seen.generation),
        ("hb-x-w-3-7", 3, 7)
    );
    assert_eq!((seen.uid.as_str(), seen.revision.as_str()), ("the-uid", "r9"));
    assert_eq!(
        (seen.phase, seen.ready, seen.ip.as_deref()),
        (Phase::Running, true, Some("10.1.2.3"))
    );
    assert_eq!((seen.node.as_deref(), seen.terminating), (Some("n1"), None));
    assert_eq!((seen.ended, seen.waiting), (None, None));
}

#[test]
fn a_pod_without_our_labels_is_none_of_ours() {
    let mut other = pod(&json!({}));
    other.metadata.labels.as_mut().unwrap().remove("harmony.dev/ordinal");
    assert_eq!(observe(&other, now()), None);
    other.metadata.labels = None;
    assert_eq!(observe(&other, now()), None);
}

#[test]
fn a_deleted_pod_tells_how_far_it_is_beyond_its_grace() {
    let mut deleted = pod(&json!({"phase": "Running"}));
    deleted.metadata.deletion_timestamp = serde_json::from_value(json!("2026-01-01T00:09:00Z")).unwrap();
    assert_eq!(
        observe(&deleted, now()).unwrap().terminating,
        Some(SignedDuration::from_mins(1))
    );
}

#[test]
fn the_end_of_the_worker_is_the_end_of_its_pod() {
    // What the container says, and what it means: exit code, signal, reason, whether its tasks may be the cause.
    let cases = [
        (
            json!({"exitCode": 0, "reason": "Completed"}),
            Some(0),
            None,
            EndReason::Completed,
            true,
        ),
        (
            json!({"exitCode": 3, "reason": "Error"}),
            Some(3),
            None,
            EndReason::Error,
            true,
        ),
        (
            json!({"exitCode": 139, "reason": "Error"}),
            Some(139),
            Some(11),
            EndReason::Error,
            true,
        ),
        (
            json!({"exitCode": 137, "reason": "OOMKilled"}),
            Some(137),
            Some(9),
            EndReason::OomKilled,
            true,
        ),
        // containerd says so of a container whose task was killed, however it ends.
        (
            json!({"exitCode": 0, "reason": "OOMKilled"}),
            Some(0),
            None,
            EndReason::Completed,
            true,
        ),
        (
            json!({"exitCode": 128, "reason": "StartError", "message": "no such file"}),
            Some(128),
            None,
            EndReason::StartError,
            false,
        ),
        (
            json!({"exitCode": 137, "reason": "ContainerStatusUnknown"}),
            Some(137),
            Some(9),
            EndReason::NodeLost,
            false,
        ),
    ];
    for (state, exit_code, signal, reason, counts) in cases {
        let end = end_of(&terminated(&state)).unwrap();
        let found = (end.exit_code, end.signal, end.reason, end.counts);
        assert_eq!(found, (exit_code, signal, reason, counts), "{state}");
        assert_eq!(end.message, state["message"].as_str().unwrap_or_default());
    }
}

#[test]
fn an_end_from_outside_counts_against_no_task() {
    let killed = json!({"exitCode": 137, "reason": "Error"});
    let with = |key: &str, value: Value| {
        let mut status = terminated(&killed);
        status[key] = value;
        status
    };
    let disruption =
        json!([{"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler", "message": "m"}]);
    let end = end_of(&with("conditions", disruption)).unwrap();
    assert_eq!((end.reason, end.counts), (EndReason::DisruptionTarget, false));
    assert_eq!(end.message, "PreemptionByScheduler: m");
    let mut evicted = with("reason", json!("Evicted"));
    evicted["message"] = json!("the node was low on memory");
    let end = end_of(&evicted).unwrap();
    assert_eq!((end.reason, end.counts), (EndReason::Evicted, false));
    assert_eq!(end.message, "the node was low on memory");
    let mut deleted = pod(&terminated(&killed));
    deleted.metadata.deletion_timestamp = serde_json::from_value(json!("2026-01-01T00:09:00Z")).unwrap();
    let end = observe(&deleted, now()).unwrap().ended.unwrap();
    assert_eq!((end.reason, end.counts), (EndReason::Deleted, false));
}

#[test]
fn a_failed_init_container_ends_the_pod_before_any_task() {
    let status = json!({"phase": "Failed", "initContainerStatuses": [
        {"name": "harmony-agent", "image": "", "imageID": "", "ready": false, "restartCount": 0,
         "state": {"terminated": {"exitCode": 1, "reason": "Error", "message": "disk full"}}},
    ]});
    let end = end_of(&status).unwrap();
    assert_eq!(
        (end.reason, end.counts, end.message.as_str()),
        (
            EndReason::InitError,
            false,
            "init container harmony-agent, exit code 1: disk full"
        )
    );
}

#[test]
fn what_a_pod_waits_for_is_told_unless_it_is_the_usual() {
    let waiting_for = |reason: &str| {
        json!({"phase": "Pending", "startTime": "2026-01-01T00:00:00Z", "containerStatuses": [
            {"name": "worker", "image": "", "imageID": "", "ready": false, "restartCount": 0,
             "state": {"waiting": {"reason": reason, "message": "why"}}},
        ]})
    };
    let seen = |status: &Value, now: Timestamp| observe(&pod(status), now).unwrap().waiting;
    for reason in [
        "ErrImagePull",
        "ImagePullBackOff",
        "CreateContainerConfigError",
        "InvalidImageName",
    ] {
        let expected = Waiting {
            reason: reason.into(),
            message: "why".into(),
        };
        assert_eq!(seen(&waiting_for(reason), now()), Some(expected));
    }
    assert_eq!(seen(&waiting_for("PodInitializing"), now()), None);
    let started: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    let stuck = started + SignedDuration::try_from(STUCK_AFTER).unwrap();
    assert_eq!(seen(&waiting_for("ContainerCreating"), started), None);
    assert_eq!(
        seen(&waiting_for("ContainerCreating"), stuck).unwrap().reason,
        "ContainerCreating"
    );
    let unscheduled = json!({"phase": "Pending", "conditions": [
        {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/2 nodes"},
    ]});
    let expected = Waiting {
        reason: "Unschedulable".into(),
        message: "0/2 nodes".into(),
    };
    assert_eq!(seen(&unscheduled, now()), Some(expected));
}
