//! The validated batch: the single input of everything that runs one.

use std::fmt;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use harmony_protocol::wire;
use url::Url;

use crate::spec::{OnExitCodesSpec, OnPodConditionSpec, PodFailureActionSpec};

/// A batch that is valid, with all defaults filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValidatedBatch {
    /// The batch's name.
    pub name: BatchName,
    /// N as the batch states it; if it does not, the source of the tasks tells it.
    pub completions: Option<u64>,
    /// Workers. Only on Kubernetes it may be 0, and then nothing runs.
    pub parallelism: u32,
    /// Tasks at once in one worker, at least 1.
    pub slots_per_worker: u32,
    /// A task fails for good when attempt `backoff_limit_per_index + 1` is charged.
    pub backoff_limit_per_index: u32,
    /// The batch ends early once more tasks than this have failed.
    pub max_failed_indexes: Option<u64>,
    /// The batch fails once more worker pods than this have failed. Only on Kubernetes.
    pub backoff_limit: Option<u32>,
    /// What failures of worker pods mean: the first rule that fits decides. Only on Kubernetes.
    pub pod_failure_policy: Vec<PodFailureRule>,
    /// The batch is complete early once one of these rules is met; without any, when all tasks are settled.
    pub success_policy: Vec<SuccessRule>,
    /// The batch ends early after this time.
    pub active_deadline: Option<Duration>,
    /// The longest single attempt.
    pub active_deadline_per_index: Option<Duration>,
    /// The largest output of one task, in bytes.
    pub max_bytes_per_task: u64,
    /// Where the tasks come from.
    pub tasks: Tasks,
    /// How a task is run.
    pub executor: Executor,
    /// The fields that are there and have an effect only on Kubernetes, as paths.
    pub ignored: Vec<String>,
}

/// The name of a batch: a DNS-1123 subdomain, so it is also safe as a file name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BatchName(String);

impl BatchName {
    /// The longest name in characters, as for every Kubernetes resource.
    pub const MAX: usize = 253;

    /// Checks a name.
    pub fn new(name: &str) -> Option<Self> {
        let fits = (1..=Self::MAX).contains(&name.len()) && name.split('.').all(is_label);
        fits.then(|| Self(name.to_owned()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for BatchName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn is_label(label: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !label.is_empty() && label.bytes().all(is_inner) && !label.starts_with('-') && !label.ends_with('-')
}

/// What must have succeeded for a batch to be complete early.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SuccessRule {
    /// The tasks that count, as rising runs with a gap between any two; all tasks if there is none.
    pub indexes: Vec<RangeInclusive<u64>>,
    /// How many of them must have succeeded, at least 1 and at most as many as there are.
    pub count: u64,
}

/// What the failure of a worker pod means, if it fits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodFailureRule {
    /// What is done.
    pub action: PodFailureActionSpec,
    /// Which failures it fits.
    pub on: PodFailureMatch,
}

/// Which failures of pods a rule fits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PodFailureMatch {
    /// Those in which a container ended with such a code.
    ExitCodes(OnExitCodesSpec),
    /// Those that have one of these conditions.
    Conditions(Vec<OnPodConditionSpec>),
}

/// Where the tasks come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tasks {
    /// A task's payload is its number in decimal; `completions` says how many.
    Range,
    /// The payloads themselves.
    Items(Vec<String>),
    /// The lines of a file. A relative path starts at the folder of the file that holds the batch.
    Path(PathBuf),
    /// The lines behind an http or https address.
    Url(Url),
    /// The lines of a `ConfigMap`'s value. Whoever can ask the API server turns it into [`Tasks::Text`].
    ConfigMap {
        /// The `ConfigMap`, in the batch's namespace.
        name: String,
        /// The key of the value.
        key: String,
    },
    /// The lines of a text that is here already.
    Text {
        /// Where the text is from, for messages.
        origin: String,
        /// The lines.
        text: String,
    },
}

/// How a task is run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Executor {
    /// One process per task.
    Exec(Command),
    /// One process per task, of the worker container's own command and args. Only on Kubernetes.
    Container,
    /// A warm process per slot.
    Process {
        /// What to start.
        command: Command,
        /// How it tells tasks and answers apart.
        framing: wire::Framing,
    },
    /// The user's own worker program, started in place of `harmony worker`.
    Library(Command),
}

impl Executor {
    /// The program that this executor starts, unless only the worker's pod knows it.
    pub fn command(&self) -> Option<&Command> {
        match self {
            Self::Exec(command) | Self::Process { command, .. } | Self::Library(command) => Some(command),
            Self::Container => None,
        }
    }

    /// Its name in a batch's file, for metrics.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Exec(_) | Self::Container => "exec",
            Self::Process { .. } => "process",
            Self::Library(_) => "library",
        }
    }

    /// What START tells a worker. Of the container's own command it says nothing: the worker has it already.
    pub fn wire(&self) -> wire::Executor {
        match self {
            Self::Container => wire::Executor::Exec { command: Vec::new() },
            Self::Exec(command) => wire::Executor::Exec {
                command: command.to_vec(),
            },
            Self::Process { command, framing } => wire::Executor::Process {
                command: command.to_vec(),
                framing: *framing,
            },
            Self::Library(_) => wire::Executor::Library,
        }
    }
}

/// A program and its arguments, none with a zero byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// The program: a path, or a name to look up in PATH. Not empty.
    pub program: String,
    /// Its arguments.
    pub arguments: Vec<String>,
}

impl Command {
    /// Program and arguments in one list.
    pub fn to_vec(&self) -> Vec<String> {
        [&self.program].into_iter().chain(&self.arguments).cloned().collect()
    }
}
