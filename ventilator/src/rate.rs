//! How fast a batch goes.

use std::time::Instant;

/// Weight of the newest second in the rate.
const SMOOTHING: f64 = 0.3;

/// Tasks settled per second, smoothed.
#[derive(Clone, Debug)]
pub struct Rate {
    since: Instant,
    done: Option<u64>,
    smoothed: Option<f64>,
}

impl Rate {
    /// No rate yet.
    pub fn new(now: Instant) -> Self {
        Self {
            since: now,
            done: None,
            smoothed: None,
        }
    }

    /// Tasks per second; 0 until it is known.
    pub fn per_second(&self) -> f64 {
        self.smoothed.unwrap_or(0.0)
    }

    /// So many tasks are settled now. To be called as often as one likes.
    pub fn update(&mut self, now: Instant, done: u64) {
        let elapsed = now.saturating_duration_since(self.since).as_secs_f64();
        match self.done {
            // What earlier runs recorded says nothing about the speed of this one.
            None => (self.since, self.done) = (now, Some(done)),
            Some(before) if elapsed >= 1.0 || self.smoothed.is_none() && elapsed >= 0.2 => {
                #[allow(clippy::cast_precision_loss)] // an estimate
                let newest = done.saturating_sub(before) as f64 / elapsed;
                let weight = self.smoothed.map_or(1.0, |_| SMOOTHING);
                self.smoothed = Some(self.smoothed.unwrap_or(0.0) * (1.0 - weight) + newest * weight);
                (self.since, self.done) = (now, Some(done));
            }
            Some(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_rate_leaves_out_what_earlier_runs_recorded() {
        let mut now = Instant::now();
        let mut rate = Rate::new(now);
        for done in [1_000, 1_010, 1_020, 1_030] {
            rate.update(now, done);
            now += Duration::from_secs(1);
        }
        assert!((rate.per_second() - 10.0).abs() < 0.01, "{}", rate.per_second());
    }

    #[test]
    fn the_rate_follows_a_change_smoothly() {
        let mut now = Instant::now();
        let mut rate = Rate::new(now);
        let mut done = 0;
        let mut run = |seconds: u32, each: u64| {
            for _ in 0..seconds {
                rate.update(now, done);
                (now, done) = (now + Duration::from_secs(1), done + each);
            }
            rate.per_second()
        };
        assert!((run(5, 100) - 100.0).abs() < 0.01);
        let soon = run(3, 0);
        assert!(soon > 20.0 && soon < 100.0, "{soon}");
        assert!(run(30, 0) < 1.0);
    }
}
