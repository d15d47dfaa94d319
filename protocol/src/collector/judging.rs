//! Outcomes that come in: each is recorded, charged, or counted as a duplicate.

use std::collections::BTreeSet;
use std::time::Instant;

use bytes::BytesMut;

use super::batch::{Batch, retry_delay};
use super::commit::{Delta, Effect};
use super::output::{Answer, Kept, OutputId};
use super::record::{Outcomes, Record};
use super::state::Verdict;
use crate::limits::{FAILURE_LOG, FAILURES_TOLD};
use crate::mutant::{self, Mutant};
use crate::wire::{Failure, OutcomeCode, Results, Span};

/// A duplicate whose bytes are to be compared with what is recorded.
#[derive(Clone, Debug)]
pub(crate) struct Duplicate {
    pub(crate) number: u64,
    pub(crate) answer: Answer,
}

impl Batch {
    /// Takes in the outcomes of one message: what settles or charges is recorded, the rest is counted. Returns
    /// duplicates that should be compared with what is recorded. With a stored output there is one outcome, a success that
    /// was judged to count.
    pub(crate) fn take_results(
        &mut self,
        now: Instant,
        worker: &str,
        results: Results,
        stored: Option<OutputId>,
    ) -> Vec<Duplicate> {
        self.used_at = now;
        if self.state.ended().is_some() {
            return Vec::new();
        }
        let number = results.entries.first().map_or(0, |entry| entry.number);
        let parts = without_repeats(results);
        let duplicates = parts
            .into_iter()
            .flat_map(|part| self.sift(now, worker, part))
            .collect();
        if let Some(output) = stored {
            self.commit.keep(Kept { output, number });
        }
        duplicates
    }

    /// Judges each outcome; numbers are distinct.
    fn sift(&mut self, now: Instant, worker: &str, results: Results) -> Vec<Duplicate> {
        let mut sieve = Sieve::default();
        for (position, entry) in results.entries.iter().enumerate() {
            match self.state.judge(entry.number, entry.attempt, entry.outcome) {
                Verdict::Success => {
                    self.tally.record(entry);
                    sieve.keep_success(position, entry.number);
                }
                Verdict::FinalFailure => {
                    self.tally.record(entry);
                    *sieve.delta.finals.entry(entry.outcome.name()).or_default() += 1;
                    sieve.keep_failure(position, entry.number, true);
                }
                Verdict::Charged(next) => {
                    self.tally.record(entry);
                    sieve.keep_failure(position, entry.number, false);
                    self.waiting.insert(entry.number, now + retry_delay(next));
                    sieve.delta.retries.push(self.retry(now, entry.number, next));
                }
                Verdict::Retry(current) => sieve.delta.retries.push(self.retry(now, entry.number, current)),
                Verdict::Duplicate => {
                    self.duplicates += u64::from(!mutant::on(Mutant::DuplicatesUncounted));
                    sieve.duplicates.push(position);
                }
                Verdict::OutOfRange => self.out_of_range += 1,
            }
        }
        let duplicates = self.duplicate_outputs(&results, &sieve.duplicates);
        sieve.delta.failures = final_failures(worker, &results, &sieve);
        let delta = self.record_kept(now, worker, results, sieve);
        if !delta.is_empty() {
            self.commit.defer(Effect::Delta(delta));
        }
        duplicates
    }

    fn duplicate_outputs(&self, results: &Results, positions: &[usize]) -> Vec<Duplicate> {
        if positions.is_empty() {
            return Vec::new();
        }
        let pieces: Vec<_> = results.pieces().collect();
        let pieces = positions.iter().filter_map(|position| pieces.get(*position));
        pieces
            .filter(|(entry, ..)| entry.outcome == OutcomeCode::Succeeded && !self.state.has_failed(entry.number))
            .map(|(entry, output, _)| Duplicate {
                number: entry.number,
                answer: match entry.parted {
                    None => Answer::Bytes(output.clone()),
                    Some(checksum) => Answer::Parted {
                        length: entry.output,
                        checksum,
                    },
                },
            })
            .collect()
    }

