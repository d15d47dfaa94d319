//! One batch at the collector, while its log is open.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

use super::commit::{Commit, Delta, Effect, Totals};
use super::record::{Death, Outcomes, Record};
use super::state::{BatchState, Verdict};
use crate::ids::{Alias, Attempt, LinkId, LogId};
use crate::limits::{RANGES_PER_PIECE, RETRY_FIRST, RETRY_MOST};
use crate::mutant::{self, Mutant};
use crate::wire::{
    CollectorState, Counts, Deaths, Done, Ending, Health, Loss, Lost, Message, Missing, OutcomeCode, Report,
    ResultEntry, Results, Retry, Span, State, StateBody,
};

/// A ventilator that started this batch on a link.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    pub(crate) alias: Alias,
    /// Its STATE has left, so that it may get reports.
    pub(crate) ready: bool,
}

/// One batch whose log is open.
#[derive(Clone, Debug)]
pub(crate) struct Batch {
    pub(crate) state: BatchState,
    pub(crate) log_id: LogId,
    pub(crate) commit: Commit,
    /// What is durable: all that ventilators are told of totals.
    durable: Totals,
    pub(crate) clients: BTreeMap<LinkId, Client>,
    /// Numbers that wait for their next attempt, until when. They are not MISSING.
    waiting: BTreeMap<u64, Instant>,
    /// A ventilator said END.
    ended_sending: bool,
    pub(crate) reading_back: bool,
    /// When outcomes came in, or a ventilator was there, for the last time.
    pub(crate) used_at: Instant,
    pub(crate) duplicates: u64,
    pub(crate) differing: u64,
    pub(crate) out_of_range: u64,
}

/// A duplicate whose bytes are to be compared with what is recorded.
#[derive(Clone, Debug)]
pub(crate) struct Duplicate {
    pub(crate) number: u64,
    pub(crate) output: Bytes,
}

impl Batch {
    pub(crate) fn new(now: Instant, state: BatchState, log_id: LogId) -> Self {
        let waiting = state
            .retries()
            .map(|(number, attempt)| (number, now + retry_delay(attempt)))
            .collect();
        Self {
            durable: Totals::of(&state),
            state,
            log_id,
            commit: Commit::default(),
            clients: BTreeMap::new(),
            waiting,
            ended_sending: false,
            reading_back: false,
            used_at: now,
            duplicates: 0,
            differing: 0,
            out_of_range: 0,
        }
    }

    pub(crate) fn record(&mut self, now: Instant, record: &Record) {
        self.state.apply(record);
        self.commit.push(now, record);
        self.commit.defer(Effect::Totals(Totals::of(&self.state)));
    }

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

    fn retry(&self, now: Instant, number: u64, attempt: Attempt) -> Retry {
        let due = self.waiting.get(&number).copied().unwrap_or(now);
        Retry {
            number,
            attempt,
            delay_millis: millis(due.saturating_duration_since(now)),
        }
    }

    /// Takes in the outcomes of one message: what settles or charges is recorded, the rest is counted. Returns
    /// duplicates that should be compared with what is recorded.
    pub(crate) fn take_results(&mut self, now: Instant, worker: &str, results: Results) -> Vec<Duplicate> {
        self.used_at = now;
        if self.state.ended().is_some() {
            return Vec::new();
        }
        let parts = without_repeats(results);
        parts
            .into_iter()
            .flat_map(|part| self.sift(now, worker, part))
            .collect()
    }

