//! One part as a process: started with a pipe that holds it, and listened to.

use std::ffi::OsString;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};
use std::{env, io};

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::mpsc::UnboundedSender;
use tokio::time::timeout;

use super::parts::Part;

/// A line of a part's standard error; longer ones are cut into several.
const LINE_BYTES: usize = 8 << 10;
/// How long the last words of a part that ended by itself are waited for.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// What the parts tell.
#[derive(Debug)]
pub(crate) enum Notice {
    /// A process ended.
    Ended(Part, io::Result<ExitStatus>),
    /// A line of its standard error.
    Line(Part, String),
}

/// A part that runs.
pub(crate) struct Process {
    pid: u32,
    started: Instant,
    /// Held open: the part ends when it closes.
    stdin: Option<ChildStdin>,
}

impl Process {
    /// Starts a part. From now on `notices` hears what it says, and of its end.
    pub(crate) fn start(
        part: Part,
        program: &OsString,
        arguments: &[OsString],
        notices: UnboundedSender<Notice>,
    ) -> io::Result<Self> {
        let mut command = std::process::Command::new(program);
        if env::current_exe().is_ok_and(|own| own.as_os_str() == program) {
            // What people look for in a list of processes, wherever the program lies.
            command.arg0("harmony");
        }
        command
            .args(arguments)
            .args(harmony_telemetry::flags())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            // A group of its own: Ctrl-C is for the run, which tells its parts.
            .process_group(0);
        let mut child = Command::from(command).spawn()?;
        let process = Self {
            pid: child.id().unwrap_or_default(),
            started: Instant::now(),
            stdin: child.stdin.take(),
        };
        tokio::spawn(attend(part, child, notices));
        Ok(process)
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// When it was started.
    pub(crate) fn started(&self) -> Instant {
        self.started
    }

    /// Tells it that this process lets go of it.
    pub(crate) fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        if let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, signal);
        }
    }
}

/// Hands on what a part says until its standard error ends, and tells of its end at once: a grandchild may hold standard
/// error open. Only who ended by itself is first heard out, for its last words say why.
async fn attend(part: Part, mut child: Child, notices: UnboundedSender<Notice>) {
    let stderr = child.stderr.take();
    let mut words = std::pin::pin!(async {
        if let Some(stderr) = stderr {
            forward_lines(part, stderr, &notices).await;
        }
    });
    let mut heard_out = false;
    let status = tokio::select! {
        biased;
        status = child.wait() => status,
        () = &mut words => {
            heard_out = true;
            child.wait().await
        }
    };
    let by_itself = status.as_ref().is_ok_and(|status| status.signal().is_none());
    if by_itself && !heard_out {
        heard_out = timeout(LAST_WORDS, &mut words).await.is_ok();
    }
    let _ = notices.send(Notice::Ended(part, status));
    if !heard_out {
        words.await;
    }
}

/// Hands on what a part says, line by line.
async fn forward_lines(part: Part, mut stderr: impl AsyncRead + Unpin, notices: &UnboundedSender<Notice>) {
    let say = |line: &mut Vec<u8>| {
        let text = String::from_utf8_lossy(line).into_owned();
        line.clear();
        notices.send(Notice::Line(part, text)).is_ok()
    };
    let mut line = Vec::new();
    let mut chunk = vec![0; LINE_BYTES];
    while let Ok(read @ 1..) = stderr.read(&mut chunk).await {
        for byte in chunk.iter().take(read) {
            if *byte != b'\n' {
                line.push(*byte);
            }
            if (*byte == b'\n' || line.len() >= LINE_BYTES) && !say(&mut line) {
                return;
            }
        }
    }
    if !line.is_empty() {
        say(&mut line);
    }
}
