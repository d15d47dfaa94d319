//! Tells a task that fails from an executor that cannot run anything.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// Starts that may fail in a row, over all slots, before the executor counts as broken.
const STARTS_FAILED: u32 = 8;
/// Warm processes that may end in a row without one answer, while none ever answered, before the executor counts as
/// broken.
const EXITS_UNANSWERED: u32 = 5;

/// What all slots of one executor saw.
#[derive(Debug, Default)]
pub(super) struct Health {
    starts_failed: AtomicU32,
    exits_unanswered: AtomicU32,
    answered: AtomicBool,
    silence_told: AtomicBool,
}

impl Health {
    /// A process was started.
    pub(super) fn started(&self) {
        self.starts_failed.store(0, Ordering::Relaxed);
    }

    /// A process could not be started. Says whether the executor is broken.
    pub(super) fn start_failed(&self) -> bool {
        self.starts_failed.fetch_add(1, Ordering::Relaxed) + 1 >= STARTS_FAILED
    }

    /// A warm process answered a task.
    pub(super) fn answered(&self) {
        self.answered.store(true, Ordering::Relaxed);
    }

    /// Whether no task was ever answered, and nobody was told that this takes long.
    pub(super) fn awaits_first_answer(&self) -> bool {
        !self.has_answered() && !self.silence_told.load(Ordering::Relaxed)
    }

    /// Whether people are to be told now that the first answer takes long; they are told once.
    pub(super) fn tell_silence(&self) -> bool {
        self.awaits_first_answer() && !self.silence_told.swap(true, Ordering::Relaxed)
    }

    /// Whether any task was ever answered.
    pub(super) fn has_answered(&self) -> bool {
        self.answered.load(Ordering::Relaxed)
    }

    /// A warm process ended without one answer. Says whether the executor is broken.
    pub(super) fn exited_unanswered(&self) -> bool {
        let exits = self.exits_unanswered.fetch_add(1, Ordering::Relaxed) + 1;
        exits >= EXITS_UNANSWERED && !self.has_answered()
    }
}
