//! Executors and the driver of the worker machine; also for Rust closures.
//!
//! A worker of one's own is a program that calls [`run`] with a closure, and is named as `executor.library.command`.

mod args;
mod chunks;
mod driver;
pub mod executor;
mod init;
mod observe;
pub mod parent;
mod payloads;
mod shortage;
mod spool;

use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use harmony_telemetry::LogArgs;
use tracing::Instrument as _;

pub use args::WorkerArgs;
pub use driver::{Closure, Ended, STUCK_EXIT, WorkerError, run as serve};
pub use executor::TaskContext;
pub use shortage::way_out;
pub use spool::Spool;

/// Exit code of a worker that cannot do its work at all, whatever the tasks are.
pub const FAILED_EXIT: u8 = 3;

#[derive(Parser)]
#[command(
    about = "A Harmony worker. `harmony run` starts it; see `executor.library` in the batch.",
    version
)]
struct Program {
    #[command(flatten)]
    args: WorkerArgs,
    #[command(flatten)]
    logs: LogArgs,
}

/// Runs this program as a worker: reads the worker's arguments from the command line and calls the closure for every
/// task, on as many threads as the worker has slots. An error or a panic fails that attempt, with its text as the log.
pub fn run<F>(closure: F) -> ExitCode
where
    F: Fn(TaskContext<'_>) -> Result<Vec<u8>, String> + Send + Sync + 'static,
{
    let Program { args, logs } = Program::parse();
    let _telemetry = harmony_telemetry::init(&logs, "info");
    main(args, Some(Arc::new(closure)))
}

/// Runs a worker to its end and says how this process is to exit.
pub fn main(args: WorkerArgs, closure: Option<Arc<Closure>>) -> ExitCode {
    if init::is_first() {
        return init::run().unwrap_or_else(|error| failed(&error.into()));
    }
    // Each line says which worker it is of.
    let span = tracing::error_span!("worker", worker = args.name);
    let orphan_folder = args.until_stdin_closes.then(|| args.listen.clone());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let ended = runtime.map_err(WorkerError::from).and_then(|runtime| {
        let ended = runtime.block_on(driver::run(args, closure).instrument(span));
        // A closure that holds a thread must not hold the process.
        runtime.shutdown_background();
        ended
    });
    if let Some(listen) = orphan_folder {
        parent::leave_folder(&listen);
    }
    match ended {
        Ok(Ended::Left | Ended::Orphaned) => ExitCode::SUCCESS,
        Ok(Ended::Stuck) => ExitCode::from(STUCK_EXIT),
        Err(error) => failed(&error),
    }
}

fn failed(error: &WorkerError) -> ExitCode {
    tracing::error!("{error}");
    ExitCode::from(FAILED_EXIT)
}
