//! The watches, and what they wake.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use harmony_api::conventions::BATCH_UID_LABEL;
use harmony_api::spec::HarmonyBatch;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::core::DeserializeGuard;
use kube::runtime::controller::{self, Action};
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::{Controller, WatchStreamExt as _, watcher};
use tokio::sync::mpsc;

use crate::context::Context;
use crate::reconcile::{Error, reconcile, uid};
use crate::ventilators::BatchKey;

/// Batches that are reconciled at the same time. Each waits for the API server most of its time.
const CONCURRENCY: u16 = 8;
/// How often it is looked whether batches are gone: nothing else tells of a deletion.
const SWEEP_EVERY: Duration = Duration::from_secs(2);
/// Pause after a pass that was broken off.
const RETRY: Duration = Duration::from_secs(5);

type Guarded = DeserializeGuard<HarmonyBatch>;

/// The pods of all batches, and the writer that the controller fills it with.
pub(crate) fn pod_store() -> (Store<Pod>, reflector::store::Writer<Pod>) {
    reflector::store()
}

/// Reconciles until `stop` ends.
pub(crate) async fn run(
    context: Arc<Context>,
    writer: reflector::store::Writer<Pod>,
    mut wakes: mpsc::Receiver<BatchKey>,
    stop: impl Future<Output = ()> + Send + Sync + 'static,
) {
    let client = context.client.clone();
    let pods = watcher(
        Api::<Pod>::all(client.clone()),
        watcher::Config::default().labels(BATCH_UID_LABEL),
    );
    let pods = pods.default_backoff().reflect(writer).touched_objects();
    let woken = futures_util::stream::poll_fn(move |context| wakes.poll_recv(context));
    let woken = woken.map(|key: BatchKey| ObjectRef::<Guarded>::new(&key.name).within(&key.namespace));
    let controller = Controller::new(Api::<Guarded>::all(client), watcher::Config::default())
        .with_config(controller::Config::default().concurrency(CONCURRENCY))
        .owns_stream(pods)
        .reconcile_on(woken)
        .graceful_shutdown_on(stop);
    let batches = controller.store();
    let sweeping = tokio::spawn(sweep(Arc::clone(&context), batches));
    let passes = controller.run(guarded, error_policy, Arc::clone(&context));
    passes
        .for_each(|pass| async {
            match pass {
                Ok(_) => context.counters.reconciles.inc(),
                // A batch that is gone is no trouble.
                Err(controller::Error::ObjectNotFound(_)) => {}
                Err(error) => {
                    context.counters.reconcile_errors.inc();
                    tracing::warn!(%error, "a batch cannot be reconciled");
                }
            }
        })
        .await;
    sweeping.abort();
}

/// Pods first: a pass over a batch of which no pod is known yet would make them all again.
async fn guarded(batch: Arc<Guarded>, context: Arc<Context>) -> Result<Action, Error> {
    // The writer lives as long as the controller.
    let _ = context.pods.wait_until_ready().await;
    reconcile(batch, context).await
}

fn error_policy(_: Arc<Guarded>, error: &Error, _: Arc<Context>) -> Action {
    match error {
        Error::Invalid(_) => Action::await_change(),
        Error::Api(..) => Action::requeue(RETRY),
    }
}

/// Lets the ventilators of batches leave that were deleted.
async fn sweep(context: Arc<Context>, batches: Store<Guarded>) {
    if batches.wait_until_ready().await.is_err() {
        return;
    }
    let mut every = tokio::time::interval(SWEEP_EVERY);
    loop {
        every.tick().await;
        let there: std::collections::BTreeSet<_> = batches
            .state()
            .iter()
            .filter_map(|batch| batch.0.as_ref().ok().and_then(uid))
            .collect();
        context.forget_others(|uid| there.contains(&uid));
    }
}
