//! What all hosts share: what comes in, what goes out, and what they may use meanwhile.

use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use fastrand::Rng;
use harmony_protocol::LinkOutput;
use harmony_protocol::ids::{BatchUid, Epoch, LinkId};
use harmony_protocol::wire::{self, Bye, ByeCode, Message};
use harmony_protocol::worker::Piece;

use crate::checker::Checker;
use crate::disk::Disk;
use crate::network::{Network, PartyId};
use crate::observation::{Carried, Observation, Packet};
use crate::tasks::Tasks;
use crate::trace::Trace;

/// Something that a process is told.
#[derive(Clone, Debug)]
pub enum Input {
    /// A link stands.
    Opened(LinkId),
    /// A link is gone.
    Closed(LinkId),
    /// A message came in.
    Message(LinkId, Packet),
    /// The time of its timer has come.
    Timer,
    /// Worker: the executor of a batch is ready, or why it is not.
    Prepared(BatchUid, Result<usize, String>),
    /// Worker: a run has ended.
    Ended(u64),
    /// Worker: runs were stopped.
    Stopped(BatchUid, Vec<(u64, u32)>),
    /// Worker: a piece of an output was read.
    Piece(BatchUid, Piece, Result<Bytes, String>),
    /// Worker: it is asked to leave within this time.
    Drain(Duration),
    /// Collector: a log is to be opened now.
    OpenLog(BatchUid, bool),
    /// Collector: the fsync that was begun for records up to this sequence has ended.
    Synced(BatchUid, u64),
    /// Collector: a state is to be kept now.
    Checkpoint(BatchUid),
    /// Collector: all records were read back.
    ReadBack(BatchUid),
    /// Collector: a duplicate was compared.
    Compared(BatchUid, bool),
    /// Ventilator: the process of a worker was seen to end, and whether that counts.
    WorkerExited(String, bool),
    /// Ventilator: end the batch.
    Cancel,
    /// Ventilator: its host has kept this epoch.
    EpochKept(Epoch),
    /// Ventilator: nothing new goes to this worker, or does again.
    Spare(String, bool),
}

/// Something that a process does to the world.
#[derive(Debug)]
pub enum Action {
    /// A message goes out.
    Send(LinkId, Packet),
    /// A link is dialled or closed.
    Link(LinkOutput),
    /// It will be told this after some time, if it still lives.
    After(Duration, Input),
    /// It dies after some time, by its own doing.
    Die(Duration),
    /// It ends in good order.
    Exit,
}

/// What a host may use while it takes an input.
pub struct Context<'a> {
    /// Who it is.
    pub party: PartyId,
    /// Its clock.
    pub now: Instant,
    /// The same as time since the beginning.
    pub at: Duration,
    /// Its dice.
    pub random: &'a mut Rng,
    /// The disk of the collector.
    pub disk: &'a mut Disk,
    /// The judge.
    pub checker: &'a mut Checker,
    /// The network as it is now.
    pub network: &'a Network,
    /// Machines check themselves after each step.
    pub sanity_checks: bool,
    /// The trace.
    pub trace: &'a mut Trace,
    /// All batches.
    pub batches: &'a [Tasks],
    /// What it does.
    pub actions: Vec<Action>,
}

impl Context<'_> {
    /// The tasks of a batch.
    pub fn tasks(&self, uid: BatchUid) -> &Tasks {
        self.batches
            .iter()
            .find(|tasks| tasks.uid == uid)
            .expect("no other batch is known")
    }

    /// A time between two, each as likely.
    pub fn between(&mut self, least: Duration, most: Duration) -> Duration {
        least + (most - least).mul_f64(self.random.f64())
    }

    /// It will be told this after some time.
    pub fn after(&mut self, time: Duration, input: Input) {
        self.actions.push(Action::After(time, input));
    }

    /// The judge sees something happen.
    pub fn observe(&mut self, what: &Observation<'_>) {
        self.checker.observe(self.at, what, self.disk);
    }

    /// The judge sees what the process is told.
    pub fn observe_input(&mut self, input: &Input) {
        let party = self.party;
        match input {
            Input::Opened(link) => {
                if let Some((connection, _)) = self.network.name_of(party, *link) {
                    self.observe(&Observation::LinkOpened { party, connection });
                }
            }
            Input::Closed(link) => self.observe_close(*link),
            Input::Message(link, packet) => {
                if let Some(carried) = self.carried(*link, packet) {
                    let (from, to) = (carried.to, carried.from);
                    self.observe(&Observation::Delivered(Carried { from, to, ..carried }));
                }
            }
            Input::Cancel => self.observe(&Observation::CancelAsked(party)),
            Input::EpochKept(epoch) => self.observe(&Observation::Claimed { party, epoch: *epoch }),
            Input::Spare(worker, spared) => self.observe(&Observation::Spared {
                party,
                worker,
                spared: *spared,
            }),
            _ => {}
        }
    }

    fn observe_close(&mut self, link: LinkId) {
        let party = self.party;
        if let Some((connection, _)) = self.network.name_of(party, link) {
            self.observe(&Observation::LinkClosed { party, connection });
        }
    }

    /// A message on a link, as if it left.
    fn carried<'b>(&self, link: LinkId, packet: &'b Packet) -> Option<Carried<'b>> {
        let (connection, to) = self.network.name_of(self.party, link)?;
        Some(Carried {
            from: self.party,
            to,
            connection,
            alias: packet.alias,
            message: &packet.message,
        })
    }

    /// Passes an output on a link on.
    pub fn link(&mut self, output: LinkOutput) {
        match output {
            LinkOutput::Send { link, frames } => {
                let (alias, message) =
                    wire::decode(&frames).unwrap_or_else(|e| panic!("a machine sends a bad message: {e}"));
                if let Message::Bye(Bye { code, reason }) = &message {
                    assert_eq!(*code, ByeCode::Leaving, "a machine blames another: {reason}");
                }
                let message = Rc::new(message);
                let packet = Packet { frames, alias, message };
                if let Some(carried) = self.carried(link, &packet) {
                    self.observe(&Observation::Sent(carried));
                }
                self.actions.push(Action::Send(link, packet));
            }
            LinkOutput::Dial { .. } => self.actions.push(Action::Link(output)),
            LinkOutput::Close { link } | LinkOutput::Cut { link } => {
                self.observe_close(link);
                self.actions.push(Action::Link(output));
            }
        }
    }
}
