//! `library`: a closure inside the worker's own program, on a thread per slot.
//!
//! Tasks and outcomes change hands by the chunk. A keeper thread takes back what waits behind a task that turned out to
//! be long, hands on what is finished before it, and watches deadlines.

mod lane;

use std::{
    any::Any,
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use harmony_protocol::{ids::Attempt, wire::OutcomeCode};
use tokio::sync::mpsc::UnboundedSender;

use self::lane::{Lane, Overdue};
use super::{
    Executor, ExecutorEvent, Finished, Setup, Task,
    deadline::{Deadline, Extension},
    outcome::{Began, End, text},
    pace::Pace,
    queue::Stop,
};

/// Tasks that one thread takes at once at most.
const CHUNK_MOST: usize = 256;
/// Tasks outstanding per slot: chunks for each thread to go on with while the caller handles the last one.
const AHEAD: usize = 4 * CHUNK_MOST;
/// A chunk is about this much work; a task that holds up others for longer loses them to other threads.
const CHUNK_TIME: Duration = Duration::from_millis(2);
/// How often the keeper looks, while tasks are outstanding.
const KEEPER_TICK: Duration = Duration::from_millis(10);
/// The exit code of a task that panicked: what a Rust program exits with.
const PANIC_CODE: i32 = 101;
/// The exit code of a task that returned an error.
const ERROR_CODE: i32 = 1;

/// What the closure sees of its task.
#[derive(Clone, Copy, Debug)]
pub struct TaskContext<'a> {
    /// The task's number.
    pub number: u64,
    /// Which try this is.
    pub attempt: Attempt,
    /// What to work on. One above 1 MiB is read from the worker's disk when the task begins, and held until it ends.
    pub payload: &'a [u8],
    /// The batch's name.
    pub batch: &'a str,
}

