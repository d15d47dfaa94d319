//! A map from numbers to small values that stores runs of equal neighbours as one entry.
//!
//! Work left and work in flight are mostly long runs, so their cost follows the count of messages, not of tasks.

use std::collections::BTreeMap;

use crate::wire::Span;

/// Numbers with a value each, kept as runs.
#[derive(Clone, Debug)]
pub struct SpanMap<V> {
    /// First number of a run, to its last number and its value. Runs never overlap.
    runs: BTreeMap<u64, (u64, V)>,
    len: u64,
}

impl<V> Default for SpanMap<V> {
    fn default() -> Self {
        Self {
            runs: BTreeMap::new(),
            len: 0,
        }
    }
}

/// A run of consecutive numbers with one value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run<V> {
    /// The first number.
    pub first: u64,
    /// The last number.
    pub last: u64,
    /// Their value.
    pub value: V,
}

impl<V> Run<V> {
    /// How many numbers there are in the run.
    pub fn count(&self) -> u64 {
        self.last - self.first + 1
    }
}

impl<V: Copy + PartialEq> SpanMap<V> {
    /// How many numbers have a value.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether no number has a value.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Gives all numbers of a span this value, whatever they had before.
    pub fn insert(&mut self, (mut first, mut last): Span, value: V) {
        self.remove((first, last));
        self.len += last - first + 1;
        if let Some((&before, &(end, v))) = self.runs.range(..first).next_back()
            && end.checked_add(1) == Some(first)
            && v == value
        {
            first = before;
        }
        if let Some(after) = last.checked_add(1)
            && let Some(&(end, v)) = self.runs.get(&after)
            && v == value
        {
            self.runs.remove(&after);
            last = end;
        }
        self.runs.insert(first, (last, value));
    }

    /// Takes all values in a span out and returns them as runs, ascending.
    pub fn remove(&mut self, (first, last): Span) -> Vec<Run<V>> {
        let mut taken = Vec::new();
        if let Some((&begin, &(end, value))) = self.runs.range(..first).next_back()
            && end >= first
        {
            self.runs.insert(begin, (first - 1, value));
            if end > last {
                self.runs.insert(last + 1, (end, value));
            }
            taken.push(Run {
                first,
                last: end.min(last),
                value,
            });
        }
        while let Some((&begin, &(end, value))) = self.runs.range(first..=last).next() {
            self.runs.remove(&begin);
            if end > last {
                self.runs.insert(last + 1, (end, value));
            }
            taken.push(Run {
                first: begin,
                last: end.min(last),
                value,
            });
        }
        self.len -= taken.iter().map(Run::count).sum::<u64>();
        taken
    }

    /// The value of one number.
    pub fn value(&self, number: u64) -> Option<V> {
        let (_, &(last, value)) = self.runs.range(..=number).next_back()?;
        (last >= number).then_some(value)
    }

    /// Takes up to `most` numbers of one value from the lowest run whose value passes the test.
    pub fn pop_first(&mut self, most: u64, mut test: impl FnMut(V) -> bool) -> Option<Run<V>> {
        let (&first, &(end, value)) = self.runs.iter().find(|(_, (_, value))| test(*value))?;
        let last = end.min(first.saturating_add(most.max(1) - 1));
        self.runs.remove(&first);
        if end > last {
            self.runs.insert(last + 1, (end, value));
        }
        self.len -= last - first + 1;
        Some(Run { first, last, value })
    }

    /// All runs, ascending.
    pub fn iter(&self) -> impl Iterator<Item = Run<V>> {
        self.runs
            .iter()
            .map(|(&first, &(last, value))| Run { first, last, value })
    }

    /// The runs within a span, cut to it, ascending.
    pub fn within(&self, (first, last): Span) -> impl Iterator<Item = Run<V>> {
        let before = self
            .runs
            .range(..first)
            .next_back()
            .filter(move |(_, (end, _))| *end >= first);
        before
            .into_iter()
            .chain(self.runs.range(first..=last))
            .map(move |(&begin, &(end, value))| Run {
                first: begin.max(first),
                last: end.min(last),
                value,
            })
    }

    /// The highest number with a value.
    pub fn highest(&self) -> Option<u64> {
        self.runs.values().next_back().map(|(last, _)| *last)
    }

    /// Takes everything out.
    pub fn clear(&mut self) {
        self.runs.clear();
        self.len = 0;
    }

    /// The parts of a span that have no value, ascending.
    pub fn gaps(&self, (first, last): Span) -> Vec<Span> {
        let mut gaps = Vec::new();
        let mut next = first;
        for run in self.within((first, last)) {
            if run.first > next {
                gaps.push((next, run.first - 1));
            }
            match run.last.checked_add(1) {
                Some(after) => next = after,
                None => return gaps,
            }
        }
        if next <= last {
            gaps.push((next, last));
        }
        gaps
    }

    /// Checks all invariants, for tests.
    ///
    /// # Panics
    /// If runs overlap, are empty, or do not add up.
    pub fn sanity_check(&self) {
        let mut sum = 0;
        let mut end = None;
        for run in self.iter() {
            assert!(run.first <= run.last, "empty run");
            assert!(end.is_none_or(|end| run.first > end), "runs overlap");
            end = Some(run.last);
            sum += run.count();
        }
        assert_eq!(sum, self.len, "length");
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn behaves_as_a_map_from_number_to_value(steps in prop::collection::vec((0_u8..3, 0_u64..60, 0_u64..12, 0_u8..3), 1..60)) {
            let mut map = SpanMap::default();
            let mut model = BTreeMap::new();
            for (what, first, more, value) in steps {
                let last = first + more;
                match what {
                    0 => {
                        map.insert((first, last), value);
                        model.extend((first..=last).map(|n| (n, value)));
                    }
                    1 => {
                        let taken: Vec<_> = map.remove((first, last)).into_iter()
                            .flat_map(|r| (r.first..=r.last).map(move |n| (n, r.value))).collect();
                        let expected: Vec<_> = model.range(first..=last).map(|(n, v)| (*n, *v)).collect();
                        prop_assert_eq!(taken, expected);
                        model.retain(|n, _| !(first..=last).contains(n));
                    }
                    _ => {
                        let run = map.pop_first(more, |v| v == value);
                        prop_assert_eq!(run.map(|r| r.first), model.iter().find(|(_, v)| **v == value).map(|(n, _)| *n));
                        if let Some(run) = run {
                            model.retain(|n, _| !(run.first..=run.last).contains(n));
                        }
                    }
                }
                map.sanity_check();
                let all: Vec<_> = map.iter().flat_map(|r| (r.first..=r.last).map(move |n| (n, r.value))).collect();
                prop_assert_eq!(all, model.iter().map(|(n, v)| (*n, *v)).collect::<Vec<_>>());
                for n in 0..75 {
                    prop_assert_eq!(map.value(n), model.get(&n).copied());
                }
                let gaps: Vec<u64> = map.gaps((5, 40)).into_iter().flat_map(|(a, b)| a..=b).collect();
                prop_assert_eq!(gaps, (5..=40).filter(|n| !model.contains_key(n)).collect::<Vec<_>>());
            }
        }
    }
}
