//! Last step: what is seen becomes the status. Pure but for [`patch`].

use std::time::Duration;

use harmony_api::conditions::{
    COLLECTOR_READY, COMPLETE, FAILED, FAILURE_TARGET, PROGRESSING, READY, RESULTS_AVAILABLE, STALLED,
    SUCCESS_CRITERIA_MET, SUSPENDED, WORKERS_READY, reason,
};
use harmony_api::conventions::OPERATOR;
use harmony_api::spec::HarmonyBatch;
use harmony_api::status::{CollectorRef, HarmonyBatchStatus, PodFailures};
use harmony_protocol::ventilator::Progress;
use harmony_protocol::wire::Health;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{Api, Patch, PatchParams};
use kube::{Resource as _, ResourceExt as _};
use serde_json::json;

use super::collector::CollectorPod;
use super::conditions::Conditions;
use super::counts;
use super::stage::{Stage, Verdict};
use super::trouble::Trouble;
use crate::fleet::WorkerPod;

/// The longest time left that is told, in seconds: beyond ten years it says nothing.
const MAX_LEFT: f64 = 315_360_000.0;

/// What a status is made of.
pub(crate) struct Observed<'a> {
    /// The wall clock.
    pub(crate) now: Timestamp,
    /// The generation of the spec that was reconciled.
    pub(crate) generation: Option<i64>,
    /// The status as it was written last.
    pub(crate) before: &'a HarmonyBatchStatus,
    /// Where the batch stands now.
    pub(crate) stage: &'a Stage,
    /// Workers that there should be.
    pub(crate) wanted: u32,
    /// What finds the worker pods.
    pub(crate) selector: &'a str,
    /// The worker pods.
    pub(crate) workers: &'a [WorkerPod],
    /// The collector's pod, and its name.
    pub(crate) collector: (&'a CollectorPod, &'a str),
    /// Whether the results are on a claim, which outlives the pod.
    pub(crate) has_claim: bool,
    /// What the ventilator says, if it has heard from the collector.
    pub(crate) progress: Option<&'a Progress>,
    /// Resends that earlier ventilators of this batch counted.
    pub(crate) resent_before: u64,
    /// Tasks per second.
    pub(crate) rate: f64,
    /// The hash of the tasks, once they are read.
    pub(crate) digest: Option<String>,
    /// What keeps the batch from going on.
    pub(crate) trouble: Option<&'a Trouble>,
    /// What keeps some workers from being there, while others work.
    pub(crate) fleet_trouble: Option<&'a Trouble>,
    /// Nothing was recorded for so long, which is longer than the batch allows.
    pub(crate) stuck_for: Option<Duration>,
    /// How worker pods failed.
    pub(crate) failures: &'a PodFailures,
}

/// The status.
pub(crate) fn status(observed: &Observed<'_>) -> HarmonyBatchStatus {
    let mut status = observed.before.clone();
    status.observed_generation = observed.generation;
    status.conditions = conditions(observed);
    status.state = Some(state(observed).to_owned());
    status.selector = Some(observed.selector.to_owned());
    times(&mut status, observed);
    pods(&mut status, observed);
    counts::fill(&mut status, observed.progress, observed.resent_before);
    pace(&mut status, observed);
    let failures = observed.failures;
    status.pod_failures = (*failures != PodFailures::default()).then(|| failures.clone());
    if observed.digest.is_some() {
        status.tasks_digest.clone_from(&observed.digest);
    }
    status
}

fn times(status: &mut HarmonyBatchStatus, observed: &Observed<'_>) {
    match observed.stage {
        Stage::Active => {
            status.start_time.get_or_insert(Time(observed.now));
        }
        // As in a Job: the deadline's clock begins anew when the batch is resumed.
        Stage::Suspended => status.start_time = None,
        Stage::Finished(verdict) if verdict.complete => {
            status.completion_time.get_or_insert(Time(observed.now));
        }
        Stage::Ending(_) | Stage::Finished(_) => {}
    }
}

fn pods(status: &mut HarmonyBatchStatus, observed: &Observed<'_>) {
    let alive = || observed.workers.iter().filter(|pod| pod.ended.is_none());
    let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    status.active = number(alive().filter(|pod| pod.terminating.is_none()).count());
    status.ready = number(alive().filter(|pod| pod.terminating.is_none() && pod.ready).count());
    status.terminating = number(alive().filter(|pod| pod.terminating.is_some()).count());
    if let (CollectorPod::Running { uid, .. }, name) = observed.collector {
        let finished = matches!(observed.stage, Stage::Finished(_));
        // After the end it says where the results are, or were.
        if !finished || observed.has_claim || status.collector_ref.is_none() {
            status.collector_ref = Some(CollectorRef {
                name: name.to_owned(),
                uid: uid.clone(),
            });
        }
    }
}

