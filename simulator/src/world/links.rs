//! Links: dialled, accepted, closed, cut, and what travels on them.

use std::time::Duration;

use harmony_protocol::ids::LinkId;

use super::{Event, STORM, Waiting, World};
use crate::dice::Concern;
use crate::host::Input;
use crate::network::{ConnectionId, PartyId, Side};
use crate::observation::Packet;
use crate::settings::LATENCY_MOST;

impl World {
    /// How long the next message from one process to another takes.
    pub(super) fn delay(&mut self, from: PartyId, to: PartyId) -> Duration {
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

    pub(super) fn dial(&mut self, from: PartyId, link: LinkId, endpoint: &str) {
        let to = self
            .parties
            .iter()
            .position(|party| party.name == endpoint)
            .expect("all endpoints are known");
        let id = self.network.dial(from, link, to);
        let at = self.at + self.delay(from, to);
        self.push(at, Event::Arrive(id));
        self.push(self.at + Duration::from_secs(5), Event::DialTimeout(id));
    }

    pub(super) fn arrive(&mut self, id: ConnectionId) {
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
            let at = self.at + self.delay(acceptor.party, dialler.party);
            self.push(at, Event::Told(id, 0));
            return;
        }
        let at = self.at + self.delay(acceptor.party, dialler.party);
        if let Some(connection) = self.network.connection(id) {
            connection.ends[1].side = Side::Open;
            connection.ends[0].arrival = at;
        }
        self.push(at, Event::Connected(id));
        self.give(acceptor.party, Input::Opened(acceptor.link));
    }

    pub(super) fn connected(&mut self, id: ConnectionId) {
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

    pub(super) fn send(&mut self, from: PartyId, link: LinkId, packet: Packet) {
        self.check_storm(from);
        let Some((id, side)) = self.network.find(from, link) else {
            return;
        };
        let other = 1 - side;
        let delay = self.delay_to(id, other);
        let Some(connection) = self.network.connection(id) else {
            return;
        };
        let end = &mut connection.ends[other];
        end.arrival = end.arrival.max(self.at + delay);
        let (arrival, to) = (end.arrival, end.party);
        let lost = end.clogged || connection.broken;
        let (who, peer) = (&self.parties[from].name, &self.parties[to].name);
        self.trace
            .message(self.at, who, if lost { "-x" } else { "->" }, peer, &packet);
        if !lost {
            self.push(arrival, Event::Deliver(id, other, packet));
        }
    }

    /// How long the next message to this side of a connection takes.
    fn delay_to(&mut self, id: ConnectionId, side: usize) -> Duration {
        match self.network.connection(id).map(|connection| connection.ends) {
            Some(ends) => self.delay(ends[1 - side].party, ends[side].party),
            None => Duration::ZERO,
        }
    }

    fn check_storm(&mut self, from: PartyId) {
        let second = self.at.as_secs();
        let party = &mut self.parties[from];
        party.said = if party.said.0 == second {
            (second, party.said.1 + 1)
        } else {
            (second, 1)
        };
        assert!(party.said.1 < STORM, "{} says too much", party.name);
    }

    pub(super) fn deliver(&mut self, id: ConnectionId, side: usize, packet: Packet) {
        let Some(connection) = self.network.connection(id) else {
            return;
        };
        let end = connection.ends[side];
        if connection.broken || end.side != Side::Open {
            return;
        }
        self.give(end.party, Input::Message(end.link, packet));
    }

    /// A machine closes its side: what it sent still arrives.
    pub(super) fn close(&mut self, party: PartyId, link: LinkId) {
        let Some((id, side)) = self.network.find(party, link) else {
            return;
        };
        self.network.close(id, side);
        self.finish(id, 1 - side);
        self.hear_closed(party, link);
    }

    /// A side hears of the end behind everything that was sent to it.
    pub(super) fn finish(&mut self, id: ConnectionId, side: usize) {
        let at = self.at + self.delay_to(id, side);
        if let Some(connection) = self.network.connection(id) {
            let at = at.max(connection.ends[side].arrival);
            self.push(at, Event::Finished(id, side));
        }
    }

    /// A machine gives its side up: what it sent and has not arrived yet is lost.
    pub(super) fn give_up(&mut self, party: PartyId, link: LinkId) {
        let Some((id, side)) = self.network.find(party, link) else {
            return;
        };
        self.network.close(id, side);
        self.cut(id, 1 - side);
        self.hear_closed(party, link);
    }

    fn hear_closed(&mut self, party: PartyId, link: LinkId) {
        let incarnation = self.parties[party].incarnation;
        self.push(
            self.at + Duration::from_micros(10),
            Event::Input(party, incarnation, Input::Closed(link)),
        );
    }

    /// A side hears of the end, and what is under way is lost.
    pub(super) fn cut(&mut self, id: ConnectionId, side: usize) {
        let at = self.at + self.delay_to(id, side);
        if let Some(connection) = self.network.connection(id) {
            connection.broken = true;
            self.push(at, Event::Told(id, side));
        }
    }

    pub(super) fn told(&mut self, id: ConnectionId, side: usize) {
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

    pub(super) fn cut_all(&mut self, one: PartyId, other: PartyId) {
        for id in self.network.between(one, other) {
            self.cut(id, 0);
            self.cut(id, 1);
        }
    }

    pub(super) fn part(&mut self, one: PartyId, other: PartyId, parted: bool) {
        self.network.part(one, other, parted);
        if parted {
            self.cut_all(one, other);
        }
    }
}
