//! The duties of a container's first process. It becomes the parent of whatever its descendants leave behind, and nobody
//! reaps that but it; signals that it does not handle are lost.
//!
//! So the first process runs the worker as its child and does nothing else: it passes on what the worker is to hear and
//! reaps everybody. When it ends, the system kills all that is left in the container.

use std::env;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, getpid, kill_process, wait};
use tokio::signal::unix::{SignalKind, signal};

/// Signals that end a process add this to their number as its exit code, as shells have it.
const SIGNALLED: i32 = 128;

/// Whether this is a container's first process.
pub(crate) fn is_first() -> bool {
    getpid() == Pid::INIT
}

/// Runs this very program once more, as a child, and ends as it ends.
pub(crate) fn run() -> io::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async {
        // Before the child starts: none of its signals may be missed.
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut hangup = signal(SignalKind::hangup())?;
        let mut ended = signal(SignalKind::child())?;
        let mut arguments = env::args_os();
        let mut command = Command::new("/proc/self/exe");
        arguments.next().map(|name| command.arg0(name));
        let worker = Pid::from_child(&command.args(arguments).spawn()?);
        loop {
            let heard = tokio::select! {
                _ = ended.recv() => match reap(worker) {
                    Some(status) => return Ok(exit_code(status)),
                    None => continue,
                },
                _ = terminate.recv() => Signal::TERM,
                _ = interrupt.recv() => Signal::INT,
                _ = hangup.recv() => Signal::HUP,
            };
            kill_process(worker, heard)?;
        }
    })
}

/// Reaps all who have ended. Returns how the worker ended, if it did.
fn reap(worker: Pid) -> Option<WaitStatus> {
    let mut ended = None;
    while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
        if pid == worker {
            ended = Some(status);
        }
    }
    ended
}

fn exit_code(status: WaitStatus) -> ExitCode {
    let code = status
        .exit_status()
        .or(status.terminating_signal().map(|signal| SIGNALLED + signal));
    ExitCode::from(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX))
}
