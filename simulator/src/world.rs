//! The world: one queue of events in virtual time, and all processes stepped one after the other.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use fastrand::Rng;
use harmony_protocol::LinkOutput;
use harmony_protocol::ids::{Epoch, LinkId, ProcessId};
use harmony_protocol::ventilator::Progress;
use harmony_protocol::wire::{Ending, Frames};
use uuid::Uuid;

use crate::checker::{Checker, Verdict};
use crate::collector::CollectorHost;
use crate::disk::Disk;
use crate::facts::Facts;
use crate::faults::{Fault, Settings};
use crate::host::{Action, Context, Input};
use crate::network::{ConnectionId, Network, PartyId, Side};
use crate::trace::{Sent, Trace};
use crate::ventilator::VentilatorHost;
use crate::worker::WorkerHost;

/// The machine of a process.
#[derive(Debug)]
enum Host {
    Collector(CollectorHost),
    Worker(WorkerHost),
    Ventilator(VentilatorHost),
}

/// What a process is, whether it lives or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Collector,
    Worker(usize),
    /// For which batch.
    Ventilator(usize),
}

/// What waits for a process that is not scheduled.
#[derive(Debug)]
enum Waiting {
    Input(Input),
    Accept(ConnectionId),
}

#[derive(Debug)]
struct Party {
    role: Role,
    name: String,
    host: Option<Host>,
    /// Counts its processes.
    incarnation: u64,
    paused: bool,
    waiting: VecDeque<Waiting>,
    timer: Option<Instant>,
    /// How often in a row its timer was due at once.
    spins: u32,
    /// The epoch on a ventilator's disk.
    epoch: Epoch,
    /// It will not come back.
    gone: bool,
}

#[derive(Debug)]
enum Event {
    /// For a process, unless it has died.
    Input(PartyId, u64, Input),
    Timer(PartyId, u64, Instant),
    Arrive(ConnectionId),
    Connected(ConnectionId),
    DialTimeout(ConnectionId),
    Deliver(ConnectionId, usize, Frames),
    /// The other side closed, behind all that it sent.
    Finished(ConnectionId, usize),
    /// This side hears that the link was cut.
    Told(ConnectionId, usize),
    Fault(usize),
    Die(PartyId, u64),
    Leave(PartyId, u64),
    Start(PartyId),
    Resume(PartyId, u64),
    Join(PartyId, PartyId),
    DiskRoom,
}

/// What happened in a run, as counts.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Faults that struck.
    pub faults: BTreeMap<Fault, u64>,
    /// Faults that struck while numbers were in flight.
    pub hits: BTreeMap<Fault, u64>,
    /// Verdicts: done, cancelled, fenced.
    pub verdicts: [u64; 3],
    /// Tasks dispatched and why again: see `Resent`.
    pub resent: [u64; 5],
}

/// See the module.
#[derive(Debug)]
pub struct World {
    settings: Settings,
    base: Instant,
    at: Duration,
    random: Rng,
    queue: BTreeMap<(Duration, u64), Event>,
    pushed: u64,
    network: Network,
    disk: Disk,
    parties: Vec<Party>,
    /// What happened.
    pub trace: Trace,
    /// The judge.
    pub checker: Checker,
    /// Counts.
    pub tally: Tally,
    processes: u128,
    /// Nothing has gone wrong.
    calm: bool,
    deaths: u64,
}

/// How often in a row a machine may ask for its timer without any time passing.
const SPINS: u32 = 100;

/// The last epoch that a ventilator has claimed.
fn claimed(host: &Host) -> Epoch {
    match host {
        Host::Ventilator(ventilator) => ventilator.epoch(),
        Host::Collector(_) | Host::Worker(_) => 0,
    }
}

