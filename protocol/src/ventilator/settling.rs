//! What is settled, by the STATE and the REPORTs of the collector.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::collector_link::Snapshot;
use super::work::Todo;
use super::{Event, Flight, SUCCESS_POLICY, Ventilator};
use crate::ids::LogId;
use crate::limits::{LOCATE_QUIET, LOCATE_WAIT};
use crate::mutant::{self, Mutant};
use crate::spans::{Run, SpanMap};
use crate::wire::{Report, Retry, Span};

impl Ventilator {
    /// The collector's STATE replaces what was believed to be settled; everything else follows from it.
    pub(super) fn replace_state(&mut self, now: Instant, snapshot: &Snapshot) {
        let ends = snapshot
            .succeeded
            .last()
            .into_iter()
            .chain(snapshot.failed.last())
            .map(|(_, last)| *last);
        if let Some(locate) = &mut self.locate {
            if locate.until.is_none() {
                locate.until = Some(now + LOCATE_WAIT);
                locate.quiet_until = Some(now + LOCATE_QUIET);
            }
            locate.frontier = locate.frontier.max(ends.max().unwrap_or(0));
        }
        let completions = self.config.completions;
        let in_range = |span: &Span| span.1 < completions;
        let spans = snapshot.succeeded.iter().chain(&snapshot.failed).copied();
        let told = spans.filter(in_range).collect();
        let believed = std::mem::replace(&mut self.settled, told);
        self.failed = snapshot.failed.iter().copied().filter(in_range).collect();
        self.success.clear();
        for span in snapshot.succeeded.iter().copied().filter(in_range) {
            self.success.succeeded(span);
        }
        if self.settled.len() > believed.len() {
            self.recorded_at = Some(now);
        }
        if mutant::on(Mutant::StateMerged) {
            for (first, last) in believed.spans() {
                self.settled.insert_span(first, last);
            }
        }
        self.counts.failed = snapshot.failed.iter().map(|(first, last)| last - first + 1).sum();
        self.counts.succeeded = self.settled.len().saturating_sub(self.counts.failed);
        // STATE says nothing of attempts whose numbers are settled.
        self.charges_counted |= self.settled.is_empty() && snapshot.retries.is_empty();
        self.note_log(snapshot.log_id, believed.len());
        let settled: Vec<Span> = self.settled.spans().collect();
        for span in settled {
            self.leave_flight(span);
        }
        // Whether a number was sent is known here alone: the collector knows only whether it is settled.
        let fresh = self.collector.was_ready.then(|| self.work.fresh());
        self.work.clear();
        self.unsendable.clear();
        self.doubted.clear();
        self.asked.clear();
        let settled = &self.settled;
        self.losses.held_back.retain(|number, _| !settled.contains(*number));
        let mut deaths: BTreeMap<_, _> = snapshot
            .deaths
            .iter()
            .map(|deaths| (deaths.number, deaths.count))
            .collect();
        // A death that the collector may not know yet was counted, and is said again.
        for number in self.losses.untold().filter(|number| !settled.contains(*number)) {
            let told = deaths.entry(number).or_default();
            *told = self.work.deaths(number).max(*told);
        }
        self.work.replace_deaths(deaths);
        self.refill(now, &snapshot.retries, fresh.as_ref());
        self.collector.became_ready(now);
        if let Some(link) = self.collector.link {
            self.dialler.greeted(link);
        }
        self.resend_losses();
        if let Some(reason) = self.cancelling.clone() {
            self.send_cancel(reason);
        }
        self.check_verdict();
        let links: Vec<_> = self.fleet.members.keys().copied().collect();
        for link in links {
            self.start_worker(link);
        }
    }

