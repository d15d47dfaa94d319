//! What can happen in a state.

use harmony_protocol::ids::LinkId;

/// A process, by its place: the collector, then the workers, then the ventilator.
pub type Place = usize;

/// A connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId {
    /// Who dialled: place and incarnation.
    pub from: (Place, u32),
    /// The name of the link there.
    pub link: LinkId,
    /// Who was dialled.
    pub to: Place,
}

impl ConnectionId {
    /// The place of one side: 0 dialled, 1 was dialled.
    pub fn place(&self, side: usize) -> Place {
        if side == 0 { self.from.0 } else { self.to }
    }
}

/// Something that a process waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Work {
    /// The log is open.
    Open,
    /// An fsync.
    Sync,
    /// All records were read back.
    ReadBack,
    /// A task of this number.
    Task(u64),
}

/// What strikes from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    /// A process dies and starts again later.
    Crash {
        /// Which.
        place: Place,
        /// What it sent and nobody has read is lost, and so is what it wrote and did not sync; else neither is.
        hard: bool,
    },
    /// A connection breaks, and all that is under way on it is lost.
    Cut(ConnectionId),
}

/// What happens by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Act {
    /// A dial reaches its target, and both sides greet; or it finds nobody.
    Connect(ConnectionId),
    /// This side of a connection takes what is first in its queue.
    Deliver(ConnectionId, usize),
    /// Work of a process ends.
    Finish(Place, Work),
    /// The next timer of a process fires before anything else happens to it.
    Hurry(Place),
    /// A dead process starts again.
    Restart(Place),
    /// Nothing else can happen: time passes until something can.
    Wait,
}

/// One transition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    /// Something happens by itself.
    Do(Act),
    /// Something goes wrong.
    Fail(Fault),
    /// This, and what comes after it in its queue, waits until nothing else can happen.
    Hold(Act),
    /// What was held may happen again.
    Release,
}

impl Act {
    /// The processes that it changes, as bits. Steps that have none in common may change their order.
    pub(super) fn touches(&self) -> u32 {
        match self {
            Self::Connect(id) => 1 << id.place(0) | 1 << id.place(1),
            Self::Deliver(id, side) => 1 << id.place(*side),
            Self::Finish(place, _) | Self::Hurry(place) | Self::Restart(place) => 1 << place,
            Self::Wait => u32::MAX,
        }
    }

    /// Whether both may happen in either order, to the same end.
    pub(super) fn commutes(&self, other: &Self) -> bool {
        self.touches() & other.touches() == 0
    }
}
