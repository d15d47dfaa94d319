//! Payloads that come ahead of their task in PARTs: the driver keeps them, on its disk, and the machine says for how long.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::credit::Door;
use super::{Output, Worker};
use crate::ids::Attempt;
use crate::limits::{KEPT_PAYLOAD_BYTES, KEPT_PAYLOADS};
use crate::wire::{Part, TaskEntry};

/// Which payload, among all that a worker has been sent in parts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PayloadId(pub u64);

/// What a task is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    /// It came with the task.
    Whole(Bytes),
    /// It came ahead, and the driver keeps it until [`Output::Discard`].
    Kept {
        /// Which.
        id: PayloadId,
        /// Its bytes.
        length: u64,
    },
}

impl Payload {
    /// Its bytes, wherever they are.
    pub fn len(&self) -> u64 {
        match self {
            Self::Whole(bytes) => bytes.len() as u64,
            Self::Kept { length, .. } => *length,
        }
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Its bytes in memory.
    pub(super) fn held(&self) -> u64 {
        match self {
            Self::Whole(bytes) => bytes.len() as u64,
            Self::Kept { .. } => 0,
        }
    }
}

impl From<Bytes> for Payload {
    fn from(bytes: Bytes) -> Self {
        Self::Whole(bytes)
    }
}

/// A payload of which not all has come.
#[derive(Clone, Copy, Debug)]
struct Arriving {
    id: PayloadId,
    number: u64,
    attempt: Attempt,
    received: u64,
}

/// The payloads of one batch that the driver keeps.
#[derive(Clone, Debug, Default)]
pub(super) struct Payloads {
    /// At most one of each ventilator.
    arriving: BTreeMap<Door, Arriving>,
    /// Those of tasks that wait or run, with their bytes.
    kept: BTreeMap<PayloadId, u64>,
    kept_bytes: u64,
    /// Those of tasks that run, by number.
    running: BTreeMap<u64, PayloadId>,
    unneeded: Vec<PayloadId>,
}

impl Payloads {
    /// A part comes in: the first one begins `next`, and gives up what was open. Which payload it belongs to, unless it goes on
    /// where nothing was.
    pub(super) fn take(&mut self, door: Door, part: &Part, next: PayloadId) -> Option<PayloadId> {
        if part.offset == 0 {
            self.close(door);
            let arriving = Arriving {
                id: next,
                number: part.number,
                attempt: part.attempt,
                received: 0,
            };
            self.arriving.insert(door, arriving);
        }
        let arriving = self.arriving.get_mut(&door)?;
        let expected = (arriving.number, arriving.attempt, arriving.received);
        if expected != (part.number, part.attempt, part.offset) {
            return None;
        }
        arriving.received = part.end();
        Some(arriving.id)
    }

    /// The task of a payload that came ahead is here: nothing if not just that payload came.
    pub(super) fn complete(&mut self, door: Door, entry: TaskEntry) -> Option<Payload> {
        let arriving = self.arriving.remove(&door)?;
        let length = u64::from(entry.length);
        let declared = (entry.number, entry.attempt, length);
        if declared != (arriving.number, arriving.attempt, arriving.received) {
            self.unneeded.push(arriving.id);
            return None;
        }
        self.kept.insert(arriving.id, length);
        self.kept_bytes += length;
        Some(Payload::Kept {
            id: arriving.id,
            length,
        })
    }

    /// A ventilator is gone, or has begun anew: what it had not sent whole will not be.
    pub(super) fn close(&mut self, door: Door) {
        self.unneeded
            .extend(self.arriving.remove(&door).map(|arriving| arriving.id));
    }

    /// A task begins.
    pub(super) fn start(&mut self, number: u64, payload: &Payload) {
        if let Payload::Kept { id, .. } = payload {
            self.running.insert(number, *id);
        }
    }

    /// A task ended.
    pub(super) fn end(&mut self, number: u64) {
        if !self.running.is_empty()
            && let Some(id) = self.running.remove(&number)
        {
            self.forget(id);
        }
    }

    /// A task does not run here.
    pub(super) fn drop(&mut self, payload: &Payload) {
        if let Payload::Kept { id, .. } = payload {
            self.forget(*id);
        }
    }

    fn forget(&mut self, id: PayloadId) {
        if let Some(length) = self.kept.remove(&id) {
            self.kept_bytes -= length;
            self.unneeded.push(id);
        }
    }

    /// Whether one that has begun to come is not whole.
    pub(super) fn is_open(&self, door: Door) -> bool {
        self.arriving.contains_key(&door)
    }

    /// How many are kept for tasks that are here, and their bytes.
    pub(super) fn kept(&self) -> (usize, u64) {
        (self.kept.len(), self.kept_bytes)
    }

    pub(super) fn sanity_check(&self, waiting: usize) {
        assert_eq!(self.kept.len(), waiting + self.running.len(), "payloads that are kept");
        assert_eq!(self.kept.values().sum::<u64>(), self.kept_bytes, "their bytes");
        assert!(
            self.running.values().all(|id| self.kept.contains_key(id)),
            "a task runs without its payload"
        );
    }
}

impl Worker {
    /// Lets the driver drop what no task needs any more.
    pub(super) fn discard_payloads(&mut self) {
        for (uid, batch) in &mut self.batches {
            let unneeded = batch.payloads.unneeded.drain(..);
            self.out.extend(unneeded.map(|id| Output::Discard { uid: *uid, id }));
        }
    }

    /// Whether the disk holds enough payloads of tasks that have not ended: they make room by themselves.
    pub(super) fn has_payloads_enough(&self) -> bool {
        let kept = self.batches.values().map(|batch| batch.payloads.kept());
        let (count, bytes) = kept.fold((0, 0), |all, one| (all.0 + one.0, all.1 + one.1));
        count >= KEPT_PAYLOADS || bytes >= KEPT_PAYLOAD_BYTES
    }
}
