//! What the collector asks of its driver, and the answers.

use bytes::Bytes;

use super::{BatchState, Record, Settled};
use crate::ids::{BatchUid, LogId};
use crate::session::LinkOutput;

/// An output that comes in by parts, until its outcome is recorded. Counted from 1 while the process lives.
pub type OutputId = u64;

/// Which output a record keeps: it is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Which.
    pub output: OutputId,
    /// Whose it is.
    pub number: u64,
}

/// What a duplicate answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Its bytes.
    Bytes(Bytes),
    /// They came in parts, and nobody has kept them.
    Parted {
        /// How many there were.
        length: u32,
        /// Their CRC-32C.
        checksum: u32,
    },
}

impl Answer {
    /// Bytes of memory that it takes.
    pub(super) fn weight(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::Parted { .. } => 0,
        }
    }
}

/// What is written to a log at once, and takes one place in its sequence.
#[derive(Clone, Debug)]
pub enum Write {
    /// One record.
    Record {
        /// The bytes, to be written one after the other.
        pieces: Vec<Bytes>,
        /// Which entries settle which numbers.
        settled: Vec<Settled>,
        /// The output that the record keeps. It is to be durable under its final name before anything of the record is
        /// written.
        keeps: Option<Kept>,
    },
    /// A piece of an output, behind what was written of it. Nothing is written if there are no bytes, or if the output was
    /// discarded.
    Part {
        /// Of which output.
        output: OutputId,
        /// Where it begins; at 0 the output begins.
        offset: u64,
        /// The bytes.
        bytes: Bytes,
    },
}

impl From<&Record> for Write {
    /// A record that keeps no output.
    fn from(record: &Record) -> Self {
        Self::Record {
            pieces: record.encode(),
            settled: record.settled(),
            keeps: None,
        }
    }
}

impl Write {
    /// How many bytes there are to be written.
    pub(super) fn bytes(&self) -> u64 {
        match self {
            Self::Record { pieces, .. } => pieces.iter().map(|piece| piece.len() as u64).sum(),
            Self::Part { bytes, .. } => bytes.len() as u64,
        }
    }
}

/// What the driver is to do.
#[derive(Clone, Debug)]
pub enum Output {
    /// Something on a link.
    Link(LinkOutput),
    /// Open the log of a batch, or make it; answer with [`Collector::handle_opened`](super::Collector::handle_opened).
    Open {
        /// The batch.
        uid: BatchUid,
        /// Whether to make a log if there is none.
        create: bool,
    },
    /// Write to the log, behind what was written before. If the disk is full, answer with
    /// [`Collector::handle_disk_full`](super::Collector::handle_disk_full).
    Write {
        /// The batch.
        uid: BatchUid,
        /// Counts writes since the log was opened, from 1.
        sequence: u64,
        /// What.
        write: Write,
    },
    /// Remove what was written of an output: nothing will refer to it.
    Discard {
        /// The batch.
        uid: BatchUid,
        /// Which.
        output: OutputId,
    },
    /// Make everything up to this record durable, then answer with [`Collector::handle_synced`](super::Collector::handle_synced).
    Sync {
        /// The batch.
        uid: BatchUid,
        /// The newest record.
        sequence: u64,
    },
    /// Close the log of a batch: nobody asked for it for a while. All of it is durable. [`Output::Open`] may follow later.
    Close {
        /// The batch.
        uid: BatchUid,
    },
    /// Keep this state as of this record, once that is durable. May be dropped.
    Checkpoint {
        /// The batch.
        uid: BatchUid,
        /// The record.
        sequence: u64,
        /// The state.
        state: Vec<u8>,
    },
    /// Read all records back and check them, then answer with [`Collector::handle_read_back`](super::Collector::handle_read_back).
    ReadBack {
        /// The batch.
        uid: BatchUid,
    },
    /// Compare a duplicate with what is recorded, then answer with [`Collector::handle_compared`](super::Collector::handle_compared).
    Compare {
        /// The batch.
        uid: BatchUid,
        /// The number.
        number: u64,
        /// What the duplicate answers.
        answer: Answer,
    },
}

/// The answer to [`Output::Open`].
#[derive(Clone, Debug)]
pub enum Opened {
    /// The log is open.
    Batch {
        /// Its state after replay.
        state: Box<BatchState>,
        /// Its identity.
        log_id: LogId,
    },
    /// There is no such log, and none was to be made.
    Absent,
    /// There is no room on the disk to open it, or another process still has it: it is asked for again after a pause.
    Later,
    /// It cannot be opened.
    Failed(String),
}
