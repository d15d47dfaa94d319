//! Reconciles a batch, a step per file: dereference, validate, build, apply, update the status.
//!
//! `reconcile()` is one pass over one batch. It asks the API server for nothing that did not change: pods come from a
//! watch, the batch from another one, and what was made once is not made again. How the ventilator is led is in `lead`,
//! how the pods come and go in `pods`.

pub(crate) mod apply;
pub mod build;
mod collector;
mod conditions;
mod counts;
pub mod dereference;
mod events;
mod failures;
mod launch;
mod lead;
mod memory;
mod pods;
mod ranges;
mod stage;
mod template;
mod trouble;
pub(crate) mod update_status;
pub mod validate;

use std::sync::Arc;
use std::time::{Duration, Instant};

use harmony_api::BatchName;
use harmony_api::conditions::{COMPLETE, FAILED, reason};
use harmony_api::conventions::{BATCH_UID_LABEL, OPERATOR, ROLE_LABEL, WORKER_ROLE};
use harmony_api::spec::{ExecutorSpec, HarmonyBatch};
use harmony_api::status::{HarmonyBatchStatus, PodFailures};
use harmony_protocol::ids::BatchUid;
use harmony_protocol::ventilator::Progress;
use harmony_ventilator::rate::Rate;
use jiff::Timestamp;
use kube::api::{Api, DeleteParams, Preconditions};
use kube::core::DeserializeGuard;
use kube::runtime::controller::Action;
use kube::runtime::events::Event;
use kube::{Resource as _, ResourceExt as _};
use thiserror::Error;

pub(crate) use self::memory::Memory;

use self::apply::Applier;
use self::build::Names;
use self::collector::CollectorPod;
use self::dereference::Dereferenced;
use self::stage::Stage;
use self::trouble::Trouble;
use self::validate::Batch;
use crate::context::Context;
use crate::fleet::WorkerPod;
use crate::statuses::Said;
use crate::ventilators::{BatchKey, VentilatorState};

/// The least time between two patches of one status that tell nothing new but counts: 720 an hour.
const STATUS_EVERY: Duration = Duration::from_secs(5);
/// How often what a template refers to is looked for while it is missing.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// How often a batch is looked at in which nothing is to happen.
const QUIET: Duration = Duration::from_mins(5);

/// Why a pass was broken off.
#[derive(Debug, Error)]
pub(crate) enum Error {
    /// The object cannot be read; nothing can be done for it, and nothing for others depends on it.
    #[error("the object cannot be read: {0}")]
    Invalid(String),
    /// The API server does not answer as it should.
    #[error("failed to {0}: {1}")]
    Api(&'static str, kube::Error),
}

/// One pass over one batch.
pub(crate) async fn reconcile(
    object: Arc<DeserializeGuard<HarmonyBatch>>,
    context: Arc<Context>,
) -> Result<Action, Error> {
    let batch = object
        .0
        .as_ref()
        .map_err(|invalid| Error::Invalid(invalid.error.clone()))?;
    let Some(uid) = uid(batch) else {
        return Err(Error::Invalid("metadata.uid is no uid".to_owned()));
    };
    let foreign = batch
        .spec
        .managed_by
        .as_deref()
        .is_some_and(|manager| manager != OPERATOR);
    if foreign || batch.metadata.deletion_timestamp.is_some() {
        context.forget(uid);
        return Ok(Action::await_change());
    }
    if !context.leads() {
        return Ok(Action::requeue(STATUS_EVERY));
    }
    let mut memory = context.take_memory(uid);
    let outcome = Pass::new(&context, batch, uid, &mut memory).run().await;
    if outcome.is_ok() {
        memory.broken_off = 0;
    }
    context.keep_memory(uid, memory);
    outcome
}

/// The identity of a batch.
pub(crate) fn uid(batch: &HarmonyBatch) -> Option<BatchUid> {
    batch.metadata.uid.as_deref()?.parse().ok().map(BatchUid)
}

/// What one pass works with.
struct Pass<'a> {
    context: &'a Context,
    object: &'a HarmonyBatch,
    uid: BatchUid,
    memory: &'a mut Memory,
    applier: Applier,
    names: Option<Names>,
    now: Timestamp,
    clock: Instant,
    before: HarmonyBatchStatus,
    stage: Stage,
    workers: Vec<WorkerPod>,
    collector: CollectorPod,
    ventilator: Option<VentilatorState>,
    /// What keeps the batch from going on.
    trouble: Option<Trouble>,
    /// What keeps some of the workers from being there.
    fleet_trouble: Option<Trouble>,
    /// Something did not work that may work later.
    hindered: bool,
    /// The epoch that status is to know.
    epoch: Option<u64>,
    /// How worker pods failed.
    failures: PodFailures,
    events: Vec<Event>,
    next: Duration,
}

