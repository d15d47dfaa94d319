//! What failures of worker pods mean for the batch.

#![expect(
    unreachable_pub,
    reason = "kube's derive writes a struct once more, inside a function"
)]

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::rules;
use crate::limits::{
    MAX_CONDITION_TYPE, MAX_EXIT_CODE, MAX_EXIT_CODES, MAX_LABEL, MAX_POD_CONDITIONS, MAX_POD_FAILURE_RULES,
};

/// What failures of worker pods mean, as in a Job: the first rule that fits decides. Pods that no rule fits count against backoffLimit, unless they were evicted, preempted, or lost with their node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PodFailurePolicySpec {
    /// The rules, in the order in which they are tried.
    #[schemars(length(min = 1, max = MAX_POD_FAILURE_RULES))]
    pub rules: Vec<PodFailureRuleSpec>,
}

/// What is done about pods that ended so: by an exit code, or with a condition.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[x_kube(validation = rules::looks_at_one_thing())]
#[serde(rename_all = "camelCase")]
pub struct PodFailureRuleSpec {
    /// FailBatch ends the batch, Ignore does not count the pod, Count counts it against backoffLimit.
    pub action: PodFailureActionSpec,
    /// Fits a pod in which a container ended with such an exit code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_exit_codes: Option<OnExitCodesSpec>,
    /// Fits a pod that has one of these conditions.
    #[schemars(length(min = 1, max = MAX_POD_CONDITIONS))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_pod_conditions: Option<Vec<OnPodConditionSpec>>,
}

/// What a rule does. A Job's FailIndex has no meaning here: a worker pod runs many numbers, and what becomes of each of
/// them is decided by its own attempts (`backoffLimitPerIndex`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PodFailureActionSpec {
    /// The batch fails.
    FailBatch,
    /// The pod does not count.
    Ignore,
    /// The pod counts against `backoffLimit`.
    Count,
}

/// The exit codes of containers that ended by themselves, other than 0.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[x_kube(validation = rules::zero_is_no_failure())]
#[serde(rename_all = "camelCase")]
pub struct OnExitCodesSpec {
    /// The container, or init container, that is looked at. Left out, all are.
    #[schemars(length(min = 1, max = MAX_LABEL))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container_name: Option<String>,
    /// Whether the exit code is to be one of the values, or none of them.
    pub operator: ExitCodeOperatorSpec,
    /// The exit codes.
    #[schemars(length(min = 1, max = MAX_EXIT_CODES), inner(range(min = 0, max = MAX_EXIT_CODE)))]
    pub values: Vec<i32>,
}

/// How exit codes are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ExitCodeOperatorSpec {
    /// One of the values.
    In,
    /// None of them.
    NotIn,
}

/// A condition of a pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OnPodConditionSpec {
    /// Its type, such as DisruptionTarget.
    #[serde(rename = "type")]
    #[schemars(length(min = 1, max = MAX_CONDITION_TYPE))]
    pub type_: String,
    /// Its status.
    #[serde(default)]
    pub status: ConditionStatusSpec,
}

/// The status of a condition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ConditionStatusSpec {
    /// It holds.
    #[default]
    True,
    /// It does not.
    False,
    /// Nobody knows.
    Unknown,
}

impl ConditionStatusSpec {
    /// As pods have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}
