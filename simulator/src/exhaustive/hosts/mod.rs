//! The three machines in the smallest hosts that drive them.

mod collector;
mod ventilator;
mod worker;

use std::time::Instant;

use harmony_protocol::ids::{Alias, BatchUid, LinkId, LogId, ProcessId};
use harmony_protocol::limits::ALLOWANCE_LEAST;
use harmony_protocol::wire::{self, Frames, Message, Role};
use harmony_protocol::{Identity, LinkOutput};
use uuid::Uuid;

use self::collector::CollectorHost;
use self::ventilator::VentilatorHost;
use self::worker::WorkerHost;
use super::Scope;
use super::log::Ledger;
use super::step::{Place, Work};

const UID: BatchUid = BatchUid(Uuid::from_u128(0xBA7C));
const LOG: LogId = LogId(Uuid::from_u128(0x106));

/// The name and address of the collector; workers are called by their place.
pub(in crate::exhaustive) const COLLECTOR: &str = "collector";

/// Something that a process is told.
#[derive(Clone, Debug)]
pub(in crate::exhaustive) enum Input {
    Begin,
    Opened(LinkId),
    Closed(LinkId),
    Message(LinkId, Frames),
    Timer,
    Finish(Work),
}

/// What a host may use while it takes an input.
pub(in crate::exhaustive) struct Context<'a> {
    pub(in crate::exhaustive) now: Instant,
    pub(in crate::exhaustive) scope: &'a Scope,
    pub(in crate::exhaustive) ledger: &'a mut Ledger,
    pub(in crate::exhaustive) faults: u32,
    /// What it asks of its links.
    pub(in crate::exhaustive) out: Vec<LinkOutput>,
}

/// The machine of a process.
#[derive(Clone, Debug)]
pub(in crate::exhaustive) enum Host {
    Collector(CollectorHost),
    Worker(WorkerHost),
    Ventilator(Box<VentilatorHost>),
}

impl Host {
    /// A process that begins. The n-th at its place has incarnation n.
    pub(in crate::exhaustive) fn new(
        place: Place,
        incarnation: u32,
        now: Instant,
        scope: &Scope,
        ledger: &Ledger,
    ) -> Self {
        let process_id = ProcessId(Uuid::from_u128((place as u128) << 32 | u128::from(incarnation)));
        let identity = |role, name: String| Identity {
            role,
            name,
            process_id,
            slots: None,
        };
        if place == 0 {
            let config = harmony_protocol::collector::Config {
                // So little that each link has the least allowance: it never changes.
                memory: ALLOWANCE_LEAST,
                ..harmony_protocol::collector::Config::new(identity(Role::Collector, COLLECTOR.into()), (now, 0))
            };
            Self::Collector(CollectorHost::new(config))
        } else if place <= scope.workers {
            let identity = Identity {
                slots: Some(1),
                ..identity(Role::Worker, worker_name(place))
            };
            Self::Worker(WorkerHost::new(harmony_protocol::worker::Config {
                identity,
                slots: 1,
                seed: place as u64,
                only: harmony_protocol::worker::Only::default(),
                part_bytes: harmony_protocol::limits::PART_BYTES,
                queue_bytes: harmony_protocol::limits::QUEUE_BYTES,
            }))
        } else {
            let identity = identity(Role::Ventilator, "ventilator".into());
            Self::Ventilator(Box::new(VentilatorHost::new(identity, scope, ledger.claimed)))
        }
    }

    /// Takes an input, and does what follows from it.
    pub(in crate::exhaustive) fn take(&mut self, context: &mut Context<'_>, input: Input) {
        match self {
            Self::Collector(host) => host.take(context, input),
            Self::Worker(host) => host.take(context, input),
            Self::Ventilator(host) => host.take(context, input),
        }
    }

    /// When it wants to be told the time.
    pub(in crate::exhaustive) fn timeout(&self) -> Option<Instant> {
        match self {
            Self::Collector(host) => host.machine.poll_timeout(),
            Self::Worker(host) => host.machine.poll_timeout(),
            Self::Ventilator(host) => host.machine.poll_timeout(),
        }
    }

    /// What it waits for, besides messages and time.
    pub(in crate::exhaustive) fn work(&self) -> Vec<Work> {
        match self {
            Self::Collector(host) => host.work(),
            Self::Worker(host) => host.running.iter().map(|(number, _)| Work::Task(*number)).collect(),
            Self::Ventilator(_) => Vec::new(),
        }
    }

    /// Whether it has ended.
    pub(in crate::exhaustive) fn is_over(&self) -> bool {
        matches!(self, Self::Ventilator(host) if host.over)
    }
}

/// The name and address of a worker.
pub(in crate::exhaustive) fn worker_name(place: Place) -> String {
    format!("worker-{place}")
}

fn decoded(output: &LinkOutput) -> Option<(LinkId, Alias, Message)> {
    let LinkOutput::Send { link, frames } = output else {
        return None;
    };
    let (alias, message) = wire::decode(frames).expect("a machine sends what can be read");
    Some((*link, alias, message))
}
