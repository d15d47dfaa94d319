//! One batch at the collector, while its log is open.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::commit::{Commit, Effect, Totals};
use super::record::{Death, Record};
use super::state::BatchState;
use super::tally::Tally;
use crate::ids::{Alias, Attempt, LinkId, LogId};
use crate::limits::{RETRY_FIRST, RETRY_MOST};
use crate::mutant::{self, Mutant};
use crate::wire::{Counts, Done, Ending, Loss, Lost, Message, OutcomeCode, ResultEntry, Results, Span};

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
    pub(super) durable: Totals,
    pub(crate) clients: BTreeMap<LinkId, Client>,
    /// Numbers that wait for their next attempt, until when. They are not MISSING.
    pub(super) waiting: BTreeMap<u64, Instant>,
    /// A ventilator said END.
    ended_sending: bool,
    pub(crate) reading_back: bool,
    /// When outcomes came in, or a ventilator was there, for the last time.
    pub(crate) used_at: Instant,
    pub(crate) duplicates: u64,
    pub(crate) differing: u64,
    pub(crate) out_of_range: u64,
    /// What was recorded since the log was opened.
    pub(super) tally: Tally,
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
            tally: Tally::default(),
        }
    }

    pub(crate) fn record(&mut self, now: Instant, record: &Record) {
        self.state.apply(record);
        self.commit.push(now, record);
        self.commit.defer(Effect::Totals(Totals::of(&self.state)));
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
                    let at = (holding.first, holding.attempt);
                    let verdict = verdict(wall, at, OutcomeCode::WorkerLost, &log);
                    self.take_results(now, worker, verdict, None);
                }
            }
            Loss::Unsendable {
                number,
                attempt,
                reason,
            } => {
                let verdict = verdict(wall, (*number, *attempt), OutcomeCode::PayloadTooLarge, reason);
                self.take_results(now, "", verdict, None);
            }
        }
    }

    /// A ventilator has sent everything. N must agree with what is known.
    pub(crate) fn take_end(&mut self, now: Instant, completions: u64) {
        if self.state.completions().is_none() {
            self.record(now, &Record::End(completions));
        }
        self.ended_sending = true;
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

/// The outcome of an attempt that a ventilator saw to be over.
fn verdict(wall: u64, (number, attempt): (u64, Attempt), outcome: OutcomeCode, log: &str) -> Results {
    let entry = ResultEntry {
        number,
        attempt,
        outcome,
        code: 0,
        start_micros: wall,
        duration_micros: 0,
        output: 0,
        log: u32::try_from(log.len()).unwrap_or(0),
        parted: None,
    };
    Results {
        sequence: 0,
        entries: vec![entry],
        bytes: Bytes::copy_from_slice(log.as_bytes()),
    }
}

/// How long a number waits before this attempt: doubling from the first retry on.
pub(crate) fn retry_delay(attempt: Attempt) -> Duration {
    (RETRY_FIRST * 2_u32.saturating_pow(attempt.saturating_sub(2).min(16))).min(RETRY_MOST)
}
