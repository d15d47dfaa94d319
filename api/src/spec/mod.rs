//! The custom resource as it is written: what serde reads and what the API server's schema is made from.

#![expect(
    unreachable_pub,
    reason = "kube's derive writes a struct once more, inside a function"
)]
#![expect(
    clippy::duplicated_attributes,
    reason = "kube's columns share their types and priorities"
)]
#![allow(
    clippy::doc_markdown,
    reason = "`kubectl explain` shows these comments as plain text"
)]

mod collector;
mod executor;
mod failure;
mod rules;
mod schema;
mod success;
mod tasks;

use std::borrow::Cow;
use std::fmt;

use k8s_openapi::api::core::v1::PodTemplateSpec;
use kube::{CustomResource, KubeSchema};
use schemars::{JsonSchema, Schema, json_schema};
use serde::{Deserialize, Serialize};

pub use self::collector::{CollectorSpec, StorageSpec};
pub use self::executor::{CommandSpec, ExecSpec, ExecutorSpec, FramingSpec, ProcessSpec};
pub use self::failure::{
    ConditionStatusSpec, ExitCodeOperatorSpec, OnExitCodesSpec, OnPodConditionSpec, PodFailureActionSpec,
    PodFailurePolicySpec, PodFailureRuleSpec,
};
pub(crate) use self::schema::kubernetes_formats;
pub use self::success::{SuccessPolicyRule, SuccessPolicySpec};
pub use self::tasks::{ConfigMapSpec, ItemsSpec, LinesSpec, RangeSpec, TasksSpec};
use crate::limits::{
    DEFAULT_OUTPUT, MAX_BACKOFF, MAX_COMPLETIONS, MAX_MANAGER, MAX_PARALLELISM, MAX_QUANTITY, MAX_SECONDS, MAX_SLOTS,
};
use crate::status::HarmonyBatchStatus;

