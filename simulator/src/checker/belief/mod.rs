//! What one ventilator process can know of its numbers, from what it was told and what it has sent.

mod hearing;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use harmony_protocol::ids::{Alias, Attempt, Epoch};
use harmony_protocol::wire::{Retry, Span};

use super::coverage::Branch;
use crate::network::ConnectionId;

/// Without a link to its collector for this long, the numbers of a worker go elsewhere.
const UNBOUND_AFTER: Duration = Duration::from_secs(10);

/// What was on a link that closed is in flight for this long at most, so that a REPORT can settle it.
const RETURN_WAIT: Duration = Duration::from_millis(20);

/// A process that was not scheduled for longer than this cannot judge the time before.
const STEP_GAP: Duration = Duration::from_secs(1);

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
    /// The delay of its next attempt is not over.
    #[allow(dead_code)] // shown in the message
    Early(Duration),
    /// The collector asked for a higher attempt.
    #[allow(dead_code)] // shown in the message
    Outdated(Attempt),
}

#[derive(Clone, Copy, Debug)]
struct Flight {
    connection: ConnectionId,
    attempt: Attempt,
    free: Option<Cause>,
    /// Until then it may count as in flight, though it is free.
    lingers: Option<Instant>,
}

impl Forbidden {
    /// What it breaks.
    pub(super) fn rule(self) -> &'static str {
        match self {
            Self::Settled | Self::InFlight(..) => "I10",
            Self::Silent => "rule 10",
            Self::Early(_) | Self::Outdated(_) => "rule 13",
        }
    }
}

impl Flight {
    fn new(connection: ConnectionId, attempt: Attempt) -> Self {
        Self {
            connection,
            attempt,
            free: None,
            lingers: None,
        }
    }

    fn is_at_a_worker(&self) -> bool {
        self.free.is_none()
    }

    fn counts_at(&self, now: Instant) -> bool {
        self.is_at_a_worker() || self.lingers.is_some_and(|until| now < until)
    }
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
    /// When its STATE was complete; later by the time in which this process was not scheduled.
    ready: Option<Instant>,
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
    /// Numbers that were sent, by this process or by another one.
    sent: BTreeSet<u64>,
    retries: BTreeMap<u64, Attempt>,
    /// Attempts that must not leave before this time.
    waiting: BTreeMap<u64, (Attempt, Instant)>,
    stepped: Option<Instant>,
    links: BTreeSet<ConnectionId>,
}

fn numbers(spans: &[Span]) -> impl Iterator<Item = u64> {
    spans.iter().flat_map(|(first, last)| *first..=*last)
}

impl Belief {
    /// This process runs now. Returns for how long it did not, if that was too long to judge others by. Without links it
    /// has nothing to do for longer than that.
    pub(super) fn step(&mut self, now: Instant) -> Option<Duration> {
        let before = self.stepped.replace(now)?;
        let gap = Some(now - before).filter(|gap| *gap > STEP_GAP && !self.links.is_empty())?;
        if let Some(ready) = self.collector.as_mut().and_then(|collector| collector.ready.as_mut()) {
            *ready += gap;
        }
        Some(gap)
    }

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

    pub(super) fn open_link(&mut self, connection: ConnectionId) {
        self.links.insert(connection);
    }

    pub(super) fn lose_link(&mut self, now: Instant, connection: ConnectionId) {
        self.collector.take_if(|collector| collector.connection == connection);
        self.members.remove(&connection);
        self.links.remove(&connection);
        let lingers = Some(now + RETURN_WAIT);
        self.free(Cause::LinkClosed, lingers, |_, flight| flight.connection == connection);
    }

    fn free(&mut self, cause: Cause, lingers: Option<Instant>, test: impl Fn(u64, &Flight) -> bool) {
        for (number, flight) in &mut self.flights {
            if flight.is_at_a_worker() && test(*number, flight) {
                flight.free = Some(cause);
                flight.lingers = lingers;
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

    /// Numbers that are at workers, for all it knows: at least and at most.
    pub(super) fn in_flight(&self, now: Instant) -> (u64, u64) {
        let least = self.flights.values().filter(|flight| flight.is_at_a_worker());
        let most = self.flights.values().filter(|flight| flight.counts_at(now));
        (least.count() as u64, most.count() as u64)
    }

    /// Whether a number is at a worker, and nobody has said otherwise.
    pub(super) fn is_flying(&self, number: u64) -> bool {
        self.flights.get(&number).is_some_and(Flight::is_at_a_worker)
    }

    /// The link to the worker that a number is at, if nobody has said otherwise.
    pub(super) fn flies_on(&self, number: u64) -> Option<ConnectionId> {
        let flight = self.flights.get(&number).filter(|flight| flight.is_at_a_worker());
        flight.map(|flight| flight.connection)
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
        now: Instant,
        connection: ConnectionId,
        (number, attempt): (u64, Attempt),
    ) -> Result<Option<Cause>, Forbidden> {
        let before = self.flights.insert(number, Flight::new(connection, attempt));
        let waits = self.waiting.remove(&number);
        let sent_before = !self.sent.insert(number);
        if let Some(member) = self.members.get_mut(&connection) {
            member.denied.remove(&number);
        }
        if self.settled.contains(&number) {
            return Err(Forbidden::Settled);
        }
        if let Some(before) = before.filter(Flight::is_at_a_worker) {
            return Err(Forbidden::InFlight(before.connection, before.attempt));
        }
        if sent_before && !self.is_ready() {
            return Err(Forbidden::Silent);
        }
        if let Some((_, due)) = waits.filter(|(_, due)| now < *due) {
            return Err(Forbidden::Early(due - now));
        }
        if let Some(wanted) = self.retries.get(&number).filter(|wanted| **wanted > attempt) {
            return Err(Forbidden::Outdated(*wanted));
        }
        Ok(before.and_then(|before| before.free))
    }
}
