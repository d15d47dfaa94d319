//! What is said of each batch, for those who ask the operator itself. The API server hears of mere counts later.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use harmony_api::status::HarmonyBatchStatus;
use harmony_protocol::ids::BatchUid;

use crate::ventilators::BatchKey;

/// The last status of each batch that this operator leads. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Statuses(Arc<Mutex<BTreeMap<BatchUid, Said>>>);

/// What is said of one batch.
#[derive(Clone, Debug)]
pub(crate) struct Said {
    /// Its name.
    pub(crate) key: BatchKey,
    /// What runs its tasks.
    pub(crate) executor: &'static str,
    /// How long it may take, in seconds.
    pub(crate) active_deadline: Option<u64>,
    /// Its status.
    pub(crate) status: Arc<HarmonyBatchStatus>,
}

impl Statuses {
    /// This is so now.
    pub(crate) fn say(&self, uid: BatchUid, said: Said) {
        self.all_said().insert(uid, said);
    }

    /// The batch is gone, or somebody else's.
    pub(crate) fn forget(&self, uid: BatchUid) {
        self.all_said().remove(&uid);
    }

    /// Of all batches.
    pub(crate) fn all(&self) -> Vec<Said> {
        self.all_said().values().cloned().collect()
    }

    fn all_said(&self) -> MutexGuard<'_, BTreeMap<BatchUid, Said>> {
        // Nothing is half done by a panic elsewhere: each use is one statement.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
