//! Chance, in streams of their own: what one concern draws never moves what another one draws.
//!
//! A run that is simplified must go on as before in all that was not taken away, or no failure could be made smaller.

use std::collections::BTreeMap;
use std::time::Duration;

use fastrand::Rng;

use crate::faults::Fault;

/// What something is drawn for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Concern {
    /// What a seed decides before the run begins.
    Settings,
    /// How long messages take from one process to another.
    Path(Place, Place),
    /// One strike of a fault, by its ordinal: when, where and how.
    Strike(Fault, u64),
    /// When a process starts again, and how it ends.
    Process(Place),
    /// What a process does by chance while it lives.
    Host(Place),
    /// Whether a process dies before its next action.
    Crash(Place),
    /// What the disk of the collector loses.
    Disk,
}

/// A process, by a number that stays the same when others are taken away.
pub type Place = u64;

impl Concern {
    /// Different for any two concerns.
    fn key(self) -> [u64; 3] {
        match self {
            Self::Settings => [0, 0, 0],
            Self::Path(from, to) => [1, from, to],
            Self::Strike(fault, ordinal) => [2, fault as u64, ordinal],
            Self::Process(place) => [3, place, 0],
            Self::Host(place) => [4, place, 0],
            Self::Disk => [5, 0, 0],
            Self::Crash(place) => [6, place, 0],
        }
    }
}

/// All streams of a run.
#[derive(Debug)]
pub struct Dice {
    seed: u64,
    streams: BTreeMap<Concern, Rng>,
}

impl Dice {
    /// The dice of a seed.
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            streams: BTreeMap::new(),
        }
    }

    /// The stream of a concern from its beginning.
    pub fn fresh(&self, concern: Concern) -> Rng {
        let mixed = concern
            .key()
            .into_iter()
            .fold(self.seed, |sum, word| mix(sum ^ mix(word)));
        Rng::with_seed(mixed)
    }

    /// The stream of a concern, as far as it has been drawn from.
    pub fn of(&mut self, concern: Concern) -> &mut Rng {
        let fresh = self.fresh(concern);
        self.streams.entry(concern).or_insert(fresh)
    }
}

/// The finalizer of `SplitMix64`: neighbours come out far apart.
fn mix(word: u64) -> u64 {
    let word = word.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    word ^ (word >> 31)
}

/// A time between two, each as likely.
pub fn evenly(random: &mut Rng, least: Duration, most: Duration) -> Duration {
    least + most.saturating_sub(least).mul_f64(random.f64())
}

/// A time between two, short ones as likely as long ones: even on a logarithmic scale.
pub fn broadly(random: &mut Rng, least: Duration, most: Duration) -> Duration {
    let (low, high) = (least.as_secs_f64().ln(), most.as_secs_f64().ln());
    Duration::from_secs_f64((low + (high - low) * random.f64()).exp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_concern_draws_does_not_move_another() {
        let (mut one, mut other) = (Dice::new(7), Dice::new(7));
        for _ in 0..100 {
            one.of(Concern::Host(1)).u64(..);
        }
        assert_eq!(one.of(Concern::Host(2)).u64(..), other.of(Concern::Host(2)).u64(..));
        assert_ne!(
            other.of(Concern::Host(1)).u64(..),
            other.of(Concern::Process(1)).u64(..)
        );
    }
}
