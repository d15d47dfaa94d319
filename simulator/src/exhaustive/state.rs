//! A state of the whole: processes, what is under way between them, and the log.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::Scope;
use super::connection::{Connection, Packet};
use super::hosts::{COLLECTOR, Context, Host, Input, worker_name};
use super::key;
use super::log::Ledger;
use super::step::{Act, ConnectionId, Fault, Place, Step};

/// Timers up to this long may fire before anything else happens to their process: those of the group commit (5 ms), of
/// gathering (2 ms), of returning (20 ms) and of the first redial (20 ms).
const HURRY: Duration = Duration::from_millis(25);
/// So long nothing may happen but waiting: it is more than all timers of the protocol that end a wait, one after the other.
const PATIENCE: Duration = Duration::from_secs(90);

#[derive(Clone, Debug)]
pub(super) struct Process {
    /// `None` while it is dead.
    pub(super) host: Option<Host>,
    /// Each process has a clock of its own; all run alike while nothing else happens.
    clock: Instant,
    /// Counts the processes at this place, from 1.
    pub(super) incarnation: u32,
    pub(super) dials: u64,
    /// Its key, unless it was changed.
    pub(super) key: Option<u128>,
}

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct State {
    pub(super) processes: Vec<Rc<Process>>,
    pub(super) connections: BTreeMap<ConnectionId, Rc<Connection>>,
    ledger: Rc<Ledger>,
    /// Faults that struck so far.
    faults: u32,
    /// What waits until nothing else can happen, and how often something was held.
    held: Vec<Act>,
    holds: u32,
    /// Time that passed since the last fault while nothing else could happen. No part of the key.
    waited: Duration,
}

impl State {
    /// All processes have just begun.
    pub(super) fn new(scope: &Scope) -> Self {
        let clock = Instant::now();
        let ledger = Ledger::default();
        let processes = (0..scope.workers + 2).map(|place| {
            let host = Some(Host::new(place, 1, clock, scope, &ledger));
            Rc::new(Process {
                host,
                clock,
                incarnation: 1,
                dials: 0,
                key: None,
            })
        });
        let mut state = Self {
            processes: processes.collect(),
            connections: BTreeMap::new(),
            ledger: Rc::new(ledger),
            faults: 0,
            held: Vec::new(),
            holds: 0,
            waited: Duration::ZERO,
        };
        for place in 0..state.processes.len() {
            state.give(scope, place, Input::Begin);
        }
        state
    }

    /// Whether a ventilator has heard the end of the batch.
    pub(super) fn is_done(&self) -> bool {
        self.ledger.done
    }

    /// Judges a state in which the batch is done. Panics if a rule is broken.
    pub(super) fn judge(&self, scope: &Scope) {
        self.ledger.judge(scope.tasks, self.faults == 0);
    }

    /// The name of a process.
    pub(super) fn name(&self, place: Place) -> String {
        match place {
            0 => COLLECTOR.to_owned(),
            place if place + 1 < self.processes.len() => worker_name(place),
            _ => "ventilator".to_owned(),
        }
    }

    /// One side of a connection takes this next.
    pub(super) fn head(&self, id: &ConnectionId, side: usize) -> Option<&Packet> {
        self.connections.get(id)?.queues[side].front()
    }

    /// A key of all that decides what can happen from here on.
    pub(super) fn key(&mut self, buffer: &mut String) -> u128 {
        let keys = self.processes.iter_mut().map(|process| {
            if let Some(key) = process.key {
                return key;
            }
            let process = Rc::make_mut(process);
            let machine = key::of_machine(&process.host, process.clock, buffer);
            let whole = key::of(&(machine, process.incarnation, process.dials));
            *process.key.insert(whole)
        });
        let keys: Vec<u128> = keys.collect();
        key::of(&(
            keys,
            &self.connections,
            self.ledger.key(),
            self.faults,
            &self.held,
            self.holds,
        ))
    }

    /// What can happen besides faults, always in the same order.
    pub(super) fn acts(&self) -> Vec<Act> {
        let mut acts = Vec::new();
        for (id, connection) in &self.connections {
            if connection.dialling {
                acts.push(Act::Connect(*id));
                continue;
            }
            let sides = (0..2).filter(|side| !connection.queues[*side].is_empty());
            acts.extend(sides.map(|side| Act::Deliver(*id, side)));
        }
        for (place, process) in self.processes.iter().enumerate() {
            let Some(host) = &process.host else {
                acts.push(Act::Restart(place));
                continue;
            };
            acts.extend(host.work().into_iter().map(|work| Act::Finish(place, work)));
            if host.timeout().is_some_and(|at| at <= process.clock + HURRY) {
                acts.push(Act::Hurry(place));
            }
        }
        if acts.is_empty() {
            acts.push(Act::Wait);
        }
        acts
    }

    /// What happens next if the first step in order goes first; and that it is held instead, if more may be.
    pub(super) fn next_or_hold(&self, scope: &Scope) -> Vec<Step> {
        let mut acts = self.acts();
        if scope.backward {
            acts.reverse();
        }
        let free: Vec<Act> = acts.iter().filter(|act| !self.held.contains(act)).copied().collect();
        let Some(&next) = free.first() else {
            return vec![Step::Release];
        };
        let mut choices = vec![Step::Do(next)];
        if scope.holds.is_some_and(|most| self.holds < most) && acts.len() > 1 {
            choices.push(Step::Hold(next));
        }
        choices
    }