fn pace(status: &mut HarmonyBatchStatus, observed: &Observed<'_>) {
    let runs = *observed.stage == Stage::Active && observed.progress.is_some();
    status.throughput_per_second = runs.then(|| format!("{:.1}", observed.rate));
    let left = status.tasks.map_or(0, |tasks| tasks.pending + tasks.in_flight);
    #[allow(clippy::cast_precision_loss)] // an estimate
    let seconds = left as f64 / observed.rate;
    status.estimated_completion_time = (runs && seconds.is_finite() && seconds < MAX_LEFT)
        .then(|| observed.now.checked_add(SignedDuration::from_secs_f64(seconds)).ok())
        .flatten()
        .map(Time);
}

fn state(observed: &Observed<'_>) -> &'static str {
    match observed.stage {
        Stage::Finished(Verdict { complete: true, .. }) => "Complete",
        Stage::Finished(_) => "Failed",
        Stage::Ending(Verdict { complete: true, .. }) => "Completing",
        Stage::Ending(_) => "Failing",
        Stage::Suspended => "Suspended",
        Stage::Active if observed.trouble.is_some() || observed.stuck_for.is_some() => "Stuck",
        Stage::Active if observed.progress.is_some() => "Running",
        Stage::Active => "Starting",
    }
}

fn conditions(observed: &Observed<'_>) -> Vec<k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition> {
    let mut conditions = Conditions::new(&observed.before.conditions, observed.generation, observed.now);
    match observed.stage {
        Stage::Active => conditions.clear(SUSPENDED, reason::RESUMED, "spec.suspend is no longer set"),
        Stage::Suspended => conditions.set(SUSPENDED, true, reason::SUSPENDED, "spec.suspend is set"),
        Stage::Ending(verdict) => end(&mut conditions, verdict, SUCCESS_CRITERIA_MET, FAILURE_TARGET),
        Stage::Finished(verdict) => {
            end(&mut conditions, verdict, SUCCESS_CRITERIA_MET, FAILURE_TARGET);
            end(&mut conditions, verdict, COMPLETE, FAILED);
        }
    }
    let collector = collector_ready(observed);
    let workers = workers_ready(observed);
    let progressing = progressing(observed);
    let ready = ready(observed, collector.holds && workers.holds);
    for (kind, told) in [
        (COLLECTOR_READY, &collector),
        (WORKERS_READY, &workers),
        (PROGRESSING, &progressing),
        (READY, &ready),
    ] {
        conditions.set(kind, told.holds, told.reason, &told.message);
    }
    let failed = matches!(observed.stage, Stage::Finished(verdict) if !verdict.complete);
    let stalled = if failed { reason::FINISHED } else { reason::AS_DESIRED };
    conditions.set(STALLED, failed, stalled, "");
    if let Some(told) = results_available(observed) {
        conditions.set(RESULTS_AVAILABLE, told.holds, told.reason, &told.message);
    }
    conditions.into_list()
}

fn end(conditions: &mut Conditions, verdict: &Verdict, complete: &str, failed: &str) {
    let kind = if verdict.complete { complete } else { failed };
    conditions.set(kind, true, &verdict.reason, &verdict.message);
}

/// What a condition says.
struct Told {
    holds: bool,
    reason: &'static str,
    message: String,
}

impl Told {
    fn new(holds: bool, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            holds,
            reason,
            message: message.into(),
        }
    }

    fn trouble(trouble: &Trouble) -> Self {
        Self::new(false, trouble.reason, &trouble.message)
    }
}

fn collector_ready(observed: &Observed<'_>) -> Told {
    if let Some(trouble) = Trouble::of_collector(observed.collector.0) {
        return Told::trouble(&trouble);
    }
    match (observed.collector.0, observed.progress) {
        (CollectorPod::Running { .. }, Some(progress)) if progress.health == Health::DiskFull => Told::new(
            false,
            reason::COLLECTOR_DISK_FULL,
            "recording pauses until there is room on the collector's disk",
        ),
        (CollectorPod::Running { .. }, Some(_)) => Told::new(true, reason::RUNNING, ""),
        (CollectorPod::Running { ready: true, .. }, None) if *observed.stage != Stage::Active => {
            Told::new(true, reason::RUNNING, "")
        }
        (CollectorPod::Running { .. } | CollectorPod::Starting, None) if *observed.stage == Stage::Active => {
            Told::new(false, reason::STARTING, "the collector has not answered yet")
        }
        (CollectorPod::Absent, _) if *observed.stage == Stage::Suspended => Told::new(false, reason::SUSPENDED, ""),
        (CollectorPod::Absent, _) if matches!(observed.stage, Stage::Finished(_)) => {
            Told::new(false, reason::FINISHED, "the collector's pod is gone")
        }
        _ => Told::new(false, reason::STARTING, "the collector's pod is on its way"),
    }
}

