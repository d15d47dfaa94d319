//! A set of task numbers that is dense from below.

use std::ops::RangeInclusive;
use std::{io, iter};

use roaring::{RoaringBitmap, RoaringTreemap};

use crate::wire::Span;

/// Task numbers, below `u64::MAX`. Tasks settle roughly in order, so all numbers below a low-water mark are one word,
/// and only those above it are kept in a bitmap: 10^9 numbers settled in order need no memory.
///
/// A span that does not reach down to the mark costs memory by its length (some 40 bytes per 65,536 numbers), so check
/// what a peer sends against N before inserting it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NumberSet {
    /// Every number below is in; this one is not.
    low: u64,
    /// The numbers above `low`.
    above: RoaringTreemap,
}

/// Why bytes are no number set.
#[derive(Debug, thiserror::Error)]
pub enum SetError {
    /// The bytes end early, or hold no valid bitmap.
    #[error("{found} bytes hold no number set (a u64, then a portable roaring treemap): {source}")]
    Bitmap {
        /// How many bytes were given.
        found: usize,
        /// What the bitmap's reader met.
        source: io::Error,
    },
    /// The bitmap holds numbers that belong below the low-water mark, or `u64::MAX`.
    #[error("the bitmap holds {found}; allowed are numbers above the low-water mark {low} and below u64::MAX")]
    OutOfBounds {
        /// The number found.
        found: u64,
        /// The low-water mark read.
        low: u64,
    },
    /// There are bytes behind the set.
    #[error("{found} bytes follow the number set; none may")]
    Trailing {
        /// How many.
        found: usize,
    },
}

impl NumberSet {
    /// An empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a number; true if it was not in. `u64::MAX` is no number and is never added.
    pub fn insert(&mut self, number: u64) -> bool {
        if number < self.low || number == u64::MAX {
            return false;
        }
        if number > self.low {
            return self.above.insert(number);
        }
        self.low += 1;
        self.absorb();
        true
    }

    /// Adds the numbers from `first` to `last`, both included; tells how many were not in.
    pub fn insert_span(&mut self, first: u64, last: u64) -> u64 {
        let first = first.max(self.low);
        let last = last.min(u64::MAX - 1);
        if first > last {
            return 0;
        }
        if first > self.low {
            return self.above.insert_range(first..=last);
        }
        let present = self.above.remove_range(first..=last);
        self.low = last + 1;
        self.absorb();
        last - first + 1 - present
    }

    /// Takes a number out; true if it was in.
    pub fn remove(&mut self, number: u64) -> bool {
        if number >= self.low {
            return self.above.remove(number);
        }
        self.above.insert_range(number + 1..self.low);
        self.low = number;
        true
    }

    /// Takes the numbers from `first` to `last` out, both included; tells how many were in.
    pub fn remove_span(&mut self, first: u64, last: u64) -> u64 {
        let last = last.min(u64::MAX - 1);
        if first > last {
            return 0;
        }
        let mut removed = self.above.remove_range(first..=last);
        if first < self.low {
            let kept = last.saturating_add(1).max(first);
            removed += self.low.min(kept) - first;
            if kept < self.low {
                self.above.insert_range(kept..self.low);
            }
            self.low = first;
        }
        removed
    }

    /// Whether a number is in.
    pub fn contains(&self, number: u64) -> bool {
        number < self.low || self.above.contains(number)
    }

    /// How many numbers are in.
    pub fn len(&self) -> u64 {
        self.low + self.above.len()
    }

    /// Whether no number is in.
    pub fn is_empty(&self) -> bool {
        self.low == 0 && self.above.is_empty()
    }

    /// The lowest number that is not in.
    pub fn low(&self) -> u64 {
        self.low
    }

    /// The numbers that are in, ascending, as the longest possible spans. Costs by spans, not by numbers.
    pub fn spans(&self) -> impl Iterator<Item = Span> {
        let below = self.low.checked_sub(1).map(|last| (0, last));
        below.into_iter().chain(runs(&self.above))
    }