impl World {
    /// A world that has not begun.
    pub fn new(settings: Settings, random: Rng, trace: Trace) -> Self {
        let mut world = Self {
            base: Instant::now(),
            at: Duration::ZERO,
            random,
            queue: BTreeMap::new(),
            pushed: 0,
            network: Network::default(),
            disk: Disk::default(),
            parties: Vec::new(),
            trace,
            checker: Checker::default(),
            tally: Tally::default(),
            processes: 0,
            calm: settings.is_calm(),
            deaths: 0,
            settings,
        };
        world.add(Role::Collector, "collector".into(), Duration::ZERO);
        for index in 0..world.settings.workers.len() {
            world.add(Role::Worker(index), format!("worker-{index}"), Duration::ZERO);
        }
        for (index, visit) in world.settings.visits.clone().into_iter().enumerate() {
            world.add(Role::Ventilator(visit.batch), format!("ventilator-{index}"), visit.at);
        }
        for index in 0..world.settings.faults.len() {
            world.schedule_fault(index);
        }
        world.explain_visits();
        if let Some(cancel) = world.settings.cancel {
            let first = world.settings.workers.len() + 1;
            world.push(cancel, Event::Input(first, 1, Input::Cancel));
        }
        world
    }

    /// Two ventilators of one batch may each send everything, while the first does not know of the second.
    fn explain_visits(&mut self) {
        let mut seen = BTreeSet::new();
        for visit in &self.settings.visits {
            let tasks = &self.settings.batches[visit.batch];
            if !seen.insert(visit.batch) {
                self.checker.explain(tasks.uid, tasks.completions);
            }
        }
    }

    fn add(&mut self, role: Role, name: String, at: Duration) {
        self.parties.push(Party {
            role,
            name,
            host: None,
            incarnation: 0,
            paused: false,
            waiting: VecDeque::new(),
            timer: None,
            spins: 0,
            epoch: 0,
            gone: false,
        });
        self.push(at, Event::Start(self.parties.len() - 1));
    }

    fn now(&self) -> Instant {
        self.base + self.at
    }

    fn push(&mut self, at: Duration, event: Event) {
        self.pushed += 1;
        self.queue.insert((at, self.pushed), event);
    }

    fn between(&mut self, least: Duration, most: Duration) -> Duration {
        least + most.saturating_sub(least).mul_f64(self.random.f64())
    }

    fn delay(&mut self) -> Duration {
        let slow = self.random.u32(0..1000) < self.settings.slow;
        let factor = if slow {
            5.0 + self.random.f64() * 50.0
        } else {
            0.5 + self.random.f64()
        };
        self.settings.latency.mul_f64(factor)
    }

    /// Runs until every batch has ended, and some time longer. Panics if that takes too long, or if a rule is broken.
    pub fn run(&mut self) {
        let limit = self.settings.until + self.settings.patience();
        self.run_until(limit, Self::all_ended);
        let ended = self.at;
        self.run_for(Duration::from_secs(2));
        self.at = ended;
        self.judge();
    }

    /// Steps until a test of this world holds. Panics if it does not by this time since the beginning.
    pub fn run_until(&mut self, limit: Duration, test: impl Fn(&Self) -> bool) {
        while !test(self) {
            let next = self.queue.pop_first().filter(|((at, _), _)| *at <= limit);
            let Some(((at, _), event)) = next else {
                panic!(
                    "not done at {limit:?}, the last fault was before {:?}: {}",
                    self.settings.until,
                    self.describe()
                );
            };
            self.at = at;
            self.step(event);
        }
    }

    /// Steps through this much time.
    pub fn run_for(&mut self, time: Duration) {
        let end = self.at + time;
        while let Some(entry) = self.queue.first_entry().filter(|entry| entry.key().0 <= end) {
            let ((at, _), event) = entry.remove_entry();
            self.at = at;
            self.step(event);
        }
        self.at = end;
    }

    /// Judges what has ended. Panics if a rule is broken.
    pub fn judge(&mut self) {
        for tasks in &self.settings.batches {
            self.checker.close(tasks, &self.disk.durable(tasks.uid), self.calm);
        }
        for (_, verdict) in &self.checker.verdicts {
            let place = match verdict {
                Verdict::Done(done) if done.ending == Ending::Complete => 0,
                Verdict::Done(_) => 1,
                _ => 2,
            };
            self.tally.verdicts[place] += 1;
        }
    }

    /// The time since the beginning.
    pub fn elapsed(&self) -> Duration {
        self.at
    }