impl<'a> Pass<'a> {
    fn new(context: &'a Context, object: &'a HarmonyBatch, uid: BatchUid, memory: &'a mut Memory) -> Self {
        // Between a patch and its echo by the watch, only the memory knows what was written.
        let written = memory.status.clone().or_else(|| object.status.clone());
        let before = written.unwrap_or_default();
        let stage = Stage::of(&before.conditions, object.spec.suspend.unwrap_or_default());
        let names = BatchName::new(&object.name_any()).map(|name| Names::new(&name, uid));
        let mut pass = Self {
            applier: Applier::new(&context.client, &object.namespace().unwrap_or_default()),
            context,
            object,
            uid,
            memory,
            names,
            failures: before.pod_failures.clone().unwrap_or_default(),
            now: Timestamp::now(),
            clock: Instant::now(),
            before,
            stage,
            workers: Vec::new(),
            collector: CollectorPod::Absent,
            ventilator: None,
            trouble: None,
            fleet_trouble: None,
            hindered: false,
            epoch: None,
            events: Vec::new(),
            next: QUIET,
        };
        pass.see_pods();
        pass
    }

    async fn run(mut self) -> Result<Action, Error> {
        if self.delete_if_outlived().await? {
            return Ok(Action::await_change());
        }
        let batch = match self.batch().await {
            Ok(batch) => Some(batch),
            Err(trouble) => {
                self.hinder(trouble);
                None
            }
        };
        if let Some(batch) = &batch
            && let Err(error) = self.make(batch).await
            && let Some(trouble) = self.refused(error)
        {
            self.hinder(trouble);
        }
        self.see_collector();
        self.count_failures(batch.as_deref());
        self.lead(batch.as_deref());
        self.keep_workers(batch.as_deref()).await;
        self.conclude(batch.as_deref());
        self.pause();
        let status = self.status(batch.as_deref());
        self.say(&status);
        self.write(status).await?;
        Ok(Action::requeue(self.next))
    }

    /// To be looked at again after this time, or before.
    fn again_in(&mut self, time: Duration) {
        self.next = self.next.min(time);
    }

    /// Something keeps the batch from going on. The first thing is what people should mend first.
    fn hinder(&mut self, trouble: Trouble) {
        self.trouble.get_or_insert(trouble);
        self.hindered = true;
    }

    /// What was to be made or deleted was not.
    fn refused(&mut self, error: apply::Error) -> Option<Trouble> {
        self.hindered = true;
        match error {
            // All of it is about to be gone.
            apply::Error::NamespaceEnds => None,
            error if self.is_of_collector(&error) => Some(Trouble::of_refused_collector(&error)),
            error => Some(error.into()),
        }
    }

    /// Tries again soon what did not work, and ever later if it does not work then.
    fn pause(&mut self) {
        if self.hindered {
            let pause = self.memory.pause.lengthen();
            self.again_in(pause);
        } else {
            self.memory.pause.reset();
        }
    }

