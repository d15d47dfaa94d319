//! The worker machine: runs tasks in slots. It is passive: ventilators dial in, and it dials the collectors they name.

mod batch;
mod credit;
mod outcomes;
mod pace;

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;

use self::batch::{Batch, Stage, Uplink, runs};
use self::credit::{Credits, Door};
use self::pace::Pace;
use crate::dialler::{Dialler, jittered};
use crate::ids::{Alias, Attempt, BatchUid, LinkId};
use crate::limits::{FLUSH_WITHIN, GONE_AFTER, KEEP_OUTCOMES, MAX_BATCHES, RANGES_PER_PIECE, REDIAL_MOST};
use crate::session::{Identity, LinkOutput, Received, Sessions};
use crate::wire::{
    Bind, ByeCode, Cancel, Frames, Held, Hello, Message, OutcomeCode, Ping, Refused, RefusedCode, ResultEntry, Return,
    ReturnCause, Role, Start, State, StateBody, Tasks, Unbound, Want, Work, WorkerState,
};

/// What a worker is told at its start.
#[derive(Clone, Debug)]
pub struct Config {
    /// Who it is.
    pub identity: Identity,
    /// Tasks that run at once.
    pub slots: u32,
    /// For jitter.
    pub seed: u64,
}

/// One task, to be run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// Which number.
    pub number: u64,
    /// Which try.
    pub attempt: Attempt,
    /// Its input.
    pub payload: Bytes,
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
    /// What it answered.
    pub output: Bytes,
    /// The tail of what it logged, if it failed.
    pub log: Bytes,
}

impl Finished {
    fn weight(&self) -> u64 {
        (size_of::<ResultEntry>() + self.output.len() + self.log.len()) as u64
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
            output: length(&self.output),
            log: length(&self.log),
        }
    }
}

/// What the driver is to do.
#[derive(Debug)]
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
#[derive(Debug)]
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

#[derive(Debug)]
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

/// The worker machine.
#[derive(Debug)]
pub struct Worker {
    slots: u32,
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
    stale_epoch: u64,
    out: VecDeque<Output>,
}

