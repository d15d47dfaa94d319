//! What failed worker pods mean for their batch.

use harmony_api::PodFailureRule;
use harmony_api::conditions::reason;
use harmony_api::spec::{HarmonyBatch, PodFailureActionSpec};
use harmony_api::status::{MAX_JUDGED, MAX_POD_FAILURE, PodFailures};
use harmony_operator::fleet::{EndReason, WorkerPod, judge, may_go, observe, verdict};
use jiff::Timestamp;
use serde_json::{Value, json};

/// A worker pod whose containers are in these states.
fn pod(uid: &str, status: &Value) -> WorkerPod {
    let pod = json!({
        "metadata": {
            "name": format!("w-{uid}"),
            "uid": uid,
            "labels": {"harmony.dev/ordinal": "3", "harmony.dev/generation": "7"},
        },
        "spec": {"nodeName": "n1", "containers": [{"name": "proxy"}, {"name": "worker"}]},
        "status": status,
    });
    observe(&serde_json::from_value(pod).unwrap(), Timestamp::UNIX_EPOCH).unwrap()
}

fn state(container: &str, code: i32, reason: &str) -> Value {
    json!({"name": container, "image": "", "imageID": "", "ready": false, "restartCount": 0,
           "state": {"terminated": {"exitCode": code, "reason": reason}}})
}

fn exited(uid: &str, code: i32) -> WorkerPod {
    pod(
        uid,
        &json!({"phase": "Failed", "containerStatuses": [state("worker", code, "Error")]}),
    )
}

fn disrupted(uid: &str) -> WorkerPod {
    let conditions = json!([{"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI"}]);
    let containers = json!([state("worker", 137, "Error")]);
    pod(
        uid,
        &json!({"phase": "Failed", "conditions": conditions, "containerStatuses": containers}),
    )
}

fn rules(rules: &Value) -> Vec<PodFailureRule> {
    let batch: HarmonyBatch = serde_json::from_value(json!({
        "apiVersion": "harmony.dev/v1alpha1", "kind": "HarmonyBatch", "metadata": {"name": "b"},
        "spec": {
            "completions": 1, "executor": {"exec": {"command": ["cat"]}},
            "template": {"spec": {"containers": [{"name": "worker"}, {"name": "proxy"}]}},
            "podFailurePolicy": {"rules": rules},
        },
    }))
    .unwrap();
    harmony_api::validate_for_cluster(&batch).unwrap().pod_failure_policy
}

#[test]
fn each_failed_pod_counts_once_and_its_uid_is_kept_while_it_is_there() {
    let mut failures = PodFailures::default();
    let pods = [exited("a", 1), exited("b", 2)];
    assert_eq!(judge(&[], &pods, &mut failures).len(), 2);
    assert_eq!((failures.counted, failures.judged.len()), (2, 2));
    // Another operator begins with what was written.
    let mut written: PodFailures = serde_json::from_value(serde_json::to_value(&failures).unwrap()).unwrap();
    assert_eq!(judge(&[], &pods, &mut written), []);
    assert_eq!(written, failures);
    assert_eq!(judge(&[], &pods[1..], &mut failures), []);
    assert_eq!(
        (failures.counted, failures.judged.as_slice()),
        (2, ["b".to_owned()].as_slice())
    );
}

#[test]
fn a_failed_pod_is_deleted_only_after_it_is_written_down() {
    let failed = exited("a", 1);
    let mut failures = PodFailures::default();
    assert!(!may_go(&failed, None));
    judge(&[], std::slice::from_ref(&failed), &mut failures);
    assert!(
        !may_go(&failed, Some(&PodFailures::default())),
        "only what is written counts"
    );
    assert!(may_go(&failed, Some(&failures)));
    assert!(may_go(&exited("b", 0), None), "it did not fail");
}

#[test]
fn disruptions_and_orders_do_not_count() {
    let mut failures = PodFailures::default();
    let mut deleted = exited("d", 143);
    if let Some(end) = &mut deleted.ended {
        end.reason = EndReason::Deleted;
    }
    let evicted = pod(
        "e",
        &json!({"phase": "Failed", "reason": "Evicted", "message": "low on memory"}),
    );
    let rejected = pod("r", &json!({"phase": "Failed", "reason": "OutOfcpu"}));
    let pods = [disrupted("a"), evicted, rejected, deleted, exited("ok", 0)];
    let told: Vec<_> = judge(&[], &pods, &mut failures)
        .into_iter()
        .map(|judged| judged.reason)
        .collect();
    assert_eq!(
        told,
        [EndReason::DisruptionTarget, EndReason::Evicted, EndReason::Rejected]
    );
    assert_eq!((failures.counted, failures.last.as_ref()), (0, None));
    let reasons: Vec<_> = failures
        .reasons
        .iter()
        .map(|(reason, count)| (reason.as_str(), *count))
        .collect();
    assert_eq!(reasons, [("DisruptionTarget", 1), ("Evicted", 1), ("Rejected", 1)]);
    assert_eq!(verdict(Some(0), &failures), None);
}

