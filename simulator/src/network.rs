//! Links between processes: ordered, delayed, and broken in every way a TCP connection can break.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use harmony_protocol::ids::LinkId;

/// Which process, by its place in the world.
pub type PartyId = usize;

/// A connection; its sides are 0, which dialled, and 1, which accepted.
pub type ConnectionId = u64;

/// How far one side of a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// It waits for the other side.
    Dialling,
    /// It was told that the link stands.
    Open,
    /// It was told, or is about to be told, that the link is gone, or its process died.
    Closed,
}

/// One side of a connection.
#[derive(Clone, Copy, Debug)]
pub struct End {
    /// Whose.
    pub party: PartyId,
    /// The link's name there.
    pub link: LinkId,
    /// How far it has come.
    pub side: Side,
    /// The latest arrival under way to this side: later messages arrive later.
    pub arrival: Duration,
    /// What is sent to this side vanishes.
    pub clogged: bool,
}

/// A connection.
#[derive(Clone, Debug)]
pub struct Connection {
    /// Who dialled.
    pub ends: [End; 2],
    /// It was cut: what is under way is lost.
    pub broken: bool,
}

/// All connections.
#[derive(Debug, Default)]
pub struct Network {
    connections: BTreeMap<ConnectionId, Connection>,
    by_link: BTreeMap<(PartyId, LinkId), (ConnectionId, usize)>,
    /// The newest link of this name, whether it stands or not, and who is on its other side.
    names: BTreeMap<(PartyId, LinkId), (ConnectionId, PartyId)>,
    /// Pairs of processes that cannot reach each other.
    parted: BTreeSet<(PartyId, PartyId)>,
    /// From whom to whom nothing arrives, and for how many reasons.
    blocked: BTreeMap<(PartyId, PartyId), u32>,
    /// Sides of connections to which nothing arrives, and for how many reasons.
    stalled: BTreeMap<(ConnectionId, usize), u32>,
    next: ConnectionId,
    accepted: u64,
}

impl Network {
    /// A dial under way from one party to another.
    pub fn dial(&mut self, from: PartyId, link: LinkId, to: PartyId) -> ConnectionId {
        self.next += 1;
        self.accepted += 1;
        let end = |party, link| End {
            party,
            link,
            side: Side::Dialling,
            arrival: Duration::ZERO,
            clogged: false,
        };
        let accepted = LinkId::accepted(self.accepted);
        let ends = [end(from, link), end(to, accepted)];
        self.connections.insert(self.next, Connection { ends, broken: false });
        self.by_link.insert((from, link), (self.next, 0));
        self.by_link.insert((to, accepted), (self.next, 1));
        self.names.insert((from, link), (self.next, to));
        self.names.insert((to, accepted), (self.next, from));
        self.next
    }

    /// Lets two processes reach each other no more, or again.
    pub fn part(&mut self, one: PartyId, other: PartyId, parted: bool) {
        let pair = (one.min(other), one.max(other));
        if parted {
            self.parted.insert(pair);
        } else {
            self.parted.remove(&pair);
        }
    }

    /// Whether two processes cannot reach each other.
    pub fn is_parted(&self, one: PartyId, other: PartyId) -> bool {
        self.parted.contains(&(one.min(other), one.max(other)))
    }

    /// Lets nothing from one process to another arrive.
    pub fn block(&mut self, way: (PartyId, PartyId)) {
        *self.blocked.entry(way).or_default() += 1;
    }

    /// Takes back one [`Self::block`].
    pub fn unblock(&mut self, way: (PartyId, PartyId)) {
        take_back(&mut self.blocked, &way);
    }

    /// Lets nothing to this side of a connection arrive.
    pub fn stall(&mut self, id: ConnectionId, side: usize) {
        *self.stalled.entry((id, side)).or_default() += 1;
    }

    /// Takes back one [`Self::stall`].
    pub fn flow(&mut self, id: ConnectionId, side: usize) {
        take_back(&mut self.stalled, &(id, side));
    }

    /// Whether what is sent to this side of a connection has to wait.
    pub fn holds(&self, id: ConnectionId, side: usize) -> bool {
        let Some(connection) = self.connections.get(&id) else {
            return false;
        };
        let [to, from] = [side, 1 - side].map(|side| connection.ends[side].party);
        self.stalled.contains_key(&(id, side)) || self.blocked.contains_key(&(from, to))
    }

    /// Everybody can reach everybody, and nothing waits.
    pub fn heal(&mut self) {
        self.parted.clear();
        self.blocked.clear();
        self.stalled.clear();
    }

    /// The connection and side of a process's link.
    pub fn find(&self, party: PartyId, link: LinkId) -> Option<(ConnectionId, usize)> {
        self.by_link.get(&(party, link)).copied()
    }

    /// The connection of a process's link, even if that is closed, and who is on its other side.
    pub fn name_of(&self, party: PartyId, link: LinkId) -> Option<(ConnectionId, PartyId)> {
        self.names.get(&(party, link)).copied()
    }

    /// One connection, while a side of it stands.
    pub fn connection(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        self.connections.get_mut(&id)
    }

    /// Marks one side as closed. True if it was not before.
    pub fn close(&mut self, id: ConnectionId, side: usize) -> bool {
        let Some(connection) = self.connections.get_mut(&id) else {
            return false;
        };
        let end = &mut connection.ends[side];
        if end.side == Side::Closed {
            return false;
        }
        end.side = Side::Closed;
        self.by_link.remove(&(end.party, end.link));
        if connection.ends.iter().all(|end| end.side == Side::Closed) {
            self.connections.remove(&id);
        }
        true
    }

    /// The connections and sides of a process.
    pub fn of(&self, party: PartyId) -> Vec<(ConnectionId, usize)> {
        let links = self
            .by_link
            .range((party, LinkId::dialled(0))..=(party, LinkId::accepted(u64::MAX)));
        links.map(|(_, place)| *place).collect()
    }

    /// The connections between two processes.
    pub fn between(&self, one: PartyId, other: PartyId) -> Vec<ConnectionId> {
        let ends = |c: &Connection| c.ends.map(|end| end.party);
        let joins = |c: &Connection| ends(c) == [one, other] || ends(c) == [other, one];
        self.connections
            .iter()
            .filter(|(_, c)| joins(c))
            .map(|(id, _)| *id)
            .collect()
    }

    /// The connections that one process reaches another by, with the side of the other.
    pub fn ways(&self, from: PartyId, to: PartyId) -> Vec<(ConnectionId, usize)> {
        let sides = self.connections.iter().flat_map(|(id, c)| [(*id, c, 0), (*id, c, 1)]);
        let leads = |c: &Connection, side: usize| [1 - side, side].map(|end| c.ends[end].party) == [from, to];
        sides
            .filter(|(_, c, side)| leads(c, *side))
            .map(|(id, _, side)| (id, side))
            .collect()
    }

    /// All connections that both sides believe in.
    pub fn standing(&self) -> Vec<ConnectionId> {
        let both = |c: &Connection| !c.broken && c.ends.iter().all(|end| end.side == Side::Open);
        self.connections
            .iter()
            .filter(|(_, c)| both(c))
            .map(|(id, _)| *id)
            .collect()
    }
}

/// One reason less; nothing if all of them are gone already.
fn take_back<K: Ord>(reasons: &mut BTreeMap<K, u32>, key: &K) {
    if let Some(count) = reasons.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            reasons.remove(key);
        }
    }
}
