//! The worker machine: runs tasks in slots. It is passive: ventilators dial in, and it dials the collectors they name.

mod batch;
mod credit;
mod leaving;
mod outcomes;
mod pace;
mod parting;
mod payloads;
mod running;
mod snapshot;
mod uplink;
mod ventilators;

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde::Serialize;

pub use self::parting::Piece;
pub use self::payloads::{Payload, PayloadId};
pub use self::snapshot::{BatchSnapshot, Snapshot};

use self::batch::{Batch, Uplink};
use self::credit::{Credits, Door};
use self::pace::Pace;
use crate::dialler::Dialler;
use crate::durations::Durations;
use crate::ids::{Alias, Attempt, BatchUid, LinkId};
use crate::limits::{FLUSH_WITHIN, GONE_AFTER, KEEP_OUTCOMES, PART_BYTES, QUEUE_BYTES};
use crate::session::{Identity, LinkOutput, Received, Sessions};
use crate::wire::{Executor, Frames, OutcomeCode, Ping, RESULT_BYTES, ResultEntry, Unbound, Work};

/// What a worker is told at its start.
#[derive(Clone, Debug)]
pub struct Config {
    /// Who it is.
    pub identity: Identity,
    /// Tasks that run at once.
    pub slots: u32,
    /// For jitter.
    pub seed: u64,
    /// What it serves alone; everything by default.
    pub only: Only,
    /// Bytes of one PART at most, up to [`PART_BYTES`].
    pub part_bytes: usize,
    /// Bytes of payloads that are granted and held in memory at most, up to [`QUEUE_BYTES`].
    pub queue_bytes: u64,
}

/// What a worker was made for. A START that names something else is refused.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Only {
    /// The batch.
    pub batch: Option<BatchUid>,
    /// How tasks are run.
    pub executor: Option<Executor>,
}

impl Only {
    /// Why a worker made for this does not take that batch with that executor, if it does not.
    fn refusal(&self, uid: BatchUid, executor: &Executor) -> Option<String> {
        if let Some(own) = self.batch.filter(|own| *own != uid) {
            return Some(format!("this worker was made for batch {own}, not for {uid}"));
        }
        let other = self.executor.as_ref().filter(|own| *own != executor)?;
        let text = |executor| serde_json::to_string(executor).unwrap_or_default();
        Some(format!(
            "this worker was made for the executor {}, not for {}",
            text(other),
            text(executor)
        ))
    }
}

/// One task, to be run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// Which number.
    pub number: u64,
    /// Which try.
    pub attempt: Attempt,
    /// Its input.
    pub payload: Payload,
    /// It runs with nothing beside it.
    pub alone: bool,
}

/// One task that was run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finished {
    /// Which number.
    pub number: u64,
    /// Which try.
    pub attempt: Attempt,
    /// How it went.
    pub outcome: OutcomeCode,
    /// The exit code or the signal; 0 where neither applies.
    pub code: i32,
    /// When it began, in microseconds since 1970 (UTC).
    pub start_micros: u64,
    /// How long it took, in microseconds.
    pub duration_micros: u64,
    /// What it answered; nothing if that is spooled.
    pub output: Bytes,
    /// What it answered is too long for one message and is kept by the executor, on its disk.
    pub spooled: Option<Spooled>,
    /// The tail of what it logged, if it failed.
    pub log: Bytes,
}

/// An output that the executor keeps until [`Output::Unspool`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spooled {
    /// Its bytes, at most [`MAX_PARTED`](crate::limits::MAX_PARTED).
    pub length: u32,
    /// Their CRC-32C.
    pub checksum: u32,
}

impl Finished {
    fn weight(&self) -> u64 {
        (RESULT_BYTES + self.output.len() + self.log.len()) as u64
    }

    fn entry(&self) -> ResultEntry {
        let length = |bytes: &Bytes| u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        ResultEntry {
            number: self.number,
            attempt: self.attempt,
            outcome: self.outcome,
            code: self.code,
            start_micros: self.start_micros,
            duration_micros: self.duration_micros,
            output: self
                .spooled
                .map_or_else(|| length(&self.output), |spooled| spooled.length),
            log: length(&self.log),
            parted: self.spooled.map(|spooled| spooled.checksum),
        }
    }
}

