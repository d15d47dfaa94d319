//! The world: one queue of events in virtual time, and all processes stepped one after the other.

mod disk_faults;
mod links;
mod partitions;
mod processes;
mod script;
mod strikes;

pub use self::partitions::RESTART_HEALED;

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use harmony_protocol::ids::Epoch;
use harmony_protocol::wire::Ending;

use self::strikes::Strike;
use crate::Outcome;
use crate::checker::Checker;
use crate::clock::{Clock, RATE};
use crate::collector::CollectorHost;
use crate::dice::{Concern, Dice, Place, evenly};
use crate::disk::Disk;
use crate::faults::Fault;
use crate::host::Input;
use crate::network::{ConnectionId, Network, PartyId, Side};
use crate::observation::{Exit, Observation, Packet, Role, Verdict};
use crate::settings::{LATENCY_MOST, Settings};
use crate::trace::Trace;
use crate::ventilator::VentilatorHost;
use crate::worker::WorkerHost;

/// The machine of a process.
#[derive(Debug)]
enum Host {
    Collector(Box<CollectorHost>),
    Worker(Box<WorkerHost>),
    Ventilator(Box<VentilatorHost>),
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
    /// What its dice go by.
    place: Place,
    clock: Clock,
    host: Option<Host>,
    /// Counts its processes.
    incarnation: u64,
    paused: bool,
    waiting: VecDeque<Waiting>,
    timer: Option<Instant>,
    /// How often in a row its timer was due at once.
    spins: u32,
    /// The last second in which it said something, and how often it did in that second.
    said: (u64, u32),
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
    Deliver(ConnectionId, usize, Packet),
    /// The other side closed, behind all that it sent.
    Finished(ConnectionId, usize),
    /// This side hears that the link was cut.
    Told(ConnectionId, usize),
    Strike(Strike),
    Die(PartyId, u64),
    Leave(PartyId, u64),
    Start(PartyId),
    Resume(PartyId, u64),
    Join(PartyId, PartyId),
    /// From now on what is sent to this side of a connection waits.
    Stall(ConnectionId, usize),
    /// It need not wait any longer.
    Flow(ConnectionId, usize),
    /// There is a way again from these processes to those.
    Unblock(Fault, Vec<(PartyId, PartyId)>),
    Heal,
    /// The first ventilator of a batch is kept from going on.
    Absence(usize, Fault, Duration),
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
    dice: Dice,
    queue: BTreeMap<(Duration, u64), Event>,
    pushed: u64,
    network: Network,
    /// What waits on its way to a side of a connection.
    held: BTreeMap<(ConnectionId, usize), Vec<Event>>,
    disk: Disk,
    parties: Vec<Party>,
    /// What happened.
    pub trace: Trace,
    /// The judge.
    pub checker: Checker,
    /// Counts.
    pub tally: Tally,
    processes: u128,
    /// Strikes so far, by kind and ordinal.
    pub struck: Vec<(Fault, u64)>,
    deaths: u64,
    /// Crashes between two actions so far, also those that are left out.
    crashes: u64,
}

/// How often in a row a machine may ask for its timer without any time passing.
const SPINS: u32 = 100;

/// More messages of one process in a second of virtual time are a storm: batches have some hundreds of numbers.
const STORM: u32 = 10_000;

/// Where the dice of a process are: taking others away must not move them.
const COLLECTOR_PLACE: Place = 0;
/// See [`COLLECTOR_PLACE`].
const VENTILATORS_PLACE: Place = 1;
/// See [`COLLECTOR_PLACE`].
const WORKERS_PLACE: Place = 1_000;

/// How far apart the clocks of two processes begin at most: machines must not compare what they show.
const CLOCKS_APART: Duration = Duration::from_hours(24);

/// The shortest time until a dead process is started again.
const RESTART_AFTER: Duration = Duration::from_millis(5);

impl World {
    /// A world that has not begun.
    pub fn new(settings: Settings, seed: u64, trace: Trace) -> Self {
        let mut world = Self {
            base: Instant::now(),
            at: Duration::ZERO,
            dice: Dice::new(seed),
            queue: BTreeMap::new(),
            pushed: 0,
            network: Network::default(),
            held: BTreeMap::new(),
            struck: Vec::new(),
            disk: Disk::default(),
            parties: Vec::new(),
            trace,
            checker: Checker::new(settings.batches.clone()),
            tally: Tally::default(),
            processes: 0,
            deaths: 0,
            crashes: 0,
            settings,
        };
        world.add(Role::Collector, "collector".into(), COLLECTOR_PLACE, Duration::ZERO);
        for index in 0..world.settings.workers.len() {
            let place = WORKERS_PLACE + index as u64;
            world.add(Role::Worker(index), format!("worker-{index}"), place, Duration::ZERO);
        }
        for (index, visit) in world.settings.visits.clone().into_iter().enumerate() {
            let place = VENTILATORS_PLACE + index as u64;
            let name = format!("ventilator-{index}");
            world.add(Role::Ventilator(visit.batch), name, place, visit.at);
            if let Some((fault, time)) = visit.absence {
                world.push(visit.at, Event::Absence(visit.batch, fault, time));
            }
        }
        for index in 0..world.settings.faults.len() {
            world.schedule_strike(index, 0, Duration::ZERO);
        }
        if world.settings.until > Duration::ZERO {
            world.push(world.settings.until, Event::Heal);
        }
        if let Some(cancel) = world.settings.cancel {
            let first = world.settings.workers.len() + 1;
            world.push(cancel, Event::Input(first, 1, Input::Cancel));
        }
        world
    }

