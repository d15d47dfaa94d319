//! I5, and rule 2 at the worker: what runs was sent there, with the bytes of its number, by nobody who was fenced.

use std::collections::BTreeMap;

use harmony_protocol::ids::{BatchUid, Epoch};
use harmony_protocol::wire::{Message, Tasks as TasksMessage};

use super::coverage::Branch;
use super::scene::Seen;
use crate::network::PartyId;
use crate::observation::{Execution, Observation, Role};

/// What the judge knows of one worker process.
#[derive(Debug, Default)]
struct Worker {
    /// The highest epoch that a ventilator of a batch has shown.
    epochs: BTreeMap<BatchUid, Epoch>,
    /// What was sent here by those who were not fenced, and how often it has not begun yet.
    given: BTreeMap<Execution, u32>,
    /// What the executor has, and whether it is to run alone.
    running: BTreeMap<Execution, bool>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Executions {
    workers: BTreeMap<PartyId, Worker>,
}

impl Executions {
    pub(super) fn observe(&mut self, seen: &Seen<'_>) {
        match *seen.what {
            Observation::Ended { party, .. } => drop(self.workers.remove(&party)),
            Observation::Delivered(carried) if matches!(seen.scene.role(carried.to), Some(Role::Worker(_))) => {
                let Some(uid) = seen.scene.batch(&carried) else { return };
                let worker = self.workers.entry(carried.to).or_default();
                match carried.message {
                    Message::Start(start) => worker.show(uid, start.epoch),
                    Message::Tasks(tasks) => worker.take(seen, uid, tasks),
                    _ => {}
                }
            }
            Observation::TaskBegins {
                party,
                task,
                alone,
                payload,
            } => {
                let tasks = seen.tasks(task.uid);
                let (number, attempt) = (task.number, task.attempt);
                assert!(number < tasks.completions, "I5: {number} is out of range, yet it runs");
                assert!(
                    attempt <= tasks.backoff_limit + 1,
                    "I6: {number}@{attempt} is one attempt too many"
                );
                assert!(payload == tasks.payload(number), "I3: the payload of {number}");
                self.workers.entry(party).or_default().begin(task, alone);
            }
            Observation::TaskEnds { party, task } | Observation::TaskStopped { party, task } => {
                if let Some(worker) = self.workers.get_mut(&party) {
                    worker.running.remove(&task);
                }
            }
            Observation::Released { party, uid } => {
                if let Some(worker) = self.workers.get_mut(&party) {
                    worker.release(uid);
                }
            }
            _ => {}
        }
    }
}

impl Worker {
    fn show(&mut self, uid: BatchUid, epoch: Epoch) {
        let highest = self.epochs.entry(uid).or_default();
        *highest = epoch.max(*highest);
    }

    fn take(&mut self, seen: &Seen<'_>, uid: BatchUid, tasks: &TasksMessage) {
        if tasks.epoch < self.epochs.get(&uid).copied().unwrap_or_default() {
            seen.coverage.note(Branch::StaleEpochAtWorker);
            return;
        }
        for entry in &tasks.entries {
            let task = Execution {
                uid,
                number: entry.number,
                attempt: entry.attempt,
            };
            *self.given.entry(task).or_default() += 1;
        }
    }

    fn begin(&mut self, task: Execution, alone: bool) {
        let Some(given) = self.given.get_mut(&task) else {
            panic!("I9: {task:?} runs, and nobody who was not fenced has sent it here");
        };
        assert!(*given > 0, "I10: {task:?} runs more often than it was sent here");
        *given -= 1;
        let beside = self.running.keys().find(|other| alone || self.running[other]);
        assert!(
            beside.is_none(),
            "rule 12: {task:?} runs beside {beside:?}, one of which is to run alone"
        );
        let before = self.running.insert(task, alone);
        assert!(before.is_none(), "rule 5: a second copy of {task:?} runs here");
    }

    /// What it forgets, it cannot fence.
    fn release(&mut self, uid: BatchUid) {
        self.epochs.remove(&uid);
        self.given.retain(|task, _| task.uid != uid);
        self.running.retain(|task, _| task.uid != uid);
    }
}
