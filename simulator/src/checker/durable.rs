//! I4: what is told is durable, and what was told stays.

use std::collections::{BTreeMap, BTreeSet};

use harmony_protocol::ids::{Alias, Attempt, BatchUid};
use harmony_protocol::wire::{Message, OutcomeCode, Report, ResultEntry, Results, Span, StateBody};

use super::scene::Seen;
use crate::facts::Facts;
use crate::network::ConnectionId;
use crate::observation::{Observation, Role};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Durable {
    /// Numbers that a ventilator was told are settled.
    reported: BTreeMap<BatchUid, BTreeSet<u64>>,
    /// RESULTS that the collector took in, by sequence, until they are acked.
    received: BTreeMap<(ConnectionId, Alias), BTreeMap<u64, Vec<ResultEntry>>>,
}

impl Durable {
    pub(super) fn observe(&mut self, seen: &Seen<'_>) {
        if let Observation::Wiped(uid) = seen.what {
            self.reported.remove(uid);
        }
        if let Some((carried, _)) = seen.delivered()
            && let Message::Results(results) = carried.message
        {
            self.receive((carried.connection, carried.alias), results);
        }
        let Some((carried, uid)) = seen.sent() else { return };
        if seen.scene.role(carried.from) != Some(Role::Collector) {
            return;
        }
        let facts = seen.facts(uid);
        match carried.message {
            Message::Report(report) => self.report(uid, report, facts),
            Message::State(state) => {
                let StateBody::Collector(state) = &state.body else {
                    panic!("rule 3: the collector sends the STATE of a worker");
                };
                // Later claims may have become durable since, but none is told before.
                let durable = facts.epoch();
                assert!(
                    state.epoch <= durable,
                    "rule 3: STATE says epoch {}, durable is {durable}",
                    state.epoch
                );
                self.settled(uid, &state.succeeded, facts, true);
                self.settled(uid, &state.failed, facts, false);
            }
            Message::Done(done) => assert_eq!(Some(done), facts.ended.as_ref(), "I4: DONE is not durable"),
            Message::Ack(ack) => self.ack((carried.connection, carried.alias), ack.sequence, facts),
            _ => {}
        }
    }

    fn report(&mut self, uid: BatchUid, report: &Report, facts: &Facts) {
        self.settled(uid, &report.succeeded, facts, true);
        self.settled(uid, &report.failed, facts, false);
        for retry in &report.retries {
            let known = facts.attempt(retry.number);
            assert!(
                retry.attempt <= known || facts.damaged.contains(&retry.number),
                "I4: REPORT says {retry:?}, durable is attempt {known}"
            );
        }
    }

    fn settled(&mut self, uid: BatchUid, spans: &[Span], facts: &Facts, succeeded: bool) {
        let reported = self.reported.entry(uid).or_default();
        for number in spans.iter().flat_map(|(first, last)| *first..=*last) {
            let end = facts.settled.get(&number);
            let known = end.is_some_and(|end| (end.outcome == OutcomeCode::Succeeded) == succeeded);
            // A number found damaged meanwhile is in the MISSING that follows.
            let known = known || facts.damaged.contains(&number);
            assert!(known, "I4: {number} is told as settled, durable is {end:?}");
            reported.insert(number);
        }
    }

    fn receive(&mut self, alias: (ConnectionId, Alias), results: &Results) {
        let received = self.received.entry(alias).or_default();
        received.insert(results.sequence, results.entries.clone());
    }

    /// The collector disposes of outcomes: each must be durable, or of no use.
    fn ack(&mut self, alias: (ConnectionId, Alias), sequence: u64, facts: &Facts) {
        let Some(received) = self.received.get_mut(&alias) else {
            return;
        };
        let later = received.split_off(&(sequence + 1));
        for entry in std::mem::replace(received, later).into_values().flatten() {
            let settled = facts.settled.contains_key(&entry.number) || facts.ended.is_some();
            let charged = entry.outcome != OutcomeCode::Succeeded && is_charged(facts, entry.number, entry.attempt);
            let damaged = facts.damaged.contains(&entry.number);
            assert!(
                settled || charged || damaged,
                "I4: ACK of {entry:?}, which is not durable"
            );
        }
    }

    /// At the end of a run nothing that was told is lost.
    pub(super) fn close(&self, uid: BatchUid, facts: &Facts) {
        for number in self.reported.get(&uid).into_iter().flatten() {
            let known = facts.settled.contains_key(number) || facts.damaged.contains(number);
            assert!(known, "I4: {number} was told as settled, and is lost");
        }
    }
}

fn is_charged(facts: &Facts, number: u64, attempt: Attempt) -> bool {
    facts.attempt(number) > attempt
}
