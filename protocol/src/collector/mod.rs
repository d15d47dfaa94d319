//! The collector machine: records outcomes durably, knows what is missing, and is the arbiter of attempts, done and failed.
//!
//! Inputs are `handle_*`, outputs `poll_output`. What depends on durability leaves only after [`Collector::handle_synced`]:
//! records first, then acks and reports, as raft-rs orders persistence before messages.

mod allowance;
mod batch;
mod clients;
mod commit;
mod judging;
mod opening;
mod output;
mod record;
mod release;
mod reports;
mod snapshot;
mod state;
mod tally;
mod unloading;
mod uploads;

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use serde::Serialize;

pub use output::{Answer, Kept, Opened, Output, OutputId, Write};
pub use record::{Claim, Death, Outcomes, Record, RecordError, Settled};
pub use snapshot::{BatchSnapshot, Snapshot};
pub use state::{BatchState, CheckpointError};
pub use tally::Tally;

use self::allowance::Allowances;
use self::batch::Batch;
use self::commit::Effect;
use self::uploads::{Unfit, Upload};
use crate::ids::{Alias, BatchUid, Epoch, LinkId};
use crate::limits::{CHECKPOINT_BYTES, COLLECTOR_BYTES, COMPARISON_BYTES, COMPARISONS};
use crate::mutant::{self, Mutant};
use crate::session::{Identity, Received, Sessions};
use crate::wire::{ByeCode, Counts, Frames, Message, Ping, Refused, RefusedCode, Results, Start};

/// What a collector is told at its start.
#[derive(Clone, Debug)]
pub struct Config {
    /// Who it is.
    pub identity: Identity,
    /// Bytes of unacked outcomes that all links together may send.
    pub memory: u64,
    /// Bytes of records of a batch between two checkpoints.
    pub checkpoint_bytes: u64,
    /// One moment on both clocks: the monotonic one, and microseconds since 1970.
    pub clock: (Instant, u64),
}

impl Config {
    /// The usual limits.
    pub fn new(identity: Identity, clock: (Instant, u64)) -> Self {
        Self {
            identity,
            memory: COLLECTOR_BYTES,
            checkpoint_bytes: CHECKPOINT_BYTES,
            clock,
        }
    }
}

/// What waits for a log to open.
#[derive(Clone, Debug)]
enum Request {
    Start(LinkId, Alias, Box<Start>),
    Bind(LinkId, Alias),
}

#[derive(Clone, Debug)]
enum Slot {
    Opening {
        create: bool,
        requests: Vec<Request>,
        /// When to try again, after a full disk.
        again: Option<Instant>,
    },
    Open(Box<Batch>),
}

/// What an alias stands for on a link.
#[derive(Clone, Debug)]
enum Use {
    Client(BatchUid),
    Worker {
        uid: BatchUid,
        received: u64,
        acked: u64,
        /// The output whose parts are coming in.
        upload: Option<Upload>,
    },
    /// Its batch was unloaded. The alias stays taken: aliases are never reused on a link.
    Unloaded,
}

/// What was refused or dropped, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Dropped {
    /// Messages of an unknown alias.
    pub unknown_alias: u64,
    /// Messages of a lower epoch.
    pub stale_epoch: u64,
    /// Messages that broke the protocol.
    pub malformed: u64,
}

/// The collector machine.
#[derive(Clone, Debug)]
pub struct Collector {
    config: Config,
    sessions: Sessions,
    uses: BTreeMap<LinkId, BTreeMap<Alias, Use>>,
    slots: BTreeMap<BatchUid, Slot>,
    allowances: Allowances,
    /// The batch whose records are being read back: one at a time, since each takes the whole disk.
    reading_back: Option<BatchUid>,
    /// Duplicates being compared, and their bytes since there were none.
    comparing: usize,
    comparing_bytes: usize,
    dropped: Dropped,
    /// The duplicates of batches that were unloaded since, and what else was counted of them.
    unloaded: Counts,
    unloaded_tally: Tally,
    /// The last one that began.
    next_output: OutputId,
    out: VecDeque<Output>,
}

