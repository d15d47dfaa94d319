//! The world: one queue of events in virtual time, and all processes stepped one after the other.

mod disk_faults;
mod event;
mod links;
mod partitions;
mod party;
mod processes;
mod script;
mod setup;
mod strikes;

pub use self::partitions::RESTART_HEALED;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use harmony_protocol::wire::Ending;

use self::event::Event;
use self::party::{Host, Party, Waiting};
use crate::Outcome;
use crate::checker::Checker;
use crate::dice::Dice;
use crate::disk::Disk;
use crate::faults::Fault;
use crate::host::Input;
use crate::network::{ConnectionId, Network, Side};
use crate::observation::{Exit, Observation, Role, Verdict};
use crate::settings::Settings;
use crate::trace::Trace;

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

/// The shortest time until a dead process is started again.
const RESTART_AFTER: Duration = Duration::from_millis(5);

impl World {
    fn observe(&mut self, what: &Observation<'_>) {
        self.checker.observe(self.at, what, &self.disk);
    }

    fn push(&mut self, at: Duration, event: Event) {
        assert!(at >= self.at, "{event:?} is to happen at {at:?}, which is past");
        self.pushed += 1;
        self.queue.insert((at, self.pushed), event);
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

    fn step(&mut self, event: Event) {
        if let Some((id, side)) = event.arrives_at()
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
            Event::LoseDisk(party, incarnation) => {
                if self.parties[party].incarnation == incarnation {
                    self.kill_with_disk(party);
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
