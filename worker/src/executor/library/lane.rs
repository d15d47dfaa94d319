//! What one thread of the library executor has in hand, where the keeper can see it.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use harmony_protocol::ids::Attempt;

use crate::executor::{
    Finished, Task,
    deadline::{Deadline, Extension},
    outcome::Began,
    queue::Stop,
};

/// A thread's chunk of tasks.
#[derive(Default)]
pub(super) struct Lane {
    hand: Mutex<Hand>,
}

#[derive(Default)]
struct Hand {
    pending: VecDeque<Task>,
    running: Option<Running>,
    finished: Vec<Finished>,
}

/// The task that a thread runs now.
#[derive(Clone, Copy, Debug)]
pub(super) struct Running {
    pub(super) number: u64,
    pub(super) attempt: Attempt,
    pub(super) began: Began,
    deadline: Deadline,
    /// It was stopped, and is given up then.
    give_up_at: Option<Instant>,
}

/// A running task that is given up.
pub(super) enum Overdue {
    Deadline(Running),
    Stop(Running),
}

/// What the keeper takes from a lane.
pub(super) struct Seen {
    pub(super) finished: Vec<Finished>,
    /// Tasks behind one that takes long.
    pub(super) held_up: VecDeque<Task>,
    pub(super) overdue: Option<Overdue>,
}

impl Lane {
    pub(super) fn fill(&self, tasks: impl Iterator<Item = Task>) {
        self.lock().pending.extend(tasks);
    }

    /// Puts down the last outcome and begins the next task. An outcome of a task that was given up is dropped: it has
    /// been reported already.
    pub(super) fn next(&self, last: Option<Finished>, began: Began, deadline: Deadline) -> Option<Task> {
        let mut hand = self.lock();
        if hand.running.take().is_some() {
            hand.finished.extend(last);
        }
        let task = hand.pending.pop_front()?;
        let Task { number, attempt, .. } = task;
        hand.running = Some(Running {
            number,
            attempt,
            began,
            deadline,
            give_up_at: None,
        });
        Some(task)
    }

    pub(super) fn take_finished(&self) -> Vec<Finished> {
        std::mem::take(&mut self.lock().finished)
    }

    /// Takes out what is to be stopped and has not begun; what runs is given up at the time given.
    pub(super) fn stop(&self, stop: &Stop, give_up_at: Option<Instant>) -> VecDeque<Task> {
        let mut hand = self.lock();
        if let Some(running) = hand.running.as_mut().filter(|running| stop.covers(running.number)) {
            running.give_up_at = running.give_up_at.or(give_up_at);
        }
        let (stopped, kept) = hand.pending.drain(..).partition(|task| stop.covers(task.number));
        hand.pending = kept;
        stopped
    }

    /// Takes what is finished, what a task longer than `long` holds up, and what is overdue.
    pub(super) fn inspect(&self, now: Instant, long: Duration, extension: &Extension) -> Seen {
        let mut hand = self.lock();
        let mut seen = Seen {
            finished: std::mem::take(&mut hand.finished),
            held_up: VecDeque::new(),
            overdue: None,
        };
        let Some(running) = &mut hand.running else { return seen };
        if running.deadline.is_past(now, extension) {
            seen.overdue = Some(Overdue::Deadline(*running));
        } else if running.give_up_at.is_some_and(|at| now >= at) {
            seen.overdue = Some(Overdue::Stop(*running));
        }
        if seen.overdue.is_some() || now.saturating_duration_since(running.began.at) > long {
            seen.held_up = std::mem::take(&mut hand.pending);
        }
        if seen.overdue.is_some() {
            hand.running = None;
        }
        seen
    }

    fn lock(&self) -> MutexGuard<'_, Hand> {
        // No user code runs under the lock, so what is behind a poisoned one is whole.
        self.hand.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
