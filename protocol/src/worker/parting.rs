//! How far a spooled output is that goes ahead of its outcome in PARTs.

use crate::ids::Attempt;
use crate::limits::{PART_BYTES, PART_LEAST};
use crate::wire::{Part, ResultEntry};

/// A piece of a spooled output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Whose output.
    pub number: u64,
    /// Of which attempt.
    pub attempt: Attempt,
    /// How many bytes come before.
    pub offset: u64,
    /// How many bytes it has.
    pub length: usize,
}

/// See the module.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Parting {
    /// Bytes that were sent on the current link.
    sent: u64,
    /// What is being read.
    asked: Option<Piece>,
}

impl Parting {
    /// Whether all of an output was sent.
    pub(super) fn is_done(&self, entry: ResultEntry) -> bool {
        self.sent >= u64::from(entry.output)
    }

    /// What to read next: at most so many bytes, if a part of this weight may be sent.
    pub(super) fn poll(&mut self, entry: ResultEntry, most: usize, room: u64) -> Option<Piece> {
        let rest = u64::from(entry.output) - self.sent;
        let room = room.saturating_sub(Part::default().weight());
        let wanted = rest.min(most as u64);
        let length = wanted.min(room);
        if self.asked.is_some() || length < wanted.min(PART_LEAST - Part::default().weight()) {
            return None;
        }
        self.asked = Some(Piece {
            number: entry.number,
            attempt: entry.attempt,
            offset: self.sent,
            length: usize::try_from(length).unwrap_or(PART_BYTES),
        });
        self.asked
    }

    /// A piece was read; nothing if another is asked for by now, or none.
    pub(super) fn take(&mut self, piece: Piece) -> Option<()> {
        self.asked.take_if(|asked| *asked == piece)?;
        self.sent = piece.offset + piece.length as u64;
        Some(())
    }
}
