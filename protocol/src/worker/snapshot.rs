//! What a worker is at one moment, for people and for metrics. Bounded: no list of tasks.

use serde::Serialize;

use super::batch::{Batch, Stage, Uplink};
use super::{Dropped, Executed, Worker};
use crate::durations::Durations;
use crate::ids::{BatchUid, Epoch};

/// A worker at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Snapshot {
    /// Tasks that run at once.
    pub slots: u32,
    /// It was asked to leave.
    pub draining: bool,
    /// A task runs alone, or waits for it.
    pub alone: bool,
    /// Links to ventilators and collectors.
    pub links: usize,
    /// The batches that it serves.
    pub batches: Vec<BatchSnapshot>,
    /// What became of the tasks that were run.
    pub executed: Executed,
    /// How long tasks waited here before they were handed to the executor.
    pub waits: Durations,
    /// What was refused or dropped.
    pub dropped: Dropped,
}

/// A batch at a worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BatchSnapshot {
    /// Which.
    pub uid: BatchUid,
    /// The highest epoch seen.
    pub epoch: Epoch,
    /// N, if it is known.
    pub completions: Option<u64>,
    /// Why the executor cannot run, if so.
    pub broken: Option<String>,
    /// The executor can run.
    pub ready: bool,
    /// Ventilators that are here for it.
    pub ventilators: usize,
    /// Where its outcomes go.
    pub collector: String,
    /// The collector takes them.
    pub bound: bool,
    /// Tasks that wait, and the bytes of their payloads.
    pub queued: u64,
    /// See `queued`.
    pub queued_bytes: u64,
    /// Tasks that were handed to the executor.
    pub running: u64,
    /// Outcomes that the collector has not acked, and their bytes.
    pub unacked: u64,
    /// See `unacked`.
    pub unacked_bytes: u64,
}

impl Worker {
    /// What it is now.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            slots: self.slots,
            draining: self.drain.is_some(),
            alone: self.alone.is_some(),
            links: self.sessions.len(),
            batches: self.batches.iter().map(|(uid, batch)| of(*uid, batch)).collect(),
            executed: self.executed,
            waits: self.waits.clone(),
            dropped: self.dropped(),
        }
    }
}

fn of(uid: BatchUid, batch: &Batch) -> BatchSnapshot {
    let (unfinished, queued_bytes) = batch.unfinished();
    let running = batch.running() as u64;
    let (unacked, unacked_bytes) = batch.outcomes.kept_in_all();
    BatchSnapshot {
        uid,
        epoch: batch.epoch,
        completions: batch.completions,
        broken: match &batch.stage {
            Stage::Broken(reason) => Some(reason.clone()),
            Stage::Preparing | Stage::Ready { .. } => None,
        },
        ready: matches!(batch.stage, Stage::Ready { .. }),
        ventilators: batch.doors.len(),
        collector: batch.work.collector.clone(),
        bound: matches!(batch.uplink, Uplink::Bound { .. }),
        queued: unfinished.saturating_sub(running),
        queued_bytes,
        running,
        unacked,
        unacked_bytes,
    }
}
