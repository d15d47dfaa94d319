//! What the API server's own rules accept and refuse. The same cases are tried against the rules alone and against a real
//! API server.

/// The spec that updates start from, in JSON.
pub(crate) const BASE: &str = r#"{"completions": 3, "executor": {"exec": {"command": ["cat"]}},
    "template": {"spec": {"containers": [{"name": "worker", "image": "i"}]}}}"#;

/// A change to [`BASE`] as a JSON merge patch, and a part of what is said about it. Nothing said: it is accepted.
pub(crate) struct Case {
    /// The merge patch.
    pub(crate) change: &'static str,
    /// A part of the message.
    pub(crate) refused: Option<&'static str>,
}

const fn accepted(change: &'static str) -> Case {
    Case { change, refused: None }
}

const fn refused(change: &'static str, message: &'static str) -> Case {
    Case {
        change,
        refused: Some(message),
    }
}

const NO_COMMAND: &str =
    "what the image starts by itself is not known; add command to that container, or to executor.exec";
const NO_PODS: &str = "the workers are pods: add template.spec.containers with a name and an image, as in a Job";
const BYTES: &str = "is a whole number of bytes above 0";

/// Batches that are created.
pub(crate) const CREATED: &[Case] = &[
    accepted("{}"),
    accepted(r#"{"parallelism": 0, "completionMode": "Indexed", "suspend": true}"#),
    accepted(r#"{"completions": null, "tasks": {"items": ["a", "b"]}}"#),
    accepted(r#"{"completions": 2, "tasks": {"items": ["a", "b"]}}"#),
    accepted(r#"{"completions": null, "tasks": {"lines": {"url": "HTTPS://example.org/a"}}}"#),
    accepted(r#"{"completions": null, "tasks": {"configMapRef": {"name": "a", "key": "b"}}}"#),
    accepted(r#"{"executor": {"exec": null, "process": {"command": ["cat"]}}}"#),
    accepted(r#"{"executor": null, "template": {"spec": {"containers": [{"name": "a", "command": ["a"]}]}}}"#),
    accepted(
        r#"{"executor": {"exec": {"command": null}},
            "template": {"spec": {"containers": [{"name": "a"}, {"name": "worker", "command": ["a"]}]}}}"#,
    ),
    accepted(
        r#"{"completions": 8, "successPolicy": {"rules": [{"succeededIndexes": "0,2-5,7"}, {"succeededCount": 1},
            {"succeededIndexes": "0", "succeededCount": 1}]}}"#,
    ),
    accepted(
        r#"{"collector": {"storage": {"size": "10Gi", "storageClassName": "fast"}, "nodeSelector": {"a": "b"},
            "resources": {"requests": {"cpu": "100m"}}, "tolerations": [{"operator": "Exists"}]}}"#,
    ),
    accepted(r#"{"results": {"maxBytesPerTask": 5}}"#),
    accepted(
        r#"{"backoffLimit": 0, "podFailurePolicy": {"rules": [
            {"action": "FailBatch", "onExitCodes": {"containerName": "worker", "operator": "In", "values": [42]}},
            {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]},
            {"action": "Count", "onExitCodes": {"operator": "NotIn", "values": [0, 1]}}]}}"#,
    ),
    refused(r#"{"completions": null}"#, "tasks.range needs completions"),
    refused(
        r#"{"tasks": {"items": ["a", "b"]}}"#,
        "completions differs from the number of tasks.items; make them equal, or leave completions out",
    ),
    refused(
        r#"{"tasks": {"lines": {"path": "a"}}}"#,
        "which no pod can read; use tasks.configMapRef or tasks.lines.url",
    ),
    refused(
        r#"{"tasks": {"lines": {"url": "file:///a"}}}"#,
        "tasks.lines.url begins with http:// or https://; for a file use tasks.configMapRef",
    ),
    refused(r#"{"template": null}"#, NO_PODS),
    refused(r#"{"template": {"spec": {"containers": []}}}"#, NO_PODS),
    refused(r#"{"executor": null}"#, NO_COMMAND),
    refused(r#"{"executor": {"exec": {"command": null}}}"#, NO_COMMAND),
    refused(
        r#"{"executor": null,
            "template": {"spec": {"containers": [{"name": "a", "command": ["a"]}, {"name": "worker"}]}}}"#,
        NO_COMMAND,
    ),
    refused(
        r#"{"successPolicy": {"rules": [{}]}}"#,
        "give succeededIndexes, succeededCount, or both",
    ),
    refused(
        r#"{"successPolicy": {"rules": [{"succeededIndexes": "0,a"}]}}"#,
        "succeededIndexes is made of rising numbers and ranges, such as 0,2-5",
    ),
    refused(
        r#"{"podFailurePolicy": {"rules": [{"action": "Ignore"}]}}"#,
        "give either onExitCodes or onPodConditions; for both write two rules",
    ),
    refused(
        r#"{"podFailurePolicy": {"rules": [{"action": "Count", "onExitCodes": {"operator": "In", "values": [1]},
            "onPodConditions": [{"type": "DisruptionTarget"}]}]}}"#,
        "give either onExitCodes or onPodConditions; for both write two rules",
    ),
    refused(
        r#"{"podFailurePolicy": {"rules": [{"action": "FailBatch", "onExitCodes": {"operator": "In", "values": [3, 0]}}]}}"#,
        "exit code 0 is no failure; remove it from values, or use the operator NotIn",
    ),
    refused(r#"{"collector": {"storage": {"size": "much"}}}"#, BYTES),
    refused(r#"{"collector": {"storage": {"size": 0}}}"#, BYTES),
    refused(r#"{"results": {"maxBytesPerTask": "0Mi"}}"#, BYTES),
];

/// Changes to a batch that is there.
pub(crate) const CHANGED: &[Case] = &[
    accepted(r#"{"parallelism": 0}"#),
    accepted(r#"{"parallelism": 4}"#),
    accepted(r#"{"suspend": true}"#),
    accepted(r#"{"backoffLimit": 6}"#),
    accepted(r#"{"activeDeadlineSeconds": 60}"#),
    accepted(r#"{"activeDeadlineSecondsPerIndex": 60}"#),
    accepted(r#"{"progressDeadlineSeconds": 60}"#),
    accepted(r#"{"ttlSecondsAfterFinished": 0}"#),
    accepted(r#"{"template": {"spec": {"containers": [{"name": "worker", "image": "j"}]}}}"#),
    accepted(r#"{"executor": {"exec": {"command": ["tac"]}}}"#),
    refused(r#"{"executor": null}"#, NO_COMMAND),
    refused(r#"{"template": null}"#, NO_PODS),
    refused(
        r#"{"completions": 4}"#,
        "completions cannot be changed; create the batch anew under another name",
    ),
    refused(r#"{"slotsPerWorker": 2}"#, "slotsPerWorker cannot be changed"),
    refused(
        r#"{"backoffLimitPerIndex": 2}"#,
        "backoffLimitPerIndex cannot be changed",
    ),
    refused(r#"{"maxFailedIndexes": 2}"#, "maxFailedIndexes cannot be changed"),
    refused(
        r#"{"successPolicy": {"rules": [{"succeededCount": 1}]}}"#,
        "successPolicy cannot be changed",
    ),
    refused(
        r#"{"podFailurePolicy": {"rules": [{"action": "Count", "onPodConditions": [{"type": "A", "status": "Unknown"}]}]}}"#,
        "podFailurePolicy cannot be changed",
    ),
    refused(r#"{"managedBy": "example.org/other"}"#, "managedBy cannot be changed"),
    refused(r#"{"completionMode": "Indexed"}"#, "completionMode cannot be changed"),
    refused(
        r#"{"results": {"maxBytesPerTask": "1Mi"}}"#,
        "results cannot be changed",
    ),
    refused(
        r#"{"tasks": {"range": null, "items": ["a", "b", "c"]}}"#,
        "tasks cannot be changed",
    ),
    refused(
        r#"{"collector": {"storage": {"size": "1Gi"}}}"#,
        "collector cannot be changed",
    ),
];
