//! What a worker shows of itself.

use harmony_admin::{Metrics, observe_links};
use harmony_protocol::worker;
use harmony_transport::Counters;
use serde::Serialize;

/// A worker at one moment.
#[derive(Debug, Serialize)]
pub(crate) struct Snapshot {
    pub(crate) worker: String,
    #[serde(flatten)]
    pub(crate) machine: worker::Snapshot,
    #[serde(skip)]
    pub(crate) links: Counters,
}

impl harmony_admin::Snapshot for Snapshot {
    fn observe(&self, metrics: &mut Metrics) {
        let machine = &self.machine;
        let sum = |part: fn(&worker::BatchSnapshot) -> u64| machine.batches.iter().map(part).sum::<u64>();
        let (queued, running, unacked) = (sum(|b| b.queued), sum(|b| b.running), sum(|b| b.unacked));
        // An executor that reads ahead holds more than runs.
        let busy = running.min(machine.slots.into());
        let slots = "Slots of this worker.";
        metrics.gauge("harmony_worker_slots", slots, &[("state", "busy")], busy);
        let idle = u64::from(machine.slots) - busy;
        metrics.gauge("harmony_worker_slots", slots, &[("state", "idle")], idle);
        for (state, tasks) in [("queued", queued), ("running", running), ("unacked", unacked)] {
            let help = "Tasks held by this worker: waiting, handed to the executor, done and not acknowledged yet.";
            metrics.gauge("harmony_worker_tasks", help, &[("state", state)], tasks);
        }
        let bytes = sum(|batch| batch.unacked_bytes);
        metrics.gauge(
            "harmony_worker_unacked_bytes",
            "Bytes of unacknowledged outcomes.",
            &[],
            bytes,
        );
        for (state, bound) in [("bound", true), ("unbound", false)] {
            let batches = machine.batches.iter().filter(|batch| batch.bound == bound).count() as u64;
            let help = "Batches at this worker, by whether their collector takes outcomes.";
            metrics.gauge("harmony_worker_batches", help, &[("state", state)], batches);
        }
        observe_links(metrics, &[], &self.links);
        self.count(metrics);
    }

    fn unready(&self) -> Option<String> {
        if self.machine.draining {
            return Some("this worker leaves".to_owned());
        }
        let broken = self.machine.batches.iter().find_map(|batch| batch.broken.as_ref());
        broken.map(|reason| format!("the executor cannot run: {reason}"))
    }
}

impl Snapshot {
    fn count(&self, metrics: &mut Metrics) {
        metrics.durations(
            "harmony_task_wait_seconds",
            "How long tasks waited at this worker before they were handed to the executor.",
            &[],
            &self.machine.waits,
        );
        let executed = &self.machine.executed;
        for (result, tasks) in [
            ("succeeded", executed.succeeded),
            ("failed", executed.failed),
            ("stopped", executed.stopped),
        ] {
            let help = "Attempts that ended here. Which of them count, the collector decides.";
            metrics.counter("harmony_worker_attempts_total", help, &[("result", result)], tasks);
        }
        let dropped = &self.machine.dropped;
        for (reason, messages) in [
            ("stale_epoch", dropped.stale_epoch),
            ("out_of_range", dropped.out_of_range),
            ("malformed", dropped.malformed),
        ] {
            let help = "Messages, or tasks in them, that were refused or dropped.";
            metrics.counter("harmony_messages_dropped_total", help, &[("reason", reason)], messages);
        }
    }
}
