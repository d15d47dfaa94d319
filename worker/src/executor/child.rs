//! A child process that leads a process group of its own, and its pipes.

use std::{
    io::{self, ErrorKind, Read, Write},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    process::{Child as Process, ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus},
    time::{Duration, Instant},
};

use bytes::Bytes;
use harmony_protocol::limits::LOG_TAIL;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open},
};

/// Bytes read from a pipe at once: what a pipe holds by default.
pub(super) const READ_BYTES: usize = 64 << 10;
/// Bytes of stderr read after the process has ended: what a pipe can hold at most. Something that left the group
/// could write for ever.
const DRAIN_MOST: usize = 1 << 20;
/// How often a start is tried again while the machine is short of something, and the first pause between two.
const START_TRIES: u32 = 6;
const START_PAUSE: Duration = Duration::from_millis(5);

/// A process group; dropping it kills the group and reaps its leader.
pub(super) struct Child {
    process: Process,
    pid: Pid,
    exit: OwnedFd,
    stdin: Option<ChildStdin>,
    stdout: Option<ChildStdout>,
    stderr: Option<ChildStderr>,
    log: Tail,
    reaped: bool,
}

/// What [`Child::wait`] found ready.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Ready {
    pub(super) stdin: bool,
    pub(super) stdout: bool,
    pub(super) stderr: bool,
    pub(super) exited: bool,
    pub(super) woken: bool,
}

/// What one read of stdout gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Output {
    /// So many bytes are in the buffer.
    Bytes(usize),
    /// Nothing for now.
    Later,
    /// There will be nothing more.
    Closed,
}

impl Child {
    /// Starts the command. A shortage that may pass (of processes, memory, descriptors; a script that somebody is still
    /// writing) is waited out for a moment, so that it is not taken for a broken command.
    pub(super) fn spawn(command: &mut Command) -> io::Result<Self> {
        let mut pause = START_PAUSE;
        for _ in 1..START_TRIES {
            match Self::spawn_once(command) {
                Err(error) if may_pass(&error) => std::thread::sleep(pause),
                other => return other,
            }
            pause *= 2;
        }
        Self::spawn_once(command)
    }

    fn spawn_once(command: &mut Command) -> io::Result<Self> {
        let mut process = command.spawn()?;
        let pid = Pid::from_child(&process);
        let opened = pidfd_open(pid, PidfdFlags::empty());
        let exit = match opened {
            Ok(exit) => exit,
            Err(error) => {
                // Without a descriptor its end would go unseen.
                let _ = kill_process_group(pid, Signal::KILL);
                process.wait()?;
                return Err(error.into());
            }
        };
        let (stdin, stdout, stderr) = (process.stdin.take(), process.stdout.take(), process.stderr.take());
        let child = Self {
            process,
            pid,
            exit,
            stdin,
            stdout,
            stderr,
            log: Tail::default(),
            reaped: false,
        };
        for pipe in [
            child.stdin.as_ref().map(AsFd::as_fd),
            child.stdout.as_ref().map(AsFd::as_fd),
            child.stderr.as_ref().map(AsFd::as_fd),
        ] {
            pipe.map_or(Ok(()), |pipe| rustix::io::ioctl_fionbio(pipe, true))?;
        }
        Ok(child)
    }

    /// Waits until something is ready or `until` is reached. Looks at stdin only while `writing`.
    pub(super) fn wait(&self, wake: BorrowedFd<'_>, writing: bool, until: Option<Instant>) -> Ready {
        let exit = self.exit.as_fd();
        let input = self.stdin.as_ref().map(AsFd::as_fd).filter(|_| writing);
        let (output, errors) = (
            self.stdout.as_ref().map(AsFd::as_fd),
            self.stderr.as_ref().map(AsFd::as_fd),
        );
        let mut fds = [
            PollFd::from_borrowed_fd(exit, PollFlags::IN),
            PollFd::from_borrowed_fd(wake, PollFlags::IN),
            // A pipe that is not watched leaves its place to the exit descriptor, asked for nothing.
            PollFd::from_borrowed_fd(input.unwrap_or(exit), asked(input, PollFlags::OUT)),
            PollFd::from_borrowed_fd(output.unwrap_or(exit), asked(output, PollFlags::IN)),
            PollFd::from_borrowed_fd(errors.unwrap_or(exit), asked(errors, PollFlags::IN)),
        ];
        if poll(&mut fds, timeout(until).as_ref()).is_err() {
            return Ready::default(); // interrupted: the caller's loop comes back
        }
        let [exited, woken, stdin, stdout, stderr] = fds.map(|fd| !fd.revents().is_empty());
        Ready {
            stdin: stdin && input.is_some(),
            stdout: stdout && output.is_some(),
            stderr: stderr && errors.is_some(),
            exited,
            woken,
        }
    }

