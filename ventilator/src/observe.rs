//! What the ventilator of a batch shows, wherever it is hosted.

use std::time::SystemTime;

use harmony_admin::{Metrics, observe_links};
use harmony_protocol::ventilator::{Progress, WorkerStage, WorkerView};
use harmony_transport::Counters;

/// Namespace and name of the batch.
pub type Labels<'a> = [(&'a str, &'a str); 2];

/// The labels of a batch and one more.
pub fn with<'a>(labels: Labels<'a>, name: &'a str, value: &'a str) -> [(&'a str, &'a str); 3] {
    let [namespace, batch] = labels;
    [namespace, batch, (name, value)]
}

/// What the batch is.
pub fn observe_info(metrics: &mut Metrics, labels: Labels<'_>, executor: &str) {
    let help = "1, labelled by what runs the tasks.";
    metrics.gauge("harmony_batch_info", help, &with(labels, "executor", executor), 1);
}

/// Times of a batch in seconds since 1970, as far as there are any.
#[derive(Clone, Copy, Debug, Default)]
pub struct Times {
    /// When it was started or resumed.
    pub started: Option<u64>,
    /// When it fails by its deadline.
    pub deadline: Option<u64>,
    /// When it was complete.
    pub completed: Option<u64>,
    /// When it would be complete if it went on as fast as now.
    pub estimated: Option<u64>,
}

/// Times that are compared with `time()`.
pub fn observe_times(metrics: &mut Metrics, labels: Labels<'_>, times: &Times) {
    for (name, help, time) in [
        (
            "harmony_batch_start_timestamp_seconds",
            "When the batch was started or resumed.",
            times.started,
        ),
        (
            "harmony_batch_deadline_timestamp_seconds",
            "When the batch fails by activeDeadlineSeconds.",
            times.deadline,
        ),
        (
            "harmony_batch_completion_timestamp_seconds",
            "When the batch was complete.",
            times.completed,
        ),
        (
            "harmony_batch_estimated_completion_timestamp_seconds",
            "When the batch would be complete if it went on as fast as now.",
            times.estimated,
        ),
    ] {
        if let Some(time) = time {
            metrics.gauge(name, help, &labels, time);
        }
    }
}

/// What is there only while the ventilator runs.
pub fn observe_fleet(
    metrics: &mut Metrics,
    labels: Labels<'_>,
    progress: &Progress,
    workers: &[WorkerView],
    links: &Counters,
) {
    observe_pace(metrics, labels, progress);
    observe_workers(metrics, labels, workers);
    metrics.gauge(
        "harmony_worker_credit",
        "Tasks that workers are ready to take now; at 0 with tasks pending for long, nothing moves.",
        &labels,
        progress.credit,
    );
    observe_links(metrics, &labels, links);
}

/// What is known of a batch, whether or not its ventilator still runs.
pub fn observe_batch(metrics: &mut Metrics, labels: Labels<'_>, progress: &Progress) {
    metrics.gauge(
        "harmony_batch_completions",
        "Tasks of the batch.",
        &labels,
        progress.completions,
    );
    observe_counts(metrics, labels, progress);
    let help = "Tasks sent to workers, resends included, since this ventilator serves the batch.";
    metrics.counter("harmony_tasks_dispatched_total", help, &labels, progress.dispatched);
    let help = "Bytes of payloads to workers, and of outputs and logs to the collector.";
    let direction = with(labels, "direction", "to_workers");
    metrics.counter(
        "harmony_task_payload_bytes_total",
        help,
        &direction,
        progress.payload_bytes,
    );
    observe_resent(metrics, labels, progress);
    observe_lost(metrics, labels, progress);
}

/// Nothing before the collector has said what is settled: a count that begins at 0 again would look like tasks that were
/// undone, and then like very many that are done at once.
fn observe_counts(metrics: &mut Metrics, labels: Labels<'_>, progress: &Progress) {
    if !progress.counted {
        return;
    }
    let counts = &progress.counts;
    let (pending, in_flight) = progress.pending_and_in_flight();
    for (state, count) in [
        ("pending", pending),
        ("in_flight", in_flight),
        ("succeeded", counts.succeeded),
        ("failed", counts.failed),
    ] {
        let help = "Tasks by state; they add up to harmony_batch_completions.";
        metrics.gauge("harmony_batch_tasks", help, &with(labels, "state", state), count);
    }
    let retried = counts.charged.saturating_sub(counts.failed);
    for (result, count) in [
        ("succeeded", Some(counts.succeeded)),
        ("failed", Some(counts.failed)),
        ("retried", progress.charges_counted.then_some(retried)),
    ] {
        let help = "Attempts recorded by their result; failed ones are final, retried ones were tried again.";
        if let Some(count) = count {
            metrics.counter(
                "harmony_tasks_finished_total",
                help,
                &with(labels, "result", result),
                count,
            );
        }
    }
}

fn observe_resent(metrics: &mut Metrics, labels: Labels<'_>, progress: &Progress) {
    let resent = &progress.resent;
    for (reason, count) in [
        ("worker_lost", resent.worker_lost),
        ("missing_at_collector", resent.missing_at_collector),
        ("retry", resent.retry),
        ("returned", resent.returned),
        ("unbound", resent.unbound),
    ] {
        let help = "Tasks sent again by why, since this ventilator serves the batch.";
        metrics.counter(
            "harmony_tasks_resent_total",
            help,
            &with(labels, "reason", reason),
            count,
        );
    }
}

fn observe_lost(metrics: &mut Metrics, labels: Labels<'_>, progress: &Progress) {
    let lost = &progress.workers_lost;
    for (reason, count) in [
        ("exited", lost.exited),
        ("disrupted", lost.disrupted),
        ("replaced", lost.replaced),
        ("gone", lost.gone),
        ("reconnected", lost.reconnected),
    ] {
        let help = "Workers whose link broke, by what became of them, since this ventilator serves the batch.";
        metrics.counter(
            "harmony_workers_lost_total",
            help,
            &with(labels, "reason", reason),
            count,
        );
    }
}

/// A time that is compared with `time()`.
fn observe_pace(metrics: &mut Metrics, labels: Labels<'_>, progress: &Progress) {
    let recorded = progress.recorded_at.and_then(|at| {
        let recorded = SystemTime::now().checked_sub(at.elapsed())?;
        recorded.duration_since(SystemTime::UNIX_EPOCH).ok()
    });
    if let Some(recorded) = recorded {
        let help = "When a task was recorded last.";
        metrics.gauge(
            "harmony_batch_last_progress_timestamp_seconds",
            help,
            &labels,
            recorded.as_secs(),
        );
    }
}

fn observe_workers(metrics: &mut Metrics, labels: Labels<'_>, workers: &[WorkerView]) {
    for state in ["connecting", "idle", "busy", "draining", "suspect"] {
        let count = workers.iter().filter(|worker| state_of(worker) == state).count();
        metrics.gauge(
            "harmony_workers",
            "Workers by state.",
            &with(labels, "state", state),
            count as u64,
        );
    }
}

fn state_of(worker: &WorkerView) -> &'static str {
    match worker.stage {
        WorkerStage::Ready if worker.draining => "draining",
        WorkerStage::Ready if worker.in_flight > 0 => "busy",
        WorkerStage::Ready => "idle",
        WorkerStage::Dialling if worker.suspect => "suspect",
        _ => "connecting",
    }
}