    /// Everything that is neither settled nor in flight nor held back is to be sent: all of it anew, or what was `fresh`
    /// before, and the rest again.
    fn refill(&mut self, now: Instant, retries: &[Retry], fresh: Option<&SpanMap<Todo>>) {
        let missing: Vec<Span> = self.settled.missing_spans(self.config.completions).collect();
        for gap in missing
            .into_iter()
            .flat_map(|span| self.in_flight.gaps(span))
            .collect::<Vec<_>>()
        {
            self.work.add(
                gap,
                Todo {
                    attempt: 1,
                    resend: fresh.is_some(),
                },
            );
            for run in fresh.into_iter().flat_map(|fresh| fresh.within(gap)) {
                self.work.add((run.first, run.last), run.value);
            }
        }
        for retry in retries {
            self.take_retry(now, *retry);
        }
        let held_back: Vec<u64> = self.losses.held_back.keys().copied().collect();
        for number in held_back {
            self.work.remove((number, number));
        }
    }

    pub(super) fn take_report(&mut self, now: Instant, report: &Report) {
        let completions = self.config.completions;
        for span in report.succeeded.iter().filter(|span| span.1 < completions) {
            self.settle(now, *span);
            self.success.succeeded(*span);
        }
        for span in report.failed.iter().filter(|span| span.1 < completions) {
            self.settle(now, *span);
            self.failed.insert_span(span.0, span.1);
        }
        self.note_failures(&report.failures);
        for retry in report.retries.iter().filter(|retry| retry.number < completions) {
            self.take_retry(now, *retry);
        }
        self.counts = report.counts;
        self.charges_counted = true;
        if self.health != report.health {
            self.health = report.health;
            self.events.push_back(Event::Health(report.health));
        }
        self.losses.hasten(now);
        self.check_verdict();
    }

    /// Only detected damage, or another log in place of a lost one, shrinks what is settled: either is told.
    fn note_log(&mut self, log_id: Option<LogId>, before: u64) {
        let known = std::mem::replace(&mut self.collector.log_id, log_id);
        if known.is_some() && known != log_id || self.settled.len() < before {
            let settled = self.settled.len();
            self.events.push_back(Event::ResultsLost { before, settled });
        }
    }

    /// Ends the batch early when too many numbers have failed, or else when enough have succeeded and something is left.
    fn check_verdict(&mut self) {
        if self.config.max_failed.is_some_and(|most| self.counts.failed > most) {
            self.cancel("MaxFailedIndexesExceeded");
        } else if self.settled.len() < self.config.completions && self.success.is_met(self.counts.succeeded) {
            self.cancel(SUCCESS_POLICY);
        }
    }

    fn settle(&mut self, now: Instant, span: Span) {
        if self.settled.insert_span(span.0, span.1) > 0 {
            self.recorded_at = Some(now);
        }
        for run in self.leave_flight(span) {
            self.fleet.note_settled(run.value.link, run.count());
        }
        self.work.settle(span);
        super::work::take_range(&mut self.unsendable, span);
        super::work::take_range(&mut self.losses.held_back, span);
    }

    /// Takes numbers out of flight; tells where they were.
    pub(super) fn leave_flight(&mut self, span: Span) -> Vec<Run<Flight>> {
        let runs = self.in_flight.remove(span);
        for run in &runs {
            self.leave_member(run.value.link, (run.first, run.last), run.count());
        }
        if !self.doubted.is_empty() {
            self.doubted.remove(span);
        }
        runs
    }

    /// A number is to be sent again at this attempt, unless it already is, or is in flight at it.
    fn take_retry(&mut self, now: Instant, retry: Retry) {
        let flying = self
            .in_flight
            .value(retry.number)
            .is_some_and(|flight| flight.attempt >= retry.attempt);
        let ready = self.work.has(retry.number, retry.attempt);
        if flying || ready || self.settled.contains(retry.number) {
            return;
        }
        self.leave_flight((retry.number, retry.number));
        self.losses.held_back.remove(&retry.number);
        self.unsendable.remove(&retry.number);
        self.resent.retry += 1;
        let delay = if mutant::on(Mutant::RetryAtOnce) {
            Duration::ZERO
        } else {
            Duration::from_millis(retry.delay_millis)
        };
        self.work.wait(retry.number, retry.attempt, now + delay);
    }
}
