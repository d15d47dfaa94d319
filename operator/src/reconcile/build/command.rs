//! The command lines of Harmony's programs in pods.

use harmony_api::Executor;
use harmony_api::conventions::{AGENT_DIR, IMAGE_PROGRAM, LINK_PORT, LOOPBACK_PORT, METRICS_PORT};
use k8s_openapi::api::core::v1::Container;

use super::{Links, Settings, agent, certificates, spool};
use crate::reconcile::validate::Batch;

/// Where a collector's container holds its logs.
pub(super) const LOG_DIR: &str = "/data";

/// Seconds of a worker pod's grace period that running tasks do not get: the worker flushes outcomes and takes leave.
const FLUSH: i64 = 5;
/// Seconds that a pod gets to end if it does not say, as Kubernetes has it.
const DEFAULT_GRACE: i64 = 30;

/// What the agent's init container runs.
pub(super) fn install() -> Vec<String> {
    texts([IMAGE_PROGRAM, "install", AGENT_DIR])
}

/// Sets what a worker's container runs in place of its own command. An executor without a command of its own finds that
/// one behind `--`, where the kubelet still expands its variables.
pub(super) fn run_worker(batch: &Batch, settings: &Settings, pod: &str, container: &mut Container) {
    let own = [container.command.take(), container.args.take()]
        .into_iter()
        .flatten()
        .flatten();
    let executor = &batch.spec.executor;
    let program = match executor {
        Executor::Library(command) => command.to_vec(),
        Executor::Exec(_) | Executor::Container | Executor::Process { .. } => {
            vec![agent::program(settings.delivery), "worker".to_owned()]
        }
    };
    let (slots, uid) = (batch.spec.slots_per_worker.to_string(), batch.uid.to_string());
    let grace = grace(batch.template.pod.termination_grace_period_seconds).to_string();
    let mut args = texts([
        "--name",
        pod,
        "--slots",
        &slots,
        "--batch",
        &uid,
        "--executor",
        &batch.executor,
    ]);
    args.extend(texts(["--spool", spool::DIR, "--grace", &grace]));
    args.extend(link(settings.links));
    args.extend(settings.trace_flags.iter().cloned());
    if settings.links == Links::MutualTls {
        args.extend(["--tls-peer-name".to_owned(), certificates::collector_name(batch)]);
    }
    let mut args: Vec<_> = args.iter().map(|text| literal(text)).collect();
    if *executor == Executor::Container {
        args.push("--".to_owned());
        args.extend(own);
    }
    container.command = Some(program.iter().map(|text| literal(text)).collect());
    container.args = Some(args);
}

/// What a collector's container runs. Without a size, the log may take what its file system has.
pub(super) fn collector(settings: &Settings, size: Option<u64>) -> Vec<String> {
    let size = size.map_or_else(|| "fs".to_owned(), |bytes| bytes.to_string());
    let mut command = texts([IMAGE_PROGRAM, "collector", "--dir", LOG_DIR, "--max-log-bytes", &size]);
    command.extend(link(settings.links));
    command.extend(settings.trace_flags.iter().cloned());
    command
}

/// Where a part listens, and how its links are protected.
fn link(links: Links) -> Vec<String> {
    let listen = format!("tcp://0.0.0.0:{LINK_PORT}");
    let admin = format!("0.0.0.0:{METRICS_PORT}");
    let loopback = format!("127.0.0.1:{LOOPBACK_PORT}");
    let mut flags = texts(["--listen", &listen, "--admin", &admin, "--loopback", &loopback]);
    match links {
        Links::InsecureTcp => flags.push("--insecure-tcp".to_owned()),
        Links::MutualTls => flags.extend(certificates::flags()),
    }
    flags
}

/// Seconds that running tasks get when the pod is told to end; with little time in all, half of it.
fn grace(pod: Option<i64>) -> i64 {
    let whole = pod.unwrap_or(DEFAULT_GRACE).max(0);
    (whole - FLUSH).max(whole / 2)
}

/// The text that the kubelet turns into this one: it expands `$(NAME)`, and takes `$$` for one `$`.
fn literal(text: &str) -> String {
    text.replace('$', "$$")
}

fn texts<const N: usize>(texts: [&str; N]) -> Vec<String> {
    texts.map(str::to_owned).into()
}
