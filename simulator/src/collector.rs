//! A collector process: the machine, and a disk that takes virtual time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use harmony_protocol::Identity;
use harmony_protocol::collector::{Collector, Config, Opened, Output};
use harmony_protocol::ids::{BatchUid, ProcessId};
use harmony_protocol::limits::RANGES_PER_PIECE;
use harmony_protocol::wire::Role;

use crate::host::{Context, Input};
use crate::observation::Observation;

/// How the collector and its disk are set up.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// The longest time of an fsync.
    pub fsync: Duration,
    /// Bytes of outcomes under way.
    pub memory: u64,
    /// Out of 1,000: how often a read-back finds a damaged number.
    pub damage: u32,
}

/// See the module.
#[derive(Debug)]
pub struct CollectorHost {
    machine: Collector,
    setup: Setup,
    /// Open logs: how many records each had when it was opened.
    open: BTreeMap<BatchUid, usize>,
    /// Batches with records that found no room.
    behind: BTreeSet<BatchUid>,
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
            ..Config::new(identity, clock)
        };
        Self {
            machine: Collector::new(config),
            setup,
            open: BTreeMap::new(),
            behind: BTreeSet::new(),
        }
    }

    /// When it wants to be told the time.
    pub fn timeout(&self) -> Option<std::time::Instant> {
        self.machine.poll_timeout()
    }

    /// Takes an input, and does what follows from it.
    pub fn take(&mut self, context: &mut Context<'_>, input: Input) {
        let now = context.now;
        match input {
            Input::Opened(link) => self.machine.handle_link_opened(now, link),
            Input::Closed(link) => self.machine.handle_link_closed(now, link),
            Input::Message(link, packet) => self.machine.handle_message(now, link, &packet.frames),
            Input::Timer => self.machine.handle_timeout(now),
            Input::OpenLog(uid, create) => self.open_log(context, uid, create),
            Input::Synced(uid, sequence, count) => {
                context.disk.log(uid).expect("an open log").sync(count);
                context.observe(&Observation::Synced(uid));
                self.machine.handle_synced(now, uid, sequence);
            }
            Input::DiskFull(uid, sequence) => self.machine.handle_disk_full(now, uid, sequence),
            Input::ReadBack(uid) => self.read_back(context, uid),
            Input::Compared(uid, differs) => self.machine.handle_compared(now, uid, differs),
            other => panic!("not for a collector: {other:?}"),
        }
        self.drain(context);
        if context.sanity_checks {
            self.machine.sanity_check();
        }
        self.maybe_checkpoint(context);
    }

    fn open_log(&mut self, context: &mut Context<'_>, uid: BatchUid, create: bool) {
        assert!(!self.open.contains_key(&uid), "a log is opened twice");
        if context.disk.log(uid).is_none() && create {
            let tasks = context.tasks(uid).clone();
            context.disk.make(&tasks);
        }
        let opened = match context.disk.log(uid) {
            None => Opened::Absent,
            Some(log) => {
                let state = Box::new(log.open());
                self.open.insert(uid, log.len());
                let (log_id, lost) = (log.id, log.lost());
                context.observe(&Observation::Recovered(uid, lost));
                Opened::Batch { state, log_id }
            }
        };
        self.machine.handle_opened(context.now, uid, opened);
    }

    fn drain(&mut self, context: &mut Context<'_>) {
        while let Some(output) = self.machine.poll_output(context.now) {
            match output {
                Output::Link(output) => context.link(output),
                Output::Open { uid, create } => {
                    let time = context.between(Duration::ZERO, Duration::from_millis(50));
                    context.after(time, Input::OpenLog(uid, create));
                }
                Output::Append {
                    uid, sequence, pieces, ..
                } => self.append(context, uid, sequence, &pieces),
                Output::Sync { uid, sequence } => self.sync(context, uid, sequence),
                Output::Checkpoint { .. } => {}
                Output::Close { uid } => drop(self.open.remove(&uid)),
                Output::ReadBack { uid } => {
                    let time = context.between(Duration::ZERO, Duration::from_millis(100));
                    context.after(time, Input::ReadBack(uid));
                }
                Output::Compare { uid, number, output } => {
                    let recorded = context.disk.log(uid).and_then(|log| log.output(number));
                    let differs = recorded.is_some_and(|recorded| recorded != output);
                    context.after(Duration::from_millis(1), Input::Compared(uid, differs));
                }
            }
        }
    }

    /// A record that does not follow the last one comes after one that found no room.
    fn append(&mut self, context: &mut Context<'_>, uid: BatchUid, sequence: u64, pieces: &[Bytes]) {
        let opened_with = self.open.get(&uid).copied().expect("an open log");
        let full = context.disk.full;
        let log = context.disk.log(uid).expect("an open log");
        let expected = (log.len() - opened_with) as u64 + 1;
        assert!(
            sequence >= expected,
            "record {sequence} is appended twice, {expected} is next"
        );
        if sequence > expected {
            return;
        }
        if full {
            self.behind.insert(uid);
            context.after(Duration::from_micros(200), Input::DiskFull(uid, sequence));
        } else {
            self.behind.remove(&uid);
            log.append(pieces);
        }
    }

    fn sync(&mut self, context: &mut Context<'_>, uid: BatchUid, sequence: u64) {
        let opened_with = self.open.get(&uid).copied().expect("an open log");
        let log = context.disk.log(uid).expect("an open log");
        let written = (log.len() - opened_with) as u64;
        let sequence = sequence.min(written);
        let count = opened_with + usize::try_from(sequence).unwrap_or(usize::MAX);
        let time = context.between(Duration::from_micros(300), self.setup.fsync);
        context.after(time, Input::Synced(uid, sequence, count));
    }

    fn read_back(&mut self, context: &mut Context<'_>, uid: BatchUid) {
        let log = context.disk.log(uid).expect("an open log");
        let settled: Vec<u64> = log.durable().settled.keys().copied().collect();
        let digest = u32::try_from(settled.len()).unwrap_or(u32::MAX);
        let mut damaged = Vec::new();
        if !settled.is_empty() && context.random.u32(0..1000) < self.setup.damage {
            let number = settled[context.random.usize(0..settled.len())];
            damaged.push((number, number));
            context.observe(&Observation::Damaged(uid, number));
        }
        assert!(damaged.len() < RANGES_PER_PIECE, "more damage than a record holds");
        self.machine.handle_read_back(context.now, uid, damaged, digest);
    }

    /// A checkpoint fits when everything that the machine has recorded is in the log.
    fn maybe_checkpoint(&self, context: &mut Context<'_>) {
        for (uid, opened_with) in &self.open {
            if self.behind.contains(uid) || context.random.u32(0..100) > 0 {
                continue;
            }
            let (Some(state), Some(log)) = (self.machine.batch(*uid), context.disk.log(*uid)) else {
                continue;
            };
            if log.len() > *opened_with {
                log.offer_checkpoint(state.checkpoint());
            }
        }
    }
}
