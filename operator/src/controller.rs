//! The watches, and what they wake.

use std::collections::{BTreeMap, BTreeSet};
use std::future::ready;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, Shared, join_all};
use futures_util::{FutureExt as _, StreamExt as _};
use harmony_api::conventions::BATCH_UID_LABEL;
use harmony_api::spec::HarmonyBatch;
use harmony_protocol::ids::BatchUid;
use k8s_openapi::api::core::v1::Pod;
use kube::core::{DeserializeGuard, NamespaceResourceScope};
use kube::runtime::controller::{self, Action};
use kube::runtime::reflector::{self, Lookup, ObjectRef, Store};
use kube::runtime::{Controller, WatchStreamExt as _, watcher};
use kube::{Api, Client, Resource, ResourceExt as _};
use tokio::sync::mpsc;
use tracing::Instrument as _;

use crate::context::Context;
use crate::metrics::Counters;
use crate::reconcile::{Error, reconcile, uid};
use crate::ventilators::BatchKey;

/// Batches that are reconciled at the same time, in all scopes together. Each waits for the API server most of its time.
const CONCURRENCY: u16 = 8;
/// Wake-ups that wait for one controller; the others wait in the channel from the ventilators.
const WAKES: usize = 64;
/// How often it is looked whether batches are gone: nothing else tells of a deletion.
const SWEEP_EVERY: Duration = Duration::from_secs(2);
/// Pause after a pass that was broken off; it doubles up to [`RETRY_MOST`].
const RETRY: Duration = Duration::from_secs(5);
/// The longest such pause: a server that is too busy has a rest, and is not left alone for minutes when it is well again.
const RETRY_MOST: Duration = Duration::from_secs(30);
/// What a pause may be longer by, so that batches do not ask all at once.
const JITTER: f64 = 0.25;

type Guarded = DeserializeGuard<HarmonyBatch>;

/// The pods of all batches, as the watches have shown them.
pub(crate) struct Pods(Vec<(Option<String>, Store<Pod>)>);

impl Pods {
    /// Those in a namespace that `mine` picks.
    pub(crate) fn of(&self, namespace: &str, mine: impl Fn(&Pod) -> bool) -> Vec<Arc<Pod>> {
        let mine = |pod: &Pod| pod.metadata.namespace.as_deref() == Some(namespace) && mine(pod);
        let within = |scope: &Option<String>| scope.as_deref().is_none_or(|scope| scope == namespace);
        let watched = self.0.iter().find(|(scope, _)| within(scope));
        watched.map_or_else(Vec::new, |(_, pods)| pods.state_filter(mine))
    }
}

/// What one controller watches: a namespace, or all of them. Each stands alone, so that one whose objects may not be read
/// keeps no other from its work.
pub(crate) struct Scope {
    namespace: Option<String>,
    pods: Store<Pod>,
    writer: reflector::store::Writer<Pod>,
}

impl Scope {
    fn new(namespace: Option<String>) -> Self {
        let (pods, writer) = reflector::store();
        Self {
            namespace,
            pods,
            writer,
        }
    }

    fn api<K>(&self, client: &Client) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        match &self.namespace {
            Some(namespace) => Api::namespaced(client.clone(), namespace),
            None => Api::all(client.clone()),
        }
    }
}

/// What is to be watched: these namespaces, each once, or the whole cluster if there are none.
pub(crate) fn scopes(namespaces: &[String]) -> (Pods, Vec<Scope>) {
    let namespaces: BTreeSet<_> = namespaces.iter().collect();
    let mut scopes: Vec<_> = namespaces.into_iter().cloned().map(Some).map(Scope::new).collect();
    if scopes.is_empty() {
        scopes.push(Scope::new(None));
    }
    let pods = scopes.iter().map(|scope| (scope.namespace.clone(), scope.pods.clone()));
    (Pods(pods.collect()), scopes)
}

/// Reconciles until `stop` ends.
pub(crate) async fn run(
    context: Arc<Context>,
    watching: Client,
    scopes: Vec<Scope>,
    wakes: mpsc::Receiver<BatchKey>,
    stop: impl Future<Output = ()> + Send + 'static,
) {
    let stop = stop.boxed().shared();
    let share = u16::try_from(scopes.len()).map_or(1, |scopes| (CONCURRENCY / scopes).max(1));
    let (mut wake, mut stores, mut passes) = (BTreeMap::new(), Vec::new(), Vec::new());
    for scope in scopes {
        let (sender, woken) = mpsc::channel(WAKES);
        wake.insert(scope.namespace.clone(), sender);
        let (batches, reconciling) = watch(&context, &watching, scope, woken, share, stop.clone());
        stores.push(batches);
        passes.push(reconciling);
    }
    let waking = tokio::spawn(hand_out(Arc::clone(&context.counters), wakes, wake));
    let sweeping = tokio::spawn(sweep(Arc::clone(&context), stores));
    join_all(passes).await;
    sweeping.abort();
    waking.abort();
}

