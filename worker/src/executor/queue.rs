//! Tasks on their way from the caller to the slots' threads, and the orders to stop them.

use std::{
    collections::{HashSet, VecDeque},
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use harmony_protocol::ids::Attempt;
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use tokio::sync::mpsc::UnboundedSender;

use super::{ExecutorEvent, Finished, Task, child::timeout, deadline::Extension, health::Health, memory::OomKills};

/// What the caller and all slots of one executor share.
pub(super) struct Queue {
    state: Mutex<State>,
    wakes: Vec<OwnedFd>,
    events: UnboundedSender<ExecutorEvent>,
    pub(super) extension: Extension,
    pub(super) health: Health,
    pub(super) oom_kills: OomKills,
}

struct State {
    tasks: VecDeque<Task>,
    slots: Vec<Orders>,
    closed: bool,
}

#[derive(Default)]
struct Orders {
    /// It would have taken more tasks than there were.
    hungry: bool,
    stop: Stop,
}

/// Which of the tasks that a slot holds are to be stopped.
#[derive(Clone, Debug, Default)]
pub(super) enum Stop {
    #[default]
    None,
    These(HashSet<u64>),
    All,
}

impl Stop {
    pub(super) fn covers(&self, number: u64) -> bool {
        match self {
            Self::None => false,
            Self::These(numbers) => numbers.contains(&number),
            Self::All => true,
        }
    }

    fn add(&mut self, more: &Self) {
        match (&mut *self, more) {
            (Self::All, _) | (_, Self::None) => {}
            (Self::These(numbers), Self::These(more)) => numbers.extend(more),
            (this, more) => *this = more.clone(),
        }
    }
}

/// What a slot has to know before it goes on.
pub(super) struct Sync {
    /// The executor is broken or dropped: let go of everything.
    pub(super) closed: bool,
    /// What to stop of the tasks held before this call.
    pub(super) stop: Stop,
    /// New tasks.
    pub(super) tasks: VecDeque<Task>,
}

/// How much more a slot can take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    pub(super) tasks: usize,
    /// Payload bytes; the first task may be larger.
    pub(super) bytes: usize,
}

impl Room {
    pub(super) const NONE: Self = Self { tasks: 0, bytes: 0 };
    pub(super) const ONE: Self = Self { tasks: 1, bytes: 0 };
}

impl Queue {
    pub(super) fn new(slots: usize, events: UnboundedSender<ExecutorEvent>) -> io::Result<Self> {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let wakes = (0..slots).map(|_| eventfd(0, flags)).collect::<Result<Vec<_>, _>>()?;
        let orders = (0..slots).map(|_| Orders::default()).collect();
        let state = State {
            tasks: VecDeque::new(),
            slots: orders,
            closed: false,
        };
        Ok(Self {
            state: Mutex::new(state),
            wakes,
            events,
            extension: Extension::default(),
            health: Health::default(),
            oom_kills: OomKills::of_this_process(),
        })
    }

    pub(super) fn submit(&self, tasks: Vec<Task>) {
        let mut state = self.lock();
        if state.closed {
            drop(state);
            self.report_stopped(tasks.iter().map(|task| (task.number, task.attempt)).collect());
            return;
        }
        state.tasks.extend(tasks);
        for (orders, wake) in state.slots.iter_mut().zip(&self.wakes) {
            if std::mem::take(&mut orders.hungry) {
                ring(wake);
            }
        }
    }

    /// Takes back what no slot has taken yet, and orders the slots to stop the rest.
    pub(super) fn stop(&self, stop: &Stop) {
        let mut state = self.lock();
        let (stopped, kept) = state
            .tasks
            .drain(..)
            .partition::<VecDeque<_>, _>(|task| stop.covers(task.number));
        state.tasks = kept;
        for (orders, wake) in state.slots.iter_mut().zip(&self.wakes) {
            orders.stop.add(stop);
            ring(wake);
        }
        drop(state);
        self.report_stopped(stopped.iter().map(|task| (task.number, task.attempt)).collect());
    }

