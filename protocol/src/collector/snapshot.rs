//! What a collector is at one moment, for people and for metrics. Bounded: no list of numbers.

use serde::Serialize;

use super::batch::Batch;
use super::{Collector, Dropped, Slot, Tally, Use};
use crate::ids::{BatchUid, Epoch, LinkId};
use crate::wire::Counts;

/// A collector at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Snapshot {
    /// Links to ventilators and workers.
    pub links: usize,
    /// The batches whose logs are open.
    pub batches: Vec<BatchSnapshot>,
    /// Logs that are being opened, or wait for room.
    pub opening: Vec<BatchUid>,
    /// Outcomes of numbers that were settled already, of all batches since the start.
    pub duplicates: u64,
    /// Those of them whose bytes differ from what is recorded.
    pub differing: u64,
    /// What was refused or dropped.
    pub dropped: Dropped,
    /// What was recorded, of all batches since the start.
    pub tally: Tally,
}

/// A batch at a collector.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BatchSnapshot {
    /// Which.
    pub uid: BatchUid,
    /// The last epoch that was claimed.
    pub epoch: Epoch,
    /// N, if it is known.
    pub completions: Option<u64>,
    /// It is over.
    pub ended: bool,
    /// What is durable.
    pub counts: Counts,
    /// The lowest number that is not settled, as far as that is durable.
    pub lowest_missing: u64,
    /// Numbers with an outcome that is not durable yet.
    pub unflushed: u64,
    /// Bytes of records that are not durable yet.
    pub unflushed_bytes: u64,
    /// The disk had no room for the last record.
    pub disk_full: bool,
    /// All records are being read back.
    pub reading_back: bool,
    /// Ventilators that are here for it.
    pub ventilators: usize,
    /// Links of workers that are bound for it.
    pub workers: usize,
}

impl Collector {
    /// What it is now.
    pub fn snapshot(&self) -> Snapshot {
        let open = |(uid, slot): (&BatchUid, &Slot)| match slot {
            Slot::Open(batch) => Some(self.of(*uid, batch)),
            Slot::Opening { .. } => None,
        };
        let opening = |(uid, slot): (&BatchUid, &Slot)| matches!(slot, Slot::Opening { .. }).then_some(*uid);
        let batches: Vec<_> = self.slots.iter().filter_map(open).collect();
        let sum = |part: fn(&Counts) -> u64| batches.iter().map(|batch| part(&batch.counts)).sum::<u64>();
        Snapshot {
            links: self.sessions.len(),
            opening: self.slots.iter().filter_map(opening).collect(),
            duplicates: self.unloaded.duplicates + sum(|counts| counts.duplicates),
            differing: self.unloaded.differing + sum(|counts| counts.differing),
            dropped: self.dropped(),
            tally: self.tally(),
            batches,
        }
    }

    fn tally(&self) -> Tally {
        let mut tally = self.unloaded_tally.clone();
        for slot in self.slots.values() {
            if let Slot::Open(batch) = slot {
                tally.merge(&batch.tally);
            }
        }
        tally
    }

    fn of(&self, uid: BatchUid, batch: &Batch) -> BatchSnapshot {
        let bound = |link: &&LinkId| {
            let uses = self.uses.get(link).into_iter().flat_map(|uses| uses.values());
            uses.into_iter()
                .any(|used| matches!(used, Use::Worker { uid: of, .. } if *of == uid))
        };
        let (state, durable) = (batch.state.settled().len(), batch.durable.counts);
        BatchSnapshot {
            uid,
            epoch: batch.state.epoch(),
            completions: batch.state.completions(),
            ended: batch.state.ended().is_some(),
            counts: batch.durable_counts(),
            lowest_missing: batch.durable.lowest_missing,
            unflushed: state.saturating_sub(durable.succeeded + durable.failed),
            unflushed_bytes: batch.commit.unflushed_bytes(),
            disk_full: batch.commit.is_full(),
            reading_back: batch.reading_back,
            ventilators: batch.clients.len(),
            workers: self.uses.keys().filter(bound).count(),
        }
    }
}
