//! What one ventilator process can know of its numbers, from what it was told and what it has sent.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use harmony_protocol::ids::{Alias, Attempt, Epoch};
use harmony_protocol::wire::{
    CollectorState, Held, Message, Missing, Ping, Refused, RefusedCode, Report, Retry, Span, StateBody, WorkerState,
};

use super::clocks::shortest;
use super::coverage::Branch;
use crate::network::ConnectionId;
use crate::observation::Carried;

/// Without a link to its collector for this long, the numbers of a worker go elsewhere.
const UNBOUND_AFTER: Duration = Duration::from_secs(10);

/// Why a number may leave again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// The link to its worker closed.
    LinkClosed,
    /// The collector asked for another attempt.
    Retry,
    /// Its worker handed it back.
    Returned,
    /// Its worker cannot reach the collector.
    Unbound,
    /// HELD said no, and the collector missed it afterwards.
    Denied,
    /// Its worker's STATE does not list it.
    Unlisted,
}

impl Cause {
    /// The branch in which a number leaves again for this.
    pub(super) fn branch(self) -> Branch {
        match self {
            Self::LinkClosed => Branch::AgainAfterLinkClosed,
            Self::Retry => Branch::AgainAfterRetry,
            Self::Returned => Branch::AgainAfterReturn,
            Self::Unbound => Branch::AgainAfterUnbound,
            Self::Denied => Branch::AgainAfterDenial,
            Self::Unlisted => Branch::AgainAfterUnlisted,
        }
    }
}

/// Why a number must not leave.
#[derive(Clone, Copy, Debug)]
pub(super) enum Forbidden {
    /// The ventilator was told that it is settled.
    Settled,
    /// It is at a worker, and nobody has said otherwise.
    #[allow(dead_code)] // shown in the message
    InFlight(ConnectionId, Attempt),
    /// It was sent before, and the collector is silent.
    Silent,
}

#[derive(Clone, Copy, Debug)]
struct Flight {
    connection: ConnectionId,
    attempt: Attempt,
    free: Option<Cause>,
}

#[derive(Debug)]
struct Member {
    alias: Alias,
    /// Its STATE is complete.
    ready: bool,
    listed: BTreeSet<u64>,
    asked: Option<(u32, Vec<Span>)>,
    denied: BTreeSet<u64>,
    unbound: bool,
}

/// The link to the collector.
#[derive(Debug)]
struct Collector {
    connection: ConnectionId,
    alias: Alias,
    /// 0 only asks.
    epoch: Epoch,
    settled: BTreeSet<u64>,
    retries: Vec<Retry>,
    /// When its STATE was complete.
    ready: Option<Duration>,
}

/// What followed from a message.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Heard {
    /// The collector said which epoch is the last.
    pub(super) answered_epoch: Option<Epoch>,
    /// A worker said all that it holds.
    pub(super) worker_answered: bool,
    /// The highest number found at a worker.
    pub(super) located: Option<u64>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Belief {
    collector: Option<Collector>,
    members: BTreeMap<ConnectionId, Member>,
    settled: BTreeSet<u64>,
    flights: BTreeMap<u64, Flight>,
    sent: BTreeSet<u64>,
    retries: BTreeMap<u64, Attempt>,
}

fn numbers(spans: &[Span]) -> impl Iterator<Item = u64> {
    spans.iter().flat_map(|(first, last)| *first..=*last)
}

impl Belief {
    pub(super) fn open_collector(&mut self, connection: ConnectionId, alias: Alias, epoch: Epoch) {
        self.collector = Some(Collector {
            connection,
            alias,
            epoch,
            settled: BTreeSet::new(),
            retries: Vec::new(),
            ready: None,
        });
    }

    pub(super) fn open_worker(&mut self, connection: ConnectionId, alias: Alias) {
        let unbound = self.members.get(&connection).is_some_and(|member| member.unbound);
        let member = Member {
            alias,
            ready: false,
            listed: BTreeSet::new(),
            asked: None,
            denied: BTreeSet::new(),
            unbound,
        };
        self.members.insert(connection, member);
    }