#[test]
fn the_limit_is_exceeded_by_one_more() {
    let mut failures = PodFailures::default();
    let oom = pod(
        "o",
        &json!({"phase": "Failed", "containerStatuses": [state("worker", 137, "OOMKilled")]}),
    );
    judge(&[], &[exited("a", 1)], &mut failures);
    assert_eq!(verdict(Some(1), &failures), None);
    judge(&[], &[oom], &mut failures);
    assert_eq!(
        verdict(Some(1), &failures),
        Some((
            reason::BACKOFF_LIMIT_EXCEEDED,
            "2 worker pods failed, and backoffLimit is 1; the last one: pod w-o on n1 ended: OOMKilled, container worker, \
             exit code 137"
                .to_owned()
        ))
    );
    assert_eq!(
        verdict(None, &failures),
        None,
        "without a limit pods are replaced for ever"
    );
}

#[test]
fn the_first_rule_that_fits_decides() {
    let rules = rules(&json!([
        {"action": "Ignore", "onExitCodes": {"containerName": "worker", "operator": "In", "values": [3, 4]}},
        {"action": "FailBatch", "onExitCodes": {"operator": "NotIn", "values": [5]}},
    ]));
    // What a pod ended with, whether it counts, and whether it ends the batch.
    for (code, counted, fatal) in [(3, 0, false), (5, 1, false), (6, 0, true)] {
        let mut failures = PodFailures::default();
        judge(&rules, &[exited("a", code)], &mut failures);
        assert_eq!((failures.counted, failures.fatal), (counted, fatal), "exit code {code}");
    }
    let mut failures = PodFailures::default();
    judge(&rules, &[exited("a", 6), exited("b", 5)], &mut failures);
    let told = "pod w-a on n1 ended: Error, container worker, exit code 6; rule 1 of podFailurePolicy says FailBatch";
    assert_eq!(
        verdict(None, &failures),
        Some((reason::POD_FAILURE_POLICY, told.to_owned()))
    );
}

#[test]
fn a_rule_sees_every_container_that_failed() {
    let init = json!({"phase": "Failed", "initContainerStatuses": [state("harmony-agent", 9, "Error")]});
    let proxy = json!({"phase": "Failed", "containerStatuses": [
        state("proxy", 9, "Error"), state("worker", 1, "Error"),
    ]});
    for status in [init, proxy] {
        let any = rules(&json!([{"action": "FailBatch", "onExitCodes": {"operator": "In", "values": [9]}}]));
        let mut failures = PodFailures::default();
        judge(&any, &[pod("a", &status)], &mut failures);
        assert!(failures.fatal, "{status}");
        let worker = json!({"containerName": "worker", "operator": "In", "values": [9]});
        let of_worker = rules(&json!([{"action": "FailBatch", "onExitCodes": worker}]));
        let mut failures = PodFailures::default();
        judge(&of_worker, &[pod("a", &status)], &mut failures);
        assert_eq!((failures.fatal, failures.counted), (false, 1), "{status}");
    }
}

#[test]
fn exit_codes_of_a_disruption_say_nothing_and_its_condition_does() {
    let codes = json!({"operator": "In", "values": [137]});
    let by_code = rules(&json!([{"action": "FailBatch", "onExitCodes": codes}]));
    let mut failures = PodFailures::default();
    judge(&by_code, &[disrupted("a")], &mut failures);
    assert_eq!((failures.fatal, failures.counted), (false, 0));
    let by_condition = rules(&json!([{"action": "Count", "onPodConditions": [{"type": "DisruptionTarget"}]}]));
    assert_eq!(
        by_condition.first().map(|rule| rule.action),
        Some(PodFailureActionSpec::Count)
    );
    let mut failures = PodFailures::default();
    judge(&by_condition, &[disrupted("a")], &mut failures);
    assert_eq!(failures.counted, 1);
}

#[test]
fn more_failures_than_are_noted_at_once_wait_and_are_not_lost() {
    let mut pods: Vec<_> = (0..=MAX_JUDGED).map(|index| exited(&index.to_string(), 1)).collect();
    let mut failures = PodFailures::default();
    assert_eq!(judge(&[], &pods, &mut failures).len(), MAX_JUDGED);
    assert!(!may_go(pods.last().unwrap(), Some(&failures)));
    // The first one is gone.
    pods.remove(0);
    assert_eq!(judge(&[], &pods, &mut failures).len(), 1);
    assert_eq!(failures.counted as usize, MAX_JUDGED + 1);
}

#[test]
fn what_is_told_is_cut() {
    let mut talkative = exited("a", 1);
    if let Some(end) = &mut talkative.ended {
        end.message = "ü".repeat(MAX_POD_FAILURE);
    }
    let mut failures = PodFailures::default();
    judge(&[], &[talkative], &mut failures);
    assert!(failures.last.unwrap().len() <= MAX_POD_FAILURE);
}
