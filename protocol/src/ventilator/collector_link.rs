//! The ventilator's link to its collector: the claim, the snapshot, the reports, and the end.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::dispatch::Locate;
use super::work::Todo;
use super::{Event, Flight, Ventilator};
use crate::ids::{Alias, Epoch, InstanceId, LinkId, LogId};
use crate::limits::{END_AGAIN, LOCATE_WAIT};
use crate::mutant::{self, Mutant};
use crate::spans::SpanMap;
use crate::wire::{
    ByeCode, Cancel, CollectorState, Deaths, Done, End, Ending, Held, Loss, Lost, Message, Missing, Refused,
    RefusedCode, Report, Retry, Span, Start, StateBody,
};

/// How far the link has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Absent,
    /// START with epoch 0 is sent.
    Asked,
    /// START is sent.
    Claimed,
    /// STATE is in.
    Ready(Instant),
}

/// When END is to be sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum EndStage {
    #[default]
    Due,
    Sent,
    Again(Instant),
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct CollectorLink {
    pub(super) link: Option<LinkId>,
    alias: Alias,
    stage: Stage,
    end: EndStage,
    /// END goes out then, though not all is sent: nothing more can be.
    pub(super) stalled: Option<Instant>,
    /// STATE was complete once.
    pub(super) was_ready: bool,
    /// A worker knows this epoch, which is above ours.
    doubt: Option<Epoch>,
    snapshot: Snapshot,
    /// The log that the last STATE was about.
    log_id: Option<LogId>,
}

/// STATE, as far as its pieces are in.
#[derive(Clone, Debug, Default)]
struct Snapshot {
    log_id: Option<LogId>,
    epoch: Epoch,
    instance: Option<InstanceId>,
    completions: Option<u64>,
    succeeded: Vec<Span>,
    failed: Vec<Span>,
    retries: Vec<Retry>,
    deaths: Vec<Deaths>,
}

impl Snapshot {
    fn add(&mut self, piece: CollectorState) {
        self.log_id = Some(piece.log_id);
        self.epoch = piece.epoch;
        self.instance = piece.instance;
        self.completions = piece.completions;
        self.succeeded.extend(piece.succeeded);
        self.failed.extend(piece.failed);
        self.retries.extend(piece.retries);
        self.deaths.extend(piece.deaths);
    }
}

impl CollectorLink {
    pub(super) fn opened(&mut self, link: LinkId) {
        self.link = Some(link);
        self.end = EndStage::Due;
    }

    pub(super) fn lost(&mut self) {
        self.link = None;
        self.stage = Stage::Absent;
        self.snapshot = Snapshot::default();
    }

    pub(super) fn is_ready(&self) -> bool {
        matches!(self.stage, Stage::Ready(_))
    }

    /// Whether the link is down, after it stood. Fresh numbers may be sent then, but nothing twice.
    pub(super) fn is_silent(&self) -> bool {
        self.was_ready && self.link.is_none() && self.doubt.is_none()
    }

    /// This machine did not run for a while: that time proves nothing.
    pub(super) fn shift(&mut self, gap: Duration) {
        if let Stage::Ready(since) = &mut self.stage {
            *since += gap;
        }
    }

    pub(super) fn stood_for(&self, now: Instant, time: Duration) -> bool {
        matches!(self.stage, Stage::Ready(since) if now >= since + time)
    }

    pub(super) fn timeout(&self) -> Option<Instant> {
        match self.end {
            EndStage::Again(at) if self.is_ready() => Some(at),
            EndStage::Due if self.is_ready() => self.stalled,
            _ => None,
        }
    }
}

impl Ventilator {
    fn send_to_collector(&mut self, message: &Message) {
        if let Some(link) = self.collector.link {
            self.sessions.send(link, self.collector.alias, message);
        }
    }

