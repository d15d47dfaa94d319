//! For tests that decide themselves what goes wrong.

use std::time::Duration;

use harmony_protocol::ventilator::Progress;

use super::{Host, World};
use crate::disk::Mended;
use crate::facts::Facts;
use crate::host::Input;
use crate::network::PartyId;
use crate::observation::Exit;
use crate::trace::Sent;

impl World {
    fn id(&self, name: &str) -> PartyId {
        self.parties
            .iter()
            .position(|party| party.name == name)
            .expect("a known name")
    }

    /// A process dies and stays away.
    pub fn kill_named(&mut self, name: &str) {
        let id = self.id(name);
        self.kill(id, Exit::Killed);
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
        self.disk.fill(full.then_some(0));
    }

    /// A process is told something.
    pub fn tell(&mut self, name: &str, input: Input) {
        let id = self.id(name);
        self.give(id, input);
    }

    /// A process is not scheduled for this long.
    pub fn pause(&mut self, name: &str, time: Duration) {
        let id = self.id(name);
        self.pause_for(id, time);
    }

    /// The links between two processes are cut; both hear of it soon.
    pub fn cut_between(&mut self, one: &str, other: &str) {
        let (one, other) = (self.id(one), self.id(other));
        self.cut_all(one, other);
    }

    /// Two processes cannot reach each other any more, or can again.
    pub fn part_named(&mut self, one: &str, other: &str, parted: bool) {
        let (one, other) = (self.id(one), self.id(other));
        self.part(one, other, parted);
    }

    /// Nothing arrives on the links between two processes any more, and neither hears of it.
    pub fn clog_between(&mut self, one: &str, other: &str) {
        let (one, other) = (self.id(one), self.id(other));
        for id in self.network.between(one, other) {
            if let Some(connection) = self.network.connection(id) {
                connection.ends.iter_mut().for_each(|end| end.clogged = true);
            }
        }
    }

    /// What one process sends to another on the links that stand waits on its way, or need not wait any longer.
    pub fn stall_way(&mut self, from: &str, to: &str, stalled: bool) {
        let (from, to) = (self.id(from), self.id(to));
        for (id, side) in self.network.ways(from, to) {
            if stalled {
                self.network.stall(id, side);
            } else {
                self.network.flow(id, side);
            }
        }
        self.release();
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

    /// What opening logs came upon so far.
    pub fn mended(&self) -> Mended {
        self.disk.mended
    }

    /// What is durable of a batch.
    pub fn durable(&self, batch: usize) -> Facts {
        self.disk.facts(self.settings.batches[batch].uid).clone()
    }
}
