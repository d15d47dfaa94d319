//! The ventilator machine: the client of one batch. It dispatches within credit, and resends only on knowledge.

mod collector_link;
mod dispatch;
mod explain;
mod fleet;
mod hold;
mod losses;
mod missing;
mod settling;
mod success;
mod uploads;
mod view;
mod work;
mod workers;

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use self::collector_link::CollectorLink;
use self::dispatch::Locate;
pub use self::explain::{
    CollectorStage, CollectorView, Explanation, Missing, NumberExplanation, NumberState, Ready, Straggler, Suspect,
    Upcoming, UpcomingKind, Uploading, WorkerExplanation,
};
use self::fleet::Fleet;
pub use self::hold::{Hold, NoRoom, Rooms};
use self::losses::Losses;
pub use self::losses::WorkersLost;
use self::success::Success;
pub use self::success::{SuccessPolicy, SuccessRule};
pub use self::view::{Progress, Snapshot, WorkerStage, WorkerView};
use self::work::Work;
use crate::dialler::Dialler;
use crate::ids::{Alias, Attempt, BatchUid, Epoch, InstanceId, LinkId};
use crate::limits::{INLINE_BYTES, PART_BYTES};
use crate::session::{Identity, LinkOutput, Received, Sessions};
use crate::set::NumberSet;
use crate::spans::SpanMap;
use crate::wire::{ByeCode, Counts, Done, Failure, Frames, Health, Hello, Ping, Policy, Role, Span, Work as WorkSpec};

/// What a ventilator is told at its start.
#[derive(Clone, Debug)]
pub struct Config {
    /// Who it is.
    pub identity: Identity,
    /// For jitter.
    pub seed: u64,
    /// The batch.
    pub uid: BatchUid,
    /// Its name.
    pub name: String,
    /// Random per ventilator and batch.
    pub instance: InstanceId,
    /// The highest epoch known from elsewhere; the next one is higher.
    pub epoch_floor: Epoch,
    /// N.
    pub completions: u64,
    /// What the collector decides by.
    pub policy: Policy,
    /// What workers need.
    pub work: WorkSpec,
    /// The batch is ended early when more numbers than this have failed for good.
    pub max_failed: Option<u64>,
    /// The batch is ended early after this time.
    pub deadline: Option<Duration>,
    /// The batch is ended early, with the reason [`SUCCESS_POLICY`], once enough has succeeded.
    pub success: Option<SuccessPolicy>,
    /// Somebody puts others in the place of workers that are broken: one that cannot run the executor does not end the batch.
    pub workers_are_mended: bool,
    /// Which payloads go in parts.
    pub cut: Cut,
}

/// How payloads are cut for sending. By default as long as the protocol allows.
#[derive(Clone, Copy, Debug)]
pub struct Cut {
    /// Bytes of a payload that goes whole at most, up to [`INLINE_BYTES`].
    pub inline: usize,
    /// Bytes of one PART of a longer one at most, up to [`PART_BYTES`].
    pub part: usize,
}

impl Default for Cut {
    fn default() -> Self {
        Self {
            inline: INLINE_BYTES,
            part: PART_BYTES,
        }
    }
}

/// The reason with which a batch ends early that has met its success policy.
pub const SUCCESS_POLICY: &str = "SuccessPolicy";

/// Where payloads come from, by number.
pub trait Payloads {
    /// Appends what lies in `range` of the payload of a number to the buffer, and returns the length of the whole payload; both
    /// in bytes. A range may end behind the payload.
    ///
    /// # Errors
    /// Says why it cannot be read; the batch cannot go on then.
    fn append(&mut self, number: u64, range: Range<u64>, buffer: &mut Vec<u8>) -> Result<u64, String>;
}

/// What the driver is to do.
#[derive(Clone, Debug)]
pub enum Output {
    /// Something on a link.
    Link(LinkOutput),
    /// Something that people or the host of this ventilator should know.
    Event(Event),
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The batch is about to be claimed under this epoch. START waits until the host has kept it, so that no later
    /// ventilator can take the same one, whatever is lost: see [`Ventilator::handle_epoch_kept`].
    Claiming {
        /// The epoch.
        epoch: Epoch,
        /// Another ventilator had it before.
        takeover: bool,
    },
    /// The batch is over.
    Done(Done),
    /// Another ventilator has the batch: this one ends.
    Fenced {
        /// Its epoch.
        epoch: Epoch,
    },
    /// The batch cannot go on: something outside its tasks is broken.
    Failed(String),
    /// A worker process is taken for dead.
    WorkerLost {
        /// Its name.
        name: String,
        /// Numbers that it had in flight.
        in_flight: u64,
    },
    /// A worker refused the batch.
    WorkerRefused {
        /// Its name.
        name: String,
        /// Why.
        reason: String,
    },
    /// The collector has lost results that it had recorded: their numbers run again.
    ResultsLost {
        /// Numbers settled before.
        before: u64,
        /// Numbers settled now.
        settled: u64,
    },
    /// The collector's health changed.
    Health(Health),
}

