//! The status of batches on a cluster.

use futures_util::StreamExt;
use harmony_api::spec::HarmonyBatch;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use kube::api::ListParams;

use super::{Format, Overview, Screen, StatusArgs, render};
use crate::cluster::{Cluster, Sight, explain, watch};
use crate::exit::Failure;
use crate::run::stops::Stops;

/// Shows one batch.
pub(crate) async fn show(args: &StatusArgs, name: &str) -> Result<(), Failure> {
    let cluster = Cluster::find(&args.kube).await?;
    let batch = cluster.batch(name).await?;
    let mut screen = Screen::new(args);
    if !print(&mut screen, args.output, &batch)? || !args.watch || Overview::from(&batch).end().is_some() {
        return Ok(());
    }
    let mut stops = Stops::new()?;
    let mut sights = std::pin::pin!(watch(&cluster, name));
    loop {
        let sight = tokio::select! {
            sight = sights.next() => sight,
            () = stops.next() => return Ok(()),
        };
        match sight {
            Some(Ok(Sight::Batch(batch))) => {
                if !print(&mut screen, args.output, &batch)? || Overview::from(&*batch).end().is_some() {
                    return Ok(());
                }
            }
            Some(Ok(Sight::Gone)) | None => {
                return Err(Failure::infrastructure(format!("batch {name} was deleted")));
            }
            Some(Ok(Sight::Blind(reason))) => tracing::info!(%reason, "the API server does not answer; going on"),
            Some(Err(failure)) => return Err(failure),
        }
    }
}

fn print(screen: &mut Screen, format: Option<Format>, batch: &HarmonyBatch) -> Result<bool, Failure> {
    let text = match format {
        Some(format) => format.print(batch)?,
        None => render::screen(&Overview::from(batch), Timestamp::now()),
    };
    screen.print(&text)
}

/// Shows all batches of the namespace.
pub(crate) async fn show_all(args: &StatusArgs) -> Result<(), Failure> {
    let cluster = Cluster::find(&args.kube).await?;
    let namespace = &cluster.namespace;
    let found = cluster.batches().list(&ListParams::default()).await;
    let found = found.map_err(|error| explain(&error, &format!("list batches in namespace {namespace}")))?;
    let text = match args.output {
        Some(format) => format.print(&found)?,
        None if found.items.is_empty() => {
            format!("there is no batch in namespace {namespace}; harmony submit FILE makes one")
        }
        None => {
            let batches: Vec<Overview> = found.items.iter().map(Overview::from).collect();
            render::list(&batches, Timestamp::now())
        }
    };
    Screen::new(args).print(&text).map(drop)
}

impl From<&HarmonyBatch> for Overview {
    fn from(batch: &HarmonyBatch) -> Self {
        let (name, namespace) = (batch.name_any(), batch.namespace().unwrap_or_default());
        let status = batch.status.clone().unwrap_or_default();
        let settled = status.tasks.unwrap_or_default();
        let mut commands = Vec::new();
        if settled.succeeded > 0 {
            commands.push(format!("Results:   harmony results {name} -n {namespace}"));
        }
        if settled.failed > 0 {
            commands.push(format!("Failed:    harmony failed {name} -n {namespace}"));
        }
        Self {
            place: format!("in namespace {namespace}"),
            created: batch.creation_timestamp().map(|time| time.0),
            parallelism: Some(batch.spec.parallelism),
            name,
            status,
            commands,
        }
    }
}
