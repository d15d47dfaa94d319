//! The command line.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use clap_complete::Shell;
use harmony_admin::Address;
use harmony_collector::export::Export;
use harmony_telemetry::LogArgs;
use harmony_worker::WorkerArgs;

use crate::cluster::submit::{self, SubmitArgs};
use crate::collector::CollectorArgs;
use crate::explain::ExplainArgs;
use crate::install::InstallArgs;
use crate::results::ResultsArgs;
use crate::status::StatusArgs;
use crate::top::TopArgs;
use crate::{collector, explain, install, results, run, status, top};

/// The name under which kubectl finds the program as `kubectl harmony`.
const PLUGIN: &str = "kubectl-harmony";

/// Run a big batch of numbered, idempotent tasks on warm workers. Whatever crashes on the way, the batch ends with exactly
/// one recorded result per number.
#[derive(Parser)]
#[command(name = "harmony", version = harmony_protocol::RELEASE, propagate_version = true)]
struct Program {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    logs: LogArgs,
}

#[derive(Subcommand)]
enum Command {
    /// Run a batch on this machine, or resume it
    #[command(after_long_help = RUN_HELP)]
    Run(RunArgs),
    /// Give a batch to the cluster of the kubeconfig, and follow it
    #[command(after_long_help = SUBMIT_HELP)]
    Submit(SubmitArgs),
    /// Show how far a batch is, or all batches of a namespace
    #[command(after_long_help = STATUS_HELP)]
    Status(StatusArgs),
    /// Say why a batch, or one of its tasks, is not done
    #[command(after_long_help = EXPLAIN_HELP)]
    Explain(ExplainArgs),
    /// Watch all batches of a namespace, or one batch, on a page that renews itself
    #[command(after_long_help = TOP_HELP)]
    Top(TopArgs),
    /// Print the results of a batch: a line of JSON per task that succeeded, in number order
    #[command(after_long_help = RESULTS_HELP)]
    Results(ResultsArgs),
    /// Print the failures of a batch: a line of JSON per task that failed for good, in number order
    #[command(after_long_help = FAILED_HELP)]
    Failed(ResultsArgs),
    /// Print the job log of a batch: a row per recorded attempt
    #[command(after_long_help = JOBLOG_HELP)]
    Joblog(ResultsArgs),
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

impl Command {
    /// What is logged unless something else is asked for: people want to see what they asked for, and little else.
    fn default_filter(&self) -> &'static str {
        match self {
            Self::Worker(_) | Self::Collector(_) => "info",
            _ => "warn",
        }
    }
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
    /// Serve metrics for Prometheus here while it runs, for example 127.0.0.1:27780; the path is /metrics
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) metrics: Option<Address>,
    /// Say nothing but errors
    #[arg(long, short)]
    pub(crate) quiet: bool,
}

