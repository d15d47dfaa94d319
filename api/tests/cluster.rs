//! What a resource means on a cluster, and what is said about one that cannot run.

// Helpers of tests fail by a panic, and take what `json!` gives.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::needless_pass_by_value)]

use harmony_api::spec::PodFailureActionSpec;
use harmony_api::{Executor, SuccessRule, Tasks, ValidatedBatch, validate_for_cluster};
use harmony_protocol::wire;
use serde_json::{Value, json};

/// A batch of ten tasks with these fields of the spec on top.
fn validated(fields: Value) -> Result<ValidatedBatch, Vec<String>> {
    let mut spec = json!({
        "completions": 10, "executor": { "exec": { "command": ["cat"] } },
        "template": { "spec": { "containers": [{ "name": "a", "image": "i", "command": ["run"] }] } },
    });
    for (name, value) in fields.as_object().unwrap() {
        spec[name] = value.clone();
    }
    let batch = serde_json::from_value(json!({
        "apiVersion": "harmony.dev/v1alpha1", "kind": "HarmonyBatch", "metadata": { "name": "b" }, "spec": spec,
    }));
    validate_for_cluster(&batch.unwrap()).map_err(|findings| findings.iter().map(ToString::to_string).collect())
}

#[track_caller]
fn refused(fields: Value) -> String {
    validated(fields).unwrap_err().join("\n")
}

fn rules(rules: Value) -> Result<Vec<SuccessRule>, Vec<String>> {
    validated(json!({ "successPolicy": { "rules": rules } })).map(|batch| batch.success_policy)
}

#[test]
fn a_batch_may_wait_without_workers() {
    let batch = validated(json!({ "parallelism": 0 })).unwrap();
    assert_eq!(batch.parallelism, 0);
    assert!(batch.ignored.is_empty(), "nothing is without effect here");
}

#[test]
fn without_a_command_the_containers_own_runs() {
    for executor in [json!(null), json!({ "exec": {} })] {
        let batch = validated(json!({ "executor": executor })).unwrap();
        assert_eq!(batch.executor, Executor::Container);
        assert_eq!(batch.executor.wire(), wire::Executor::Exec { command: Vec::new() });
    }
    let image = json!({ "spec": { "containers": [{ "name": "a", "command": ["run"] }, { "name": "worker" }] } });
    assert_eq!(
        refused(json!({ "executor": { "exec": {} }, "template": image })),
        "spec.template.spec.containers[1].command: missing; without a command in spec.executor each task runs this one, \
         and what the image starts by itself is not known: add it here, or name a command in spec.executor.exec"
    );
}

#[test]
fn a_template_is_asked_for_once() {
    for executor in [json!(null), json!({ "exec": { "command": ["cat"] } })] {
        assert_eq!(
            refused(json!({ "executor": executor, "template": null })),
            "spec.template: missing; on Kubernetes the workers are pods: add spec.template.spec.containers with a name and \
             an image, as in a Job"
        );
    }
    let empty = refused(json!({ "template": { "spec": { "containers": [] } } }));
    assert!(
        empty.starts_with("spec.template.spec.containers: found none"),
        "{empty}"
    );
}

#[test]
fn tasks_come_from_where_a_pod_can_read_them() {
    let map = json!({ "configMapRef": { "name": "m", "key": "k" } });
    let expected = Tasks::ConfigMap {
        name: "m".to_owned(),
        key: "k".to_owned(),
    };
    assert_eq!(validated(json!({ "tasks": map })).unwrap().tasks, expected);
    let path = refused(json!({ "tasks": { "lines": { "path": "a.txt" } } }));
    assert_eq!(
        path,
        "spec.tasks.lines.path: found \"a.txt\", a file of the machine that submits, which no pod can read; put the lines \
         into a ConfigMap (tasks.configMapRef) or behind an address (tasks.lines.url)"
    );
    let file = refused(json!({ "tasks": { "lines": { "url": "file:///a" } } }));
    assert!(
        file.ends_with("expected http:// or https://; for a file use tasks.configMapRef"),
        "{file}"
    );
}

