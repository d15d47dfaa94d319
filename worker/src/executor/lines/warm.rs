//! A warm process, the lines sent to it and the answers that come back.

use std::{
    collections::{HashSet, VecDeque},
    io,
    os::fd::BorrowedFd,
    process::{Command, ExitStatus},
    time::{Duration, Instant},
};

use bytes::Bytes;
use memchr::{memchr, memrchr};
use rustix::process::Signal;

use super::outgoing::Outgoing;
use crate::executor::{
    Task,
    child::{Child, Output, Ready},
    deadline::{Deadline, Extension},
    outcome::Began,
    queue::Stop,
};

/// Bytes sent ahead of the answers at most (one task may be larger).
pub(super) const SENT_BYTES_MOST: usize = 256 << 10;

/// A running process with its tasks, in the order they were sent.
pub(super) struct Warm {
    child: Child,
    pub(super) sent: VecDeque<Task>,
    /// Numbers among them that are to be stopped.
    pub(super) marked: HashSet<u64>,
    pub(super) sent_bytes: usize,
    pub(super) outgoing: Outgoing,
    /// The beginning of a line that is not whole yet.
    partial: Vec<u8>,
    /// When the oldest task became the oldest; from then on it counts as running.
    pub(super) began: Began,
    pub(super) deadline: Deadline,
    pub(super) started: Instant,
    pub(super) has_answered: bool,
    /// Its stdout has ended.
    closed: bool,
    pub(super) ending: Option<Cause>,
    pub(super) kill_at: Option<Instant>,
}

/// Why a warm process is being ended before it ends by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// The oldest task passed its deadline.
    Deadline,
    /// The answer to the oldest task is too large.
    Size,
    /// The oldest task was to be stopped.
    Stop,
    /// It wrote more than it was asked for.
    Extra,
    /// It closed stdin or stdout, so that it can answer nothing more.
    Closed,
}

/// What one read gave.
pub(super) enum Answers {
    /// Nothing for now, or ever again.
    None,
    /// Whole lines without their LF, one for each of the oldest tasks. More may follow.
    Lines(Vec<Bytes>),
    /// The same, and then an answer larger than allowed.
    TooLarge(Vec<Bytes>),
    /// More lines than there were tasks: nobody can tell which of them are answers.
    Extra,
}

/// Bytes of a task's line.
fn line_bytes(task: &Task) -> usize {
    usize::try_from(task.payload.len()).unwrap_or(usize::MAX - 1) + 1
}

impl Warm {
    pub(super) fn start(command: &mut Command, extension: &Extension) -> io::Result<Self> {
        let began = Began::now();
        Ok(Self {
            child: Child::spawn(command)?,
            sent: VecDeque::new(),
            marked: HashSet::new(),
            sent_bytes: 0,
            outgoing: Outgoing::default(),
            partial: Vec::new(),
            began,
            deadline: Deadline::new(None, began.at, extension),
            started: began.at,
            has_answered: false,
            closed: false,
            ending: None,
            kill_at: None,
        })
    }

    /// A task whose line is among what is to be written.
    pub(super) fn send(&mut self, task: Task) {
        self.sent_bytes += line_bytes(&task);
        self.sent.push_back(task);
    }

    /// Takes out the oldest task.
    pub(super) fn pop(&mut self) -> Option<Task> {
        let task = self.sent.pop_front()?;
        self.sent_bytes -= line_bytes(&task);
        self.marked.remove(&task.number);
        Some(task)
    }

    /// The oldest task begins now.
    pub(super) fn begin(&mut self, limit: Option<Duration>, extension: &Extension) {
        self.began = Began::now();
        self.deadline = Deadline::new(limit, self.began.at, extension);
    }

    /// Marks the tasks to stop.
    pub(super) fn mark(&mut self, stop: &Stop) {
        self.marked.extend(
            self.sent
                .iter()
                .map(|task| task.number)
                .filter(|number| stop.covers(*number)),
        );
    }

