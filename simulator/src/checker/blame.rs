//! I6: the numbers that failed, and no others, each for its true reason.

use std::collections::{BTreeMap, BTreeSet};

use harmony_protocol::ids::{Attempt, BatchUid};
use harmony_protocol::wire::{Ending, Message, OutcomeCode};

use super::scene::Seen;
use crate::facts::Facts;
use crate::observation::Observation;
use crate::tasks::{Nature, Tasks};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Blame {
    /// What workers announced to run alone.
    announced: BTreeSet<(BatchUid, u64, Attempt)>,
    /// Batches whose log was lost, and with it what it knew of deaths.
    wiped: BTreeMap<BatchUid, u32>,
}

impl Blame {
    pub(super) fn observe(&mut self, seen: &Seen<'_>) {
        if let Observation::Wiped(uid) = seen.what {
            *self.wiped.entry(*uid).or_default() += 1;
        }
        if let Some((carried, uid)) = seen.sent()
            && let Message::Credit(credit) = carried.message
            && let Some((number, attempt)) = credit.alone
        {
            self.announced.insert((uid, number, attempt));
        }
    }

    pub(super) fn close(&self, tasks: &Tasks, facts: &Facts) {
        self.check_charges(tasks, facts);
        let complete = facts.ended.as_ref().is_some_and(|done| done.ending == Ending::Complete);
        if complete {
            for (number, end) in &facts.settled {
                check_end(tasks, *number, end.outcome, facts);
            }
        }
    }

    /// An attempt is charged to a lost worker only if that had announced to run it alone. Whether it really died is not
    /// asked: who is cut off for half a minute counts as dead.
    fn check_charges(&self, tasks: &Tasks, facts: &Facts) {
        for ((number, attempt), outcome) in &facts.charged {
            if *outcome != OutcomeCode::WorkerLost {
                continue;
            }
            assert!(
                self.announced.contains(&(tasks.uid, *number, *attempt)),
                "I6: {number}@{attempt} is charged, yet no worker had said that it runs it alone"
            );
            let deaths = facts.deaths.get(number).copied().unwrap_or_default();
            let forgotten = self.wiped.contains_key(&tasks.uid) || facts.damaged.contains(number);
            // A lost log, or record, has forgotten deaths that the ventilator knows, and the death of a process that had been taken
            // for dead before counts only once there.
            assert!(
                deaths > 1 || forgotten,
                "I6: {number}@{attempt} is charged after {deaths} deaths"
            );
        }
    }
}

fn check_end(tasks: &Tasks, number: u64, outcome: OutcomeCode, facts: &Facts) {
    let lost = (1..=tasks.backoff_limit + 1)
        .filter(|attempt| facts.charged.get(&(number, *attempt)) == Some(&OutcomeCode::WorkerLost))
        .count();
    let expected = match tasks.nature(number) {
        Nature::Good | Nature::Slow | Nature::Varying | Nature::Huge => outcome == OutcomeCode::Succeeded,
        Nature::Oversized => outcome == OutcomeCode::ResultTooLarge,
        Nature::Flaky(until) => (outcome == OutcomeCode::Succeeded) == (until <= tasks.backoff_limit),
        Nature::Bad => outcome == OutcomeCode::ExitCode,
        Nature::Poison => outcome == OutcomeCode::WorkerLost,
        Nature::Moody => matches!(outcome, OutcomeCode::Succeeded | OutcomeCode::ExitCode),
        Nature::TooLarge => outcome == OutcomeCode::PayloadTooLarge,
    };
    assert!(
        expected || lost > 0,
        "I6: {number}, which is {:?}, ended by {outcome:?}",
        tasks.nature(number)
    );
}
