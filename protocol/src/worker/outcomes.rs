//! Outcomes of one batch on their way to the collector: kept until acked, whatever happens to the link.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

use super::Finished;
use super::parting::{Parting, Piece};
use crate::ids::Attempt;
use crate::limits::{
    INLINE_BYTES, PARTS_UNDER_WAY, RESULTS_BYTES, RESULTS_PER_MESSAGE, SPOOLED_BYTES, SPOOLED_TASKS, UNACKED_BYTES,
    UNACKED_TASKS,
};
use crate::mutant::{self, Mutant};
use crate::wire::{Message, OutcomeCode, Part, RESULT_BYTES, ResultEntry, Results};

/// The time between two messages that are not full: the outcomes of short tasks gather in it, so that however many end,
/// no more than two hundred messages a second are less than full. One that comes after a pause goes at once.
const GATHER: Duration = Duration::from_millis(5);

/// What is under way on the current link.
#[derive(Clone, Debug)]
struct Sent {
    sequence: u64,
    weight: u64,
    /// RESULTS, which are kept until they are acked; a PART can be read again.
    kept: Option<Message>,
}

impl Sent {
    fn results(&self) -> Option<&Results> {
        match &self.kept {
            Some(Message::Results(results)) => Some(results),
            _ => None,
        }
    }

    fn into_results(self) -> Option<Results> {
        match self.kept {
            Some(Message::Results(results)) => Some(results),
            _ => None,
        }
    }
}

/// What goes next.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Next<'a> {
    /// A message of this weight. It is kept, so that nothing of it need be copied.
    Send(&'a Message, u64),
    /// A piece of a spooled output is to be read, and sent with [`Outcomes::part`].
    Read(Piece),
}

/// Unacked outcomes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcomes {
    /// The message that is being filled, its bytes, and since when it is not empty.
    fresh: Vec<ResultEntry>,
    fresh_bytes: BytesMut,
    fresh_since: Option<Instant>,
    /// Entries and bytes of the message that was closed last.
    last_closed: (usize, usize),
    /// Whole messages not yet sent on the current link, oldest first.
    ready: VecDeque<Results>,
    /// How far the output is that the first of them is about, if that is spooled.
    parting: Parting,
    /// Messages sent on the current link and not acked, oldest first.
    sent: VecDeque<Sent>,
    /// Weight of the PARTs among them.
    parts_under_way: u64,
    next_sequence: u64,
    /// When outcomes were last sent.
    sent_at: Option<Instant>,
    /// Weight and count of everything kept.
    bytes: u64,
    count: usize,
    /// Bytes and count of what is spooled.
    spooled_bytes: u64,
    spooled: usize,
}

impl Outcomes {
    pub(crate) fn push(&mut self, now: Instant, finished: &Finished) {
        let Finished {
            output, log, spooled, ..
        } = finished;
        self.bytes += finished.weight();
        self.count += 1;
        if let Some(spooled) = spooled {
            self.spooled += 1;
            self.spooled_bytes += u64::from(spooled.length);
        }
        // What goes ahead in parts goes alone: its outcome closes it.
        if self.fresh_bytes.len() + output.len() + log.len() > RESULTS_BYTES || spooled.is_some() {
            self.close();
        }
        if self.fresh.is_empty() {
            // The next message will be about as long as the last one.
            let (entries, bytes) = self.last_closed;
            self.fresh.reserve(entries);
            self.fresh_bytes.reserve(bytes);
            self.fresh_since = Some(now);
        }
        self.fresh.push(finished.entry());
        self.fresh_bytes.extend_from_slice(output);
        self.fresh_bytes.extend_from_slice(log);
        let full = self.fresh.len() >= RESULTS_PER_MESSAGE || self.fresh_bytes.len() >= RESULTS_BYTES;
        if full || spooled.is_some() {
            self.close();
        }
    }

