//! Links of a state: made, used, closed, and lost with their process.

use std::rc::Rc;

use harmony_protocol::LinkOutput;
use harmony_protocol::ids::LinkId;

use super::Scope;
use super::connection::{Connection, Packet};
use super::hosts::Input;
use super::state::State;
use super::step::{ConnectionId, Place};

impl State {
    pub(super) fn connection(&mut self, id: ConnectionId) -> &mut Connection {
        Rc::make_mut(
            self.connections
                .get_mut(&id)
                .expect("a step names a connection that is there"),
        )
    }

    /// A link is made in one step: both sides open it, and their HELLOs arrive.
    pub(super) fn connect(&mut self, scope: &Scope, id: ConnectionId) {
        if self.processes[id.to].host.is_none() {
            self.connections.remove(&id);
            return self.give(scope, id.from.0, Input::Closed(id.link));
        }
        let connection = self.connection(id);
        connection.dialling = false;
        let accepted = connection.links[1];
        self.give(scope, id.to, Input::Opened(accepted));
        self.give(scope, id.from.0, Input::Opened(id.link));
        self.deliver(scope, id, 0);
        self.deliver(scope, id, 1);
    }

    pub(super) fn deliver(&mut self, scope: &Scope, id: ConnectionId, side: usize) {
        let connection = self.connection(id);
        let packet = connection.queues[side].pop_front().expect("something is under way");
        let link = connection.links[side];
        match packet {
            Packet::Frames(frames) => self.give(scope, id.place(side), Input::Message(link, frames)),
            Packet::End => {
                self.close(id, side);
                self.give(scope, id.place(side), Input::Closed(link));
            }
        }
    }

    /// A process is gone, and its links with it.
    pub(super) fn end(&mut self, place: Place, hard: bool) {
        let process = Rc::make_mut(&mut self.processes[place]);
        process.host = None;
        process.key = None;
        let ids: Vec<ConnectionId> = self.connections.keys().copied().collect();
        for id in ids {
            for side in (0..2).filter(|side| id.place(*side) == place) {
                if !self.connections.contains_key(&id) {
                    continue;
                }
                let connection = self.connection(id);
                if hard {
                    connection.queues[1 - side].clear();
                }
                if connection.dialling && side == 1 {
                    continue;
                }
                self.close(id, side);
            }
        }
    }

    /// One side is closed: nothing arrives there any more, and the other side hears of it behind all that was sent.
    fn close(&mut self, id: ConnectionId, side: usize) {
        let connection = self.connection(id);
        connection.close(side);
        if connection.is_over() {
            self.connections.remove(&id);
        }
    }

    pub(super) fn act(&mut self, scope: &Scope, place: Place, output: LinkOutput) {
        match output {
            LinkOutput::Dial { link, endpoint } => self.dial(place, link, &endpoint),
            LinkOutput::Send { link, frames } => {
                if let Some((id, side)) = self.find(place, link) {
                    self.connection(id).send(1 - side, Packet::Frames(frames));
                }
            }
            LinkOutput::Close { link } => self.shut(scope, place, link, false),
            LinkOutput::Cut { link } => self.shut(scope, place, link, true),
        }
    }

    fn shut(&mut self, scope: &Scope, place: Place, link: LinkId, at_once: bool) {
        let Some((id, side)) = self.find(place, link) else {
            return;
        };
        if at_once {
            self.connection(id).queues[1 - side].clear();
        }
        self.close(id, side);
        self.give(scope, place, Input::Closed(link));
    }

    fn dial(&mut self, from: Place, link: LinkId, endpoint: &str) {
        let to = (0..self.processes.len()).find(|place| self.name(*place) == endpoint);
        let process = Rc::make_mut(&mut self.processes[from]);
        process.dials += 1;
        // A name that depends on the dialler alone, so that two dials may reach one process in either order.
        let accepted = (from as u64) << 32 | u64::from(process.incarnation) << 16 | process.dials;
        let id = ConnectionId {
            from: (from, process.incarnation),
            link,
            to: to.expect("all endpoints are known"),
        };
        let connection = Connection::dialled([link, LinkId::accepted(accepted)]);
        self.connections.insert(id, Rc::new(connection));
    }

    fn find(&self, place: Place, link: LinkId) -> Option<(ConnectionId, usize)> {
        self.connections.iter().find_map(|(id, connection)| {
            let side = (0..2).find(|side| id.place(*side) == place && connection.links[*side] == link)?;
            connection.open[side].then_some((*id, side))
        })
    }
}
