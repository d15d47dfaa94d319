//! `harmony status`: a batch on one screen, or all batches of a namespace in a table.

pub(crate) mod age;
mod cluster;
pub(crate) mod local;
pub(crate) mod render;

use std::io::{self, ErrorKind, IsTerminal, Write};

use clap::{Args, ValueEnum};
use harmony_api::conditions::{COMPLETE, FAILED};
use harmony_api::status::HarmonyBatchStatus;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use k8s_openapi::jiff::Timestamp;
use serde::Serialize;

use crate::batch_ref::BatchRef;
use crate::cluster::{KubeArgs, block_on};
use crate::exit::{Exit, Failure, tell};

/// Arguments of `harmony status`.
#[derive(Args, Clone, Debug)]
pub(crate) struct StatusArgs {
    /// The batch: its name on the cluster, or its folder, with a slash [default: a table of all in the namespace]
    #[arg(value_name = "BATCH")]
    batch: Option<BatchRef>,
    /// Print the object instead of a screen
    #[arg(long, short, value_name = "FORMAT")]
    output: Option<Format>,
    /// Show it again at every change, until the batch is over
    #[arg(long, short, requires = "batch")]
    watch: bool,
    #[command(flatten)]
    kube: KubeArgs,
}

/// How an object is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// JSON.
    Json,
    /// YAML.
    Yaml,
}

impl Format {
    fn print(self, object: &impl Serialize) -> Result<String, Failure> {
        match self {
            Self::Json => serde_json::to_string_pretty(object).map_err(Failure::infrastructure),
            Self::Yaml => serde_saphyr::to_string(object).map_err(Failure::infrastructure),
        }
    }
}

/// What a person wants to know of a batch.
#[derive(Clone, Debug, Default)]
pub(crate) struct Overview {
    /// Its name.
    pub(crate) name: String,
    /// Where it is.
    pub(crate) place: String,
    /// When it was made.
    pub(crate) created: Option<Timestamp>,
    /// Workers asked for.
    pub(crate) parallelism: Option<u32>,
    /// What is known of it.
    pub(crate) status: HarmonyBatchStatus,
    /// How its results and failures are shown.
    pub(crate) commands: Vec<String>,
}

impl Overview {
    /// The condition that says that it is over; nothing changes any more.
    pub(crate) fn end(&self) -> Option<&Condition> {
        let mut conditions = self.status.conditions.iter();
        conditions
            .find(|condition| [COMPLETE, FAILED].contains(&condition.type_.as_str()) && condition.status == "True")
    }
}

/// Shows one batch, or all.
pub(crate) fn main(args: &StatusArgs) -> Exit {
    let shown = match &args.batch {
        Some(BatchRef::Folder(dir)) => local::show(args, dir),
        Some(BatchRef::Name(name)) => block_on(cluster::show(args, name)),
        None => block_on(cluster::show_all(args)),
    };
    match shown {
        Ok(()) => Exit::Succeeded,
        Err(failure) => {
            tell(failure.message.trim_end());
            failure.exit
        }
    }
}

/// Where screens go.
struct Screen {
    watch: bool,
    last: Option<String>,
}

impl Screen {
    fn new(args: &StatusArgs) -> Self {
        Self {
            watch: args.watch,
            last: None,
        }
    }

    /// Prints a text, in place of the last one on a terminal that is watched. Says whether anybody still looks.
    fn print(&mut self, text: &str) -> Result<bool, Failure> {
        if self.last.as_deref() == Some(text) {
            return Ok(true);
        }
        let mut out = io::stdout().lock();
        let between = match (self.watch, out.is_terminal(), self.last.is_some()) {
            // Home, and clear what is below: the lines above stay in the terminal's history.
            (true, true, _) => "\x1b[H\x1b[2J",
            (true, false, true) => "\n",
            _ => "",
        };
        self.last = Some(text.to_owned());
        let written = writeln!(out, "{between}{}", text.trim_end()).and_then(|()| out.flush());
        match written {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
            Err(error) => Err(Failure::infrastructure(format!(
                "the output cannot be written: {error}"
            ))),
        }
    }
}
