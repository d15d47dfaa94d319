//! Where the tasks come from.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::limits::{MAX_CONFIG_KEY, MAX_ITEM, MAX_ITEMS, MAX_PATH, MAX_RESOURCE_NAME, MAX_URL};

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
    /// Each line of a ConfigMap's value is the payload of one task. Only on Kubernetes.
    ConfigMapRef(ConfigMapSpec),
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

/// Where a ConfigMap in the batch's namespace holds the tasks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ConfigMapSpec {
    /// The name of the ConfigMap.
    #[schemars(length(min = 1, max = MAX_RESOURCE_NAME))]
    pub name: String,
    /// The key whose value holds one task per line.
    #[schemars(length(min = 1, max = MAX_CONFIG_KEY))]
    pub key: String,
}