    pub(super) fn is_oldest_marked(&self) -> bool {
        self.sent.front().is_some_and(|task| self.marked.contains(&task.number))
    }

    /// Writes what the pipe takes.
    pub(super) fn flush(&mut self) {
        if self.outgoing.flush(|bytes| self.child.write(bytes)).is_err() {
            // The rest of a line cannot be read: the process must not take its beginning for the whole.
            self.kill();
        }
    }

    pub(super) fn wait(&self, wake: BorrowedFd<'_>, until: Option<Instant>) -> Ready {
        self.child.wait(wake, !self.outgoing.is_empty(), until)
    }

    /// Reads once. Only lines that are answers without doubt are given.
    pub(super) fn read(&mut self, buffer: &mut [u8], most: u64) -> Answers {
        let count = match self.child.read(buffer) {
            Output::Bytes(count) => count,
            Output::Later => return Answers::None,
            Output::Closed => {
                self.closed = true;
                return Answers::None;
            }
        };
        let bytes = buffer.get(..count).unwrap_or_default();
        if self.sent.is_empty() {
            return Answers::Extra;
        }
        let whole = memrchr(b'\n', bytes).map_or(0, |at| at + 1);
        let (head, rest) = bytes.split_at(whole);
        let block = self.complete(head);
        self.partial.extend_from_slice(rest);
        self.split(&block, most)
    }

    /// What was partial together with the bytes that end its last line, as a block of just that size: answers are kept
    /// for long as slices of it.
    fn complete(&mut self, head: &[u8]) -> Bytes {
        if head.is_empty() {
            return Bytes::new();
        }
        if self.partial.is_empty() {
            return Bytes::copy_from_slice(head);
        }
        self.partial.extend_from_slice(head);
        Bytes::from(std::mem::take(&mut self.partial))
    }

    fn split(&self, block: &Bytes, most: u64) -> Answers {
        let mut lines = Vec::new();
        let mut at = 0;
        while let Some(length) = memchr(b'\n', block.get(at..).unwrap_or_default()) {
            if length as u64 > most {
                return Answers::TooLarge(lines);
            }
            if lines.len() == self.sent.len() {
                return Answers::Extra;
            }
            lines.push(block.slice(at..at + length));
            at += length + 1;
        }
        if self.partial.len() as u64 > most && lines.len() < self.sent.len() {
            Answers::TooLarge(lines)
        } else if lines.len() == self.sent.len() && !self.partial.is_empty() {
            Answers::Extra
        } else {
            Answers::Lines(lines)
        }
    }

    /// Reads stderr once.
    pub(super) fn read_log(&mut self, buffer: &mut [u8]) {
        self.child.read_log(buffer);
    }

    /// Reads once and throws it away.
    pub(super) fn skip(&mut self, buffer: &mut [u8]) {
        self.closed |= self.child.read(buffer) == Output::Closed;
    }

    /// Whether it still runs but can be asked nothing, or can answer nothing, any more.
    pub(super) fn is_cut_off(&self) -> bool {
        self.ending.is_none() && (self.closed || !self.child.takes_input())
    }

    /// Whether it may be sent more.
    pub(super) fn is_open(&self) -> bool {
        self.ending.is_none() && !self.is_cut_off()
    }

    /// Ends it in the friendly way first: no more input, and SIGTERM.
    pub(super) fn terminate(&mut self, cause: Cause, kill_at: Option<Instant>) {
        self.ending = Some(cause);
        self.kill_at = kill_at;
        self.child.close_stdin();
        self.child.signal(Signal::TERM);
    }

    pub(super) fn kill(&mut self) {
        self.kill_at = None;
        self.child.signal(Signal::KILL);
    }

    /// Kills what is left of it and reaps it. Gives its status and the tail of its stderr.
    pub(super) fn end(self, buffer: &mut [u8]) -> io::Result<(ExitStatus, Bytes)> {
        self.child.end(buffer)
    }
}