    /// The faults that may strike.
    pub(super) fn strikes(&self, scope: &Scope) -> Vec<Step> {
        if self.faults >= scope.faults {
            return Vec::new();
        }
        let mut faults = Vec::new();
        for (place, process) in self.processes.iter().enumerate() {
            if process.host.is_some() && scope.victims.contains(&self.kind(place)) {
                faults.extend([true, false].map(|hard| Fault::Crash { place, hard }));
            }
        }
        if scope.victims.contains(&super::Victim::Link) {
            let standing = self.connections.iter().filter(|(_, connection)| connection.stands());
            faults.extend(standing.map(|(id, _)| Fault::Cut(*id)));
        }
        faults.into_iter().map(Step::Fail).collect()
    }

    fn kind(&self, place: Place) -> super::Victim {
        match place {
            0 => super::Victim::Collector,
            place if place + 1 < self.processes.len() => super::Victim::Worker,
            _ => super::Victim::Ventilator,
        }
    }

    /// Takes a step. Panics if a rule is broken.
    pub(super) fn apply(&mut self, scope: &Scope, step: Step) {
        match step {
            Step::Do(Act::Connect(id)) => self.connect(scope, id),
            Step::Do(Act::Deliver(id, side)) => self.deliver(scope, id, side),
            Step::Do(Act::Finish(place, work)) => self.give(scope, place, Input::Finish(work)),
            Step::Do(Act::Hurry(place)) => self.hurry(scope, place),
            Step::Do(Act::Restart(place)) => self.restart(scope, place),
            Step::Do(Act::Wait) => self.wait(scope),
            Step::Fail(fault) => self.fail(fault),
            Step::Hold(channel) => {
                self.holds += 1;
                self.held.push(channel);
            }
            Step::Release => self.held.clear(),
        }
    }

    fn hurry(&mut self, scope: &Scope, place: Place) {
        let process = Rc::make_mut(&mut self.processes[place]);
        let timeout = process.host.as_ref().and_then(Host::timeout);
        process.clock = process.clock.max(timeout.expect("a timer runs"));
        self.give(scope, place, Input::Timer);
    }

    fn restart(&mut self, scope: &Scope, place: Place) {
        let process = Rc::make_mut(&mut self.processes[place]);
        process.incarnation += 1;
        process.dials = 0;
        let host = Host::new(place, process.incarnation, process.clock, scope, &self.ledger);
        process.host = Some(host);
        self.give(scope, place, Input::Begin);
    }

    /// Time passes until something can happen. Heartbeats are exchanged at once meanwhile.
    fn wait(&mut self, scope: &Scope) {
        while matches!(self.acts()[..], [Act::Wait]) {
            let left = self.processes.iter().filter_map(|process| {
                let timeout = process.host.as_ref().and_then(Host::timeout)?;
                Some(timeout.saturating_duration_since(process.clock))
            });
            let time = left
                .min()
                .expect("a dead end: nothing can happen any more, and no timer runs");
            self.waited += time;
            assert!(
                self.waited <= PATIENCE,
                "an endless wait: nothing happens that ends the batch"
            );
            for process in &mut self.processes {
                let process = Rc::make_mut(process);
                process.clock += time;
                process.key = None;
            }
            for place in 0..self.processes.len() {
                let process = &self.processes[place];
                let timeout = process.host.as_ref().and_then(Host::timeout);
                if timeout.is_some_and(|at| at <= process.clock) {
                    self.give(scope, place, Input::Timer);
                }
            }
            while let Some((id, side)) = self.heartbeat() {
                self.deliver(scope, id, side);
            }
        }
    }

    /// A heartbeat that is first in its queue.
    fn heartbeat(&self) -> Option<(ConnectionId, usize)> {
        let sides = self.connections.iter().flat_map(|(id, connection)| {
            let heads = (0..2).filter(|side| connection.queues[*side].front().is_some_and(Packet::is_heartbeat));
            heads.map(|side| (*id, side))
        });
        sides.into_iter().next()
    }

    fn fail(&mut self, fault: Fault) {
        self.faults += 1;
        self.waited = Duration::ZERO;
        match fault {
            Fault::Cut(id) => self.connection(id).cut(),
            Fault::Crash { place, hard } => {
                if place == 0 {
                    Rc::make_mut(&mut self.ledger).crash(hard);
                }
                self.end(place, hard);
            }
        }
    }

    pub(super) fn give(&mut self, scope: &Scope, place: Place, input: Input) {
        let process = Rc::make_mut(&mut self.processes[place]);
        process.key = None;
        let Some(host) = &mut process.host else { return };
        let mut context = Context {
            now: process.clock,
            scope,
            ledger: Rc::make_mut(&mut self.ledger),
            faults: self.faults,
            out: Vec::new(),
        };
        host.take(&mut context, input);
        let over = host.is_over();
        for output in context.out {
            self.act(scope, place, output);
        }
        if over && self.processes[place].host.is_some() {
            self.end(place, false);
        }
    }
}
