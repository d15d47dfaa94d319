//! What the ventilator's progress means to people.

use harmony_protocol::ventilator::Progress;
use harmony_protocol::wire::Health;

use crate::display::Snapshot;

/// What to show of a run.
pub(crate) fn snapshot(progress: &Progress) -> Snapshot {
    Snapshot {
        completions: progress.completions,
        succeeded: progress.counts.succeeded,
        failed: progress.counts.failed,
        counted: progress.collector_ready,
        rate: None,
        hindrance: hindrance(progress).map(str::to_owned),
    }
}

fn hindrance(progress: &Progress) -> Option<&'static str> {
    if progress.health == Health::DiskFull {
        Some("the disk is full: waiting for room")
    } else if !progress.collector_ready {
        Some("waiting for the collector")
    } else if progress.workers == 0 {
        Some("waiting for workers")
    } else {
        None
    }
}