    /// Whether every ventilator has ended.
    pub fn all_ended(&self) -> bool {
        let mut ventilators = self
            .parties
            .iter()
            .filter(|party| matches!(party.role, Role::Ventilator(_)));
        ventilators.all(|party| {
            party.gone || matches!(&party.host, Some(Host::Ventilator(ventilator)) if ventilator.is_over())
        })
    }

    fn describe(&self) -> String {
        let mut text = String::new();
        for party in &self.parties {
            let line = match &party.host {
                None => format!("\n  {}: down", party.name),
                Some(Host::Ventilator(host)) => format!("\n  {}: {:?}", party.name, host.progress()),
                Some(Host::Worker(host)) => format!("\n  {}: {} unfinished", party.name, host.unfinished()),
                Some(Host::Collector(_)) => format!("\n  {}: up", party.name),
            };
            text.push_str(&line);
        }
        text
    }

    fn step(&mut self, event: Event) {
        match event {
            Event::Input(party, incarnation, input) => {
                if self.parties[party].incarnation == incarnation {
                    self.give(party, input);
                }
            }
            Event::Timer(party, incarnation, at) => {
                if self.parties[party].incarnation == incarnation && self.parties[party].timer == Some(at) {
                    self.parties[party].timer = None;
                    self.parties[party].spins += 1;
                    self.give(party, Input::Timer);
                }
            }
            Event::Arrive(id) => self.arrive(id),
            Event::Connected(id) => self.connected(id),
            Event::DialTimeout(id) => {
                let dialling = self
                    .network
                    .connection(id)
                    .is_some_and(|c| c.ends[0].side == Side::Dialling);
                if dialling {
                    self.told(id, 0);
                    self.finish(id, 1);
                }
            }
            Event::Deliver(id, side, frames) => self.deliver(id, side, frames),
            Event::Finished(id, side) => {
                let lost = self
                    .network
                    .connection(id)
                    .is_none_or(|c| c.broken || c.ends[side].clogged);
                if !lost {
                    self.told(id, side);
                }
            }
            Event::Told(id, side) => self.told(id, side),
            Event::Fault(index) => self.strike(index),
            Event::Die(party, incarnation) => {
                if self.parties[party].incarnation == incarnation {
                    self.explain();
                    self.kill(party, true);
                    self.start_later(party);
                }
            }
            Event::Leave(party, incarnation) => self.leave(party, incarnation),
            Event::Start(party) => self.start(party),
            Event::Resume(party, incarnation) => self.resume(party, incarnation),
            Event::Join(one, other) => self.network.part(one, other, false),
            Event::DiskRoom => self.disk.full = false,
        }
    }

    // For tests that decide themselves what goes wrong.

    fn id(&self, name: &str) -> PartyId {
        self.parties
            .iter()
            .position(|party| party.name == name)
            .expect("a known name")
    }

    /// A process dies and stays away.
    pub fn kill_named(&mut self, name: &str) {
        let id = self.id(name);
        self.explain();
        self.kill(id, false);
    }

    /// A process starts again.
    pub fn start_named(&mut self, name: &str) {
        let id = self.id(name);
        self.start(id);
    }

    /// The disk of a ventilator is lost. It must be down.
    pub fn forget_epoch(&mut self, name: &str) {
        let id = self.id(name);
        self.parties[id].epoch = 0;
    }

    /// The disk of the collector has no room, or has some again.
    pub fn fill_disk(&mut self, full: bool) {
        self.disk.full = full;
    }

    /// A process is told something.
    pub fn tell(&mut self, name: &str, input: Input) {
        let id = self.id(name);
        self.explain();
        self.give(id, input);
    }

    /// A process is not scheduled for this long.
    pub fn pause(&mut self, name: &str, time: Duration) {
        let id = self.id(name);
        self.explain();
        self.pause_for(id, time);
    }

    /// The links between two processes are cut; both hear of it soon.
    pub fn cut_between(&mut self, one: &str, other: &str) {
        let (one, other) = (self.id(one), self.id(other));
        self.explain();
        self.cut_all(one, other);
    }