    pub(super) fn lose_link(&mut self, connection: ConnectionId) {
        self.collector.take_if(|collector| collector.connection == connection);
        self.members.remove(&connection);
        self.free(Cause::LinkClosed, |_, flight| flight.connection == connection);
    }

    fn free(&mut self, cause: Cause, test: impl Fn(u64, &Flight) -> bool) {
        for (number, flight) in &mut self.flights {
            if flight.free.is_none() && test(*number, flight) {
                flight.free = Some(cause);
            }
        }
    }

    /// The collector's STATE answers a claim of this process, and nothing came between.
    pub(super) fn is_ready(&self) -> bool {
        self.collector
            .as_ref()
            .is_some_and(|collector| collector.ready.is_some())
    }

    /// The collector was only asked.
    pub(super) fn asked(&self) -> bool {
        self.collector.as_ref().is_some_and(|collector| collector.epoch == 0)
    }

    pub(super) fn worker_is_ready(&self, connection: ConnectionId, alias: Alias) -> bool {
        let member = self.members.get(&connection);
        member.is_some_and(|member| member.ready && member.alias == alias)
    }

    pub(super) fn is_unbound(&self, connection: ConnectionId) -> bool {
        self.members.get(&connection).is_some_and(|member| member.unbound)
    }

    pub(super) fn highest_settled(&self) -> Option<u64> {
        self.settled.last().copied()
    }

    /// Numbers that it was told are settled.
    pub(super) fn settled(&self) -> u64 {
        self.settled.len() as u64
    }

    /// Numbers that are at workers, for all it knows.
    pub(super) fn in_flight(&self) -> u64 {
        self.flights.values().filter(|flight| flight.free.is_none()).count() as u64
    }

    /// Whether a number is at a worker, and nobody has said otherwise.
    pub(super) fn is_flying(&self, number: u64) -> bool {
        self.flights.get(&number).is_some_and(|flight| flight.free.is_none())
    }

    /// Whether a number is at the worker on this link, and nobody has said otherwise.
    pub(super) fn is_flying_on(&self, number: u64, connection: ConnectionId) -> bool {
        let flight = self.flights.get(&number);
        flight.is_some_and(|flight| flight.free.is_none() && flight.connection == connection)
    }

    pub(super) fn is_settled(&self, number: u64) -> bool {
        self.settled.contains(&number)
    }

    /// Workers with a link that were sent START.
    pub(super) fn workers(&self) -> usize {
        self.members.len()
    }

    /// A number leaves; says why it may leave again, if it was in flight, or why it must not.
    pub(super) fn dispatch(
        &mut self,
        connection: ConnectionId,
        number: u64,
        attempt: Attempt,
    ) -> Result<Option<Cause>, Forbidden> {
        let flight = Flight {
            connection,
            attempt,
            free: None,
        };
        let before = self.flights.insert(number, flight);
        let sent_before = !self.sent.insert(number);
        if let Some(member) = self.members.get_mut(&connection) {
            member.denied.remove(&number);
        }
        if self.settled.contains(&number) {
            return Err(Forbidden::Settled);
        }
        if let Some(before) = before.filter(|before| before.free.is_none()) {
            return Err(Forbidden::InFlight(before.connection, before.attempt));
        }
        // Between a claim and its STATE the link stands: silence is only what follows its loss.
        if sent_before && self.collector.is_none() {
            return Err(Forbidden::Silent);
        }
        Ok(before.and_then(|before| before.free))
    }

    /// HELD is asked.
    pub(super) fn ask(&mut self, connection: ConnectionId, alias: Alias, serial: u32, spans: &[Span]) {
        if let Some(member) = self.members.get_mut(&connection).filter(|member| member.alias == alias) {
            member.asked = Some((serial, spans.to_vec()));
        }
    }

    pub(super) fn hear(&mut self, at: Duration, carried: &Carried<'_>) -> Heard {
        let on = (carried.connection, carried.alias);
        let from_collector = self
            .collector
            .as_ref()
            .is_some_and(|collector| (collector.connection, collector.alias) == on);
        if from_collector {
            return self.hear_collector(at, carried.message);
        }
        if let Message::Ping(ping) = carried.message {
            self.hear_ping(at, carried.connection, ping);
        }
        let member = self.members.get(&carried.connection);
        if member.is_some_and(|member| member.alias == carried.alias) {
            return self.hear_worker(carried.connection, carried.message);
        }
        Heard::default()
    }