const RUN_HELP: &str = "\
A batch is its folder. It holds the log, and in the end
  results.ndjson   {\"number\":7,\"attempt\":1,\"output\":\"...\"} per success, in number order
                   (\"outputBase64\" where the bytes are not UTF-8,
                   \"outputFile\" where there are more than a mebibyte)
  failed.ndjson    number, attempts, reason, exitCode or signal, worker, log
  joblog.tsv       a row per recorded attempt
The same command resumes a batch that was interrupted, and prints the result of one that is done.

Ctrl-C lets running tasks end; a second Ctrl-C stops them.

--metrics shows the batch as the operator does on Kubernetes (namespace=\"local\"), and its collector
and workers, each with its name as the label part. Port 0 takes a free one, and says which.

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

const SUBMIT_HELP: &str = "\
The file is checked first, with the messages of run; then it is applied, as kubectl apply --server-side does it.
Ctrl-C stops following; the batch goes on.

Exit codes: 0 all succeeded, 1 some tasks failed or the batch ended early, 2 bad input,
3 something outside the tasks is broken, 130 no longer followed.

Examples:
  harmony submit batch.yaml -n team-a
  harmony submit batch.yaml --detach";

const STATUS_HELP: &str = "\
A name is a batch on the cluster of the kubeconfig, a folder (with a slash) one on this machine.

Examples:
  harmony status
  harmony status render -n team-a --watch
  harmony status render -o json
  harmony status ./render.harmony";

const EXPLAIN_HELP: &str = "\
The first line is the answer; below it are what it rests on, what happens next, and who could not be asked.
A name is a batch on the cluster of the kubeconfig, a folder (with a slash) one on this machine.

On a cluster the batch's status, pods and events are read, and its operator and its collector are asked through the API
server, which takes the right to forward ports of their pods. Whoever lacks a right is told which one, and gets the rest.

Examples:
  harmony explain render -n team-a
  harmony explain render 7 -n team-a
  harmony explain ./render.harmony
  harmony explain ./render.harmony 7 -o json | jq -r .answer";

const TOP_HELP: &str = "\
Up and down choose a batch, enter shows it alone, esc shows all again, q ends.
A name is a batch on the cluster of the kubeconfig, a folder (with a slash) one on this machine.

Examples:
  harmony top -n team-a
  harmony top render -n team-a
  harmony top ./render.harmony
  harmony top --once";

const RESULTS_HELP: &str = "\
A name is a batch on the cluster of the kubeconfig, a folder (with a slash) one on this machine. While the batch runs, what
is recorded so far is printed.

On a cluster the lines come from the batch's collector pod through the API server, which takes the right to forward
ports of pods. They are there for as long as the batch is.

Examples:
  harmony results render -n team-a -o results.ndjson
  harmony results ./render.harmony | jq -r .output";

const FAILED_HELP: &str = "\
A name is a batch on the cluster of the kubeconfig, a folder (with a slash) one on this machine.

Examples:
  harmony failed render -n team-a
  harmony failed ./render.harmony | jq -r '[.number, .reason, .log] | @tsv'";

const JOBLOG_HELP: &str = "\
A name is a batch on the cluster of the kubeconfig, a folder (with a slash) one on this machine.

Examples:
  harmony joblog render -n team-a -o joblog.tsv
  harmony joblog ./render.harmony | sort -t '\t' -k 5 -n -r | head";

/// The command line under the name that the program was started by.
fn command(started_as: Option<&str>) -> clap::Command {
    let plugin = started_as
        .map(Path::new)
        .and_then(Path::file_name)
        .is_some_and(|name| name == PLUGIN);
    let command = Program::command();
    if !plugin {
        return command;
    }
    let named = |command: clap::Command| {
        let help = command
            .get_after_long_help()
            .map(|help| help.to_string().replace("  harmony ", "  kubectl harmony "));
        help.into_iter().fold(command, clap::Command::after_long_help)
    };
    command.bin_name("kubectl harmony").mut_subcommands(named)
}

/// Reads the command line and does what it says.
pub(crate) fn main() -> ExitCode {
    let started_as = std::env::args_os()
        .next()
        .map(|name| name.to_string_lossy().into_owned());
    let program =
        Program::from_arg_matches(&command(started_as.as_deref()).get_matches()).unwrap_or_else(|error| error.exit());
    let _telemetry = harmony_telemetry::init(&program.logs, program.command.default_filter());
    match program.command {
        Command::Run(args) => run::main(&args).into(),
        Command::Submit(args) => submit::main(&args).into(),
        Command::Status(args) => status::main(&args).into(),
        Command::Explain(args) => explain::main(&args).into(),
        Command::Top(args) => top::main(&args).into(),
        Command::Results(args) => results::main(Export::Results, &args).into(),
        Command::Failed(args) => results::main(Export::Failed, &args).into(),
        Command::Joblog(args) => results::main(Export::Joblog, &args).into(),
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

    fn help(started_as: &str, words: &[&str]) -> String {
        let mut command = command(Some(started_as));
        let error = command
            .try_get_matches_from_mut([&[started_as], words, &["--help"]].concat())
            .unwrap_err();
        error.to_string()
    }

    #[test]
    fn usage_names_the_program_as_people_call_it() {
        for (started_as, name) in [
            ("/usr/bin/harmony", "harmony"),
            ("/bin/kubectl-harmony", "kubectl harmony"),
        ] {
            let text = help(started_as, &["results"]);
            assert!(
                text.contains(&format!("Usage: {name} results [OPTIONS] <BATCH>")),
                "{text}"
            );
            assert!(text.contains(&format!("\n  {name} results render")), "{text}");
        }
    }

    #[test]
    fn every_command_on_batches_takes_the_flags_of_kubectl_and_shows_an_example() {
        for word in ["submit", "status", "explain", "top", "results", "failed", "joblog"] {
            let text = help("harmony", &[word]);
            for flag in ["-n, --namespace", "--context", "--kubeconfig", "Examples:"] {
                assert!(text.contains(flag), "{word}: {text}");
            }
        }
    }
}
