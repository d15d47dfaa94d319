//! What a collector counts since it started, for metrics.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::durations::Durations;
use crate::wire::{OutcomeCode, ResultEntry};

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Tally {
    /// How long recorded attempts took; those that never ran are not among them.
    pub durations: Durations,
    /// Numbers that failed for good, by the outcome of their last attempt. Every reason is here, also at 0.
    pub failed: BTreeMap<&'static str, u64>,
    /// Bytes of outputs and logs that came in.
    pub bytes: u64,
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            durations: Durations::default(),
            failed: OutcomeCode::FAILURES.map(|outcome| (outcome.name(), 0)).into(),
            bytes: 0,
        }
    }
}

impl Tally {
    /// An attempt is recorded.
    pub(super) fn record(&mut self, entry: &ResultEntry) {
        if !matches!(entry.outcome, OutcomeCode::PayloadTooLarge | OutcomeCode::WorkerLost) {
            self.durations.add(entry.duration_micros);
        }
    }

    pub(super) fn merge(&mut self, other: &Self) {
        self.durations.merge(&other.durations);
        self.fail(&other.failed);
        self.bytes += other.bytes;
    }

    /// Numbers have failed for good, and that is durable.
    pub(super) fn fail(&mut self, numbers: &BTreeMap<&'static str, u64>) {
        for (reason, count) in numbers {
            *self.failed.entry(reason).or_default() += count;
        }
    }
}
