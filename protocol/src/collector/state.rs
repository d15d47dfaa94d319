//! What a batch is at the collector: a function of its records.

use std::collections::{BTreeMap, BTreeSet};

use roaring::RoaringTreemap;
use serde::{Deserialize, Serialize};

use super::record::{Claim, Death, Outcomes, Record};
use crate::ids::{Attempt, Epoch, InstanceId, ProcessId};
use crate::limits::{LOSSES_KEPT, MAX_NUMBERS};
use crate::mutant::{self, Mutant};
use crate::set::NumberSet;
use crate::wire::{Counts, Done, OutcomeCode, Policy, Span};

/// The durable state of one batch.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BatchState {
    head: Head,
    settled: NumberSet,
    failed: RoaringTreemap,
    /// Unsettled numbers whose current attempt is above 1.
    current: BTreeMap<u64, Attempt>,
}

/// The part that is written as JSON in a checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Head {
    claim: Option<Claim>,
    completions: Option<u64>,
    ended: Option<Done>,
    /// Worker deaths that unsettled numbers were in flight at.
    deaths: BTreeMap<u64, u32>,
    /// The processes that were counted, so that a repeated LOST counts once.
    dead: BTreeSet<ProcessId>,
    charged: u64,
    damaged: u64,
}

/// Why bytes are not a checkpoint.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// Too short for what it says.
    #[error("the checkpoint ends after {0} bytes")]
    Short(usize),
    /// Damaged JSON.
    #[error("the head of the checkpoint is not readable: {0}")]
    Json(#[from] serde_json::Error),
    /// A damaged set.
    #[error("the settled numbers of the checkpoint are not readable: {0}")]
    Set(#[from] crate::set::SetError),
    /// A damaged bitmap.
    #[error("the failed numbers of the checkpoint are not readable: {0}")]
    Bitmap(#[from] std::io::Error),
}

/// What the collector does with one outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It settles the number: a success.
    Success,
    /// It is charged, and the number fails for good.
    FinalFailure,
    /// It is charged, and the number is tried again at this attempt.
    Charged(Attempt),
    /// It is an old failure: the number is tried again at its current attempt, uncharged.
    Retry(Attempt),
    /// The number is settled already.
    Duplicate,
    /// The number is not below N.
    OutOfRange,
}

impl BatchState {
    /// Applies one record, on replay and when it is made.
    pub fn apply(&mut self, record: &Record) {
        match record {
            Record::Claim(claim) => {
                self.head.completions = self.head.completions.or(claim.completions);
                self.head.claim = Some(claim.clone());
            }
            Record::Outcomes(outcomes) => self.apply_outcomes(outcomes),
            Record::Death(death) => self.apply_death(death),
            Record::End(completions) => self.head.completions = Some(*completions),
            Record::Ending(done) => self.head.ended = Some(done.clone()),
            Record::Damaged(spans) => self.apply_damage(spans),
        }
    }

    fn apply_outcomes(&mut self, outcomes: &Outcomes) {
        let mut run: Option<Span> = None;
        for (position, entry) in (0_u32..).zip(&outcomes.results.entries) {
            if outcomes.settles(position, entry) {
                if entry.outcome != OutcomeCode::Succeeded {
                    self.head.charged += 1;
                    self.failed.insert(entry.number);
                }
                self.forget_open(entry.number);
                run = match run {
                    Some((first, last)) if last.checked_add(1) == Some(entry.number) => Some((first, entry.number)),
                    Some((first, last)) => {
                        self.settled.insert_span(first, last);
                        Some((entry.number, entry.number))
                    }
                    None => Some((entry.number, entry.number)),
                };
            } else {
                self.head.charged += 1;
                self.current.insert(entry.number, entry.attempt.saturating_add(1));
            }
        }
        if let Some((first, last)) = run {
            self.settled.insert_span(first, last);
        }
    }

    fn forget_open(&mut self, number: u64) {
        if !self.current.is_empty() {
            self.current.remove(&number);
        }
        if !self.head.deaths.is_empty() {
            self.head.deaths.remove(&number);
        }
    }

    fn apply_death(&mut self, death: &Death) {
        if self.head.dead.len() < LOSSES_KEPT {
            self.head.dead.insert(death.process_id);
        }
        let below = self.head.completions.unwrap_or(MAX_NUMBERS);
        for number in death.numbers.iter().flat_map(|(first, last)| *first..=*last) {
            if self.settled.contains(number) || number >= below {
                continue;
            }
            let room = self.head.deaths.len() < LOSSES_KEPT;
            match self.head.deaths.get_mut(&number) {
                Some(count) => *count += 1,
                None if room => drop(self.head.deaths.insert(number, 1)),
                None => {}
            }
        }
    }

    fn apply_damage(&mut self, spans: &[Span]) {
        for number in spans.iter().flat_map(|(first, last)| *first..=*last) {
            self.head.damaged += u64::from(self.settled.remove(number));
            self.failed.remove(number);
        }
    }

    /// What is to be done with an outcome. Changes nothing.
    pub(crate) fn judge(&self, number: u64, attempt: Attempt, outcome: OutcomeCode) -> Verdict {
        if number >= self.head.completions.unwrap_or(MAX_NUMBERS) {
            return Verdict::OutOfRange;
        }
        let overwrites =
            outcome == OutcomeCode::Succeeded && self.failed.contains(number) && mutant::on(Mutant::FailureOverwritten);
        if self.settled.contains(number) && !mutant::on(Mutant::NoDedup) && !overwrites {
            return Verdict::Duplicate;
        }
        let current = self.attempt(number);
        if outcome == OutcomeCode::Succeeded {
            Verdict::Success
        } else if attempt < current && !mutant::on(Mutant::ChargedTwice) {
            Verdict::Retry(current)
        } else if outcome == OutcomeCode::PayloadTooLarge || attempt > self.backoff_limit() {
            Verdict::FinalFailure
        } else {
            Verdict::Charged(attempt.saturating_add(1))
        }
    }

    fn backoff_limit(&self) -> u32 {
        self.policy().map_or(0, |policy| policy.backoff_limit_per_index)
    }

    /// The current attempt of a number.
    pub fn attempt(&self, number: u64) -> Attempt {
        self.current.get(&number).copied().unwrap_or(1)
    }

    /// Every unsettled number whose current attempt is above 1.
    pub fn retries(&self) -> impl Iterator<Item = (u64, Attempt)> {
        self.current.iter().map(|(number, attempt)| (*number, *attempt))
    }

    /// Worker deaths that unsettled numbers were in flight at.
    pub fn deaths(&self) -> impl Iterator<Item = (u64, u32)> {
        self.head.deaths.iter().map(|(number, count)| (*number, *count))
    }

    /// Whether the death of this process was counted.
    pub(crate) fn knows_death(&self, process: ProcessId) -> bool {
        self.head.dead.contains(&process)
    }

    /// The last ventilator that took the batch over.
    pub fn claim(&self) -> Option<&Claim> {
        self.head.claim.as_ref()
    }

    /// The last epoch made durable; 0 if there was none.
    pub fn epoch(&self) -> Epoch {
        self.claim().map_or(0, |claim| claim.epoch)
    }

    /// The ventilator of that epoch.
    pub fn instance(&self) -> Option<InstanceId> {
        self.claim().map(|claim| claim.instance)
    }

    /// What the collector decides by.
    pub fn policy(&self) -> Option<&Policy> {
        self.claim().map(|claim| &claim.policy)
    }

    /// N, if it is known.
    pub fn completions(&self) -> Option<u64> {
        self.head.completions
    }

    /// How the batch ended, if it did.
    pub fn ended(&self) -> Option<&Done> {
        self.head.ended.as_ref()
    }

    /// The numbers that succeeded or failed for good.
    pub fn settled(&self) -> &NumberSet {
        &self.settled
    }

    /// Whether a number failed for good.
    pub fn has_failed(&self, number: u64) -> bool {
        self.failed.contains(number)
    }

    /// The numbers that failed for good, ascending, as spans.
    pub fn failed_spans(&self) -> Vec<Span> {
        let mut spans: Vec<Span> = Vec::new();
        for number in &self.failed {
            match spans.last_mut() {
                Some(span) if span.1 + 1 == number => span.1 = number,
                _ => spans.push((number, number)),
            }
        }
        spans
    }

    /// Whether N is known and every number is settled.
    pub fn is_settled(&self) -> bool {
        let settled = if mutant::on(Mutant::CounterInsteadOfSet) {
            self.settled.len() + self.head.charged
        } else {
            self.settled.low()
        };
        self.head.completions.is_some_and(|n| settled >= n)
    }

    /// Totals, as far as the log knows them.
    pub fn counts(&self) -> Counts {
        let failed = self.failed.len();
        Counts {
            succeeded: self.settled.len() - failed,
            failed,
            charged: self.head.charged,
            damaged: self.head.damaged,
            ..Counts::default()
        }
    }

    /// The state as bytes, for a checkpoint.
    pub fn checkpoint(&self) -> Vec<u8> {
        let head = serde_json::to_vec(&self.head).unwrap_or_default();
        let mut current = Vec::with_capacity(self.current.len() * 12);
        for (number, attempt) in &self.current {
            current.extend_from_slice(&number.to_be_bytes());
            current.extend_from_slice(&attempt.to_be_bytes());
        }
        let (mut settled, mut failed) = (Vec::new(), Vec::new());
        // Writing into memory cannot fail.
        let _ = self.settled.write_to(&mut settled);
        let _ = self.failed.serialize_into(&mut failed);
        let mut bytes = Vec::new();
        for part in [&head, &current, &settled, &failed] {
            bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
            bytes.extend_from_slice(part);
        }
        bytes
    }

    /// Reads a checkpoint.
    pub fn restore(bytes: &[u8]) -> Result<Self, CheckpointError> {
        let mut rest = bytes;
        let mut part = || -> Result<&[u8], CheckpointError> {
            let short = CheckpointError::Short(bytes.len());
            let (length, after) = rest
                .split_first_chunk::<8>()
                .ok_or(CheckpointError::Short(bytes.len()))?;
            let length = usize::try_from(u64::from_be_bytes(*length)).unwrap_or(usize::MAX);
            let (part, after) = after.split_at_checked(length).ok_or(short)?;
            rest = after;
            Ok(part)
        };
        let head = serde_json::from_slice(part()?)?;
        let current = part()?
            .chunks_exact(12)
            .filter_map(|entry| {
                let (number, attempt) = entry.split_first_chunk::<8>()?;
                Some((
                    u64::from_be_bytes(*number),
                    Attempt::from_be_bytes(attempt.try_into().ok()?),
                ))
            })
            .collect();
        let settled = NumberSet::read_from(part()?)?;
        let failed = RoaringTreemap::deserialize_from(part()?)?;
        Ok(Self {
            head,
            settled,
            failed,
            current,
        })
    }

    /// Checks all invariants, for tests.
    ///
    /// # Panics
    /// If the sets contradict each other.
    pub fn sanity_check(&self) {
        assert!(
            self.failed.iter().all(|number| self.settled.contains(number)),
            "failed but not settled"
        );
        assert!(
            self.current.keys().all(|number| !self.settled.contains(*number)),
            "settled, yet to be tried again"
        );
        assert!(
            self.head.deaths.keys().all(|number| !self.settled.contains(*number)),
            "settled, yet counted as at risk"
        );
        if let Some(n) = self.head.completions {
            assert!(self.settled.len() <= n, "more settled than there are");
        }
    }
}