    /// The numbers below `below` that are not in, ascending, as the longest possible spans. Found as they are asked
    /// for, so that the first few cost the same however many there are.
    pub fn missing_spans(&self, below: u64) -> impl Iterator<Item = Span> {
        let mut next = self.low;
        let mut runs = runs(&self.above);
        iter::from_fn(move || {
            if next >= below {
                return None;
            }
            // Neither the mark nor the number behind a run is in, so a gap is never empty.
            let (first, last) = runs.next().unwrap_or((below, below));
            let gap = (next, first.min(below) - 1);
            next = last.saturating_add(1);
            Some(gap)
        })
    }

    /// The numbers from `first` to `last` that are not in, ascending, as spans.
    pub fn missing_within(&self, first: u64, last: u64) -> impl Iterator<Item = Span> {
        let gaps = self
            .missing_spans(last.saturating_add(1))
            .skip_while(move |gap| gap.1 < first);
        gaps.map(move |gap| (gap.0.max(first), gap.1))
    }

    /// Writes the set: the low-water mark as a little-endian u64, then the bitmap in roaring's portable format.
    pub fn write_to(&self, mut out: impl io::Write) -> io::Result<()> {
        out.write_all(&self.low.to_le_bytes())?;
        self.above.serialize_into(out)
    }

    /// Reads what [`NumberSet::write_to`] wrote. Every byte must belong to the set, so the memory needed is bounded by
    /// what was given.
    pub fn read_from(bytes: &[u8]) -> Result<Self, SetError> {
        let damaged = |source| SetError::Bitmap {
            found: bytes.len(),
            source,
        };
        let mut rest = bytes;
        let mut low = [0; 8];
        io::Read::read_exact(&mut rest, &mut low).map_err(damaged)?;
        let low = u64::from_le_bytes(low);
        let above = RoaringTreemap::deserialize_from(&mut rest).map_err(damaged)?;
        if !rest.is_empty() {
            return Err(SetError::Trailing { found: rest.len() });
        }
        if let Some(found) = above.min().filter(|&found| found <= low) {
            return Err(SetError::OutOfBounds { found, low });
        }
        if above.contains(u64::MAX) {
            return Err(SetError::OutOfBounds { found: u64::MAX, low });
        }
        Ok(Self { low, above })
    }

    /// Moves what now touches the mark from the bitmap below it.
    fn absorb(&mut self) {
        if !self.above.contains(self.low) {
            return;
        }
        let Some((first, last)) = runs(&self.above).next() else {
            return;
        };
        if self.above.max() == Some(last) {
            // Dropping all is far cheaper than taking out container after container from the front.
            self.above = RoaringTreemap::new();
        } else {
            self.above.remove_range(first..=last);
        }
        self.low = last + 1;
    }
}

impl FromIterator<Span> for NumberSet {
    fn from_iter<T: IntoIterator<Item = Span>>(spans: T) -> Self {
        let mut set = Self::new();
        set.extend(spans);
        set
    }
}

impl Extend<Span> for NumberSet {
    fn extend<T: IntoIterator<Item = Span>>(&mut self, spans: T) {
        for (first, last) in spans {
            self.insert_span(first, last);
        }
    }
}

/// The longest runs of consecutive numbers, ascending.
fn runs(numbers: &RoaringTreemap) -> impl Iterator<Item = Span> {
    let mut parts = numbers
        .bitmaps()
        .flat_map(|(high, bitmap)| bitmap_runs(high, bitmap))
        .peekable();
    iter::from_fn(move || {
        let (first, mut last) = parts.next()?;
        // A run may go on in the next bitmap, 2^32 numbers further.
        while let Some((_, further)) = parts.next_if(|&(start, _)| last.checked_add(1) == Some(start)) {
            last = further;
        }
        Some((first, last))
    })
}

/// The runs of one 32-bit bitmap of a treemap.
fn bitmap_runs(high: u32, bitmap: &RoaringBitmap) -> impl Iterator<Item = Span> {
    let mut numbers = bitmap.iter();
    let whole = move |low: u32| u64::from(high) << 32 | u64::from(low);
    iter::from_fn(move || numbers.next_range())
        .map(RangeInclusive::into_inner)
        .map(move |(first, last)| (whole(first), whole(last)))
}
