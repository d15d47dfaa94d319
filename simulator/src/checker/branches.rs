//! Branches that show in a single observation, or in two.

use std::collections::{BTreeMap, BTreeSet};

use harmony_protocol::ids::{BatchUid, Epoch};
use harmony_protocol::wire::{Ending, Health, Message, Part, RefusedCode, Report, Results, ReturnCause, Span};

use super::coverage::Branch;
use super::scene::Seen;
use crate::network::{ConnectionId, PartyId};
use crate::observation::{Carried, Execution, Observation, Role, Verdict};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Branches {
    asked: BTreeMap<(ConnectionId, u32), Vec<Span>>,
    /// Outcomes that a worker process has sent, and on which link first.
    sent: BTreeMap<(PartyId, Execution), ConnectionId>,
    /// Outputs that a worker process has sent parts of, and on which link last.
    parted: BTreeMap<(PartyId, Execution), ConnectionId>,
    /// Payloads that a ventilator process has begun to send in parts, and on which link last.
    uploaded: BTreeMap<(PartyId, Execution), ConnectionId>,
    /// The outcome that does not fit, by what the worker on a link said last.
    blocked: BTreeMap<ConnectionId, u64>,
    /// What the collector let the worker on a link send last.
    allowances: BTreeMap<ConnectionId, u64>,
    full: BTreeSet<BatchUid>,
    cancelled: bool,
}

impl Branches {
    pub(super) fn observe(&mut self, seen: &Seen<'_>) {
        let note = |branch, seen_now: bool| {
            if seen_now {
                seen.coverage.note(branch);
            }
        };
        match *seen.what {
            Observation::Ended { party, .. } => {
                self.sent.retain(|(worker, _), _| *worker != party);
                self.parted.retain(|(worker, _), _| *worker != party);
                self.uploaded.retain(|(ventilator, _), _| *ventilator != party);
            }
            Observation::Recovered(_, recovery) => note(Branch::TailTruncated, recovery.torn_bytes > 0),
            Observation::Damaged(..) => note(Branch::DamageFound, true),
            Observation::Released { .. } => note(Branch::BatchForgotten, true),
            Observation::TaskStopped { .. } => note(Branch::TaskStopped, true),
            Observation::CancelAsked(_) => self.cancelled = true,
            Observation::Ends { party, verdict } => match verdict {
                Verdict::Fenced(_) => note(Branch::VentilatorFenced, true),
                Verdict::Done(done) => {
                    if let Some(Role::Ventilator(batch)) = seen.scene.role(party) {
                        note(Branch::EmptyBatch, seen.oracle[batch].completions == 0);
                    }
                    let early = matches!(done.ending, Ending::Cancelled(_));
                    note(Branch::Cancelled, early && self.cancelled);
                    note(Branch::TooManyFailures, early && !self.cancelled);
                }
                Verdict::Failed(_) => {}
            },
            Observation::Sent(carried) => self.say(seen, &carried),
            Observation::Delivered(carried) => self.hear(seen, &carried),
            _ => {}
        }
    }

    fn say(&mut self, seen: &Seen<'_>, carried: &Carried<'_>) {
        let note = |branch| seen.coverage.note(branch);
        match carried.message {
            Message::Tasks(tasks) if tasks.alone => note(Branch::SentAlone),
            Message::Held(held) if !held.answer => {
                self.asked.insert((carried.connection, held.serial), held.spans.clone());
            }
            Message::Return(returned) if returned.cause == ReturnCause::Drain && !returned.tasks.is_empty() => {
                note(Branch::ReturnedByDrain);
            }
            Message::Refused(refused) => match (refused.code, seen.scene.role(carried.from)) {
                (RefusedCode::NotStarted, Some(Role::Collector))
                    if matches!(seen.scene.role_of(carried.to), Some(Role::Worker(_))) =>
                {
                    note(Branch::NotStartedRefused);
                }
                (RefusedCode::Fenced, Some(Role::Collector)) => note(Branch::StaleEpochAtCollector),
                (RefusedCode::Fenced, _) => note(Branch::StaleEpochAtWorker),
                _ => {}
            },
            Message::Ping(ping) => match ping.blocked {
                Some(bytes) => drop(self.blocked.insert(carried.connection, bytes)),
                None => drop(self.blocked.remove(&carried.connection)),
            },
            Message::Ack(ack) => {
                let blocked = self.blocked.get(&carried.connection).copied();
                let told = self.allowances.insert(carried.connection, ack.allowance).unwrap_or(0);
                if blocked.is_some_and(|bytes| told > 0 && told < bytes && bytes <= ack.allowance) {
                    note(Branch::ReserveGranted);
                }
            }
            Message::Report(report) => self.report(seen, carried, report),
            Message::Results(results) => self.send_results(seen, carried, results),
            Message::Part(part) => self.send_part(seen, carried, part),
            _ => {}
        }
    }

