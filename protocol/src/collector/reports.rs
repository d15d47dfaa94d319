//! What ventilators are told of a batch: STATE, REPORT and MISSING.

use std::time::{Duration, Instant};

use super::batch::Batch;
use super::commit::Delta;
use crate::ids::Attempt;
use crate::limits::RANGES_PER_PIECE;
use crate::wire::{CollectorState, Deaths, Health, Missing, Report, Retry, Span, State, StateBody};

impl Batch {
    /// The snapshot that answers START, in pieces.
    pub(crate) fn snapshot(&self, now: Instant) -> Vec<State> {
        let failed = self.state.failed_spans();
        let succeeded = subtract(self.state.settled().spans(), &failed);
        let retries: Vec<_> = self
            .state
            .retries()
            .map(|(number, attempt)| self.retry(now, number, attempt))
            .collect();
        let deaths: Vec<_> = self
            .state
            .deaths()
            .map(|(number, count)| Deaths { number, count })
            .collect();
        let (mut succeeded, mut failed, mut retries, mut deaths) = (
            Chunks::new(succeeded),
            Chunks::new(failed),
            Chunks::new(retries),
            Chunks::new(deaths),
        );
        let mut pieces = Vec::new();
        loop {
            let body = CollectorState {
                log_id: self.log_id,
                epoch: self.state.epoch(),
                instance: self.state.instance(),
                completions: self.state.completions(),
                succeeded: succeeded.next_chunk(),
                failed: failed.next_chunk(),
                retries: retries.next_chunk(),
                deaths: deaths.next_chunk(),
            };
            let last = succeeded.is_empty() && failed.is_empty() && retries.is_empty() && deaths.is_empty();
            pieces.push(State {
                last,
                body: StateBody::Collector(body),
            });
            if last {
                return pieces;
            }
        }
    }

    pub(super) fn retry(&self, now: Instant, number: u64, attempt: Attempt) -> Retry {
        let due = self.waiting.get(&number).copied().unwrap_or(now);
        Retry {
            number,
            attempt,
            delay_millis: millis(due.saturating_duration_since(now)),
        }
    }

    /// What is missing, lowest first, without what waits for its next attempt.
    pub(crate) fn missing(&self, now: Instant) -> Missing {
        if self.reading_back {
            return Missing {
                spans: Vec::new(),
                more: false,
            };
        }
        let below = self.state.completions().unwrap_or(0);
        let mut spans = Vec::new();
        for (first, last) in self.state.settled().missing_spans(below) {
            let mut next = first;
            for (&number, _) in self.waiting.range(first..=last).filter(|(_, due)| **due > now) {
                if number > next {
                    spans.push((next, number - 1));
                }
                next = number + 1;
            }
            if next <= last {
                spans.push((next, last));
            }
            if spans.len() >= RANGES_PER_PIECE {
                spans.truncate(RANGES_PER_PIECE);
                return Missing { spans, more: true };
            }
        }
        Missing { spans, more: false }
    }

    /// The reports that tell of a change; long ones are told in pieces.
    pub(crate) fn reports(&self, delta: Delta) -> Vec<Report> {
        let mut succeeded = Chunks::new(joined(delta.succeeded));
        let mut failed = Chunks::new(joined(delta.failed));
        let mut retries = Chunks::new(delta.retries);
        let mut failures = delta.failures;
        let mut reports = Vec::new();
        loop {
            reports.push(Report {
                succeeded: succeeded.next_chunk(),
                failed: failed.next_chunk(),
                counts: self.durable_counts(),
                lowest_missing: self.durable.lowest_missing,
                retries: retries.next_chunk(),
                health: if self.commit.is_full() {
                    Health::DiskFull
                } else {
                    Health::Ok
                },
                failures: std::mem::take(&mut failures),
            });
            if succeeded.is_empty() && failed.is_empty() && retries.is_empty() {
                return reports;
            }
        }
    }
}

/// Sorts spans and joins neighbours: outcomes of several workers interleave.
fn joined(mut spans: Vec<Span>) -> Vec<Span> {
    spans.sort_unstable();
    spans.dedup_by(|next, before| {
        let touches = before.1.checked_add(1).is_some_and(|after| next.0 <= after);
        if touches {
            before.1 = before.1.max(next.1);
        }
        touches
    });
    spans
}

/// The parts of ascending spans that are in none of the ascending `holes`, which all lie within them.
fn subtract(spans: impl Iterator<Item = Span>, holes: &[Span]) -> Vec<Span> {
    let mut holes = holes.iter().copied().peekable();
    let mut left = Vec::new();
    for (mut first, last) in spans {
        while let Some(hole) = holes.next_if(|hole| hole.0 <= last) {
            if hole.0 > first {
                left.push((first, hole.0 - 1));
            }
            first = hole.1 + 1;
        }
        if first <= last {
            left.push((first, last));
        }
    }
    left
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A control body holds at most [`RANGES_PER_PIECE`] entries, in up to four lists.
const PER_LIST: usize = RANGES_PER_PIECE / 4;

/// Hands a list out in pieces that a control message can hold.
struct Chunks<T>(std::vec::IntoIter<T>);

impl<T> Chunks<T> {
    fn new(items: Vec<T>) -> Self {
        Self(items.into_iter())
    }

    fn next_chunk(&mut self) -> Vec<T> {
        self.0.by_ref().take(PER_LIST).collect()
    }

    fn is_empty(&self) -> bool {
        self.0.len() == 0
    }
}
