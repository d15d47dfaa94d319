//! A collector process: the machine and the real log, on a disk that takes virtual time.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZero;
use std::time::Duration;

use harmony_log::read_back::{self, ReadBack};
use harmony_log::{DueCheckpoint, LogError, Recorder, Written};
use harmony_protocol::Identity;
use harmony_protocol::collector::{Answer, Collector, Config, Opened, Output, Write};
use harmony_protocol::ids::{BatchUid, ProcessId};
use harmony_protocol::wire::Role;

use crate::host::{Action, Context, Input};
use crate::observation::Observation;

/// How the collector and its disk are set up.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// The longest time of an fsync.
    pub fsync: Duration,
    /// Bytes of outcomes under way.
    pub memory: u64,
    /// Bytes at which a segment of the log is sealed.
    pub segment_bytes: u64,
    /// Bytes of records between two checkpoints.
    pub checkpoint_bytes: u64,
}

/// See the module.
pub struct CollectorHost {
    machine: Collector,
    setup: Setup,
    logs: BTreeMap<BatchUid, Recorder>,
    /// States about to be kept.
    due: BTreeMap<BatchUid, DueCheckpoint>,
    /// The disk failed: the process has ended, and the world hears of it next.
    dead: bool,
}

impl fmt::Debug for CollectorHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = f.debug_struct("CollectorHost");
        text.field("machine", &self.machine).finish_non_exhaustive()
    }
}

impl CollectorHost {
    /// A collector process that has just begun.
    pub fn new(process: ProcessId, setup: Setup, clock: (std::time::Instant, u64)) -> Self {
        let identity = Identity {
            role: Role::Collector,
            name: "collector".to_owned(),
            process_id: process,
            slots: None,
        };
        let config = Config {
            memory: setup.memory,
            checkpoint_bytes: setup.checkpoint_bytes,
            ..Config::new(identity, clock)
        };
        Self {
            machine: Collector::new(config),
            setup,
            logs: BTreeMap::new(),
            due: BTreeMap::new(),
            dead: false,
        }
    }

    /// When it wants to be told the time.
    pub fn timeout(&self) -> Option<std::time::Instant> {
        self.machine.poll_timeout().filter(|_| !self.dead)
    }

    /// Takes an input, and does what follows from it.
    pub fn take(&mut self, context: &mut Context<'_>, input: Input) {
        if self.dead {
            return;
        }
        let now = context.now;
        match input {
            Input::Opened(link) => self.machine.handle_link_opened(now, link),
            Input::Closed(link) => self.machine.handle_link_closed(now, link),
            Input::Message(link, packet) => self.machine.handle_message(now, link, &packet.frames),
            Input::Timer => self.machine.handle_timeout(now),
            Input::OpenLog(uid, create) => self.open_log(context, uid, create),
            Input::Synced(uid, sequence) => self.synced(context, uid, sequence),
            Input::Checkpoint(uid) => self.keep_checkpoint(context, uid),
            Input::ReadBack(uid) => self.read_back(context, uid),
            Input::Compared(uid, differs) => self.machine.handle_compared(now, uid, differs),
            other => panic!("not for a collector: {other:?}"),
        }
        self.drain(context);
        if context.sanity_checks {
            self.machine.sanity_check();
        }
    }

    fn drain(&mut self, context: &mut Context<'_>) {
        while !self.dead
            && let Some(output) = self.machine.poll_output(context.now)
        {
            match output {
                Output::Link(output) => context.link(output),
                Output::Open { uid, create } => {
                    let time = context.between(Duration::ZERO, Duration::from_millis(50));
                    context.after(time, Input::OpenLog(uid, create));
                }
                Output::Write { uid, sequence, write } => self.write(context, uid, sequence, &write),
                Output::Discard { uid, output } => {
                    let discarded = self.recorder(uid).discard(output);
                    self.survives(context, discarded);
                }
                Output::Sync { uid, sequence } => self.sync(context, uid, sequence),
                Output::Checkpoint { uid, sequence, state } => {
                    self.recorder(uid).offer_checkpoint(sequence, state);
                }
                Output::Close { uid } => {
                    self.due.remove(&uid);
                    self.logs.remove(&uid);
                }
                Output::ReadBack { uid } => {
                    let time = context.between(Duration::ZERO, Duration::from_millis(100));
                    context.after(time, Input::ReadBack(uid));
                }
                Output::Compare { uid, number, answer } => self.compare(context, uid, number, &answer),
            }
        }
    }

