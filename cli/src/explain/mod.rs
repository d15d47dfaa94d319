//! `harmony explain`: why a batch, or one of its tasks, is not done.

mod account;
mod batch;
pub(crate) mod cluster;
pub(crate) mod local;
mod number;
mod words;

use std::io::{self, ErrorKind, Write};

use clap::{Args, ValueEnum};

pub(crate) use self::account::Account;
pub(crate) use self::words::{span, worker_state};
use crate::batch_ref::BatchRef;
use crate::cluster::{KubeArgs, block_on};
use crate::exit::{Exit, Failure, tell};
use crate::local::LocalBatch;

/// Arguments of `harmony explain`.
#[derive(Args, Clone, Debug)]
pub(crate) struct ExplainArgs {
    /// The batch: its name on the cluster, or its folder, with a slash
    #[arg(value_name = "BATCH")]
    batch: BatchRef,
    /// One of its tasks [default: the batch as a whole]
    #[arg(value_name = "NUMBER")]
    number: Option<u64>,
    /// Print the answer for programs
    #[arg(long, short, value_name = "FORMAT")]
    output: Option<Format>,
    #[command(flatten)]
    door: DoorArgs,
    #[command(flatten)]
    kube: KubeArgs,
}

/// Where the operator is.
#[derive(Args, Clone, Debug)]
pub(crate) struct DoorArgs {
    /// The namespace that Harmony's operator runs in
    #[arg(
        long,
        value_name = "NAMESPACE",
        default_value = "harmony-system",
        help_heading = "Cluster"
    )]
    pub(crate) operator_namespace: String,
}

/// How the answer is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// JSON.
    Json,
}

/// Says why a batch is not done.
pub(crate) fn main(args: &ExplainArgs) -> Exit {
    match explain(args) {
        Ok(()) => Exit::Succeeded,
        Err(failure) => {
            tell(failure.message.trim_end());
            failure.exit
        }
    }
}

fn explain(args: &ExplainArgs) -> Result<(), Failure> {
    let account = match &args.batch {
        BatchRef::Folder(dir) => {
            let batch = LocalBatch::find(dir)?;
            local::account(&batch, &batch.glance()?, args.number)?
        }
        BatchRef::Name(name) => {
            let operator = &args.door.operator_namespace;
            block_on(cluster::account(&args.kube, operator, name, args.number))?
        }
    };
    let text = match args.output {
        None => render(&account),
        Some(Format::Json) => {
            let json = serde_json::to_string_pretty(&account.to_json());
            json.map_err(Failure::infrastructure)? + "\n"
        }
    };
    match io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(Failure::infrastructure(format!(
            "the output cannot be written: {error}"
        ))),
        _ => Ok(()),
    }
}

/// The answer first, then what it rests on, what comes next, and what could not be asked.
fn render(account: &Account) -> String {
    let told = account.told();
    let mut text = format!("{}\n", told.answer);
    for (heading, lines) in [
        ("", &told.because),
        ("Next", &told.next),
        ("Could not be asked", &account.unknown),
    ] {
        if lines.is_empty() {
            continue;
        }
        text.push('\n');
        if !heading.is_empty() {
            text.push_str(heading);
            text.push('\n');
        }
        for line in lines {
            text.push_str("  ");
            text.push_str(line);
            text.push('\n');
        }
    }
    text
}
