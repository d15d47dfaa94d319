//! `process` with `lines`: a warm process per slot, a line in, a line out, in order.
//!
//! Lines are sent ahead of the answers, as many as a short time of work, so that a fast filter never waits and a slow one
//! holds back few. If the process dies with several tasks outstanding nobody knows which one killed it: they rerun one at
//! a time until it dies again with a single one, which is charged.

mod outgoing;
mod settle;
mod warm;

use std::{
    collections::VecDeque,
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use harmony_protocol::ids::BatchUid;
use tokio::sync::mpsc::UnboundedSender;

use self::warm::{Answers, Cause, SENT_BYTES_MOST, Warm};
use super::{
    Executor, ExecutorEvent, Setup, Task,
    child::READ_BYTES,
    outcome::{Began, End},
    pace::{AHEAD_MOST, Pace},
    program::Program,
    queue::{Queue, Room, Stop},
    slots::Slots,
};
use crate::spool::Spool;

/// Work sent ahead of the answers, as time: hides a round trip of some ten microseconds many times over.
const AHEAD: Duration = Duration::from_millis(10);
/// The first answer is awaited this long before people are told about output buffering.
const SILENCE: Duration = Duration::from_secs(5);

/// Starts the executor and its processes.
pub(super) fn start(
    program: &Program,
    setup: &Setup,
    events: UnboundedSender<ExecutorEvent>,
) -> Result<Box<dyn Executor>, String> {
    let slots = Slots::start("lines", setup.slots, AHEAD_MOST, events, |slot, queue| {
        let runner = Runner {
            slot,
            queue,
            command: program.command(),
            program: program.clone(),
            uid: setup.uid,
            spool: Arc::clone(&setup.spool),
            max_output: setup.max_output,
            limit: setup.deadline,
            grace: setup.grace,
            warm: None,
            rerun: VecDeque::new(),
            suspects: 0,
            pace: Pace::new(AHEAD, AHEAD_MOST),
            pause: Duration::ZERO,
            start_at: None,
            buffer: vec![0; READ_BYTES],
        };
        move || runner.run()
    })?;
    Ok(Box::new(slots))
}

/// One slot.
struct Runner {
    slot: usize,
    queue: Arc<Queue>,
    program: Program,
    command: Command,
    uid: BatchUid,
    spool: Arc<Spool>,
    max_output: u64,
    limit: Option<Duration>,
    grace: Duration,
    warm: Option<Warm>,
    /// Tasks of a process that ended, to be sent before any other.
    rerun: VecDeque<Task>,
    /// How many of the oldest unanswered tasks run one at a time.
    suspects: usize,
    pace: Pace,
    pause: Duration,
    start_at: Option<Instant>,
    buffer: Vec<u8>,
}

impl Runner {
    fn run(mut self) {
        loop {
            let sync = self.queue.sync(self.slot, self.room());
            if sync.closed {
                return self.let_go(&sync.tasks);
            }
            self.obey(&sync.stop);
            if self.accept(sync.tasks) {
                // What was refused made no room smaller: others may take its place now, and nobody else will say so.
                continue;
            }
            if self.warm.is_some() {
                self.serve();
            } else {
                self.restart();
            }
        }
    }

    /// How many new tasks may be sent now.
    fn room(&self) -> Room {
        match &self.warm {
            Some(warm) if warm.is_open() && self.suspects == 0 && self.rerun.is_empty() => {
                let bytes = SENT_BYTES_MOST.saturating_sub(warm.sent_bytes);
                let tasks = self.pace.share().saturating_sub(warm.sent.len());
                Room {
                    tasks: if bytes == 0 { 0 } else { tasks },
                    bytes,
                }
            }
            _ => Room::NONE,
        }
    }

    /// Hands back what waits, and marks what was sent: the process works for the others until a marked one is the oldest.
    fn obey(&mut self, stop: &Stop) {
        if matches!(stop, Stop::None) {
            return;
        }
        let (stopped, kept): (VecDeque<_>, _) = self.rerun.drain(..).partition(|task| stop.covers(task.number));
        self.rerun = kept;
        self.queue
            .report_stopped(stopped.iter().map(|task| (task.number, task.attempt)).collect());
        if let Some(warm) = &mut self.warm {
            warm.mark(stop);
        }
        self.stop_oldest();
    }

    fn stop_oldest(&mut self) {
        if let Some(warm) = self
            .warm
            .as_mut()
            .filter(|warm| warm.ending.is_none() && warm.is_oldest_marked())
        {
            warm.terminate(Cause::Stop, Instant::now().checked_add(self.grace));
        }
    }

    /// Takes new tasks, and refuses those that cannot be a line. Says whether there were any of these.
    fn accept(&mut self, tasks: VecDeque<Task>) -> bool {
        let mut refused = Vec::new();
        for task in tasks {
            match self.check_line(&task) {
                Ok(()) => self.rerun.push_back(task),
                Err(reason) => refused.push(End::error(reason).of_task(&task, Began::now())),
            }
        }
        let any = !refused.is_empty();
        self.queue.report_finished(refused);
        any
    }

    fn check_line(&self, task: &Task) -> Result<(), String> {
        let input = self.spool.payloads.input(self.uid, task)?;
        match input.holds_line_feed() {
            Ok(false) => Ok(()),
            Ok(true) => Err(
                "the payload holds a line feed, so it cannot be sent as one line: use `exec`, or encode the payload"
                    .to_owned(),
            ),
            Err(error) => Err(format!("its payload cannot be read: {error}")),
        }
    }

    /// One turn with a running process.
    fn serve(&mut self) {
        self.feed();
        let until = self.until();
        let (Some(warm), Some(wake)) = (&mut self.warm, self.queue.wake(self.slot)) else {
            return;
        };
        let ready = warm.wait(wake, until);
        if ready.woken {
            self.queue.hear(self.slot);
        }
        if ready.stderr {
            warm.read_log(&mut self.buffer);
        }
        if ready.stdout {
            self.receive();
        }
        if ready.exited {
            while self.receive() {}
            self.settle();
        } else {
            self.stop_oldest();
            self.watch_the_clock();
        }
    }

    /// Sends what the window allows, and writes what the pipe takes.
    fn feed(&mut self) {
        let window = if self.suspects > 0 { 1 } else { self.pace.share() };
        let Some(warm) = self.warm.as_mut().filter(|warm| warm.is_open()) else {
            return;
        };
        while warm.sent.len() < window
            && let Some(task) = self.rerun.pop_front()
        {
            let is_oldest = warm.sent.is_empty();
            match self.spool.payloads.input(self.uid, &task) {
                Ok(input) => warm.outgoing.push(input),
                Err(reason) => {
                    let end = End::error(reason).of_task(&task, Began::now());
                    self.queue.report_finished(vec![end]);
                    continue;
                }
            }
            warm.send(task);
            if is_oldest {
                warm.begin(self.limit, &self.queue.extension);
            }
        }
        warm.flush();
    }

    /// When to look at the clock again.
    fn until(&self) -> Option<Instant> {
        let warm = self.warm.as_ref()?;
        if warm.ending.is_some() || warm.sent.is_empty() {
            return warm.kill_at;
        }
        let silence = warm
            .began
            .at
            .checked_add(SILENCE)
            .filter(|_| self.queue.health.awaits_first_answer());
        [warm.deadline.at(&self.queue.extension), silence, warm.kill_at]
            .into_iter()
            .flatten()
            .min()
    }

    /// Reads once and reports the answers. Says whether there may be more.
    fn receive(&mut self) -> bool {
        let Some(warm) = &mut self.warm else { return false };
        // A process that is stopped may still finish what it works on; one that is ended for a fault is not believed.
        if warm.ending.is_some_and(|cause| cause != Cause::Stop) {
            warm.skip(&mut self.buffer);
            return false;
        }
        match warm.read(&mut self.buffer, self.max_output) {
            Answers::None => false,
            Answers::Lines(lines) => {
                self.answered(lines);
                true
            }
            Answers::TooLarge(lines) => {
                self.answered(lines);
                self.end(Cause::Size);
                false
            }
            Answers::Extra => {
                self.end(Cause::Extra);
                false
            }
        }
    }

    fn end(&mut self, cause: Cause) {
        if let Some(warm) = &mut self.warm {
            warm.ending = Some(cause);
            warm.kill();
        }
    }

    /// These are the answers to the oldest tasks. The time since the last ones is shared evenly among them.
    fn answered(&mut self, lines: Vec<Bytes>) {
        let Some(warm) = self.warm.as_mut().filter(|_| !lines.is_empty()) else {
            return;
        };
        let took = warm.began.at.elapsed();
        self.pace.observe(lines.len(), took);
        let each = took / u32::try_from(lines.len()).unwrap_or(u32::MAX);
        let mut began = warm.began;
        let mut finished = Vec::with_capacity(lines.len());
        for line in lines {
            let Some(task) = warm.pop() else { break };
            let end = End::success_of(line, &self.spool, (self.uid, task.number, task.attempt));
            finished.push(end.of(task.number, task.attempt, began, each));
            began = began.later(each);
        }
        warm.has_answered = true;
        warm.begin(self.limit, &self.queue.extension);
        self.suspects = self.suspects.saturating_sub(finished.len());
        self.queue.health.answered();
        self.queue.report_finished(finished);
    }

    fn watch_the_clock(&mut self) {
        let Some(warm) = &mut self.warm else { return };
        let now = Instant::now();
        let kill_at = now.checked_add(self.grace);
        if warm.kill_at.is_some_and(|at| now >= at) {
            warm.ending = warm.ending.or(Some(Cause::Closed));
            warm.kill();
        } else if warm.is_cut_off() && warm.kill_at.is_none() {
            warm.kill_at = kill_at; // it is most likely about to exit
        } else if warm.ending.is_none() && !warm.sent.is_empty() {
            if warm.deadline.is_past(now, &self.queue.extension) {
                warm.terminate(Cause::Deadline, kill_at);
            } else if now >= warm.began.at + SILENCE && self.queue.health.tell_silence() {
                self.queue.warn(self.program.silence(SILENCE));
            }
        }
    }
}