    fn cut_all(&mut self, one: PartyId, other: PartyId) {
        for id in self.network.between(one, other) {
            self.cut(id, 0);
            self.cut(id, 1);
        }
    }

    /// Two processes cannot reach each other any more, or can again.
    pub fn part_named(&mut self, one: &str, other: &str, parted: bool) {
        let (one, other) = (self.id(one), self.id(other));
        self.explain();
        self.part(one, other, parted);
    }

    fn part(&mut self, one: PartyId, other: PartyId, parted: bool) {
        self.network.part(one, other, parted);
        if parted {
            self.cut_all(one, other);
        }
    }

    /// Nothing arrives on the links between two processes any more, and neither hears of it.
    pub fn clog_between(&mut self, one: &str, other: &str) {
        let (one, other) = (self.id(one), self.id(other));
        self.explain();
        for id in self.network.between(one, other) {
            if let Some(connection) = self.network.connection(id) {
                connection.ends.iter_mut().for_each(|end| end.clogged = true);
            }
        }
    }

    /// Everything that has left so far, if the trace keeps it.
    pub fn sent(&self) -> &[Sent] {
        self.trace.kept.as_deref().unwrap_or_default()
    }

    /// How far a ventilator is, if it lives.
    pub fn progress(&self, name: &str) -> Option<Progress> {
        match &self.parties[self.id(name)].host {
            Some(Host::Ventilator(host)) => Some(host.progress()),
            _ => None,
        }
    }

    /// How many processes have died.
    pub fn deaths(&self) -> u64 {
        self.deaths
    }

    /// What is durable of a batch.
    pub fn durable(&self, batch: usize) -> Facts {
        self.disk.durable(self.settings.batches[batch].uid)
    }

    // Processes.

    fn start(&mut self, id: PartyId) {
        if self.parties[id].host.is_some() || self.parties[id].gone {
            return;
        }
        self.processes += 1;
        let process = ProcessId(Uuid::from_u128(0x9206_0000 + self.processes));
        let seed = self.random.u64(..);
        let now = self.now();
        let party = &mut self.parties[id];
        party.incarnation += 1;
        party.timer = None;
        let host = match party.role {
            Role::Collector => Host::Collector(CollectorHost::new(process, self.settings.collector, (now, 0))),
            Role::Worker(index) => Host::Worker(WorkerHost::new(
                &party.name,
                process,
                self.settings.workers[index],
                seed,
            )),
            Role::Ventilator(batch) => {
                let tasks = &self.settings.batches[batch];
                let epoch = if self.settings.epoch_kept { party.epoch } else { 0 };
                Host::Ventilator(VentilatorHost::new(&party.name, process, tasks, epoch, seed))
            }
        };
        party.host = Some(host);
        self.trace
            .note(self.at, format_args!("{} starts as {process}", self.parties[id].name));
        if let Role::Ventilator(_) = self.parties[id].role {
            let workers: Vec<String> = self
                .parties
                .iter()
                .filter(|party| matches!(party.role, Role::Worker(_)))
                .map(|party| party.name.clone())
                .collect();
            self.with_host(id, |host, context| {
                if let Host::Ventilator(ventilator) = host {
                    ventilator.introduce(context, "collector", &workers);
                }
            });
        }
    }

    /// Ends a process at once; `flush` says whether what it has sent still arrives.
    fn kill(&mut self, id: PartyId, own_doing: bool) {
        let Some(host) = self.parties[id].host.take() else {
            return;
        };
        self.trace.note(self.at, format_args!("{} dies", self.parties[id].name));
        self.deaths += 1;
        self.end_process(id, &host);
        if let Host::Collector(_) = host {
            self.disk.crash(&mut self.random);
        }
        if let Host::Worker(worker) = &host {
            self.checker.dies(worker.process());
            self.tell_exit(id, own_doing);
        }
        let flush = self.random.bool();
        for (connection, side) in self.network.of(id) {
            self.network.close(connection, side);
            if flush {
                self.finish(connection, 1 - side);
            } else {
                self.cut(connection, 1 - side);
            }
        }
    }

