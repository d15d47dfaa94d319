//! Control messages: rare, readable, JSON. Unknown fields are ignored, so that later versions may add some.

use serde::{Deserialize, Serialize};

use super::text::clipped;
use crate::ids::{Attempt, BatchUid, Epoch, InstanceId, LogId, ProcessId};

/// Numbers from the first to the second, both included.
pub type Span = (u64, u64);

/// What a party is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// The client of a batch.
    Ventilator,
    /// Runs tasks.
    Worker,
    /// Records outcomes.
    Collector,
}

/// HELLO: the first message on every link, in both directions. Its layout never changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Hello {
    /// The lowest and the highest version spoken.
    pub versions: (u8, u8),
    /// What this party is.
    pub role: Role,
    /// Its name, as people see it.
    #[serde(serialize_with = "clipped")]
    pub name: String,
    /// Random per process.
    pub process_id: ProcessId,
    /// How many tasks a worker runs at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slots: Option<u32>,
    /// The largest task payload, in bytes, that this party takes.
    pub max_payload: u64,
    /// How often it sends something at least, in milliseconds.
    pub heartbeat_millis: u32,
}

/// START: a ventilator opens (epoch above 0) or asks about (epoch 0) a batch under an alias of its choice.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Start {
    /// The batch.
    pub uid: BatchUid,
    /// Its name, as people see it.
    #[serde(serialize_with = "clipped")]
    pub name: String,
    /// The fencing number.
    pub epoch: Epoch,
    /// Which ventilator.
    pub instance: InstanceId,
    /// N, if it is known yet.
    pub completions: Option<u64>,
    /// For the collector.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<Policy>,
    /// For a worker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub work: Option<Work>,
}

/// What the collector decides by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Policy {
    /// A number fails for good when attempt `backoff_limit_per_index + 1` is charged.
    pub backoff_limit_per_index: u32,
    /// The largest output of one task, in bytes.
    pub max_bytes_per_task: u64,
}

/// What a worker needs in order to run tasks of a batch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Work {
    /// How tasks are run.
    pub executor: Executor,
    /// Where outcomes go: an endpoint such as `unix:/run/c.sock` or `tcp://10.0.0.7:5555`.
    pub collector: String,
    /// The largest output of one task, in bytes.
    pub max_bytes_per_task: u64,
    /// The longest single attempt, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_millis: Option<u64>,
}

/// How tasks are run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Executor {
    /// One process per task: payload on stdin, output from stdout.
    Exec {
        /// The program and its arguments; none for the command that the worker itself was started with.
        command: Vec<String>,
    },
    /// A warm process per slot.
    Process {
        /// The program and its arguments.
        command: Vec<String>,
        /// How tasks and answers are told apart.
        framing: Framing,
    },
    /// A closure inside the worker's own program.
    Library,
}

/// How a warm process tells tasks and answers apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Framing {
    /// A line in, a line out, in order.
    Lines,
}

/// STATE: the answer to START, a snapshot in pieces.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// Whether this is the last piece.
    pub last: bool,
    /// What is told.
    #[serde(flatten)]
    pub body: StateBody,
}

/// What STATE tells, by role.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum StateBody {
    /// From a collector.
    Collector(CollectorState),
    /// From a worker.
    Worker(WorkerState),
}

/// A piece of the collector's STATE. The sets of all pieces together are the truth.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CollectorState {
    /// Which log.
    pub log_id: LogId,
    /// The last epoch made durable.
    pub epoch: Epoch,
    /// The ventilator of that epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<InstanceId>,
    /// N, if it is known.
    pub completions: Option<u64>,
    /// Numbers with a recorded success.
    pub succeeded: Vec<Span>,
    /// Numbers that failed for good.
    pub failed: Vec<Span>,
    /// Every unsettled number whose current attempt is above 1.
    pub retries: Vec<Retry>,
    /// How many worker deaths unsettled numbers were in flight at.
    pub deaths: Vec<Deaths>,
}

/// A number whose current attempt is above 1, or that must be sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Retry {
    /// The number.
    pub number: u64,
    /// Its current attempt.
    pub attempt: Attempt,
    /// How long to wait from receipt, in milliseconds.
    pub delay_millis: u64,
}

/// How many worker deaths a number was in flight at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Deaths {
    /// The number.
    pub number: u64,
    /// Deaths so far.
    pub count: u32,
}

/// A piece of a worker's STATE.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkerState {
    /// What it holds: queued, running, or done and not yet acked by the collector.
    pub held: Vec<Holding>,
}

/// Consecutive numbers at the same attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Holding {
    /// The first number.
    pub first: u64,
    /// The last number.
    pub last: u64,
    /// Their attempt.
    pub attempt: Attempt,
}

/// REFUSED: the answer to a START that is not accepted, or to an unknown alias.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Refused {
    /// Why, for programs.
    pub code: RefusedCode,
    /// The highest epoch known.
    pub epoch: Epoch,
    /// Why, for people.
    #[serde(serialize_with = "clipped")]
    pub reason: String,
}

/// Why something was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RefusedCode {
    /// A higher epoch, or the same from another instance, is known.
    Fenced,
    /// The batch was never started here.
    NotStarted,
    /// The executor cannot start.
    Executor,
    /// A bound of this party would be passed.
    Limit,
    /// N, or another fixed property, differs from what is recorded.
    Mismatch,
}

/// BIND: a worker will send outcomes of a batch under this alias.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Bind {
    /// The batch.
    pub uid: BatchUid,
}

