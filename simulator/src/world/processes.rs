//! Processes: they start, die, leave, are paused, and take inputs.

use std::time::{Duration, Instant};

use harmony_protocol::LinkOutput;
use harmony_protocol::ids::ProcessId;
use uuid::Uuid;

use super::{Event, Host, RESTART_AFTER, Role, SPINS, Waiting, World};
use crate::collector::CollectorHost;
use crate::dice::{Concern, evenly};
use crate::faults::Fault;
use crate::host::{Action, Context, Input};
use crate::network::PartyId;
use crate::observation::{Exit, Observation};
use crate::ventilator::VentilatorHost;
use crate::worker::WorkerHost;

impl World {
    pub(super) fn start(&mut self, id: PartyId) {
        if self.parties[id].host.is_some() || self.parties[id].gone {
            return;
        }
        self.processes += 1;
        let process = ProcessId(Uuid::from_u128(0x9206_0000 + self.processes));
        let seed = self.dice.of(Concern::Process(self.parties[id].place)).u64(..);
        let party = &mut self.parties[id];
        let now = party.clock.shows(self.at);
        party.incarnation += 1;
        party.timer = None;
        let host = match party.role {
            Role::Collector => {
                Host::Collector(Box::new(CollectorHost::new(process, self.settings.collector, (now, 0))))
            }
            Role::Worker(index) => Host::Worker(Box::new(WorkerHost::new(
                &party.name,
                process,
                self.settings.workers[index],
                seed,
            ))),
            Role::Ventilator(batch) => {
                let tasks = &self.settings.batches[batch];
                let epoch = if self.settings.epoch_kept { party.epoch } else { 0 };
                Host::Ventilator(Box::new(VentilatorHost::new(&party.name, process, tasks, epoch, seed)))
            }
        };
        party.host = Some(host);
        self.trace
            .note(self.at, format_args!("{} starts as {process}", self.parties[id].name));
        let party = &self.parties[id];
        let started = Observation::Started {
            party: id,
            role: party.role,
            name: &party.name,
            process,
            clock: party.clock,
        };
        self.checker.observe(self.at, &started, &self.disk);
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
    pub(super) fn kill(&mut self, id: PartyId, exit: Exit) {
        let Some(host) = self.parties[id].host.take() else {
            return;
        };
        self.trace.note(self.at, format_args!("{} dies", self.parties[id].name));
        self.deaths += 1;
        self.end_process(id, &host);
        self.observe(&Observation::Ended { party: id, exit });
        if let Host::Collector(_) = host {
            self.disk.crash(self.dice.of(Concern::Disk));
        }
        if let Host::Worker(_) = &host {
            self.tell_exit(id, exit == Exit::OwnDoing);
        }
        let flush = self.dice.of(Concern::Process(self.parties[id].place)).bool();
        for (connection, side) in self.network.of(id) {
            self.network.close(connection, side);
            if flush {
                self.finish(connection, 1 - side);
            } else {
                self.cut(connection, 1 - side);
            }
        }
    }

    pub(super) fn start_later(&mut self, id: PartyId) {
        let random = self.dice.of(Concern::Process(self.parties[id].place));
        let pause = evenly(random, RESTART_AFTER, self.settings.restart);
        self.push(self.at + pause, Event::Start(id));
    }

    pub(super) fn end_process(&mut self, id: PartyId, host: &Host) {
        let party = &mut self.parties[id];
        party.incarnation += 1;
        party.paused = false;
        party.waiting.clear();
        if let Host::Ventilator(ventilator) = host {
            party.epoch = ventilator.epoch();
            let resent = ventilator.progress().resent;
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

    /// Who started a worker sees it end, before it starts another. A death from outside may count against its tasks or not.
    pub(super) fn tell_exit(&mut self, worker: PartyId, own_doing: bool) {
        if !self.settings.exits_seen {
            return;
        }
        let name = self.parties[worker].name.clone();
        let mut random = self.dice.of(Concern::Process(self.parties[worker].place)).fork();
        let counts = own_doing || random.bool();
        for id in 0..self.parties.len() {
            if let (Role::Ventilator(_), Some(_)) = (self.parties[id].role, &self.parties[id].host) {
                let at = self.at + evenly(&mut random, Duration::ZERO, RESTART_AFTER);
                let incarnation = self.parties[id].incarnation;
                self.push(
                    at,
                    Event::Input(id, incarnation, Input::WorkerExited(name.clone(), counts)),
                );
            }
        }
    }

    /// A process ends in good order, some time after it said so. Ventilators do not come back.
    pub(super) fn leave(&mut self, id: PartyId, incarnation: u64) {
        if self.parties[id].incarnation != incarnation {
            return;
        }
        let Some(host) = self.parties[id].host.take() else {
            return;
        };
        self.trace
            .note(self.at, format_args!("{} leaves", self.parties[id].name));
        self.end_process(id, &host);
        let exit = Exit::Left;
        self.observe(&Observation::Ended { party: id, exit });
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

    pub(super) fn pause_for(&mut self, id: PartyId, time: Duration) {
        self.trace
            .note(self.at, format_args!("{} is paused", self.parties[id].name));
        self.parties[id].paused = true;
        self.observe(&Observation::Paused {
            party: id,
            paused: true,
        });
        let incarnation = self.parties[id].incarnation;
        self.push(self.at + time, Event::Resume(id, incarnation));
    }

    pub(super) fn resume(&mut self, id: PartyId, incarnation: u64) {
        if self.parties[id].incarnation != incarnation || !self.parties[id].paused {
            return;
        }
        self.trace
            .note(self.at, format_args!("{} goes on", self.parties[id].name));
        self.parties[id].paused = false;
        self.observe(&Observation::Paused {
            party: id,
            paused: false,
        });
        if self.parties[id].timer.is_none() && self.dice.of(Concern::Process(self.parties[id].place)).bool() {
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
    pub(super) fn give(&mut self, id: PartyId, input: Input) {
        if self.parties[id].paused {
            if !matches!(input, Input::Timer) {
                self.parties[id].waiting.push_back(Waiting::Input(input));
            }
            return;
        }
        self.with_host(id, |host, context| {
            context.observe_input(&input);
            match host {
                Host::Collector(collector) => collector.take(context, input),
                Host::Worker(worker) => worker.take(context, input),
                Host::Ventilator(ventilator) => ventilator.take(context, input),
            }
        });
    }

    pub(super) fn with_host(&mut self, id: PartyId, what: impl FnOnce(&mut Host, &mut Context<'_>)) {
        let Some(mut host) = self.parties[id].host.take() else {
            return;
        };
        let mut context = Context {
            party: id,
            now: self.parties[id].clock.shows(self.at),
            at: self.at,
            random: self.dice.of(Concern::Host(self.parties[id].place)),
            disk: &mut self.disk,
            checker: &mut self.checker,
            network: &self.network,
            sanity_checks: self.settings.sanity_checks,
            trace: &mut self.trace,
            batches: &self.settings.batches,
            actions: Vec::new(),
        };
        what(&mut host, &mut context);
        let actions = context.actions;
        let timeout = match &host {
            Host::Collector(collector) => collector.timeout(),
            Host::Worker(worker) => worker.timeout(),
            Host::Ventilator(ventilator) => ventilator.timeout(),
        };
        self.parties[id].host = Some(host);
        self.set_timer(id, timeout);
        for action in actions {
            if self.crashes(id) {
                break;
            }
            self.act(id, action);
        }
    }

    /// Whether a process dies here: what it has done stands, the rest is lost.
    fn crashes(&mut self, id: PartyId) -> bool {
        if self.settings.crash == 0.0 || self.at >= self.settings.until {
            return false;
        }
        let random = self.dice.of(Concern::Crash(self.parties[id].place));
        if random.f64() >= self.settings.crash {
            return false;
        }
        // The end of a ventilator is told already.
        if matches!(&self.parties[id].host, Some(Host::Ventilator(host)) if host.is_over()) {
            return false;
        }
        let ordinal = self.crashes;
        self.crashes += 1;
        if self.settings.skipped.contains(&(Fault::Crash, ordinal)) {
            return false;
        }
        let in_flight = self.in_flight().iter().any(|count| *count > 0);
        self.count(Fault::Crash, ordinal, in_flight);
        self.strikes(Fault::Crash);
        self.kill(id, Exit::Killed);
        self.start_later(id);
        true
    }

    pub(super) fn set_timer(&mut self, id: PartyId, timeout: Option<Instant>) {
        let party = &mut self.parties[id];
        let now = party.clock.shows(self.at);
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
            let at = party.clock.time_of(at);
            self.push(at, event);
        }
    }

    pub(super) fn act(&mut self, id: PartyId, action: Action) {
        let incarnation = self.parties[id].incarnation;
        match action {
            Action::After(time, input) => self.push(self.at + time, Event::Input(id, incarnation, input)),
            Action::Die(time) => self.push(self.at + time, Event::Die(id, incarnation)),
            Action::Exit => self.push(self.at + Duration::from_secs(1), Event::Leave(id, incarnation)),
            Action::Link(LinkOutput::Dial { link, endpoint }) => self.dial(id, link, &endpoint),
            Action::Send(link, packet) => self.send(id, link, packet),
            Action::Link(LinkOutput::Close { link }) => self.close(id, link),
            Action::Link(LinkOutput::Cut { link }) => self.give_up(id, link),
            Action::Link(LinkOutput::Send { .. }) => panic!("a message leaves as a packet"),
        }
    }
}
