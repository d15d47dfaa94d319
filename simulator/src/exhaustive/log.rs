//! The log as plain records, what is durable of it, and what was seen elsewhere: the judge's memory.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use harmony_protocol::collector::{BatchState, Record};
use harmony_protocol::ids::{Attempt, Epoch};
use harmony_protocol::wire::{Done, Ending, Message, OutcomeCode, ResultEntry, Span, StateBody};

use super::key;

/// What is durable, read by rules of its own.
#[derive(Clone, Debug, Default)]
pub(super) struct Facts {
    /// Settled numbers, and whether they succeeded.
    settled: BTreeMap<u64, bool>,
    charged: BTreeSet<(u64, Attempt)>,
    epoch: Epoch,
    ended: Option<Done>,
}

/// The log, and what all processes together have done.
#[derive(Clone, Debug, Default)]
pub(super) struct Ledger {
    /// There is a log.
    pub(super) made: bool,
    facts: Facts,
    /// The durable records, replayed.
    state: BatchState,
    state_key: u128,
    /// Records that a crash may lose.
    unsynced: Vec<Bytes>,
    dispatched: BTreeSet<(u64, Attempt)>,
    runs: BTreeMap<u64, u32>,
    /// The epoch that the ventilator wrote down.
    pub(super) claimed: Epoch,
    /// A ventilator has heard the end.
    pub(super) done: bool,
}

impl Ledger {
    /// A key of all of it.
    pub(super) fn key(&self) -> u128 {
        let log = (self.made, self.state_key, &self.unsynced);
        key::of(&(log, &self.dispatched, &self.runs, self.claimed, self.done))
    }

    /// Writes a record.
    pub(super) fn append(&mut self, pieces: &[Bytes]) {
        self.unsynced.push(pieces.concat().into());
    }

    /// How many records a sync that begins now makes durable.
    pub(super) fn unsynced(&self) -> usize {
        self.unsynced.len()
    }

    /// That many more records are durable.
    pub(super) fn sync(&mut self, count: usize) {
        for bytes in self.unsynced.drain(..count) {
            let record = Record::decode(&bytes).expect("a record is readable");
            self.facts.read(&record);
            self.state.apply(&record);
        }
        self.state.sanity_check();
        let replayed: Vec<u64> = self.state.settled().spans().flat_map(|(a, b)| a..=b).collect();
        let known: Vec<u64> = self.facts.settled.keys().copied().collect();
        assert_eq!(replayed, known, "settled numbers after replay");
        self.state_key = key::of(&self.state.checkpoint());
    }

    /// The collector dies.
    pub(super) fn crash(&mut self, hard: bool) {
        if hard {
            self.unsynced.clear();
        }
    }

    /// The log is opened: what was not lost is durable now.
    pub(super) fn open(&mut self) -> BatchState {
        self.made = true;
        self.sync(self.unsynced.len());
        self.state.clone()
    }

    /// A ventilator sends a task.
    pub(super) fn dispatches(&mut self, number: u64, attempt: Attempt) {
        assert!(!self.done, "{number}@{attempt} is sent after the end");
        self.dispatched.insert((number, attempt));
    }

    /// A worker runs a task. Each fault may cost one more run of a number, and so does each failed attempt.
    pub(super) fn runs(&mut self, number: u64, attempt: Attempt, faults: u32) {
        let sent = self.dispatched.contains(&(number, attempt));
        assert!(sent, "{number}@{attempt} runs and was never sent");
        let runs = self.runs.entry(number).or_default();
        *runs += 1;
        let most = attempt + faults;
        assert!(*runs <= most, "{number} runs {runs} times after {faults} faults");
    }

    /// The collector says something to a ventilator: all of it must be durable.
    pub(super) fn hears(&self, message: &Message, completions: u64) {
        match message {
            Message::Report(report) => {
                self.facts.holds(&report.succeeded, true);
                self.facts.holds(&report.failed, false);
                for retry in &report.retries {
                    let charged = self.facts.charged.contains(&(retry.number, retry.attempt - 1));
                    assert!(charged || retry.attempt == 1, "{retry:?} is not durable");
                }
            }
            Message::State(state) => {
                let StateBody::Collector(body) = &state.body else {
                    panic!("the collector sends the STATE of a worker");
                };
                assert!(body.epoch <= self.facts.epoch, "epoch {} is not durable", body.epoch);
                self.facts.holds(&body.succeeded, true);
                self.facts.holds(&body.failed, false);
            }
            Message::Done(done) => {
                assert_eq!(Some(done), self.facts.ended.as_ref(), "DONE is not durable");
                assert_eq!(done.ending, Ending::Complete);
                let settled = self.facts.settled.len() as u64;
                assert_eq!(settled, completions, "settled numbers at DONE");
            }
            _ => {}
        }
    }

    /// The collector acks outcomes: each must be durable, or of no use.
    pub(super) fn acks(&self, entries: &[ResultEntry]) {
        for entry in entries {
            let settled = self.facts.settled.contains_key(&entry.number);
            let charged = entry.outcome != OutcomeCode::Succeeded
                && self
                    .facts
                    .charged
                    .range((entry.number, entry.attempt)..=(entry.number, u32::MAX))
                    .next()
                    .is_some();
            assert!(settled || charged, "ACK of {entry:?}, which is not durable");
        }
    }

    /// The end: all is settled, as it should be.
    pub(super) fn judge(&self, completions: u64, quiet: bool) {
        assert!(self.facts.ended.is_some(), "the end is not durable");
        for number in 0..completions {
            assert_eq!(
                self.facts.settled.get(&number),
                Some(&true),
                "{number} is settled as a success"
            );
            let attempts = self.facts.charged.range((number, 0)..=(number, u32::MAX)).count() + 1;
            let runs = self.runs.get(&number).copied().unwrap_or_default() as usize;
            assert!(
                !quiet || runs == attempts,
                "{number} ran {runs} times for {attempts} attempts, without a fault"
            );
        }
    }
}

impl Facts {
    fn read(&mut self, record: &Record) {
        assert_eq!(self.ended, None, "a record follows the end of the batch: {record:?}");
        match record {
            Record::Claim(claim) => {
                assert!(
                    claim.epoch > self.epoch,
                    "epoch {} is claimed after {}",
                    claim.epoch,
                    self.epoch
                );
                self.epoch = claim.epoch;
            }
            Record::Outcomes(outcomes) => {
                for (position, entry) in outcomes.results.entries.iter().enumerate() {
                    let number = entry.number;
                    assert!(
                        !self.settled.contains_key(&number),
                        "{number} is settled, yet recorded again"
                    );
                    let succeeded = entry.outcome == OutcomeCode::Succeeded;
                    if !succeeded {
                        let new = self.charged.insert((number, entry.attempt));
                        assert!(new, "{number}@{} is charged twice", entry.attempt);
                    }
                    if succeeded || outcomes.final_failures.iter().any(|last| *last as usize == position) {
                        self.settled.insert(number, succeeded);
                    }
                }
            }
            Record::Ending(done) => self.ended = Some(done.clone()),
            Record::Death(_) | Record::End(_) => {}
            Record::Damaged(spans) => panic!("nothing was damaged, yet {spans:?} are"),
        }
    }

    fn holds(&self, spans: &[Span], succeeded: bool) {
        for number in spans.iter().flat_map(|(first, last)| *first..=*last) {
            assert_eq!(
                self.settled.get(&number),
                Some(&succeeded),
                "{number} is told as settled, which is not durable"
            );
        }
    }
}