    /// Ends the message that is being filled.
    fn close(&mut self) {
        if self.fresh.is_empty() {
            return;
        }
        self.last_closed = (self.fresh.len(), self.fresh_bytes.len());
        self.fresh_since = None;
        let message = Results {
            sequence: 0,
            entries: std::mem::take(&mut self.fresh),
            bytes: std::mem::take(&mut self.fresh_bytes).freeze(),
        };
        self.ready.push_back(message);
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
        let inline = largest.min(INLINE_BYTES as u64);
        let memory = self.count < UNACKED_TASKS && self.bytes.saturating_add(inline) <= UNACKED_BYTES;
        let room = self.spooled_bytes.saturating_add(largest) <= SPOOLED_BYTES;
        let disk = self.spooled == 0 || (self.spooled < SPOOLED_TASKS && room);
        self.count == 0 || (memory && disk)
    }

    /// What goes next and fits into `allowance` bytes. Small outcomes gather; a spooled output
    /// goes ahead of its outcome.
    pub(crate) fn poll(&mut self, now: Instant, part_bytes: usize, allowance: u64) -> Option<Next<'_>> {
        if self.timeout().is_some_and(|at| now >= at) {
            self.close();
        }
        let front = self.ready.front()?;
        if let Some(entry) = spooled_of(front)
            && !self.parting.is_done(entry)
        {
            let room = allowance.min(PARTS_UNDER_WAY.saturating_sub(self.parts_under_way));
            return self.parting.poll(entry, part_bytes, room).map(Next::Read);
        }
        if front.weight() > allowance {
            return None;
        }
        let mut message = self.ready.pop_front()?;
        self.parting = Parting::default();
        self.sent_at = Some(now);
        self.next_sequence += 1;
        message.sequence = self.next_sequence;
        let weight = message.weight();
        let sent = self.sent.push_back_mut(Sent {
            sequence: self.next_sequence,
            weight,
            kept: Some(Message::Results(message)),
        });
        sent.kept.as_ref().map(|message| Next::Send(message, weight))
    }

    /// A piece was read. The PART to be sent, unless it is not asked for any more.
    pub(crate) fn part(&mut self, piece: Piece, bytes: Bytes) -> Option<Part> {
        self.parting.take(piece)?;
        self.next_sequence += 1;
        let part = Part {
            stamp: self.next_sequence,
            number: piece.number,
            attempt: piece.attempt,
            offset: piece.offset,
            bytes,
        };
        self.parts_under_way += part.weight();
        self.sent.push_back(Sent {
            sequence: part.stamp,
            weight: part.weight(),
            kept: None,
        });
        Some(part)
    }

    /// A piece cannot be read: its outcome is lost, and a failure goes in its place. False if it is not asked for any more.
    pub(crate) fn give_up(&mut self, piece: Piece, reason: &str) -> bool {
        if self.parting.take(piece).is_none() {
            return false;
        }
        self.parting = Parting::default();
        let Some(message) = self.ready.front_mut() else {
            return false;
        };
        let before = message.weight();
        for entry in &mut message.entries {
            self.spooled -= 1;
            self.spooled_bytes -= u64::from(entry.output);
            *entry = ResultEntry {
                outcome: OutcomeCode::ExecutorError,
                output: 0,
                log: u32::try_from(reason.len()).unwrap_or(0),
                parted: None,
                ..*entry
            };
        }
        message.bytes = Bytes::copy_from_slice(reason.as_bytes());
        self.bytes = self.bytes.saturating_add(message.weight()).saturating_sub(before);
        true
    }

    /// When outcomes have gathered for long enough. Whole messages go first.
    pub(crate) fn timeout(&self) -> Option<Instant> {
        let since = self.fresh_since.filter(|_| self.ready.is_empty())?;
        Some(self.sent_at.map_or(since, |sent| since.max(sent + GATHER)))
    }

    /// The weight of the message that waits for allowance.
    pub(crate) fn blocked(&self) -> Option<u64> {
        // Parts are cut to what there is room for.
        let front = self.ready.front()?;
        let parting = spooled_of(front).is_some_and(|entry| !self.parting.is_done(entry));
        (!parting).then(|| front.weight())
    }

    /// The weight of the messages sent on the current link and not acked.
    pub(crate) fn under_way(&self) -> u64 {
        self.sent.iter().map(|sent| sent.weight).sum()
    }

    /// ACK: returns the messages that are disposed of, and their weight on the link.
    pub(crate) fn acked(&mut self, sequence: u64) -> (Vec<Results>, u64) {
        let mut messages = Vec::new();
        let mut weight = 0;
        while let Some(sent) = self.sent.pop_front_if(|sent| sent.sequence <= sequence) {
            let own = sent.weight;
            weight += own;
            let Some(message) = sent.into_results() else {
                self.parts_under_way -= own;
                continue;
            };
            if let Some(entry) = spooled_of(&message) {
                self.spooled -= 1;
                self.spooled_bytes -= u64::from(entry.output);
            }
            self.bytes = self.bytes.saturating_sub(own);
            self.count -= message.entries.len();
            messages.push(message);
        }
        (messages, weight)
    }

    /// The link is gone: everything is sent again on the next one, where sequences begin anew.
    pub(crate) fn unsend(&mut self) {
        self.parting = Parting::default();
        self.parts_under_way = 0;
        while let Some(sent) = self.sent.pop_back() {
            let Some(message) = sent.into_results() else { continue };
            if !mutant::on(Mutant::OutcomesDropped) {
                self.ready.push_front(message);
            }
        }
        self.next_sequence = 0;
    }

    /// Number and attempt of everything kept.
    pub(crate) fn kept(&self) -> impl Iterator<Item = (u64, Attempt)> {
        let packed = self.packed().flat_map(|message| &message.entries);
        packed
            .map(|e| (e.number, e.attempt))
            .chain(self.fresh.iter().map(|e| (e.number, e.attempt)))
    }

    fn packed(&self) -> impl Iterator<Item = &Results> {
        self.sent.iter().filter_map(Sent::results).chain(&self.ready)
    }

    pub(crate) fn sanity_check(&self) {
        assert_eq!(self.kept().count(), self.count, "count of unacked outcomes");
        let packed: u64 = self.packed().map(Results::weight).sum();
        let fresh = (self.fresh_bytes.len() + self.fresh.len() * RESULT_BYTES) as u64;
        assert_eq!(packed + fresh, self.bytes, "weight of unacked outcomes");
        assert_eq!(
            self.fresh.is_empty(),
            self.fresh_since.is_none(),
            "since when it is filled"
        );
        let spooled: Vec<u64> = self
            .packed()
            .filter_map(|message| Some(u64::from(spooled_of(message)?.output)))
            .collect();
        assert_eq!(
            (spooled.len(), spooled.iter().sum()),
            (self.spooled, self.spooled_bytes),
            "spooled outputs"
        );
        let results: u64 = self.sent.iter().filter_map(Sent::results).map(Results::weight).sum();
        assert_eq!(self.under_way() - results, self.parts_under_way, "weight of parts");
    }
}

