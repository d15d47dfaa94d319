//! Which record of a segment settles which numbers, in memory: the index of the segment that is being written.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::frame::Placed;

/// Consecutive numbers that consecutive entries of one record settle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) placed: Placed,
    /// Where the record begins in its segment.
    pub(crate) offset: u64,
}

impl Run {
    pub(crate) fn number(&self) -> u64 {
        self.placed.number
    }

    pub(crate) fn end(&self) -> u64 {
        self.placed.end()
    }

    /// The part that settles numbers below this one.
    pub(crate) fn before(&self, number: u64) -> Option<Self> {
        let count = number
            .min(self.end())
            .checked_sub(self.number())
            .filter(|count| *count > 0)?;
        Some(Self {
            placed: Placed {
                count: narrow(count),
                ..self.placed
            },
            ..*self
        })
    }

    /// The part that settles numbers from this one on.
    pub(crate) fn from(&self, number: u64) -> Option<Self> {
        let skipped = number.saturating_sub(self.number());
        let count = u64::from(self.placed.count)
            .checked_sub(skipped)
            .filter(|count| *count > 0)?;
        let placed = Placed {
            number: self.number() + skipped,
            count: narrow(count),
            entry: self.placed.entry.saturating_add(narrow(skipped)),
        };
        Some(Self { placed, ..*self })
    }

    /// The entry that settles this number.
    pub(crate) fn entry(&self, number: u64) -> u32 {
        self.placed
            .entry
            .saturating_add(narrow(number.saturating_sub(self.number())))
    }
}

/// A part of a run's count, so that it always fits.
fn narrow(count: u64) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// The runs of one segment, by number, without overlap: where two records settle one number the later one counts.
#[derive(Clone, Debug, Default)]
pub(crate) struct RunIndex {
    runs: BTreeMap<u64, Run>,
}

impl RunIndex {
    /// Enters what a record settles.
    pub(crate) fn insert(&mut self, placed: &[Placed], offset: u64) {
        for placed in placed {
            self.enter(Run {
                placed: *placed,
                offset,
            });
        }
    }

    /// The index of many runs, in the order of their records. Sorting them is several times faster than entering them
    /// one by one, but cannot tell which of two counts, so that it is done only where none overlap.
    pub(crate) fn build(runs: Vec<Run>) -> Self {
        let mut sorted = runs.clone();
        sorted.sort_by_key(Run::number);
        if sorted.is_sorted_by(|run, next| run.end() <= next.number()) {
            return Self {
                runs: sorted.into_iter().map(|run| (run.number(), run)).collect(),
            };
        }
        let mut index = Self::default();
        for run in runs {
            index.enter(run);
        }
        index
    }

    fn enter(&mut self, run: Run) {
        self.make_room(run.number(), run.end());
        self.runs.insert(run.number(), run);
    }

    /// Takes these numbers out of the runs that hold them.
    fn make_room(&mut self, from: u64, to: u64) {
        while let Some((&start, &old)) = self.runs.range(..to).next_back().filter(|(_, old)| old.end() > from) {
            self.runs.remove(&start);
            if let Some(rest) = old.from(to) {
                self.runs.insert(rest.number(), rest);
            }
            if let Some(rest) = old.before(from) {
                self.runs.insert(rest.number(), rest);
            }
        }
    }

    /// Takes these numbers of the record at this offset out.
    pub(crate) fn remove(&mut self, offset: u64, numbers: &Range<u64>) {
        let held = self.from(numbers.start).take_while(|run| run.number() < numbers.end);
        let mine: Vec<Run> = held.filter(|run| run.offset == offset).collect();
        for run in mine {
            self.make_room(run.number().max(numbers.start), run.end().min(numbers.end));
        }
    }

    /// Takes out every run of which this says no.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(&Run) -> bool) {
        self.runs.retain(|_, run| keep(run));
    }

    /// The run that settles this number.
    pub(crate) fn find(&self, number: u64) -> Option<Run> {
        let (_, run) = self.runs.range(..=number).next_back()?;
        Some(*run).filter(|run| run.end() > number)
    }

    /// The runs that settle numbers from this one on, in order.
    pub(crate) fn from(&self, number: u64) -> impl Iterator<Item = Run> {
        let first = self.find(number).map_or(number, |run| run.number());
        self.runs.range(first..).map(|(_, run)| *run)
    }

    /// All runs, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Run> {
        self.runs.values().copied()
    }

    /// The lowest number and the one after the highest; nothing is below nothing.
    pub(crate) fn bounds(&self) -> (u64, u64) {
        let first = self.runs.first_key_value().map_or(u64::MAX, |(number, _)| *number);
        (first, self.runs.last_key_value().map_or(0, |(_, run)| run.end()))
    }

    pub(crate) fn len(&self) -> usize {
        self.runs.len()
    }
}