    fn hear_collector(&mut self, at: Duration, message: &Message) -> Heard {
        let mut heard = Heard::default();
        match message {
            Message::State(state) => {
                if let StateBody::Collector(body) = &state.body {
                    heard.answered_epoch = self.take_state(at, body, state.last);
                }
            }
            Message::Report(report) => self.take_report(report),
            Message::Missing(missing) => self.take_missing(missing),
            Message::Refused(Refused {
                code: RefusedCode::NotStarted,
                ..
            }) if self.asked() => heard.answered_epoch = Some(0),
            _ => {}
        }
        heard
    }

    fn take_state(&mut self, at: Duration, body: &CollectorState, last: bool) -> Option<Epoch> {
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
            collector.ready = Some(at);
            self.flights.retain(|number, _| !settled.contains(number));
            self.settled = settled;
            self.retries.clear();
            for retry in retries {
                self.take_retry(retry);
            }
        }
        Some(body.epoch)
    }

    fn take_report(&mut self, report: &Report) {
        for number in numbers(&report.succeeded).chain(numbers(&report.failed)) {
            self.settled.insert(number);
            self.flights.remove(&number);
            self.retries.remove(&number);
        }
        for retry in &report.retries {
            self.take_retry(*retry);
        }
    }

    fn take_retry(&mut self, retry: Retry) {
        let known = self.retries.entry(retry.number).or_default();
        *known = retry.attempt.max(*known);
        self.free(Cause::Retry, |number, flight| {
            number == retry.number && flight.attempt < retry.attempt
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
                self.free(Cause::Denied, |other, _| other == number);
            }
        }
    }

    fn hear_ping(&mut self, at: Duration, connection: ConnectionId, ping: &Ping) {
        let stood = self.collector.as_ref().and_then(|collector| collector.ready);
        let stood = stood.is_some_and(|since| at >= since + shortest(UNBOUND_AFTER));
        let Some(member) = self.members.get_mut(&connection) else {
            return;
        };
        let unbound = ping
            .unbound
            .iter()
            .any(|unbound| unbound.alias == member.alias && Duration::from_millis(unbound.millis) >= UNBOUND_AFTER);
        member.unbound &= unbound;
        if unbound && stood {
            self.free(Cause::Unbound, |_, flight| flight.connection == connection);
        }
    }

    fn hear_worker(&mut self, connection: ConnectionId, message: &Message) -> Heard {
        let mut heard = Heard::default();
        match message {
            Message::State(state) => {
                if let StateBody::Worker(body) = &state.body {
                    heard.located = self.locate(connection, body);
                    heard.worker_answered = state.last;
                    if state.last {
                        self.end_listing(connection);
                    }
                }
            }
            Message::Held(held) if held.answer => self.take_answer(connection, held),
            Message::Return(returned) => {
                let holds = |number: u64| {
                    let mut tasks = returned.tasks.iter();
                    tasks.any(|holding| (holding.first..=holding.last).contains(&number))
                };
                self.free(Cause::Returned, |number, flight| {
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
                let elsewhere = self.flights.get(&number).is_some_and(|flight| flight.free.is_none());
                if self.settled.contains(&number) || wanted_higher || elsewhere {
                    continue;
                }
                let flight = Flight {
                    connection,
                    attempt: holding.attempt,
                    free: None,
                };
                self.flights.insert(number, flight);
                // Whoever sent it, this process may not have.
                self.sent.remove(&number);
                highest = highest.max(Some(number));
            }
        }
        highest
    }

    fn end_listing(&mut self, connection: ConnectionId) {
        let Some(member) = self.members.get_mut(&connection) else {
            return;
        };
        member.ready = true;
        let listed = std::mem::take(&mut member.listed);
        self.free(Cause::Unlisted, |number, flight| {
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