fn workers_ready(observed: &Observed<'_>) -> Told {
    match observed.stage {
        Stage::Suspended => return Told::new(false, reason::SUSPENDED, ""),
        Stage::Ending(_) | Stage::Finished(_) => return Told::new(false, reason::FINISHED, ""),
        Stage::Active => {}
    }
    let ready = observed
        .workers
        .iter()
        .filter(|pod| pod.ready && pod.terminating.is_none())
        .count();
    let count = format!("{ready} of {} workers are ready", observed.wanted);
    if observed.wanted == 0 {
        Told::new(true, reason::AS_DESIRED, "spec.parallelism is 0: nothing runs")
    } else if ready >= observed.wanted as usize {
        Told::new(true, reason::AS_DESIRED, count)
    } else if let Some(trouble) = observed.trouble.or(observed.fleet_trouble) {
        Told::new(false, trouble.reason, format!("{count}; {}", trouble.message))
    } else {
        Told::new(false, reason::STARTING, count)
    }
}

fn progressing(observed: &Observed<'_>) -> Told {
    match observed.stage {
        Stage::Suspended => Told::new(false, reason::SUSPENDED, ""),
        Stage::Finished(_) => Told::new(false, reason::FINISHED, ""),
        Stage::Ending(_) => Told::new(true, reason::RUNNING, "the workers are being stopped"),
        Stage::Active => match (observed.trouble, observed.stuck_for) {
            (Some(trouble), _) => Told::trouble(trouble),
            (None, Some(stuck)) => Told::new(
                false,
                reason::PROGRESS_DEADLINE_EXCEEDED,
                format!("nothing was recorded for {} s", stuck.as_secs()),
            ),
            (None, None) if observed.wanted == 0 => {
                Told::new(false, reason::NO_WORKERS, "spec.parallelism is 0; raise it to go on")
            }
            (None, None) if observed.progress.is_some() => Told::new(true, reason::RUNNING, ""),
            (None, None) => Told::new(true, reason::STARTING, ""),
        },
    }
}

fn ready(observed: &Observed<'_>, fleet: bool) -> Told {
    match observed.stage {
        Stage::Finished(verdict) if verdict.complete => Told::new(true, reason::FINISHED, ""),
        Stage::Finished(_) => Told::new(false, reason::FINISHED, ""),
        Stage::Ending(_) => Told::new(true, reason::RUNNING, ""),
        Stage::Suspended => Told::new(false, reason::SUSPENDED, ""),
        Stage::Active if fleet => Told::new(true, reason::RUNNING, ""),
        Stage::Active => Told::new(
            false,
            observed.trouble.map_or(reason::STARTING, |trouble| trouble.reason),
            "",
        ),
    }
}

/// Only told after the end: until then a lost disk costs time, not results.
fn results_available(observed: &Observed<'_>) -> Option<Told> {
    if !matches!(observed.stage, Stage::Finished(_)) {
        return None;
    }
    let kept = observed.before.collector_ref.as_ref();
    Some(match observed.collector.0 {
        CollectorPod::Running { uid, .. } if observed.has_claim || kept.is_some_and(|kept| kept.uid == *uid) => {
            Told::new(
                true,
                reason::RESULTS_KEPT,
                format!("by the pod {}", observed.collector.1),
            )
        }
        _ if observed.has_claim => Told::new(
            false,
            reason::RESULTS_UNAVAILABLE,
            "the collector's pod does not run; its claim has the results",
        ),
        _ => Told::new(
            false,
            reason::RESULTS_LOST,
            "the collector's pod is gone, and with it the results; spec.collector.storage keeps them on a claim",
        ),
    })
}

/// Writes the status of this very batch, not of another one of its name. What is left out is removed.
pub(crate) async fn patch(
    client: &kube::Client,
    batch: &HarmonyBatch,
    status: &HarmonyBatchStatus,
) -> Result<(), kube::Error> {
    let namespace = batch.namespace().unwrap_or_default();
    let api: Api<HarmonyBatch> = Api::namespaced(client.clone(), &namespace);
    let patch = json!({
        "apiVersion": HarmonyBatch::api_version(&()),
        "kind": HarmonyBatch::kind(&()),
        "metadata": { "uid": batch.metadata.uid },
        "status": status,
    });
    let parameters = PatchParams::apply(OPERATOR).force();
    api.patch_status(&batch.name_any(), &parameters, &Patch::Apply(patch))
        .await
        .map(drop)
}

#[cfg(test)]
pub(crate) mod tests;
