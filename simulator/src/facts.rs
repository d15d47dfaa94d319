//! What a log says, read by rules of our own: the machine's `BatchState` is not asked.

use std::collections::{BTreeMap, BTreeSet};

use harmony_protocol::ids::{Attempt, Epoch, InstanceId, ProcessId};
use harmony_protocol::wire::{Done, OutcomeCode};

use crate::log_record::{Outcome, Record};
use crate::tasks::Tasks;

/// How a number ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// The attempt that ended it.
    pub attempt: Attempt,
    /// How.
    pub outcome: OutcomeCode,
    /// What it adds to the digest of the batch.
    pub sum: u32,
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
    /// Numbers that were in a damaged record at some time: what was said of them may be forgotten.
    pub damaged: BTreeSet<u64>,
    /// How often a number was in a record that was damaged or found damaged.
    pub damages: u64,
    /// The highest epoch whose claim was damaged: it may be forgotten.
    pub doubted_epoch: Epoch,
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
                let forgotten = claim.epoch <= self.doubted_epoch;
                assert!(
                    claim.epoch > last || forgotten,
                    "epoch {} was claimed after {last}",
                    claim.epoch
                );
                self.claims.push((claim.epoch, claim.instance));
            }
            Record::Outcomes(outcomes) => self.read_outcomes(outcomes, tasks),
            Record::Death(death) => {
                let forgotten = death.numbers.iter().any(|(first, _)| self.damaged.contains(first));
                assert!(
                    self.dead.insert(death.process_id) || forgotten,
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

    fn read_outcomes(&mut self, outcomes: &[Outcome], tasks: &Tasks) {
        for entry in outcomes {
            let (number, attempt) = (entry.number, entry.attempt);
            let forgotten = self.damaged.contains(&number);
            assert!(number < tasks.completions, "{number} is out of range, yet recorded");
            assert!(
                !self.settled.contains_key(&number) || forgotten,
                "{number} is settled, yet recorded again"
            );
            let end = End {
                attempt,
                outcome: entry.code,
                sum: entry.sum(),
            };
            if entry.code == OutcomeCode::Succeeded {
                assert!(
                    tasks.succeeds(number, attempt),
                    "{number}@{attempt} cannot have succeeded"
                );
                assert!(
                    !entry.lost || forgotten,
                    "the output of {number} is durable, and is lost"
                );
                let answered = entry.lost || tasks.answers(number, &entry.output);
                assert!(answered, "no run of {number} answers this");
                self.settled.insert(number, end);
                continue;
            }
            let before = self.charged.insert((number, attempt), entry.code);
            assert!(before.is_none() || forgotten, "{number}@{attempt} is charged twice");
            let own = tasks.fails(number, attempt) && tasks.failure(number) == Some(entry.code);
            let allowed = own || entry.code == OutcomeCode::WorkerLost;
            assert!(allowed, "{number}@{attempt} cannot have ended by {:?}", entry.code);
            let expected = entry.code == OutcomeCode::PayloadTooLarge || attempt == tasks.backoff_limit + 1;
            assert_eq!(entry.last, expected, "whether {number}@{attempt} was the last attempt");
            assert!(
                attempt <= tasks.backoff_limit + 1,
                "{number}@{attempt} is one attempt too many"
            );
            if entry.last {
                self.settled.insert(number, end);
            }
        }
    }

    /// The disk has damaged a record that is about these numbers, or claims this epoch.
    pub fn doubt(&mut self, numbers: &[u64], claim: Option<Epoch>) {
        self.damaged.extend(numbers);
        self.damages += numbers.len() as u64;
        self.doubted_epoch = self.doubted_epoch.max(claim.unwrap_or(0));
    }

    /// Nothing but what is remembered of damage, to read the log again from its beginning.
    #[must_use]
    pub fn to_reread(&self) -> Self {
        Self {
            damaged: self.damaged.clone(),
            damages: self.damages,
            doubted_epoch: self.doubted_epoch,
            ..Self::default()
        }
    }

    /// Panics if something durable is gone that was not in a damaged record. What an ended batch has lost counts on:
    /// its end was told.
    pub fn follows(&mut self, before: &Self) {
        for (number, end) in &before.settled {
            let now = self.settled.get(number);
            assert!(
                now == Some(end) || self.damaged.contains(number),
                "{number} was settled by {end:?}, which was durable; now it is {now:?}"
            );
            if self.ended.is_some() {
                self.settled.entry(*number).or_insert(*end);
            }
        }
        for charge in before.charged.keys() {
            let there = self.charged.contains_key(charge) || self.damaged.contains(&charge.0);
            assert!(there, "the charge of {charge:?} was durable, and is gone");
        }
        for claim in &before.claims {
            let there = self.claims.contains(claim) || claim.0 <= self.doubted_epoch;
            assert!(there, "the claim {claim:?} was durable, and is gone");
        }
        if before.ended.is_some() {
            assert_eq!(self.ended, before.ended, "the end was durable");
        }
    }

    /// The lowest attempt of a number that is not charged.
    pub fn attempt(&self, number: u64) -> Attempt {
        let charged = self.charged.range((number, 0)..=(number, Attempt::MAX));
        charged.map(|((_, attempt), _)| attempt + 1).max().unwrap_or(1)
    }

    /// The last epoch.
    pub fn epoch(&self) -> Epoch {
        self.claims
            .last()
            .map_or(0, |(epoch, _)| *epoch)
            .max(self.doubted_epoch)
    }
}
