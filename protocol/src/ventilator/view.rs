//! What others may see of a ventilator: for people, for status and metrics, and for whoever runs its workers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::fleet::{Member, Stage};
use super::{Peer, Resent, Ventilator, WorkersLost};
use crate::ids::{BatchUid, Epoch, ProcessId};
use crate::limits::{FAILURES_TOLD, SPANS_TOLD, WORKERS_TOLD};
use crate::wire::{Counts, Failure, Health, Span};

/// How far a batch is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// N.
    pub completions: u64,
    /// The collector's totals.
    pub counts: Counts,
    /// The collector has said what is settled: before, the counts of what earlier ventilators did are not known.
    pub counted: bool,
    /// It has said how many attempts were charged, too.
    pub charges_counted: bool,
    /// Numbers at workers.
    pub in_flight: u64,
    /// Numbers that may be sent now.
    pub left: u64,
    /// Numbers that wait for their next attempt.
    pub waiting: u64,
    /// Workers that may get tasks.
    pub workers: usize,
    /// Tasks that may be sent to them now, as far as they have granted. With something left to send it should not stay at 0.
    pub credit: u64,
    /// Tasks sent so far, resends included.
    pub dispatched: u64,
    /// Bytes of the payloads sent with them.
    pub payload_bytes: u64,
    /// What became of workers whose link broke.
    pub workers_lost: WorkersLost,
    /// Why numbers were sent again.
    pub resent: Resent,
    /// The epoch; 0 before the claim.
    pub epoch: Epoch,
    /// The collector answers.
    pub collector_ready: bool,
    /// The collector's health.
    pub health: Health,
    /// The lowest number that is not settled: all below it are.
    pub lowest_missing: u64,
    /// The lowest settled ranges above it; there may be more.
    pub settled_above: Vec<Span>,
    /// The lowest ranges that failed for good; there may be more.
    pub failed: Vec<Span>,
    /// The first failures that this ventilator heard of, with their causes; those from before it took over are not among them.
    pub failures: Arc<Vec<Failure>>,
    /// When the number of settled numbers last grew; for stalls. A takeover that finds some counts.
    pub recorded_at: Option<Instant>,
    /// Why the batch is being ended early.
    pub cancelling: Option<String>,
}

impl Progress {
    /// Unsettled numbers without a worker, and those with one. With what is settled they add up to N.
    pub fn pending_and_in_flight(&self) -> (u64, u64) {
        let left = self
            .completions
            .saturating_sub(self.counts.succeeded + self.counts.failed);
        // What is recorded already may be in flight still, as far as the ventilator has heard.
        let in_flight = self.in_flight.min(left);
        (left - in_flight, in_flight)
    }
}

/// How far a ventilator has come with a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum WorkerStage {
    /// There is no link to it.
    Dialling,
    /// It greeted; START waits for the collector's STATE.
    Greeted,
    /// START is sent; what it holds is not known yet.
    Started,
    /// It may get tasks.
    Ready,
    /// It has had no link to the collector for too long: its numbers went elsewhere.
    Unbound,
    /// It refused the batch, or leaves.
    Closed,
}

/// One worker, as its ventilator sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkerView {
    /// Its name, as the host gave it.
    pub name: String,
    /// How far the link has come.
    pub stage: WorkerStage,
    /// The process behind the link.
    pub process_id: Option<ProcessId>,
    /// Numbers in flight there.
    pub in_flight: u64,
    /// Nothing new goes there.
    pub draining: bool,
    /// Its link broke, and what became of its process is not known yet.
    pub suspect: bool,
    /// It has greeted at least once.
    pub greeted: bool,
    /// Numbers that were settled while in flight there, by all processes of this name.
    pub settled: u64,
}

impl WorkerView {
    /// Whether it surely holds nothing of this batch. Together with `draining` that stays so.
    pub fn is_idle(&self) -> bool {
        let known = matches!(self.stage, WorkerStage::Ready | WorkerStage::Closed);
        known && self.in_flight == 0
    }
}

/// The state of a ventilator at one moment, for `/debug/state`. Bounded, however large the batch is.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Snapshot {
    /// The batch.
    pub uid: BatchUid,
    /// Its name.
    pub name: String,
    /// The epoch that is claimed, or about to be.
    pub epoch: Epoch,
    /// The highest epoch that the host has kept.
    pub kept_epoch: Epoch,
    /// N.
    pub completions: u64,
    /// The collector's totals.
    pub counts: Counts,
    /// The lowest number that is not settled.
    pub lowest_missing: u64,
    /// Numbers at workers.
    pub in_flight: u64,
    /// Numbers that may be sent now.
    pub left: u64,
    /// Numbers that wait for their next attempt.
    pub waiting: u64,
    /// Numbers held back until it is clear what became of their worker.
    pub held_back: usize,
    /// Numbers whose payload no worker takes.
    pub unsendable: usize,
    /// Worker processes that may have died.
    pub suspects: usize,
    /// A takeover waits until workers have said what they hold.
    pub locating: bool,
    /// Tasks that may be sent to workers now, as far as they have granted.
    pub credit: u64,
    /// Tasks sent so far, resends included.
    pub dispatched: u64,
    /// Bytes of the payloads sent with them.
    pub payload_bytes: u64,
    /// What became of workers whose link broke.
    pub workers_lost: WorkersLost,
    /// Why numbers were sent again.
    pub resent: Resent,
    /// Messages of an alias that is over, dropped.
    pub stale: u64,
    /// The collector answers.
    pub collector_ready: bool,
    /// The collector's health.
    pub health: Health,
    /// Why the batch is being ended early.
    pub cancelling: Option<String>,
    /// Nothing more is sent.
    pub draining: bool,
    /// Nothing is done any more.
    pub over: bool,
    /// How many workers there are.
    pub worker_count: usize,
    /// The first of them by name.
    pub workers: Vec<WorkerView>,
}