/// What the driver is to do.
#[derive(Clone, Debug)]
pub enum Output {
    /// Something on a link.
    Link(LinkOutput),
    /// Make the executor of a batch ready; answer with [`Worker::handle_prepared`].
    Prepare {
        /// The batch.
        uid: BatchUid,
        /// Its name.
        name: String,
        /// How tasks are run.
        work: Box<Work>,
    },
    /// Run these tasks; each is answered by [`Worker::handle_finished`] or [`Worker::handle_stopped`].
    Run {
        /// The batch.
        uid: BatchUid,
        /// The tasks.
        tasks: Vec<Task>,
    },
    /// Stop these tasks; each is answered by [`Worker::handle_stopped`], or by [`Worker::handle_finished`] if it was faster.
    Stop {
        /// The batch.
        uid: BatchUid,
        /// The numbers.
        numbers: Vec<u64>,
    },
    /// Read from a spooled output; answer with [`Worker::handle_piece`].
    ReadPiece {
        /// The batch.
        uid: BatchUid,
        /// Of which output, and what of it.
        piece: Piece,
    },
    /// A spooled output is not needed any more.
    Unspool {
        /// The batch.
        uid: BatchUid,
        /// The number.
        number: u64,
        /// The attempt.
        attempt: Attempt,
    },
    /// Keep a piece of a payload, behind those before it. If it cannot be kept the task still runs, and is to fail.
    Keep {
        /// The batch.
        uid: BatchUid,
        /// Of which payload.
        id: PayloadId,
        /// The piece.
        bytes: Bytes,
    },
    /// A payload that was kept is not needed any more.
    Discard {
        /// The batch.
        uid: BatchUid,
        /// Which payload.
        id: PayloadId,
    },
    /// The batch is over: stop what runs and drop the executor. Nothing about it is to be reported any more.
    Release {
        /// The batch.
        uid: BatchUid,
    },
    /// This process did not run for a while: the deadlines of running tasks move by as much.
    ExtendDeadlines(Duration),
    /// Everything is handed over: end the process, once the links are closed.
    Exit,
}

/// A task that is to run alone.
#[derive(Clone, Debug)]
enum Alone {
    /// The ventilator was told and has not confirmed yet.
    Announced {
        uid: BatchUid,
        link: LinkId,
        nonce: u64,
    },
    Running {
        uid: BatchUid,
        number: u64,
    },
}

#[derive(Clone, Debug)]
struct CollectorLink {
    /// Bytes of unacked outcomes that may be under way, and that are.
    allowance: u64,
    under_way: u64,
    /// The size it was last told to be blocked by.
    told_blocked: Option<u64>,
}

#[derive(Clone, Copy, Debug)]
struct Drain {
    /// Running tasks are stopped then.
    stop_at: Instant,
    stopped: bool,
}

/// What was refused or dropped, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Dropped {
    /// Messages of a lower epoch.
    pub stale_epoch: u64,
    /// Tasks whose number is N or higher.
    pub out_of_range: u64,
    /// Messages that broke the protocol.
    pub malformed: u64,
}

/// What became of tasks that were run, for metrics. Whether an outcome counts, the collector decides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Executed {
    /// They gave an output.
    pub succeeded: u64,
    /// They failed, whatever the reason.
    pub failed: u64,
    /// They were stopped before they ended.
    pub stopped: u64,
}

/// The worker machine.
#[derive(Clone, Debug)]
pub struct Worker {
    slots: u32,
    only: Only,
    part_bytes: usize,
    sessions: Sessions,
    dialler: Dialler<String>,
    random: fastrand::Rng,
    /// What each alias of each ventilator's link stands for.
    uses: BTreeMap<Door, BatchUid>,
    collectors: BTreeMap<LinkId, CollectorLink>,
    batches: BTreeMap<BatchUid, Batch>,
    credits: Credits,
    pace: Pace,
    alone: Option<Alone>,
    drain: Option<Drain>,
    exited: bool,
    next_alias: Alias,
    next_payload: PayloadId,
    dropped: Dropped,
    executed: Executed,
    /// How long tasks waited here before they were handed to the executor.
    waits: Durations,
    out: VecDeque<Output>,
}

impl Worker {
    /// A worker without links and batches.
    pub fn new(config: Config) -> Self {
        Self {
            slots: config.slots.max(1),
            only: config.only,
            part_bytes: config.part_bytes.clamp(1, PART_BYTES),
            sessions: Sessions::new(config.identity),
            dialler: Dialler::new(config.seed),
            random: fastrand::Rng::with_seed(config.seed),
            uses: BTreeMap::new(),
            collectors: BTreeMap::new(),
            batches: BTreeMap::new(),
            credits: Credits::new(config.queue_bytes.clamp(1, QUEUE_BYTES)),
            pace: Pace::new(config.slots),
            alone: None,
            drain: None,
            exited: false,
            next_alias: 1,
            next_payload: PayloadId::default(),
            dropped: Dropped::default(),
            executed: Executed::default(),
            waits: Durations::default(),
            out: VecDeque::new(),
        }
    }

    fn step(&mut self, now: Instant) {
        if let Some(gap) = self.sessions.step(now) {
            self.out.push_back(Output::ExtendDeadlines(gap));
        }
    }

    /// A ventilator opened a link, or one that this worker dialled stands.
    pub fn handle_link_opened(&mut self, now: Instant, link: LinkId) {
        self.step(now);
        self.sessions.opened(now, link);
    }

