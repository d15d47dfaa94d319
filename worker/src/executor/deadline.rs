//! Deadlines that a frozen machine does not eat up.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

/// A thread that comes to a deadline later than this was itself not running: it waits as long again, so that the caller,
/// just as late, can extend the deadline first.
const LATE: Duration = Duration::from_millis(100);

/// By how much deadlines were extended since the executor started.
#[derive(Debug, Default)]
pub(super) struct Extension(AtomicU64);

impl Extension {
    pub(super) fn add(&self, gap: Duration) {
        self.0.fetch_add(
            u64::try_from(gap.as_micros()).unwrap_or(u64::MAX / 2),
            Ordering::Relaxed,
        );
    }

    fn total(&self) -> Duration {
        Duration::from_micros(self.0.load(Ordering::Relaxed))
    }
}

/// When one attempt must end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadline {
    at: Option<Instant>,
    extended: Duration,
}

impl Deadline {
    /// A deadline `limit` after `began`.
    pub(super) fn new(limit: Option<Duration>, began: Instant, extension: &Extension) -> Self {
        Self {
            at: limit.and_then(|limit| began.checked_add(limit)),
            extended: extension.total(),
        }
    }

    /// When to look again, with all extensions so far.
    pub(super) fn at(&self, extension: &Extension) -> Option<Instant> {
        self.at?.checked_add(extension.total().saturating_sub(self.extended))
    }

    /// Whether it has passed.
    pub(super) fn is_past(&mut self, now: Instant, extension: &Extension) -> bool {
        let Some(at) = self.at(extension) else { return false };
        if now < at {
            return false;
        }
        if now - at <= LATE {
            return true;
        }
        *self = Self {
            at: now.checked_add(LATE),
            extended: extension.total(),
        };
        false
    }
}
