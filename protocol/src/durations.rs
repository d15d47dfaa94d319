//! How long things took, counted by size.

use std::time::Duration;

use serde::Serialize;

/// Upper bounds of the buckets in microseconds, from 1 ms to 6 hours; what is above falls into one more. Few, since each
/// batch has them all, and close where most tasks are.
pub const DURATION_BOUNDS: [u64; 16] = [
    1_000,
    2_500,
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    1_000_000,
    2_500_000,
    10_000_000,
    60_000_000,
    300_000_000,
    1_200_000_000,
    3_600_000_000,
    21_600_000_000,
];

/// Durations, as a histogram of fixed size.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Durations {
    /// How many fell into each bucket, and above the last bound.
    buckets: [u64; DURATION_BOUNDS.len() + 1],
    total_micros: u64,
}

impl Durations {
    /// Takes one in.
    pub fn add(&mut self, micros: u64) {
        // From below: where there are many in a second, they are short.
        let bucket = DURATION_BOUNDS.iter().position(|bound| micros <= *bound);
        let bucket = bucket.unwrap_or(DURATION_BOUNDS.len());
        if let Some(count) = self.buckets.get_mut(bucket) {
            *count += 1;
        }
        self.total_micros = self.total_micros.saturating_add(micros);
    }

    /// Takes in all that others are.
    pub fn merge(&mut self, others: &Self) {
        for (count, more) in self.buckets.iter_mut().zip(others.buckets) {
            *count += more;
        }
        self.total_micros = self.total_micros.saturating_add(others.total_micros);
    }

    /// Each bound in microseconds, and how many are at most as long.
    pub fn cumulative(&self) -> impl Iterator<Item = (u64, u64)> {
        let mut sum = 0;
        DURATION_BOUNDS.iter().zip(self.buckets).map(move |(bound, count)| {
            sum += count;
            (*bound, sum)
        })
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// All of them together, in microseconds.
    pub fn total_micros(&self) -> u64 {
        self.total_micros
    }
}

/// A duration in microseconds.
pub(crate) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_fall_into_the_bucket_whose_bound_they_do_not_pass() {
        let mut durations = Durations::default();
        for micros in [0, 1_000, 1_001, 21_600_000_000, u64::MAX / 2] {
            durations.add(micros);
        }
        let cumulative: Vec<_> = durations.cumulative().collect();
        assert_eq!(cumulative.first(), Some(&(1_000, 2)));
        assert_eq!(cumulative.get(1), Some(&(2_500, 3)));
        assert_eq!(cumulative.last(), Some(&(21_600_000_000, 4)));
        assert_eq!(durations.count(), 5, "one is above all bounds");
        durations.merge(&durations.clone());
        assert_eq!(durations.count(), 10);
        assert!(DURATION_BOUNDS.is_sorted());
    }
}