impl Collector {
    /// A collector without links and batches.
    pub fn new(config: Config) -> Self {
        Self {
            sessions: Sessions::new(config.identity.clone()),
            allowances: Allowances::new(config.memory),
            config,
            uses: BTreeMap::new(),
            slots: BTreeMap::new(),
            reading_back: None,
            comparing: 0,
            comparing_bytes: 0,
            dropped: Dropped::default(),
            unloaded: Counts::default(),
            unloaded_tally: Tally::default(),
            next_output: 0,
            out: VecDeque::new(),
        }
    }

    /// A peer opened a link.
    pub fn handle_link_opened(&mut self, now: Instant, link: LinkId) {
        self.sessions.step(now);
        self.sessions.opened(now, link);
        self.uses.insert(link, BTreeMap::new());
    }

    /// A link is gone.
    pub fn handle_link_closed(&mut self, now: Instant, link: LinkId) {
        self.sessions.step(now);
        self.sessions.closed(link);
        self.allowances.remove(link);
        for (_, used) in self.uses.remove(&link).into_iter().flatten() {
            match used {
                Use::Client(uid) => {
                    if let Some(Slot::Open(batch)) = self.slots.get_mut(&uid) {
                        batch.clients.remove(&link);
                        batch.used_at = now;
                    }
                }
                Use::Worker { uid, upload, .. } => self.drop_upload(uid, upload),
                Use::Unloaded => {}
            }
        }
    }

    /// A message came in.
    pub fn handle_message(&mut self, now: Instant, link: LinkId, frames: &Frames) {
        self.sessions.step(now);
        match self.sessions.receive(now, link, frames) {
            Received::Nothing | Received::Greeted(_) => {}
            Received::Message(alias, message) => self.take_message(now, link, alias, message),
        }
    }

    fn take_message(&mut self, now: Instant, link: LinkId, alias: Alias, message: Message) {
        match message {
            Message::Start(start) => self.take_start(now, link, alias, start),
            Message::Bind(bind) => {
                if self.alias_is_free(link, alias) {
                    self.request(now, bind.uid, false, Request::Bind(link, alias));
                }
            }
            Message::Results(results) => self.take_results(now, link, alias, results),
            Message::Part(part) => self.take_part(now, link, alias, &part),
            Message::End(end) => self.take_end(now, link, alias, &end),
            Message::Lost(lost) => self.take_lost(now, link, alias, lost),
            Message::Cancel(cancel) => self.take_cancel(now, link, alias, cancel),
            Message::Ping(Ping { blocked, .. }) => self.allowances.ask_reserve(link, blocked),
            Message::Pong(_) => {}
            other => self
                .sessions
                .refuse(link, &format!("{} is not for a collector", other.kind())),
        }
    }

    fn refuse(&mut self, link: LinkId, alias: Alias, code: RefusedCode, epoch: Epoch, reason: &str) {
        let refused = Refused {
            code,
            epoch,
            reason: reason.to_owned(),
        };
        self.sessions.send(link, alias, &Message::Refused(refused));
    }

    fn take_results(&mut self, now: Instant, link: LinkId, alias: Alias, results: Results) {
        let sequence = results.sequence;
        let Some((uid, upload)) = self.receive(link, alias, sequence, results.weight()) else {
            return;
        };
        let upload = match self.finish_upload(uid, upload, &results) {
            Ok(upload) => upload,
            Err(Unfit::Malformed(reason)) => return self.sessions.refuse(link, &reason),
            Err(Unfit::Again) => return self.ask_again(link, alias),
        };
        let worker = self
            .sessions
            .hello(link)
            .map_or_else(String::new, |hello| hello.name.clone());
        if mutant::on(Mutant::AckBeforeFsync) {
            self.send_ack(link, alias, sequence);
        }
        let Some(Slot::Open(batch)) = self.slots.get_mut(&uid) else {
            if mutant::on(Mutant::NotStartedAcked) {
                self.send_ack(link, alias, sequence);
            }
            return;
        };
        batch.tally.bytes += results.bytes.len() as u64;
        for duplicate in batch.take_results(now, &worker, results, upload) {
            let bytes = self.comparing_bytes + duplicate.answer.weight();
            if self.comparing < COMPARISONS && (bytes <= COMPARISON_BYTES || self.comparing == 0) {
                self.comparing += 1;
                self.comparing_bytes = bytes;
                self.out.push_back(Output::Compare {
                    uid,
                    number: duplicate.number,
                    answer: duplicate.answer,
                });
            }
        }
        batch.commit.defer(Effect::Ack { link, alias, sequence });
        self.maybe_checkpoint(uid);
    }

