//! Which batches wait for a pass.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use prometheus::{IntGauge, Registry};

use crate::ventilators::BatchKey;

/// The batches that were woken, each until its next pass begins. The controller's own queue cannot be looked into.
pub(crate) struct Queue {
    woken: Mutex<BTreeSet<BatchKey>>,
    depth: IntGauge,
}

impl Queue {
    /// Empty; its depth is in a registry.
    pub(crate) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let depth = IntGauge::new(
            "harmony_operator_workqueue_depth",
            "Batches whose ventilators want a pass over them that has not begun.",
        )?;
        registry.register(Box::new(depth.clone()))?;
        Ok(Self {
            woken: Mutex::default(),
            depth,
        })
    }

    /// A pass over this batch is wanted.
    pub(crate) fn add(&self, key: &BatchKey) {
        self.change(|woken| woken.insert(key.clone()));
    }

    /// A pass over this batch begins, or it is gone.
    pub(crate) fn remove(&self, key: &BatchKey) {
        self.change(|woken| woken.remove(key));
    }

    fn change(&self, change: impl FnOnce(&mut BTreeSet<BatchKey>) -> bool) {
        // Nothing is half done by a panic elsewhere: each change is one call.
        let mut woken = self.woken.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut woken);
        self.depth.set(i64::try_from(woken.len()).unwrap_or(i64::MAX));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_waits_once_however_often_it_is_woken() {
        let queue = Queue::register(&Registry::new()).unwrap();
        let key = |name: &str| BatchKey {
            namespace: "default".into(),
            name: name.into(),
        };
        for name in ["a", "a", "b"] {
            queue.add(&key(name));
        }
        assert_eq!(queue.depth.get(), 2);
        queue.remove(&key("a"));
        queue.remove(&key("never woken"));
        assert_eq!(queue.depth.get(), 1);
    }
}
