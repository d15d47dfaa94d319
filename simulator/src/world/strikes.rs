//! What goes wrong, when its time has come.

use std::time::Duration;

use super::{Event, Host, Party, Role, World};
use crate::faults::Fault;
use crate::host::Input;
use crate::network::{ConnectionId, PartyId};
use crate::observation::{Exit, Observation};

impl World {
    pub(super) fn schedule_fault(&mut self, index: usize) {
        let (_, mean) = self.settings.faults[index];
        let pause = mean.mul_f64(-(1.0 - self.random.f64()).ln());
        let at = self.at + pause;
        if at < self.settings.until {
            self.push(at, Event::Fault(index));
        }
    }

    pub(super) fn strike(&mut self, index: usize) {
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
    pub(super) fn in_flight(&self) -> Vec<u64> {
        let mut sums = vec![0; self.settings.batches.len()];
        for party in &self.parties {
            if let (Role::Ventilator(batch), Some(Host::Ventilator(host))) = (party.role, &party.host) {
                sums[batch] += host.progress().in_flight;
            }
        }
        sums
    }

    /// A fault may cost everything that is in flight one more execution.
    pub(super) fn explain(&mut self) {
        self.calm = false;
        for (batch, in_flight) in self.in_flight().into_iter().enumerate() {
            self.checker.explain(self.settings.batches[batch].uid, in_flight);
        }
    }

    /// A link ends: what went out on it since it broke may run elsewhere as well.
    pub(super) fn explain_again(&mut self) {
        if !self.calm {
            self.explain();
        }
    }

    pub(super) fn pick(&mut self, test: impl Fn(&Party) -> bool) -> Option<PartyId> {
        let candidates: Vec<PartyId> = (0..self.parties.len())
            .filter(|id| self.parties[*id].host.is_some() && test(&self.parties[*id]))
            .collect();
        (!candidates.is_empty()).then(|| candidates[self.random.usize(0..candidates.len())])
    }

    pub(super) fn pick_connection(&mut self) -> Option<ConnectionId> {
        let standing = self.network.standing();
        (!standing.is_empty()).then(|| standing[self.random.usize(0..standing.len())])
    }

    /// False if there is nothing to strike.
    pub(super) fn strike_with(&mut self, fault: Fault) -> bool {
        let target = match fault {
            Fault::KillVentilator => self.pick(|p| matches!(&p.host, Some(Host::Ventilator(v)) if !v.is_over())),
            Fault::KillCollector | Fault::LoseDisk => self.pick(|p| p.role == Role::Collector),
            Fault::KillWorker | Fault::Drain => self.pick(|p| matches!(p.role, Role::Worker(_))),
            Fault::Pause => self.pick(|p| !p.paused),
            Fault::Cut | Fault::HalfCut | Fault::Clog | Fault::Part => return self.strike_link(fault),
            Fault::DiskFull => {
                self.observe(&Observation::Struck(fault));
                self.disk.full = true;
                let time = self.between(Duration::from_millis(100), Duration::from_secs(10));
                self.push(self.at + time, Event::DiskRoom);
                self.trace.note(self.at, format_args!("the disk is full"));
                return true;
            }
        };
        let Some(target) = target else { return false };
        self.observe(&Observation::Struck(fault));
        self.explain();
        match fault {
            Fault::Pause => {
                self.trace
                    .note(self.at, format_args!("{} is paused", self.parties[target].name));
                self.parties[target].paused = true;
                let (party, paused) = (target, true);
                self.observe(&Observation::Paused { party, paused });
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
                self.kill(target, Exit::Killed);
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
            let durable = self.disk.facts(tasks.uid);
            if durable.ended.is_none() {
                // Everything recorded runs again.
                let lost = durable.settled.len() + durable.charged.len();
                let again = durable.damages * (u64::from(tasks.backoff_limit) + 1);
                self.checker.explain(tasks.uid, lost as u64 + again);
                self.checker
                    .observe(self.at, &Observation::Wiped(tasks.uid), &self.disk);
            }
        }
        self.disk.wipe();
    }

    pub(super) fn strike_link(&mut self, fault: Fault) -> bool {
        let Some(id) = self.pick_connection() else { return false };
        self.observe(&Observation::Struck(fault));
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
