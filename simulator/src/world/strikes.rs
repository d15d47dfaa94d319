//! What goes wrong, when its time has come.

use std::time::Duration;

use fastrand::Rng;
use harmony_protocol::limits::DEAD_AFTER;

use super::{Event, Host, Party, World};
use crate::dice::{Concern, broadly, evenly};
use crate::faults::Fault;
use crate::host::Input;
use crate::network::PartyId;
use crate::observation::{Exit, Observation, Role};

/// One fault that is about to strike.
#[derive(Debug)]
pub(super) struct Strike {
    /// Which of the faults of the settings.
    index: usize,
    /// How many of its kind came before.
    ordinal: u64,
    /// Its own dice.
    random: Rng,
    /// It waits for work in flight until then.
    waits_until: Duration,
    waits: bool,
    /// When it would strike if it did not wait.
    due: Duration,
}

/// How long a strike waits for work in flight at most.
const MOMENT_WITHIN: Duration = Duration::from_secs(2);
/// How often it looks meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(7);
/// Strikes of one kind in a run at most: more of them only keep work from being done at all.
const STRIKES_MOST: u64 = 40;

const MILLI: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
/// The longest time that something goes on which is over by itself.
const WHILE_MOST: Duration = Duration::from_secs(40);
/// The longest time that a process is not scheduled.
const PAUSE_MOST: Duration = Duration::from_mins(1);

/// How long something goes on: more often short than long.
pub(super) fn a_while(random: &mut Rng) -> Duration {
    broadly(random, 100 * MILLI, WHILE_MOST)
}

impl World {
    /// The next strike of a kind, some time after the one before it.
    pub(super) fn schedule_strike(&mut self, index: usize, ordinal: u64, after: Duration) {
        let (fault, mean) = self.settings.faults[index];
        let mut random = self.dice.fresh(Concern::Strike(fault, ordinal));
        let at = after + mean.mul_f64(-(1.0 - random.f64()).ln());
        if at >= self.settings.until || ordinal >= STRIKES_MOST {
            return;
        }
        let strike = Strike {
            index,
            ordinal,
            waits_until: at + MOMENT_WITHIN,
            waits: random.bool(),
            due: at,
            random,
        };
        // It goes by when the one before it was due, which may have waited for longer.
        self.push(at.max(self.at), Event::Strike(strike));
    }

    /// Half of the strikes wait for a moment in which they can do harm.
    pub(super) fn strike(&mut self, mut strike: Strike) {
        if self.all_ended() || self.at >= self.settings.until {
            return;
        }
        let in_flight = self.in_flight().iter().sum::<u64>();
        if strike.waits && in_flight == 0 && self.at < strike.waits_until {
            self.push(self.at + LOOK_EVERY, Event::Strike(strike));
            return;
        }
        self.schedule_strike(strike.index, strike.ordinal + 1, strike.due);
        let (fault, _) = self.settings.faults[strike.index];
        if self.settings.skipped.contains(&(fault, strike.ordinal)) {
            return;
        }
        if self.strike_with(fault, &mut strike.random) {
            self.count(fault, strike.ordinal, in_flight > 0);
        }
    }

    /// Writes down that a fault has struck.
    pub(super) fn count(&mut self, fault: Fault, ordinal: u64, in_flight: bool) {
        self.struck.push((fault, ordinal));
        *self.tally.faults.entry(fault).or_default() += 1;
        *self.tally.hits.entry(fault).or_default() += u64::from(in_flight);
    }

    /// The first ventilator of a batch is paused or cut off, when the next one comes.
    pub(super) fn absence(&mut self, batch: usize, fault: Fault, time: Duration) {
        let first = self
            .parties
            .iter()
            .position(|party| party.role == Role::Ventilator(batch));
        let Some(first) = first.filter(|id| self.parties[*id].host.is_some() && self.at < self.settings.until) else {
            return;
        };
        self.strikes(fault);
        if fault == Fault::Pause {
            self.pause_for(first, time);
        } else {
            self.trace.note(
                self.at,
                format_args!("{} is cut off for {time:?}", self.parties[first].name),
            );
            let others = (0..self.parties.len()).filter(|id| *id != first);
            let ways = others.flat_map(|id| [(first, id), (id, first)]).collect();
            self.block(fault, ways, time);
        }
    }

    /// Numbers in flight of each batch.
    pub(super) fn in_flight(&self) -> Vec<u64> {
        let mut sums = vec![0; self.settings.batches.len()];
        for party in &self.parties {
            if let (Role::Ventilator(batch), Some(Host::Ventilator(host))) = (party.role, &party.host) {
                sums[batch] += host.progress().in_flight;
            }
        }
        sums
    }

    /// A fault is about to do its harm.
    pub(super) fn strikes(&mut self, fault: Fault) {
        self.observe(&Observation::Struck(fault));
    }

    fn pick(&self, random: &mut Rng, test: impl Fn(&Party) -> bool) -> Option<PartyId> {
        let candidates: Vec<PartyId> = (0..self.parties.len())
            .filter(|id| self.parties[*id].host.is_some() && test(&self.parties[*id]))
            .collect();
        (!candidates.is_empty()).then(|| candidates[random.usize(0..candidates.len())])
    }

