//! What workers say to a ventilator: STATE, CREDIT, HELD, RETURN and REFUSED.

use std::time::Instant;

use super::fleet::{Member, Stage};
use super::work::Todo;
use super::{Event, Flight, Since, Ventilator};
use crate::ids::{Alias, Attempt, LinkId};
use crate::limits::{HELD_MOST, UNBOUND_AFTER};
use crate::mutant::{self, Mutant};
use crate::spans::SpanMap;
use crate::wire::{
    ByeCode, Held, Hello, Holding, Message, Ping, Refused, RefusedCode, Return, ReturnCause, Span, Start, StateBody,
};

impl Ventilator {
    pub(super) fn greet_worker(&mut self, link: LinkId, key: &str, hello: &Hello) {
        let older = self
            .fleet
            .members
            .iter()
            .find(|(_, m)| m.process_id == hello.process_id)
            .map(|(link, _)| *link);
        if let Some(older) = older {
            self.sessions
                .close(older, ByeCode::Leaving, "this worker has a newer link");
        }
        self.meet_process(&hello.name, hello.process_id);
        self.fleet.greet(link, Member::new(key.to_owned(), hello));
        self.start_worker(link);
    }

    /// START goes to a worker only while the collector's STATE stands.
    pub(super) fn start_worker(&mut self, link: LinkId) {
        let ready = self.collector.is_ready() || mutant::on(Mutant::StartBeforeState);
        if !ready || self.over {
            return;
        }
        let Some(member) = self.fleet.members.get_mut(&link) else {
            return;
        };
        let mut alias = self.next_alias;
        self.next_alias += 1;
        if member.alias != 0 && mutant::on(Mutant::AliasReused) {
            alias = member.alias;
        }
        member.started(alias);
        let start = Start {
            uid: self.config.uid,
            name: self.config.name.clone(),
            epoch: self.epoch,
            instance: self.config.instance,
            completions: Some(self.config.completions),
            policy: None,
            work: Some(self.config.work.clone()),
        };
        self.sessions.send(link, alias, &Message::Start(Box::new(start)));
    }

    pub(super) fn take_from_worker(&mut self, now: Instant, link: LinkId, alias: Alias, message: Message) {
        if let Message::Ping(ping) = message {
            return self.take_ping(now, link, &ping);
        }
        if matches!(message, Message::Pong(_)) {
            return;
        }
        let Some(member) = self.fleet.speaker(link, alias) else {
            self.stale += 1;
            return;
        };
        match message {
            Message::State(state) => match state.body {
                StateBody::Worker(body) => {
                    let count = body
                        .held
                        .iter()
                        .map(|holding| (holding.last - holding.first).saturating_add(1));
                    let count = count.fold(member.listed.len(), u64::saturating_add);
                    if count > HELD_MOST {
                        let reason = format!("STATE lists {count} tasks, a worker holds at most {HELD_MOST}");
                        return self.sessions.refuse(link, &reason);
                    }
                    self.locate_held(now, link, &body.held);
                    if state.last {
                        self.located(now, link);
                    }
                }
                StateBody::Collector(_) => self.sessions.refuse(link, "a worker sent the STATE of a collector"),
            },
            Message::Credit(credit) => member.credited(credit),
            Message::Held(held) if held.answer => self.take_held(link, &held),
            Message::Return(returned) => self.take_return(link, &returned),
            Message::Refused(refused) => self.take_worker_refused(link, refused),
            other => self
                .sessions
                .refuse(link, &format!("{} is not for a ventilator from a worker", other.kind())),
        }
    }

    /// A worker's STATE is complete: it may get tasks. What was in flight there and is not listed may be recorded, or lost.
    pub(super) fn located(&mut self, now: Instant, link: LinkId) {
        let Some(member) = self
            .fleet
            .members
            .get_mut(&link)
            .filter(|member| member.stage == Stage::Started)
        else {
            return;
        };
        member.stage = Stage::Ready;
        self.dialler.greeted(link);
        let listed = std::mem::take(&mut member.listed);
        let runs = self.in_flight.iter().filter(|run| run.value.link == link);
        let unlisted: Vec<Span> = runs.flat_map(|run| listed.gaps((run.first, run.last))).collect();
        self.losses.return_unlisted(now, link, unlisted);
    }

    /// What a worker holds is in flight there, unless it is settled, elsewhere, or wanted at a higher attempt.
    pub(super) fn locate_held(&mut self, now: Instant, link: LinkId, held: &[Holding]) {
        let completions = self.config.completions;
        for holding in held.iter().filter(|holding| holding.first < completions) {
            if let Some(member) = self.fleet.members.get_mut(&link) {
                member.listed.insert((holding.first, holding.last), ());
            }
            for number in holding.first..=holding.last.min(completions - 1) {
                let wanted_higher = self.is_wanted_above(number, holding.attempt);
                let standing = |flight: Flight| {
                    self.fleet.members.contains_key(&flight.link) && !self.losses.is_unlisted(flight.link, number)
                };
                let elsewhere = self.in_flight.value(number).is_some_and(standing);
                if self.settled.contains(number) || wanted_higher || elsewhere {
                    continue;
                }
                // It may still count as in flight on an older link of this worker, which has closed, or at one that lost it.
                self.leave_flight((number, number));
                self.work.remove((number, number));
                self.losses.held_back.remove(&number);
                self.unsendable.remove(&number);
                self.in_flight.insert(
                    (number, number),
                    Flight {
                        link,
                        attempt: holding.attempt,
                        since: Since(now),
                    },
                );
                if let Some(member) = self.fleet.members.get_mut(&link) {
                    member.in_flight += 1;
                    if self.work.is_lonely(number) {
                        member.alone.insert(number);
                    }
                }
                if let Some(locate) = &mut self.locate {
                    locate.frontier = locate.frontier.max(number);
                    locate.located += 1;
                }
            }
        }
    }

