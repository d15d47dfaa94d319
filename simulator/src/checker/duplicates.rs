//! I10: the collector counts each outcome that came in for a number that was settled, since it opened the log.

use std::collections::{BTreeMap, BTreeSet};

use harmony_protocol::ids::BatchUid;
use harmony_protocol::wire::{Loss, Message, OutcomeCode, ResultEntry};

use super::scene::Seen;
use crate::facts::Facts;
use crate::observation::{Observation, Role};
use crate::tasks::Tasks;

/// What came in of one batch since its log was opened.
#[derive(Debug, Default)]
struct Received {
    /// Numbers that outcomes settled, durable or not.
    settled: BTreeSet<u64>,
    /// Numbers that a LOST may have settled, unless it was stale or said twice.
    lost: BTreeSet<u64>,
    /// The end is durable.
    ended: bool,
    /// The batch may have been ended early.
    cancelled: bool,
    /// Outcomes that were duplicates.
    duplicates: u64,
    /// Outcomes that were duplicates if damage was not known, a LOST counted, or the batch had not ended yet.
    doubtful: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Duplicates {
    open: BTreeMap<BatchUid, Received>,
}

impl Duplicates {
    pub(super) fn observe(&mut self, seen: &Seen<'_>) {
        match *seen.what {
            Observation::Ended { party, .. } if seen.scene.role(party) == Some(Role::Collector) => self.open.clear(),
            Observation::Recovered(uid, _) => {
                let received = Received {
                    ended: seen.facts(uid).ended.is_some(),
                    ..Received::default()
                };
                self.open.insert(uid, received);
            }
            Observation::Synced(uid) => self.check_end(uid, seen.facts(uid)),
            _ => {}
        }
        if let Some((carried, uid)) = seen.delivered()
            && seen.scene.role(carried.to) == Some(Role::Collector)
            && let Some(received) = self.open.get_mut(&uid)
            && seen.facts(uid).ended.is_none()
        {
            let (tasks, facts) = (seen.tasks(uid), seen.facts(uid));
            match carried.message {
                Message::Results(results) => results
                    .entries
                    .iter()
                    .for_each(|entry| received.take(entry, tasks, facts)),
                Message::Lost(lost) => received.take_loss(&lost.loss, facts),
                Message::Cancel(_) => received.cancelled = true,
                _ => {}
            }
        }
        if let Some((carried, uid)) = seen.sent()
            && seen.scene.role(carried.from) == Some(Role::Collector)
            && let Message::Report(report) = carried.message
            && let Some(received) = self.open.get(&uid)
        {
            received.check(report.counts.duplicates);
        }
    }
}

impl Duplicates {
    /// The end is judged once, when it becomes durable: a later process only repeats it.
    fn check_end(&mut self, uid: BatchUid, facts: &Facts) {
        let Some(done) = &facts.ended else { return };
        if let Some(received) = self.open.get_mut(&uid).filter(|received| !received.ended) {
            received.check(done.counts.duplicates);
            received.ended = true;
        }
    }
}

impl Received {
    fn take(&mut self, entry: &ResultEntry, tasks: &Tasks, facts: &Facts) {
        let number = entry.number;
        if number >= tasks.completions {
            return;
        }
        let settled = self.settled.contains(&number) || facts.settled.contains_key(&number);
        let doubted = facts.damaged.contains(&number) || self.lost.contains(&number) && !settled;
        if doubted || settled && self.may_have_ended(tasks, facts) {
            self.doubtful += 1;
        } else if settled {
            self.duplicates += 1;
        }
        if entry.outcome == OutcomeCode::Succeeded || entry.attempt > tasks.backoff_limit {
            self.settled.insert(number);
        }
    }

    fn take_loss(&mut self, loss: &Loss, facts: &Facts) {
        let number = match loss {
            Loss::Death { alone: true, held, .. } => held.first().map(|holding| holding.first),
            Loss::Death { .. } => None,
            Loss::Unsendable { number, .. } => Some(*number),
        };
        let Some(number) = number else { return };
        let settled = self.settled.contains(&number) || facts.settled.contains_key(&number);
        self.doubtful += u64::from(settled || !self.lost.insert(number));
    }

    /// Nothing is counted after the end, which becomes durable only some time after it was decided.
    fn may_have_ended(&self, tasks: &Tasks, facts: &Facts) -> bool {
        let settled = |number| {
            self.settled.contains(&number) || self.lost.contains(&number) || facts.settled.contains_key(&number)
        };
        self.cancelled || (0..tasks.completions).all(settled)
    }

    fn check(&self, told: u64) {
        let most = self.duplicates + self.doubtful;
        assert!(
            (self.duplicates..=most).contains(&told),
            "I10: {told} duplicates are told, {} to {most} came in",
            self.duplicates
        );
    }
}
