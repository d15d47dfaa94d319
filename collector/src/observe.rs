//! What a collector shows of itself.

use harmony_admin::Metrics;
use harmony_protocol::collector;
use prometheus::{Histogram, HistogramOpts, Registry};
use serde::Serialize;

/// Seconds that an fsync takes: from a good SSD to a disk on which a batch stands still.
const FLUSH_SECONDS: [f64; 12] = [
    0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5, 10.0,
];

/// What is measured as it happens.
pub(crate) struct Measures {
    pub(crate) registry: Registry,
    /// How long each fsync took.
    pub(crate) flush: Histogram,
}

impl Measures {
    pub(crate) fn new() -> Result<Self, prometheus::Error> {
        let help = "How long it took to make records durable.";
        let options = HistogramOpts::new("harmony_collector_flush_duration_seconds", help);
        let flush = Histogram::with_opts(options.buckets(FLUSH_SECONDS.to_vec()))?;
        let registry = Registry::new();
        registry.register(Box::new(flush.clone()))?;
        Ok(Self { registry, flush })
    }
}

/// A collector at one moment.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Snapshot {
    pub(crate) collector: String,
    #[serde(flatten)]
    pub(crate) machine: collector::Snapshot,
    /// Bytes of the logs that are open.
    pub(crate) log_bytes: u64,
}

impl harmony_admin::Snapshot for Snapshot {
    fn observe(&self, metrics: &mut Metrics) {
        let batches = &self.machine.batches;
        let sum = |part: fn(&collector::BatchSnapshot) -> u64| batches.iter().map(part).sum::<u64>();
        for (state, tasks) in [
            ("succeeded", sum(|batch| batch.counts.succeeded)),
            ("failed", sum(|batch| batch.counts.failed)),
        ] {
            let help = "Tasks with a durable outcome, in the logs that are open here.";
            metrics.gauge("harmony_collector_tasks", help, &[("state", state)], tasks);
        }
        let full = batches.iter().filter(|batch| batch.disk_full).count() as u64;
        for (name, help, value) in [
            (
                "harmony_collector_batches",
                "Batches whose logs are open.",
                batches.len() as u64,
            ),
            (
                "harmony_collector_disk_full",
                "Batches whose recording waits for room on the disk.",
                full,
            ),
            (
                "harmony_collector_unflushed_bytes",
                "Bytes of records that are not durable yet.",
                sum(|batch| batch.unflushed_bytes),
            ),
            (
                "harmony_log_size_bytes",
                "Bytes of the logs that are open.",
                self.log_bytes,
            ),
            ("harmony_links", "Links of this process.", self.machine.links as u64),
        ] {
            metrics.gauge(name, help, &[], value);
        }
        self.count(metrics);
    }
}

impl Snapshot {
    fn count(&self, metrics: &mut Metrics) {
        let machine = &self.machine;
        for (name, help, value) in [
            (
                "harmony_task_results_duplicate_total",
                "Outcomes of tasks that had one already: the price of sending again.",
                machine.duplicates,
            ),
            (
                "harmony_task_results_differing_total",
                "Duplicates that differ from what is recorded: tasks that are not idempotent.",
                machine.differing,
            ),
        ] {
            metrics.counter(name, help, &[], value);
        }
        let dropped = &machine.dropped;
        for (reason, messages) in [
            ("unknown_alias", dropped.unknown_alias),
            ("stale_epoch", dropped.stale_epoch),
            ("malformed", dropped.malformed),
        ] {
            let help = "Messages that were refused or dropped.";
            metrics.counter("harmony_messages_dropped_total", help, &[("reason", reason)], messages);
        }
    }
}
