//! Results of a batch on a cluster, from its collector.

use std::io::{self, Write};
use std::time::Duration;

use harmony_api::conditions::{COLLECTOR_READY, RESULTS_AVAILABLE};
use harmony_api::conventions::{BATCH_UID_LABEL, COLLECTOR_ROLE, ROLE_LABEL};
use harmony_api::spec::HarmonyBatch;
use harmony_collector::export::Export;
use http_body_util::BodyExt;
use kube::ResourceExt;
use kube::api::ListParams;
use tokio::time::timeout;

use super::access::{Cluster, KubeArgs, block_on, causes, explain};
use super::lines::Lines;
use super::tunnel::{self, Refused, SILENCE};
use crate::exit::Failure;
use crate::results::Stopped;

/// How often in a row a stream may break without a line getting through.
const TRIES: u32 = 10;
/// The pause before the next try: ten of them outlast the restart of a collector.
const PAUSE: Duration = Duration::from_secs(2);

/// Writes the lines of one file of a batch.
pub(crate) fn write(args: &KubeArgs, name: &str, file: Export, out: &mut impl Write) -> Result<(), Stopped> {
    block_on(async {
        let cluster = Cluster::find(args).await?;
        Ok(follow(&cluster, name, file, out).await)
    })?
}

/// Writes the output of one number. What has begun to come and breaks off is not asked for again.
pub(crate) fn write_output(args: &KubeArgs, name: &str, number: u64, out: &mut impl Write) -> Result<(), Stopped> {
    block_on(async {
        let cluster = Cluster::find(args).await?;
        Ok(output(&cluster, name, number, out).await)
    })?
}

async fn output(cluster: &Cluster, name: &str, number: u64, out: &mut impl Write) -> Result<(), Stopped> {
    match receive(cluster, name, &format!("outputs/{number}"), |piece| {
        out.write_all(piece)
    })
    .await?
    {
        Ended::Whole => Ok(()),
        Ended::Broken(reason) => Err(Failure::infrastructure(format!(
            "the output of number {number} of {name} broke off: {reason}; try again"
        ))
        .into()),
    }
}

async fn follow(cluster: &Cluster, name: &str, file: Export, out: &mut impl Write) -> Result<(), Stopped> {
    let mut lines = Lines::new(file);
    let mut tries = 0;
    loop {
        let before = lines.from();
        let reason = match attempt(cluster, name, file, &mut lines, out).await? {
            Ended::Whole => return Ok(()),
            Ended::Broken(reason) => reason,
        };
        lines.interrupt();
        tries = if lines.from() > before { 1 } else { tries + 1 };
        if tries >= TRIES {
            return Err(Failure::infrastructure(format!(
                "the results of {name} broke off {tries} times in a row: {reason}; try again later"
            ))
            .into());
        }
        tracing::info!(%reason, from = lines.from(), "the results broke off; going on");
        tokio::time::sleep(PAUSE).await;
    }
}

/// How a stream ended.
enum Ended {
    Whole,
    Broken(String),
}

async fn attempt(
    cluster: &Cluster,
    name: &str,
    file: Export,
    lines: &mut Lines,
    out: &mut impl Write,
) -> Result<Ended, Stopped> {
    let path = format!("{}?from={}", file.file_name(), lines.from());
    let ended = receive(cluster, name, &path, |piece| lines.take(piece, out)).await?;
    Ok(match ended {
        Ended::Whole if !lines.is_whole() => Ended::Broken("the last line is not whole".to_owned()),
        ended => ended,
    })
}

/// Asks the collector of a batch for one of its files and hands on what comes, piece by piece.
async fn receive(
    cluster: &Cluster,
    name: &str,
    path: &str,
    mut take: impl FnMut(&[u8]) -> io::Result<()>,
) -> Result<Ended, Stopped> {
    let batch = cluster.batch(name).await?;
    let pod = collector(cluster, &batch).await?;
    let path = format!("/batches/{}/{path}", batch.uid().unwrap_or_default());
    let mut response = match tunnel::ask(&cluster.pods(), &cluster.namespace, &pod, &path).await {
        Ok(response) => response,
        Err(Refused::Broken(reason)) => return Ok(Ended::Broken(reason)),
        Err(Refused::Final(failure)) => return Err(failure.into()),
    };
    loop {
        let frame = match timeout(SILENCE, response.frame()).await {
            Ok(Some(frame)) => frame,
            Ok(None) => return Ok(Ended::Whole),
            Err(_) => return Ok(Ended::Broken(format!("pod {pod} has been silent for {SILENCE:?}"))),
        };
        match frame.map(hyper::body::Frame::into_data) {
            Ok(Ok(piece)) => take(&piece)?,
            Ok(Err(_)) => {} // trailers
            Err(error) => return Ok(Ended::Broken(causes(&error))),
        }
    }
}

/// The name of the pod that keeps the results.
async fn collector(cluster: &Cluster, batch: &HarmonyBatch) -> Result<String, Failure> {
    let uid = batch.uid().unwrap_or_default();
    let labels = format!("{BATCH_UID_LABEL}={uid},{ROLE_LABEL}={COLLECTOR_ROLE}");
    let found = cluster.pods().list(&ListParams::default().labels(&labels)).await;
    let pods = found.map_err(|error| explain(&error, &format!("list pods in namespace {}", cluster.namespace)))?;
    let running = pods.items.iter().find(|pod| {
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        phase == Some("Running") && pod.metadata.deletion_timestamp.is_none()
    });
    running.map(ResourceExt::name_any).ok_or_else(|| no_collector(batch))
}

/// Why there is nobody to ask.
fn no_collector(batch: &HarmonyBatch) -> Failure {
    let name = batch.name_any();
    let status = batch.status.clone().unwrap_or_default();
    let lost = status
        .conditions
        .iter()
        .find(|condition| condition.type_ == RESULTS_AVAILABLE && condition.status == "False");
    if let Some(lost) = lost {
        return Failure::infrastructure(format!("{name} has no results: {} ({})", lost.message, lost.reason));
    }
    let ready = status
        .conditions
        .iter()
        .find(|condition| condition.type_ == COLLECTOR_READY);
    let why = ready.map(|ready| format!(": {} ({})", ready.message, ready.reason));
    Failure::infrastructure(format!(
        "{name} has no running collector pod{}; try again when it runs, harmony status {name} -n {} tells",
        why.unwrap_or_default(),
        batch.namespace().unwrap_or_default()
    ))
}