/// Why numbers were sent again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Resent {
    /// The link to their worker closed.
    pub worker_lost: u64,
    /// The collector missed them and their worker did not hold them.
    pub missing_at_collector: u64,
    /// A failed attempt is tried again.
    pub retry: u64,
    /// A worker handed them back.
    pub returned: u64,
    /// Their worker had no link to the collector.
    pub unbound: u64,
}

/// A number at a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Flight {
    link: LinkId,
    attempt: Attempt,
    since: Since,
}

/// When a number was sent, or found at a worker. Only people are told; no decision depends on it, so that states which
/// differ in nothing else look the same.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Since(Instant);

impl fmt::Debug for Since {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Since")
    }
}

/// Whom a link is to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Peer {
    Collector,
    Worker(String),
}

/// The ventilator machine.
#[derive(Clone, Debug)]
pub struct Ventilator {
    config: Config,
    sessions: Sessions,
    dialler: Dialler<Peer>,
    collector: CollectorLink,
    fleet: Fleet,
    losses: Losses,
    work: Work,
    in_flight: SpanMap<Flight>,
    settled: NumberSet,
    /// The settled numbers that failed for good.
    failed: NumberSet,
    success: Success,
    /// The first of them, with their causes.
    failures: Arc<Vec<Failure>>,
    /// When the number of settled numbers last grew.
    recorded_at: Option<Instant>,
    /// Numbers whose payload no worker takes, until the collector has settled them.
    unsendable: BTreeMap<u64, (Attempt, String)>,
    /// Questions asked by HELD, and numbers whose worker denied them: they count as lost if they are still missing later.
    asked: BTreeMap<(LinkId, u32), Vec<Span>>,
    doubted: SpanMap<LinkId>,
    locate: Option<Locate>,
    epoch: Epoch,
    next_alias: Alias,
    /// Whose turn it is.
    turn: Option<LinkId>,
    started: Option<Instant>,
    cancelling: Option<String>,
    draining: bool,
    over: bool,
    counts: Counts,
    charges_counted: bool,
    health: Health,
    dispatched: u64,
    payload_bytes: u64,
    resent: Resent,
    stale: u64,
    events: VecDeque<Event>,
}

impl Ventilator {
    /// A ventilator without links. It has nothing to do until it knows its collector and its workers.
    pub fn new(mut config: Config) -> Self {
        config.cut.inline = config.cut.inline.min(INLINE_BYTES);
        config.cut.part = config.cut.part.clamp(1, PART_BYTES);
        Self {
            success: Success::new(config.success.take()),
            sessions: Sessions::new(config.identity.clone()),
            dialler: Dialler::new(config.seed),
            config,
            collector: CollectorLink::default(),
            fleet: Fleet::default(),
            losses: Losses::default(),
            work: Work::default(),
            in_flight: SpanMap::default(),
            settled: NumberSet::new(),
            failed: NumberSet::new(),
            failures: Arc::default(),
            recorded_at: None,
            unsendable: BTreeMap::new(),
            asked: BTreeMap::new(),
            doubted: SpanMap::default(),
            locate: None,
            epoch: 0,
            next_alias: 1,
            turn: None,
            started: None,
            cancelling: None,
            draining: false,
            over: false,
            counts: Counts::default(),
            charges_counted: false,
            health: Health::Ok,
            dispatched: 0,
            payload_bytes: 0,
            resent: Resent::default(),
            stale: 0,
            events: VecDeque::new(),
        }
    }

    /// To be called first in every `handle_*`. The time in which this machine did not run proves nothing about others.
    fn step(&mut self, now: Instant) {
        let Some(gap) = self.sessions.step(now) else { return };
        self.collector.shift(gap);
        self.shift_suspicions(gap);
        if let Some(locate) = &mut self.locate {
            for until in [&mut locate.until, &mut locate.quiet_until].into_iter().flatten() {
                *until += gap;
            }
        }
    }

