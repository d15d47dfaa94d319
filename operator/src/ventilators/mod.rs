//! Hosts the ventilators of this operator: one per batch, each with its own links and its own tasks.
//!
//! Everything is told to a ventilator by its batch's uid, at any time after [`Ventilators::start`], also while its tasks are
//! still being read. What changes is told by the channel of batch keys, and read by [`Ventilators::state`].

mod hosted;
mod spools;
mod state;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use harmony_api::Tasks;
use harmony_protocol::ids::{BatchUid, Epoch};
use harmony_protocol::ventilator::{Event, Explanation, NumberExplanation, Progress, Snapshot, SuccessPolicy};
use harmony_protocol::wire::{Policy, Work};
use harmony_ventilator::driver::Command;
use harmony_ventilator::source::{Digest, SourceConfig, SpoolRoom};
use tokio::sync::{mpsc, oneshot};

use self::hosted::Hosted;
pub(crate) use self::spools::remove_leftovers;
pub use self::state::{Running, VentilatorState};

/// Events of one batch that wait to be read; the oldest are dropped beyond it, since the newest say more.
pub const EVENTS_KEPT: usize = 256;
/// How long a ventilator that is stopped may take to say goodbye on its links.
pub const STOP_WITHIN: Duration = Duration::from_secs(5);

/// Names a batch for the reconciler.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BatchKey {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl fmt::Display for BatchKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.namespace, self.name)
    }
}

/// What all ventilators of an operator share.
#[derive(Clone, Debug)]
pub struct Settings {
    /// This operator's name, as others see it.
    pub name: String,
    /// The folder for tasks that can be read only once; each ventilator has a folder of its own in it.
    pub spool_dir: PathBuf,
    /// What that folder has room for.
    pub spool_room: SpoolRoom,
    /// How links are protected.
    pub transport: harmony_transport::Config,
    /// Gets the key of a batch whenever something happened that its status or its pods depend on. A key that does not fit is
    /// sent later.
    pub wake: mpsc::Sender<BatchKey>,
}

/// What a ventilator is started with.
#[derive(Clone, Debug)]
pub struct Launch {
    /// For the reconciler.
    pub key: BatchKey,
    /// For the parties.
    pub uid: BatchUid,
    /// The highest epoch that status knows; the claim is above it, and waits for [`Ventilators::epoch_kept`].
    pub epoch_floor: Epoch,
    /// The tasks.
    pub tasks: Tasks,
    /// How they are read. Its folders are replaced by one of this ventilator.
    pub source: SourceConfig,
    /// N, if the batch states it.
    pub completions: Option<u64>,
    /// The hash of the tasks that status knows.
    pub known_digest: Option<Digest>,
    /// What the collector decides by.
    pub policy: Policy,
    /// What workers need; the collector's endpoint in it does not count.
    pub work: Work,
    /// The batch is ended early when more numbers than this have failed for good.
    pub max_failed: Option<u64>,
    /// The batch is ended early after this time.
    pub deadline: Option<Duration>,
    /// The batch is ended early, as a success, once enough has succeeded.
    pub success: Option<SuccessPolicy>,
}

/// The ventilators of this operator. Clones are the same.
#[derive(Clone, Debug)]
pub struct Ventilators(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    settings: Settings,
    hosted: Mutex<BTreeMap<BatchUid, Hosted>>,
    /// How far those were that were stopped, until their batches are forgotten: a scraper comes when it comes, and a
    /// batch may be over before.
    stopped: Mutex<BTreeMap<BatchUid, (BatchKey, Progress)>>,
}

impl Ventilators {
    /// None yet.
    pub fn new(settings: Settings) -> Self {
        Self(Arc::new(Shared {
            settings,
            hosted: Mutex::default(),
            stopped: Mutex::default(),
        }))
    }

    /// Starts the ventilator of a batch; nothing happens if it has one. Must be called on a tokio runtime.
    pub fn start(&self, launch: Launch) {
        let mut hosted = self.hosted();
        let uid = launch.uid;
        self.stopped().remove(&uid);
        hosted
            .entry(uid)
            .or_insert_with(|| Hosted::start(&self.0.settings, launch));
    }

    /// How the ventilator of a batch is; nothing if it has none.
    pub fn state(&self, uid: BatchUid) -> Option<VentilatorState> {
        self.hosted().get(&uid).map(Hosted::state)
    }

    /// N, once the tasks are open.
    pub fn completions(&self, uid: BatchUid) -> Option<u64> {
        self.hosted().get(&uid)?.opened().map(|(completions, _)| completions)
    }

    /// The hash of the tasks, once they are open.
    pub fn digest(&self, uid: BatchUid) -> Option<Digest> {
        self.hosted().get(&uid)?.opened().map(|(_, digest)| digest)
    }

    /// Takes what happened since the last call, oldest first: for events and logs. Nothing that a state does not show is
    /// only here.
    pub fn take_events(&self, uid: BatchUid) -> Vec<Event> {
        self.hosted().get(&uid).map(Hosted::take_events).unwrap_or_default()
    }

    /// Status knows this epoch: the batch may be claimed under it.
    pub fn epoch_kept(&self, uid: BatchUid, epoch: Epoch) {
        self.with(uid, |hosted| hosted.epoch_kept(epoch));
    }

