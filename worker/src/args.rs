//! The command line of a worker: the same for `harmony worker` and for a program of one's own.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use harmony_admin::AdminArgs;
use harmony_protocol::ids::BatchUid;
use harmony_protocol::wire::Executor;
use harmony_protocol::worker::Only;
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
    /// The folder on whose file system payloads and outputs are kept that are too long for one message, until their task has
    /// ended or they are recorded; that for temporary files if absent.
    #[arg(long, value_name = "DIR", env = "HARMONY_SPOOL")]
    pub spool: Option<PathBuf>,
    /// Seconds that running tasks get to end when the worker is asked to leave, and that a task gets between SIGTERM and SIGKILL.
    #[arg(long, default_value_t = 10, value_name = "SECONDS")]
    pub grace: u64,
    /// End, with all tasks, when standard input closes: whoever started the worker is gone.
    #[arg(long)]
    pub until_stdin_closes: bool,
    /// The only batch that it serves; everything if absent.
    #[arg(long, value_name = "UID")]
    pub batch: Option<uuid::Uuid>,
    /// The only executor that it serves, as START has it; everything if absent.
    #[arg(long, value_name = "JSON", value_parser = executor)]
    pub executor: Option<Executor>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub link: LinkArgs,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub admin: AdminArgs,
    /// What a batch runs that names no command of its own.
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}

fn executor(text: &str) -> Result<Executor, serde_json::Error> {
    serde_json::from_str(text)
}

impl WorkerArgs {
    pub(crate) fn grace(&self) -> Duration {
        Duration::from_secs(self.grace)
    }

    pub(crate) fn only(&self) -> Only {
        Only {
            batch: self.batch.map(BatchUid),
            executor: self.executor.clone(),
        }
    }
}
