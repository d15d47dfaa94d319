//! The command line.

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};

use crate::bench;
use crate::chart;
use crate::cluster::{self, Layout};
use crate::context::Context;
use crate::crds;
use crate::e2e;
use crate::instructions;
use crate::simulate::simulate;
use crate::step::{Step, run_all, select};
use crate::suite;

/// The project's own commands.
#[derive(Debug, Parser)]
#[command(bin_name = "cargo xtask")]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs every check and every test; what CI runs.
    Test(Selection),
    /// Runs the long forms of the tests: those marked `#[ignore]`.
    Soak(Selection),
    /// Writes crds/harmonybatches.yaml and its copies anew, from the types.
    Crds,
    /// Writes deploy/harmony.yaml and the chart's table of values anew, from the chart. Needs Helm, or Go to build it.
    Chart,
    /// Runs the simulator; its own options follow.
    Simulate {
        /// Handed on to the simulator, as --help is.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Measures how fast Harmony is beside the tools that people use today, and what it costs: both sides in turns, and their ratio.
    ///
    /// The clock of a batch runs from START to DONE: everything is recorded, durable and read back.
    Bench(bench::Arguments),
    /// Counts the instructions of codec, machines and log under Valgrind, and compares them with benches/instructions.json.
    Instructions {
        /// Keeps the new counts instead.
        #[arg(long)]
        accept: bool,
    },
    /// A real Kubernetes of two nodes on this machine, for tests and for trying things out. Needs root and Go.
    Cluster(ClusterArguments),
    /// Runs the end-to-end tests on the cluster of KUBECONFIG, or on one that is brought up for them.
    E2e(e2e::Arguments),
}

#[derive(Debug, Args)]
struct ClusterArguments {
    #[command(subcommand)]
    action: ClusterAction,
    /// Which one, when several stand side by side: from 0.
    #[arg(long, global = true, default_value_t = 0, value_parser = clap::value_parser!(u8).range(..i64::from(cluster::CLUSTERS)))]
    index: u8,
}

#[derive(Debug, Subcommand)]
enum ClusterAction {
    /// Brings it up, unless it is.
    Up,
    /// Builds Harmony's image from the checkout as it is and hands it to the nodes, as `harmony:dev`.
    Load {
        /// The cargo profile that its programs are built in; `dev` is the quickest to build again.
        #[arg(long, default_value = "release")]
        profile: String,
    },
    /// Takes it down and leaves nothing of it.
    Down,
}

#[derive(Debug, Args)]
struct Selection {
    /// Only these steps; all of them if none is named.
    #[arg(value_name = "STEP")]
    steps: Vec<String>,
    /// Installs what the steps need: system packages (as root) and cargo tools. CI=true implies it.
    #[arg(long)]
    install: bool,
    /// Goes on after a step that failed.
    #[arg(long)]
    keep_going: bool,
    /// Prints the steps and runs none.
    #[arg(long)]
    list: bool,
}

/// Does what the command line asks for: exits with 1 if a step failed, with 2 if there was nothing to run.
pub(crate) fn run() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Test(selection) => run_steps(&selection, suite::TEST),
        Command::Soak(selection) => run_steps(&selection, suite::SOAK),
        Command::Crds => Context::from_environment(false).and_then(|context| crds::write(&context)),
        Command::Chart => Context::from_environment(false).and_then(|context| chart::write(&context)),
        Command::Simulate { arguments } => {
            Context::from_environment(false).and_then(|context| simulate(&context, &arguments))
        }
        Command::Bench(arguments) => {
            Context::from_environment(false).and_then(|context| bench::bench(&context, &arguments))
        }
        Command::Instructions { accept } => {
            Context::from_environment(false).and_then(|context| instructions::run(&context, accept))
        }
        Command::Cluster(arguments) => run_cluster(&arguments),
        Command::E2e(arguments) => e2e::run(&arguments),
    };
    done.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::from(2)
    })
}

fn run_cluster(arguments: &ClusterArguments) -> Result<ExitCode> {
    let context = Context::from_environment(false)?;
    let layout = Layout::new(&context, arguments.index)?;
    match &arguments.action {
        ClusterAction::Load { profile } => {
            cluster::load_harmony(&context, &layout, profile)?;
        }
        ClusterAction::Up => {
            cluster::up(&context, &layout)?;
            println!("export KUBECONFIG={}", layout.kubeconfig().display());
        }
        ClusterAction::Down => cluster::down(&layout)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn run_steps(selection: &Selection, suite: &[Step]) -> Result<ExitCode> {
    let steps = select(suite, &selection.steps)?;
    if selection.list {
        for step in steps {
            println!("{:14} {}", step.name, step.purpose);
        }
        return Ok(ExitCode::SUCCESS);
    }
    let context = Context::from_environment(selection.install)?;
    let report = run_all(&context, &steps, selection.keep_going);
    println!("\n{report}");
    Ok(if report.failed() == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_simulators_options_are_handed_on() {
        let cli = Cli::try_parse_from(["xtask", "simulate", "--seed", "7", "--help"]).unwrap();
        let Command::Simulate { arguments } = cli.command else {
            panic!("{cli:?}")
        };
        assert_eq!(arguments, ["--seed", "7", "--help"]);
    }

    #[test]
    fn steps_are_named_one_by_one() {
        let cli = Cli::try_parse_from(["xtask", "test", "--install", "format", "clippy"]).unwrap();
        let Command::Test(selection) = cli.command else {
            panic!("{cli:?}")
        };
        assert!(selection.install && !selection.keep_going);
        assert_eq!(selection.steps, ["format", "clippy"]);
    }
}