    /// The collector is, or is now, at this endpoint. Workers hear of it by START.
    pub fn handle_collector(&mut self, now: Instant, endpoint: &str) {
        self.step(now);
        endpoint.clone_into(&mut self.config.work.collector);
        if let Some(link) = self.dialler.want(now, Peer::Collector, endpoint.to_owned()) {
            self.sessions.close(link, ByeCode::Leaving, "the collector moved");
        }
        let links: Vec<_> = self.fleet.members.keys().copied().collect();
        for link in links {
            self.start_worker(link);
        }
    }

    /// There is, or will be, a worker of this name at this endpoint.
    pub fn handle_worker(&mut self, now: Instant, name: &str, endpoint: &str) {
        self.step(now);
        if let Some(link) = self
            .dialler
            .want(now, Peer::Worker(name.to_owned()), endpoint.to_owned())
        {
            self.sessions.close(link, ByeCode::Leaving, "the worker moved");
        }
    }

    /// Nothing new goes to this worker, and what it was granted to get is void; what it has in flight ends there. When
    /// [`WorkerView::is_idle`] it can be stopped without any loss.
    pub fn handle_worker_drain(&mut self, now: Instant, name: &str) {
        self.step(now);
        self.fleet.draining.insert(name.to_owned());
        self.mark_draining(name, true);
    }

    /// This worker is needed after all.
    pub fn handle_worker_undrain(&mut self, now: Instant, name: &str) {
        self.step(now);
        self.fleet.draining.remove(name);
        self.mark_draining(name, false);
    }

    fn mark_draining(&mut self, name: &str, draining: bool) {
        for (link, member) in &mut self.fleet.members {
            if matches!(self.dialler.key(*link), Some(Peer::Worker(key)) if key == name) {
                member.draining = draining;
            }
        }
    }

    /// From the next START on, tasks are run in this way. Workers that have their START go on as before; a worker that was made
    /// for another way refuses the next one, and is to be replaced.
    pub fn handle_work(&mut self, now: Instant, work: WorkSpec) {
        self.step(now);
        let collector = std::mem::take(&mut self.config.work.collector);
        self.config.work = WorkSpec { collector, ..work };
    }

    /// The host has kept this epoch where the next ventilator of this batch will find it: START may use it.
    pub fn handle_epoch_kept(&mut self, now: Instant, epoch: Epoch) {
        self.step(now);
        self.epoch_kept(epoch);
    }

    /// There will be no worker of this name any more.
    pub fn handle_worker_gone(&mut self, now: Instant, name: &str) {
        self.step(now);
        self.fleet.draining.remove(name);
        self.fleet.settled.remove(name);
        if self.fleet.members.values().all(|member| member.key != name) {
            self.losses.forget_exit(name);
        }
        if let Some(link) = self.dialler.forget(&Peer::Worker(name.to_owned())) {
            self.sessions
                .close(link, ByeCode::Leaving, "the worker is not needed any more");
        }
    }

    /// A link that this machine dialled stands.
    pub fn handle_link_opened(&mut self, now: Instant, link: LinkId) {
        self.step(now);
        self.sessions.opened(now, link);
    }

    /// A link is gone, or could not be made.
    pub fn handle_link_closed(&mut self, now: Instant, link: LinkId) {
        self.step(now);
        let said_bye = self.sessions.closed(link).is_some_and(|(_, said_bye)| said_bye);
        self.dialler.closed(now, link);
        self.lose(now, link, said_bye);
    }

    /// Nothing is sent on a link any more, and nothing that comes in on it counts.
    fn lose(&mut self, now: Instant, link: LinkId, said_bye: bool) {
        if self.collector.link == Some(link) {
            self.collector.lost();
        }
        self.asked.retain(|(asked, _), _| *asked != link);
        if let Some(member) = self.fleet.members.remove(&link) {
            self.lose_link(now, link, &member, said_bye);
        }
    }

    /// A message came in.
    pub fn handle_message(&mut self, now: Instant, link: LinkId, frames: &Frames) {
        self.step(now);
        match self.sessions.receive(now, link, frames) {
            Received::Nothing => {}
            Received::Greeted(hello) => self.greeted(link, &hello),
            Received::Message(alias, message) if self.collector.link == Some(link) => {
                self.take_from_collector(now, link, alias, message);
            }
            Received::Message(alias, message) => self.take_from_worker(now, link, alias, message),
        }
    }

