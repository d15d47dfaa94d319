//! What a record of the log says, decoded by docs/log.md alone: no code is shared with the collector that wrote it.

use bytes::{Buf, Bytes};
use crc32c::{crc32c, crc32c_append};
use harmony_protocol::ids::{Attempt, Epoch, InstanceId, ProcessId};
use harmony_protocol::wire::{Done, OutcomeCode, Span};
use serde::Deserialize;

/// One record.
#[derive(Clone, Debug)]
pub enum Record {
    /// A ventilator took the batch over.
    Claim(Claim),
    /// Outcomes that settled or charged their numbers.
    Outcomes(Vec<Outcome>),
    /// A worker process died.
    Death(Death),
    /// N.
    End(u64),
    /// How the batch ended.
    Ending(Done),
    /// Numbers that are missing again.
    Damaged(Vec<Span>),
}

/// See [`Record::Claim`].
#[derive(Clone, Debug, Deserialize)]
pub struct Claim {
    /// The fencing number.
    pub epoch: Epoch,
    /// Which ventilator.
    pub instance: InstanceId,
}

/// See [`Record::Death`].
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Death {
    /// Which process.
    pub process_id: ProcessId,
    /// What it held.
    pub numbers: Vec<Span>,
}

/// One outcome.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Which task.
    pub number: u64,
    /// Which try.
    pub attempt: Attempt,
    /// How it went.
    pub code: OutcomeCode,
    /// The exit code or the signal.
    pub exit: i32,
    /// A failure that settles its number.
    pub last: bool,
    /// What it answered, unless that has a file of its own.
    pub output: Bytes,
    /// Length and checksum of that file.
    pub file: Option<(usize, u32)>,
    /// The file is not as the record says: nothing is known of the answer.
    pub lost: bool,
}

impl Outcome {
    /// What it adds to the digest of its batch.
    pub fn sum(&self) -> u32 {
        let sum = crc32c(&self.number.to_be_bytes());
        let sum = crc32c_append(sum, &self.attempt.to_be_bytes());
        let sum = crc32c_append(sum, &[self.code as u8]);
        let sum = crc32c_append(sum, &self.exit.to_be_bytes());
        crc32c_append(sum, &self.output)
    }

    /// Whether it settles its number.
    pub fn settles(&self) -> bool {
        self.code == OutcomeCode::Succeeded || self.last
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OutcomesHead {
    #[serde(default)]
    final_failures: Vec<u32>,
}

/// Bytes of one outcome in the index of a record.
const ENTRY: usize = 48;

impl Record {
    /// Decodes the payload of a frame whose checksums are right.
    pub fn decode(mut payload: Bytes) -> Self {
        let kind = payload.get_u8();
        let (head, index) = (payload.get_u32() as usize, payload.get_u32() as usize);
        let (head, index) = (payload.split_to(head), payload.split_to(index));
        match kind {
            1 => Self::Claim(read(&head)),
            2 => Self::Outcomes(outcomes(&read(&head), index, payload)),
            3 => Self::Death(read(&head)),
            4 => Self::End(read(&head)),
            5 => Self::Ending(read(&head)),
            6 => Self::Damaged(read(&head)),
            other => panic!("a record of the unknown kind {other}"),
        }
    }

    /// Reads the files of outputs that have one.
    pub fn fetch(&mut self, read: impl Fn(u64) -> Option<Vec<u8>>) {
        let Self::Outcomes(outcomes) = self else { return };
        for outcome in outcomes {
            let Some((length, checksum)) = outcome.file else {
                continue;
            };
            let whole = |bytes: &Vec<u8>| bytes.len() == length && crc32c(bytes) == checksum;
            match read(outcome.number).filter(whole) {
                Some(bytes) => outcome.output = bytes.into(),
                None => outcome.lost = true,
            }
        }
    }

    /// The numbers that the record is about.
    pub fn numbers(&self) -> Vec<u64> {
        let all = |spans: &[Span]| spans.iter().flat_map(|(first, last)| *first..=*last).collect();
        match self {
            Self::Outcomes(outcomes) => outcomes.iter().map(|outcome| outcome.number).collect(),
            Self::Death(death) => all(&death.numbers),
            Self::Damaged(spans) => all(spans),
            Self::Claim(_) | Self::End(_) | Self::Ending(_) => Vec::new(),
        }
    }
}

fn read<T: for<'a> Deserialize<'a>>(json: &[u8]) -> T {
    serde_json::from_slice(json).unwrap_or_else(|e| panic!("{e} in {}", String::from_utf8_lossy(json)))
}

fn outcomes(head: &OutcomesHead, mut index: Bytes, mut bytes: Bytes) -> Vec<Outcome> {
    index.advance(12);
    let count = index.get_u32();
    assert_eq!(index.len(), count as usize * ENTRY, "the length of an index of {count}");
    let outcomes = (0..count).map(|position| {
        let (number, attempt) = (index.get_u64(), index.get_u32());
        let code = code(index.get_u8());
        let way = index.get_u8();
        index.advance(2);
        let exit = index.get_i32();
        let output = index.get_u32() as usize;
        index.advance(16);
        let log = index.get_u32() as usize;
        let checksum = index.get_u32();
        let file = match way {
            0 => None,
            1 => Some((output, checksum)),
            other => panic!("an output is kept in the unknown way {other}"),
        };
        let output = bytes.split_to(if file.is_some() { 0 } else { output });
        bytes.advance(log);
        let last = head.final_failures.contains(&position);
        Outcome {
            number,
            attempt,
            code,
            exit,
            last,
            output,
            file,
            lost: false,
        }
    });
    let outcomes = outcomes.collect();
    assert!(bytes.is_empty(), "{} bytes belong to no outcome", bytes.len());
    outcomes
}

fn code(code: u8) -> OutcomeCode {
    match code {
        0 => OutcomeCode::Succeeded,
        1 => OutcomeCode::ExitCode,
        2 => OutcomeCode::Signal,
        3 => OutcomeCode::DeadlineExceeded,
        4 => OutcomeCode::ResultTooLarge,
        5 => OutcomeCode::PayloadTooLarge,
        6 => OutcomeCode::WorkerLost,
        7 => OutcomeCode::ExecutorError,
        other => panic!("outcome {other} is unknown"),
    }
}