    /// Judges each outcome; numbers are distinct.
    fn sift(&mut self, now: Instant, worker: &str, results: Results) -> Vec<Duplicate> {
        let mut sieve = Sieve::default();
        for (position, entry) in results.entries.iter().enumerate() {
            match self.state.judge(entry.number, entry.attempt, entry.outcome) {
                Verdict::Success => sieve.keep_success(position, entry.number),
                Verdict::FinalFailure => sieve.keep_failure(position, entry.number, true),
                Verdict::Charged(next) => {
                    sieve.keep_failure(position, entry.number, false);
                    self.waiting.insert(entry.number, now + retry_delay(next));
                    sieve.delta.retries.push(self.retry(now, entry.number, next));
                }
                Verdict::Retry(current) => sieve.delta.retries.push(self.retry(now, entry.number, current)),
                Verdict::Duplicate => {
                    self.duplicates += 1;
                    sieve.duplicates.push(position);
                }
                Verdict::OutOfRange => self.out_of_range += 1,
            }
        }
        let duplicates = self.duplicate_outputs(&results, &sieve.duplicates);
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
                output: output.clone(),
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

    /// Takes in what a ventilator found out about numbers. `wall` is the time in microseconds since 1970.
    pub(crate) fn take_loss(&mut self, now: Instant, wall: u64, lost: &Lost) {
        match &lost.loss {
            Loss::Death {
                process_id,
                worker,
                alone,
                held,
            } => {
                let known = self.state.knows_death(*process_id) && !mutant::on(Mutant::DeathLoggedTwice);
                if self.state.ended().is_some() || known {
                    return;
                }
                let numbers = held.iter().map(|holding| (holding.first, holding.last)).collect();
                self.record(
                    now,
                    &Record::Death(Death {
                        process_id: *process_id,
                        worker: worker.clone(),
                        numbers,
                    }),
                );
                let alone = *alone || mutant::on(Mutant::ChargedInCompany);
                if let ([holding], true) = (held.as_slice(), alone)
                    && holding.first == holding.last
                {
                    let log = format!("worker {worker} died while it ran this task alone");
                    self.take_verdict(
                        now,
                        wall,
                        worker,
                        holding.first,
                        holding.attempt,
                        OutcomeCode::WorkerLost,
                        &log,
                    );
                }
            }
            Loss::Unsendable {
                number,
                attempt,
                reason,
            } => {
                self.take_verdict(now, wall, "", *number, *attempt, OutcomeCode::PayloadTooLarge, reason);
            }
        }
    }

    #[allow(clippy::too_many_arguments)] // the fields of one outcome
    fn take_verdict(
        &mut self,
        now: Instant,
        wall: u64,
        worker: &str,
        number: u64,
        attempt: Attempt,
        outcome: OutcomeCode,
        log: &str,
    ) {
        let entry = ResultEntry {
            number,
            attempt,
            outcome,
            code: 0,
            start_micros: wall,
            duration_micros: 0,
            output: 0,
            log: u32::try_from(log.len()).unwrap_or(0),
        };
        let bytes = Bytes::copy_from_slice(log.as_bytes());
        self.take_results(
            now,
            worker,
            Results {
                sequence: 0,
                entries: vec![entry],
                bytes,
            },
        );
    }

    /// A ventilator has sent everything. N must agree with what is known.
    pub(crate) fn take_end(&mut self, now: Instant, completions: u64) {
        if self.state.completions().is_none() {
            self.record(now, &Record::End(completions));
        }
        self.ended_sending = true;
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

    /// Whether all is settled, durable and not yet read back.
    pub(crate) fn wants_read_back(&self) -> bool {
        let settled = self.state.is_settled() || mutant::on(Mutant::EndTrusted);
        let ends = self.ended_sending && settled && self.state.ended().is_none();
        ends && !self.reading_back && self.commit.is_idle()
    }

    /// All records were read back: the batch is done, or damaged numbers are missing again.
    pub(crate) fn take_read_back(&mut self, now: Instant, damaged: Vec<Span>, digest: u32) {
        self.reading_back = false;
        if self.state.ended().is_some() {
            return;
        }
        if damaged.is_empty() {
            let done = Done {
                ending: Ending::Complete,
                counts: self.counts(),
                digest,
            };
            self.end(now, done);
        } else {
            self.record(now, &Record::Damaged(damaged));
            let missing = self.missing(now);
            self.commit.defer(Effect::Announce(Message::Missing(missing)));
        }
    }

    /// Ends the batch early.
    pub(crate) fn cancel(&mut self, now: Instant, reason: String) {
        if self.state.ended().is_none() {
            let done = Done {
                ending: Ending::Cancelled(reason),
                counts: self.counts(),
                digest: 0,
            };
            self.end(now, done);
        }
    }

    fn end(&mut self, now: Instant, done: Done) {
        self.record(now, &Record::Ending(done.clone()));
        self.commit.defer(Effect::Announce(Message::Done(done)));
    }

    /// These totals are durable now.
    pub(crate) fn take_totals(&mut self, totals: Totals) {
        self.durable = totals;
    }

    /// Totals of what is durable.
    pub(crate) fn durable_counts(&self) -> Counts {
        Counts {
            duplicates: self.duplicates,
            differing: self.differing,
            ..self.durable.counts
        }
    }

    /// Totals of all that was taken in, for a record behind it.
    fn counts(&self) -> Counts {
        Counts {
            duplicates: self.duplicates,
            differing: self.differing,
            ..self.state.counts()
        }
    }

    /// The reports that tell of a change; long ones are told in pieces.
    pub(crate) fn reports(&self, delta: Delta) -> Vec<Report> {
        let mut succeeded = Chunks::new(joined(delta.succeeded));
        let mut failed = Chunks::new(joined(delta.failed));
        let mut retries = Chunks::new(delta.retries);
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
            });
            if succeeded.is_empty() && failed.is_empty() && retries.is_empty() {
                return reports;
            }
        }
    }

    pub(crate) fn sanity_check(&self) {
        self.state.sanity_check();
        self.commit.sanity_check();
        assert!(
            self.waiting
                .keys()
                .all(|number| !self.state.settled().contains(*number)),
            "settled, yet waiting"
        );
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

fn push_number(spans: &mut Vec<Span>, number: u64) {
    match spans.last_mut() {
        Some(span) if span.1.checked_add(1) == Some(number) => span.1 = number,
        _ => spans.push((number, number)),
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

/// How long a number waits before this attempt: doubling from the first retry on.
pub(crate) fn retry_delay(attempt: Attempt) -> Duration {
    (RETRY_FIRST * 2_u32.saturating_pow(attempt.saturating_sub(2).min(16))).min(RETRY_MOST)
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
