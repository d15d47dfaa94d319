//! When a batch is complete before all its tasks are.

#![expect(
    unreachable_pub,
    reason = "kube's derive writes a struct once more, inside a function"
)]

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::rules;
use crate::limits::{MAX_COMPLETIONS, MAX_INDEXES, MAX_SUCCESS_RULES};

/// When the batch counts as complete before all tasks are: as soon as one rule is met.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SuccessPolicySpec {
    /// The rules. One that is met is enough.
    #[schemars(length(min = 1, max = MAX_SUCCESS_RULES))]
    pub rules: Vec<SuccessPolicyRule>,
}

/// What must have succeeded: the indexes, the count, or the count among the indexes.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[x_kube(validation = rules::asks_for_something())]
#[x_kube(validation = rules::indexes_are_ranges())]
#[schemars(transform = super::schema::kubernetes_formats)]
#[serde(rename_all = "camelCase")]
pub struct SuccessPolicyRule {
    /// Numbers and ranges in rising order, such as 0,2-5.
    #[schemars(length(min = 1, max = MAX_INDEXES))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub succeeded_indexes: Option<String>,
    /// How many tasks: of succeededIndexes if they are given, else of all.
    #[schemars(range(min = 1, max = MAX_COMPLETIONS))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub succeeded_count: Option<u64>,
}
