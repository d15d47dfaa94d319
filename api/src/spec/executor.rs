//! How a task is run.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::limits::{MAX_ARGUMENT, MAX_COMMAND};

/// How a task is run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum ExecutorSpec {
    /// One process per task: the payload on its stdin, the result from its stdout.
    Exec(ExecSpec),
    /// A warm process per slot that answers one task after the other.
    Process(ProcessSpec),
    /// A program of one's own that is built with Harmony's worker library.
    Library(CommandSpec),
}

/// A process per task.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ExecSpec {
    /// The program and its arguments, without a shell. Left out, it is the worker container's own command and args.
    #[schemars(length(min = 1, max = MAX_COMMAND), inner(length(max = MAX_ARGUMENT)))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<Vec<String>>,
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