    fn record_kept(&mut self, now: Instant, worker: &str, results: Results, sieve: Sieve) -> Delta {
        if sieve.kept.is_empty() {
            return sieve.delta;
        }
        if !self.waiting.is_empty() {
            for number in sieve.settled_numbers() {
                self.waiting.remove(&number);
            }
        }
        let whole = sieve.kept.len() == results.entries.len();
        let results = if whole { results } else { pick(&results, &sieve.kept) };
        let worker = worker.to_owned();
        let record = Record::Outcomes(Outcomes {
            worker,
            final_failures: sieve.final_failures,
            results,
        });
        self.record(now, &record);
        sieve.delta
    }
}

/// What of one message is kept.
#[derive(Default)]
struct Sieve {
    /// Positions that go into the record.
    kept: Vec<usize>,
    final_failures: Vec<u32>,
    duplicates: Vec<usize>,
    delta: Delta,
}

impl Sieve {
    fn keep_success(&mut self, position: usize, number: u64) {
        self.kept.push(position);
        push_number(&mut self.delta.succeeded, number);
    }

    fn keep_failure(&mut self, position: usize, number: u64, settles: bool) {
        if settles {
            self.final_failures
                .push(u32::try_from(self.kept.len()).unwrap_or(u32::MAX));
            push_number(&mut self.delta.failed, number);
        }
        self.kept.push(position);
    }

    fn settled_numbers(&self) -> impl Iterator<Item = u64> {
        self.delta
            .succeeded
            .iter()
            .chain(&self.delta.failed)
            .flat_map(|(first, last)| *first..=*last)
    }
}

/// The causes of the first numbers that failed for good.
fn final_failures(worker: &str, results: &Results, sieve: &Sieve) -> Vec<Failure> {
    if sieve.final_failures.is_empty() {
        return Vec::new();
    }
    let places = sieve
        .final_failures
        .iter()
        .filter_map(|place| sieve.kept.get(*place as usize));
    let places: Vec<usize> = places.take(FAILURES_TOLD).copied().collect();
    let pieces = results.pieces().enumerate();
    let failed = pieces.filter(|(place, _)| places.binary_search(place).is_ok());
    failed
        .map(|(_, (entry, _, log))| Failure {
            number: entry.number,
            attempt: entry.attempt,
            reason: entry.outcome.name().to_owned(),
            code: entry.code,
            worker: worker.to_owned(),
            log: log_end(&log),
        })
        .collect()
}

/// The end of a log as text.
fn log_end(log: &[u8]) -> String {
    let text = String::from_utf8_lossy(log);
    let text = text.trim_end();
    let from = text.ceil_char_boundary(text.len().saturating_sub(FAILURE_LOG));
    text.get(from..).unwrap_or_default().to_owned()
}

fn push_number(spans: &mut Vec<Span>, number: u64) {
    match spans.last_mut() {
        Some(span) if span.1.checked_add(1) == Some(number) => span.1 = number,
        _ => spans.push((number, number)),
    }
}

/// Cuts outcomes so that no part has a number twice: the second is judged when the first is recorded. Mostly numbers
/// ascend, and there is nothing to cut.
fn without_repeats(results: Results) -> Vec<Results> {
    if results.entries.is_sorted_by(|a, b| a.number < b.number) {
        return vec![results];
    }
    let mut seen = BTreeSet::new();
    let mut cuts = Vec::new();
    for (position, entry) in results.entries.iter().enumerate() {
        if !seen.insert(entry.number) {
            cuts.push(position);
            seen = BTreeSet::from([entry.number]);
        }
    }
    cuts.push(results.entries.len());
    let mut begin = 0;
    let positions: Vec<usize> = (0..results.entries.len()).collect();
    cuts.into_iter()
        .map(|end| {
            let part = pick(&results, positions.get(begin..end).unwrap_or_default());
            begin = end;
            part
        })
        .collect()
}

/// The entries at these positions, with their bytes.
fn pick(results: &Results, positions: &[usize]) -> Results {
    let mut wanted = positions.iter().copied().peekable();
    let mut entries = Vec::with_capacity(positions.len());
    let mut bytes = BytesMut::new();
    for (position, (entry, output, log)) in results.pieces().enumerate() {
        if wanted.next_if_eq(&position).is_some() {
            entries.push(entry);
            bytes.extend_from_slice(&output);
            bytes.extend_from_slice(&log);
        }
    }
    Results {
        sequence: results.sequence,
        entries,
        bytes: bytes.freeze(),
    }
}
