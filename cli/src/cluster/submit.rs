//! `harmony submit`: gives a batch to the cluster and follows it, as `harmony run` does on this machine.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use futures_util::StreamExt;
use harmony_api::parse_for_cluster;
use harmony_api::spec::HarmonyBatch;
use kube::api::{Patch, PatchParams};
use serde_json::Value;

use super::access::{Cluster, KubeArgs, block_on, explain};
use super::verdict::{Verdict, snapshot, verdict};
use super::watch::{Sight, watch};
use crate::display::Display;
use crate::exit::{Exit, Failure, tell};
use crate::run::stops::Stops;

/// The owner of the fields that are applied.
const MANAGER: &str = "harmony";
/// How often progress is shown.
const TICK: Duration = Duration::from_secs(1);

/// Arguments of `harmony submit`.
#[derive(Args, Clone, Debug)]
pub(crate) struct SubmitArgs {
    /// The batch: a YAML file with one `HarmonyBatch`
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Do not follow it
    #[arg(long)]
    detach: bool,
    /// Take over fields that others have set, such as by kubectl apply
    #[arg(long)]
    force_conflicts: bool,
    /// Say nothing but errors
    #[arg(long, short)]
    quiet: bool,
    #[command(flatten)]
    kube: KubeArgs,
}

/// Submits a batch and says how it ended.
pub(crate) fn main(args: &SubmitArgs) -> Exit {
    block_on(submit(args)).unwrap_or_else(|failure| {
        tell(failure.message.trim_end());
        failure.exit
    })
}

async fn submit(args: &SubmitArgs) -> Result<Exit, Failure> {
    let object = read(args)?;
    let cluster = Cluster::find(&args.kube).await?;
    let cluster = match (text(&object, "namespace"), &args.kube.namespace) {
        (Some(own), Some(asked)) if own != asked => {
            let file = args.file.display();
            return Err(Failure::bad_input(format!(
                "{file}: metadata.namespace is {own}, but --namespace says {asked}; leave one of them out"
            )));
        }
        (Some(own), _) => Cluster {
            namespace: own.to_owned(),
            ..cluster
        },
        (None, _) => cluster,
    };
    let name = text(&object, "name").unwrap_or_default();
    apply(args, &cluster, name, &object).await?;
    let on = format!("{name} -n {}", cluster.namespace);
    if args.detach {
        if !args.quiet {
            tell(&format!(
                "{name} is applied; harmony status {on} --watch follows it, harmony results {on} prints its results"
            ));
        }
        return Ok(Exit::Succeeded);
    }
    follow(args, &cluster, name, &on).await
}

fn read(args: &SubmitArgs) -> Result<Value, Failure> {
    let file = args.file.display().to_string();
    let yaml = fs::read_to_string(&args.file)
        .map_err(|error| Failure::bad_input(format!("{file} cannot be read: {error}")))?;
    parse_for_cluster(&yaml, &file).map_err(Failure::bad_input)
}

fn text<'a>(object: &'a Value, field: &str) -> Option<&'a str> {
    object.pointer("/metadata")?.get(field)?.as_str()
}

async fn apply(args: &SubmitArgs, cluster: &Cluster, name: &str, object: &Value) -> Result<(), Failure> {
    let mut params = PatchParams::apply(MANAGER);
    params.force = args.force_conflicts;
    let applied = cluster.batches().patch(name, &params, &Patch::Apply(object)).await;
    applied.map(|_: HarmonyBatch| ()).map_err(|error| {
        let mut failure = explain(
            &error,
            &format!("apply batch {name} in namespace {}", cluster.namespace),
        );
        if matches!(&error, kube::Error::Api(status) if status.code == 409) {
            failure.exit = Exit::BadInput;
            failure.message.push_str("; --force-conflicts takes these fields over");
        }
        failure
    })
}

async fn follow(args: &SubmitArgs, cluster: &Cluster, name: &str, on: &str) -> Result<Exit, Failure> {
    let mut stops = Stops::new()?;
    let mut tick = tokio::time::interval(TICK);
    let mut sights = std::pin::pin!(watch(cluster, name));
    let mut display = Display::new(Instant::now(), name, 0, args.quiet);
    let (mut seen, mut blind) = (None, false);
    let outcome = loop {
        tokio::select! {
            sight = sights.next() => match sight {
                Some(Ok(Sight::Batch(batch))) => {
                    blind = false;
                    display.show(Instant::now(), &snapshot(&batch));
                    if let Some(verdict) = verdict(&batch) {
                        break Ok(Some(verdict));
                    }
                    seen = Some(batch);
                }
                Some(Ok(Sight::Blind(reason))) => {
                    if !blind {
                        display.say(&format!("the API server does not answer; the batch goes on without it: {reason}"));
                    }
                    blind = true;
                }
                Some(Ok(Sight::Gone)) | None => {
                    break Err(Failure::infrastructure(format!("batch {name} was deleted before it was over")));
                }
                Some(Err(failure)) => break Err(failure),
            },
            _ = tick.tick() => if let Some(batch) = &seen {
                display.show(Instant::now(), &snapshot(batch));
            },
            () = stops.next() => break Ok(None),
        }
    };
    display.finish();
    let Some(Verdict { exit, message }) = outcome? else {
        tell(&format!(
            "{name} goes on without being followed; harmony status {on} --watch follows it, kubectl delete harmonybatch {on} ends it"
        ));
        return Ok(Exit::Cancelled);
    };
    if !args.quiet || exit != Exit::Succeeded {
        let command = match exit {
            Exit::Succeeded => "results",
            Exit::Failed => "failed",
            _ => "status",
        };
        tell(&format!("{name}: {message}: harmony {command} {on}"));
    }
    Ok(exit)
}