    fn start_later(&mut self, id: PartyId) {
        let pause = self.between(Duration::from_millis(5), self.settings.restart);
        self.push(self.at + pause, Event::Start(id));
    }

    fn end_process(&mut self, id: PartyId, host: &Host) {
        let party = &mut self.parties[id];
        party.incarnation += 1;
        party.paused = false;
        party.waiting.clear();
        if let Host::Ventilator(ventilator) = host {
            party.epoch = ventilator.epoch();
            let resent = ventilator.progress().resent;
            // What a worker cut off from its collector has, others run as well.
            self.checker.explain(ventilator.uid(), resent.unbound);
            let counts = [
                resent.worker_lost,
                resent.missing_at_collector,
                resent.retry,
                resent.returned,
                resent.unbound,
            ];
            for (sum, count) in self.tally.resent.iter_mut().zip(counts) {
                *sum += count;
            }
        }
    }

    /// Who started a worker sees it end. A death from outside may count against its tasks or not.
    fn tell_exit(&mut self, worker: PartyId, own_doing: bool) {
        if !self.settings.exits_seen {
            return;
        }
        let name = self.parties[worker].name.clone();
        let counts = own_doing || self.random.bool();
        for id in 0..self.parties.len() {
            if let (Role::Ventilator(_), Some(_)) = (self.parties[id].role, &self.parties[id].host) {
                let at = self.at + self.between(Duration::ZERO, Duration::from_millis(30));
                let incarnation = self.parties[id].incarnation;
                self.push(
                    at,
                    Event::Input(id, incarnation, Input::WorkerExited(name.clone(), counts)),
                );
            }
        }
    }

    /// A process ends in good order, some time after it said so. Ventilators do not come back.
    fn leave(&mut self, id: PartyId, incarnation: u64) {
        if self.parties[id].incarnation != incarnation {
            return;
        }
        let Some(host) = self.parties[id].host.take() else {
            return;
        };
        self.trace
            .note(self.at, format_args!("{} leaves", self.parties[id].name));
        if let Host::Worker(worker) = &host {
            // If its goodbye is lost, it cannot be told from a worker that died.
            self.checker.dies(worker.process());
        }
        self.end_process(id, &host);
        for (connection, side) in self.network.of(id) {
            self.network.close(connection, side);
            self.finish(connection, 1 - side);
        }
        if let Host::Ventilator(_) = host {
            self.parties[id].gone = true;
        } else {
            self.start_later(id);
        }
    }

    fn pause_for(&mut self, id: PartyId, time: Duration) {
        self.trace
            .note(self.at, format_args!("{} is paused", self.parties[id].name));
        self.parties[id].paused = true;
        let incarnation = self.parties[id].incarnation;
        self.push(self.at + time, Event::Resume(id, incarnation));
    }

    fn resume(&mut self, id: PartyId, incarnation: u64) {
        if self.parties[id].incarnation != incarnation || !self.parties[id].paused {
            return;
        }
        self.trace
            .note(self.at, format_args!("{} goes on", self.parties[id].name));
        self.explain();
        self.parties[id].paused = false;
        if self.random.bool() && self.parties[id].timer.is_none() {
            self.give(id, Input::Timer);
        }
        while let Some(waiting) = self.parties[id].waiting.pop_front() {
            match waiting {
                Waiting::Input(input) => self.give(id, input),
                Waiting::Accept(connection) => self.arrive(connection),
            }
        }
        self.give(id, Input::Timer);
    }

    /// Gives an input to a process, now or when it is scheduled again.
    fn give(&mut self, id: PartyId, input: Input) {
        if self.parties[id].paused {
            if !matches!(input, Input::Timer) {
                self.parties[id].waiting.push_back(Waiting::Input(input));
            }
            return;
        }
        self.with_host(id, |host, context| match host {
            Host::Collector(collector) => collector.take(context, input),
            Host::Worker(worker) => worker.take(context, input),
            Host::Ventilator(ventilator) => ventilator.take(context, input),
        });
    }

