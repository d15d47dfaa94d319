//! Group commit: records are appended as they come, made durable together, and only then do their effects leave.

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use bytes::Bytes;

use super::output::{Kept, OutputId, Write};
use super::record::Record;
use super::state::BatchState;
use crate::ids::{Alias, LinkId};
use crate::limits::{COMMIT_BYTES, COMMIT_WITHIN, DISK_FULL_PAUSE, FAILURES_TOLD};
use crate::mutant::{self, Mutant};
use crate::wire::{Counts, Failure, Message, Retry, Span, State};

/// What may be said once everything appended before it is durable.
#[derive(Clone, Debug)]
pub(crate) enum Effect {
    Ack {
        link: LinkId,
        alias: Alias,
        sequence: u64,
    },
    Delta(Delta),
    Totals(Totals),
    /// To one link.
    Send {
        link: LinkId,
        alias: Alias,
        message: Message,
    },
    /// The answer to START. From its last piece on, the ventilator gets reports.
    State {
        link: LinkId,
        alias: Alias,
        pieces: Vec<State>,
    },
    /// To all ventilators of the batch.
    Announce(Message),
}

/// How far a batch is, as of some record.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Totals {
    pub(crate) counts: Counts,
    pub(crate) lowest_missing: u64,
}

impl Totals {
    pub(crate) fn of(state: &BatchState) -> Self {
        Self {
            counts: state.counts(),
            lowest_missing: state.settled().low(),
        }
    }
}

/// What changed, for REPORT.
#[derive(Clone, Debug, Default)]
pub(crate) struct Delta {
    pub(crate) succeeded: Vec<Span>,
    pub(crate) failed: Vec<Span>,
    pub(crate) retries: Vec<Retry>,
    /// Causes of some of what failed.
    pub(crate) failures: Vec<Failure>,
    /// How many failed for good, by their last outcome.
    pub(crate) finals: BTreeMap<&'static str, u64>,
}

impl Delta {
    pub(crate) fn is_empty(&self) -> bool {
        self.succeeded.is_empty() && self.failed.is_empty() && self.retries.is_empty()
    }

    pub(crate) fn merge(&mut self, other: Self) {
        self.succeeded.extend(other.succeeded);
        self.failed.extend(other.failed);
        self.retries.extend(other.retries);
        let room = FAILURES_TOLD.saturating_sub(self.failures.len());
        self.failures.extend(other.failures.into_iter().take(room));
    }
}

/// What the log is to do.
#[derive(Clone, Debug)]
pub(crate) enum Due {
    Write { sequence: u64, write: Write },
    Sync { sequence: u64 },
}

/// What waits to be durable.
#[derive(Clone, Debug)]
struct Pending {
    sequence: u64,
    write: Write,
}

/// The records of one batch on their way to the disk.
#[derive(Clone, Debug, Default)]
pub(crate) struct Commit {
    /// The sequence of the newest record; records are counted from 1 since the log was opened.
    newest: u64,
    /// The newest record that was handed to the log.
    appended: u64,
    synced: u64,
    /// Kept until synced, since a full disk may refuse them. Bounded by the collector's allowances.
    pending: VecDeque<Pending>,
    effects: VecDeque<(u64, Effect)>,
    syncing: Option<u64>,
    /// When the oldest record that no sync covers was appended.
    waiting_since: Option<Instant>,
    waiting_bytes: u64,
    checkpoint_bytes: u64,
    /// The last write found no room, and until when no other is tried.
    full: bool,
    pause: Option<Instant>,
}

impl Commit {
    /// Takes a record in.
    pub(crate) fn push(&mut self, now: Instant, record: &Record) {
        let write = Write::from(record);
        self.checkpoint_bytes += write.bytes();
        self.pend(now, write);
    }

    /// The record that was taken in last keeps an output.
    pub(crate) fn keep(&mut self, kept: Kept) {
        if let Some(Write::Record { keeps, .. }) = self.pending.back_mut().map(|pending| &mut pending.write) {
            *keeps = Some(kept);
        }
    }

    /// Takes a piece of an output in: it becomes durable with the records.
    pub(crate) fn push_part(&mut self, now: Instant, output: OutputId, offset: u64, bytes: Bytes) {
        self.pend(now, Write::Part { output, offset, bytes });
    }

    /// Nothing of an output needs to be written any more.
    pub(crate) fn void(&mut self, discarded: OutputId) {
        for pending in &mut self.pending {
            if let Write::Part { output, bytes, .. } = &mut pending.write
                && *output == discarded
            {
                *bytes = Bytes::new();
            }
        }
    }

    fn pend(&mut self, now: Instant, write: Write) {
        self.newest += 1;
        self.waiting_since.get_or_insert(now);
        self.waiting_bytes += write.bytes();
        let sequence = self.newest;
        self.pending.push_back(Pending { sequence, write });
    }

    /// Lets an effect wait for all records taken in so far.
    pub(crate) fn defer(&mut self, effect: Effect) {
        self.effects.push_back((self.newest, effect));
    }

