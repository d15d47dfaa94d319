//! The bounds of every field, each with its unit and its reason.

use harmony_protocol::limits;

/// Bytes of a file with a batch: the API server refuses larger objects, so a larger file could not run there either.
pub const MAX_FILE: usize = 1_572_864;
/// Levels of lists and mappings in a file: some more than the deepest field of a pod template needs, and each takes up
/// to 40 KiB of stack while it is read, so that all of them fit the smallest stack of a thread twice.
pub const MAX_DEPTH: usize = 16;
/// Problems named in one answer; more only scroll the first ones away.
pub const MAX_PROBLEMS: usize = 50;
/// Tasks of a batch: far above what a fleet finishes in a year, and exact in JSON.
pub const MAX_COMPLETIONS: u64 = 1_000_000_000_000;
/// Workers of a batch: each holds a link to the collector, which keeps 4,096 and needs some for ventilators.
pub const MAX_PARALLELISM: u32 = 4_000;
/// Tasks that run at once in one worker, each with a process or a thread of its own.
pub const MAX_SLOTS: u32 = 1_024;
/// Retries of one number, and failed pods of one batch; with the longest delay between two of them this is two months of trying.
pub const MAX_BACKOFF: u32 = 100_000;
/// Seconds of any deadline: ten years, so that no sum of times overflows.
pub const MAX_SECONDS: u64 = 315_360_000;
/// Bytes of one task's output if the batch does not say: 16Mi.
pub const DEFAULT_OUTPUT: u64 = 16 << 20;
/// The largest bytes of one task's output that a batch may ask for.
pub const MAX_OUTPUT: u64 = limits::MAX_OUTPUT;
/// The same with `executor.process` and lines: an answer is held in memory until its line ends.
pub const MAX_LINE_OUTPUT: u64 = 64 << 20;
/// Entries of `tasks.items`: more belong into a file, one per line.
pub const MAX_ITEMS: usize = 65_536;
/// Characters of one entry of `tasks.items`.
pub const MAX_ITEM: usize = 65_536;
/// Entries of a command.
pub const MAX_COMMAND: usize = 1_024;
/// Characters of one entry of a command: Linux refuses arguments of 128 KiB, and a character has up to four bytes.
pub const MAX_ARGUMENT: usize = 32_767;
/// Bytes of a whole command, so that START stays far below the largest control message even if each is escaped.
pub const MAX_COMMAND_BYTES: usize = 131_072;
/// Characters of a path: Linux's `PATH_MAX`.
pub const MAX_PATH: usize = 4_096;
/// Characters of a URL: what web servers commonly take.
pub const MAX_URL: usize = 8_192;
/// Characters of the name of any Kubernetes resource.
pub const MAX_RESOURCE_NAME: usize = 253;
/// Characters of a label's value, and of a container's name.
pub const MAX_LABEL: usize = 63;
/// Characters of the key of a `ConfigMap`.
pub const MAX_CONFIG_KEY: usize = 253;
/// Characters of `managedBy`, as for a Job.
pub const MAX_MANAGER: usize = 63;
/// Rules of a success policy, as for a Job.
pub const MAX_SUCCESS_RULES: usize = 20;
/// Rules of a pod failure policy, as for a Job.
pub const MAX_POD_FAILURE_RULES: usize = 20;
/// Exit codes of one such rule, as for a Job.
pub const MAX_EXIT_CODES: usize = 255;
/// The largest exit code: a process has eight bits for it, and what a kubelet says beyond them fits in the field's 32.
pub const MAX_EXIT_CODE: i32 = i32::MAX;
/// Conditions of one such rule, as for a Job.
pub const MAX_POD_CONDITIONS: usize = 20;
/// Characters of a condition's type: a prefix of 253, a slash and a name of 63.
pub const MAX_CONDITION_TYPE: usize = 317;
/// Characters of `succeededIndexes`, as for a Job.
pub const MAX_INDEXES: usize = 65_536;
/// Characters of an amount of bytes.
pub const MAX_QUANTITY: usize = 32;
/// Containers of a worker pod: more than any pod has, and few enough for a rule to look at each.
pub const MAX_CONTAINERS: usize = 64;
/// Labels of a node selector.
pub const MAX_SELECTOR: usize = 64;
/// Tolerations of a pod.
pub const MAX_TOLERATIONS: usize = 64;
