//! What the operator shows of itself and of the batches that it leads.

use harmony_admin::Metrics;
use harmony_protocol::ventilator::{Progress, Snapshot as Machine, WorkerStage, WorkerView};
use prometheus::{IntCounter, Opts, Registry};
use serde::Serialize;

use crate::leader::Role;
use crate::ventilators::{BatchKey, VentilatorState, Ventilators};

/// What is counted as it happens.
pub(crate) struct Counters {
    /// Patches of statuses.
    pub(crate) status_patches: IntCounter,
    /// Passes over batches.
    pub(crate) reconciles: IntCounter,
    /// Passes that were broken off.
    pub(crate) reconcile_errors: IntCounter,
}

impl Counters {
    /// All at 0, in a registry.
    pub(crate) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let counter = |name: &str, help: &str| {
            let counter = IntCounter::with_opts(Opts::new(name, help))?;
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, prometheus::Error>(counter)
        };
        Ok(Self {
            status_patches: counter("harmony_status_patches_total", "Patches of batches' statuses.")?,
            reconciles: counter("harmony_operator_reconciles_total", "Passes over batches.")?,
            reconcile_errors: counter(
                "harmony_operator_reconcile_errors_total",
                "Passes over batches that were broken off.",
            )?,
        })
    }
}

/// The operator at one moment.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Snapshot {
    leader: bool,
    batches: Vec<Batch>,
}

/// One batch that has a ventilator here, or had one.
#[derive(Serialize)]
struct Batch {
    namespace: String,
    name: String,
    ventilator: Option<Machine>,
    #[serde(skip)]
    state: Option<VentilatorState>,
    #[serde(skip)]
    stopped_at: Option<Progress>,
}

impl Snapshot {
    /// Asks every ventilator. One that does not answer is stuck, and so is this.
    pub(crate) async fn take(role: Role, ventilators: &Ventilators) -> Self {
        let mut batches = Vec::new();
        for (uid, BatchKey { namespace, name }) in ventilators.keys() {
            batches.push(Batch {
                namespace,
                name,
                ventilator: ventilators.snapshot(uid).await,
                state: ventilators.state(uid),
                stopped_at: None,
            });
        }
        for (BatchKey { namespace, name }, progress) in ventilators.stopped_at() {
            batches.push(Batch {
                namespace,
                name,
                ventilator: None,
                state: None,
                stopped_at: Some(progress),
            });
        }
        Self {
            leader: role == Role::Leader,
            batches,
        }
    }
}

impl harmony_admin::Snapshot for Snapshot {
    fn observe(&self, metrics: &mut Metrics) {
        metrics.gauge(
            "harmony_operator_leader",
            "1 while this operator leads.",
            &[],
            u64::from(self.leader),
        );
        for batch in &self.batches {
            let labels = [("namespace", batch.namespace.as_str()), ("batch", batch.name.as_str())];
            match &batch.state {
                Some(VentilatorState::Running(running)) => {
                    observe_progress(metrics, labels, &running.progress);
                    observe_workers(metrics, labels, &running.workers);
                }
                Some(VentilatorState::Done { progress, .. }) => observe_progress(metrics, labels, progress),
                _ => {}
            }
            if let Some(progress) = &batch.stopped_at {
                observe_progress(metrics, labels, progress);
            }
        }
    }
}

type Labels<'a> = [(&'a str, &'a str); 2];

fn with<'a>(labels: Labels<'a>, name: &'a str, value: &'a str) -> [(&'a str, &'a str); 3] {
    let [namespace, batch] = labels;
    [namespace, batch, (name, value)]
}

fn observe_progress(metrics: &mut Metrics, labels: Labels<'_>, progress: &Progress) {
    let counts = &progress.counts;
    let (pending, in_flight) = progress.pending_and_in_flight();
    metrics.gauge(
        "harmony_batch_completions",
        "Tasks of the batch.",
        &labels,
        progress.completions,
    );
    for (state, count) in [
        ("pending", pending),
        ("in_flight", in_flight),
        ("succeeded", counts.succeeded),
        ("failed", counts.failed),
    ] {
        let help = "Tasks by state; they add up to harmony_batch_completions.";
        metrics.gauge("harmony_batch_tasks", help, &with(labels, "state", state), count);
    }
    let help = "Tasks sent to workers, resends included, since this operator leads the batch.";
    metrics.counter("harmony_tasks_dispatched_total", help, &labels, progress.dispatched);
    for (result, count) in [
        ("succeeded", counts.succeeded),
        ("failed", counts.failed),
        ("retried", counts.charged.saturating_sub(counts.failed)),
    ] {
        let help = "Attempts recorded by their result; failed ones are final, retried ones were tried again.";
        metrics.counter(
            "harmony_tasks_finished_total",
            help,
            &with(labels, "result", result),
            count,
        );
    }
    let resent = &progress.resent;
    for (reason, count) in [
        ("worker_lost", resent.worker_lost),
        ("missing_at_collector", resent.missing_at_collector),
        ("retry", resent.retry),
        ("returned", resent.returned),
        ("unbound", resent.unbound),
    ] {
        let help = "Tasks sent again by why, since this operator leads the batch.";
        metrics.counter(
            "harmony_tasks_resent_total",
            help,
            &with(labels, "reason", reason),
            count,
        );
    }
}

fn observe_workers(metrics: &mut Metrics, labels: Labels<'_>, workers: &[WorkerView]) {
    for state in ["connecting", "idle", "busy", "draining"] {
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
        _ => "connecting",
    }
}
