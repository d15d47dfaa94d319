//! The custom resource as it is written: what serde reads and what the API server's schema is made from.

#![expect(
    unreachable_pub,
    reason = "kube's derive writes a struct once more, inside a function"
)]

use std::borrow::Cow;
use std::fmt;

use kube::{CustomResource, KubeSchema};
use schemars::{JsonSchema, Schema, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::limits::{
    DEFAULT_OUTPUT, MAX_ARGUMENT, MAX_BACKOFF, MAX_COMMAND, MAX_COMPLETIONS, MAX_ITEM, MAX_ITEMS, MAX_PARALLELISM,
    MAX_PATH, MAX_SECONDS, MAX_SLOTS, MAX_URL,
};

/// The desired batch.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "harmony.dev",
    version = "v1alpha1",
    kind = "HarmonyBatch",
    namespaced,
    shortname = "hb",
    derive = "PartialEq",
    doc = "A batch of numbered, idempotent tasks, each recorded exactly once."
)]
#[x_kube(validation = Rule::new("!has(self.tasks.range) || has(self.completions)")
    .message("tasks.range needs completions"))]
#[x_kube(validation = Rule::new(
    "!has(self.tasks.items) || !has(self.completions) || size(self.tasks.items) == self.completions")
    .message("completions differs from the number of tasks.items"))]
#[schemars(transform = kubernetes_formats)]
#[serde(rename_all = "camelCase")]
pub struct HarmonyBatchSpec {
    /// How many tasks there are, numbered from 0. May be left out where the source of tasks tells it.
    #[schemars(range(min = 0, max = MAX_COMPLETIONS))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completions: Option<u64>,
    /// How many workers run.
    #[schemars(range(min = 1, max = MAX_PARALLELISM))]
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
    /// The batch ends early after this time, in seconds.
    #[schemars(range(min = 1, max = MAX_SECONDS))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active_deadline_seconds: Option<u64>,
    /// The longest single attempt at a task, in seconds.
    #[schemars(range(min = 1, max = MAX_SECONDS))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active_deadline_seconds_per_index: Option<u64>,
    /// What is kept of each task.
    #[serde(default)]
    pub results: ResultsSpec,
    /// Where the tasks come from: exactly one source.
    #[serde(default)]
    pub tasks: TasksSpec,
    /// How a task is run: exactly one executor.
    pub executor: ExecutorSpec,
    /// The pods of the workers. Only on Kubernetes.
    #[schemars(schema_with = "any_object")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<Map<String, Value>>,
    /// The pod of the collector. Only on Kubernetes.
    #[schemars(schema_with = "any_object")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub collector: Option<Map<String, Value>>,
    /// What the end of a pod means for the batch. Only on Kubernetes.
    #[schemars(schema_with = "any_object")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_failure_policy: Option<Map<String, Value>>,
    /// When the batch counts as complete before all tasks are. Only on Kubernetes.
    #[schemars(schema_with = "any_object")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub success_policy: Option<Map<String, Value>>,
    /// Stops the workers and keeps the results. Only on Kubernetes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspend: Option<bool>,
    /// Deletes the batch this long after its end, in seconds. Only on Kubernetes.
    #[schemars(range(min = 0, max = MAX_SECONDS))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_seconds_after_finished: Option<u64>,
    /// Calls the batch stuck when nothing finishes for this long, in seconds. Only on Kubernetes.
    #[schemars(range(min = 1, max = MAX_SECONDS))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress_deadline_seconds: Option<u64>,
    /// The controller that the batch belongs to, if it is not Harmony's. Only on Kubernetes.
    #[schemars(length(min = 1, max = 63))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub managed_by: Option<String>,
    /// Taken so that a Job's fields can stay. Only on Kubernetes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion_mode: Option<CompletionMode>,
}

/// What is kept of each task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResultsSpec {
    /// The largest output of one task: bytes, or a quantity such as 16Mi; at most 64Mi.
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
        json_schema!({ "x-kubernetes-int-or-string": true, "title": "bytes such as 16Mi" })
    }
}

/// Where the tasks come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum TasksSpec {
    /// Each task's payload is its number in decimal. Needs completions.
    Range(RangeSpec),
    /// Each entry is the payload of one task.
    Items(ItemsSpec),
    /// Each line is the payload of one task.
    Lines(LinesSpec),
}

impl Default for TasksSpec {
    fn default() -> Self {
        Self::Range(RangeSpec {})
    }
}

/// A range has no settings of its own: completions says it all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RangeSpec {}

/// Payloads, in the order of their numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct ItemsSpec(#[schemars(length(max = MAX_ITEMS), inner(length(max = MAX_ITEM)))] pub Vec<String>);

/// Where the lines are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum LinesSpec {
    /// A file. A relative path starts at the folder of the file that holds the batch.
    Path(#[schemars(title = "a path", length(min = 1, max = MAX_PATH))] String),
    /// An address that is read once, over http or https.
    Url(#[schemars(title = "a URL", length(min = 1, max = MAX_URL))] String),
}

/// How a task is run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum ExecutorSpec {
    /// One process per task: the payload on its stdin, the result from its stdout.
    Exec(CommandSpec),
    /// A warm process per slot that answers one task after the other.
    Process(ProcessSpec),
    /// A program of one's own that is built with Harmony's worker library.
    Library(CommandSpec),
}

/// A program to start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CommandSpec {
    /// The program and its arguments, without a shell.
    #[schemars(length(min = 1, max = MAX_COMMAND), inner(length(max = MAX_ARGUMENT)))]
    pub command: Vec<String>,
}

/// A warm process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProcessSpec {
    /// The program and its arguments, without a shell.
    #[schemars(length(min = 1, max = MAX_COMMAND), inner(length(max = MAX_ARGUMENT)))]
    pub command: Vec<String>,
    /// How the process tells tasks and answers apart.
    #[serde(default)]
    pub framing: FramingSpec,
}

/// How a warm process tells tasks and answers apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum FramingSpec {
    /// A line in, a line out, in order.
    #[default]
    Lines,
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

/// The API server warns of the formats of unsigned integers, which it does not know.
fn kubernetes_formats(schema: &mut Schema) {
    let properties = schema.get_mut("properties").and_then(Value::as_object_mut);
    for property in properties.into_iter().flat_map(|fields| fields.values_mut()) {
        if let Some(format) = property
            .get_mut("format")
            .filter(|format| format.as_str().is_some_and(is_unsigned))
        {
            *format = "int64".into();
        }
    }
}

fn is_unsigned(format: &str) -> bool {
    format.starts_with("uint")
}

fn any_object(_: &mut schemars::SchemaGenerator) -> Schema {
    json_schema!({ "type": "object", "nullable": true, "x-kubernetes-preserve-unknown-fields": true })
}
