//! What a log says, read by rules of our own: the machine's `BatchState` is not asked.

use std::collections::{BTreeMap, BTreeSet};

use harmony_protocol::collector::{Outcomes, Record};
use harmony_protocol::ids::{Attempt, Epoch, InstanceId, ProcessId};
use harmony_protocol::wire::{Done, OutcomeCode};

use crate::tasks::{Nature, Tasks};

/// How a number ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// The attempt that ended it.
    pub attempt: Attempt,
    /// How.
    pub outcome: OutcomeCode,
}

/// The sum of some records.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Facts {
    /// Numbers that ended.
    pub settled: BTreeMap<u64, End>,
    /// Failed attempts that count.
    pub charged: BTreeMap<(u64, Attempt), OutcomeCode>,
    /// Who took the batch over.
    pub claims: Vec<(Epoch, InstanceId)>,
    /// How the batch ended.
    pub ended: Option<Done>,
    /// Deaths that numbers were in flight at.
    pub deaths: BTreeMap<u64, u32>,
    dead: BTreeSet<ProcessId>,
    /// Numbers whose record was found damaged at some time.
    pub damaged: BTreeSet<u64>,
    /// How often a record was found damaged.
    pub damages: u64,
}

impl Facts {
    /// Reads one more record, and panics if it contradicts the ones before it or the oracle.
    pub fn read(&mut self, record: &Record, tasks: &Tasks) {
        assert!(
            self.ended.is_none(),
            "a record follows the end of the batch: {record:?}"
        );
        match record {
            Record::Claim(claim) => {
                let last = self.claims.last().map_or(0, |(epoch, _)| *epoch);
                assert!(claim.epoch > last, "epoch {} was claimed after {last}", claim.epoch);
                self.claims.push((claim.epoch, claim.instance));
            }
            Record::Outcomes(outcomes) => self.read_outcomes(outcomes, tasks),
            Record::Death(death) => {
                assert!(
                    self.dead.insert(death.process_id),
                    "one death was logged twice: {death:?}"
                );
                for number in death.numbers.iter().flat_map(|(first, last)| *first..=*last) {
                    assert!(
                        number < tasks.completions,
                        "a death names {number}, which is out of range"
                    );
                    *self.deaths.entry(number).or_default() += 1;
                }
            }
            Record::End(completions) => assert_eq!(*completions, tasks.completions, "N"),
            Record::Ending(done) => self.ended = Some(done.clone()),
            Record::Damaged(spans) => {
                for number in spans.iter().flat_map(|(first, last)| *first..=*last) {
                    self.settled.remove(&number);
                    self.charged.retain(|(charged, _), _| *charged != number);
                    self.damaged.insert(number);
                    self.damages += 1;
                }
            }
        }
    }

    fn read_outcomes(&mut self, outcomes: &Outcomes, tasks: &Tasks) {
        for (position, (entry, output, _)) in outcomes.results.pieces().enumerate() {
            let (number, attempt) = (entry.number, entry.attempt);
            assert!(number < tasks.completions, "{number} is out of range, yet recorded");
            assert!(
                !self.settled.contains_key(&number),
                "{number} is settled, yet recorded again"
            );
            let last = outcomes.final_failures.iter().any(|last| *last as usize == position);
            let end = End {
                attempt,
                outcome: entry.outcome,
            };
            if entry.outcome == OutcomeCode::Succeeded {
                assert!(
                    tasks.succeeds(number, attempt),
                    "{number}@{attempt} cannot have succeeded"
                );
                assert_eq!(output, tasks.output(number), "the bytes of {number}");
                self.settled.insert(number, end);
                continue;
            }
            let before = self.charged.insert((number, attempt), entry.outcome);
            assert_eq!(before, None, "{number}@{attempt} is charged twice");
            let allowed = match entry.outcome {
                OutcomeCode::ExitCode => !tasks.succeeds(number, attempt) && tasks.nature(number) != Nature::Poison,
                OutcomeCode::PayloadTooLarge => tasks.nature(number) == Nature::TooLarge,
                OutcomeCode::WorkerLost => true,
                _ => false,
            };
            assert!(allowed, "{number}@{attempt} cannot have ended by {:?}", entry.outcome);
            let expected = entry.outcome == OutcomeCode::PayloadTooLarge || attempt == tasks.backoff_limit + 1;
            assert_eq!(last, expected, "whether {number}@{attempt} was the last attempt");
            assert!(
                attempt <= tasks.backoff_limit + 1,
                "{number}@{attempt} is one attempt too many"
            );
            if last {
                self.settled.insert(number, end);
            }
        }
    }

    /// The lowest attempt of a number that is not charged.
    pub fn attempt(&self, number: u64) -> Attempt {
        let charged = self.charged.range((number, 0)..=(number, Attempt::MAX));
        charged.map(|((_, attempt), _)| attempt + 1).max().unwrap_or(1)
    }

    /// The last epoch.
    pub fn epoch(&self) -> Epoch {
        self.claims.last().map_or(0, |(epoch, _)| *epoch)
    }
}