/// REPORT: what the collector recorded since the last one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Newly succeeded numbers.
    pub succeeded: Vec<Span>,
    /// Numbers that newly failed for good.
    pub failed: Vec<Span>,
    /// Totals.
    pub counts: Counts,
    /// The lowest number that is not settled.
    pub lowest_missing: u64,
    /// Numbers to be sent again.
    pub retries: Vec<Retry>,
    /// How the collector is.
    pub health: Health,
    /// Some of the numbers in `failed`, with their causes, for people.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failures: Vec<Failure>,
}

/// Why a number failed for good.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    /// The number.
    pub number: u64,
    /// Its last attempt.
    pub attempt: Attempt,
    /// The name of the outcome, such as `ExitCode`.
    #[serde(serialize_with = "clipped")]
    pub reason: String,
    /// The exit code or the signal; 0 where neither applies.
    pub code: i32,
    /// The worker that ran it.
    #[serde(serialize_with = "clipped")]
    pub worker: String,
    /// The end of its log.
    #[serde(serialize_with = "clipped")]
    pub log: String,
}

/// Totals of a batch at the collector.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Counts {
    /// Numbers with a recorded success.
    pub succeeded: u64,
    /// Numbers that failed for good.
    pub failed: u64,
    /// Outcomes of numbers that were already settled, or already charged.
    pub duplicates: u64,
    /// Duplicates whose bytes differ from what is recorded.
    pub differing: u64,
    /// Failed attempts that were charged.
    pub charged: u64,
    /// Numbers that damage to the disk made missing again.
    pub damaged: u64,
}

/// How the collector is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Health {
    /// Recording.
    Ok,
    /// Paused until there is room on the disk.
    DiskFull,
}

/// HELD: which of these numbers does a worker hold? The answer carries those that it does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Held {
    /// Counts the questions on this link; the answer echoes it.
    pub serial: u32,
    /// False in the question, true in the answer.
    pub answer: bool,
    /// The numbers.
    pub spans: Vec<Span>,
}

/// END: every number has been sent at least once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct End {
    /// The sender's epoch.
    pub epoch: Epoch,
    /// N.
    pub completions: u64,
}

/// MISSING: the answer to END while something is not settled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Missing {
    /// The lowest missing numbers; empty while the read-back runs.
    pub spans: Vec<Span>,
    /// Whether there are more.
    pub more: bool,
}

/// DONE: all numbers are settled, read back and checked, or the batch was ended early. Logged, and repeated to every later START.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Done {
    /// How it ended.
    pub ending: Ending,
    /// Totals.
    pub counts: Counts,
    /// The sum, modulo 2^32, of the CRC-32C of each settled number's outcome (number, attempt, outcome, code, output).
    pub digest: u32,
}

/// How a batch ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ending {
    /// Every number is settled.
    Complete,
    /// Ended early, for this reason.
    Cancelled(#[serde(serialize_with = "clipped")] String),
}

/// LOST: what a ventilator found out about numbers. The collector echoes it after fsync.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Lost {
    /// The sender's epoch.
    pub epoch: Epoch,
    /// What was found.
    #[serde(flatten)]
    pub loss: Loss,
}

/// What a ventilator found out about numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Loss {
    /// A worker process died with these numbers in flight.
    #[serde(rename_all = "camelCase")]
    Death {
        /// Which process; each is counted once.
        process_id: ProcessId,
        /// Its name.
        #[serde(serialize_with = "clipped")]
        worker: String,
        /// Whether the only number ran alone, with nothing beside it.
        alone: bool,
        /// What it held.
        held: Vec<Holding>,
    },
    /// A number that can never run, such as one whose payload is too large.
    #[serde(rename_all = "camelCase")]
    Unsendable {
        /// The number.
        number: u64,
        /// Its attempt.
        attempt: Attempt,
        /// Why.
        #[serde(serialize_with = "clipped")]
        reason: String,
    },
}

/// RETURN: a worker hands tasks back unfinished.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Return {
    /// Why. Only a drain voids the worker's credit.
    pub cause: ReturnCause,
    /// What is handed back.
    pub tasks: Vec<Holding>,
}

/// Why tasks are handed back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReturnCause {
    /// The worker leaves.
    Drain,
    /// The ventilator asked for it.
    Cancel,
}

/// CANCEL: end a batch early (no spans), or stop some numbers at a worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Cancel {
    /// The sender's epoch.
    pub epoch: Epoch,
    /// Only these numbers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spans: Option<Vec<Span>>,
    /// Why.
    #[serde(serialize_with = "clipped")]
    pub reason: String,
}

/// PING: I am here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ping {
    /// Echoed by PONG.
    pub nonce: u64,
    /// From a worker: for each alias of this link, how long it has had no bound link to the collector.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unbound: Vec<Unbound>,
    /// From a worker to a collector: the smallest outcome, in bytes, that the allowance has no room for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blocked: Option<u64>,
}

/// How long a batch has had no bound link to its collector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Unbound {
    /// The batch, by its alias on this link.
    pub alias: u32,
    /// How long.
    pub millis: u64,
}

/// PONG: the answer to PING.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Pong {
    /// From PING.
    pub nonce: u64,
}

/// BYE: the sender closes the link on purpose.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Bye {
    /// Why, for programs.
    pub code: ByeCode,
    /// Why, for people.
    #[serde(serialize_with = "clipped")]
    pub reason: String,
}

/// Why a link is closed on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ByeCode {
    /// The party leaves in good order.
    Leaving,
    /// No common version.
    Version,
    /// The peer broke the protocol.
    Malformed,
    /// A bound of this party would be passed.
    Limit,
}
