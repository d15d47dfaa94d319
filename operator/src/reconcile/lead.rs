//! How a batch's ventilator is led: started, told where everybody is, started again, and believed when the batch is over.

use std::time::{Duration, Instant};

use harmony_api::conditions::reason;
use harmony_api::conventions::LINK_PORT;
use harmony_protocol::ventilator::{Event as Happening, WorkerStage};
use harmony_transport::Endpoint;
use harmony_ventilator::rate::Rate;
use kube::runtime::events::EventType;

use super::collector::CollectorPod;
use super::events::event;
use super::stage::{Stage, Verdict, verdict};
use super::trouble::Trouble;
use super::validate::Batch;
use super::{Pass, STATUS_EVERY, launch};
use crate::fleet::{Phase, WorkerPod};
use crate::ventilators::VentilatorState;

/// How long the collector may take to record that the batch ended by its deadline. Then it ends without that.
pub(super) const DEADLINE_WITHIN: Duration = Duration::from_mins(1);
/// A ventilator that ran for so long did not break down at once: the next one does not wait longer than the last.
const STEADY: Duration = Duration::from_mins(1);

impl Pass<'_> {
    /// Starts the ventilator, or sees how far it is.
    pub(super) fn lead(&mut self, batch: Option<&Batch>) {
        let ventilators = &self.context.ventilators;
        if self.stage != Stage::Active {
            ventilators.stop(self.uid);
            self.memory.ventilator_stopped();
            return;
        }
        self.again_in(STATUS_EVERY);
        self.restart_ventilator();
        if let Some(batch) = batch {
            if self.context.ventilators.state(self.uid).is_none() && self.memory.restart_at.is_none() {
                self.start_ventilator(batch);
            }
            self.introduce(batch);
        }
        self.ventilator = self.context.ventilators.state(self.uid);
        self.take_happenings();
        self.see_ventilator();
        if let Some(batch) = batch {
            self.keep_deadline(batch);
            self.end_by_failures(batch);
        }
    }

    fn start_ventilator(&mut self, batch: &Batch) {
        self.memory.resent_before = self.before.tasks.map_or(0, |tasks| tasks.resent);
        self.memory.started = Some(self.clock);
        self.memory.rate = Some(Rate::new(self.clock));
        let launch = launch::launch(batch, &self.before, &self.context.source);
        self.context.ventilators.start(launch);
    }

    /// One that ended without the batch being over gets a successor, after a pause.
    fn restart_ventilator(&mut self) {
        let state = self.context.ventilators.state(self.uid);
        let Some(trouble) = state.as_ref().and_then(Trouble::of_ventilator) else {
            return;
        };
        let at = match self.memory.restart_at {
            Some(at) => at,
            None => self.clock + self.memory.ventilator_pause.lengthen(),
        };
        if let Some(VentilatorState::Fenced { epoch }) = state {
            self.epoch = Some(epoch);
        }
        self.memory.ventilator_trouble = Some(trouble);
        if self.clock < at {
            self.memory.restart_at = Some(at);
            self.again_in(at.saturating_duration_since(self.clock));
            return;
        }
        self.memory.restart_at = None;
        self.context.ventilators.stop(self.uid);
    }

    /// Tells the ventilator how tasks are run, and where the collector is.
    fn introduce(&self, batch: &Batch) {
        let ventilators = &self.context.ventilators;
        ventilators.work(self.uid, launch::work(batch));
        if let CollectorPod::Running { ip, .. } = &self.collector {
            ventilators.collector(self.uid, &endpoint(ip));
        }
    }

    /// Tells the ventilator where the workers are. Those that ended must have been told as ended before.
    pub(super) fn introduce_workers(&self) {
        let reachable = |pod: &&WorkerPod| pod.ended.is_none() && pod.phase == Phase::Running;
        let named = |pod: &WorkerPod| Some((pod.name.clone(), endpoint(pod.ip.as_ref()?)));
        let workers: Vec<_> = self.workers.iter().filter(reachable).filter_map(named).collect();
        self.context.ventilators.workers(self.uid, &workers);
    }

    fn see_ventilator(&mut self) {
        if let Some(VentilatorState::Running(running)) = &self.ventilator {
            self.epoch = self.epoch.max(running.claiming);
            let works = running.workers.iter().any(|worker| worker.stage == WorkerStage::Ready);
            let recorded = (running.progress.collector_ready)
                .then_some(running.progress.counts.succeeded + running.progress.counts.failed);
            // That the tasks can be read shows at once; all else when the collector has answered.
            let ready = running.progress.collector_ready;
            self.memory
                .ventilator_trouble
                .take_if(|trouble| ready || trouble.reason != reason::VENTILATOR_FAILED);
            if self.memory.started.is_some_and(|at| self.clock >= at + STEADY) {
                self.memory.ventilator_pause.reset();
            }
            if works {
                self.memory.refused = None;
            }
            if let (Some(done), Some(rate)) = (recorded, &mut self.memory.rate) {
                rate.update(self.clock, done);
            }
        }
        // A successor that is still reading the tasks has mended nothing yet.
        let trouble = self
            .memory
            .ventilator_trouble
            .clone()
            .or_else(|| self.memory.refused.clone());
        if let Some(trouble) = trouble {
            self.trouble.get_or_insert(trouble);
        }
    }

    fn take_happenings(&mut self) {
        let (mut lost, mut numbers) = (Vec::new(), 0);
        for happening in self.context.ventilators.take_events(self.uid) {
            match happening {
                Happening::WorkerLost { name, in_flight } => {
                    lost.push(name);
                    numbers += in_flight;
                }
                Happening::WorkerRefused { name, reason: why } => {
                    let message = format!("worker {name} refuses the batch: {why}");
                    self.memory.refused = Some(Trouble::new(reason::EXECUTOR_FAILED, message));
                }
                Happening::ResultsLost { before, settled } => self.events.push(event(
                    EventType::Warning,
                    "ResultsLost",
                    "Record",
                    &format!("{before} tasks were recorded, and {settled} still are: the others run again"),
                )),
                // From itself nobody takes over: the batch was resumed, or its ventilator broke down.
                Happening::Claiming { .. } if std::mem::replace(&mut self.memory.claimed, true) => {}
                Happening::Claiming { epoch, takeover: true } => self.events.push(event(
                    EventType::Normal,
                    "OperatorTookOver",
                    "Lead",
                    &format!("epoch {epoch}"),
                )),
                Happening::Claiming { takeover: false, .. } => {
                    self.events.push(event(EventType::Normal, "BatchStarted", "Lead", ""));
                }
                Happening::Done(_) | Happening::Fenced { .. } | Happening::Failed(_) | Happening::Health(_) => {}
            }
        }
        if !lost.is_empty() {
            let note = format!("{numbers} tasks were at {} and go out again", lost.join(", "));
            self.events
                .push(event(EventType::Warning, "WorkerLost", "Dispatch", &note));
        }
    }

    /// Ends a batch that takes too long.
    fn keep_deadline(&mut self, batch: &Batch) {
        let started = self.before.start_time.as_ref().map_or(self.now, |time| time.0);
        let elapsed = Duration::try_from(self.now.duration_since(started)).unwrap_or_default();
        let Some(deadline) = batch.spec.active_deadline else {
            return;
        };
        if elapsed < deadline {
            self.again_in(deadline.saturating_sub(elapsed));
            return;
        }
        self.context.ventilators.cancel(self.uid, reason::DEADLINE_EXCEEDED);
        let recording = matches!(&self.ventilator, Some(VentilatorState::Running(_)) if self.before.tasks.is_some());
        if !recording || elapsed >= deadline + DEADLINE_WITHIN {
            self.stage = Stage::Ending(Verdict {
                complete: false,
                reason: reason::DEADLINE_EXCEEDED.to_owned(),
                message: format!("the batch was active for {} s", elapsed.as_secs()),
            });
        }
    }

    /// Moves on to the next stage if it is time: from running to ending, and from ending to the end.
    pub(super) fn conclude(&mut self, batch: Option<&Batch>) {
        if let (Stage::Active, Some(VentilatorState::Done { done, progress })) = (&self.stage, &self.ventilator) {
            let verdict = verdict(done, progress.completions);
            self.stage = Stage::Ending(self.with_cause(verdict, batch));
            self.trouble = None;
            self.again_in(Duration::ZERO);
        } else if let Stage::Ending(verdict) = &self.stage
            && self.workers.iter().all(WorkerPod::is_gone)
        {
            self.stage = Stage::Finished(verdict.clone());
        }
    }

    /// How long nothing was recorded, if that is longer than the batch allows.
    pub(super) fn stuck_for(&self, batch: &Batch) -> Option<Duration> {
        let allowed = batch.progress_deadline.filter(|_| self.stage == Stage::Active)?;
        let recorded = match &self.ventilator {
            Some(VentilatorState::Running(running)) => running.progress.recorded_at,
            _ => None,
        };
        let since: Instant = recorded.max(self.memory.started)?;
        let quiet = self.clock.saturating_duration_since(since);
        (quiet >= allowed).then_some(quiet)
    }
}

fn endpoint(ip: &str) -> String {
    let host = ip.to_owned();
    Endpoint::Tcp { host, port: LINK_PORT }.to_string()
}
