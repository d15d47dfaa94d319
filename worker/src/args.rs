//! The command line of a worker: the same for `harmony worker` and for a program of one's own.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use harmony_transport::{Endpoint, LinkArgs};

/// How a worker is started.
#[derive(Args, Clone, Debug)]
pub struct WorkerArgs {
    /// The worker's name, as people see it.
    #[arg(long, env = "HARMONY_WORKER_NAME")]
    pub name: String,
    /// Where ventilators reach it: `unix:/path`, or `tcp://host:port`.
    #[arg(long, value_name = "ENDPOINT")]
    pub listen: Endpoint,
    /// Tasks that run at once.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub slots: u32,
    /// The folder in which commands run; the current one if absent.
    #[arg(long, value_name = "DIR")]
    pub work_dir: Option<PathBuf>,
    /// Seconds that running tasks get to end when the worker is asked to leave, and that a task gets between SIGTERM and SIGKILL.
    #[arg(long, default_value_t = 10, value_name = "SECONDS")]
    pub grace: u64,
    /// End, with all tasks, when standard input closes: whoever started the worker is gone.
    #[arg(long)]
    pub until_stdin_closes: bool,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub link: LinkArgs,
}

impl WorkerArgs {
    pub(crate) fn grace(&self) -> Duration {
        Duration::from_secs(self.grace)
    }
}
