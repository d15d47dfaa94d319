//! The clock of one process: it runs at its own rate, from a beginning of its own.

use std::time::{Duration, Instant};

/// Parts of a rate of 1.
pub const RATE: u32 = 1_000_000;

/// See the module.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    began: Instant,
    /// How much it counts while the world counts [`RATE`].
    rate: u32,
}

impl Clock {
    /// Shows `began` at the beginning of the world.
    pub fn new(began: Instant, rate: u32) -> Self {
        Self { began, rate }
    }

    /// What it shows at a time of the world.
    pub fn shows(&self, at: Duration) -> Instant {
        self.began + scaled(at, self.rate, RATE, 0)
    }

    /// The first time of the world at which it shows this.
    pub fn time_of(&self, shown: Instant) -> Duration {
        scaled(
            shown.saturating_duration_since(self.began),
            RATE,
            self.rate,
            u128::from(self.rate) - 1,
        )
    }
}

fn scaled(time: Duration, by: u32, over: u32, round: u128) -> Duration {
    let nanos = (time.as_nanos() * u128::from(by) + round) / u128::from(over);
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timer_is_never_early_and_at_most_a_moment_late() {
        for rate in [950_000, RATE, 1_049_999] {
            let clock = Clock::new(Instant::now(), rate);
            for nanos in [0, 1, 999, 1_000_000_007, 86_400_000_000_001] {
                let shown = clock.began + Duration::from_nanos(nanos);
                let at = clock.time_of(shown);
                assert!(clock.shows(at) >= shown, "{rate} {nanos}");
                assert!(clock.shows(at) - shown < Duration::from_nanos(2), "{rate} {nanos}");
            }
        }
    }
}
