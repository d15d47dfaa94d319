//! Executors: what runs the user's code, off the caller's thread.
//!
//! An executor owns its threads and processes. The caller submits tasks and reads [`ExecutorEvent`]s; it never waits for
//! user code. Every submitted task is answered exactly once, by [`ExecutorEvent::Finished`] or, where it did not
//! finish, by [`ExecutorEvent::Stopped`], as long as the executor lives and is not [`ExecutorEvent::Stuck`].

mod child;
mod deadline;
mod exec;
mod health;
mod library;
mod lines;
mod memory;
mod outcome;
mod pace;
mod program;
mod queue;
mod slots;

use std::{path::PathBuf, sync::Arc, time::Duration};

use harmony_protocol::{
    ids::{Attempt, BatchUid},
    wire::{self, Framing},
};
use tokio::sync::mpsc::UnboundedSender;

use crate::spool::Spool;

pub use self::library::{TaskContext, library};
pub use harmony_protocol::worker::{Finished, Task};

/// What an executor is told about its batch.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The batch's name, `HARMONY_BATCH` to commands.
    pub batch: String,
    /// The batch's uid, `HARMONY_UID` to commands; orphans are found by it.
    pub uid: BatchUid,
    /// How tasks are run.
    pub executor: wire::Executor,
    /// How many tasks run at once; at least one.
    pub slots: usize,
    /// The largest output of one task, in bytes.
    pub max_output: u64,
    /// The longest single attempt.
    pub deadline: Option<Duration>,
    /// How long a process may take to end after SIGTERM before SIGKILL follows.
    pub grace: Duration,
    /// Where commands run, and what their relative paths start from; the caller's own folder if absent.
    pub work_dir: Option<PathBuf>,
    /// The command that the worker itself was started with: what `exec` without a command runs.
    pub own_command: Vec<String>,
    /// Where outputs are kept that are too long for one message.
    pub spool: Arc<Spool>,
}

/// What an executor tells its caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExecutorEvent {
    /// These tasks ended.
    Finished(Vec<Finished>),
    /// These tasks did not finish: they were stopped, or the executor is broken.
    Stopped(Vec<(u64, Attempt)>),
    /// The executor cannot run anything, for the reason given. Whatever is outstanding or still comes is `Stopped`.
    Broken(String),
    /// User code holds a thread past its deadline, or past the grace after a stop, and a thread cannot be killed: the
    /// caller must end the process (and be started anew). Only the library executor says this.
    Stuck(String),
    /// Something that people should know; the executor goes on.
    Warning(String),
}

/// Runs tasks of one batch. Dropping it kills and reaps all its processes.
pub trait Executor: Send {
    /// How many tasks may be outstanding in all; more than the slots where the executor reads ahead.
    fn window(&self) -> usize;

    /// Takes tasks to run. The caller keeps what is outstanding within [`Executor::window`].
    fn submit(&mut self, tasks: Vec<Task>);

    /// Stops these numbers, as far as they are outstanding: SIGTERM, and SIGKILL after the grace. Each is answered by
    /// `Stopped`, unless it finishes by itself first.
    fn stop(&mut self, numbers: &[u64]);

    /// Stops everything that is outstanding.
    fn stop_all(&mut self);

    /// Gives back what no slot has taken yet; each is answered by `Stopped`. What runs goes on.
    fn recall(&mut self);

    /// The machine was not stepped for `gap`: running tasks get that much longer.
    fn extend_deadlines(&mut self, gap: Duration);
}

/// Starts the executor that `setup` names. Checks first that its command can be run: the error names the command, where
/// it was searched, and the way out.
pub fn prepare(setup: &Setup, events: UnboundedSender<ExecutorEvent>) -> Result<Box<dyn Executor>, String> {
    match &setup.executor {
        wire::Executor::Exec { command } => {
            let program = program::Program::resolve(own_if_empty(command, setup)?, setup)?;
            exec::start(&program, setup, events)
        }
        wire::Executor::Process {
            command,
            framing: Framing::Lines,
        } => {
            let program = program::Program::resolve(command, setup)?;
            lines::start(&program, setup, events)
        }
        wire::Executor::Library => Err(
            "this worker has no closure to run: for `executor.library`, start a program of \
             your own that calls the worker library, and name it as `executor.library.command`"
                .to_owned(),
        ),
    }
}

/// The command to run; without words it is the worker's own.
fn own_if_empty<'a>(command: &'a [String], setup: &'a Setup) -> Result<&'a [String], String> {
    match (command, &setup.own_command[..]) {
        ([], []) => Err(
            "this batch runs the command that the worker was started with, but that is none: give the worker one \
             after `--`, or name one in `executor.exec.command`"
                .to_owned(),
        ),
        ([], own) => Ok(own),
        (named, _) => Ok(named),
    }
}