impl Worker {
    /// A worker without links and batches.
    pub fn new(config: Config) -> Self {
        Self {
            slots: config.slots.max(1),
            sessions: Sessions::new(config.identity),
            dialler: Dialler::new(config.seed),
            random: fastrand::Rng::with_seed(config.seed),
            uses: BTreeMap::new(),
            collectors: BTreeMap::new(),
            batches: BTreeMap::new(),
            credits: Credits::default(),
            pace: Pace::new(config.slots),
            alone: None,
            drain: None,
            exited: false,
            next_alias: 1,
            stale_epoch: 0,
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

    fn close_door(&mut self, now: Instant, door: Door) {
        self.credits.close(door);
        let batch = self.uses.get(&door).and_then(|uid| self.batches.get_mut(uid));
        if let Some(batch) = batch {
            batch.doors.remove(&door);
            if batch.doors.is_empty() {
                batch.alone_since.get_or_insert(now);
            }
        }
        // The alias stays in `uses` while the link stands: aliases are never reused on a link.
        if self.sessions.hello(door.0).is_none() {
            self.uses.remove(&door);
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

    fn greeted(&mut self, now: Instant, link: LinkId, hello: &Hello) {
        let Some(endpoint) = self.dialler.key(link).cloned() else {
            return;
        };
        if hello.role != Role::Collector {
            return self.sessions.refuse(link, "a collector was expected at this endpoint");
        }
        self.dialler.greeted(link);
        self.collectors.insert(
            link,
            CollectorLink {
                allowance: 0,
                under_way: 0,
                told_blocked: None,
            },
        );
        let uids: Vec<_> = self
            .batches
            .iter()
            .filter(|(_, b)| b.work.collector == endpoint)
            .map(|(uid, _)| *uid)
            .collect();
        for uid in uids {
            self.bind(now, uid, link);
        }
    }

    fn bind(&mut self, now: Instant, uid: BatchUid, link: LinkId) {
        let Some(batch) = self.batches.get_mut(&uid) else {
            return;
        };
        let alias = self.next_alias;
        self.next_alias += 1;
        batch.rebind = None;
        batch.uplink = Uplink::Binding {
            link,
            alias,
            since: batch.unbound_since().unwrap_or(now),
        };
        self.sessions.send(link, alias, &Message::Bind(Bind { uid }));
    }

    fn take_from_collector(&mut self, now: Instant, link: LinkId, alias: Alias, message: Message) {
        let bound = |batch: &Batch| matches!(batch.uplink, Uplink::Bound { link: l, alias: a } | Uplink::Binding { link: l, alias: a, .. } if (l, a) == (link, alias));
        let batch = self.batches.values_mut().find(|batch| bound(batch));
        match (message, batch) {
            (Message::Ack(ack), batch) => {
                let Some(collector) = self.collectors.get_mut(&link) else {
                    return;
                };
                collector.allowance = ack.allowance;
                if let Some(batch) = batch {
                    batch.uplink = Uplink::Bound { link, alias };
                    let (entries, weight) = batch.outcomes.acked(ack.sequence);
                    collector.under_way = collector.under_way.saturating_sub(weight);
                    batch.forget(&entries);
                }
            }
            (Message::Refused(_), Some(batch)) => {
                batch.unbind(now, link);
                batch.rebind = Some(now + jittered(&mut self.random, REDIAL_MOST));
            }
            (Message::Refused(_) | Message::Ping(_) | Message::Pong(_), _) => {}
            (other, _) => self
                .sessions
                .refuse(link, &format!("{} is not for a worker from a collector", other.kind())),
        }
    }

    fn take_from_ventilator(&mut self, now: Instant, link: LinkId, alias: Alias, message: Message) {
        let door = (link, alias);
        match message {
            Message::Start(start) => self.take_start(now, door, &start),
            Message::Want(want) => self.take_want(door, want),
            Message::Tasks(tasks) => self.take_tasks(now, door, &tasks),
            Message::Held(held) if !held.answer => self.take_held(door, &held),
            Message::Cancel(cancel) => self.take_cancel(door, &cancel),
            Message::Done(_) => self.take_done(door),
            Message::Pong(pong) => self.take_pong(now, link, pong.nonce),
            Message::Ping(_) => {}
            other => self
                .sessions
                .refuse(link, &format!("{} is not for a worker", other.kind())),
        }
    }

    fn take_start(&mut self, now: Instant, door: Door, start: &Start) {
        if door.1 == 0 || self.uses.contains_key(&door) {
            return self
                .sessions
                .refuse(door.0, &format!("alias {} is in use on this link", door.1));
        }
        let Some(batch) = self.batches.get_mut(&start.uid) else {
            return self.start_new(now, door, start);
        };
        let known = (batch.epoch, batch.instance);
        if start.epoch == 0 {
            return self.send_state(door, start.uid);
        }
        if start.epoch < known.0 || start.epoch == known.0 && start.instance != known.1 {
            self.stale_epoch += 1;
            return self.refuse(
                door,
                RefusedCode::Fenced,
                known.0,
                "another ventilator took this batch over",
            );
        }
        if let Some(work) = &start.work {
            if work.executor != batch.work.executor {
                let reason = "this worker runs another executor for this batch";
                return self.refuse(door, RefusedCode::Executor, known.0, reason);
            }
            let moved = work.collector != batch.work.collector;
            batch.work = work.clone();
            if moved {
                self.move_uplink(now, start.uid);
            }
        }
        self.enter(now, door, start);
    }

    fn start_new(&mut self, now: Instant, door: Door, start: &Start) {
        let Some(work) = start.work.clone().filter(|_| start.epoch > 0) else {
            return self.refuse(door, RefusedCode::NotStarted, 0, "this batch was not started here");
        };
        if self.batches.len() >= MAX_BATCHES || self.drain.is_some() {
            let reason = if self.drain.is_some() {
                "this worker leaves"
            } else {
                "this worker serves as many batches as it can"
            };
            return self.refuse(door, RefusedCode::Limit, 0, reason);
        }
        self.batches.insert(start.uid, Batch::new(now, start, work.clone()));
        self.out.push_back(Output::Prepare {
            uid: start.uid,
            name: start.name.clone(),
            work: Box::new(work),
        });
        self.move_uplink(now, start.uid);
        self.enter(now, door, start);
    }

    /// Dials the collector of a batch, or binds on the link that stands.
    fn move_uplink(&mut self, now: Instant, uid: BatchUid) {
        let Some(batch) = self.batches.get_mut(&uid) else {
            return;
        };
        if let Some(link) = batch.uplink_link() {
            batch.unbind(now, link);
        }
        let endpoint = batch.work.collector.clone();
        self.drop_unused_collectors();
        self.dialler.want(now, endpoint.clone(), endpoint.clone());
        let standing = self
            .collectors
            .keys()
            .find(|link| self.dialler.key(**link) == Some(&endpoint))
            .copied();
        if let Some(link) = standing {
            self.bind(now, uid, link);
        }
    }

    fn drop_unused_collectors(&mut self) {
        let used = |endpoint: &String| self.batches.values().any(|batch| batch.work.collector == *endpoint);
        let unused: Vec<_> = self
            .dialler
            .keys()
            .filter(|endpoint| !used(endpoint))
            .cloned()
            .collect();
        for endpoint in unused {
            if let Some(link) = self.dialler.forget(&endpoint) {
                self.sessions
                    .close(link, ByeCode::Leaving, "no batch needs this link any more");
            }
        }
    }

    /// A ventilator of the highest epoch comes in; those of lower ones are shown out.
    fn enter(&mut self, now: Instant, door: Door, start: &Start) {
        let Some(batch) = self.batches.get_mut(&start.uid) else {
            return;
        };
        let newer = start.epoch > batch.epoch;
        batch.epoch = start.epoch;
        batch.instance = start.instance;
        let older: Vec<Door> = batch.doors.keys().copied().collect();
        for old in older {
            self.close_door(now, old);
            if newer && old.0 != door.0 {
                self.refuse(
                    old,
                    RefusedCode::Fenced,
                    start.epoch,
                    "another ventilator took this batch over",
                );
            }
        }
        let Some(batch) = self.batches.get_mut(&start.uid) else {
            return;
        };
        batch.alone_since = None;
        batch.doors.insert(door, false);
        self.uses.insert(door, start.uid);
        match &batch.stage {
            Stage::Preparing => {}
            Stage::Ready { .. } => self.open_door(door, start.uid),
            Stage::Broken(reason) => {
                let reason = reason.clone();
                self.refuse(door, RefusedCode::Executor, start.epoch, &reason);
            }
        }
    }

    fn open_door(&mut self, door: Door, uid: BatchUid) {
        self.send_state(door, uid);
        self.credits.open(door);
        if let Some(open) = self.batches.get_mut(&uid).and_then(|batch| batch.doors.get_mut(&door)) {
            *open = true;
        }
    }

    fn send_state(&mut self, door: Door, uid: BatchUid) {
        let holdings = self.batches.get(&uid).map(Batch::holdings).unwrap_or_default();
        let mut pieces: Vec<_> = holdings.chunks(RANGES_PER_PIECE).map(<[_]>::to_vec).collect();
        if pieces.is_empty() {
            pieces.push(Vec::new());
        }
        let last = pieces.len() - 1;
        for (position, held) in pieces.into_iter().enumerate() {
            let state = State {
                last: position == last,
                body: StateBody::Worker(WorkerState { held }),
            };
            self.sessions.send(door.0, door.1, &Message::State(Box::new(state)));
        }
    }

    fn refuse(&mut self, door: Door, code: RefusedCode, epoch: u64, reason: &str) {
        let refused = Refused {
            code,
            epoch,
            reason: reason.to_owned(),
        };
        self.sessions.send(door.0, door.1, &Message::Refused(refused));
    }

    /// The answer to [`Output::Prepare`]: how many tasks the executor takes at once, or why it cannot run.
    pub fn handle_prepared(&mut self, now: Instant, uid: BatchUid, prepared: Result<usize, String>) {
        self.step(now);
        match prepared {
            Err(reason) => self.break_batch(uid, &reason),
            Ok(window) => {
                // What broke meanwhile stays broken.
                let preparing = |batch: &&mut Batch| batch.stage == Stage::Preparing;
                let Some(batch) = self.batches.get_mut(&uid).filter(preparing) else {
                    return;
                };
                batch.stage = Stage::Ready { window: window.max(1) };
                let doors: Vec<Door> = batch.doors.keys().copied().collect();
                for door in doors {
                    self.open_door(door, uid);
                }
            }
        }
    }

    /// The executor of a batch cannot run anything any more.
    pub fn handle_broken(&mut self, now: Instant, uid: BatchUid, reason: &str) {
        self.step(now);
        self.break_batch(uid, reason);
    }

    fn break_batch(&mut self, uid: BatchUid, reason: &str) {
        let Some(batch) = self.batches.get_mut(&uid) else {
            return;
        };
        batch.stage = Stage::Broken(reason.to_owned());
        let epoch = batch.epoch;
        let doors: Vec<Door> = batch.doors.keys().copied().collect();
        let numbers = batch.running_in(None);
        self.hand_back(uid, None, ReturnCause::Drain);
        if !numbers.is_empty() {
            self.out.push_back(Output::Stop { uid, numbers });
        }
        for door in doors {
            self.refuse(door, RefusedCode::Executor, epoch, reason);
        }
    }

    fn take_want(&mut self, door: Door, want: Want) {
        self.credits.want(door, want);
    }

    fn take_tasks(&mut self, now: Instant, door: Door, tasks: &Tasks) {
        let Some(batch) = self.uses.get(&door).and_then(|uid| self.batches.get_mut(uid)) else {
            return self.refuse(door, RefusedCode::NotStarted, 0, "this alias is not started");
        };
        if tasks.epoch < batch.epoch || !batch.doors.get(&door).is_some_and(|open| *open) {
            self.stale_epoch += 1;
            let epoch = batch.epoch;
            return self.refuse(
                door,
                RefusedCode::Fenced,
                epoch,
                "another ventilator took this batch over",
            );
        }
        if !self
            .credits
            .received(door, tasks.entries.len() as u64, tasks.payloads.len() as u64)
        {
            return self.sessions.refuse(door.0, "more tasks than were granted");
        }
        for (entry, payload) in tasks.pieces() {
            batch.take(Task {
                number: entry.number,
                attempt: entry.attempt,
                payload,
                alone: tasks.alone,
            });
        }
        let broken = matches!(batch.stage, Stage::Broken(_));
        self.pace.begin(now);
        if (self.drain.is_some() || broken)
            && let Some(uid) = self.uses.get(&door).copied()
        {
            self.hand_back(uid, None, ReturnCause::Drain);
        }
    }

    fn take_held(&mut self, door: Door, question: &Held) {
        let batch = self.uses.get(&door).and_then(|uid| self.batches.get(uid));
        let mut spans = batch.map(|batch| batch.held_in(&question.spans)).unwrap_or_default();
        // Cutting the answer would deny what is held. So many gaps in so few numbers cannot be: credit bounds what is held.
        spans.truncate(RANGES_PER_PIECE);
        let answer = Held {
            serial: question.serial,
            answer: true,
            spans,
        };
        self.sessions.send(door.0, door.1, &Message::Held(answer));
    }

    fn take_cancel(&mut self, door: Door, cancel: &Cancel) {
        let Some(uid) = self.uses.get(&door).copied() else {
            return;
        };
        let Some(batch) = self.batches.get(&uid) else { return };
        if cancel.epoch < batch.epoch {
            self.stale_epoch += 1;
            return;
        }
        let Some(spans) = &cancel.spans else {
            return self.release(uid);
        };
        let numbers = batch.running_in(Some(spans));
        self.hand_back(uid, Some(spans), ReturnCause::Cancel);
        if !numbers.is_empty() {
            self.out.push_back(Output::Stop { uid, numbers });
        }
    }

    fn take_done(&mut self, door: Door) {
        if let Some(uid) = self.uses.get(&door).copied() {
            self.release(uid);
        }
    }

    /// The batch is over: everything about it is dropped.
    fn release(&mut self, uid: BatchUid) {
        let Some(batch) = self.batches.remove(&uid) else { return };
        for door in batch.doors.keys() {
            self.credits.close(*door);
        }
        if let Uplink::Bound { link, .. } = batch.uplink
            && let Some(collector) = self.collectors.get_mut(&link)
        {
            collector.under_way = collector.under_way.saturating_sub(batch.outcomes.under_way());
        }
        if self.alone.as_ref().is_some_and(|alone| alone.uid() == uid) {
            self.alone = None;
        }
        self.out.push_back(Output::Release { uid });
    }

    /// Gives queued tasks back to the ventilator, if it is there; else it learns from STATE that they are gone.
    fn hand_back(&mut self, uid: BatchUid, spans: Option<&[crate::wire::Span]>, cause: ReturnCause) {
        let Some(batch) = self.batches.get_mut(&uid) else {
            return;
        };
        let tasks = batch.give_back(spans);
        self.send_return(uid, tasks, cause);
    }

    fn send_return(&mut self, uid: BatchUid, mut tasks: Vec<(u64, Attempt)>, cause: ReturnCause) {
        tasks.sort_unstable();
        let Some(batch) = self.batches.get(&uid) else { return };
        for door in batch.doors.keys() {
            for tasks in runs(tasks.iter().copied()).chunks(RANGES_PER_PIECE) {
                let message = Message::Return(Return {
                    cause,
                    tasks: tasks.to_vec(),
                });
                self.sessions.send(door.0, door.1, &message);
            }
        }
    }

    /// Tasks ended by themselves.
    pub fn handle_finished(&mut self, now: Instant, uid: BatchUid, finished: Vec<Finished>) {
        self.step(now);
        let Some(batch) = self.batches.get_mut(&uid) else {
            return;
        };
        let mut count = 0;
        for task in finished {
            self.alone.take_if(
                |alone| matches!(alone, Alone::Running { uid: u, number } if (*u, *number) == (uid, task.number)),
            );
            count += u64::from(batch.finish(now, task));
        }
        self.pace.finished(now, count);
        if self.batches.values().all(|batch| batch.unfinished().0 == 0) {
            self.pace.idle();
        }
    }

    /// Tasks were stopped before they ended.
    pub fn handle_stopped(&mut self, now: Instant, uid: BatchUid, stopped: &[(u64, Attempt)]) {
        self.step(now);
        let Some(batch) = self.batches.get_mut(&uid) else {
            return;
        };
        let tasks: Vec<_> = stopped
            .iter()
            .filter_map(|(number, attempt)| batch.stopped(*number, *attempt))
            .collect();
        for (number, _) in stopped {
            self.alone
                .take_if(|alone| matches!(alone, Alone::Running { uid: u, number: n } if (*u, *n) == (uid, *number)));
        }
        let cause = if self.drain.is_some() {
            ReturnCause::Drain
        } else {
            ReturnCause::Cancel
        };
        self.send_return(uid, tasks, cause);
    }

    /// The process is asked to leave: hands back what has not begun, and stops after `grace` what still runs.
    pub fn handle_drain(&mut self, now: Instant, grace: Duration) {
        self.step(now);
        if self.drain.is_some() {
            return;
        }
        self.drain = Some(Drain {
            stop_at: now + grace,
            stopped: false,
        });
        if let Some(Alone::Announced { .. }) = self.alone {
            self.alone = None;
        }
        let uids: Vec<_> = self.batches.keys().copied().collect();
        for uid in uids {
            self.hand_back(uid, None, ReturnCause::Drain);
        }
    }

    fn advance_drain(&mut self, now: Instant) {
        let Some(drain) = &mut self.drain else { return };
        if self.exited {
            return;
        }
        let idle = self.batches.values().all(|batch| batch.running() == 0);
        if !idle && now >= drain.stop_at && !drain.stopped {
            drain.stopped = true;
            for (uid, batch) in &self.batches {
                let numbers = batch.running_in(None);
                if !numbers.is_empty() {
                    self.out.push_back(Output::Stop { uid: *uid, numbers });
                }
            }
        }
        let flushed = idle && self.batches.values().all(|batch| batch.outcomes.is_empty());
        if flushed || now >= drain.stop_at + FLUSH_WITHIN {
            self.exited = true;
            self.sessions.close_all(ByeCode::Leaving, "this worker leaves");
            self.out.push_back(Output::Exit);
        }
    }

    /// Starts what may start. A task that is to run alone waits until nothing runs, and is announced first.
    fn start_tasks(&mut self) {
        if self.alone.is_some() || self.drain.is_some() {
            return;
        }
        let running: usize = self.batches.values().map(Batch::running).sum();
        let wants_alone = |batch: &Batch| batch.front().is_some_and(|task| task.alone) && !batch.doors.is_empty();
        if let Some((&uid, batch)) = self.batches.iter().find(|(_, batch)| wants_alone(batch)) {
            if running == 0 && batch.outcomes.has_room(batch.work.max_bytes_per_task) {
                self.announce_alone(uid);
            }
            return;
        }
        while let Some((uid, most)) = self.next_to_start() {
            let Some(batch) = self.batches.get_mut(&uid) else {
                return;
            };
            let tasks = batch.start(most);
            if tasks.is_empty() {
                return;
            }
            self.out.push_back(Output::Run { uid, tasks });
        }
    }

    /// The batch that uses the fewest slots among those that may start something, and how many tasks it may start.
    fn next_to_start(&self) -> Option<(BatchUid, usize)> {
        let slots = self.slots as usize;
        let used: usize = self.batches.values().map(|batch| batch.used_slots(slots)).sum();
        let ready = self.batches.iter().filter_map(|(uid, batch)| {
            let depth = batch.depth(slots)?;
            let front = batch.front()?;
            // Slots that others leave free, and what is left of those in use.
            let free = (slots.saturating_sub(used) + batch.used_slots(slots)) * depth;
            let most = free.saturating_sub(batch.running());
            let room = batch.outcomes.has_room(batch.work.max_bytes_per_task);
            (most > 0 && room && !front.alone).then_some((batch.used_slots(slots), *uid, most, depth))
        });
        let rivals = self.batches.values().filter(|batch| batch.front().is_some()).count();
        let (_, uid, most, depth) = ready.min_by_key(|(used, uid, ..)| (*used, *uid))?;
        Some((uid, if rivals > 1 { most.min(depth) } else { most }))
    }

    fn announce_alone(&mut self, uid: BatchUid) {
        let Some(batch) = self.batches.get(&uid) else { return };
        let Some((&door, task)) = batch.doors.keys().next().zip(batch.front()) else {
            return;
        };
        let Some(credit) = self.credits.alone(door, (task.number, task.attempt)) else {
            return;
        };
        self.sessions.send(door.0, door.1, &Message::Credit(credit));
        // Its PONG proves that the ventilator has read what was sent before.
        let nonce = self.sessions.ping(door.0, Ping::default());
        self.alone = Some(Alone::Announced {
            uid,
            link: door.0,
            nonce,
        });
    }

    fn take_pong(&mut self, _now: Instant, link: LinkId, nonce: u64) {
        let Some(Alone::Announced {
            uid,
            link: asked,
            nonce: expected,
        }) = self.alone
        else {
            return;
        };
        if (asked, expected) != (link, nonce) {
            return;
        }
        self.alone = None;
        let Some(batch) = self.batches.get_mut(&uid) else {
            return;
        };
        if batch.front().is_some_and(|task| task.alone) {
            let tasks = batch.start(1);
            if let Some(task) = tasks.first() {
                self.alone = Some(Alone::Running {
                    uid,
                    number: task.number,
                });
                self.out.push_back(Output::Run { uid, tasks });
            }
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

    /// Batches without a ventilator go when nothing is held, or when nobody takes the outcomes for too long.
    fn forget_abandoned(&mut self, now: Instant) {
        let abandoned = self.batches.iter().filter(|(_, batch)| {
            let since = |since: Option<Instant>, limit| since.is_some_and(|since| now >= since + limit);
            let empty = !batch.holds_any() && since(batch.alone_since, GONE_AFTER);
            let kept = batch.alone_since.max(batch.unbound_since());
            empty || batch.is_abandoned() && since(kept, KEEP_OUTCOMES)
        });
        let uids: Vec<_> = abandoned.map(|(uid, _)| *uid).collect();
        for uid in uids {
            self.release(uid);
        }
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
        self.start_tasks();
        self.send_outcomes(now);
        self.advance_drain(now);
        self.grant();
        self.out
            .pop_front()
            .or_else(|| self.sessions.poll_output().map(Output::Link))
    }

    fn send_outcomes(&mut self, now: Instant) {
        for batch in self.batches.values_mut() {
            let Uplink::Bound { link, alias } = batch.uplink else {
                continue;
            };
            let Some(collector) = self.collectors.get_mut(&link) else {
                continue;
            };
            while let Some(results) = batch
                .outcomes
                .poll(now, collector.allowance.saturating_sub(collector.under_way))
            {
                collector.under_way += results.weight();
                self.sessions.send(link, alias, &Message::Results(results));
            }
        }
        self.tell_blocked();
    }

    /// Tells a collector at once when an outcome is too large for the allowance, and when it no longer is.
    fn tell_blocked(&mut self) {
        for (&link, collector) in &mut self.collectors {
            let waiting = self.batches.values().filter(|batch| batch.uplink_link() == Some(link));
            let smallest = waiting.filter_map(|batch| batch.outcomes.blocked()).min();
            let blocked = smallest.filter(|weight| collector.under_way == 0 && *weight > collector.allowance);
            if blocked != collector.told_blocked {
                collector.told_blocked = blocked;
                self.sessions.ping(
                    link,
                    Ping {
                        blocked,
                        ..Ping::default()
                    },
                );
            }
        }
    }

    fn grant(&mut self) {
        if self.drain.is_some() {
            return;
        }
        let (held, bytes) = self
            .batches
            .values()
            .map(Batch::unfinished)
            .fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1));
        let (uses, batches) = (&self.uses, &self.batches);
        let open = |door: Door| {
            let batch = uses.get(&door).and_then(|uid| batches.get(uid));
            batch.is_some_and(|batch| batch.may_grant(door))
        };
        for (door, credit) in self.credits.grant(self.pace.target(), held, bytes, open) {
            self.sessions.send(door.0, door.1, &Message::Credit(credit));
        }
    }

    /// Tasks running and waiting here, over all batches.
    pub fn unfinished(&self) -> u64 {
        self.batches.values().map(|batch| batch.unfinished().0).sum()
    }

    /// Messages of a lower epoch that were refused.
    pub fn stale_epoch(&self) -> u64 {
        self.stale_epoch
    }

    /// Panics if an invariant is broken. For tests.
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