    /// What the log is to do next.
    pub(crate) fn poll(&mut self, now: Instant) -> Option<Due> {
        if self.pause.is_some_and(|until| now < until) {
            return None;
        }
        self.pause = None;
        if self.appended < self.newest {
            self.appended += 1;
            let offset = usize::try_from(self.appended - self.synced - 1).unwrap_or(usize::MAX);
            let pending = self.pending.get(offset)?;
            return Some(Due::Write {
                sequence: pending.sequence,
                write: pending.write.clone(),
            });
        }
        let due = self.sync_due()?;
        if self.syncing.is_some() || due > now {
            return None;
        }
        self.waiting_since = None;
        self.waiting_bytes = 0;
        self.syncing = Some(self.appended);
        Some(Due::Sync {
            sequence: self.appended,
        })
    }

    fn sync_due(&self) -> Option<Instant> {
        let since = self.waiting_since?;
        Some(if self.waiting_bytes >= COMMIT_BYTES {
            since
        } else {
            since + COMMIT_WITHIN
        })
    }

    /// Whether a checkpoint of the state as of the newest record is worth its cost. Asked right after a record was taken in.
    pub(crate) fn wants_checkpoint(&mut self, every: u64) -> Option<u64> {
        (self.checkpoint_bytes >= every).then(|| {
            self.checkpoint_bytes = 0;
            self.newest
        })
    }

    /// Everything up to this record is durable.
    pub(crate) fn synced(&mut self, sequence: u64) {
        // What a full disk refused after this sync was asked for is not covered by it.
        let covered = self.syncing.take().unwrap_or(self.synced);
        self.synced = self.synced.max(sequence.min(covered));
        while self
            .pending
            .front()
            .is_some_and(|pending| pending.sequence <= self.synced)
        {
            self.pending.pop_front();
        }
    }

    /// The disk is full: this record and all after it were not written. They are written again after a pause.
    pub(crate) fn disk_full(&mut self, now: Instant, sequence: u64) {
        if sequence <= self.synced || sequence > self.appended {
            return;
        }
        if !mutant::on(Mutant::FullDiskForgets) {
            self.appended = sequence - 1;
        }
        self.syncing = self.syncing.map(|covered| covered.min(self.appended));
        self.full = true;
        self.pause = Some(now + DISK_FULL_PAUSE);
        self.waiting_since.get_or_insert(now);
        self.waiting_bytes = self.pending.iter().map(|pending| pending.write.bytes()).sum();
    }

    /// Whether the last write found no room.
    pub(crate) fn is_full(&self) -> bool {
        self.full
    }

    /// Bytes of records that are not durable yet.
    pub(crate) fn unflushed_bytes(&self) -> u64 {
        self.pending.iter().map(|pending| pending.write.bytes()).sum()
    }

    /// A record was written after the disk had been full.
    pub(crate) fn clear_full(&mut self) {
        self.full = false;
    }

    /// The next effect whose records are durable.
    pub(crate) fn poll_effect(&mut self) -> Option<Effect> {
        let (sequence, effect) = self.effects.front()?;
        let report = matches!(effect, Effect::Delta(_) | Effect::Totals(_));
        let early = report && mutant::on(Mutant::ReportBeforeFsync);
        if *sequence > self.synced && !early {
            return None;
        }
        self.effects.pop_front().map(|(_, effect)| effect)
    }

    /// Whether everything taken in is durable.
    pub(crate) fn is_idle(&self) -> bool {
        self.synced == self.newest
    }

    pub(crate) fn timeout(&self) -> Option<Instant> {
        match self.pause {
            Some(until) => Some(until),
            None if self.syncing.is_some() => None,
            None => self.sync_due(),
        }
    }

    pub(crate) fn sanity_check(&self) {
        assert!(
            self.synced <= self.appended && self.appended <= self.newest,
            "sequences out of order"
        );
        assert_eq!(
            self.pending.len() as u64,
            self.newest - self.synced,
            "a record was dropped before it was durable"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sync_does_not_cover_what_a_full_disk_refused_meanwhile() {
        let mut now = Instant::now();
        let mut commit = Commit::default();
        commit.push(now, &Record::End(1));
        commit.defer(Effect::Announce(Message::Pong(crate::wire::Pong { nonce: 1 })));
        assert!(matches!(commit.poll(now), Some(Due::Write { sequence: 1, .. })));
        now += COMMIT_WITHIN;
        assert!(matches!(commit.poll(now), Some(Due::Sync { sequence: 1 })));
        commit.disk_full(now, 1);
        now += DISK_FULL_PAUSE;
        assert!(
            matches!(commit.poll(now), Some(Due::Write { sequence: 1, .. })),
            "there is room again"
        );
        commit.synced(1);
        assert!(
            commit.poll_effect().is_none(),
            "the sync began before the record was written"
        );
        now += COMMIT_WITHIN;
        assert!(matches!(commit.poll(now), Some(Due::Sync { sequence: 1 })));
        commit.synced(1);
        assert!(commit.poll_effect().is_some());
        commit.sanity_check();
    }
}
