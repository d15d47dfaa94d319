//! What is going to happen.

use std::time::{Duration, Instant};

use super::strikes::Strike;
use crate::faults::Fault;
use crate::host::Input;
use crate::network::{ConnectionId, PartyId};
use crate::observation::Packet;

/// Something that happens at one moment. Those of a process name the incarnation that they are for.
#[derive(Debug)]
pub(super) enum Event {
    /// For a process, unless it has died.
    Input(PartyId, u64, Input),
    Timer(PartyId, u64, Instant),
    Arrive(ConnectionId),
    Connected(ConnectionId),
    DialTimeout(ConnectionId),
    Deliver(ConnectionId, usize, Packet),
    /// The other side closed, behind all that it sent.
    Finished(ConnectionId, usize),
    /// This side hears that the link was cut.
    Told(ConnectionId, usize),
    Strike(Strike),
    Die(PartyId, u64),
    /// The collector dies, and its disk is lost.
    LoseDisk(PartyId, u64),
    Leave(PartyId, u64),
    Start(PartyId),
    Resume(PartyId, u64),
    Join(PartyId, PartyId),
    /// From now on what is sent to this side of a connection waits.
    Stall(ConnectionId, usize),
    /// It need not wait any longer.
    Flow(ConnectionId, usize),
    /// There is a way again from these processes to those.
    Unblock(Fault, Vec<(PartyId, PartyId)>),
    Heal,
    /// The first ventilator of a batch is kept from going on.
    Absence(usize, Fault, Duration),
    DiskRoom,
}

impl Event {
    /// Where it arrives, if it travels on a connection.
    pub(super) fn arrives_at(&self) -> Option<(ConnectionId, usize)> {
        match self {
            Self::Arrive(id) => Some((*id, 1)),
            Self::Connected(id) => Some((*id, 0)),
            Self::Deliver(id, side, _) | Self::Finished(id, side) | Self::Told(id, side) => Some((*id, *side)),
            _ => None,
        }
    }
}
