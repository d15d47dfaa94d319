//! What all reconciliations share.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use harmony_protocol::ids::BatchUid;
use harmony_ventilator::source::SourceConfig;
use kube::Client;
use kube::runtime::events::Recorder;
use tokio::sync::watch;

use crate::controller::Pods;
use crate::leader::Role;
use crate::metrics::Counters;
use crate::reconcile::Memory;
use crate::reconcile::build::Settings;
use crate::statuses::Statuses;
use crate::ventilators::Ventilators;

/// What all reconciliations share.
pub(crate) struct Context {
    /// The API server.
    pub(crate) client: Client,
    /// What the operator was told about all batches.
    pub(crate) settings: Settings,
    /// How tasks are read.
    pub(crate) source: SourceConfig,
    /// Whether this operator may reconcile.
    pub(crate) role: watch::Receiver<Role>,
    /// The pods of all batches, as last seen.
    pub(crate) pods: Pods,
    /// The ventilators of all batches.
    pub(crate) ventilators: Ventilators,
    /// What is said of each batch.
    pub(crate) statuses: Statuses,
    /// Publishes events.
    pub(crate) recorder: Recorder,
    /// What is counted.
    pub(crate) counters: Arc<Counters>,
    memories: Mutex<BTreeMap<BatchUid, Memory>>,
}

impl Context {
    /// A context without memories.
    #[expect(clippy::too_many_arguments, reason = "it only puts together what others made")]
    pub(crate) fn new(
        client: Client,
        settings: Settings,
        source: SourceConfig,
        role: watch::Receiver<Role>,
        pods: Pods,
        ventilators: Ventilators,
        statuses: Statuses,
        recorder: Recorder,
        counters: Arc<Counters>,
    ) -> Self {
        Self {
            client,
            settings,
            source,
            role,
            pods,
            ventilators,
            statuses,
            recorder,
            counters,
            memories: Mutex::default(),
        }
    }

    /// Whether this operator may reconcile now.
    pub(crate) fn leads(&self) -> bool {
        *self.role.borrow() == Role::Leader
    }

    /// Takes the memory of a batch out: it is reconciled by one task at a time.
    pub(crate) fn take_memory(&self, uid: BatchUid) -> Memory {
        self.memories().remove(&uid).unwrap_or_default()
    }

    /// Puts the memory of a batch back.
    pub(crate) fn keep_memory(&self, uid: BatchUid, memory: Memory) {
        self.memories().insert(uid, memory);
    }

    /// A pass over a batch was broken off; how many in a row that makes.
    pub(crate) fn broken_off(&self, uid: BatchUid) -> u32 {
        let mut memories = self.memories();
        let passes = &mut memories.entry(uid).or_default().broken_off;
        *passes = passes.saturating_add(1);
        *passes
    }

    /// A batch is gone: so is everything that was known of it.
    pub(crate) fn forget(&self, uid: BatchUid) {
        self.ventilators.forget(uid);
        self.statuses.forget(uid);
        self.memories().remove(&uid);
    }

    /// Forgets the batches that are not there any more.
    pub(crate) fn forget_others(&self, there: impl Fn(BatchUid) -> bool) {
        let mut known = self.ventilators.uids();
        known.extend(self.memories().keys());
        for uid in known.into_iter().filter(|uid| !there(*uid)) {
            self.forget(uid);
        }
    }

    fn memories(&self) -> MutexGuard<'_, BTreeMap<BatchUid, Memory>> {
        // Nothing is half done by a panic elsewhere: each use is one statement.
        self.memories.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