    /// The collector is at this endpoint.
    pub fn collector(&self, uid: BatchUid, endpoint: &str) {
        self.with(uid, |hosted| hosted.collector(endpoint));
    }

    /// These are all the workers, by name and endpoint. What changed since the last call is told to the ventilator.
    pub fn workers(&self, uid: BatchUid, workers: &[(String, String)]) {
        self.with(uid, |hosted| hosted.workers(workers));
    }

    /// From the next START on, tasks are run in this way. To be told before workers of the new way are.
    pub fn work(&self, uid: BatchUid, work: Work) {
        self.with(uid, |hosted| hosted.work(work));
    }

    /// The process of a worker has ended, and perhaps its tasks are the cause. To be told while [`Self::workers`] still names
    /// it.
    pub fn exited(&self, uid: BatchUid, name: &str, counts: bool) {
        let name = name.to_owned();
        self.with(uid, |hosted| hosted.tell(Command::WorkerExited { name, counts }));
    }

    /// Nothing new goes to a worker; what it has in flight ends there.
    pub fn drain(&self, uid: BatchUid, name: &str) {
        self.with(uid, |hosted| hosted.tell(Command::DrainWorker(name.to_owned())));
    }

    /// A worker is needed after all.
    pub fn undrain(&self, uid: BatchUid, name: &str) {
        self.with(uid, |hosted| hosted.tell(Command::UndrainWorker(name.to_owned())));
    }

    /// Ends the batch early. The state is done when the collector has recorded that.
    pub fn cancel(&self, uid: BatchUid, reason: &str) {
        self.with(uid, |hosted| hosted.tell(Command::Cancel(reason.to_owned())));
    }

    /// The state of the machine, for a person; nothing if it does not run.
    pub async fn snapshot(&self, uid: BatchUid) -> Option<Snapshot> {
        let (sender, receiver) = oneshot::channel();
        self.with(uid, |hosted| hosted.tell(Command::Show(sender)));
        receiver.await.ok()
    }

    /// Why a batch is not done; nothing if its machine does not run.
    pub async fn explain(&self, uid: BatchUid) -> Option<Explanation> {
        let (sender, receiver) = oneshot::channel();
        self.with(uid, |hosted| hosted.tell(Command::Explain(sender)));
        receiver.await.ok()
    }

    /// Why a number of a batch is not settled, or how it is; nothing if the batch's machine does not run.
    pub async fn explain_number(&self, uid: BatchUid, number: u64) -> Option<NumberExplanation> {
        let (sender, receiver) = oneshot::channel();
        self.with(uid, |hosted| hosted.tell(Command::ExplainNumber(number, sender)));
        receiver.await.ok()
    }

    /// Lets the ventilator of a batch leave, and forgets what it wrote down. The batch stays as it is at its collector:
    /// another ventilator may go on.
    pub fn stop(&self, uid: BatchUid) {
        let mut hosted = self.hosted();
        let Some(leaving) = hosted.remove(&uid) else { return };
        if let Some(progress) = leaving.state().into_progress() {
            self.stopped().insert(uid, (leaving.key().clone(), progress));
        }
        leaving.leave();
    }

    /// A batch is deleted: its workers drop it, its ventilator leaves, and what is known of it is forgotten.
    pub fn forget(&self, uid: BatchUid) {
        if let Some(leaving) = self.hosted().remove(&uid) {
            leaving.abandon();
        }
        self.stopped().remove(&uid);
    }

    /// How far the batches were whose ventilators were stopped.
    pub fn stopped_at(&self) -> Vec<(BatchKey, Progress)> {
        self.stopped().values().cloned().collect()
    }

    /// Lets all leave, and waits until they have, for [`STOP_WITHIN`] at most.
    pub async fn stop_all(&self) {
        let all = std::mem::take(&mut *self.hosted());
        self.stopped().clear();
        let leaving: Vec<_> = all.into_values().map(Hosted::leave).collect();
        let all_left = async {
            for ended in leaving {
                // A ventilator that panicked has ended too.
                let _ = ended.await;
            }
        };
        if tokio::time::timeout(STOP_WITHIN, all_left).await.is_err() {
            tracing::warn!("some ventilators did not say goodbye within {STOP_WITHIN:?}");
        }
    }

    /// The batches that have a ventilator.
    pub fn uids(&self) -> Vec<BatchUid> {
        self.hosted().keys().copied().collect()
    }

    /// The batches that have a ventilator, and their names.
    pub fn keys(&self) -> Vec<(BatchUid, BatchKey)> {
        self.hosted()
            .iter()
            .map(|(uid, hosted)| (*uid, hosted.key().clone()))
            .collect()
    }

    fn with(&self, uid: BatchUid, act: impl FnOnce(&mut Hosted)) {
        if let Some(hosted) = self.hosted().get_mut(&uid) {
            act(hosted);
        }
    }

    fn hosted(&self) -> MutexGuard<'_, BTreeMap<BatchUid, Hosted>> {
        // Each change is made whole by one statement, so a panic elsewhere leaves nothing half done.
        self.0.hosted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stopped(&self) -> MutexGuard<'_, BTreeMap<BatchUid, (BatchKey, Progress)>> {
        self.0.stopped.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