/// A controller over one scope: its batches, and its work to be awaited.
fn watch(
    context: &Arc<Context>,
    client: &Client,
    scope: Scope,
    mut wakes: mpsc::Receiver<BatchKey>,
    concurrency: u16,
    stop: impl Future<Output = ()> + Send + Sync + 'static,
) -> (Store<Guarded>, BoxFuture<'static, ()>) {
    let context = Arc::clone(context);
    let pods = watcher(
        scope.api::<Pod>(client),
        watcher::Config::default().labels(BATCH_UID_LABEL),
    );
    let batches = scope.api::<Guarded>(client);
    let namespace = scope.namespace;
    let pods = pods.default_backoff().reflect(scope.writer).touched_objects();
    let woken = futures_util::stream::poll_fn(move |context| wakes.poll_recv(context));
    let woken = woken.map(|key: BatchKey| ObjectRef::<Guarded>::new(&key.name).within(&key.namespace));
    let controller = Controller::new(batches, watcher::Config::default())
        .with_config(controller::Config::default().concurrency(concurrency))
        .owns_stream(pods)
        .reconcile_on(woken)
        .graceful_shutdown_on(stop);
    let batches = controller.store();
    // Pods first: a pass over a batch of which no pod is known yet would make them all again.
    let pods_known = known(scope.pods);
    let pass = move |batch: Arc<Guarded>, context: Arc<Context>| {
        let key = BatchKey {
            namespace: kube::ResourceExt::namespace(&*batch).unwrap_or_default(),
            name: batch.name_any(),
        };
        let pods_known = pods_known.clone();
        let trace_id = batch.meta().uid.as_deref().map(trace_id);
        let span = tracing::error_span!("batch", batch = %key, trace_id);
        let pass = async move {
            pods_known.await;
            let counters = Arc::clone(&context.counters);
            let timer = counters.reconcile_duration.start_timer();
            counters.queue.remove(&key);
            counters.reconciling.inc();
            let action = reconcile(batch, context).await;
            counters.reconciling.dec();
            timer.observe_duration();
            action
        };
        pass.instrument(span)
    };
    let passes = controller.run(pass, error_policy, Arc::clone(&context));
    let counted = passes.for_each(move |pass| {
        match pass {
            Ok(_) => context.counters.reconciles.inc(),
            // A batch that is gone is no trouble.
            Err(controller::Error::ObjectNotFound(gone)) => context.counters.queue.remove(&BatchKey {
                namespace: gone.namespace.unwrap_or_default(),
                name: gone.name,
            }),
            Err(controller::Error::QueueError(error)) => {
                context.counters.reconcile_errors.inc();
                context.counters.watch_errors.inc();
                tracing::warn!(%error, namespace, "batches and their pods cannot be watched; it is tried again");
            }
            Err(controller::Error::ReconcilerFailed(error, batch)) => {
                context.counters.reconcile_errors.inc();
                let trace_id = batch.extra.uid.as_deref().map(trace_id);
                let batch = format!("{}/{}", batch.namespace.unwrap_or_default(), batch.name);
                tracing::warn!(batch, trace_id, %error, "a batch cannot be reconciled");
            }
            Err(error) => {
                context.counters.reconcile_errors.inc();
                tracing::warn!(%error, "a batch cannot be reconciled");
            }
        }
        ready(())
    });
    (batches, counted.boxed())
}