    /// Writes what fits now and says how much that was. A reader that went away is no error: stdin is closed then.
    pub(super) fn write(&mut self, bytes: &[u8]) -> usize {
        let Some(stdin) = &mut self.stdin else { return 0 };
        match stdin.write(bytes) {
            Ok(written) => written,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => 0,
            Err(_) => {
                self.stdin = None;
                0
            }
        }
    }

    /// Tells the process that no more input follows.
    pub(super) fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// Whether input can still be written.
    pub(super) fn takes_input(&self) -> bool {
        self.stdin.is_some()
    }

    /// Reads stdout once.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> Output {
        let output = read_once(self.stdout.as_mut(), buffer);
        if output == Output::Closed {
            self.stdout = None;
        }
        output
    }

    /// Reads stderr once and keeps its tail.
    pub(super) fn read_log(&mut self, buffer: &mut [u8]) -> Output {
        let output = read_once(self.stderr.as_mut(), buffer);
        match output {
            Output::Bytes(count) => self.log.push(buffer.get(..count).unwrap_or_default()),
            Output::Closed => self.stderr = None,
            Output::Later => {}
        }
        output
    }

    /// Sends a signal to the whole group. The leader is not reaped before [`Child::end`], so its id cannot be another's.
    pub(super) fn signal(&self, signal: Signal) {
        let _ = kill_process_group(self.pid, signal); // nobody left to receive it
    }

    /// Kills what is left of the group and reaps its leader. Gives the leader's status and the tail of the log.
    pub(super) fn end(mut self, buffer: &mut [u8]) -> io::Result<(ExitStatus, Bytes)> {
        self.signal(Signal::KILL);
        let mut drained = 0;
        while let Output::Bytes(count) = self.read_log(buffer) {
            drained += count;
            if drained >= DRAIN_MOST {
                break;
            }
        }
        let status = self.process.wait();
        self.reaped = true;
        Ok((status?, self.log.take()))
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if !self.reaped {
            self.signal(Signal::KILL);
            let _ = self.process.wait();
        }
    }
}

/// The last `LOG_TAIL` bytes of a log.
#[derive(Default)]
pub(super) struct Tail {
    bytes: Vec<u8>,
}

impl Tail {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(tail(bytes));
        // Twice the length is kept, so that most small writes move nothing.
        if self.bytes.len() > 2 * LOG_TAIL {
            self.bytes.drain(..self.bytes.len() - LOG_TAIL);
        }
    }

    fn take(&mut self) -> Bytes {
        Bytes::copy_from_slice(tail(&self.bytes))
    }
}

/// The part of a log that travels with a failure.
pub(super) fn tail(log: &[u8]) -> &[u8] {
    log.get(log.len().saturating_sub(LOG_TAIL)..).unwrap_or_default()
}

fn may_pass(error: &io::Error) -> bool {
    use rustix::io::Errno;
    Errno::from_io_error(error).is_some_and(|errno| {
        matches!(
            errno,
            Errno::AGAIN | Errno::NOMEM | Errno::MFILE | Errno::NFILE | Errno::TXTBSY
        )
    })
}

fn asked(pipe: Option<BorrowedFd<'_>>, flags: PollFlags) -> PollFlags {
    if pipe.is_some() { flags } else { PollFlags::empty() }
}

/// The time left until `until`, as poll takes it.
pub(super) fn timeout(until: Option<Instant>) -> Option<Timespec> {
    let left = until?.saturating_duration_since(Instant::now());
    Timespec::try_from(left).ok()
}

fn read_once(pipe: Option<&mut impl Read>, buffer: &mut [u8]) -> Output {
    let Some(pipe) = pipe else { return Output::Closed };
    match pipe.read(buffer) {
        Ok(0) => Output::Closed,
        Ok(count) => Output::Bytes(count),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Output::Later,
        Err(_) => Output::Closed,
    }
}
