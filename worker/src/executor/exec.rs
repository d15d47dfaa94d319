//! `exec`: one process per task. Payload on stdin, output from stdout.
//!
//! A thread per slot starts the process and serves its pipes until the process ends: a process costs most of its time in
//! the kernel, so anything cleverer only adds to it.

use std::{
    os::fd::AsFd,
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use harmony_protocol::{ids::BatchUid, wire::OutcomeCode};
use rustix::process::Signal;
use tokio::sync::mpsc::UnboundedSender;

use super::{
    Executor, ExecutorEvent, Setup, Task,
    child::{Child, Output, READ_BYTES, Ready},
    deadline::Deadline,
    outcome::{Began, End},
    program::Program,
    queue::{Queue, Room},
    slots::Slots,
};
use crate::payloads::Input;
use crate::spool::{Collected, Spool};

/// Tasks outstanding per slot: one runs and one waits, so that a slot goes on without a turn through the caller. With
/// processes as short as `true` that is a quarter more of them per second.
const AHEAD: usize = 2;

/// Starts the executor.
pub(super) fn start(
    program: &Program,
    setup: &Setup,
    events: UnboundedSender<ExecutorEvent>,
) -> Result<Box<dyn Executor>, String> {
    let slots = Slots::start("exec", setup.slots, AHEAD, events, |slot, queue| {
        let limits = Limits {
            output: setup.max_output,
            deadline: setup.deadline,
            grace: setup.grace,
        };
        let runner = Runner {
            slot,
            queue,
            uid: setup.uid,
            spool: Arc::clone(&setup.spool),
            command: program.command(),
            program: program.clone(),
            limits,
            buffer: vec![0; READ_BYTES],
        };
        move || runner.run()
    })?;
    Ok(Box::new(slots))
}

#[derive(Clone, Copy)]
struct Limits {
    output: u64,
    deadline: Option<Duration>,
    grace: Duration,
}

/// One slot.
struct Runner {
    slot: usize,
    queue: Arc<Queue>,
    uid: BatchUid,
    spool: Arc<Spool>,
    program: Program,
    command: Command,
    limits: Limits,
    buffer: Vec<u8>,
}

/// Why a process is being ended before it ends by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    Deadline,
    Size,
    /// Its output cannot be kept.
    Spool,
    Stop,
}

impl Runner {
    fn run(mut self) {
        while let Some(task) = self.next_task() {
            let began = Began::now();
            match self.attempt(&task, began) {
                Some(end) => self.queue.report_finished(vec![end.of_task(&task, began)]),
                None => self.queue.report_stopped(vec![(task.number, task.attempt)]),
            }
        }
    }

    fn next_task(&self) -> Option<Task> {
        loop {
            let mut sync = self.queue.sync(self.slot, Room::ONE);
            if sync.closed {
                self.queue
                    .report_stopped(sync.tasks.iter().map(|task| (task.number, task.attempt)).collect());
                return None;
            }
            if let Some(task) = sync.tasks.pop_front() {
                return Some(task);
            }
            self.queue.wait(self.slot, None);
        }
    }

    /// What the next process gets through its pipe. A payload in a file becomes its standard input as it is.
    fn open(&mut self, task: &Task) -> Result<Bytes, String> {
        match self.spool.payloads.input(self.uid, task)? {
            Input::Whole(bytes) => Ok(bytes.clone()),
            Input::File { file, .. } => {
                let own = file.try_clone();
                let own = own.map_err(|error| format!("its payload cannot be opened: {error}"))?;
                self.command.stdin(own);
                Ok(Bytes::new())
            }
        }
    }

    /// Runs the task in a process of its own; `None` if it was stopped.
    fn attempt(&mut self, task: &Task, began: Began) -> Option<End> {
        let number = task.number.to_string();
        self.command
            .env("HARMONY_TASK", &number)
            .env("HARMONY_ATTEMPT", task.attempt.to_string())
            .env("JOB_COMPLETION_INDEX", &number);
        let input = match self.open(task) {
            Ok(input) => input,
            Err(reason) => return Some(End::error(reason)),
        };
        let spawned = Child::spawn(&mut self.command);
        self.command.stdin(Stdio::piped());
        match spawned {
            Ok(child) => {
                self.queue.health.started();
                let deadline = Deadline::new(self.limits.deadline, began.at, &self.queue.extension);
                Attempt {
                    runner: self,
                    task,
                    input,
                    child,
                    began: began.at,
                    deadline,
                    written: 0,
                    output: Collected::default(),
                    unkept: String::new(),
                    ending: None,
                    kill_at: None,
                }
                .run()
            }
            Err(error) => {
                let reason = self.program.explain(&error);
                if self.queue.health.start_failed() {
                    self.queue.break_down(reason.clone());
                }
                Some(End::error(reason))
            }
        }
    }
}

