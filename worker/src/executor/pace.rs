//! How many tasks may be taken at once, from how long they take.

use std::time::Duration;

/// Tasks taken ahead at most, per slot.
pub(super) const AHEAD_MOST: usize = 512;

/// The mean time per task, and the share of work that follows from it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// The work to have ahead, as time.
    target: Duration,
    most: usize,
    nanos_per_task: u64,
    share: usize,
}

impl Pace {
    /// Begins with one task: nothing is known yet.
    pub(super) fn new(target: Duration, most: usize) -> Self {
        Self {
            target,
            most,
            nanos_per_task: 0,
            share: 1,
        }
    }

    /// How many tasks to take.
    pub(super) fn share(&self) -> usize {
        self.share
    }

    /// `count` tasks took this long together. The share grows to its double at most, and shrinks at once.
    pub(super) fn observe(&mut self, count: usize, took: Duration) {
        let per_task = nanos(took) / count.max(1) as u64;
        self.nanos_per_task = match self.nanos_per_task {
            0 => per_task,
            mean => (3 * mean + per_task) / 4,
        };
        let fits = usize::try_from(nanos(self.target) / self.nanos_per_task.max(1)).unwrap_or(usize::MAX);
        self.share = fits.clamp(1, self.most.min(2 * self.share));
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos())
        .unwrap_or(u64::MAX / 4)
        .min(u64::MAX / 4)
}
