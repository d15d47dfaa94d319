//! The oracle: what each task of a batch is given, takes, answers and breaks, as a function of a seed and its number.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use fastrand::Rng;
use harmony_protocol::ids::{Attempt, BatchUid};
use harmony_protocol::limits::{RETRY_FIRST, RETRY_MOST};
use harmony_protocol::ventilator::Cut;
use harmony_protocol::wire::OutcomeCode;
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
    /// Succeeds or fails as it happens, each time it runs.
    Moody,
    /// Its payload is larger than a worker takes.
    TooLarge,
    /// Succeeds after a hundred times the usual time.
    Slow,
    /// Succeeds, and answers other bytes at each run.
    Varying,
    /// Succeeds with the longest answer that is allowed.
    Huge,
    /// Answers more than is allowed: fails always.
    Oversized,
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
    /// See [`Nature::Moody`].
    pub moody: u32,
    /// See [`Nature::Slow`].
    pub slow: u32,
    /// See [`Nature::Varying`].
    pub varying: u32,
    /// See [`Nature::Huge`].
    pub huge: u32,
    /// See [`Nature::Oversized`].
    pub oversized: u32,
    /// See [`Nature::TooLarge`]; at most one number of a batch.
    pub too_large: u32,
}

/// The longest time of a task.
const USUAL_MOST: Duration = Duration::from_secs(5);
/// The longest time of a slow one.
const SLOW_MOST: Duration = Duration::from_secs(30);

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
    /// The longest answer that is allowed, in bytes.
    pub largest: usize,
    /// Payloads that are longer than usual go in parts.
    pub parts: bool,
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
            largest: 1 << 20,
            parts: false,
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
            moody,
            slow,
            varying,
            huge,
            oversized,
            too_large,
        } = self.mix;
        let rest = [
            (flaky, Nature::Flaky(random.u32(1..=3))),
            (bad, Nature::Bad),
            (poison, Nature::Poison),
            (moody, Nature::Moody),
            (slow, Nature::Slow),
            (varying, Nature::Varying),
            (huge, Nature::Huge),
            (oversized, Nature::Oversized),
        ];
        let mut below = 0;
        if too_large > 0 && number == self.seed % self.completions.max(1) {
            return Nature::TooLarge;
        }
        let drawn = rest.into_iter().find(|(share, _)| {
            below += share;
            draw < below
        });
        drawn.map_or(Nature::Good, |(_, nature)| nature)
    }

    /// Whether an attempt succeeds, or can.
    pub fn succeeds(&self, number: u64, attempt: Attempt) -> bool {
        match self.nature(number) {
            Nature::Good | Nature::Moody | Nature::Slow | Nature::Varying | Nature::Huge => true,
            Nature::Flaky(until) => attempt > until,
            Nature::Bad | Nature::Poison | Nature::TooLarge | Nature::Oversized => false,
        }
    }

    /// Whether an attempt fails, or can.
    pub fn fails(&self, number: u64, attempt: Attempt) -> bool {
        self.nature(number) == Nature::Moody || !self.succeeds(number, attempt)
    }

    /// How an attempt fails that fails, and is not lost with its worker.
    pub fn failure(&self, number: u64) -> Option<OutcomeCode> {
        match self.nature(number) {
            Nature::Flaky(_) | Nature::Bad | Nature::Moody => Some(OutcomeCode::ExitCode),
            Nature::TooLarge => Some(OutcomeCode::PayloadTooLarge),
            Nature::Oversized => Some(OutcomeCode::ResultTooLarge),
            Nature::Good | Nature::Slow | Nature::Varying | Nature::Huge | Nature::Poison => None,
        }
    }

    /// How payloads are cut: the longest are twenty times as long as usual.
    pub fn cut(&self) -> Cut {
        if !self.parts {
            return Cut::default();
        }
        Cut {
            inline: 2 * self.length,
            part: self.length,
        }
    }

    /// The payload of a number. That of a [`Nature::TooLarge`] one is never read.
    pub fn payload(&self, number: u64) -> Vec<u8> {
        self.bytes(number, 2)
    }

    /// What a number answers; `run` is different for each run, and matters only if the answer varies.
    pub fn output(&self, number: u64, run: u64) -> Bytes {
        match self.nature(number) {
            Nature::Varying => [run.to_be_bytes().to_vec(), self.bytes(number, run)].concat().into(),
            Nature::Huge => vec![number.to_be_bytes()[7]; self.largest].into(),
            _ => self.bytes(number, 3).into(),
        }
    }

    /// Whether some run of a number answers this.
    pub fn answers(&self, number: u64, output: &[u8]) -> bool {
        let run = output.first_chunk().copied().map_or(0, u64::from_be_bytes);
        self.output(number, run) == output
    }

    /// A fifth is empty, a few are long.
    fn bytes(&self, number: u64, salt: u64) -> Vec<u8> {
        let mut random = self.random(number, salt);
        let length = match random.u32(0..100) {
            0..20 => 0,
            20..97 => random.usize(0..=self.length),
            _ => random.usize(0..=self.length * 20),
        };
        let length = length.min(self.largest - size_of::<u64>());
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
        let (factor, most) = match self.nature(number) {
            Nature::Slow => (100.0, SLOW_MOST),
            _ => (factor, USUAL_MOST),
        };
        self.duration.mul_f64(factor).clamp(Duration::from_micros(1), most)
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