    fn with_host(&mut self, id: PartyId, what: impl FnOnce(&mut Host, &mut Context<'_>)) {
        let Some(mut host) = self.parties[id].host.take() else {
            return;
        };
        let mut context = Context {
            now: self.base + self.at,
            at: self.at,
            random: &mut self.random,
            disk: &mut self.disk,
            checker: &mut self.checker,
            trace: &mut self.trace,
            batches: &self.settings.batches,
            actions: Vec::new(),
        };
        let epoch = claimed(&host);
        what(&mut host, &mut context);
        let actions = context.actions;
        let took_over = claimed(&host) > epoch;
        let timeout = match &host {
            Host::Collector(collector) => collector.timeout(),
            Host::Worker(worker) => worker.timeout(),
            Host::Ventilator(ventilator) => ventilator.timeout(),
        };
        self.parties[id].host = Some(host);
        self.set_timer(id, timeout);
        if took_over && !self.calm {
            // What its predecessor has in flight is not known to it yet.
            self.explain();
        }
        for action in actions {
            self.act(id, action);
        }
    }

    fn set_timer(&mut self, id: PartyId, timeout: Option<Instant>) {
        let now = self.now();
        let party = &mut self.parties[id];
        // A timer in the past is due at once; a machine that asks for it again and again would use up a processor.
        if timeout.is_none_or(|at| at > now) {
            party.spins = 0;
        }
        assert!(party.spins < SPINS, "{} asks for its timer again and again", party.name);
        let due = timeout.map(|at| at.max(now + Duration::from_nanos(100)));
        if due == party.timer {
            return;
        }
        party.timer = due;
        if let Some(at) = due {
            let event = Event::Timer(id, party.incarnation, at);
            self.push(at - self.base, event);
        }
    }

    fn act(&mut self, id: PartyId, action: Action) {
        let incarnation = self.parties[id].incarnation;
        match action {
            Action::After(time, input) => self.push(self.at + time, Event::Input(id, incarnation, input)),
            Action::Die(time) => self.push(self.at + time, Event::Die(id, incarnation)),
            Action::Exit => self.push(self.at + Duration::from_secs(1), Event::Leave(id, incarnation)),
            Action::Link(LinkOutput::Dial { link, endpoint }) => self.dial(id, link, &endpoint),
            Action::Link(LinkOutput::Send { link, frames }) => self.send(id, link, frames),
            Action::Link(LinkOutput::Close { link }) => self.close(id, link),
        }
    }

    // Links.

    fn dial(&mut self, from: PartyId, link: LinkId, endpoint: &str) {
        let to = self
            .parties
            .iter()
            .position(|party| party.name == endpoint)
            .expect("all endpoints are known");
        let id = self.network.dial(from, link, to);
        let at = self.at + self.delay();
        self.push(at, Event::Arrive(id));
        self.push(self.at + Duration::from_secs(5), Event::DialTimeout(id));
    }

    fn arrive(&mut self, id: ConnectionId) {
        let Some(connection) = self.network.connection(id) else {
            return;
        };
        let [dialler, acceptor] = connection.ends;
        if acceptor.side != Side::Dialling {
            return;
        }
        if self.parties[acceptor.party].paused {
            self.parties[acceptor.party].waiting.push_back(Waiting::Accept(id));
            return;
        }
        let parted = self.network.is_parted(dialler.party, acceptor.party);
        if parted || dialler.side == Side::Closed || self.parties[acceptor.party].host.is_none() {
            self.network.close(id, 1);
            let at = self.at + self.delay();
            self.push(at, Event::Told(id, 0));
            return;
        }
        let at = self.at + self.delay();
        if let Some(connection) = self.network.connection(id) {
            connection.ends[1].side = Side::Open;
            connection.ends[0].arrival = at;
        }
        self.push(at, Event::Connected(id));
        self.give(acceptor.party, Input::Opened(acceptor.link));
    }

    fn connected(&mut self, id: ConnectionId) {
        let Some(connection) = self.network.connection(id) else {
            return;
        };
        if connection.broken || connection.ends[0].side != Side::Dialling {
            return;
        }
        connection.ends[0].side = Side::Open;
        let end = connection.ends[0];
        self.give(end.party, Input::Opened(end.link));
    }

    fn send(&mut self, from: PartyId, link: LinkId, frames: Frames) {
        let delay = self.delay();
        let Some((id, side)) = self.network.find(from, link) else {
            return;
        };
        let Some(connection) = self.network.connection(id) else {
            return;
        };
        let other = 1 - side;
        let end = &mut connection.ends[other];
        end.arrival = end.arrival.max(self.at + delay);
        let (arrival, to) = (end.arrival, end.party);
        let lost = end.clogged || connection.broken;
        let (who, peer) = (&self.parties[from].name, &self.parties[to].name);
        self.trace
            .message(self.at, who, if lost { "-x" } else { "->" }, peer, &frames);
        if !lost {
            self.push(arrival, Event::Deliver(id, other, frames));
        }
    }

    fn deliver(&mut self, id: ConnectionId, side: usize, frames: Frames) {
        let Some(connection) = self.network.connection(id) else {
            return;
        };
        let end = connection.ends[side];
        if connection.broken || end.side != Side::Open {
            return;
        }
        self.give(end.party, Input::Message(end.link, frames));
    }

    /// A machine closes its side: what it sent still arrives.
    fn close(&mut self, party: PartyId, link: LinkId) {
        let Some((id, side)) = self.network.find(party, link) else {
            return;
        };
        self.network.close(id, side);
        self.finish(id, 1 - side);
        let incarnation = self.parties[party].incarnation;
        self.push(
            self.at + Duration::from_micros(10),
            Event::Input(party, incarnation, Input::Closed(link)),
        );
    }

    /// A side hears of the end behind everything that was sent to it.
    fn finish(&mut self, id: ConnectionId, side: usize) {
        let at = self.at + self.delay();
        if let Some(connection) = self.network.connection(id) {
            let at = at.max(connection.ends[side].arrival);
            self.push(at, Event::Finished(id, side));
        }
    }

    /// A side hears of the end, and what is under way is lost.
    fn cut(&mut self, id: ConnectionId, side: usize) {
        let at = self.at + self.delay();
        if let Some(connection) = self.network.connection(id) {
            connection.broken = true;
            self.push(at, Event::Told(id, side));
        }
    }

    fn told(&mut self, id: ConnectionId, side: usize) {
        let Some(connection) = self.network.connection(id) else {
            return;
        };
        let end = connection.ends[side];
        if !self.network.close(id, side) || end.side == Side::Dialling && side == 1 {
            return;
        }
        self.trace.note(
            self.at,
            format_args!("{} loses {:?}", self.parties[end.party].name, end.link),
        );
        self.give(end.party, Input::Closed(end.link));
    }

    // Faults.

    fn schedule_fault(&mut self, index: usize) {
        let (_, mean) = self.settings.faults[index];
        let pause = mean.mul_f64(-(1.0 - self.random.f64()).ln());
        let at = self.at + pause;
        if at < self.settings.until {
            self.push(at, Event::Fault(index));
        }
    }

    fn strike(&mut self, index: usize) {
        let (fault, _) = self.settings.faults[index];
        self.schedule_fault(index);
        if self.all_ended() {
            return;
        }
        let in_flight = self.in_flight().iter().sum::<u64>();
        if self.strike_with(fault) {
            *self.tally.faults.entry(fault).or_default() += 1;
            *self.tally.hits.entry(fault).or_default() += u64::from(in_flight > 0);
        }
    }

    /// Numbers in flight of each batch.
    fn in_flight(&self) -> Vec<u64> {
        let mut sums = vec![0; self.settings.batches.len()];
        for party in &self.parties {
            if let (Role::Ventilator(batch), Some(Host::Ventilator(host))) = (party.role, &party.host) {
                sums[batch] += host.progress().in_flight;
            }
        }
        sums
    }

    /// A fault may cost everything that is in flight one more execution.
    fn explain(&mut self) {
        self.calm = false;
        for (batch, in_flight) in self.in_flight().into_iter().enumerate() {
            self.checker.explain(self.settings.batches[batch].uid, in_flight);
        }
    }

    fn pick(&mut self, test: impl Fn(&Party) -> bool) -> Option<PartyId> {
        let candidates: Vec<PartyId> = (0..self.parties.len())
            .filter(|id| self.parties[*id].host.is_some() && test(&self.parties[*id]))
            .collect();
        (!candidates.is_empty()).then(|| candidates[self.random.usize(0..candidates.len())])
    }

    fn pick_connection(&mut self) -> Option<ConnectionId> {
        let standing = self.network.standing();
        (!standing.is_empty()).then(|| standing[self.random.usize(0..standing.len())])
    }

    /// False if there is nothing to strike.
    fn strike_with(&mut self, fault: Fault) -> bool {
        let target = match fault {
            Fault::KillVentilator => self.pick(|p| matches!(&p.host, Some(Host::Ventilator(v)) if !v.is_over())),
            Fault::KillCollector | Fault::LoseDisk => self.pick(|p| p.role == Role::Collector),
            Fault::KillWorker | Fault::Drain => self.pick(|p| matches!(p.role, Role::Worker(_))),
            Fault::Pause => self.pick(|p| !p.paused),
            Fault::Cut | Fault::HalfCut | Fault::Clog | Fault::Part => return self.strike_link(fault),
            Fault::DiskFull => {
                self.disk.full = true;
                let time = self.between(Duration::from_millis(100), Duration::from_secs(10));
                self.push(self.at + time, Event::DiskRoom);
                self.trace.note(self.at, format_args!("the disk is full"));
                return true;
            }
        };
        let Some(target) = target else { return false };
        self.explain();
        match fault {
            Fault::Pause => {
                self.trace
                    .note(self.at, format_args!("{} is paused", self.parties[target].name));
                self.parties[target].paused = true;
                let most = if self.random.bool() { 30_000 } else { 2_000 };
                let time = self.between(Duration::from_millis(10), Duration::from_millis(most));
                let incarnation = self.parties[target].incarnation;
                self.push(self.at + time, Event::Resume(target, incarnation));
            }
            Fault::Drain => {
                let grace = self.between(Duration::ZERO, Duration::from_secs(3));
                self.trace
                    .note(self.at, format_args!("{} is to leave", self.parties[target].name));
                self.give(target, Input::Drain(grace));
            }
            _ => {
                self.kill(target, false);
                self.start_later(target);
                if fault == Fault::LoseDisk {
                    self.lose_disk();
                }
            }
        }
        true
    }

    /// The disk of the collector is lost. The collector must be down.
    pub fn lose_disk(&mut self) {
        self.trace.note(self.at, format_args!("the disk is lost"));
        for tasks in &self.settings.batches {
            let durable = self.disk.durable(tasks.uid);
            if durable.ended.is_none() {
                self.checker.wiped(tasks.uid);
                // Everything recorded runs again.
                let lost = durable.settled.len() + durable.charged.len();
                let again = durable.damages * (u64::from(tasks.backoff_limit) + 1);
                self.checker.explain(tasks.uid, lost as u64 + again);
            }
        }
        self.disk.wipe();
    }

    fn strike_link(&mut self, fault: Fault) -> bool {
        let Some(id) = self.pick_connection() else { return false };
        self.explain();
        self.trace
            .note(self.at, format_args!("{fault:?} strikes connection {id}"));
        let side = self.random.usize(0..2);
        let both = fault == Fault::Cut;
        let told = both || self.random.bool();
        let times = [0, 1].map(|_| self.between(Duration::ZERO, Duration::from_millis(300)));
        let Some(connection) = self.network.connection(id) else {
            return false;
        };
        if fault == Fault::Clog {
            connection.ends[side].clogged = true;
            return true;
        }
        if fault == Fault::Part {
            let [one, other] = connection.ends.map(|end| end.party);
            let time = self.between(Duration::from_millis(100), Duration::from_secs(20));
            self.part(one, other, true);
            self.push(self.at + time, Event::Join(one, other));
            return true;
        }
        connection.broken = true;
        if told {
            self.push(self.at + times[0], Event::Told(id, side));
        }
        if both {
            self.push(self.at + times[1], Event::Told(id, 1 - side));
        }
        true
    }
}
