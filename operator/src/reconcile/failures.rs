//! Worker pods that failed: counted once each, told, and perhaps the end of the batch.

use kube::runtime::events::EventType;

use super::Pass;
use super::events::event;
use super::lead::DEADLINE_WITHIN;
use super::stage::{Stage, Verdict};
use super::validate::Batch;
use crate::fleet;
use crate::ventilators::VentilatorState;

impl Pass<'_> {
    /// Counts the worker pods that failed since the last pass.
    pub(super) fn count_failures(&mut self, batch: Option<&Batch>) {
        let Some(batch) = batch.filter(|_| self.stage == Stage::Active) else {
            return;
        };
        for judged in fleet::judge(&batch.spec.pod_failure_policy, &self.workers, &mut self.failures) {
            let reason = format!("Worker{}", judged.reason.name());
            self.events
                .push(event(EventType::Warning, &reason, "Replace", &judged.told));
        }
    }

    /// Whether a worker pod that has ended may be deleted. While a batch runs that is when the status has it.
    pub(super) fn is_counted(&mut self, name: &str) -> bool {
        let pod = self.workers.iter().find(|pod| pod.name == name);
        let written = self.before.pod_failures.as_ref();
        let counted = self.stage != Stage::Active || pod.is_none_or(|pod| fleet::may_go(pod, written));
        if !counted && pod.is_some_and(|pod| self.failures.judged.contains(&pod.uid)) {
            // This pass writes it.
            self.again_in(std::time::Duration::ZERO);
        }
        counted
    }

    /// Whether the batch fails by its pods.
    pub(super) fn fails(&self, batch: Option<&Batch>) -> bool {
        batch.is_some_and(|batch| fleet::verdict(batch.spec.backoff_limit, &self.failures).is_some())
    }

    /// Ends a batch that fails by its pods: what is recorded is settled by its collector, if that answers in time.
    pub(super) fn end_by_failures(&mut self, batch: &Batch) {
        let Some((reason, message)) = fleet::verdict(batch.spec.backoff_limit, &self.failures) else {
            self.memory.failing = None;
            return;
        };
        self.context.ventilators.cancel(self.uid, reason);
        let since = *self.memory.failing.get_or_insert(self.clock);
        let recording = matches!(
            &self.ventilator,
            Some(VentilatorState::Running(_) | VentilatorState::Done { .. })
        ) && self.before.tasks.is_some();
        if !recording || self.clock >= since + DEADLINE_WITHIN {
            self.stage = Stage::Ending(Verdict {
                complete: false,
                reason: reason.to_owned(),
                message,
            });
        }
    }

    /// A verdict of the collector, with what only the operator knows of its cause.
    pub(super) fn with_cause(&self, verdict: Verdict, batch: Option<&Batch>) -> Verdict {
        let cause = batch.and_then(|batch| fleet::verdict(batch.spec.backoff_limit, &self.failures));
        match cause.filter(|(reason, _)| *reason == verdict.reason) {
            Some((_, cause)) => Verdict {
                message: format!("{cause}; {}", verdict.message),
                ..verdict
            },
            None => verdict,
        }
    }
}
