//! Hot messages: fixed-width binary in network order, payloads end to end in one frame.

use bytes::Bytes;

use super::binary::{PART_INDEX_BYTES, RESULT_BYTES};
use crate::ids::{Attempt, Epoch};

/// WANT: how much a ventilator would like to send. Sent when it changes between nothing and something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Want {
    /// Raised with each WANT under this alias; only credit that echoes the newest one counts.
    pub serial: u32,
    /// Tasks that wait to be sent. 0 voids what is unused.
    pub backlog: u64,
    /// Tasks sent under this alias so far.
    pub tasks_sent: u64,
    /// Payload bytes sent under this alias so far.
    pub bytes_sent: u64,
}

/// CREDIT: how much a worker is ready to take, as totals since START.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Credit {
    /// Echoes WANT.
    pub serial: u32,
    /// Tasks granted under this alias so far.
    pub tasks_granted: u64,
    /// Payload bytes granted under this alias so far.
    pub bytes_granted: u64,
    /// The number and attempt that is about to run with nothing beside it.
    pub alone: Option<(u64, Attempt)>,
}

/// TASKS: numbers to run, with their payloads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tasks {
    /// The sender's epoch.
    pub epoch: Epoch,
    /// The one task in this message must run with nothing beside it.
    pub alone: bool,
    /// These are backup copies of tasks in flight elsewhere.
    pub backup: bool,
    /// The payload of the one task in this message came in PARTs and so is not among the bytes of the message.
    pub parted: bool,
    /// What to run.
    pub entries: Vec<TaskEntry>,
    /// All payloads end to end.
    pub payloads: Bytes,
}

/// Payloads that are smaller than this on average, in bytes, are worth a copy.
const COPIED_BELOW: usize = 1_024;

impl Tasks {
    /// Gives small payloads memory of their own. A link reads many messages into one buffer, whose count of users would go to
    /// and fro between the core that reads and the cores that run tasks; a copy costs less.
    pub(crate) fn detach(&mut self) {
        if self.payloads.len() <= self.entries.len() * COPIED_BELOW {
            self.payloads = Bytes::copy_from_slice(&self.payloads);
        }
    }

    /// Bytes of a task's payload that the message itself carries.
    pub fn inline(&self, entry: &TaskEntry) -> u32 {
        if self.parted { 0 } else { entry.length }
    }

    /// Each task with what the message carries of its payload, which shares memory with the message.
    pub fn pieces(&self) -> impl Iterator<Item = (TaskEntry, Bytes)> {
        let mut rest = self.payloads.clone();
        self.entries
            .iter()
            .map(move |entry| (*entry, take(&mut rest, self.inline(entry))))
    }
}

/// One task of TASKS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskEntry {
    /// Which task.
    pub number: u64,
    /// Which try.
    pub attempt: Attempt,
    /// Bytes of payload.
    pub length: u32,
}

/// RESULTS: outcomes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Results {
    /// Counts the RESULTS of this alias on this link, from 1.
    pub sequence: u64,
    /// The outcomes.
    pub entries: Vec<ResultEntry>,
    /// For each outcome its output, then its log tail, all end to end.
    pub bytes: Bytes,
}

impl Results {
    /// Each outcome with its output and its log tail, which share memory with the message.
    pub fn pieces(&self) -> impl Iterator<Item = (ResultEntry, Bytes, Bytes)> {
        let mut rest = self.bytes.clone();
        self.entries
            .iter()
            .map(move |&entry| (entry, take(&mut rest, entry.inline()), take(&mut rest, entry.log)))
    }
}

impl Results {
    /// What this message counts for in allowances and budgets, in bytes.
    pub fn weight(&self) -> u64 {
        (self.bytes.len() + self.entries.len() * RESULT_BYTES) as u64
    }
}

/// Cuts the next piece off. In a decoded message the lengths add up; in another one a piece may come out short.
fn take(rest: &mut Bytes, length: u32) -> Bytes {
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    rest.split_to(length.min(rest.len()))
}

/// One outcome of RESULTS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResultEntry {
    /// Which task.
    pub number: u64,
    /// Which try.
    pub attempt: Attempt,
    /// How it went.
    pub outcome: OutcomeCode,
    /// The exit code or the signal; 0 where neither applies.
    pub code: i32,
    /// When it began, in microseconds since 1970 (UTC).
    pub start_micros: u64,
    /// How long it took, in microseconds.
    pub duration_micros: u64,
    /// Bytes of output.
    pub output: u32,
    /// Bytes of log tail.
    pub log: u32,
    /// The CRC-32C of the output, if it came in PARTs and so is not among the bytes of the message.
    pub parted: Option<u32>,
}

impl ResultEntry {
    /// Bytes of output that the message itself carries.
    pub fn inline(&self) -> u32 {
        if self.parted.is_some() { 0 } else { self.output }
    }
}

/// PART: a piece of an output, or of a payload, that is too long for one message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Part {
    /// Of an output, its place among the RESULTS and PARTs of this alias, from 1; of a payload, the sender's epoch.
    pub stamp: u64,
    /// Which task.
    pub number: u64,
    /// Which try.
    pub attempt: Attempt,
    /// How many bytes came before.
    pub offset: u64,
    /// What comes now.
    pub bytes: Bytes,
}

impl Part {
    /// What this message counts for in allowances, in bytes.
    pub fn weight(&self) -> u64 {
        (self.bytes.len() + PART_INDEX_BYTES) as u64
    }

    /// Where the next part of the same begins.
    pub fn end(&self) -> u64 {
        self.offset.saturating_add(self.bytes.len() as u64)
    }
}

/// How an attempt went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum OutcomeCode {
    /// It succeeded.
    Succeeded = 0,
    /// It ended with an exit code other than 0, or said that it failed.
    ExitCode = 1,
    /// A signal ended it.
    Signal = 2,
    /// It passed its deadline.
    DeadlineExceeded = 3,
    /// Its output was larger than allowed.
    ResultTooLarge = 4,
    /// Its payload is larger than a worker takes.
    PayloadTooLarge = 5,
    /// The worker died while it ran alone.
    WorkerLost = 6,
    /// The executor could not run it.
    ExecutorError = 7,
}

impl OutcomeCode {
    pub(super) fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            0 => Self::Succeeded,
            1 => Self::ExitCode,
            2 => Self::Signal,
            3 => Self::DeadlineExceeded,
            4 => Self::ResultTooLarge,
            5 => Self::PayloadTooLarge,
            6 => Self::WorkerLost,
            7 => Self::ExecutorError,
            _ => return None,
        })
    }
}

impl OutcomeCode {
    /// All but success.
    pub const FAILURES: [Self; 7] = [
        Self::ExitCode,
        Self::Signal,
        Self::DeadlineExceeded,
        Self::ResultTooLarge,
        Self::PayloadTooLarge,
        Self::WorkerLost,
        Self::ExecutorError,
    ];

    /// The name, as files and metrics show it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Succeeded => "Succeeded",
            Self::ExitCode => "ExitCode",
            Self::Signal => "Signal",
            Self::DeadlineExceeded => "DeadlineExceeded",
            Self::ResultTooLarge => "ResultTooLarge",
            Self::PayloadTooLarge => "PayloadTooLarge",
            Self::WorkerLost => "WorkerLost",
            Self::ExecutorError => "ExecutorError",
        }
    }
}

/// ACK: RESULTS up to a sequence are disposed of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ack {
    /// All RESULTS of this alias up to this sequence are durable, or need not be.
    pub sequence: u64,
    /// Bytes of unacked RESULTS that this link may have under way, all its batches together.
    pub allowance: u64,
}
