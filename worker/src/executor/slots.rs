//! An executor as a set of threads, one per slot, that draw from one queue.

use std::{
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use tokio::sync::mpsc::UnboundedSender;

use super::{
    Executor, ExecutorEvent, Task,
    queue::{Queue, Stop},
};
use crate::shortage::way_out;

/// The slots' threads; dropping it ends them, and with them their processes.
pub(super) struct Slots {
    queue: Arc<Queue>,
    window: usize,
    threads: Vec<JoinHandle<()>>,
}

impl Slots {
    /// Starts a thread for each slot. `ahead` is how many tasks may be outstanding per slot.
    pub(super) fn start<R: FnOnce() + Send + 'static>(
        name: &str,
        slots: usize,
        ahead: usize,
        events: UnboundedSender<ExecutorEvent>,
        runner: impl Fn(usize, Arc<Queue>) -> R,
    ) -> Result<Self, String> {
        let count = slots.max(1);
        let queue = Queue::new(count, events)
            .map_err(|error| format!("{count} slots cannot be set up: {error}{}", way_out(&error)))?;
        let mut slots = Self {
            queue: Arc::new(queue),
            window: count * ahead,
            threads: Vec::with_capacity(count),
        };
        for slot in 0..count {
            let run = runner(slot, Arc::clone(&slots.queue));
            let thread = thread::Builder::new().name(format!("{name}-{slot}")).spawn(run);
            slots
                .threads
                .push(thread.map_err(|error| format!("a thread for slot {slot} cannot be started: {error}"))?);
        }
        Ok(slots)
    }
}

impl Executor for Slots {
    fn window(&self) -> usize {
        self.window
    }

    fn submit(&mut self, tasks: Vec<Task>) {
        self.queue.submit(tasks);
    }

    fn stop(&mut self, numbers: &[u64]) {
        self.queue.stop(&Stop::These(numbers.iter().copied().collect()));
    }

    fn stop_all(&mut self) {
        self.queue.stop(&Stop::All);
    }

    fn recall(&mut self) {
        self.queue.recall();
    }

    fn extend_deadlines(&mut self, gap: Duration) {
        self.queue.extension.add(gap);
    }
}

impl Drop for Slots {
    fn drop(&mut self) {
        self.queue.close();
        for thread in self.threads.drain(..) {
            let _ = thread.join(); // its panic was printed, and its process group died with it
        }
    }
}