type Closure = dyn Fn(TaskContext<'_>) -> Result<Vec<u8>, String> + Send + Sync;

/// Starts an executor that runs `closure` on [`Setup::slots`] threads. An error or a panic is a failure of that task, with
/// its text as log.
///
/// A thread cannot be killed. A closure that passes its deadline is reported as `DeadlineExceeded`, and one that is still
/// running at the end of the grace after a stop as `Stopped`; then comes [`ExecutorEvent::Stuck`]: the caller must end
/// the process, for the thread is lost to the executor. Dropping the executor does not wait for a running closure.
pub fn library(
    closure: Arc<Closure>,
    setup: &Setup,
    events: UnboundedSender<ExecutorEvent>,
) -> Result<Box<dyn Executor>, String> {
    let slots = setup.slots.max(1);
    let pool = Arc::new(Pool {
        state: Mutex::new(State {
            tasks: VecDeque::new(),
            idle: 0,
            closed: false,
        }),
        ready: Condvar::new(),
        busy: Condvar::new(),
        lanes: (0..slots).map(|_| Lane::default()).collect(),
        extension: Extension::default(),
        closure,
        events,
        setup: setup.clone(),
    });
    let library = Library {
        pool: Arc::clone(&pool),
    };
    for slot in 0..slots {
        let pool = Arc::clone(&pool);
        start_thread(&format!("library-{slot}"), move || pool.run(slot))?;
    }
    start_thread("library-keeper", move || pool.keep())?;
    Ok(Box::new(library))
}

fn start_thread(name: &str, run: impl FnOnce() + Send + 'static) -> Result<(), String> {
    let started = thread::Builder::new().name(name.to_owned()).spawn(run);
    started
        .map(drop)
        .map_err(|error| format!("the thread {name} cannot be started: {error}"))
}

struct Library {
    pool: Arc<Pool>,
}

struct Pool {
    state: Mutex<State>,
    /// Tasks came: for the threads.
    ready: Condvar,
    /// There is work: for the keeper.
    busy: Condvar,
    lanes: Vec<Lane>,
    extension: Extension,
    closure: Arc<Closure>,
    events: UnboundedSender<ExecutorEvent>,
    setup: Setup,
}

struct State {
    tasks: VecDeque<Task>,
    /// Threads that wait for tasks.
    idle: usize,
    closed: bool,
}

impl Executor for Library {
    fn window(&self) -> usize {
        self.pool.lanes.len() * AHEAD
    }

    fn submit(&mut self, tasks: Vec<Task>) {
        let mut state = self.pool.lock();
        state.tasks.extend(tasks);
        self.pool.wake(&state);
    }

    fn stop(&mut self, numbers: &[u64]) {
        self.pool.stop(&Stop::These(numbers.iter().copied().collect()));
    }

    fn stop_all(&mut self) {
        self.pool.stop(&Stop::All);
    }

    fn recall(&mut self) {
        let tasks = std::mem::take(&mut self.pool.lock().tasks);
        self.pool.report_stopped(&tasks);
    }

    fn extend_deadlines(&mut self, gap: Duration) {
        self.pool.extension.add(gap);
    }
}

impl Drop for Library {
    fn drop(&mut self) {
        self.pool.lock().closed = true;
        self.pool.ready.notify_all();
        self.pool.busy.notify_all();
    }
}

impl Pool {
    fn run(&self, slot: usize) {
        let Some(lane) = self.lanes.get(slot) else { return };
        let mut pace = Pace::new(CHUNK_TIME, CHUNK_MOST);
        while self.fill(lane, pace.share()) {
            let chunk = Began::now();
            let (mut began, mut count, mut last) = (chunk, 0, None);
            let deadline = |began: Began| Deadline::new(self.setup.deadline, began.at, &self.extension);
            while let Some(task) = lane.next(last.take(), began, deadline(began)) {
                let end = self.call(&task);
                let took = began.at.elapsed();
                last = Some(end.of(task.number, task.attempt, began, took));
                began = began.later(took);
                count += 1;
            }
            pace.observe(count, chunk.at.elapsed());
            self.report_finished(lane.take_finished());
        }
    }

    /// Waits for tasks and moves a fair share of them into the lane. Says no when the executor was dropped.
    fn fill(&self, lane: &Lane, share: usize) -> bool {
        let mut state = self.lock();
        while state.tasks.is_empty() && !state.closed {
            state.idle += 1;
            state = self.ready.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.idle -= 1;
        }
        let count = share.min(state.tasks.len().div_ceil(self.lanes.len()));
        lane.fill(state.tasks.drain(..count));
        !state.closed
    }

    fn call(&self, task: &Task) -> End {
        let Task { number, attempt, .. } = task;
        let input = self.setup.spool.payloads.input(self.setup.uid, task);
        let unreadable = |error| format!("its payload cannot be read: {error}");
        let read = input.and_then(|input| input.into_bytes().map_err(unreadable));
        let payload = match &read {
            Ok(payload) => payload,
            Err(reason) => return End::error(reason),
        };
        let context = TaskContext {
            number: *number,
            attempt: *attempt,
            payload,
            batch: &self.setup.batch,
        };
        match catch_unwind(AssertUnwindSafe(|| (self.closure)(context))) {
            Ok(Ok(output)) if output.len() as u64 > self.setup.max_output => {
                let (length, most) = (output.len(), self.setup.max_output);
                let log = format!("the output has {length} bytes; at most {most} are allowed");
                End::failure(OutcomeCode::ResultTooLarge, text(log))
            }
            Ok(Ok(output)) => {
                let key = (self.setup.uid, *number, *attempt);
                End::success_of(Bytes::from(output), &self.setup.spool, key)
            }
            Ok(Err(reason)) => End::exit_code(ERROR_CODE, text(reason)),
            Err(panic) => End::exit_code(PANIC_CODE, text(panic_text(panic.as_ref()))),
        }
    }

    /// The keeper: looks at the lanes while there is work.
    fn keep(&self) {
        let mut state = self.lock();
        while !state.closed {
            let is_quiet = state.tasks.is_empty() && state.idle == self.lanes.len();
            state = if is_quiet {
                self.busy.wait(state).unwrap_or_else(PoisonError::into_inner)
            } else {
                self.busy
                    .wait_timeout(state, KEEPER_TICK)
                    .unwrap_or_else(PoisonError::into_inner)
                    .0
            };
            for lane in &self.lanes {
                let seen = lane.inspect(Instant::now(), CHUNK_TIME, &self.extension);
                for task in seen.held_up.into_iter().rev() {
                    state.tasks.push_front(task);
                }
                self.report_finished(seen.finished);
                if let Some(overdue) = seen.overdue {
                    self.report_overdue(&overdue);
                }
            }
            self.wake(&state);
        }
    }

    fn report_overdue(&self, overdue: &Overdue) {
        let (number, reason) = match overdue {
            Overdue::Deadline(running) => {
                let end = End::failure(OutcomeCode::DeadlineExceeded, Bytes::new());
                let took = running.began.at.elapsed();
                self.report_finished(vec![end.of(running.number, running.attempt, running.began, took)]);
                (running.number, "passed its deadline")
            }
            Overdue::Stop(running) => {
                self.report(ExecutorEvent::Stopped(vec![(running.number, running.attempt)]));
                (running.number, "went on after it was stopped")
            }
        };
        self.report(ExecutorEvent::Stuck(format!(
            "task {number} {reason}, and a thread cannot be killed"
        )));
    }

    /// Takes back what has not begun; a closure that runs may finish within the grace.
    fn stop(&self, stop: &Stop) {
        let mut state = self.lock();
        let (mut stopped, kept) = state
            .tasks
            .drain(..)
            .partition::<VecDeque<_>, _>(|task| stop.covers(task.number));
        state.tasks = kept;
        let give_up_at = Instant::now().checked_add(self.setup.grace);
        for lane in &self.lanes {
            stopped.extend(lane.stop(stop, give_up_at));
        }
        drop(state);
        self.report_stopped(&stopped);
    }

    fn report_stopped(&self, stopped: &VecDeque<Task>) {
        if !stopped.is_empty() {
            let stopped = stopped.iter().map(|task| (task.number, task.attempt)).collect();
            self.report(ExecutorEvent::Stopped(stopped));
        }
    }

    /// Wakes as many threads as there are tasks for, and the keeper.
    fn wake(&self, state: &State) {
        if state.tasks.is_empty() {
            return;
        }
        if state.idle == self.lanes.len() {
            self.busy.notify_one();
        }
        for _ in 0..state.idle.min(state.tasks.len()) {
            self.ready.notify_one();
        }
    }

    fn report_finished(&self, finished: Vec<Finished>) {
        if !finished.is_empty() {
            self.report(ExecutorEvent::Finished(finished));
        }
    }

    fn report(&self, event: ExecutorEvent) {
        let _ = self.events.send(event); // a caller that left wants no answers
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No user code runs under the lock, so the state behind a poisoned one is whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    format!(
        "the task panicked: {}",
        text.as_deref().unwrap_or("with a value that is no text")
    )
}
