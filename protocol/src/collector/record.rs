//! What one record of the log says. The log of a batch is the sequence of these, and the state follows from it alone.

use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use crate::ids::{Epoch, InstanceId, ProcessId};
use crate::wire::{self, Done, OutcomeCode, Policy, ResultEntry, Results, Span, WireError};

/// One record of the log.
#[derive(Clone, Debug, PartialEq)]
pub enum Record {
    /// A ventilator took the batch over.
    Claim(Claim),
    /// Outcomes that settled or charged their numbers. Duplicates never get here.
    Outcomes(Outcomes),
    /// A worker process died with these unsettled numbers in flight.
    Death(Death),
    /// N became known.
    End(u64),
    /// The batch ended.
    Ending(Done),
    /// Reading back found these numbers damaged: they are missing again.
    Damaged(Vec<Span>),
}

/// See [`Record::Claim`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Claim {
    /// The name of the batch.
    pub name: String,
    /// The fencing number.
    pub epoch: Epoch,
    /// Which ventilator.
    pub instance: InstanceId,
    /// N, if it is known.
    pub completions: Option<u64>,
    /// What the collector decides by.
    pub policy: Policy,
}

/// See [`Record::Outcomes`].
#[derive(Clone, Debug, PartialEq)]
pub struct Outcomes {
    /// The name of the worker.
    pub worker: String,
    /// Which entries, by position and ascending, are failures that settle their number.
    pub final_failures: Vec<u32>,
    /// The outcomes; their sequence means nothing here.
    pub results: Results,
}

/// See [`Record::Death`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Death {
    /// Which process; each counts once.
    pub process_id: ProcessId,
    /// Its name.
    pub worker: String,
    /// What it held.
    pub numbers: Vec<Span>,
}

/// Consecutive entries of one record that settle consecutive numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settled {
    /// The first number.
    pub number: u64,
    /// How many.
    pub count: u32,
    /// The position of the first one's entry.
    pub entry: u32,
}

/// Why bytes are not a record.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// Too short for what it says.
    #[error("the record ends after {found} bytes, its head asks for {wanted}")]
    Short {
        /// Bytes there are.
        found: usize,
        /// Bytes asked for.
        wanted: usize,
    },
    /// Unknown kind.
    #[error("record kind {0} is unknown; this version reads kinds 1 to 6")]
    Kind(u8),
    /// Damaged JSON.
    #[error("the head of the record is not readable: {0}")]
    Json(#[from] serde_json::Error),
    /// Damaged entries.
    #[error("the outcomes of the record are not readable: {0}")]
    Wire(#[from] WireError),
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct OutcomesHead {
    worker: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    final_failures: Vec<u32>,
}

/// Kind, then the lengths of the JSON head and of the index.
const PREFIX: usize = 1 + 4 + 4;

impl Record {
    /// The bytes of the record, as pieces to be written one after the other; outputs are not copied.
    pub fn encode(&self) -> Vec<Bytes> {
        match self {
            Self::Claim(claim) => vec![prefixed(1, &json(claim), 0)],
            Self::Outcomes(outcomes) => {
                let head = OutcomesHead {
                    worker: outcomes.worker.clone(),
                    final_failures: outcomes.final_failures.clone(),
                };
                let index = wire::encode_results(&outcomes.results);
                vec![
                    prefixed(2, &json(&head), index.len()),
                    index,
                    outcomes.results.bytes.clone(),
                ]
            }
            Self::Death(death) => vec![prefixed(3, &json(death), 0)],
            Self::End(completions) => vec![prefixed(4, &json(completions), 0)],
            Self::Ending(done) => vec![prefixed(5, &json(done), 0)],
            Self::Damaged(spans) => vec![prefixed(6, &json(spans), 0)],
        }
    }

    /// Reads a record; outputs are slices of `bytes`.
    pub fn decode(bytes: &Bytes) -> Result<Self, RecordError> {
        let short = |wanted| RecordError::Short {
            found: bytes.len(),
            wanted,
        };
        let ([kind, lengths @ ..], _) = bytes.split_first_chunk::<PREFIX>().ok_or(short(PREFIX))?;
        let [h0, h1, h2, h3, i0, i1, i2, i3] = *lengths;
        let head_length = u32::from_be_bytes([h0, h1, h2, h3]) as usize;
        let wanted = PREFIX + head_length + u32::from_be_bytes([i0, i1, i2, i3]) as usize;
        if bytes.len() < wanted {
            return Err(short(wanted));
        }
        let head = bytes.slice(PREFIX..PREFIX + head_length);
        Ok(match kind {
            1 => Self::Claim(serde_json::from_slice(&head)?),
            2 => {
                let index = bytes.slice(PREFIX + head_length..wanted);
                Self::Outcomes(Outcomes::decode(&head, index, bytes.slice(wanted..))?)
            }
            3 => Self::Death(serde_json::from_slice(&head)?),
            4 => Self::End(serde_json::from_slice(&head)?),
            5 => Self::Ending(serde_json::from_slice(&head)?),
            6 => Self::Damaged(serde_json::from_slice(&head)?),
            other => return Err(RecordError::Kind(*other)),
        })
    }

    /// Which entries settle which numbers, as runs.
    pub fn settled(&self) -> Vec<Settled> {
        let Self::Outcomes(outcomes) = self else {
            return Vec::new();
        };
        let mut runs: Vec<Settled> = Vec::new();
        for (position, entry) in (0_u32..).zip(&outcomes.results.entries) {
            if !outcomes.settles(position, entry) {
                continue;
            }
            match runs.last_mut() {
                Some(run) if run.entry + run.count == position && run.number + u64::from(run.count) == entry.number => {
                    run.count += 1;
                }
                _ => runs.push(Settled {
                    number: entry.number,
                    count: 1,
                    entry: position,
                }),
            }
        }
        runs
    }
}

impl Outcomes {
    fn decode(head: &[u8], index: Bytes, payload: Bytes) -> Result<Self, RecordError> {
        let head: OutcomesHead = serde_json::from_slice(head)?;
        let results = wire::decode_results(&[index, payload])?;
        Ok(Self {
            worker: head.worker,
            final_failures: head.final_failures,
            results,
        })
    }

    /// Whether an entry settles its number.
    pub fn settles(&self, position: u32, entry: &ResultEntry) -> bool {
        entry.outcome == OutcomeCode::Succeeded || self.final_failures.binary_search(&position).is_ok()
    }
}

fn json(value: &impl Serialize) -> Vec<u8> {
    // These types hold no maps with keys other than strings, so that serialising into memory cannot fail.
    serde_json::to_vec(value).unwrap_or_default()
}

fn prefixed(kind: u8, head: &[u8], index: usize) -> Bytes {
    let mut bytes = BytesMut::with_capacity(PREFIX + head.len());
    bytes.put_u8(kind);
    bytes.put_u32(u32::try_from(head.len()).unwrap_or(u32::MAX));
    bytes.put_u32(u32::try_from(index).unwrap_or(u32::MAX));
    bytes.put_slice(head);
    bytes.freeze()
}
