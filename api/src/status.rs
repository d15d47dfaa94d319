//! What the operator says of a batch.
//!
//! It is patched at most every few seconds and stays small at any number of tasks: every set of numbers is cut at
//! [`MAX_RANGES`], and what is cut off can be asked of the collector.

#![expect(
    unreachable_pub,
    reason = "kube's derive writes a struct once more, inside a function"
)]
#![allow(
    clippy::doc_markdown,
    reason = "`kubectl explain` shows these comments as plain text"
)]

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::spec::kubernetes_formats;

/// Bytes of a set of numbers in the status. Two of them, the failures and the conditions stay far below 64 KiB.
pub const MAX_RANGES: usize = 8 << 10;
/// Failures that are told with their details. The first ones say most; all are in the results.
pub const MAX_FAILURES: usize = 20;
/// Bytes of a failure's last words.
pub const MAX_FAILURE_TAIL: usize = 1 << 10;
/// Failed pods that are counted and not gone yet: 4 KiB of uids. The others wait to be counted.
pub const MAX_JUDGED: usize = 100;
/// Bytes of what is told of the last failed pod.
pub const MAX_POD_FAILURE: usize = 1 << 10;
/// Conditions, at most: one of each type of [`crate::conditions`] and some to grow.
pub const MAX_CONDITIONS: usize = 32;

/// What the operator says of a batch.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[schemars(transform = kubernetes_formats)]
#[serde(rename_all = "camelCase")]
pub struct HarmonyBatchStatus {
    /// The generation of the spec that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// One word for people. Programs use the conditions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// What holds now, each with a reason and since when.
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    #[schemars(length(max = MAX_CONDITIONS))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// When the batch was first taken up, or taken up again after a suspension.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,
    /// When the batch was complete. Not there if it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion_time: Option<Time>,
    /// Worker pods that are pending or running and not being deleted.
    #[serde(default)]
    pub active: u32,
    /// Worker pods that are ready.
    #[serde(default)]
    pub ready: u32,
    /// Worker pods that are being deleted.
    #[serde(default)]
    pub terminating: u32,
    /// The labels of the worker pods, for the scale subresource.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
    /// How many tasks are in which state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tasks: Option<TaskCounts>,
    /// Settled tasks of all, such as 412034/1000000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completions: Option<String>,
    /// Settled tasks in percent, rounded down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress_percent: Option<u32>,
    /// Tasks settled per second of late.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub throughput_per_second: Option<String>,
    /// When the batch will be complete at this rate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub estimated_completion_time: Option<Time>,
    /// Every number below this one has succeeded or failed for good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed_through: Option<u64>,
    /// The numbers from completedThrough on that have succeeded, such as 7,9-12.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed_indexes: Option<String>,
    /// Whether completedIndexes was cut.
    #[serde(default, skip_serializing_if = "is_false")]
    pub completed_indexes_truncated: bool,
    /// The numbers that have failed for good, such as 7,9-12.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed_indexes: Option<String>,
    /// Whether failedIndexes was cut.
    #[serde(default, skip_serializing_if = "is_false")]
    pub failed_indexes_truncated: bool,
    /// Some of the failures, with what is known of them.
    #[schemars(length(max = MAX_FAILURES))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failures: Vec<Failure>,
    /// How worker pods failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_failures: Option<PodFailures>,
    /// Raised whenever another operator takes the batch over; messages of a lower one are ignored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u64>,
    /// The SHA-256 of all tasks, in hexadecimal. A source that holds others later fails the batch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tasks_digest: Option<String>,
    /// The pod that keeps the results.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub collector_ref: Option<CollectorRef>,
}

/// How many tasks are in which state. Pending, in flight, succeeded and failed add up to the total.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = kubernetes_formats)]
#[serde(rename_all = "camelCase")]
pub struct TaskCounts {
    /// All tasks of the batch.
    pub total: u64,
    /// With no worker at the moment.
    pub pending: u64,
    /// With a worker, or with its outcome on the way.
    pub in_flight: u64,
    /// Recorded with a result.
    pub succeeded: u64,
    /// Failed for good.
    pub failed: u64,
    /// Dispatches that repeated an earlier one.
    #[serde(default)]
    pub resent: u64,
    /// Outcomes of tasks that were settled already.
    #[serde(default)]
    pub duplicates: u64,
}

/// A task that failed for good.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = kubernetes_formats)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    /// The task.
    pub number: u64,
    /// Which try was its last, from 1.
    pub attempt: u32,
    /// One word for the cause, such as ExitCode.
    pub reason: String,
    /// What the program ended with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// The signal that ended the program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// The pod that ran it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<String>,
    /// The end of what it wrote to its stderr.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_tail: Option<String>,
}

impl Failure {
    /// The word for the cause with the number that goes with it, such as `ExitCode 2`.
    #[must_use]
    pub fn cause(&self) -> String {
        match self.exit_code.or(self.signal) {
            Some(number) => format!("{} {number}", self.reason),
            None => self.reason.clone(),
        }
    }
}

/// How worker pods failed. What they were told to do by the operator, or by whoever deleted them, is no failure.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = kubernetes_formats)]
#[serde(rename_all = "camelCase")]
pub struct PodFailures {
    /// Those that count against backoffLimit.
    #[serde(default)]
    pub counted: u32,
    /// All of them by reason, such as OOMKilled, Error, or Evicted.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub reasons: BTreeMap<String, u32>,
    /// The last one that counts, or that a rule failed the batch for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<String>,
    /// Whether a rule of podFailurePolicy failed the batch.
    #[serde(default, skip_serializing_if = "is_false")]
    pub fatal: bool,
    /// The uids of the pods that are in these numbers and not gone yet, so that each is counted once.
    #[schemars(length(max = MAX_JUDGED))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub judged: Vec<String>,
}

/// The pod that keeps the results.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CollectorRef {
    /// The name of the pod, in the batch's namespace.
    pub name: String,
    /// The pod itself: another one of this name has another disk, unless there is a claim.
    pub uid: String,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_false(flag: &bool) -> bool {
    !flag
}
