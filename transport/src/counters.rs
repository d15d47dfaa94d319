//! What happened so far, for metrics.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

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
    /// What was sent.
    pub sent: Traffic,
    /// What was received.
    pub received: Traffic,
}

/// Messages between the parties, over all links.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// How many.
    pub messages: u64,
    /// The bytes of their frames.
    pub bytes: u64,
}

/// Traffic in one direction. It counts by message, each of which holds as many tasks as there are.
#[derive(Default)]
struct Flow {
    messages: AtomicU64,
    bytes: AtomicU64,
}

impl Flow {
    fn add(&self, bytes: usize) {
        self.messages.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    fn total(&self) -> Traffic {
        Traffic {
            messages: self.messages.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
        }
    }
}

/// Reads what a transport has counted, without keeping it alive.
#[derive(Clone)]
pub struct Meter(pub(crate) Arc<Tally>);

impl Meter {
    /// What happened so far.
    pub fn read(&self) -> Counters {
        self.0.snapshot()
    }
}

impl fmt::Debug for Meter {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.read().fmt(formatter)
    }
}

#[derive(Default)]
pub(crate) struct Tally {
    counters: Mutex<Counters>,
    sent: Flow,
    received: Flow,
}

impl Tally {
    pub(crate) fn snapshot(&self) -> Counters {
        Counters {
            sent: self.sent.total(),
            received: self.received.total(),
            ..locked(&self.counters).clone()
        }
    }

    pub(crate) fn sent(&self, frames: &[Bytes]) {
        self.sent.add(frames.iter().map(Bytes::len).sum());
    }

    pub(crate) fn received(&self, frames: &[Bytes]) {
        self.received.add(frames.iter().map(Bytes::len).sum());
    }

    pub(crate) fn opened(&self) {
        let mut counters = locked(&self.counters);
        counters.opened += 1;
        counters.links += 1;
    }

    /// A link ended; `stood` tells whether it ever opened.
    pub(crate) fn closed(&self, reason: &CloseReason, stood: bool) {
        let mut counters = locked(&self.counters);
        *counters.closed.entry(reason.label()).or_default() += 1;
        counters.links -= u64::from(stood);
    }

    pub(crate) fn refused(&self, reason: &CloseReason) {
        *locked(&self.counters).refused.entry(reason.label()).or_default() += 1;
    }

    pub(crate) fn accept_error(&self) {
        locked(&self.counters).accept_errors += 1;
    }
}

/// Locks; a panic of another holder left nothing half done, since every critical section is a few assignments.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