    fn recorder(&mut self, uid: BatchUid) -> &mut Recorder {
        self.logs.get_mut(&uid).expect("an open log")
    }

    /// The answer of the disk, unless the process died in the call or dies of it.
    fn survives<T>(&mut self, context: &mut Context<'_>, answer: Result<T, LogError>) -> Option<T> {
        let cause = match answer {
            _ if context.disk.is_process_dead() => "a call of its disk was the last".to_owned(),
            Ok(answer) => return Some(answer),
            Err(error) => error.to_string(),
        };
        context
            .trace
            .note(context.at, format_args!("the collector ends: {cause}"));
        context.actions.push(Action::Die(Duration::ZERO));
        self.dead = true;
        None
    }

    fn open_log(&mut self, context: &mut Context<'_>, uid: BatchUid, create: bool) {
        assert!(!self.logs.contains_key(&uid), "a log is opened twice");
        let tasks = context.tasks(uid).clone();
        let opened = match context.disk.open(&tasks, self.setup.segment_bytes, create) {
            Err(LogError::NoSpace { .. }) if !context.disk.is_process_dead() => Opened::Later,
            opened => match self.survives(context, opened) {
                None => return,
                Some(None) => Opened::Absent,
                Some(Some(opened)) => {
                    context
                        .trace
                        .note(context.at, format_args!("{uid} is open: {:?}", opened.recovery));
                    let (state, log_id) = (Box::new(opened.state), opened.recorder.log_id());
                    self.logs.insert(uid, opened.recorder);
                    context.observe(&Observation::Recovered(uid, &opened.recovery));
                    Opened::Batch { state, log_id }
                }
            },
        };
        self.machine.handle_opened(context.now, uid, opened);
    }

    fn write(&mut self, context: &mut Context<'_>, uid: BatchUid, sequence: u64, write: &Write) {
        let written = self.recorder(uid).write(sequence, write);
        match self.survives(context, written) {
            Some(Written::NoRoom(_) | Written::OutOfTurn) => self.machine.handle_disk_full(context.now, uid, sequence),
            Some(Written::Appended) | None => {}
        }
    }

    fn sync(&mut self, context: &mut Context<'_>, uid: BatchUid, sequence: u64) {
        let begun = context.disk.begin_sync(self.recorder(uid));
        if self.survives(context, begun).is_some() {
            let time = context.between(Duration::from_micros(300), self.setup.fsync);
            context.after(time, Input::Synced(uid, sequence));
        }
    }

    fn synced(&mut self, context: &mut Context<'_>, uid: BatchUid, sequence: u64) {
        context.disk.end_sync(uid);
        context.observe(&Observation::Synced(uid));
        self.machine.handle_synced(context.now, uid, sequence);
        if let Some(checkpoint) = self.recorder(uid).synced(sequence) {
            self.due.insert(uid, checkpoint);
            let time = context.between(Duration::ZERO, self.setup.fsync);
            context.after(time, Input::Checkpoint(uid));
        }
    }

    /// That there is no checkpoint costs time only.
    fn keep_checkpoint(&mut self, context: &mut Context<'_>, uid: BatchUid) {
        let Some(checkpoint) = self.due.remove(&uid) else {
            return;
        };
        let kept = checkpoint
            .write()
            .or_else(|error| if error.is_fatal() { Err(error) } else { Ok(()) });
        self.survives(context, kept);
    }

    fn read_back(&mut self, context: &mut Context<'_>, uid: BatchUid) {
        let Some(settled) = self.machine.batch(uid).map(|state| state.settled().clone()) else {
            return;
        };
        let read = read_back::read_back(&self.recorder(uid).reader(), &settled, NonZero::<usize>::MIN);
        let Some(ReadBack { damaged, digest }) = self.survives(context, read) else {
            return;
        };
        for number in damaged.iter().flat_map(|(first, last)| *first..=*last) {
            context.observe(&Observation::Damaged(uid, number));
        }
        self.machine.handle_read_back(context.now, uid, damaged, digest);
    }

    /// A record that cannot be read now is found by the read-back.
    fn compare(&mut self, context: &mut Context<'_>, uid: BatchUid, number: u64, answer: &Answer) {
        let differs = read_back::differs(&self.recorder(uid).reader(), number, answer).unwrap_or(false);
        if self.survives(context, Ok(())).is_some() {
            context.after(Duration::from_millis(1), Input::Compared(uid, differs));
        }
    }
}