    fn add(&mut self, role: Role, name: String, place: Place, at: Duration) {
        let random = self.dice.of(Concern::Process(place));
        let began = self.base + evenly(random, Duration::ZERO, CLOCKS_APART);
        let skew = self.settings.skew;
        let clock = Clock::new(began, random.u32(RATE - skew..=RATE + skew));
        self.parties.push(Party {
            role,
            name,
            place,
            clock,
            host: None,
            incarnation: 0,
            paused: false,
            waiting: VecDeque::new(),
            timer: None,
            spins: 0,
            said: (0, 0),
            epoch: 0,
            gone: false,
        });
        self.push(at, Event::Start(self.parties.len() - 1));
    }

    fn observe(&mut self, what: &Observation<'_>) {
        self.checker.observe(self.at, what, &self.disk);
    }

    fn push(&mut self, at: Duration, event: Event) {
        assert!(at >= self.at, "{event:?} is to happen at {at:?}, which is past");
        self.pushed += 1;
        self.queue.insert((at, self.pushed), event);
    }

    /// How long the next message from one process to another takes.
    fn delay(&mut self, from: PartyId, to: PartyId) -> Duration {
        let [from, to] = [from, to].map(|id| self.parties[id].place);
        // The same for all messages on this way.
        let stretch = self
            .settings
            .spread
            .powf(self.dice.fresh(Concern::Path(from, to)).f64());
        let usual = self
            .settings
            .latency
            .mul_f64(stretch)
            .min(LATENCY_MOST.max(self.settings.latency));
        let random = self.dice.of(Concern::Path(from, to));
        let slow = random.u32(0..1000) < self.settings.slow;
        let factor = if slow {
            5.0 + random.f64() * 50.0
        } else {
            0.5 + random.f64()
        };
        usual.mul_f64(factor)
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
            self.checker.close(tasks, &self.disk);
        }
        for (_, verdict) in self.checker.verdicts() {
            let place = match verdict {
                Verdict::Done(done) if done.ending == Ending::Complete => 0,
                Verdict::Done(_) => 1,
                _ => 2,
            };
            self.tally.verdicts[place] += 1;
        }
    }

    /// How it went.
    pub fn outcome(&self) -> Outcome {
        Outcome {
            hash: self.trace.hash(),
            events: self.trace.events(),
            elapsed: self.at,
            after: self.at.saturating_sub(self.settings.until),
            tally: self.tally.clone(),
            coverage: self.checker.coverage().clone(),
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

    /// Where an event arrives that travels on a connection.
    fn arrives_at(event: &Event) -> Option<(ConnectionId, usize)> {
        match event {
            Event::Arrive(id) => Some((*id, 1)),
            Event::Connected(id) => Some((*id, 0)),
            Event::Deliver(id, side, _) | Event::Finished(id, side) | Event::Told(id, side) => Some((*id, *side)),
            _ => None,
        }
    }

    fn step(&mut self, event: Event) {
        if let Some((id, side)) = Self::arrives_at(&event)
            && self.network.holds(id, side)
        {
            self.held.entry((id, side)).or_default().push(event);
            return;
        }
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
            Event::Deliver(id, side, packet) => self.deliver(id, side, packet),
            Event::Finished(id, side) => {
                let lost = self
                    .network
                    .connection(id)
                    .is_none_or(|c| c.broken || c.ends[side].clogged);
                if !lost {
                    self.told(id, side);
                }
            }
            Event::Told(id, side) => {
                let lost = self.network.connection(id).is_none_or(|c| c.ends[side].clogged);
                if !lost {
                    self.told(id, side);
                }
            }
            Event::Strike(strike) => self.strike(strike),
            Event::Die(party, incarnation) => {
                if self.parties[party].incarnation == incarnation {
                    self.kill(party, Exit::OwnDoing);
                    self.start_later(party);
                }
            }
            Event::Leave(party, incarnation) => self.leave(party, incarnation),
            Event::Start(party) => self.start(party),
            Event::Resume(party, incarnation) => self.resume(party, incarnation),
            Event::Join(one, other) => {
                self.network.part(one, other, false);
                self.observe(&Observation::Healed(Fault::Part));
            }
            Event::Stall(id, side) => self.stall(id, side, true),
            Event::Flow(id, side) => self.stall(id, side, false),
            Event::Unblock(fault, ways) => self.unblock(fault, &ways),
            Event::Heal => self.heal(),
            Event::Absence(batch, fault, time) => self.absence(batch, fault, time),
            Event::DiskRoom => {
                self.disk.fill(None);
                self.observe(&Observation::Healed(Fault::DiskFull));
            }
        }
    }
}
