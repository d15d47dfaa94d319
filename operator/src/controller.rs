//! The watches, and what they wake.

use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, Shared};
use futures_util::{FutureExt as _, StreamExt as _};
use harmony_api::conventions::BATCH_UID_LABEL;
use harmony_api::spec::HarmonyBatch;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::core::DeserializeGuard;
use kube::runtime::controller::{self, Action};
use kube::runtime::reflector::{self, Lookup, ObjectRef, Store};
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
    // Pods first: a pass over a batch of which no pod is known yet would make them all again.
    let pods_known = known(context.pods.clone());
    let pass = move |batch, context| {
        let pods_known = pods_known.clone();
        async move {
            pods_known.await;
            reconcile(batch, context).await
        }
    };
    let passes = controller.run(pass, error_policy, Arc::clone(&context));
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

/// Ends once a store has seen all that is there. A store itself wakes only the last of those who wait for it.
fn known<K>(store: Store<K>) -> Shared<BoxFuture<'static, ()>>
where
    K: Lookup + Clone + Send + Sync + 'static,
    K::DynamicType: Eq + Hash + Clone + Send + Sync,
{
    let known = async move {
        // The writer lives as long as the controller.
        let _ = store.wait_until_ready().await;
    };
    known.boxed().shared()
}

fn error_policy(_: Arc<Guarded>, error: &Error, _: Arc<Context>) -> Action {
    match error {
        Error::Invalid(_) => Action::await_change(),
        Error::Api(..) => Action::requeue(RETRY),
    }
}

/// Lets the ventilators of batches leave that were deleted. Before the store is complete there is no pass, so none has one;
/// and waiting for the store would keep the controller from being told.
async fn sweep(context: Arc<Context>, batches: Store<Guarded>) {
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

#[cfg(test)]
mod tests {
    use kube::runtime::watcher::Event;

    use super::*;

    #[tokio::test]
    async fn everybody_who_waits_for_the_pods_is_woken() {
        let (store, mut writer) = pod_store();
        let known = known(store);
        let waiting: Vec<_> = (0..8).map(|_| tokio::spawn(known.clone())).collect();
        // All of them wait before there is anything to see.
        tokio::task::yield_now().await;
        writer.apply_watcher_event(&Event::Init);
        writer.apply_watcher_event(&Event::InitDone);
        for waits in waiting {
            tokio::time::timeout(Duration::from_secs(10), waits)
                .await
                .unwrap()
                .unwrap();
        }
    }
}
