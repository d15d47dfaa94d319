//! I10: nothing runs again without a cause.

use std::collections::BTreeMap;

use harmony_protocol::ids::{Attempt, BatchUid};
use harmony_protocol::wire::Ending;

use super::scene::Seen;
use crate::facts::Facts;
use crate::observation::Observation;
use crate::tasks::Tasks;

/// What the judge knows of one batch.
#[derive(Debug, Default)]
struct Case {
    executions: u64,
    /// Attempts that ran, by number.
    runs: BTreeMap<u64, Vec<Attempt>>,
    /// Executions beyond N that faults explain.
    explained: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Waste {
    cases: BTreeMap<BatchUid, Case>,
}

impl Waste {
    pub(super) fn observe(&mut self, seen: &Seen<'_>) {
        if let Observation::TaskBegins { task, .. } = seen.what {
            let case = self.cases.entry(task.uid).or_default();
            case.executions += 1;
            case.runs.entry(task.number).or_default().push(task.attempt);
        }
    }

    pub(super) fn explain(&mut self, uid: BatchUid, in_flight: u64) {
        self.cases.entry(uid).or_default().explained += in_flight;
    }

    pub(super) fn close(&self, tasks: &Tasks, facts: &Facts, calm: bool) {
        let complete = facts.ended.as_ref().is_some_and(|done| done.ending == Ending::Complete);
        let Some(case) = self.cases.get(&tasks.uid).filter(|_| complete) else {
            return;
        };
        // A number whose record was damaged begins anew, at its first attempt.
        let again = facts.damages * (u64::from(tasks.backoff_limit) + 1);
        let retried = facts.charged.len() as u64 + again;
        let most = tasks.completions + retried + if calm { 0 } else { case.explained };
        let often: Vec<_> = case.runs.iter().filter(|(_, runs)| runs.len() > 1).take(20).collect();
        assert!(
            case.executions <= most,
            "I10: {} executions, {most} are explained: {often:?}",
            case.executions
        );
    }
}