#[test]
fn success_policies_become_sets() {
    let all_forms = json!([
        { "succeededIndexes": "0,2-4,5,7" },
        { "succeededCount": 3 },
        { "succeededIndexes": "1-9", "succeededCount": 2 },
    ]);
    let expected = [(vec![0..=0, 2..=5, 7..=7], 6), (vec![], 3), (vec![1..=9], 2)];
    let expected = expected.map(|(indexes, count)| SuccessRule { indexes, count });
    assert_eq!(rules(all_forms).unwrap(), expected);
    assert_eq!(validated(json!({})).unwrap().success_policy, []);
}

#[test]
fn success_policies_that_cannot_be_met_are_refused() {
    let field = "spec.successPolicy.rules[0]";
    for (rule, message) in [
        (json!({}), ": found neither succeededIndexes nor succeededCount"),
        (
            json!({ "succeededIndexes": "" }),
            ".succeededIndexes: found \"\", expected numbers and ranges such as 0,2-5",
        ),
        (
            json!({ "succeededIndexes": "1,+2" }),
            ".succeededIndexes: found \"+2\", expected numbers",
        ),
        (
            json!({ "succeededIndexes": "3-2" }),
            ".succeededIndexes: found \"3-2\", expected rising numbers",
        ),
        (
            json!({ "succeededIndexes": "2,2" }),
            ".succeededIndexes: found \"2\", expected rising numbers",
        ),
        (
            json!({ "succeededIndexes": "5,1" }),
            ".succeededIndexes: found \"1\", expected rising numbers",
        ),
        (
            json!({ "succeededIndexes": "0-10" }),
            ".succeededIndexes: found 10, but the numbers end before 10",
        ),
        (
            json!({ "succeededIndexes": "18446744073709551615" }),
            "but the numbers end before 10",
        ),
        (
            json!({ "succeededIndexes": "0-1", "succeededCount": 3 }),
            ".succeededCount: found 3, expected 1 to 2",
        ),
        (
            json!({ "succeededCount": 11 }),
            ".succeededCount: found 11, expected 1 to 10",
        ),
        (
            json!({ "succeededCount": 0 }),
            ".succeededCount: found 0, expected 1 to 10",
        ),
    ] {
        let said = rules(json!([rule])).unwrap_err().join("\n");
        assert!(said.starts_with(field) && said.contains(message), "{rule}: {said}");
    }
}

#[test]
fn storage_has_a_size() {
    for size in [json!("much"), json!(0), json!("0Gi"), json!(-1)] {
        let said = refused(json!({ "collector": { "storage": { "size": size } } }));
        assert!(said.starts_with("spec.collector.storage.size: found "), "{said}");
    }
    validated(json!({ "collector": { "storage": { "size": "1Ti" } } })).unwrap();
}

#[test]
fn what_pod_failures_mean_is_taken_over_in_its_order() {
    let codes = json!({ "containerName": "a", "operator": "NotIn", "values": [0, 3] });
    let rules = json!([
        { "action": "Ignore", "onPodConditions": [{ "type": "DisruptionTarget" }] },
        { "action": "FailBatch", "onExitCodes": codes },
    ]);
    let batch = validated(json!({ "backoffLimit": 2, "podFailurePolicy": { "rules": rules } })).unwrap();
    assert_eq!(batch.backoff_limit, Some(2));
    let actions: Vec<_> = batch.pod_failure_policy.iter().map(|rule| rule.action).collect();
    assert_eq!(actions, [PodFailureActionSpec::Ignore, PodFailureActionSpec::FailBatch]);
    let unlimited = validated(json!({})).unwrap();
    assert_eq!(
        (unlimited.backoff_limit, unlimited.pod_failure_policy),
        (None, Vec::new())
    );
}

#[test]
fn a_rule_on_pods_names_a_container_that_is_there() {
    let policy =
        |codes: Value| json!({ "podFailurePolicy": { "rules": [{ "action": "Count", "onExitCodes": codes }] } });
    assert_eq!(
        refused(policy(json!({ "containerName": "b", "operator": "In", "values": [1] }))),
        "spec.podFailurePolicy.rules[0].onExitCodes.containerName: found \"b\", expected a container of spec.template: a"
    );
    assert_eq!(
        refused(policy(json!({ "operator": "In", "values": [1, 0] }))),
        "spec.podFailurePolicy.rules[0].onExitCodes.values[1]: found 0, which is no failure; remove it, or use the operator \
         NotIn"
    );
}
