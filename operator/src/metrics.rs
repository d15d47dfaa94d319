//! What the operator shows of itself and of the batches that it leads.

use harmony_admin::Metrics;
use harmony_api::status::HarmonyBatchStatus;
use harmony_protocol::ventilator::{Progress, Snapshot as Machine};
use harmony_ventilator::observe::{Labels, Times, observe_batch, observe_fleet, observe_info, observe_times, with};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use prometheus::{Histogram, HistogramOpts, IntCounter, IntGauge, Opts, Registry};
use serde::Serialize;

use crate::fleet::EndReason;
use crate::leader::Role;
use crate::queue::Queue;
use crate::statuses::{Said, Statuses};
use crate::ventilators::{BatchKey, VentilatorState, Ventilators};

/// What is counted as it happens.
pub(crate) struct Counters {
    /// Patches of statuses.
    pub(crate) status_patches: IntCounter,
    /// Passes over batches.
    pub(crate) reconciles: IntCounter,
    /// Passes that were broken off.
    pub(crate) reconcile_errors: IntCounter,
    /// Watches that broke or could not be opened; they are opened again.
    pub(crate) watch_errors: IntCounter,
    /// The batches that wait for one.
    pub(crate) queue: Queue,
    /// Passes that are under way.
    pub(crate) reconciling: IntGauge,
    /// How long passes take, waiting for the API server included.
    pub(crate) reconcile_duration: Histogram,
}

impl Counters {
    /// All at 0, in a registry.
    pub(crate) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let counter = |name: &str, help: &str| {
            let counter = IntCounter::with_opts(Opts::new(name, help))?;
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, prometheus::Error>(counter)
        };
        let duration = Histogram::with_opts(HistogramOpts::new(
            "harmony_operator_reconcile_duration_seconds",
            "How long passes over batches take.",
        ))?;
        registry.register(Box::new(duration.clone()))?;
        let reconciling = IntGauge::new(
            "harmony_operator_reconciles_active",
            "Passes over batches that are under way.",
        )?;
        registry.register(Box::new(reconciling.clone()))?;
        Ok(Self {
            reconcile_duration: duration,
            reconciling,
            queue: Queue::register(registry)?,
            watch_errors: counter(
                "harmony_operator_watch_errors_total",
                "Watches of batches and pods that broke or could not be opened; they are opened again.",
            )?,
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
    #[serde(skip)]
    said: Vec<Said>,
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
    pub(crate) async fn take(role: Role, ventilators: &Ventilators, statuses: &Statuses) -> Self {
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
            said: statuses.all(),
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
        for said in &self.said {
            observe_status(metrics, said);
        }
        for batch in &self.batches {
            let labels = [("namespace", batch.namespace.as_str()), ("batch", batch.name.as_str())];
            match &batch.state {
                Some(VentilatorState::Running(running)) => {
                    observe_batch(metrics, labels, &running.progress);
                    observe_fleet(metrics, labels, &running.progress, &running.workers, &running.links);
                }
                Some(VentilatorState::Done { progress, .. }) => observe_batch(metrics, labels, progress),
                _ => {}
            }
            if let Some(progress) = &batch.stopped_at {
                observe_batch(metrics, labels, progress);
            }
        }
    }
}

/// What the status says, as kube-state-metrics shows conditions and times.
fn observe_status(metrics: &mut Metrics, said: &Said) {
    let labels = [
        ("namespace", said.key.namespace.as_str()),
        ("batch", said.key.name.as_str()),
    ];
    observe_info(metrics, labels, said.executor);
    for condition in &said.status.conditions {
        for status in ["true", "false", "unknown"] {
            let [namespace, batch, condition_label] = with(labels, "condition", &condition.type_);
            let holds = condition.status.eq_ignore_ascii_case(status);
            metrics.gauge(
                "harmony_batch_status_condition",
                "1 for the status that the condition has, 0 for the others.",
                &[namespace, batch, condition_label, ("status", status)],
                u64::from(holds),
            );
        }
    }
    observe_failed_pods(metrics, labels, &said.status);
    observe_times(metrics, labels, &times(said));
}

fn observe_failed_pods(metrics: &mut Metrics, labels: Labels<'_>, status: &HarmonyBatchStatus) {
    let failures = status.pod_failures.as_ref();
    for reason in EndReason::FAILURES.map(EndReason::name) {
        let count = failures.and_then(|failures| failures.reasons.get(reason)).copied();
        metrics.counter(
            "harmony_worker_pods_failed_total",
            "Worker pods that failed, by why.",
            &with(labels, "reason", reason),
            count.unwrap_or_default().into(),
        );
    }
}

fn times(said: &Said) -> Times {
    let seconds = |time: &Option<Time>| u64::try_from(time.as_ref()?.0.as_second()).ok();
    let status = &said.status;
    let started = seconds(&status.start_time);
    let deadline = started.zip(said.active_deadline);
    Times {
        started,
        deadline: deadline.map(|(started, allowed)| started.saturating_add(allowed)),
        completed: seconds(&status.completion_time),
        estimated: seconds(&status.estimated_completion_time),
    }
}

#[cfg(test)]
mod tests;
