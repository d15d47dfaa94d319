//! A batch that nobody uses leaves memory; its log stays, and START or BIND loads it again.

use std::time::Instant;

use super::batch::Batch;
use super::{Collector, Output, Slot, Use};
use crate::limits::UNLOAD_AFTER;

impl Collector {
    /// Unloads what was not used for [`UNLOAD_AFTER`].
    pub(super) fn unload_unused(&mut self, now: Instant) {
        let due = |slot: &Slot| matches!(slot, Slot::Open(batch) if unload_at(batch).is_some_and(|at| at <= now));
        let unused: Vec<_> = self
            .slots
            .iter()
            .filter(|(_, slot)| due(slot))
            .map(|(uid, _)| *uid)
            .collect();
        for uid in unused {
            self.drop_uploads(Some(uid));
            if let Some(Slot::Open(batch)) = self.slots.remove(&uid) {
                let counts = batch.durable_counts();
                self.unloaded.duplicates += counts.duplicates;
                self.unloaded.differing += counts.differing;
                self.unloaded_tally.merge(&batch.tally);
            }
            // Whoever still sends on such an alias hears that it is not bound, and binds anew.
            for used in self.uses.values_mut().flat_map(|uses| uses.values_mut()) {
                if matches!(used, Use::Worker { uid: of, .. } | Use::Client(of) if *of == uid) {
                    *used = Use::Unloaded;
                }
            }
            self.out.push_back(Output::Close { uid });
        }
    }

    /// When the next batch may be unloaded.
    pub(super) fn unload_timeout(&self) -> Option<Instant> {
        let times = self.slots.values().filter_map(|slot| match slot {
            Slot::Open(batch) => unload_at(batch),
            Slot::Opening { .. } => None,
        });
        times.min()
    }
}

/// When a batch may be unloaded, if nothing happens until then.
fn unload_at(batch: &Batch) -> Option<Instant> {
    let unused = batch.clients.is_empty() && batch.commit.is_idle() && !batch.reading_back;
    unused.then(|| batch.used_at + UNLOAD_AFTER)
}
