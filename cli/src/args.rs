//! The command line.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;
use harmony_worker::WorkerArgs;
use tracing_subscriber::EnvFilter;

use crate::collector::CollectorArgs;
use crate::install::InstallArgs;
use crate::{collector, install, run};

/// Run a big batch of numbered, idempotent tasks on warm workers. Whatever crashes on the way, the batch ends with exactly
/// one recorded result per number.
#[derive(Parser)]
#[command(name = "harmony", version, propagate_version = true)]
struct Program {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run a batch on this machine, or resume it
    #[command(after_long_help = RUN_HELP)]
    Run(RunArgs),
    /// A worker: runs the tasks that ventilators send (started by `run`)
    Worker(WorkerArgs),
    /// A collector: records outcomes durably (started by `run`)
    Collector(CollectorArgs),
    /// Put this program into a folder that the containers of a pod share (an init container does it)
    Install(InstallArgs),
    /// Print a completion script for a shell
    Completions {
        /// Which shell.
        shell: Shell,
    },
}

/// Arguments of `harmony run`.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct RunArgs {
    /// The batch: a YAML file with one `HarmonyBatch`
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// The batch's folder: its log and its results [default: ./NAME.harmony]
    #[arg(long, short, value_name = "DIR")]
    pub(crate) output: Option<PathBuf>,
    /// Seconds that running tasks get to end after Ctrl-C
    #[arg(long, default_value_t = 10, value_name = "SECONDS")]
    pub(crate) grace: u64,
    /// Say nothing but errors
    #[arg(long, short)]
    pub(crate) quiet: bool,
}

const RUN_HELP: &str = "\
A batch is its folder. It holds the log, and in the end
  results.ndjson   {\"number\":7,\"attempt\":1,\"output\":\"...\"} per success, in number order
                   (\"outputBase64\" where the bytes are not UTF-8)
  failed.ndjson    number, attempts, reason, exitCode or signal, log
  joblog.tsv       a row per recorded attempt
The same command resumes a batch that was interrupted, and prints the result of one that is done.

Ctrl-C lets running tasks end; a second Ctrl-C stops them.

Exit codes: 0 all succeeded, 1 some tasks failed or the batch ended early, 2 bad input,
3 something outside the tasks is broken, 130 interrupted.

A small batch to try:
  apiVersion: harmony.dev/v1alpha1
  kind: HarmonyBatch
  metadata: {name: hello}
  spec:
    completions: 100
    parallelism: 2
    executor: {exec: {command: [sh, -c, 'echo hello $HARMONY_TASK']}}";

/// Reads the command line and does what it says.
pub(crate) fn main() -> ExitCode {
    let program = Program::parse();
    let filter = EnvFilter::try_from_env("HARMONY_LOG").unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .without_time()
        .with_target(false)
        .init();
    match program.command {
        Command::Run(args) => run::main(&args).into(),
        Command::Worker(args) => harmony_worker::main(args, None),
        Command::Collector(args) => collector::main(args),
        Command::Install(args) => install::main(&args),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Program::command(), "harmony", &mut io::stdout());
            ExitCode::SUCCESS
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Program::command().debug_assert();
    }
}
