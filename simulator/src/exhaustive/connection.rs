//! A connection between two processes: one queue each way.

use std::collections::VecDeque;

use harmony_protocol::ids::LinkId;
use harmony_protocol::wire::{self, Frames, Message};

/// What is under way to one side.
#[derive(Clone, Debug, Hash)]
pub(super) enum Packet {
    Frames(Frames),
    /// The other side is gone.
    End,
}

impl Packet {
    /// What it says.
    pub(super) fn message(&self) -> Option<Message> {
        match self {
            Self::Frames(frames) => wire::decode(frames).ok().map(|(_, message)| message),
            Self::End => None,
        }
    }

    pub(super) fn is_heartbeat(&self) -> bool {
        matches!(self.message(), Some(Message::Ping(_) | Message::Pong(_)))
    }
}

/// See the module. Side 0 dialled, side 1 was dialled.
#[derive(Clone, Debug, Hash)]
pub(super) struct Connection {
    /// Its name at each side.
    pub(super) links: [LinkId; 2],
    /// The dial is under way.
    pub(super) dialling: bool,
    /// Each side, until it has closed or was told that the other one did.
    pub(super) open: [bool; 2],
    /// What is under way to each side.
    pub(super) queues: [VecDeque<Packet>; 2],
    /// Nothing arrives any more but the end.
    broken: bool,
}

impl Connection {
    pub(super) fn dialled(links: [LinkId; 2]) -> Self {
        Self {
            links,
            dialling: true,
            open: [true; 2],
            queues: [VecDeque::new(), VecDeque::new()],
            broken: false,
        }
    }

    pub(super) fn stands(&self) -> bool {
        !self.dialling && !self.broken && self.open == [true; 2]
    }

    pub(super) fn is_over(&self) -> bool {
        self.open == [false; 2] || self.dialling && !self.open[0]
    }

    pub(super) fn send(&mut self, to: usize, packet: Packet) {
        if self.open[to] && !self.broken {
            self.queues[to].push_back(packet);
        }
    }

    pub(super) fn close(&mut self, side: usize) {
        self.open[side] = false;
        self.queues[side].clear();
        self.send(1 - side, Packet::End);
    }

    /// Both sides hear of the end, and of nothing before it.
    pub(super) fn cut(&mut self) {
        for side in 0..2 {
            self.queues[side].clear();
            self.send(side, Packet::End);
        }
        self.broken = true;
    }
}
