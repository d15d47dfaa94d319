//! Outcomes of one batch on their way to the collector: kept until acked, whatever happens to the link.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::BytesMut;

use super::Finished;
use crate::ids::Attempt;
use crate::limits::{MAX_MESSAGE, RESULTS_BYTES, RESULTS_PER_MESSAGE, UNACKED_BYTES, UNACKED_TASKS};
use crate::mutant::{self, Mutant};
use crate::wire::{ResultEntry, Results};

/// How long an outcome waits for company while others are under way.
const GATHER: Duration = Duration::from_millis(2);

/// Unacked outcomes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcomes {
    /// Not yet in a message.
    fresh: VecDeque<Finished>,
    fresh_bytes: u64,
    fresh_since: Option<Instant>,
    /// Messages not yet sent on the current link, oldest first.
    ready: VecDeque<Results>,
    /// Messages sent on the current link and not acked, oldest first.
    sent: VecDeque<Results>,
    next_sequence: u64,
    /// Weight and count of everything kept.
    bytes: u64,
    count: usize,
}

impl Outcomes {
    pub(crate) fn push(&mut self, now: Instant, finished: Finished) {
        self.fresh_bytes += finished.weight();
        self.bytes += finished.weight();
        self.count += 1;
        self.fresh_since.get_or_insert(now);
        self.fresh.push_back(finished);
    }

    /// How many there are, and their bytes.
    pub(crate) fn kept_in_all(&self) -> (u64, u64) {
        (self.count as u64, self.bytes)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Whether one more task may start: there is room for one largest output, or nothing is kept.
    pub(crate) fn has_room(&self, largest: u64) -> bool {
        self.count == 0 || (self.count < UNACKED_TASKS && self.bytes.saturating_add(largest) <= UNACKED_BYTES)
    }

    /// The next message that fits into `allowance` bytes, with its sequence. Small outcomes gather while others are under way.
    pub(crate) fn poll(&mut self, now: Instant, allowance: u64) -> Option<Results> {
        if self.ready.is_empty() && self.gathered(now) {
            let message = self.pack();
            self.ready.push_back(message);
        }
        if self.ready.front()?.weight() > allowance {
            return None;
        }
        let mut message = self.ready.pop_front()?;
        self.next_sequence += 1;
        message.sequence = self.next_sequence;
        self.sent.push_back(message.clone());
        Some(message)
    }

    fn gathered(&self, now: Instant) -> bool {
        let full = self.fresh.len() >= RESULTS_PER_MESSAGE || self.fresh_bytes >= RESULTS_BYTES as u64;
        let due = self
            .fresh_since
            .is_some_and(|since| self.sent.is_empty() || now >= since + GATHER);
        full || due
    }

    /// When outcomes have gathered for long enough.
    pub(crate) fn timeout(&self) -> Option<Instant> {
        if self.ready.is_empty() {
            Some(self.fresh_since? + GATHER)
        } else {
            None
        }
    }

    fn pack(&mut self) -> Results {
        let mut message = Results::default();
        let mut bytes = BytesMut::new();
        while let Some(next) = self.fresh.front() {
            let size = bytes.len() + next.output.len() + next.log.len();
            let fits = message.entries.is_empty() || size <= RESULTS_BYTES;
            if message.entries.len() >= RESULTS_PER_MESSAGE || !fits || size > MAX_MESSAGE {
                break;
            }
            let Some(next) = self.fresh.pop_front() else { break };
            self.fresh_bytes -= next.weight();
            message.entries.push(next.entry());
            bytes.extend_from_slice(&next.output);
            bytes.extend_from_slice(&next.log);
        }
        if self.fresh.is_empty() {
            self.fresh_since = None;
        }
        message.bytes = bytes.freeze();
        message
    }

    /// The weight of the message that waits for allowance.
    pub(crate) fn blocked(&self) -> Option<u64> {
        self.ready.front().map(Results::weight)
    }

    /// The weight of the messages sent on the current link and not acked.
    pub(crate) fn under_way(&self) -> u64 {
        self.sent.iter().map(Results::weight).sum()
    }

    /// ACK: returns what is disposed of, and its weight on the link.
    pub(crate) fn acked(&mut self, sequence: u64) -> (Vec<ResultEntry>, u64) {
        let mut entries = Vec::new();
        let mut weight = 0;
        while let Some(message) = self.sent.pop_front_if(|message| message.sequence <= sequence) {
            weight += message.weight();
            self.bytes = self.bytes.saturating_sub(message.weight());
            self.count -= message.entries.len();
            if entries.is_empty() {
                entries = message.entries;
            } else {
                entries.extend(message.entries);
            }
        }
        (entries, weight)
    }

    /// The link is gone: everything is sent again on the next one, where sequences begin anew.
    pub(crate) fn unsend(&mut self) {
        while let Some(message) = self.sent.pop_back() {
            if !mutant::on(Mutant::OutcomesDropped) {
                self.ready.push_front(message);
            }
        }
        self.next_sequence = 0;
    }

    /// Number and attempt of everything kept.
    pub(crate) fn kept(&self) -> impl Iterator<Item = (u64, Attempt)> {
        let packed = self.sent.iter().chain(&self.ready).flat_map(|message| &message.entries);
        packed
            .map(|e| (e.number, e.attempt))
            .chain(self.fresh.iter().map(|f| (f.number, f.attempt)))
    }

    pub(crate) fn sanity_check(&self) {
        assert_eq!(self.kept().count(), self.count, "count of unacked outcomes");
        let packed: u64 = self.sent.iter().chain(&self.ready).map(Results::weight).sum();
        let fresh: u64 = self.fresh.iter().map(Finished::weight).sum();
        assert_eq!(
            (packed + fresh, fresh),
            (self.bytes, self.fresh_bytes),
            "weight of unacked outcomes"
        );
    }
}