    /// Opens the batch at the collector: first asks for the last epoch, then claims the next one.
    pub(super) fn claim(&mut self) {
        self.collector.alias = self.next_alias;
        self.next_alias += 1;
        self.collector.snapshot = Snapshot::default();
        let asks = self.epoch == 0 || self.collector.doubt.is_some();
        self.collector.stage = if asks { Stage::Asked } else { Stage::Claimed };
        let start = Start {
            uid: self.config.uid,
            name: self.config.name.clone(),
            epoch: if asks { 0 } else { self.epoch },
            instance: self.config.instance,
            completions: Some(self.config.completions),
            policy: Some(self.config.policy.clone()),
            work: None,
        };
        self.send_to_collector(&Message::Start(Box::new(start)));
    }

    /// A worker knows a higher epoch: nothing is sent until the collector has said whose the batch is.
    pub(super) fn doubt_epoch(&mut self, epoch: Epoch) {
        self.collector.doubt = self.collector.doubt.max(Some(epoch));
        if self.collector.link.is_some() && self.collector.is_ready() {
            self.claim();
        }
    }

    pub(super) fn take_from_collector(&mut self, now: Instant, link: LinkId, alias: Alias, message: Message) {
        if matches!(message, Message::Ping(_) | Message::Pong(_)) {
            return;
        }
        if alias != self.collector.alias {
            self.stale += 1;
            return;
        }
        match message {
            Message::State(state) => match state.body {
                StateBody::Collector(piece) => {
                    self.collector.snapshot.add(piece);
                    if state.last {
                        self.take_snapshot(now);
                    }
                }
                StateBody::Worker(_) => self.sessions.refuse(link, "a collector sent the STATE of a worker"),
            },
            Message::Refused(refused) => self.take_collector_refused(refused),
            Message::Report(report) => self.take_report(now, &report),
            Message::Missing(missing) => self.take_missing(now, &missing),
            Message::Done(done) => self.take_done(done),
            Message::Lost(lost) => self.take_echo(&lost),
            other => self.sessions.refuse(
                link,
                &format!("{} is not for a ventilator from a collector", other.kind()),
            ),
        }
    }

    fn take_snapshot(&mut self, now: Instant) {
        let snapshot = std::mem::take(&mut self.collector.snapshot);
        match self.collector.stage {
            Stage::Asked => self.take_answer(snapshot.epoch, snapshot.instance),
            Stage::Claimed => self.replace_state(now, &snapshot),
            Stage::Absent | Stage::Ready(_) => {}
        }
    }

    /// The collector said which epoch is the last, and whose: the next one is claimed, unless somebody else took over.
    fn take_answer(&mut self, last: Epoch, instance: Option<InstanceId>) {
        // A collector that lost its log, or this claim, or that had ended the batch before it, has fenced nobody.
        let ours = last < self.epoch || last == self.epoch && instance == Some(self.config.instance);
        if self.epoch > 0 && !ours {
            return self.fenced(last);
        }
        let takeover = self.epoch == 0 && last > 0;
        let above = self.collector.doubt.take().unwrap_or(0);
        self.epoch = last.max(self.config.epoch_floor).max(above) + 1;
        if takeover {
            self.locate = Some(Locate::default());
        }
        self.events.push_back(Event::Claimed {
            epoch: self.epoch,
            takeover,
        });
        self.claim();
    }

    fn fenced(&mut self, epoch: Epoch) {
        if mutant::on(Mutant::FightsBack) {
            self.epoch = 0;
            return self.claim();
        }
        if !self.over {
            self.over = true;
            self.events.push_back(Event::Fenced { epoch });
        }
    }

    fn take_collector_refused(&mut self, refused: Refused) {
        match (refused.code, self.collector.stage) {
            (RefusedCode::NotStarted, Stage::Asked) => self.take_answer(0, None),
            (RefusedCode::Fenced, _) => self.fenced(refused.epoch),
            (RefusedCode::NotStarted, _) => {
                if let Some(link) = self.collector.link {
                    self.sessions
                        .close(link, ByeCode::Leaving, "the collector forgot this batch");
                }
            }
            (RefusedCode::Mismatch | RefusedCode::Executor | RefusedCode::Limit, _) => self.fail(refused.reason),
        }
    }