    fn is_of_collector(&self, error: &apply::Error) -> bool {
        let collector = self.names.as_ref().map(Names::collector);
        matches!(error, apply::Error::Refused { kind, name, .. } if kind == "Pod" && Some(name) == collector.as_ref())
    }

    /// Dereference and validate: done once for each generation of the spec, and for each attempt to start.
    async fn batch(&mut self) -> Result<Arc<Batch>, Trouble> {
        let generation = self.object.metadata.generation.unwrap_or_default();
        let known = self.memory.batch.clone().filter(|batch| batch.generation == generation);
        let runs = self.ventilator_runs();
        let active = self.stage == Stage::Active;
        let due = self.memory.looked.is_none_or(|at| self.clock >= at + LOOK_EVERY);
        let unready = active && !self.workers.iter().any(|worker| worker.ready);
        let looks = active && (!runs || known.is_none() || unready && due);
        if let Some(batch) = known.filter(|_| !looks) {
            return Ok(batch);
        }
        let mut found = Dereferenced::default();
        if looks {
            self.memory.looked = Some(self.clock);
            found = match dereference::dereference(&self.context.client, self.object).await {
                Ok(found) => found,
                // The tasks are read already.
                Err(_) if runs => found,
                Err(error) => return Err(error.into()),
            };
            let missing: Vec<_> = found.missing.iter().map(ToString::to_string).collect();
            self.memory.missing = (!missing.is_empty()).then(|| {
                let message = format!("the template refers to what is not there: {}", missing.join(", "));
                Trouble::new(reason::POD_NOT_CONFIGURED, message)
            });
        }
        let batch = Arc::new(validate::validate(self.object, found)?);
        let before = self.memory.batch.replace(Arc::clone(&batch));
        if before.is_some_and(|before| before.revision != batch.revision) {
            self.memory.template_changed();
        }
        Ok(batch)
    }

    fn ventilator_runs(&self) -> bool {
        let state = self.context.ventilators.state(self.uid);
        state.is_some_and(|state| !state.is_over())
    }

    /// What the ventilator says of the batch, once it has heard from the collector.
    fn progress(&self) -> Option<&Progress> {
        match &self.ventilator {
            Some(VentilatorState::Running(running)) => Some(&*running.progress).filter(|it| it.collector_ready),
            Some(VentilatorState::Done { progress, .. }) => Some(&**progress),
            _ => None,
        }
    }

    fn status(&mut self, batch: Option<&Batch>) -> HarmonyBatchStatus {
        let has_claim = self
            .object
            .spec
            .collector
            .as_ref()
            .is_some_and(|spec| spec.storage.is_some());
        let collector_name = self.names.as_ref().map(Names::collector).unwrap_or_default();
        let stuck_for = batch.and_then(|batch| self.stuck_for(batch));
        let digest = self.context.ventilators.digest(self.uid);
        let mut status = update_status::status(&update_status::Observed {
            now: self.now,
            generation: self.object.metadata.generation,
            before: &self.before,
            stage: &self.stage,
            wanted: self.wanted(batch),
            selector: &format!("{BATCH_UID_LABEL}={},{ROLE_LABEL}={WORKER_ROLE}", self.uid),
            workers: &self.workers,
            collector: (&self.collector, &collector_name),
            has_claim,
            progress: self.progress(),
            resent_before: self.memory.resent_before,
            rate: self.memory.rate.as_ref().map_or(0.0, Rate::per_second),
            digest: digest.map(|digest| launch::write_digest(&digest)),
            trouble: self.trouble.as_ref(),
            fleet_trouble: self.fleet_trouble.as_ref(),
            stuck_for,
            failures: &self.failures,
        });
        status.epoch = status.epoch.max(self.epoch);
        status
    }