    fn greeted(&mut self, link: LinkId, hello: &Hello) {
        match (self.dialler.key(link), hello.role) {
            (Some(Peer::Collector), Role::Collector) => {
                self.collector.opened(link);
                self.claim();
            }
            (Some(Peer::Worker(name)), Role::Worker) => {
                let name = name.clone();
                self.greet_worker(link, &name, hello);
            }
            (_, role) => self
                .sessions
                .refuse(link, &format!("a {role:?} answers where another party was expected")),
        }
    }

    fn fail(&mut self, reason: String) {
        if !self.over {
            self.over = true;
            self.events.push_back(Event::Failed(reason));
        }
    }

    /// Ends the batch early.
    pub fn handle_cancel(&mut self, now: Instant, reason: &str) {
        self.step(now);
        self.cancel(reason);
    }

    /// The batch is deleted, and its results with it: workers drop it at once, so that none waits for a collector that is
    /// gone to take its outcomes. [`Self::handle_leave`] is to follow.
    pub fn handle_abandon(&mut self, now: Instant) {
        self.step(now);
        self.cancel_workers("the batch is deleted");
    }

    /// Sends nothing more, so that what is in flight can end. Another ventilator may go on later.
    pub fn handle_drain(&mut self, now: Instant) {
        self.step(now);
        self.draining = true;
    }

    /// Says BYE on all links; nothing is done any more.
    pub fn handle_leave(&mut self, now: Instant) {
        self.step(now);
        self.over = true;
        self.sessions.close_all(ByeCode::Leaving, "the ventilator leaves");
    }

    /// The time of [`Self::poll_timeout`] has come.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.step(now);
        self.sessions.heartbeat(now, |_| Ping::default());
        self.advance(now);
    }

    /// Everything that happens by time alone.
    fn advance(&mut self, now: Instant) {
        while let Some((link, said_bye)) = self.sessions.poll_given_up() {
            self.lose(now, link, said_bye);
        }
        while !self.over
            && let Some((link, endpoint)) = self.dialler.poll_dial(now)
        {
            self.sessions.dial(link, endpoint);
        }
        self.work.wake(now);
        self.return_lost(now);
        self.confirm_gone(now);
        let started = *self.started.get_or_insert(now);
        if self.config.deadline.is_some_and(|deadline| now >= started + deadline) {
            self.cancel("DeadlineExceeded");
        }
        self.end_locating(now);
    }

    /// When [`Self::handle_timeout`] is to be called next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let deadline = self.config.deadline.filter(|_| self.cancelling.is_none());
        let timers = [
            self.sessions.timeout(),
            self.dialler.timeout().filter(|_| !self.over),
            self.work.timeout(),
            self.losses.timeout(),
            self.collector.timeout().filter(|_| !self.draining),
            self.locate
                .as_ref()
                .and_then(|locate| locate.quiet_until.or(locate.until)),
            deadline.and_then(|deadline| Some(self.started? + deadline)),
        ];
        if self.over {
            self.sessions.timeout()
        } else {
            timers.into_iter().flatten().min()
        }
    }

    /// What the driver is to do next. To be called until it returns `None`, after every input.
    pub fn poll_output(&mut self, now: Instant, payloads: &mut dyn Payloads) -> Option<Output> {
        if !self.over {
            self.advance(now);
            self.dispatch(now, payloads);
            self.maybe_end(now);
        }
        if let Some(event) = self.events.pop_front() {
            return Some(Output::Event(event));
        }
        self.sessions.poll_output().map(Output::Link)
    }

    /// Checks all invariants, for tests: after an input, once [`Self::poll_output`] has returned `None`.
    ///
    /// # Panics
    /// If an invariant is broken.
    pub fn sanity_check(&self) {
        self.work.sanity_check();
        self.in_flight.sanity_check();
        assert!(
            self.failed
                .spans()
                .all(|(first, last)| self.settled.missing_within(first, last).next().is_none()),
            "failed, yet not settled"
        );
        if self.collector.was_ready {
            let elsewhere = self.losses.held_back.len() as u64 + self.unsendable.len() as u64;
            let known =
                self.settled.len() + self.in_flight.len() + self.work.len() + self.work.waiting() as u64 + elsewhere;
            assert_eq!(known, self.config.completions, "every number is in exactly one place");
        }
        for ready in self.explain_ready() {
            assert!(ready.hold.is_some(), "nothing keeps what is not sent: {ready:?}");
        }
        for (link, member) in &self.fleet.members {
            let runs = self.in_flight.iter().filter(|run| run.value.link == *link);
            assert_eq!(
                runs.map(|run| run.count()).sum::<u64>(),
                member.in_flight,
                "in flight at {}",
                member.name
            );
        }
    }
}
