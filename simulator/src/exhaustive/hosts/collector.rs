//! The collector: its disk is the ledger.

use std::collections::BTreeMap;

use harmony_protocol::collector::{Collector, Config, Opened, Output, Write};
use harmony_protocol::ids::{Alias, LinkId};
use harmony_protocol::wire::{self, Message, ResultEntry};

use super::{Context, Input, LOG, UID, decoded};
use crate::exhaustive::Plant;
use crate::exhaustive::step::Work;

/// See the module.
#[derive(Clone, Debug)]
pub(in crate::exhaustive) struct CollectorHost {
    pub(super) machine: Collector,
    /// A log is being opened, or made.
    opening: Option<bool>,
    /// Up to which record a sync is under way, and how many records it makes durable.
    syncing: Option<(u64, usize)>,
    reading_back: bool,
    /// RESULTS without an ACK.
    received: BTreeMap<(LinkId, Alias), BTreeMap<u64, Vec<ResultEntry>>>,
}

impl CollectorHost {
    pub(super) fn new(config: Config) -> Self {
        Self {
            machine: Collector::new(config),
            opening: None,
            syncing: None,
            reading_back: false,
            received: BTreeMap::new(),
        }
    }

    pub(super) fn work(&self) -> Vec<Work> {
        let works = [
            self.opening.map(|_| Work::Open),
            self.syncing.map(|_| Work::Sync),
            self.reading_back.then_some(Work::ReadBack),
        ];
        works.into_iter().flatten().collect()
    }

    pub(super) fn take(&mut self, context: &mut Context<'_>, input: Input) {
        let now = context.now;
        match input {
            Input::Begin => {}
            Input::Opened(link) => self.machine.handle_link_opened(now, link),
            Input::Closed(link) => self.machine.handle_link_closed(now, link),
            Input::Message(link, frames) => {
                if let Ok((alias, Message::Results(results))) = wire::decode(&frames) {
                    let received = self.received.entry((link, alias)).or_default();
                    received.insert(results.sequence, results.entries);
                }
                self.machine.handle_message(now, link, &frames);
            }
            Input::Timer => self.machine.handle_timeout(now),
            Input::Finish(Work::Open) => self.open(context),
            Input::Finish(Work::Sync) => {
                let (sequence, count) = self.syncing.take().expect("a sync is under way");
                context.ledger.sync(count);
                self.machine.handle_synced(now, UID, sequence);
            }
            Input::Finish(Work::ReadBack) => {
                self.reading_back = false;
                self.machine.handle_read_back(now, UID, Vec::new(), 0);
            }
            Input::Finish(Work::Task(_)) => panic!("a collector runs no tasks"),
        }
        self.drain(context);
        self.machine.sanity_check();
    }

    fn open(&mut self, context: &mut Context<'_>) {
        let create = self.opening.take().expect("a log is being opened");
        let opened = if create || context.ledger.made {
            let state = Box::new(context.ledger.open());
            Opened::Batch { state, log_id: LOG }
        } else {
            Opened::Absent
        };
        self.machine.handle_opened(context.now, UID, opened);
    }

    fn drain(&mut self, context: &mut Context<'_>) {
        while let Some(output) = self.machine.poll_output(context.now) {
            match output {
                Output::Link(output) => {
                    if let Some((link, alias, message)) = decoded(&output) {
                        self.judge(context, link, alias, &message);
                    }
                    context.out.push(output);
                }
                Output::Open { create, .. } => self.opening = Some(create),
                Output::Write {
                    write: Write::Record { pieces, .. },
                    ..
                } => context.ledger.append(&pieces),
                Output::Sync { sequence, .. } => {
                    assert_eq!(self.syncing, None, "two syncs at once");
                    self.syncing = Some((sequence, context.ledger.unsynced()));
                    if context.scope.plant == Some(Plant::AcksBeforeSync) {
                        self.machine.handle_synced(context.now, UID, sequence);
                    }
                }
                Output::ReadBack { .. } => self.reading_back = true,
                Output::Compare { .. } => self.machine.handle_compared(context.now, UID, false),
                Output::Write { .. } | Output::Discard { .. } => panic!("no output is that long"),
                Output::Checkpoint { .. } | Output::Close { .. } => {}
            }
        }
    }

    fn judge(&mut self, context: &mut Context<'_>, link: LinkId, alias: Alias, message: &Message) {
        context.ledger.hears(message, context.scope.tasks);
        if let Message::Ack(ack) = message
            && let Some(received) = self.received.get_mut(&(link, alias))
        {
            let later = received.split_off(&(ack.sequence + 1));
            for entries in std::mem::replace(received, later).values() {
                context.ledger.acks(entries);
            }
        }
    }
}