/// The outcome in a message whose output is spooled; such a message has no other.
fn spooled_of(message: &Results) -> Option<ResultEntry> {
    message.entries.first().copied().filter(|entry| entry.parted.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finished(number: u64) -> Finished {
        Finished {
            number,
            attempt: 1,
            outcome: OutcomeCode::Succeeded,
            code: 0,
            start_micros: 0,
            duration_micros: 0,
            output: Bytes::new(),
            log: Bytes::new(),
            spooled: None,
        }
    }

    fn sent(outcomes: &mut Outcomes, now: Instant) -> Option<usize> {
        match outcomes.poll(now, 1, u64::MAX)? {
            Next::Send(Message::Results(results), _) => Some(results.entries.len()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_outcome_goes_at_once_after_a_pause_and_gathers_company_else() {
        let mut now = Instant::now();
        let mut outcomes = Outcomes::default();
        outcomes.push(now, &finished(0));
        assert_eq!(sent(&mut outcomes, now), Some(1), "nothing was sent before");
        outcomes.acked(1);
        for number in 1..4 {
            now += GATHER / 8;
            outcomes.push(now, &finished(number));
            assert_eq!(sent(&mut outcomes, now), None, "one was sent just now");
        }
        now = outcomes.timeout().unwrap();
        assert_eq!(sent(&mut outcomes, now), Some(3));
        now += GATHER;
        outcomes.push(now, &finished(4));
        assert_eq!(sent(&mut outcomes, now), Some(1), "the last one was sent long ago");
        outcomes.sanity_check();
    }
}