    /// The state as of the newest record is at hand only now: later the next record will have changed it.
    fn maybe_checkpoint(&mut self, uid: BatchUid) {
        if let Some(Slot::Open(batch)) = self.slots.get_mut(&uid)
            && let Some(sequence) = batch.commit.wants_checkpoint(self.config.checkpoint_bytes)
        {
            self.out.push_back(Output::Checkpoint {
                uid,
                sequence,
                state: batch.state.checkpoint(),
            });
        }
    }

    /// The time of [`Self::poll_timeout`] has come.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.sessions.step(now);
        self.sessions.heartbeat(now, |_| Ping::default());
        self.open_again(now);
        self.unload_unused(now);
    }

    /// When [`Self::handle_timeout`] is to be called next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let commits = self.slots.values().filter_map(|slot| match slot {
            Slot::Open(batch) => batch.commit.timeout(),
            Slot::Opening { again, .. } => *again,
        });
        commits
            .chain(self.sessions.timeout())
            .chain(self.unload_timeout())
            .min()
    }

    /// What the driver is to do next. To be called until it returns `None`, after every input.
    pub fn poll_output(&mut self, now: Instant) -> Option<Output> {
        self.release_effects();
        self.poll_writes(now);
        while let Some(link) = self.allowances.poll_change() {
            self.tell_allowance(link);
        }
        self.out
            .pop_front()
            .or_else(|| self.sessions.poll_output().map(Output::Link))
    }

    /// Says BYE on all links.
    pub fn handle_shutdown(&mut self, now: Instant) {
        self.sessions.step(now);
        self.drop_uploads(None);
        self.sessions.close_all(ByeCode::Leaving, "the collector leaves");
    }

    /// The state of an open batch.
    pub fn batch(&self, uid: BatchUid) -> Option<&BatchState> {
        match self.slots.get(&uid)? {
            Slot::Open(batch) => Some(&batch.state),
            Slot::Opening { .. } => None,
        }
    }

    /// Totals of an open batch, duplicates included.
    pub fn counts(&self, uid: BatchUid) -> Option<Counts> {
        match self.slots.get(&uid)? {
            Slot::Open(batch) => Some(batch.durable_counts()),
            Slot::Opening { .. } => None,
        }
    }

    /// What was refused or dropped so far.
    pub fn dropped(&self) -> Dropped {
        Dropped {
            malformed: self.sessions.malformed,
            ..self.dropped
        }
    }

    /// Checks all invariants, for tests.
    ///
    /// # Panics
    /// If an invariant is broken.
    pub fn sanity_check(&self) {
        for slot in self.slots.values() {
            if let Slot::Open(batch) = slot {
                batch.sanity_check();
                assert!(
                    batch.clients.keys().all(|link| self.uses.contains_key(link)),
                    "a client without a link"
                );
            }
        }
        assert!(self.uses.len() == self.sessions.len(), "links out of step");
    }
}

impl Request {
    fn sender(&self) -> (LinkId, Alias) {
        match self {
            Self::Start(link, alias, _) | Self::Bind(link, alias) => (*link, *alias),
        }
    }

    fn creates(&self) -> bool {
        matches!(self, Self::Start(_, _, start) if start.epoch > 0)
    }
}