/// Hands each wake-up to the controller that watches its namespace.
async fn hand_out(
    counters: Arc<Counters>,
    mut wakes: mpsc::Receiver<BatchKey>,
    controllers: BTreeMap<Option<String>, mpsc::Sender<BatchKey>>,
) {
    while let Some(key) = wakes.recv().await {
        let own = controllers.get(&Some(key.namespace.clone()));
        if let Some(controller) = own.or_else(|| controllers.get(&None)) {
            counters.queue.add(&key);
            // One that has ended needs no waking.
            let _ = controller.send(key).await;
        }
    }
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

#[allow(clippy::needless_pass_by_value, reason = "the controller calls it so")]
fn error_policy(batch: Arc<Guarded>, error: &Error, context: Arc<Context>) -> Action {
    match error {
        Error::Invalid(_) => Action::await_change(),
        Error::Api(..) => {
            let uid = batch.0.as_ref().ok().and_then(uid);
            let again = uid.map_or(1, |uid| context.broken_off(uid));
            Action::requeue(retry(again).mul_f64(fastrand::f64() * JITTER + 1.0))
        }
    }
}

/// How long to wait when so many passes in a row were broken off.
fn retry(again: u32) -> Duration {
    RETRY_MOST.min(RETRY.saturating_mul(2_u32.saturating_pow(again.saturating_sub(1))))
}

/// Lets the ventilators of batches leave that were deleted. Before the store is complete there is no pass, so none has one;
/// and waiting for the store would keep the controller from being told.
async fn sweep(context: Arc<Context>, batches: Vec<Store<Guarded>>) {
    let mut every = tokio::time::interval(SWEEP_EVERY);
    loop {
        every.tick().await;
        let there: BTreeSet<_> = batches
            .iter()
            .flat_map(Store::state)
            .filter_map(|batch| uid_of_any(&batch))
            .collect();
        context.forget_others(|uid| there.contains(&uid));
    }
}

/// A batch's uid as lines and traces have it.
fn trace_id(uid: &str) -> String {
    uid.replace('-', "")
}

/// One that cannot be read is there, too.
fn uid_of_any(batch: &Guarded) -> Option<BatchUid> {
    match &batch.0 {
        Ok(batch) => uid(batch),
        Err(invalid) => invalid.metadata.uid.as_deref()?.parse().ok().map(BatchUid),
    }
}

#[cfg(test)]
mod tests {
    use kube::runtime::watcher::Event;

    use super::*;

    #[test]
    fn passes_that_are_broken_off_again_and_again_pause_ever_longer() {
        let pauses: Vec<_> = (1..6).map(|again| retry(again).as_secs()).collect();
        assert_eq!(pauses, [5, 10, 20, 30, 30]);
        assert_eq!(retry(u32::MAX), RETRY_MOST);
    }

    #[tokio::test]
    async fn everybody_who_waits_for_the_pods_is_woken() {
        let (store, mut writer) = reflector::store::<Pod>();
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

    #[test]
    fn one_scope_is_all_namespaces_and_each_named_one_is_one() {
        let named = |namespaces: &[&str]| {
            let namespaces: Vec<_> = namespaces.iter().map(|&name| name.to_owned()).collect();
            let (_, scopes) = scopes(&namespaces);
            scopes.into_iter().map(|scope| scope.namespace).collect::<Vec<_>>()
        };
        assert_eq!(named(&[]), [None]);
        assert_eq!(named(&["b", "a", "b"]), [Some("a".to_owned()), Some("b".to_owned())]);
    }

    fn pod(namespace: &str) -> Pod {
        let mut pod = Pod::default();
        pod.metadata.name = Some("p".to_owned());
        pod.metadata.namespace = Some(namespace.to_owned());
        pod
    }

    #[test]
    fn pods_are_found_by_namespace_however_they_are_watched() {
        for watched in [vec![], vec!["a".to_owned(), "b".to_owned()]] {
            let (pods, mut scopes) = scopes(&watched);
            for namespace in ["a", "b"] {
                let own = scopes
                    .iter_mut()
                    .find(|scope| scope.namespace.as_deref().is_none_or(|it| it == namespace));
                own.unwrap().writer.apply_watcher_event(&Event::Apply(pod(namespace)));
            }
            assert_eq!(pods.of("a", |_| true), [Arc::new(pod("a"))]);
            assert!(pods.of("a", |_| false).is_empty() && pods.of("c", |_| true).is_empty());
        }
    }

    #[test]
    fn one_that_cannot_be_read_is_there() {
        let uid = "0b9f6a3e-9d5e-4c39-8f0e-0d6a5ac9b1f0";
        let unreadable = serde_json::json!({
            "apiVersion": "harmony.dev/v1alpha1", "kind": "HarmonyBatch",
            "metadata": {"name": "b", "uid": uid}, "spec": {"completions": "many"},
        });
        let batch: Guarded = serde_json::from_value(unreadable).unwrap();
        assert!(batch.0.is_err());
        assert_eq!(uid_of_any(&batch), uid.parse().ok().map(BatchUid));
    }

    #[tokio::test]
    async fn a_wake_up_goes_to_the_controller_of_its_namespace() {
        let key = |namespace: &str| BatchKey {
            namespace: namespace.to_owned(),
            name: "batch".to_owned(),
        };
        let (wake, wakes) = mpsc::channel(4);
        let ((to_a, mut a), (to_b, mut b)) = (mpsc::channel(4), mpsc::channel(4));
        let controllers = BTreeMap::from([(Some("a".to_owned()), to_a), (Some("b".to_owned()), to_b)]);
        for namespace in ["b", "elsewhere", "a"] {
            wake.send(key(namespace)).await.unwrap();
        }
        drop(wake);
        let counters = Arc::new(Counters::register(&prometheus::Registry::new()).unwrap());
        hand_out(counters, wakes, controllers).await;
        assert_eq!((a.recv().await, a.recv().await), (Some(key("a")), None));
        assert_eq!((b.recv().await, b.recv().await), (Some(key("b")), None));
    }
}