    /// Tells the status to those who ask the operator itself.
    fn say(&self, status: &HarmonyBatchStatus) {
        let key = BatchKey {
            namespace: self.object.namespace().unwrap_or_default(),
            name: self.object.name_any(),
        };
        let executor = match &self.object.spec.executor {
            None | Some(ExecutorSpec::Exec(_)) => "exec",
            Some(ExecutorSpec::Process(_)) => "process",
            Some(ExecutorSpec::Library(_)) => "library",
        };
        let said = Said {
            key,
            executor,
            active_deadline: self.object.spec.active_deadline_seconds,
            status: Arc::new(status.clone()),
        };
        self.context.statuses.say(self.uid, said);
    }

    /// Writes the status if it says something new, or if it is due, and publishes what changed.
    async fn write(&mut self, status: HarmonyBatchStatus) -> Result<(), Error> {
        let events = events::of_conditions(&self.before.conditions, &status.conditions);
        self.events.extend(events);
        if status != self.before {
            let urgent = !conditions::same(&self.before.conditions, &status.conditions)
                || status.epoch != self.before.epoch
                || status.pod_failures != self.before.pod_failures
                || status.observed_generation != self.before.observed_generation
                || (status.active, status.ready) != (self.before.active, self.before.ready) && self.pods_are_news();
            let due = self.memory.patched.map_or(Duration::ZERO, |at| {
                (at + STATUS_EVERY).saturating_duration_since(self.clock)
            });
            if urgent || due.is_zero() {
                self.patch(status).await?;
            } else {
                self.again_in(due);
            }
        }
        for event in std::mem::take(&mut self.events) {
            let published = self
                .context
                .recorder
                .publish(&event, &self.object.object_ref(&()))
                .await;
            if let Err(error) = published {
                tracing::warn!(%error, "an event cannot be published");
            }
        }
        Ok(())
    }

    /// While a batch is not running, its pods are all that there is to see.
    fn pods_are_news(&self) -> bool {
        self.stage != Stage::Active
    }

    async fn patch(&mut self, status: HarmonyBatchStatus) -> Result<(), Error> {
        match update_status::patch(&self.context.client, self.object, &status).await {
            Ok(()) => {}
            // It is gone, or another one has its name.
            Err(kube::Error::Api(error)) if error.is_not_found() || error.is_conflict() => return Ok(()),
            Err(error) => return Err(Error::Api("write the status", error)),
        }
        self.context.counters.status_patches.inc();
        if let Some(epoch) = status.epoch {
            self.context.ventilators.epoch_kept(self.uid, epoch);
        }
        self.memory.status = Some(status);
        self.memory.patched = Some(self.clock);
        Ok(())
    }

    /// Deletes a batch that has outlived its end for as long as it asked.
    async fn delete_if_outlived(&mut self) -> Result<bool, Error> {
        let Some(ttl) = self.object.spec.ttl_seconds_after_finished else {
            return Ok(false);
        };
        let list = &self.before.conditions;
        let end = [COMPLETE, FAILED]
            .into_iter()
            .filter(|kind| conditions::holds(list, kind))
            .find_map(|kind| conditions::find(list, kind));
        let Some(end) = end else { return Ok(false) };
        let age = self.now.duration_since(end.last_transition_time.0);
        let age = Duration::try_from(age).unwrap_or_default();
        let left = Duration::from_secs(ttl).saturating_sub(age);
        if !left.is_zero() {
            self.again_in(left);
            return Ok(false);
        }
        let api: Api<HarmonyBatch> = Api::namespaced(
            self.context.client.clone(),
            &self.object.namespace().unwrap_or_default(),
        );
        let this_one = Preconditions {
            uid: self.object.metadata.uid.clone(),
            resource_version: None,
        };
        let parameters = DeleteParams::background().preconditions(this_one);
        match api.delete(&self.object.name_any(), &parameters).await {
            Ok(_) => Ok(true),
            Err(kube::Error::Api(error)) if error.is_not_found() || error.is_conflict() => Ok(true),
            Err(error) => Err(Error::Api("delete a batch that has outlived its end", error)),
        }
    }
}