/// The desired batch.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "harmony.dev",
    version = "v1alpha1",
    kind = "HarmonyBatch",
    namespaced,
    shortname = "hb",
    status = "HarmonyBatchStatus",
    derive = "PartialEq",
    doc = "A batch of numbered, idempotent tasks, each recorded exactly once.",
    scale(
        spec_replicas_path = ".spec.parallelism",
        status_replicas_path = ".status.active",
        label_selector_path = ".status.selector"
    ),
    selectable = ".spec.managedBy",
    selectable = ".spec.suspend",
    selectable = ".status.state",
    printcolumn(name = "State", type_ = "string", json_path = ".status.state"),
    printcolumn(name = "Completions", type_ = "string", json_path = ".status.completions"),
    printcolumn(
        name = "Progress(%)",
        type_ = "integer",
        json_path = ".status.progressPercent",
        description = "Percent of the tasks that are settled."
    ),
    printcolumn(
        name = "Workers",
        type_ = "integer",
        json_path = ".status.ready",
        description = "Worker pods that are ready."
    ),
    printcolumn(
        name = "Failed",
        type_ = "integer",
        json_path = ".status.tasks.failed",
        description = "Tasks that failed for good."
    ),
    printcolumn(name = "ETA", type_ = "string", json_path = ".status.estimatedCompletionTime"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Resent", type_ = "integer", json_path = ".status.tasks.resent", priority = 1),
    printcolumn(
        name = "Rate",
        type_ = "string",
        json_path = ".status.throughputPerSecond",
        priority = 1
    ),
    printcolumn(name = "Epoch", type_ = "integer", json_path = ".status.epoch", priority = 1),
    printcolumn(
        name = "Collector",
        type_ = "string",
        json_path = ".status.collectorRef.name",
        priority = 1
    )
)]
#[x_kube(validation = rules::range_has_an_end())]
#[x_kube(validation = rules::items_are_as_many())]
#[x_kube(validation = rules::lines_are_in_reach())]
#[x_kube(validation = rules::address_is_of_the_web())]
#[x_kube(validation = rules::there_are_pods())]
#[x_kube(validation = rules::there_is_a_command())]
#[x_kube(validation = rules::fixed("completions"))]
#[x_kube(validation = rules::fixed("slotsPerWorker"))]
#[x_kube(validation = rules::fixed("backoffLimitPerIndex"))]
#[x_kube(validation = rules::fixed("maxFailedIndexes"))]
#[x_kube(validation = rules::fixed("successPolicy"))]
#[x_kube(validation = rules::fixed("podFailurePolicy"))]
#[x_kube(validation = rules::fixed("managedBy"))]
#[x_kube(validation = rules::fixed("completionMode"))]
#[x_kube(validation = rules::fixed("results"))]
#[x_kube(validation = rules::fixed("tasks"))]
#[x_kube(validation = rules::fixed("collector"))]
#[schemars(transform = kubernetes_formats)]
#[serde(rename_all = "camelCase")]
pub struct HarmonyBatchSpec {
    /// How many tasks there are, numbered from 0. May be left out where the source of tasks tells it.
    #[schemars(range(min = 0, max = MAX_COMPLETIONS))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completions: Option<u64>,
    /// How many workers run. On Kubernetes 0 is allowed: the batch waits.
    #[schemars(range(min = 0, max = MAX_PARALLELISM))]
    #[serde(default = "one")]
    pub parallelism: u32,
    /// How many tasks one worker runs at once.
    #[schemars(range(min = 1, max = MAX_SLOTS))]
    #[serde(default = "one")]
    pub slots_per_worker: u32,
    /// How many times a task is tried again before it counts as failed.
    #[schemars(range(min = 0, max = MAX_BACKOFF))]
    #[serde(default = "three")]
    pub backoff_limit_per_index: u32,
    /// The batch ends early once more tasks than this have failed.
    #[schemars(range(min = 0, max = MAX_COMPLETIONS))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_failed_indexes: Option<u64>,
    /// The batch fails once more worker pods than this have failed. Left out, pods are replaced for ever. Only on Kubernetes.
    #[schemars(range(min = 0, max = MAX_BACKOFF))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backoff_limit: Option<u32>,
    /// What failures of worker pods mean. Only on Kubernetes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_failure_policy: Option<PodFailurePolicySpec>,
    /// When the batch counts as complete before all tasks are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub success_policy: Option<SuccessPolicySpec>,
    /// The batch ends early after this time, in seconds. The clock stops while it is suspended.
    #[schemars(range(min = 1, max = MAX_SECONDS))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active_deadline_seconds: Option<u64>,
    /// The longest single attempt at a task, in seconds.
    #[schemars(range(min = 1, max = MAX_SECONDS))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active_deadline_seconds_per_index: Option<u64>,
    /// Calls the batch stuck when nothing finishes for this long, in seconds. Only on Kubernetes.
    #[schemars(range(min = 1, max = MAX_SECONDS))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress_deadline_seconds: Option<u64>,
    /// Deletes the batch, and its results, this long after its end, in seconds. Only on Kubernetes.
    #[schemars(range(min = 0, max = MAX_SECONDS))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_seconds_after_finished: Option<u64>,
    /// Stops the workers and keeps the results. Only on Kubernetes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspend: Option<bool>,
    /// The controller that the batch belongs to, if it is not Harmony's. Only on Kubernetes.
    #[schemars(length(min = 1, max = MAX_MANAGER))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub managed_by: Option<String>,
    /// Taken so that a Job's fields can stay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion_mode: Option<CompletionMode>,
    /// What is kept of each task.
    #[serde(default)]
    pub results: ResultsSpec,
    /// Where the tasks come from: exactly one source.
    #[serde(default)]
    pub tasks: TasksSpec,
    /// How a task is run: exactly one executor. Without one, each task runs the worker container's own command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub executor: Option<ExecutorSpec>,
    /// The pods of the workers, as in a Job. The worker is the container named worker, else the first. Only on Kubernetes.
    #[schemars(schema_with = "schema::pod_template")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<PodTemplateSpec>,
    /// The pod of the collector, which keeps the results. Only on Kubernetes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub collector: Option<CollectorSpec>,
}

/// What is kept of each task.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[x_kube(validation = rules::is_bytes("maxBytesPerTask", "16Mi"))]
#[serde(rename_all = "camelCase")]
pub struct ResultsSpec {
    /// The largest output of one task: bytes, or a quantity such as 16Mi; at most 1Gi, with executor.process 64Mi.
    #[serde(default = "default_output")]
    pub max_bytes_per_task: Option<ByteSize>,
}

impl Default for ResultsSpec {
    fn default() -> Self {
        Self {
            max_bytes_per_task: default_output(),
        }
    }
}

/// An amount of bytes as it is written: a number, or a quantity such as `16Mi`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ByteSize {
    /// Bytes.
    Number(i64),
    /// Bytes with a suffix of Kubernetes' quantities.
    Text(String),
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(bytes) => write!(f, "{bytes}"),
            Self::Text(text) => write!(f, "{text:?}"),
        }
    }
}

impl JsonSchema for ByteSize {
    fn schema_name() -> Cow<'static, str> {
        "ByteSize".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> Schema {
        json_schema!({ "x-kubernetes-int-or-string": true, "title": "bytes such as 16Mi", "maxLength": MAX_QUANTITY })
    }
}

/// How a Job numbers its tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum CompletionMode {
    /// From 0 to completions - 1.
    Indexed,
}

fn one() -> u32 {
    1
}

fn three() -> u32 {
    3
}

/// As text, so that the resource shows it as people write it.
#[expect(
    clippy::unnecessary_wraps,
    reason = "the field is nullable, as the API server sees it"
)]
fn default_output() -> Option<ByteSize> {
    Some(ByteSize::Text(format!("{}Mi", DEFAULT_OUTPUT >> 20)))
}
