//! What a ventilator is told, by the collector and by workers, and what it can know from then on.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use harmony_protocol::ids::{Alias, Epoch};
use harmony_protocol::wire::{
    CollectorState, Held, Message, Missing, Ping, Refused, RefusedCode, Report, Retry, Span, StateBody, WorkerState,
};

use super::{Belief, Cause, Flight, Heard, RETURN_WAIT, UNBOUND_AFTER, numbers};
use crate::network::ConnectionId;
use crate::observation::Carried;

impl Belief {
    /// HELD is asked.
    pub(in crate::checker) fn ask(&mut self, connection: ConnectionId, alias: Alias, serial: u32, spans: &[Span]) {
        if let Some(member) = self.members.get_mut(&connection).filter(|member| member.alias == alias) {
            member.asked = Some((serial, spans.to_vec()));
        }
    }

    pub(in crate::checker) fn hear(&mut self, now: Instant, carried: &Carried<'_>) -> Heard {
        let on = (carried.connection, carried.alias);
        let from_collector = self
            .collector
            .as_ref()
            .is_some_and(|collector| (collector.connection, collector.alias) == on);
        if from_collector {
            return self.hear_collector(now, carried.message);
        }
        if let Message::Ping(ping) = carried.message {
            self.hear_ping(now, carried.connection, ping);
        }
        let member = self.members.get(&carried.connection);
        if member.is_some_and(|member| member.alias == carried.alias) {
            return self.hear_worker(now, carried.connection, carried.message);
        }
        Heard::default()
    }

    fn hear_collector(&mut self, now: Instant, message: &Message) -> Heard {
        let mut heard = Heard::default();
        match message {
            Message::State(state) => {
                if let StateBody::Collector(body) = &state.body {
                    heard.answered_epoch = self.take_state(now, body, state.last);
                }
            }
            Message::Report(report) => self.take_report(now, report),
            Message::Missing(missing) => self.take_missing(missing),
            Message::Refused(Refused {
                code: RefusedCode::NotStarted,
                ..
            }) if self.asked() => heard.answered_epoch = Some(0),
            _ => {}
        }
        heard
    }

    fn take_state(&mut self, now: Instant, body: &CollectorState, last: bool) -> Option<Epoch> {
        let collector = self.collector.as_mut()?;
        collector.settled.extend(numbers(&body.succeeded));
        collector.settled.extend(numbers(&body.failed));
        collector.retries.extend(&body.retries);
        if !last {
            return None;
        }
        let settled = std::mem::take(&mut collector.settled);
        let retries = std::mem::take(&mut collector.retries);
        if collector.epoch > 0 {
            collector.ready = Some(now);
            self.flights.retain(|number, _| !settled.contains(number));
            self.sent.extend(&settled);
            self.settled = settled;
            self.retries.clear();
            self.waiting.clear();
            for retry in retries {
                let held = |flight: &Flight| flight.counts_at(now) && flight.attempt >= retry.attempt;
                let held = self.flights.get(&retry.number).is_some_and(held);
                self.take_retry(now, retry, held);
            }
        }
        Some(body.epoch)
    }

    fn take_report(&mut self, now: Instant, report: &Report) {
        for number in numbers(&report.succeeded).chain(numbers(&report.failed)) {
            self.settled.insert(number);
            self.flights.remove(&number);
            self.retries.remove(&number);
            self.waiting.remove(&number);
        }
        for retry in &report.retries {
            let held = |flight: &Flight| flight.attempt >= retry.attempt;
            let held = self.flights.get(&retry.number).is_some_and(held);
            self.take_retry(now, *retry, held);
        }
        // What it could settle is settled.
        for flight in self.flights.values_mut() {
            flight.lingers = None;
        }
    }

