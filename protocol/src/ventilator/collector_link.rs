//! The ventilator's link to its collector: the claim, the snapshot, the reports, and the end.

use std::time::{Duration, Instant};

use super::dispatch::Locate;
use super::{CollectorStage, Event, Ventilator};
use crate::ids::{Alias, Epoch, InstanceId, LinkId, LogId};
use crate::mutant::{self, Mutant};
use crate::wire::{
    ByeCode, Cancel, CollectorState, Deaths, Done, End, Ending, Loss, Lost, Message, Refused, RefusedCode, Retry, Span,
    Start, StateBody,
};

/// How far the link has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Absent,
    /// START with epoch 0 is sent.
    Asked,
    /// The epoch to claim is chosen; the host has not kept it yet.
    Chosen,
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
    /// The highest epoch that the host has kept.
    kept: Epoch,
    snapshot: Snapshot,
    /// The log that the last STATE was about.
    pub(super) log_id: Option<LogId>,
}

/// STATE, as far as its pieces are in.
#[derive(Clone, Debug, Default)]
pub(super) struct Snapshot {
    pub(super) log_id: Option<LogId>,
    epoch: Epoch,
    instance: Option<InstanceId>,
    completions: Option<u64>,
    pub(super) succeeded: Vec<Span>,
    pub(super) failed: Vec<Span>,
    pub(super) retries: Vec<Retry>,
    pub(super) deaths: Vec<Deaths>,
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

    /// STATE is complete. END is due once everything was sent.
    pub(super) fn became_ready(&mut self, now: Instant) {
        self.stage = Stage::Ready(now);
        self.was_ready = true;
        self.end = EndStage::Due;
    }

    /// END is said again then.
    pub(super) fn end_again(&mut self, at: Instant) {
        self.end = EndStage::Again(at);
    }

    pub(super) fn kept_epoch(&self) -> Epoch {
        self.kept
    }

    /// How far the link has come, for people.
    pub(super) fn view(&self) -> CollectorStage {
        match self.stage {
            Stage::Absent => CollectorStage::Absent,
            Stage::Asked => CollectorStage::Asked,
            Stage::Chosen => CollectorStage::ClaimWaits,
            Stage::Claimed => CollectorStage::Claimed,
            Stage::Ready(_) => CollectorStage::Ready,
        }
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
        let asks = self.epoch == 0 || self.collector.doubt.is_some();
        if !asks && self.collector.kept < self.epoch && !mutant::on(Mutant::EpochNotKept) {
            self.collector.stage = Stage::Chosen;
            return;
        }
        self.collector.alias = self.next_alias;
        self.next_alias += 1;
        self.collector.snapshot = Snapshot::default();
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
            Stage::Absent | Stage::Chosen | Stage::Ready(_) => {}
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
        self.events.push_back(Event::Claiming {
            epoch: self.epoch,
            takeover,
        });
        self.claim();
    }

    pub(super) fn epoch_kept(&mut self, epoch: Epoch) {
        self.collector.kept = self.collector.kept.max(epoch);
        if self.collector.stage == Stage::Chosen && self.collector.link.is_some() {
            self.claim();
        }
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
        self.charges_counted = true;
        if matches!(done.ending, Ending::Cancelled(_)) {
            self.cancel_workers("the batch was ended early");
        }
        self.tell_workers(&Message::Done(done.clone()));
        self.events.push_back(Event::Done(done));
        self.sessions.close_all(ByeCode::Leaving, "the batch is over");
    }

    pub(super) fn cancel_workers(&mut self, reason: &str) {
        let cancel = Cancel {
            epoch: self.epoch,
            spans: None,
            reason: reason.to_owned(),
        };
        self.tell_workers(&Message::Cancel(cancel));
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

    pub(super) fn send_cancel(&mut self, reason: String) {
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
