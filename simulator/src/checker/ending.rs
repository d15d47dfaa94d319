//! I1, I2, I8: a batch ends once, with all that it says it has, and all ventilators are told the same.

use std::collections::BTreeSet;

use harmony_protocol::ids::{BatchUid, ProcessId};
use harmony_protocol::wire::{Ending, Message, OutcomeCode};

use super::scene::{Process, Seen};
use crate::facts::Facts;
use crate::observation::{Carried, Observation, Role, Verdict};
use crate::tasks::{Nature, Tasks};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Endings {
    /// How each ventilator ended, with its batch.
    pub(super) verdicts: Vec<(BatchUid, Verdict)>,
    /// Ventilators that have ended.
    over: BTreeSet<ProcessId>,
}

impl Endings {
    pub(super) fn observe(&mut self, seen: &Seen<'_>) {
        match *seen.what {
            Observation::Ends { party, verdict } => {
                let Some(process) = seen.scene.process(party) else {
                    return;
                };
                let Role::Ventilator(batch) = process.role else { return };
                assert!(
                    self.over.insert(process.id),
                    "I8: {} ends a second time: {verdict:?}",
                    process.name
                );
                self.verdicts.push((seen.oracle[batch].uid, verdict.clone()));
            }
            Observation::Sent(carried) => {
                Self::check_cancel(seen, &carried);
                let over = |process: &Process| self.over.contains(&process.id);
                if matches!(carried.message, Message::Tasks(_) | Message::Part(_))
                    && seen.scene.process(carried.from).is_some_and(over)
                {
                    panic!("I8: tasks leave after the end: {:?}", carried.message);
                }
            }
            _ => {}
        }
    }

    /// Workers stop a batch only when it has ended.
    fn check_cancel(seen: &Seen<'_>, carried: &Carried<'_>) {
        let Message::Cancel(cancel) = carried.message else {
            return;
        };
        let Some(uid) = seen.scene.batch(carried) else { return };
        let to_worker = matches!(seen.scene.role_of(carried.to), Some(Role::Worker(_)));
        assert!(
            !to_worker || cancel.spans.is_some() || seen.facts(uid).ended.is_some(),
            "rule 15: a worker is told to stop {uid}, which has not ended"
        );
    }

    pub(super) fn close(&self, tasks: &Tasks, facts: &Facts) {
        let done = facts.ended.as_ref().expect("the batch ended");
        let of_batch = self.verdicts.iter().filter(|(uid, _)| *uid == tasks.uid);
        let verdicts: Vec<&Verdict> = of_batch.map(|(_, verdict)| verdict).collect();
        assert!(
            verdicts.iter().any(|v| matches!(v, Verdict::Done(_))),
            "I8: nobody heard the end: {verdicts:?}"
        );
        for verdict in verdicts {
            match verdict {
                Verdict::Done(told) => assert_eq!(told, done, "I8: another end was told"),
                Verdict::Fenced(_) => {}
                Verdict::Failed(reason) => panic!("I8: a ventilator gave up: {reason}"),
            }
        }
        let failed = facts
            .settled
            .values()
            .filter(|end| end.outcome != OutcomeCode::Succeeded)
            .count() as u64;
        let settled = facts.settled.len() as u64;
        // A batch that was ended early was not read back, so that damage to its log may not have been found.
        let complete = done.ending == Ending::Complete;
        let unfound = if complete { 0 } else { facts.damaged.len() as u64 };
        let told = done.counts.succeeded + done.counts.failed;
        let within = |told, durable| (durable..=durable + unfound).contains(&told);
        assert!(
            within(done.counts.failed, failed),
            "I7: {failed} numbers failed, {done:?}"
        );
        assert!(within(told, settled), "I7: {settled} numbers are settled, {done:?}");
        let varies = (0..tasks.completions).any(|number| tasks.nature(number) == Nature::Varying);
        let most = if varies { done.counts.duplicates } else { 0 };
        assert!(
            done.counts.differing <= most,
            "I3: duplicates with other bytes: {done:?}"
        );
        if complete {
            let digest = facts.settled.values().fold(0_u32, |sum, end| sum.wrapping_add(end.sum));
            assert_eq!(done.digest, digest, "I3: the digest in DONE");
            let missing: Vec<u64> = (0..tasks.completions)
                .filter(|number| !facts.settled.contains_key(number))
                .collect();
            assert!(missing.is_empty(), "I1: complete, yet missing: {missing:?}");
        }
    }
}