    /// Whether a higher attempt of a number is to be sent, or will be once it is clear what became of its worker.
    fn is_wanted_above(&self, number: u64, attempt: Attempt) -> bool {
        let flying = self.in_flight.value(number).map(|flight| flight.attempt);
        let held_back = self.losses.held_back.get(&number).copied();
        self.work.has(number, attempt.saturating_add(1)) || flying.max(held_back) > Some(attempt)
    }

    pub(super) fn take_return(&mut self, link: LinkId, returned: &Return) {
        if returned.cause == ReturnCause::Drain
            && let Some(member) = self.fleet.members.get_mut(&link)
        {
            member.stage = Stage::Closed;
            member.void_credit();
        }
        for holding in &returned.tasks {
            let runs: Vec<_> = self.in_flight.within((holding.first, holding.last)).collect();
            for run in runs.into_iter().filter(|run| run.value.link == link) {
                self.resent.returned += run.count();
                self.put_back((run.first, run.last), run.value);
            }
        }
    }

    /// Numbers that are not in flight any more are to be sent again.
    pub(super) fn put_back(&mut self, span: Span, flight: Flight) {
        let removed = self.in_flight.remove(span);
        self.doubted.remove(span);
        let count = removed.iter().map(crate::spans::Run::count).sum();
        self.leave_member(flight.link, span, count);
        self.work.add(
            span,
            Todo {
                attempt: flight.attempt,
                resend: true,
            },
        );
    }

    /// Numbers left a worker.
    pub(super) fn leave_member(&mut self, link: LinkId, span: Span, count: u64) {
        if let Some(member) = self.fleet.members.get_mut(&link) {
            member.in_flight = member.in_flight.saturating_sub(count);
            let left = |number: &u64| (span.0..=span.1).contains(number);
            member.alone.retain(|number| !left(number));
            member.alone_begun.take_if(|(number, _)| left(number));
        }
    }

    pub(super) fn take_held(&mut self, link: LinkId, answer: &Held) {
        let Some(asked) = self.asked.remove(&(link, answer.serial)) else {
            return;
        };
        let mut held = SpanMap::default();
        for span in &answer.spans {
            held.insert(*span, ());
        }
        for denied in asked.into_iter().flat_map(|span| held.gaps(span)) {
            self.doubted.insert(denied, link);
            if mutant::on(Mutant::HeldNoCounts) {
                self.take_back_these(link, &[denied]);
            }
        }
    }

    pub(super) fn take_ping(&mut self, now: Instant, link: LinkId, ping: &Ping) {
        let stood = self.collector.stood_for(now, UNBOUND_AFTER);
        let Some(member) = self.fleet.members.get_mut(&link) else {
            return;
        };
        let limit = u64::try_from(UNBOUND_AFTER.as_millis()).unwrap_or(u64::MAX);
        let unbound = ping
            .unbound
            .iter()
            .any(|unbound| unbound.alias == member.alias && unbound.millis >= limit);
        let newly = unbound && stood && !member.unbound;
        member.unbound = unbound && (stood || member.unbound);
        if newly {
            self.resent.unbound += self.take_back(link, None);
        }
    }

    /// Takes all numbers back from a link, but for one; returns how many.
    pub(super) fn take_back(&mut self, link: LinkId, keep: Option<u64>) -> u64 {
        let runs: Vec<_> = self.in_flight.iter().filter(|run| run.value.link == link).collect();
        let mut count = 0;
        for run in runs {
            count += run.count();
            self.put_back((run.first, run.last), run.value);
        }
        if let Some(number) = keep {
            self.work.remove((number, number));
        }
        count
    }

    pub(super) fn take_worker_refused(&mut self, link: LinkId, refused: Refused) {
        let Some(member) = self.fleet.members.get_mut(&link) else {
            return;
        };
        member.stage = Stage::Closed;
        member.void_credit();
        let name = member.name.clone();
        match refused.code {
            // The same epoch is another's too, if collector and ventilator had both forgotten it.
            RefusedCode::Fenced if refused.epoch >= self.epoch => self.doubt_epoch(refused.epoch),
            RefusedCode::Executor => self.executor_refused(name, refused.reason),
            RefusedCode::Fenced | RefusedCode::NotStarted | RefusedCode::Limit | RefusedCode::Mismatch => {
                self.events.push_back(Event::WorkerRefused {
                    name,
                    reason: refused.reason,
                });
                self.sessions
                    .close(link, ByeCode::Leaving, "refused; tried again later");
            }
        }
    }

    /// An executor that cannot run ends the batch, unless others have shown that it can, or somebody mends it. The worker
    /// is not asked again: it stays linked and holds nothing, until another one takes its place.
    pub(super) fn executor_refused(&mut self, name: String, reason: String) {
        let recorded = self.counts.succeeded + self.counts.failed + self.counts.charged > 0;
        let others = self.fleet.members.values().any(|member| member.stage != Stage::Closed);
        if self.config.workers_are_mended || recorded && others {
            self.events.push_back(Event::WorkerRefused { name, reason });
        } else {
            self.fail(reason);
        }
    }
}
