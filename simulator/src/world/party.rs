//! One process of the world: what it is, whether it lives or not.

use std::collections::VecDeque;
use std::time::Instant;

use harmony_protocol::ids::Epoch;

use crate::clock::Clock;
use crate::collector::CollectorHost;
use crate::dice::Place;
use crate::host::Input;
use crate::network::ConnectionId;
use crate::observation::Role;
use crate::ventilator::VentilatorHost;
use crate::worker::WorkerHost;

/// The machine of a process.
#[derive(Debug)]
pub(super) enum Host {
    Collector(Box<CollectorHost>),
    Worker(Box<WorkerHost>),
    Ventilator(Box<VentilatorHost>),
}

/// What waits for a process that is not scheduled.
#[derive(Debug)]
pub(super) enum Waiting {
    Input(Input),
    Accept(ConnectionId),
}

/// A process.
#[derive(Debug)]
pub(super) struct Party {
    pub(super) role: Role,
    pub(super) name: String,
    /// What its dice go by.
    pub(super) place: Place,
    pub(super) clock: Clock,
    pub(super) host: Option<Host>,
    /// Counts its processes.
    pub(super) incarnation: u64,
    pub(super) paused: bool,
    pub(super) waiting: VecDeque<Waiting>,
    pub(super) timer: Option<Instant>,
    /// How often in a row its timer was due at once.
    pub(super) spins: u32,
    /// The last second in which it said something, and how often it did in that second.
    pub(super) said: (u64, u32),
    /// The epoch on a ventilator's disk.
    pub(super) epoch: Epoch,
    /// It will not come back.
    pub(super) gone: bool,
}
