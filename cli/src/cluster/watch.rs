//! A batch, seen again at every change.

use futures_util::{Stream, StreamExt};
use harmony_api::spec::HarmonyBatch;
use kube::runtime::watcher::{Error, watch_object};
use kube::runtime::{WatchStreamExt, watcher};

use super::access::{Cluster, causes, explain};
use crate::exit::Failure;

/// What was seen of a batch.
pub(crate) enum Sight {
    /// It is so.
    Batch(Box<HarmonyBatch>),
    /// It does not exist any more.
    Gone,
    /// The API server does not answer; it is asked again.
    Blind(String),
}

/// Looks at a batch for as long as somebody wants to know. A refusal ends it.
pub(crate) fn watch(cluster: &Cluster, name: &str) -> impl Stream<Item = Result<Sight, Failure>> + use<> {
    let action = format!("watch batch {name} in namespace {}", cluster.namespace);
    let sights = watch_object(cluster.batches(), name).backoff(watcher::DefaultBackoff::default());
    sights.map(move |sight| match sight {
        Ok(Some(batch)) => Ok(Sight::Batch(Box::new(batch))),
        Ok(None) => Ok(Sight::Gone),
        Err(error) => match refusal(&error) {
            Some(refusal) => Err(explain(refusal, &action)),
            None => Ok(Sight::Blind(causes(&error))),
        },
    })
}

/// What no waiting mends: rights, and a resource that the cluster does not know.
fn refusal(error: &Error) -> Option<&kube::Error> {
    let (Error::InitialListFailed(error) | Error::WatchStartFailed(error) | Error::WatchFailed(error)) = error else {
        return None;
    };
    match error {
        kube::Error::Api(status) if [401, 403, 404].contains(&status.code) => Some(error),
        _ => None,
    }
}
