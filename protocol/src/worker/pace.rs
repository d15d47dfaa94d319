//! How far ahead a worker asks for work, from the speed it has seen: enough to hide a round trip, no more.

use std::time::{Duration, Instant};

use crate::limits::{CREDIT_AHEAD, QUEUE_TASKS};

/// Time over which completions are counted before the pace is judged anew.
const WINDOW: Duration = Duration::from_millis(10);

/// The number of unfinished tasks a worker wants to hold.
#[derive(Clone, Debug)]
pub(crate) struct Pace {
    least: u64,
    target: u64,
    since: Option<Instant>,
    finished: u64,
}

impl Pace {
    /// One task running and one waiting per slot to begin with.
    pub(crate) fn new(slots: u32) -> Self {
        let least = (u64::from(slots) * 2).clamp(1, QUEUE_TASKS);
        Self {
            least,
            target: least,
            since: None,
            finished: 0,
        }
    }

    pub(crate) fn target(&self) -> u64 {
        self.target
    }

    /// Work began after a time without any.
    pub(crate) fn begin(&mut self, now: Instant) {
        self.since.get_or_insert(now);
    }

    /// There is nothing to do: the time until work comes says nothing about its speed.
    pub(crate) fn idle(&mut self) {
        self.since = None;
        self.finished = 0;
    }

    /// Tasks finished. The target at most doubles or halves at a time.
    pub(crate) fn finished(&mut self, now: Instant, count: u64) {
        self.finished += count;
        let since = *self.since.get_or_insert(now);
        let elapsed = now.saturating_duration_since(since);
        if elapsed < WINDOW && self.finished < self.target {
            return;
        }
        let micros = elapsed.as_micros().max(1);
        let wanted = u128::from(self.finished) * CREDIT_AHEAD.as_micros() / micros;
        let wanted = u64::try_from(wanted).unwrap_or(u64::MAX);
        self.target = wanted
            .clamp(self.target / 2, self.target * 2)
            .clamp(self.least, QUEUE_TASKS);
        self.since = Some(now);
        self.finished = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_for_short_tasks_and_shrinks_for_long_ones() {
        let mut now = Instant::now();
        let mut pace = Pace::new(2);
        assert_eq!(pace.target(), 4);
        pace.begin(now);
        for _ in 0..20 {
            now += Duration::from_millis(1);
            pace.finished(now, pace.target());
        }
        assert_eq!(pace.target(), QUEUE_TASKS, "20 windows emptied in a millisecond each");
        for _ in 0..20 {
            now += Duration::from_secs(1);
            pace.finished(now, 1);
        }
        assert_eq!(pace.target(), 4, "one task a second needs no more than two per slot");
    }
}
