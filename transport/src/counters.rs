//! What happened so far, for metrics.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::error::CloseReason;

/// Totals since the start of the transport, and the links that stand now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Links that were opened.
    pub opened: u64,
    /// Links that stand now.
    pub links: u64,
    /// Ended links and failed dials by [`CloseReason::label`].
    pub closed: BTreeMap<&'static str, u64>,
    /// Connections refused before they became a link, by [`CloseReason::label`].
    pub refused: BTreeMap<&'static str, u64>,
    /// Failures to accept a connection, for lack of descriptors for example.
    pub accept_errors: u64,
}

#[derive(Default)]
pub(crate) struct Tally(Mutex<Counters>);

impl Tally {
    pub(crate) fn snapshot(&self) -> Counters {
        locked(&self.0).clone()
    }

    pub(crate) fn opened(&self) {
        let mut counters = locked(&self.0);
        counters.opened += 1;
        counters.links += 1;
    }

    /// A link ended; `stood` tells whether it ever opened.
    pub(crate) fn closed(&self, reason: &CloseReason, stood: bool) {
        let mut counters = locked(&self.0);
        *counters.closed.entry(reason.label()).or_default() += 1;
        counters.links -= u64::from(stood);
    }

    pub(crate) fn refused(&self, reason: &CloseReason) {
        *locked(&self.0).refused.entry(reason.label()).or_default() += 1;
    }

    pub(crate) fn accept_error(&self) {
        locked(&self.0).accept_errors += 1;
    }
}

/// Locks; a panic of another holder left nothing half done, since every critical section is a few assignments.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