    fn busiest_worker(&self) -> Option<PartyId> {
        let unfinished = |id: &PartyId| match &self.parties[*id].host {
            Some(Host::Worker(worker)) => Some((worker.unfinished(), *id)),
            _ => None,
        };
        let workers = (0..self.parties.len()).filter_map(|id| unfinished(&id));
        workers.max().map(|(_, id)| id)
    }

    /// False if there is nothing to strike.
    fn strike_with(&mut self, fault: Fault, random: &mut Rng) -> bool {
        let target = match fault {
            Fault::KillVentilator | Fault::Spare => {
                self.pick(random, |p| matches!(&p.host, Some(Host::Ventilator(v)) if !v.is_over()))
            }
            Fault::KillCollector | Fault::LoseDisk => self.pick(random, |p| p.role == Role::Collector),
            // One that has much to hand back.
            Fault::Drain => self.busiest_worker(),
            Fault::KillWorker => {
                let busy = |p: &Party| matches!(&p.host, Some(Host::Worker(worker)) if worker.unfinished() > 0);
                let busy = self.pick(random, busy);
                busy.or_else(|| self.pick(random, |p| matches!(p.role, Role::Worker(_))))
            }
            Fault::Pause => self.pick(random, |p| !p.paused),
            Fault::Crash => panic!("crashes strike between actions, not at a time"),
            Fault::Cut | Fault::HalfCut | Fault::Clog | Fault::Swizzle => return self.strike_link(fault, random),
            Fault::Part | Fault::OneWay | Fault::Blackout => return self.strike_pair(fault, random),
            Fault::Isolate | Fault::Split => return self.strike_crowd(fault, random),
            Fault::DiskFull | Fault::DiskError | Fault::DiskCrash | Fault::BitFlip => {
                return self.strike_disk(fault, random);
            }
        };
        let Some(target) = target else { return false };
        self.strikes(fault);
        match fault {
            Fault::Pause => self.pause_for(target, broadly(random, 10 * MILLI, PAUSE_MOST)),
            Fault::Drain => {
                let grace = evenly(random, Duration::ZERO, 3 * SECOND);
                self.trace
                    .note(self.at, format_args!("{} is to leave", self.parties[target].name));
                self.give(target, Input::Drain(grace));
            }
            Fault::Spare => self.spare(target, random),
            Fault::LoseDisk if random.bool() => {
                self.stall_workers(target, random);
                let incarnation = self.parties[target].incarnation;
                let at = self.at + evenly(random, Duration::ZERO, SECOND / 5);
                self.push(at, Event::LoseDisk(target, incarnation));
            }
            Fault::LoseDisk => self.kill_with_disk(target),
            _ => {
                self.kill(target, Exit::Killed);
                self.start_later(target);
            }
        }
        true
    }

    /// A ventilator drains a worker, and takes it back after a while, at the latest when nothing goes wrong any more.
    fn spare(&mut self, ventilator: PartyId, random: &mut Rng) {
        let workers = self
            .parties
            .iter()
            .filter(|party| matches!(party.role, Role::Worker(_)));
        let names: Vec<String> = workers.map(|party| party.name.clone()).collect();
        let name = names[random.usize(0..names.len())].clone();
        self.trace.note(
            self.at,
            format_args!("{} is to spare {name}", self.parties[ventilator].name),
        );
        let incarnation = self.parties[ventilator].incarnation;
        self.give(ventilator, Input::Spare(name.clone(), true));
        let back = (self.at + a_while(random)).min(self.settings.until);
        self.push(back, Event::Input(ventilator, incarnation, Input::Spare(name, false)));
    }

    /// What a collector says to its workers arrives so late that it outlives its disk.
    fn stall_workers(&mut self, collector: PartyId, random: &mut Rng) {
        for worker in 0..self.parties.len() {
            if !matches!(self.parties[worker].role, Role::Worker(_)) {
                continue;
            }
            for (id, side) in self.network.ways(collector, worker) {
                self.stall(id, side, true);
                self.push(self.at + evenly(random, SECOND / 5, DEAD_AFTER), Event::Flow(id, side));
            }
        }
    }

    pub(super) fn kill_with_disk(&mut self, collector: PartyId) {
        self.kill(collector, Exit::Killed);
        self.start_later(collector);
        self.lose_disk();
    }

    /// The disk of the collector is lost. The collector must be down.
    pub fn lose_disk(&mut self) {
        self.trace.note(self.at, format_args!("the disk is lost"));
        for tasks in &self.settings.batches {
            let durable = self.disk.facts(tasks.uid);
            if durable.ended.is_none() {
                self.checker
                    .observe(self.at, &Observation::Wiped(tasks.uid), &self.disk);
            }
        }
        self.disk.wipe();
    }

    fn strike_link(&mut self, fault: Fault, random: &mut Rng) -> bool {
        let standing = self.network.standing();
        if standing.is_empty() {
            return false;
        }
        self.strikes(fault);
        if fault == Fault::Swizzle {
            self.swizzle(&standing, random);
            return true;
        }
        let id = standing[random.usize(0..standing.len())];
        self.trace
            .note(self.at, format_args!("{fault:?} strikes connection {id}"));
        let side = random.usize(0..2);
        let both = fault == Fault::Cut;
        let told = both || random.bool();
        let times = [0, 1].map(|_| evenly(random, Duration::ZERO, 300 * MILLI));
        let Some(connection) = self.network.connection(id) else {
            return false;
        };
        if fault == Fault::Clog {
            connection.ends[side].clogged = true;
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
