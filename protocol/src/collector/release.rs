//! The disk's answers, and what may be said once records are durable.

use std::collections::BTreeMap;
use std::time::Instant;

use super::commit::{Delta, Due, Effect};
use super::{Collector, Output, Slot, Use};
use crate::ids::{Alias, BatchUid, LinkId};
use crate::mutant::{self, Mutant};
use crate::wire::{Ack, Message, Span};

impl Collector {
    /// The disk has no room: this record and all after it were not written.
    pub fn handle_disk_full(&mut self, now: Instant, uid: BatchUid, sequence: u64) {
        self.sessions.step(now);
        if let Some(Slot::Open(batch)) = self.slots.get_mut(&uid) {
            let was_full = batch.commit.is_full();
            batch.commit.disk_full(now, sequence);
            if !was_full {
                self.announce_health(uid);
            }
        }
    }

    /// Everything up to this record is durable.
    pub fn handle_synced(&mut self, now: Instant, uid: BatchUid, sequence: u64) {
        self.sessions.step(now);
        let Some(Slot::Open(batch)) = self.slots.get_mut(&uid) else {
            return;
        };
        batch.commit.synced(sequence);
        if batch.commit.is_full() && batch.commit.is_idle() {
            batch.commit.clear_full();
            self.announce_health(uid);
        }
    }

    pub(super) fn announce_health(&mut self, uid: BatchUid) {
        let full = self
            .slots
            .values()
            .any(|slot| matches!(slot, Slot::Open(batch) if batch.commit.is_full()));
        self.allowances.pause(full);
        self.report(uid, Delta::default());
    }

    /// The answer to [`Output::ReadBack`]: settled numbers whose record is damaged, and a digest over all records.
    pub fn handle_read_back(&mut self, now: Instant, uid: BatchUid, damaged: Vec<Span>, digest: u32) {
        self.sessions.step(now);
        self.reading_back = self.reading_back.filter(|reading| *reading != uid);
        if let Some(Slot::Open(batch)) = self.slots.get_mut(&uid) {
            batch.take_read_back(now, damaged, digest);
        }
    }

    /// The answer to [`Output::Compare`].
    pub fn handle_compared(&mut self, now: Instant, uid: BatchUid, differs: bool) {
        self.sessions.step(now);
        self.comparing = self.comparing.saturating_sub(1);
        if self.comparing == 0 {
            self.comparing_bytes = 0;
        }
        if let Some(Slot::Open(batch)) = self.slots.get_mut(&uid) {
            batch.differing += u64::from(differs);
        }
    }

    pub(super) fn poll_writes(&mut self, now: Instant) {
        for (&uid, slot) in &mut self.slots {
            let Slot::Open(batch) = slot else { continue };
            while let Some(due) = batch.commit.poll(now) {
                self.out.push_back(match due {
                    Due::Write { sequence, write } => Output::Write { uid, sequence, write },
                    Due::Sync { sequence } => Output::Sync { uid, sequence },
                });
            }
            if self.reading_back.is_none() && batch.wants_read_back() {
                if mutant::on(Mutant::ReadBackSkipped) {
                    batch.take_read_back(now, Vec::new(), 0);
                    continue;
                }
                self.reading_back = Some(uid);
                batch.reading_back = true;
                self.out.push_back(Output::ReadBack { uid });
            }
        }
    }

    /// Says what may be said now: acks are merged per alias, changes per batch.
    pub(super) fn release_effects(&mut self) {
        let uids: Vec<_> = self.slots.keys().copied().collect();
        for uid in uids {
            let mut acks: BTreeMap<(LinkId, Alias), u64> = BTreeMap::new();
            let mut delta = Delta::default();
            while let Some(Slot::Open(batch)) = self.slots.get_mut(&uid)
                && let Some(effect) = batch.commit.poll_effect()
            {
                match effect {
                    Effect::Ack { link, alias, sequence } => {
                        acks.insert((link, alias), sequence);
                    }
                    Effect::Delta(more) => {
                        batch.tally.fail(&more.finals);
                        delta.merge(more);
                    }
                    Effect::Totals(totals) => batch.take_totals(totals),
                    other => {
                        self.send_reports(uid, std::mem::take(&mut delta));
                        self.release(uid, other);
                    }
                }
            }
            self.send_reports(uid, delta);
            for ((link, alias), sequence) in acks {
                self.send_ack(link, alias, sequence);
            }
        }
    }

    pub(super) fn release(&mut self, uid: BatchUid, effect: Effect) {
        let Some(Slot::Open(batch)) = self.slots.get_mut(&uid) else {
            return;
        };
        match effect {
            Effect::Send { link, alias, message } => self.sessions.send(link, alias, &message),
            Effect::State { link, alias, pieces } => {
                for piece in pieces {
                    self.sessions.send(link, alias, &Message::State(Box::new(piece)));
                }
                if let Some(client) = batch.clients.get_mut(&link).filter(|client| client.alias == alias) {
                    client.ready = true;
                }
            }
            Effect::Announce(message) => {
                for (link, client) in batch.clients.iter().filter(|(_, client)| client.ready) {
                    self.sessions.send(*link, client.alias, &message);
                }
            }
            Effect::Ack { .. } | Effect::Delta(_) | Effect::Totals(_) => {}
        }
    }

    pub(super) fn send_reports(&mut self, uid: BatchUid, delta: Delta) {
        if !delta.is_empty() {
            self.report(uid, delta);
        }
    }

    pub(super) fn report(&mut self, uid: BatchUid, delta: Delta) {
        let Some(Slot::Open(batch)) = self.slots.get(&uid) else {
            return;
        };
        let clients: Vec<_> = batch
            .clients
            .iter()
            .filter(|(_, client)| client.ready)
            .map(|(l, c)| (*l, c.alias))
            .collect();
        if clients.is_empty() {
            return;
        }
        for report in batch.reports(delta) {
            let message = Message::Report(Box::new(report));
            for (link, alias) in &clients {
                self.sessions.send(*link, *alias, &message);
            }
        }
    }

    pub(super) fn send_ack(&mut self, link: LinkId, alias: Alias, sequence: u64) {
        let uses = self.uses.get_mut(&link).and_then(|uses| uses.get_mut(&alias));
        if let Some(Use::Worker { acked, .. }) = uses {
            *acked = (*acked).max(sequence);
            let ack = Ack {
                sequence: *acked,
                allowance: self.allowances.tell(link),
            };
            self.sessions.send(link, alias, &Message::Ack(ack));
        }
    }

    pub(super) fn tell_allowance(&mut self, link: LinkId) {
        let bound = self
            .uses
            .get(&link)
            .into_iter()
            .flatten()
            .find_map(|(alias, used)| match used {
                Use::Worker { acked, .. } => Some((*alias, *acked)),
                Use::Client(_) | Use::Unloaded => None,
            });
        if let Some((alias, sequence)) = bound {
            self.send_ack(link, alias, sequence);
        }
    }
}