    /// The collector's STATE replaces what was believed to be settled; everything else follows from it.
    fn replace_state(&mut self, now: Instant, snapshot: &Snapshot) {
        let ends = snapshot
            .succeeded
            .last()
            .into_iter()
            .chain(snapshot.failed.last())
            .map(|(_, last)| *last);
        if let Some(locate) = &mut self.locate {
            locate.until.get_or_insert(now + LOCATE_WAIT);
            locate.frontier = locate.frontier.max(ends.max().unwrap_or(0));
        }
        let completions = self.config.completions;
        let spans = snapshot.succeeded.iter().chain(&snapshot.failed).copied();
        let told = spans.filter(|(_, last)| *last < completions).collect();
        let believed = std::mem::replace(&mut self.settled, told);
        if mutant::on(Mutant::StateMerged) {
            for (first, last) in believed.spans() {
                self.settled.insert_span(first, last);
            }
        }
        self.counts.failed = snapshot.failed.iter().map(|(first, last)| last - first + 1).sum();
        self.counts.succeeded = self.settled.len().saturating_sub(self.counts.failed);
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
        let deaths = snapshot
            .deaths
            .iter()
            .map(|deaths| (deaths.number, deaths.count))
            .collect::<BTreeMap<_, _>>();
        self.work.replace_deaths(deaths);
        self.refill(now, &snapshot.retries, fresh.as_ref());
        self.collector.stage = Stage::Ready(now);
        self.collector.was_ready = true;
        if let Some(link) = self.collector.link {
            self.dialler.greeted(link);
        }
        self.collector.end = EndStage::Due;
        self.resend_losses();
        if let Some(reason) = self.cancelling.clone() {
            self.send_cancel(reason);
        }
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

    fn take_report(&mut self, now: Instant, report: &Report) {
        let completions = self.config.completions;
        for span in report
            .succeeded
            .iter()
            .chain(&report.failed)
            .filter(|span| span.1 < completions)
        {
            self.settle(*span);
        }
        for retry in report.retries.iter().filter(|retry| retry.number < completions) {
            self.take_retry(now, *retry);
        }
        self.counts = report.counts;
        if self.health != report.health {
            self.health = report.health;
            self.events.push_back(Event::Health(report.health));
        }
        self.losses.hasten(now);
        self.check_failures();
    }

    /// Only detected damage, or another log in place of a lost one, shrinks what is settled: either is told.
    fn note_log(&mut self, log_id: Option<LogId>, before: u64) {
        let known = std::mem::replace(&mut self.collector.log_id, log_id);
        if known.is_some() && known != log_id || self.settled.len() < before {
            let settled = self.settled.len();
            self.events.push_back(Event::ResultsLost { before, settled });
        }
    }

    /// Ends the batch early when too many numbers have failed.
    fn check_failures(&mut self) {
        if self.config.max_failed.is_some_and(|most| self.counts.failed > most) {
            self.cancel("MaxFailedIndexesExceeded");
        }
    }

    fn settle(&mut self, span: Span) {
        self.settled.insert_span(span.0, span.1);
        self.leave_flight(span);
        self.work.settle(span);
        super::work::take_range(&mut self.unsendable, span);
        super::work::take_range(&mut self.losses.held_back, span);
    }

    pub(super) fn leave_flight(&mut self, span: Span) {
        for run in self.in_flight.remove(span) {
            self.leave_member(run.value.link, (run.first, run.last), run.count());
        }
        if !self.doubted.is_empty() {
            self.doubted.remove(span);
        }
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

    /// What the collector misses overrides what was believed. Numbers in flight are asked for before they are sent again.
    fn take_missing(&mut self, now: Instant, missing: &Missing) {
        self.collector.end = EndStage::Again(now + END_AGAIN);
        let mut questions: BTreeMap<LinkId, Vec<Span>> = BTreeMap::new();
        let completions = self.config.completions;
        for (first, last) in missing.spans.iter().copied().filter(|span| span.1 < completions) {
            for number in first..=last {
                if self.settled.remove(number) {
                    self.resent.missing_at_collector += 1;
                    self.work.add(
                        (number, number),
                        Todo {
                            attempt: 1,
                            resend: true,
                        },
                    );
                }
            }
            for run in self.in_flight.within((first, last)).collect::<Vec<_>>() {
                self.doubt_flight((run.first, run.last), run.value, &mut questions);
            }
        }
        for (link, spans) in questions {
            self.ask_held(link, spans);
        }
    }

    /// A number in flight is missing: it is sent again if its worker has denied it, else the worker is asked.
    fn doubt_flight(&mut self, span: Span, flight: Flight, questions: &mut BTreeMap<LinkId, Vec<Span>>) {
        if !self.fleet.members.contains_key(&flight.link) {
            // Its link closed: it goes back by itself in a moment.
            return;
        }
        let denied: Vec<_> = self
            .doubted
            .within(span)
            .filter(|run| run.value == flight.link)
            .collect();
        for run in &denied {
            self.resent.missing_at_collector += run.count();
            self.put_back((run.first, run.last), flight);
        }
        let left = self
            .in_flight
            .within(span)
            .map(|run| (run.first, run.last))
            .collect::<Vec<_>>();
        questions.entry(flight.link).or_default().extend(left);
    }

    fn ask_held(&mut self, link: LinkId, mut spans: Vec<Span>) {
        let Some(member) = self.fleet.members.get_mut(&link) else {
            return;
        };
        spans.truncate(crate::limits::RANGES_PER_PIECE);
        member.held_serial = member.held_serial.wrapping_add(1);
        let (serial, alias) = (member.held_serial, member.alias);
        // One question at a time per worker: an older one is answered by the newer.
        self.asked.retain(|(asked, _), _| *asked != link);
        self.asked.insert((link, serial), spans.clone());
        self.sessions.send(
            link,
            alias,
            &Message::Held(Held {
                serial,
                answer: false,
                spans,
            }),
        );
    }

    /// Says END when everything was sent, or nothing more can be: once on every link to the collector, and again some time
    /// after each MISSING.
    pub(super) fn maybe_end(&mut self, now: Instant) {
        let due = match self.collector.end {
            EndStage::Due => {
                let all_sent = self.work.len() == 0 && self.locate.is_none();
                all_sent || self.collector.stalled.is_some_and(|at| now >= at)
            }
            EndStage::Again(at) => now >= at,
            EndStage::Sent => false,
        };
        if due && self.collector.is_ready() && !self.draining {
            self.collector.end = EndStage::Sent;
            let end = End {
                epoch: self.epoch,
                completions: self.config.completions,
            };
            self.send_to_collector(&Message::End(end));
        }
    }

    fn take_done(&mut self, done: Done) {
        if self.over {
            return;
        }
        self.over = true;
        self.counts = done.counts;
        if matches!(done.ending, Ending::Cancelled(_)) {
            let cancel = Cancel {
                epoch: self.epoch,
                spans: None,
                reason: "the batch was ended early".into(),
            };
            self.tell_workers(&Message::Cancel(cancel));
        }
        self.tell_workers(&Message::Done(done.clone()));
        self.events.push_back(Event::Done(done));
        self.sessions.close_all(ByeCode::Leaving, "the batch is over");
    }

    fn tell_workers(&mut self, message: &Message) {
        for (link, member) in &self.fleet.members {
            if member.alias != 0 {
                self.sessions.send(*link, member.alias, message);
            }
        }
    }

    pub(super) fn cancel(&mut self, reason: &str) {
        if self.cancelling.is_none() && !self.over {
            self.cancelling = Some(reason.to_owned());
            if self.collector.is_ready() {
                self.send_cancel(reason.to_owned());
            }
        }
    }

    fn send_cancel(&mut self, reason: String) {
        let cancel = Cancel {
            epoch: self.epoch,
            spans: None,
            reason,
        };
        self.send_to_collector(&Message::Cancel(cancel));
    }

    /// LOST goes to the collector until its echo says that it is in the log.
    pub(super) fn send_loss(&mut self, loss: Loss) {
        if self.collector.is_ready() {
            self.send_to_collector(&Message::Lost(Lost {
                epoch: self.epoch,
                loss,
            }));
        }
    }
}
