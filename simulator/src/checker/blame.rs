//! I6 and rules 11 and 12: the numbers that failed, and no others, each for its true reason. Only who is really gone is
//! called dead, and only what ran alone is charged for it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use harmony_protocol::ids::{Attempt, BatchUid, ProcessId};
use harmony_protocol::wire::{Ending, Holding, Loss, Lost, Message, OutcomeCode, Role as Claimed};

use super::clocks::shortest;
use super::coverage::Branch;
use super::scene::Seen;
use crate::facts::Facts;
use crate::network::{ConnectionId, PartyId};
use crate::observation::{Carried, Execution, Observation, Role};
use crate::tasks::{Nature, Tasks};

/// A process that stays away from a ventilator for this long counts as dead.
const GONE_AFTER: Duration = Duration::from_secs(30);

/// How a ventilator knows a worker process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Contact {
    Linked(ConnectionId),
    Away(Duration),
    /// It said that it leaves.
    Left,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Blame {
    /// What worker processes announced to run alone.
    announced: BTreeSet<(ProcessId, Execution)>,
    ended: BTreeSet<ProcessId>,
    contacts: BTreeMap<(PartyId, ProcessId), Contact>,
    /// Charges that the collector was told of, by who was not fenced.
    told: BTreeSet<(BatchUid, u64, Attempt)>,
}

impl Blame {
    pub(super) fn observe(&mut self, seen: &Seen<'_>) {
        match *seen.what {
            Observation::Ended { party, .. } => {
                self.ended.extend(seen.scene.process(party).map(|process| process.id));
                self.contacts.retain(|(ventilator, _), _| *ventilator != party);
            }
            Observation::LinkClosed { party, connection } => {
                for ((ventilator, _), contact) in &mut self.contacts {
                    if *ventilator == party && *contact == Contact::Linked(connection) {
                        *contact = Contact::Away(seen.at);
                    }
                }
            }
            Observation::Delivered(carried) => self.take(seen, &carried),
            Observation::Sent(carried) => {
                let Some(uid) = seen.scene.batch(&carried) else { return };
                match carried.message {
                    Message::Credit(credit) => {
                        if let (Some((number, attempt)), Some(process)) =
                            (credit.alone, seen.scene.process(carried.from))
                        {
                            let task = Execution { uid, number, attempt };
                            self.announced.insert((process.id, task));
                        }
                    }
                    Message::Lost(lost) if seen.scene.role(carried.from) != Some(Role::Collector) => {
                        self.accuse(seen, &carried, uid, lost);
                    }
                    _ => {}
                }
            }
            _ => {}
        }
    }

    fn take(&mut self, seen: &Seen<'_>, carried: &Carried<'_>) {
        match (seen.scene.role(carried.to), carried.message) {
            (Some(Role::Ventilator(_)), Message::Hello(hello)) if hello.role == Claimed::Worker => {
                let contact = Contact::Linked(carried.connection);
                let before = self.contacts.insert((carried.to, hello.process_id), contact);
                if let Some(Contact::Away(_)) = before {
                    seen.coverage.note(Branch::SuspectWithdrawn);
                }
            }
            (Some(Role::Ventilator(_)), Message::Bye(_)) => {
                for ((ventilator, _), contact) in &mut self.contacts {
                    if *ventilator == carried.to && *contact == Contact::Linked(carried.connection) {
                        *contact = Contact::Left;
                    }
                }
            }
            (Some(Role::Collector), Message::Lost(lost)) => {
                let Some(uid) = seen.scene.batch(carried) else { return };
                if lost.epoch < seen.facts(uid).epoch() {
                    return;
                }
                if let Some((number, attempt)) = charged(&lost.loss) {
                    self.told.insert((uid, number, attempt));
                }
            }
            _ => {}
        }
    }

    /// A ventilator says that a worker process died.
    fn accuse(&mut self, seen: &Seen<'_>, carried: &Carried<'_>, uid: BatchUid, lost: &Lost) {
        let Loss::Death {
            process_id,
            worker,
            alone,
            held,
        } = &lost.loss
        else {
            return seen.coverage.note(Branch::PayloadTooLarge);
        };
        seen.coverage.note(Branch::SuspectConfirmed);
        let contact = self.contacts.get(&(carried.from, *process_id)).copied();
        let gone = match contact {
            Some(Contact::Away(since)) => self.ended.contains(process_id) || seen.at >= since + shortest(GONE_AFTER),
            _ => false,
        };
        assert!(
            gone,
            "rule 11: {worker} ({process_id}) is called dead by {}, which knows it as {contact:?}",
            seen.scene.name(carried.from)
        );
        if !alone {
            return;
        }
        seen.coverage.note(Branch::ChargedAfterDeathAlone);
        let [Holding { first, last, attempt }] = held[..] else {
            panic!("rule 12: more than one number ran alone: {held:?}");
        };
        let task = Execution {
            uid,
            number: first,
            attempt,
        };
        assert!(
            first == last && self.announced.contains(&(*process_id, task)),
            "rule 12: {first}@{attempt} is blamed, and {worker} had not said that it runs it alone"
        );
    }

    pub(super) fn close(&self, tasks: &Tasks, facts: &Facts) {
        for ((number, attempt), outcome) in &facts.charged {
            let blamed = matches!(outcome, OutcomeCode::WorkerLost | OutcomeCode::PayloadTooLarge);
            assert!(
                !blamed || self.told.contains(&(tasks.uid, *number, *attempt)),
                "I6: {number}@{attempt} is charged with {outcome:?}, of which no ventilator has told"
            );
        }
        let complete = facts.ended.as_ref().is_some_and(|done| done.ending == Ending::Complete);
        if complete {
            for (number, end) in &facts.settled {
                check_end(tasks, *number, end.outcome);
            }
        }
    }
}

/// The number that a loss charges.
fn charged(loss: &Loss) -> Option<(u64, Attempt)> {
    match loss {
        Loss::Death { alone: true, held, .. } => held.first().map(|holding| (holding.first, holding.attempt)),
        Loss::Death { .. } => None,
        Loss::Unsendable { number, attempt, .. } => Some((*number, *attempt)),
    }
}

/// Whether this number can have ended so. Each charge by itself is checked where it becomes durable.
fn check_end(tasks: &Tasks, number: u64, outcome: OutcomeCode) {
    let nature = tasks.nature(number);
    let expected = match outcome {
        OutcomeCode::Succeeded => match nature {
            Nature::Good | Nature::Slow | Nature::Varying | Nature::Huge | Nature::Moody => true,
            Nature::Flaky(until) => until <= tasks.backoff_limit,
            _ => false,
        },
        OutcomeCode::ExitCode => match nature {
            Nature::Bad | Nature::Moody => true,
            Nature::Flaky(until) => until > tasks.backoff_limit,
            _ => false,
        },
        // Who is cut off for long enough while it runs something alone counts as dead: an innocent may be charged.
        OutcomeCode::WorkerLost => nature != Nature::TooLarge,
        OutcomeCode::PayloadTooLarge => nature == Nature::TooLarge,
        OutcomeCode::ResultTooLarge => nature == Nature::Oversized,
        _ => false,
    };
    assert!(expected, "I6: {number}, which is {nature:?}, ended by {outcome:?}");
}