impl Ventilator {
    /// How far the batch is.
    pub fn progress(&self) -> Progress {
        let low = self.settled.low();
        let above = self.settled.spans().skip_while(|span| span.1 < low);
        Progress {
            completions: self.config.completions,
            counts: self.counts,
            counted: self.collector.log_id.is_some(),
            charges_counted: self.charges_counted,
            in_flight: self.in_flight.len(),
            left: self.work.len(),
            waiting: self.work.waiting() as u64,
            workers: self.fleet.ready().count(),
            credit: self.credit(),
            dispatched: self.dispatched,
            payload_bytes: self.payload_bytes,
            workers_lost: self.losses.lost,
            resent: self.resent,
            epoch: self.epoch,
            collector_ready: self.collector.is_ready(),
            health: self.health,
            lowest_missing: low,
            settled_above: above.take(SPANS_TOLD).collect(),
            failed: self.failed.spans().take(SPANS_TOLD).collect(),
            failures: Arc::clone(&self.failures),
            recorded_at: self.recorded_at,
            cancelling: self.cancelling.clone(),
        }
    }

    fn credit(&self) -> u64 {
        self.fleet.ready().map(|(_, member)| member.credit().0).sum()
    }

    /// All workers that the host has named, in the order of their names.
    pub fn workers(&self) -> impl Iterator<Item = WorkerView> {
        let mut members: BTreeMap<&str, &Member> = BTreeMap::new();
        for (link, member) in &self.fleet.members {
            if let Some(Peer::Worker(name)) = self.dialler.key(*link) {
                members.insert(name, member);
            }
        }
        // Many may be lost at once.
        let suspects = self.fleet.suspects();
        self.dialler.keys().filter_map(move |peer| match peer {
            Peer::Worker(name) => {
                let member = members.get(name.as_str()).copied();
                let suspect = member.is_none() && suspects.contains(name.as_str());
                Some(self.worker_view(name, member, suspect))
            }
            Peer::Collector => None,
        })
    }

    fn worker_view(&self, name: &str, member: Option<&Member>, suspect: bool) -> WorkerView {
        let stage = member.map_or(WorkerStage::Dialling, stage);
        let settled = self.fleet.settled.get(name);
        WorkerView {
            name: name.to_owned(),
            stage,
            process_id: member.map(|member| member.process_id),
            in_flight: member.map_or(0, |member| member.in_flight),
            draining: self.fleet.draining.contains(name),
            suspect,
            greeted: settled.is_some(),
            settled: settled.copied().unwrap_or_default(),
        }
    }

    /// The state of this machine, for people.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            uid: self.config.uid,
            name: self.config.name.clone(),
            epoch: self.epoch,
            kept_epoch: self.collector.kept_epoch(),
            completions: self.config.completions,
            counts: self.counts,
            lowest_missing: self.settled.low(),
            in_flight: self.in_flight.len(),
            left: self.work.len(),
            waiting: self.work.waiting() as u64,
            held_back: self.losses.held_back.len(),
            unsendable: self.unsendable.len(),
            suspects: self.fleet.suspicions.len(),
            locating: self.locate.is_some(),
            credit: self.credit(),
            dispatched: self.dispatched,
            payload_bytes: self.payload_bytes,
            workers_lost: self.losses.lost,
            resent: self.resent,
            stale: self.stale,
            collector_ready: self.collector.is_ready(),
            health: self.health,
            cancelling: self.cancelling.clone(),
            draining: self.draining,
            over: self.over,
            worker_count: self.workers().count(),
            workers: self.workers().take(WORKERS_TOLD).collect(),
        }
    }

    /// Keeps the first failures, for people.
    pub(super) fn note_failures(&mut self, failures: &[Failure]) {
        let room = FAILURES_TOLD.saturating_sub(self.failures.len());
        if room == 0 || failures.is_empty() {
            return;
        }
        let kept = Arc::make_mut(&mut self.failures);
        for failure in failures {
            let known = kept.iter().any(|known| known.number == failure.number);
            if !known && kept.len() < FAILURES_TOLD {
                kept.push(failure.clone());
            }
        }
    }
}

/// How far a ventilator has come with a worker that has greeted.
pub(super) fn stage(member: &Member) -> WorkerStage {
    match member.stage {
        Stage::Greeted => WorkerStage::Greeted,
        Stage::Started => WorkerStage::Started,
        Stage::Ready if member.unbound => WorkerStage::Unbound,
        Stage::Ready => WorkerStage::Ready,
        Stage::Closed => WorkerStage::Closed,
    }
}
