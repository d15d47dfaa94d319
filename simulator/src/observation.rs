//! What the world sees happen, in true order. The judge knows nothing but these, what is durable, and the oracle.

use std::rc::Rc;
use std::time::Duration;

use harmony_log::Recovery;
use harmony_protocol::ids::{Alias, Attempt, BatchUid, Epoch, ProcessId};
use harmony_protocol::wire::{Done, Frames, Message};

use crate::clock::Clock;
use crate::faults::Fault;
use crate::network::{ConnectionId, PartyId};

/// A message on its way: its bytes, and what they say. It is decoded once, when it leaves.
#[derive(Clone, Debug)]
pub struct Packet {
    /// The bytes.
    pub frames: Frames,
    /// Which batch of its link it concerns.
    pub alias: Alias,
    /// What the bytes say.
    pub message: Rc<Message>,
}

/// What a process is, whether it lives or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It records outcomes.
    Collector,
    /// It runs tasks; which of the workers.
    Worker(usize),
    /// It is the client of a batch; which of the batches.
    Ventilator(usize),
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// In good order.
    Left,
    /// By what it ran.
    OwnDoing,
    /// By a fault.
    Killed,
}

/// A message and the link it is on.
#[derive(Clone, Copy, Debug)]
pub struct Carried<'a> {
    /// Who sends.
    pub from: PartyId,
    /// Who receives.
    pub to: PartyId,
    /// On which connection.
    pub connection: ConnectionId,
    /// Which batch of the connection it concerns.
    pub alias: Alias,
    /// What is said.
    pub message: &'a Message,
}

/// One task at the executor of a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Execution {
    /// Of which batch.
    pub uid: BatchUid,
    /// Which task.
    pub number: u64,
    /// Which try.
    pub attempt: Attempt,
}

/// What a ventilator says of its numbers.
#[derive(Clone, Copy, Debug)]
pub struct Numbers {
    /// Settled, by the collector's totals.
    pub settled: u64,
    /// At workers.
    pub in_flight: u64,
    /// May be sent now.
    pub left: u64,
    /// Wait for their next attempt.
    pub waiting: u64,
}

/// How a ventilator ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The batch is over.
    Done(Done),
    /// Another ventilator has it.
    Fenced(Epoch),
    /// It gave up.
    Failed(String),
}

/// Something that happened.
#[derive(Clone, Copy, Debug)]
pub enum Observation<'a> {
    /// A process began.
    Started {
        /// Where.
        party: PartyId,
        /// As what.
        role: Role,
        /// Its name.
        name: &'a str,
        /// Which process.
        process: ProcessId,
        /// What it measures time by.
        clock: Clock,
    },
    /// A process is no more, and with it all that it ran and knew.
    Ended {
        /// Where.
        party: PartyId,
        /// How.
        exit: Exit,
    },
    /// A process is not scheduled, or is again.
    Paused {
        /// Which.
        party: PartyId,
        /// Whether it is paused now.
        paused: bool,
    },
    /// A process was told that a link stands.
    LinkOpened {
        /// Which process.
        party: PartyId,
        /// Which link.
        connection: ConnectionId,
    },
    /// A process closed a link, or was told that it is gone.
    LinkClosed {
        /// Which process.
        party: PartyId,
        /// Which link.
        connection: ConnectionId,
    },
    /// A process sends a message, which may get lost.
    Sent(Carried<'a>),
    /// A process takes a message in.
    Delivered(Carried<'a>),
    /// A worker hands a task to its executor.
    TaskBegins {
        /// Where.
        party: PartyId,
        /// What.
        task: Execution,
        /// Nothing may run beside it.
        alone: bool,
        /// What the executor is given.
        payload: &'a [u8],
    },
    /// A task has ended at the executor.
    TaskEnds {
        /// Where.
        party: PartyId,
        /// What.
        task: Execution,
    },
    /// The executor stopped a task before it ended.
    TaskStopped {
        /// Where.
        party: PartyId,
        /// What.
        task: Execution,
    },
    /// A worker forgets a batch, and stops what it runs of it.
    Released {
        /// Which worker.
        party: PartyId,
        /// Which batch.
        uid: BatchUid,
    },
    /// More of a log is durable: the facts have it already.
    Synced(BatchUid),
    /// A log was opened, and what was come upon.
    Recovered(BatchUid, &'a Recovery),
    /// The collector found the record of a number damaged when it read its log back.
    Damaged(BatchUid, u64),
    /// A log was lost.
    Wiped(BatchUid),
    /// Something goes wrong.
    Struck(Fault),
    /// It goes wrong no more, and its traces are gone.
    Healed(Fault),
    /// A new epoch of a ventilator was kept: it may claim it.
    Claimed {
        /// Which ventilator.
        party: PartyId,
        /// Which epoch.
        epoch: Epoch,
    },
    /// How far a ventilator is.
    Progress {
        /// Which ventilator.
        party: PartyId,
        /// How its numbers are spread.
        numbers: Numbers,
    },
    /// A ventilator is to send a worker nothing new, or may again.
    Spared {
        /// Which ventilator.
        party: PartyId,
        /// The name of the worker.
        worker: &'a str,
        /// Nothing new.
        spared: bool,
    },
    /// A ventilator was asked to end its batch early.
    CancelAsked(PartyId),
    /// A ventilator ended.
    Ends {
        /// Which ventilator.
        party: PartyId,
        /// How.
        verdict: &'a Verdict,
    },
}

/// When something happened: virtual time since the beginning.
pub type At = Duration;