    fn report(&mut self, seen: &Seen<'_>, carried: &Carried<'_>, report: &Report) {
        let Some(uid) = seen.scene.batch(carried) else { return };
        if report.health == Health::DiskFull {
            self.full.insert(uid);
            seen.coverage.note(Branch::DiskFullTold);
        } else if self.full.remove(&uid) {
            seen.coverage.note(Branch::DiskRoomTold);
        }
    }

    fn send_results(&mut self, seen: &Seen<'_>, carried: &Carried<'_>, results: &Results) {
        let Some(uid) = seen.scene.batch(carried) else { return };
        for entry in &results.entries {
            let task = Execution {
                uid,
                number: entry.number,
                attempt: entry.attempt,
            };
            let before = self.sent.insert((carried.from, task), carried.connection);
            if before.is_some_and(|connection| connection != carried.connection) {
                seen.coverage.note(Branch::OutcomesResent);
            }
        }
    }

    fn send_part(&mut self, seen: &Seen<'_>, carried: &Carried<'_>, part: &Part) {
        let Some(uid) = seen.scene.batch(carried) else { return };
        let (number, attempt) = (part.number, part.attempt);
        let task = Execution { uid, number, attempt };
        let of_output = seen.scene.role_of(carried.to) == Some(Role::Collector);
        let (known, in_parts, started_over) = if of_output {
            (&mut self.parted, Branch::OutputInParts, Branch::OutputStartedOver)
        } else {
            (&mut self.uploaded, Branch::PayloadInParts, Branch::PayloadStartedOver)
        };
        let before = known.insert((carried.from, task), carried.connection);
        if before.is_some_and(|connection| connection != carried.connection) {
            seen.coverage.note(started_over);
        }
        if part.offset > 0 {
            seen.coverage.note(in_parts);
        }
    }

    fn hear(&mut self, seen: &Seen<'_>, carried: &Carried<'_>) {
        let Some(uid) = seen.scene.batch(carried) else { return };
        let at_collector = seen.scene.role(carried.to) == Some(Role::Collector);
        let stale = |epoch: Epoch| at_collector && epoch > 0 && epoch < seen.facts(uid).epoch();
        let stale = match carried.message {
            Message::End(end) => stale(end.epoch),
            Message::Lost(lost) => stale(lost.epoch),
            Message::Cancel(cancel) => stale(cancel.epoch),
            Message::Start(start) => {
                if at_collector && start.epoch > 0 && seen.facts(uid).ended.is_some() {
                    seen.coverage.note(Branch::StartedAfterEnd);
                }
                stale(start.epoch)
            }
            Message::Results(results) if at_collector => {
                let settled = &seen.facts(uid).settled;
                if results.entries.iter().any(|entry| settled.contains_key(&entry.number)) {
                    seen.coverage.note(Branch::DuplicateDropped);
                }
                let parted = results.entries.iter().filter(|entry| entry.parted.is_some());
                if parted.into_iter().any(|entry| settled.contains_key(&entry.number)) {
                    seen.coverage.note(Branch::OutputOfSettled);
                }
                false
            }
            Message::Held(held) if held.answer => {
                self.answer(seen, (carried.connection, held.serial), &held.spans);
                false
            }
            _ => false,
        };
        if stale {
            seen.coverage.note(Branch::StaleEpochAtCollector);
        }
    }

    fn answer(&mut self, seen: &Seen<'_>, question: (ConnectionId, u32), held: &[Span]) {
        let Some(asked) = self.asked.remove(&question) else {
            return;
        };
        let count = |spans: &[Span]| spans.iter().map(|(first, last)| last - first + 1).sum::<u64>();
        if !held.is_empty() {
            seen.coverage.note(Branch::HeldYes);
        }
        if count(held) < count(&asked) {
            seen.coverage.note(Branch::HeldNo);
        }
    }
}
