//! How the pods of a batch come and go.

use harmony_api::conventions::BATCH_UID_LABEL;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use kube::runtime::events::EventType;

use super::apply::{self, Grace};
use super::build::{self, worker_pod};
use super::collector::CollectorPod;
use super::events::event;
use super::stage::Stage;
use super::trouble::Trouble;
use super::validate::Batch;
use super::{Names, Pass};
use crate::fleet::{self, Desired, Loads, Plan, Workers, loads, observe, plan};
use crate::ventilators::VentilatorState;

impl Pass<'_> {
    /// Finds the pods of this batch among all that the watch has shown.
    pub(super) fn see_pods(&mut self) {
        let uid = self.uid.to_string();
        let namespace = self.object.namespace().unwrap_or_default();
        let mine = |pod: &Pod| pod.labels().get(BATCH_UID_LABEL) == Some(&uid);
        let pods = self.context.pods.of(&namespace, mine);
        let name = self.names.as_ref().map(Names::collector);
        let collector = pods.iter().find(|pod| pod.metadata.name == name);
        self.collector = CollectorPod::observe(collector.map(AsRef::as_ref), self.now);
        self.workers = pods.iter().filter_map(|pod| observe(pod, self.now)).collect();
    }

    /// Makes the objects of a batch that are not there, and looks after its collector.
    pub(super) async fn make(&mut self, batch: &Batch) -> Result<(), apply::Error> {
        let resources = build::build(batch, &self.context.settings);
        if self.stage == Stage::Active && !self.memory.made {
            self.applier.resources(&resources).await?;
            self.memory.made = true;
        }
        self.note_collector();
        let wanted = match self.stage {
            Stage::Active | Stage::Ending(_) => true,
            // A batch that never ran needs none yet.
            Stage::Suspended => self.before.collector_ref.is_some(),
            // Without a claim a new one would have nothing to show.
            Stage::Finished(_) => resources.collector_claim.is_some(),
        };
        let name = batch.names.collector();
        match self.collector.clone() {
            CollectorPod::Absent if wanted => {
                self.applier.pod(&resources.collector).await?;
                self.collector = CollectorPod::Starting;
            }
            CollectorPod::Ended { uid, .. } if wanted => self.applier.delete_pod(&name, &uid, Grace::Own).await?,
            // The API server gives the name free; a claim of ReadWriteOncePod still keeps a second writer out.
            CollectorPod::Terminating { uid, lost: true } => {
                self.applier.delete_pod(&name, &uid, Grace::None).await?;
            }
            _ => {}
        }
        Ok(())
    }

    fn note_collector(&mut self) {
        let CollectorPod::Running { uid, restarts, .. } = &self.collector else {
            return;
        };
        let now = (uid.clone(), *restarts);
        let before = self.memory.collector_restarts.replace(now.clone());
        if before.is_some_and(|before| before != now) {
            self.events.push(event(
                EventType::Warning,
                "CollectorRestarted",
                "Record",
                "the collector was started anew; what it has not recorded, or lost, is sent again",
            ));
        }
    }

    /// Makes, drains and deletes worker pods, and tells the ventilator of them.
    pub(super) async fn keep_workers(&mut self, batch: Option<&Batch>) {
        let Some(desired) = self.desired(batch) else {
            self.introduce_workers();
            return;
        };
        let plan = plan(self.now, &desired, &self.workers, &self.loads(), &mut self.memory.fleet);
        self.tell_ventilator(&plan);
        self.introduce_workers();
        if let Some(next) = plan.next {
            self.again_in(next);
        }
        if let Err(error) = self.delete(&plan).await {
            self.fleet_trouble = self.refused(error);
        }
        if let Some(batch) = batch
            && let Err(error) = self.create(batch, &plan).await
        {
            self.fleet_trouble = self.refused(error);
        }
        self.see_worker_troubles();
    }

    /// The fleet that there should be; nothing if that cannot be told now.
    fn desired(&self, batch: Option<&Batch>) -> Option<Desired> {
        if self.stage != Stage::Active || self.fails(batch) {
            return Some(Desired {
                workers: Workers::Stop,
                revision: String::new(),
            });
        }
        let batch = batch?;
        // Until the tasks are read nobody knows whether there is anything to do.
        self.context.ventilators.completions(self.uid)?;
        Some(Desired {
            workers: Workers::Run(self.wanted(Some(batch))),
            revision: batch.revision.clone(),
        })
    }

    /// Workers that there should be: no more than there are tasks for, as in a Job.
    pub(super) fn wanted(&self, batch: Option<&Batch>) -> u32 {
        let spec = &self.object.spec;
        let Some(batch) = batch.filter(|_| self.stage == Stage::Active) else {
            return spec.parallelism;
        };
        let completions = self.context.ventilators.completions(self.uid).unwrap_or(u64::MAX);
        let enough = completions.div_ceil(u64::from(batch.spec.slots_per_worker.max(1)));
        batch.spec.parallelism.min(u32::try_from(enough).unwrap_or(u32::MAX))
    }

    fn loads(&self) -> Loads {
        match &self.ventilator {
            Some(VentilatorState::Running(running)) => loads(&running.workers),
            _ => Loads::default(),
        }
    }

    fn tell_ventilator(&self, plan: &Plan) {
        let ventilators = &self.context.ventilators;
        for (name, counts) in &plan.exited {
            ventilators.exited(self.uid, name, *counts);
        }
        for name in &plan.drain {
            ventilators.drain(self.uid, name);
        }
        for name in &plan.undrain {
            ventilators.undrain(self.uid, name);
        }
    }

    async fn delete(&mut self, plan: &Plan) -> Result<(), apply::Error> {
        let mut told = Vec::new();
        for (name, uid, why) in &plan.delete {
            if *why == fleet::Deletion::Ended && !self.is_counted(name) {
                continue;
            }
            self.applier.delete_pod(name, uid, Grace::Own).await?;
            self.note_end(name);
            if *why != fleet::Deletion::Ended {
                told.push(name.as_str());
            }
        }
        if !told.is_empty() {
            self.events.push(event(
                EventType::Normal,
                "SuccessfulDelete",
                "Scale",
                &listed("Deleted", &told),
            ));
        }
        Ok(())
    }

    /// Keeps how a pod ended that never did anything.
    fn note_end(&mut self, name: &str) {
        let ended = self.workers.iter().find(|pod| pod.name == name);
        if let Some(trouble) = ended.and_then(Trouble::of_end) {
            self.memory.ended = Some(trouble);
        }
    }

    async fn create(&mut self, batch: &Batch, plan: &Plan) -> Result<(), apply::Error> {
        let mut created = Vec::new();
        let mut refused = None;
        for (ordinal, generation) in &plan.create {
            let pod = worker_pod(batch, &self.context.settings, *ordinal, *generation);
            match self.applier.pod(&pod).await {
                Ok(true) => created.push(pod.name_any()),
                Ok(false) => {}
                Err(error) => {
                    refused = Some(error);
                    break;
                }
            }
        }
        if !created.is_empty() {
            let names: Vec<_> = created.iter().map(String::as_str).collect();
            self.events.push(event(
                EventType::Normal,
                "SuccessfulCreate",
                "Scale",
                &listed("Created", &names),
            ));
        }
        refused.map_or(Ok(()), Err)
    }

    /// What keeps workers from being there. One that is ready shows that there is nothing wrong with all of them.
    fn see_worker_troubles(&mut self) {
        if self.stage != Stage::Active {
            return;
        }
        let some_work = self.workers.iter().any(|worker| worker.ready);
        if some_work {
            self.memory.ended = None;
            self.memory.missing = None;
        }
        let known = [self.memory.missing.as_ref(), self.memory.ended.as_ref()];
        let trouble = Trouble::of_fleet(self.fleet_trouble.take(), &self.workers, known);
        if some_work {
            self.fleet_trouble = trouble;
        } else if let Some(trouble) = trouble {
            self.trouble.get_or_insert(trouble);
        }
    }

    /// Without a collector nothing is recorded.
    pub(super) fn see_collector(&mut self) {
        let waits = matches!(self.collector, CollectorPod::Waiting(_)) && self.stage == Stage::Active;
        if let Some(trouble) = Trouble::of_collector(&self.collector).filter(|_| waits) {
            self.trouble.get_or_insert(trouble);
        }
    }
}

/// The names, as far as people read them.
fn listed(verb: &str, names: &[&str]) -> String {
    const SHOWN: usize = 5;
    let shown = names.iter().take(SHOWN).copied().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(SHOWN) {
        0 => format!("{verb} worker pods {shown}"),
        more => format!("{verb} worker pods {shown} and {more} more"),
    }
}
