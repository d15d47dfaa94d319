//! What a collector shows of itself.

use harmony_admin::{Metrics, observe_links};
use harmony_protocol::collector;
use harmony_transport::Counters;
use prometheus::{Gauge, Histogram, HistogramOpts, Registry};
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
    /// How long the last log took to open.
    pub(crate) replay: Gauge,
}

impl Measures {
    pub(crate) fn new() -> Result<Self, prometheus::Error> {
        let help = "How long it took to make records durable.";
        let options = HistogramOpts::new("harmony_collector_flush_duration_seconds", help);
        let flush = Histogram::with_opts(options.buckets(FLUSH_SECONDS.to_vec()))?;
        let replay = Gauge::new(
            "harmony_log_replay_duration_seconds",
            "How long the log that was opened last took to be read.",
        )?;
        let registry = Registry::new();
        registry.register(Box::new(replay.clone()))?;
        registry.register(Box::new(flush.clone()))?;
        Ok(Self {
            registry,
            flush,
            replay,
        })
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
    #[serde(skip)]
    pub(crate) links: Counters,
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
                "harmony_collector_reading_back",
                "Batches whose records are being read back and checked before they are done.",
                batches.iter().filter(|batch| batch.reading_back).count() as u64,
            ),
            (
                "harmony_collector_unflushed_results",
                "Tasks whose outcome is not durable yet: they run again if the collector dies now.",
                sum(|batch| batch.unflushed),
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
        ] {
            metrics.gauge(name, help, &[], value);
        }
        observe_links(metrics, &[], &self.links);
        self.count(metrics);
        observe_tally(metrics, &self.machine.tally);
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

fn observe_tally(metrics: &mut Metrics, tally: &collector::Tally) {
    metrics.durations(
        "harmony_task_duration_seconds",
        "How long recorded attempts ran.",
        &[],
        &tally.durations,
    );
    for (reason, tasks) in &tally.failed {
        let help = "Tasks that failed for good since this collector started, by what became of their last attempt.";
        metrics.counter("harmony_tasks_failed_total", help, &[("reason", reason)], *tasks);
    }
    let help = "Bytes of payloads to workers, and of outputs and logs to the collector.";
    let direction = [("direction", "to_collector")];
    metrics.counter("harmony_task_payload_bytes_total", help, &direction, tally.bytes);
}