    /// An attempt that is `held` has left already: its delay was over.
    fn take_retry(&mut self, now: Instant, retry: Retry, held: bool) {
        let Retry { number, attempt, .. } = retry;
        let known = self.waiting.get(&number).is_some_and(|(waits, _)| *waits >= attempt);
        if !held && !known && !self.settled.contains(&number) {
            let due = now + Duration::from_millis(retry.delay_millis);
            self.waiting.insert(number, (attempt, due));
        }
        let known = self.retries.entry(number).or_default();
        *known = attempt.max(*known);
        self.free(Cause::Retry, None, |other, flight| {
            other == number && flight.attempt < attempt
        });
    }

    fn take_missing(&mut self, missing: &Missing) {
        for number in numbers(&missing.spans) {
            self.settled.remove(&number);
            let Some(flight) = self.flights.get(&number) else {
                continue;
            };
            let member = self.members.get(&flight.connection);
            if member.is_some_and(|member| member.denied.contains(&number)) {
                self.free(Cause::Denied, None, |other, _| other == number);
            }
        }
    }

    fn hear_ping(&mut self, now: Instant, connection: ConnectionId, ping: &Ping) {
        let stood = self.collector.as_ref().and_then(|collector| collector.ready);
        let stood = stood.is_some_and(|since| now >= since + UNBOUND_AFTER);
        let Some(member) = self.members.get_mut(&connection) else {
            return;
        };
        let unbound = ping
            .unbound
            .iter()
            .any(|unbound| unbound.alias == member.alias && Duration::from_millis(unbound.millis) >= UNBOUND_AFTER);
        member.unbound &= unbound;
        if unbound && stood {
            self.free(Cause::Unbound, None, |_, flight| flight.connection == connection);
        }
    }

    fn hear_worker(&mut self, now: Instant, connection: ConnectionId, message: &Message) -> Heard {
        let mut heard = Heard::default();
        match message {
            Message::State(state) => {
                if let StateBody::Worker(body) = &state.body {
                    heard.located = self.locate(connection, body);
                    heard.worker_answered = state.last;
                    if state.last {
                        self.end_listing(now, connection);
                    }
                }
            }
            Message::Held(held) if held.answer => self.take_answer(connection, held),
            Message::Return(returned) => {
                let holds = |number: u64| {
                    let mut tasks = returned.tasks.iter();
                    tasks.any(|holding| (holding.first..=holding.last).contains(&number))
                };
                self.free(Cause::Returned, None, |number, flight| {
                    flight.connection == connection && holds(number)
                });
            }
            _ => {}
        }
        heard
    }

    fn locate(&mut self, connection: ConnectionId, body: &WorkerState) -> Option<u64> {
        let member = self.members.get_mut(&connection)?;
        let mut highest = None;
        for holding in &body.held {
            for number in holding.first..=holding.last {
                member.listed.insert(number);
                let wanted_higher = self.retries.get(&number).is_some_and(|at| *at > holding.attempt);
                let elsewhere = self.flights.get(&number).is_some_and(Flight::is_at_a_worker);
                if self.settled.contains(&number) || wanted_higher || elsewhere {
                    continue;
                }
                self.flights.insert(number, Flight::new(connection, holding.attempt));
                self.waiting.remove(&number);
                self.sent.insert(number);
                highest = highest.max(Some(number));
            }
        }
        highest
    }

    fn end_listing(&mut self, now: Instant, connection: ConnectionId) {
        let Some(member) = self.members.get_mut(&connection) else {
            return;
        };
        member.ready = true;
        let listed = std::mem::take(&mut member.listed);
        self.free(Cause::Unlisted, Some(now + RETURN_WAIT), |number, flight| {
            flight.connection == connection && !listed.contains(&number)
        });
    }

    fn take_answer(&mut self, connection: ConnectionId, answer: &Held) {
        let Some(member) = self.members.get_mut(&connection) else {
            return;
        };
        let Some((_, asked)) = member.asked.take_if(|(serial, _)| *serial == answer.serial) else {
            return;
        };
        let held: BTreeSet<u64> = numbers(&answer.spans).collect();
        member
            .denied
            .extend(numbers(&asked).filter(|number| !held.contains(number)));
    }
}
