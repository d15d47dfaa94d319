//! The oracle: what each task of a batch is given, takes, answers and breaks, as a function of a seed and its number.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use fastrand::Rng;
use harmony_protocol::ids::{Attempt, BatchUid};
use harmony_protocol::limits::{MAX_PAYLOAD, RETRY_FIRST, RETRY_MOST};
use uuid::Uuid;

/// What a number does when it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nature {
    /// Succeeds.
    Good,
    /// Fails up to and with this attempt, then succeeds.
    Flaky(Attempt),
    /// Fails always.
    Bad,
    /// Ends the process of its worker.
    Poison,
    /// Its payload is larger than a worker takes.
    TooLarge,
}

/// How many numbers of a batch have which nature, out of 1,000.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mix {
    /// See [`Nature::Flaky`].
    pub flaky: u32,
    /// See [`Nature::Bad`].
    pub bad: u32,
    /// See [`Nature::Poison`].
    pub poison: u32,
    /// See [`Nature::TooLarge`]; at most one number of a batch, since it costs memory.
    pub too_large: u32,
}

/// The tasks of one batch.
#[derive(Clone, Debug)]
pub struct Tasks {
    /// The batch.
    pub uid: BatchUid,
    /// Its name.
    pub name: String,
    /// N.
    pub completions: u64,
    /// A number fails when attempt `backoff_limit + 1` is charged.
    pub backoff_limit: u32,
    /// The batch ends early when more numbers have failed.
    pub max_failed: Option<u64>,
    /// What the numbers do.
    pub mix: Mix,
    /// What some numbers do, whatever the mix says.
    pub natures: BTreeMap<u64, Nature>,
    /// The usual time of a task.
    pub duration: Duration,
    /// The usual length of payloads and outputs, in bytes.
    pub length: usize,
    /// From this everything else follows.
    pub seed: u64,
}

impl Tasks {
    /// A batch of good tasks of 10 ms.
    pub fn new(index: u64, completions: u64, seed: u64) -> Self {
        Self {
            uid: BatchUid(Uuid::from_u128(0xBA7C_0000 + u128::from(index))),
            name: format!("batch-{index}"),
            completions,
            backoff_limit: 3,
            max_failed: None,
            mix: Mix::default(),
            natures: BTreeMap::new(),
            duration: Duration::from_millis(10),
            length: 64,
            seed,
        }
    }

    fn random(&self, number: u64, salt: u64) -> Rng {
        Rng::with_seed(
            self.seed ^ number.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ salt.wrapping_mul(0xD1B5_4A32_D192_ED03),
        )
    }

    /// What a number does when it runs.
    pub fn nature(&self, number: u64) -> Nature {
        if let Some(nature) = self.natures.get(&number) {
            return *nature;
        }
        let mut random = self.random(number, 1);
        let draw = random.u32(0..1000);
        let Mix {
            flaky,
            bad,
            poison,
            too_large,
        } = self.mix;
        if too_large > 0 && number == self.seed % self.completions.max(1) {
            Nature::TooLarge
        } else if draw < flaky {
            Nature::Flaky(random.u32(1..=3))
        } else if draw < flaky + bad {
            Nature::Bad
        } else if draw < flaky + bad + poison {
            Nature::Poison
        } else {
            Nature::Good
        }
    }

    /// Whether an attempt succeeds.
    pub fn succeeds(&self, number: u64, attempt: Attempt) -> bool {
        match self.nature(number) {
            Nature::Good => true,
            Nature::Flaky(until) => attempt > until,
            Nature::Bad | Nature::Poison | Nature::TooLarge => false,
        }
    }

    /// The payload of a number.
    pub fn payload(&self, number: u64) -> Vec<u8> {
        if self.nature(number) == Nature::TooLarge {
            return vec![0; usize::try_from(MAX_PAYLOAD).expect("a payload fits into memory") + 1];
        }
        self.bytes(number, 2)
    }

    /// What a number answers.
    pub fn output(&self, number: u64) -> Bytes {
        self.bytes(number, 3).into()
    }

    /// A fifth is empty, a few are long.
    fn bytes(&self, number: u64, salt: u64) -> Vec<u8> {
        let mut random = self.random(number, salt);
        let length = match random.u32(0..100) {
            0..20 => 0,
            20..97 => random.usize(0..=self.length),
            _ => random.usize(0..=self.length * 20),
        };
        let word = random.u64(..).to_le_bytes();
        word.iter().cycle().take(length).copied().collect()
    }

    /// How long an attempt takes: mostly about the usual time, sometimes almost none, sometimes much longer.
    pub fn duration(&self, number: u64, attempt: Attempt) -> Duration {
        let mut random = self.random(number, 100 + u64::from(attempt));
        let factor = match random.u32(0..100) {
            0..10 => 0.01,
            10..97 => 0.5 + random.f64(),
            _ => 5.0 + random.f64() * 45.0,
        };
        self.duration
            .mul_f64(factor)
            .clamp(Duration::from_micros(1), Duration::from_secs(5))
    }

    /// The time of all attempts that the numbers need, one after the other, with the delays between them.
    pub fn work(&self) -> Duration {
        let numbers = (0..self.completions).map(|number| {
            let attempts = (1..=self.backoff_limit + 1).map(|attempt| (attempt, self.duration(number, attempt)));
            let failed = attempts
                .clone()
                .filter(|(attempt, _)| !self.succeeds(number, *attempt))
                .count();
            let delays = (RETRY_FIRST * (1 << failed)).min(RETRY_MOST);
            attempts.take(failed + 1).map(|(_, time)| time).sum::<Duration>()
                + if failed > 0 { delays } else { Duration::ZERO }
        });
        numbers.sum()
    }
}