    /// Takes back what no slot has taken yet.
    pub(super) fn recall(&self) {
        let tasks = std::mem::take(&mut self.lock().tasks);
        self.report_stopped(tasks.iter().map(|task| (task.number, task.attempt)).collect());
    }

    /// Nothing can be run: says so once, and lets go of all tasks.
    pub(super) fn break_down(&self, reason: String) {
        if let Some(tasks) = self.close() {
            self.report(ExecutorEvent::Broken(reason));
            self.report_stopped(tasks.iter().map(|task| (task.number, task.attempt)).collect());
        }
    }

    /// Ends all slots. Gives what none of them had taken, unless it was closed already.
    pub(super) fn close(&self) -> Option<VecDeque<Task>> {
        let mut state = self.lock();
        let tasks = (!state.closed).then(|| std::mem::take(&mut state.tasks));
        state.closed = true;
        self.wakes.iter().for_each(ring);
        tasks
    }

    /// What `slot` must know and, up to `room`, its fair share of the tasks that wait.
    pub(super) fn sync(&self, slot: usize, room: Room) -> Sync {
        let mut state = self.lock();
        let State { tasks, slots, closed } = &mut *state;
        let share = room.tasks.min(tasks.len().div_ceil(self.wakes.len().max(1)));
        let mut bytes = 0_usize;
        let fitting = tasks
            .iter()
            .take(share)
            .take_while(|task| {
                let length = usize::try_from(task.payload.len()).unwrap_or(usize::MAX);
                let fits = bytes == 0 || bytes.saturating_add(length) <= room.bytes;
                bytes = bytes.saturating_add(length.max(1));
                fits
            })
            .count();
        let taken = tasks.drain(..fitting).collect();
        let Some(orders) = slots.get_mut(slot) else {
            return Sync {
                closed: true,
                stop: Stop::None,
                tasks: taken,
            };
        };
        orders.hungry = fitting < room.tasks;
        Sync {
            closed: *closed,
            stop: std::mem::take(&mut orders.stop),
            tasks: taken,
        }
    }

    /// The descriptor that wakes `slot`.
    pub(super) fn wake(&self, slot: usize) -> Option<BorrowedFd<'_>> {
        self.wakes.get(slot).map(AsFd::as_fd)
    }

    /// Waits until `slot` is woken or `until` is reached.
    pub(super) fn wait(&self, slot: usize, until: Option<Instant>) {
        if let Some(wake) = self.wakes.get(slot) {
            let mut fds = [PollFd::new(wake, PollFlags::IN)];
            let _ = poll(&mut fds, timeout(until).as_ref()); // interrupted: the caller's loop comes back
            self.hear(slot);
        }
    }

    /// Takes note that `slot` was woken.
    pub(super) fn hear(&self, slot: usize) {
        if let Some(wake) = self.wakes.get(slot) {
            let _ = rustix::io::read(wake, &mut [0_u8; 8]); // already silent
        }
    }

    pub(super) fn report_finished(&self, finished: Vec<Finished>) {
        if !finished.is_empty() {
            self.report(ExecutorEvent::Finished(finished));
        }
    }

    pub(super) fn report_stopped(&self, stopped: Vec<(u64, Attempt)>) {
        if !stopped.is_empty() {
            self.report(ExecutorEvent::Stopped(stopped));
        }
    }

    pub(super) fn warn(&self, warning: String) {
        self.report(ExecutorEvent::Warning(warning));
    }

    fn report(&self, event: ExecutorEvent) {
        let _ = self.events.send(event); // a caller that left wants no answers
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code that can panic runs under the lock, so the state behind a poisoned one is whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn ring(wake: &OwnedFd) {
    let _ = rustix::io::write(wake, &1_u64.to_ne_bytes()); // full means: rung already
}