    /// A link is gone, or could not be made.
    pub fn handle_link_closed(&mut self, now: Instant, link: LinkId) {
        self.step(now);
        self.sessions.closed(link);
        self.dialler.closed(now, link);
        self.collectors.remove(&link);
        for batch in self.batches.values_mut() {
            batch.unbind(now, link);
        }
        let doors: Vec<Door> = self
            .uses
            .range((link, 0)..=(link, Alias::MAX))
            .map(|(door, _)| *door)
            .collect();
        for door in doors {
            self.close_door(now, door);
        }
        if matches!(self.alone, Some(Alone::Announced { link: asked, .. }) if asked == link) {
            self.alone = None;
        }
    }

    /// A message came in.
    pub fn handle_message(&mut self, now: Instant, link: LinkId, frames: &Frames) {
        self.step(now);
        match self.sessions.receive(now, link, frames) {
            Received::Nothing => {}
            Received::Greeted(hello) => self.greeted(now, link, &hello),
            Received::Message(alias, message) if self.collectors.contains_key(&link) => {
                self.take_from_collector(now, link, alias, message);
            }
            Received::Message(alias, message) => self.take_from_ventilator(now, link, alias, message),
        }
    }

    /// The time of [`Self::poll_timeout`] has come.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.step(now);
        while let Some((link, endpoint)) = self.dialler.poll_dial(now) {
            self.sessions.dial(link, endpoint);
        }
        let rebinds: Vec<_> = self
            .batches
            .iter()
            .filter(|(_, b)| b.rebind.is_some_and(|due| due <= now))
            .map(|(uid, _)| *uid)
            .collect();
        for uid in rebinds {
            if let Some(batch) = self.batches.get_mut(&uid) {
                // Without a link there is nothing to wait for: the next one binds when it greets.
                batch.rebind = None;
            }
            self.move_uplink(now, uid);
        }
        self.forget_abandoned(now);
        let (uses, batches, collectors) = (&self.uses, &self.batches, &self.collectors);
        self.sessions.heartbeat(now, |link| Ping {
            nonce: 0,
            unbound: unbound(now, link, uses, batches),
            blocked: collectors.get(&link).and_then(|collector| collector.told_blocked),
        });
    }

    /// When [`Self::handle_timeout`] is to be called next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let batches = self.batches.values().flat_map(|batch| {
            let gathering = match batch.uplink {
                Uplink::Bound { .. } => batch.outcomes.timeout(),
                _ => None,
            };
            let empty = batch
                .alone_since
                .filter(|_| !batch.holds_any())
                .map(|since| since + GONE_AFTER);
            let kept = batch.alone_since.max(batch.unbound_since());
            let kept = kept.filter(|_| batch.is_abandoned()).map(|since| since + KEEP_OUTCOMES);
            [batch.rebind, gathering, empty, kept]
        });
        let idle = self.batches.values().all(|batch| batch.running() == 0);
        let drain = self.drain.filter(|_| !self.exited).map(|drain| {
            if drain.stopped || idle {
                drain.stop_at + FLUSH_WITHIN
            } else {
                drain.stop_at
            }
        });
        let timers = batches
            .flatten()
            .chain(drain)
            .chain(self.dialler.timeout())
            .chain(self.sessions.timeout());
        timers.min()
    }

    /// What the driver is to do next. To be called until it returns `None`, after every input.
    pub fn poll_output(&mut self, now: Instant) -> Option<Output> {
        while let Some((link, endpoint)) = self.dialler.poll_dial(now) {
            self.sessions.dial(link, endpoint);
        }
        self.start_tasks(now);
        self.discard_payloads();
        self.send_outcomes(now);
        self.advance_drain(now);
        self.grant();
        self.out
            .pop_front()
            .or_else(|| self.sessions.poll_output().map(Output::Link))
    }

    /// Tasks running and waiting here, over all batches.
    pub fn unfinished(&self) -> u64 {
        self.batches.values().map(|batch| batch.unfinished().0).sum()
    }

    /// What was refused or dropped.
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
        for batch in self.batches.values() {
            batch.sanity_check();
        }
        self.credits.sanity_check(crate::limits::QUEUE_TASKS);
        if let Some(Alone::Running { .. }) = self.alone {
            assert_eq!(
                self.batches.values().map(Batch::running).sum::<usize>(),
                1,
                "something runs beside a lone task"
            );
        }
    }
}

impl Alone {
    fn uid(&self) -> BatchUid {
        match self {
            Self::Announced { uid, .. } | Self::Running { uid, .. } => *uid,
        }
    }
}

/// For each batch of a ventilator's link, how long it has had no bound link to its collector.
fn unbound(
    now: Instant,
    link: LinkId,
    uses: &BTreeMap<Door, BatchUid>,
    batches: &BTreeMap<BatchUid, Batch>,
) -> Vec<Unbound> {
    let doors = uses.range((link, 0)..=(link, Alias::MAX));
    doors
        .filter_map(|(door, uid)| {
            let batch = batches.get(uid).filter(|batch| batch.doors.contains_key(door))?;
            let since = batch.unbound_since()?;
            let millis = u64::try_from(now.saturating_duration_since(since).as_millis()).unwrap_or(u64::MAX);
            Some(Unbound { alias: door.1, millis })
        })
        .collect()
}