/// One process and how far it is.
struct Attempt<'a> {
    runner: &'a mut Runner,
    task: &'a Task,
    /// What its pipe is to take.
    input: Bytes,
    child: Child,
    began: Instant,
    deadline: Deadline,
    written: usize,
    output: Collected,
    /// Why the output cannot be kept, if so.
    unkept: String,
    ending: Option<Cause>,
    kill_at: Option<Instant>,
}

impl Attempt<'_> {
    fn run(mut self) -> Option<End> {
        self.feed();
        loop {
            let ready = self.wait();
            if ready.woken {
                self.obey();
            }
            if ready.stdin {
                self.feed();
            }
            if ready.stdout {
                self.collect();
            }
            if ready.stderr {
                self.child.read_log(&mut self.runner.buffer);
            }
            if ready.exited {
                return self.finish();
            }
            self.watch_the_clock();
        }
    }

    fn wait(&self) -> Ready {
        let queue = &self.runner.queue;
        let deadline = self.deadline.at(&queue.extension).filter(|_| self.ending.is_none());
        match queue.wake(self.runner.slot) {
            Some(wake) => self.child.wait(wake.as_fd(), true, self.kill_at.or(deadline)),
            None => Ready {
                exited: true,
                ..Ready::default()
            },
        }
    }

    fn obey(&mut self) {
        let queue = &self.runner.queue;
        queue.hear(self.runner.slot);
        let sync = queue.sync(self.runner.slot, Room::NONE);
        if sync.closed {
            self.ending = Some(Cause::Stop);
            self.child.signal(Signal::KILL);
        } else if sync.stop.covers(self.task.number) && self.ending.is_none() {
            self.terminate(Cause::Stop);
        }
    }

    fn terminate(&mut self, cause: Cause) {
        self.ending = Some(cause);
        self.child.signal(Signal::TERM);
        self.kill_at = Instant::now().checked_add(self.runner.limits.grace);
    }

    fn watch_the_clock(&mut self) {
        let now = Instant::now();
        if self.kill_at.is_some_and(|at| now >= at) {
            self.child.signal(Signal::KILL);
            self.kill_at = None;
        } else if self.ending.is_none() && self.deadline.is_past(now, &self.runner.queue.extension) {
            self.terminate(Cause::Deadline);
        }
    }

    /// Writes what the pipe takes of the payload, and closes it behind the last byte.
    fn feed(&mut self) {
        let rest = self.input.get(self.written..).unwrap_or_default();
        if !rest.is_empty() {
            self.written += self.child.write(rest);
        }
        if self.written >= self.input.len() {
            self.child.close_stdin();
        }
    }

    /// Reads stdout once; says whether there may be more.
    fn collect(&mut self) -> bool {
        let Output::Bytes(count) = self.child.read(&mut self.runner.buffer) else {
            return false;
        };
        let bytes = self.runner.buffer.get(..count).unwrap_or_default();
        let fits = self.output.len() + count as u64 <= self.runner.limits.output;
        if !fits {
            self.give_up(Cause::Size);
        } else if !matches!(self.ending, Some(Cause::Size | Cause::Spool))
            && let Err(reason) = self.output.push(&self.runner.spool, bytes)
        {
            self.unkept = reason;
            self.give_up(Cause::Spool);
        }
        fits
    }

    /// Nobody will see the output.
    fn give_up(&mut self, cause: Cause) {
        if self.ending.is_none() {
            self.ending = Some(cause);
            self.output = Collected::default();
            self.child.signal(Signal::KILL);
        }
    }

    /// The process has ended: what it started in the background goes, then what it left in its pipes is read. Their end
    /// is not awaited, since something that left the group may hold them open for ever.
    fn finish(mut self) -> Option<End> {
        self.child.signal(Signal::KILL);
        while self.collect() {}
        let (status, log) = match self.child.end(&mut self.runner.buffer) {
            Ok(ended) => ended,
            Err(error) => {
                return Some(End::error(format!(
                    "the exit status of the process cannot be read: {error}"
                )));
            }
        };
        match self.ending {
            Some(Cause::Stop) => None,
            Some(Cause::Deadline) => Some(End::failure(OutcomeCode::DeadlineExceeded, log)),
            Some(Cause::Size) => Some(End::failure(OutcomeCode::ResultTooLarge, log)),
            Some(Cause::Spool) => Some(End::error(self.unkept)),
            None if status.success() => {
                let key = (self.runner.uid, self.task.number, self.task.attempt);
                Some(End::collected(self.output, &self.runner.spool, key))
            }
            None => Some(End::of_status(
                status,
                self.runner.queue.oom_kills.note(status, self.began, log),
            )),
        }
    }
}
