//! Executors: what is started, what ended, and what must run alone.

use std::time::Instant;

use super::batch::{Batch, Stage};
use super::credit::Door;
use super::{Alone, Finished, Output, Worker};
use crate::ids::{Attempt, BatchUid, LinkId};
use crate::mutant::{self, Mutant};
use crate::wire::{Message, OutcomeCode, Ping, RefusedCode, ReturnCause};

impl Worker {
    /// The answer to [`Output::Prepare`]: how many tasks the executor takes at once, or why it cannot run.
    pub fn handle_prepared(&mut self, now: Instant, uid: BatchUid, prepared: Result<usize, String>) {
        self.step(now);
        match prepared {
            Err(reason) => self.break_batch(uid, &reason),
            Ok(window) => {
                // What broke meanwhile stays broken.
                let preparing = |batch: &&mut Batch| batch.stage == Stage::Preparing;
                let Some(batch) = self.batches.get_mut(&uid).filter(preparing) else {
                    return;
                };
                batch.stage = Stage::Ready { window: window.max(1) };
                let doors: Vec<Door> = batch.doors.keys().copied().collect();
                for door in doors {
                    self.open_door(door, uid);
                }
            }
        }
    }

    /// The executor of a batch cannot run anything any more.
    pub fn handle_broken(&mut self, now: Instant, uid: BatchUid, reason: &str) {
        self.step(now);
        self.break_batch(uid, reason);
    }

    pub(super) fn break_batch(&mut self, uid: BatchUid, reason: &str) {
        let Some(batch) = self.batches.get_mut(&uid) else {
            return;
        };
        batch.stage = Stage::Broken(reason.to_owned());
        let epoch = batch.epoch;
        let doors: Vec<Door> = batch.doors.keys().copied().collect();
        let numbers = batch.running_in(None);
        self.hand_back(uid, None, ReturnCause::Drain);
        if !numbers.is_empty() {
            self.out.push_back(Output::Stop { uid, numbers });
        }
        for door in doors {
            self.refuse(door, RefusedCode::Executor, epoch, reason);
        }
    }

    /// Tasks ended by themselves.
    pub fn handle_finished(&mut self, now: Instant, uid: BatchUid, finished: Vec<Finished>) {
        self.step(now);
        let Some(batch) = self.batches.get_mut(&uid) else {
            let spooled = finished.iter().filter(|task| task.spooled.is_some());
            self.out.extend(spooled.map(|task| unspool(uid, task)));
            return;
        };
        let mut count = 0;
        for task in finished {
            let dropped = task.spooled.map(|_| unspool(uid, &task));
            match task.outcome {
                OutcomeCode::Succeeded => self.executed.succeeded += 1,
                _ => self.executed.failed += 1,
            }
            self.alone.take_if(
                |alone| matches!(alone, Alone::Running { uid: u, number } if (*u, *number) == (uid, task.number)),
            );
            if batch.finish(now, &task) {
                count += 1;
            } else {
                self.out.extend(dropped);
            }
        }
        self.pace.finished(now, count);
        if self.batches.values().all(|batch| batch.unfinished().0 == 0) {
            self.pace.idle();
        }
    }

    /// Tasks were stopped before they ended.
    pub fn handle_stopped(&mut self, now: Instant, uid: BatchUid, stopped: &[(u64, Attempt)]) {
        self.step(now);
        let Some(batch) = self.batches.get_mut(&uid) else {
            return;
        };
        self.executed.stopped += stopped.len() as u64;
        let tasks: Vec<_> = stopped
            .iter()
            .filter_map(|(number, attempt)| batch.stopped(*number, *attempt))
            .collect();
        for (number, _) in stopped {
            self.alone
                .take_if(|alone| matches!(alone, Alone::Running { uid: u, number: n } if (*u, *n) == (uid, *number)));
        }
        let cause = if self.drain.is_some() {
            ReturnCause::Drain
        } else {
            ReturnCause::Cancel
        };
        self.send_return(uid, tasks, cause);
    }

    /// Starts what may start. A task that is to run alone waits until nothing runs, and is announced first.
    pub(super) fn start_tasks(&mut self, now: Instant) {
        if self.alone.is_some() || self.drain.is_some() {
            return;
        }
        let running: usize = self.batches.values().map(Batch::running).sum();
        let wants_alone = |batch: &Batch| batch.front().is_some_and(|task| task.alone) && !batch.doors.is_empty();
        if let Some((&uid, batch)) = self.batches.iter().find(|(_, batch)| wants_alone(batch)) {
            let quiet = running == 0 || mutant::on(Mutant::AloneInCompany);
            if quiet && batch.outcomes.has_room(batch.work.max_bytes_per_task) {
                self.announce_alone(uid);
            }
            return;
        }
        while let Some((uid, most)) = self.next_to_start() {
            let Some(batch) = self.batches.get_mut(&uid) else {
                return;
            };
            let tasks = batch.start(now, most, &mut self.waits);
            if tasks.is_empty() {
                return;
            }
            self.out.push_back(Output::Run { uid, tasks });
        }
    }

    /// The batch that uses the fewest slots among those that may start something, and how many tasks it may start.
    pub(super) fn next_to_start(&self) -> Option<(BatchUid, usize)> {
        let slots = self.slots as usize;
        let used: usize = self.batches.values().map(|batch| batch.used_slots(slots)).sum();
        let ready = self.batches.iter().filter_map(|(uid, batch)| {
            let depth = batch.depth(slots)?;
            let front = batch.front()?;
            // Slots that others leave free, and what is left of those in use.
            let free = (slots.saturating_sub(used) + batch.used_slots(slots)) * depth;
            let most = free.saturating_sub(batch.running());
            let room = batch.outcomes.has_room(batch.work.max_bytes_per_task);
            (most > 0 && room && !front.alone).then_some((batch.used_slots(slots), *uid, most, depth))
        });
        let rivals = self.batches.values().filter(|batch| batch.front().is_some()).count();
        let (_, uid, most, depth) = ready.min_by_key(|(used, uid, ..)| (*used, *uid))?;
        Some((uid, if rivals > 1 { most.min(depth) } else { most }))
    }

    pub(super) fn announce_alone(&mut self, uid: BatchUid) {
        let Some(batch) = self.batches.get(&uid) else { return };
        let Some((&door, task)) = batch.doors.keys().next().zip(batch.front()) else {
            return;
        };
        let Some(credit) = self.credits.alone(door, (task.number, task.attempt)) else {
            return;
        };
        self.sessions.send(door.0, door.1, &Message::Credit(credit));
        // Its PONG proves that the ventilator has read what was sent before.
        let nonce = self.sessions.ping(door.0, Ping::default());
        self.alone = Some(Alone::Announced {
            uid,
            link: door.0,
            nonce,
        });
    }

    pub(super) fn take_pong(&mut self, now: Instant, link: LinkId, nonce: u64) {
        let Some(Alone::Announced {
            uid,
            link: asked,
            nonce: expected,
        }) = self.alone
        else {
            return;
        };
        if (asked, expected) != (link, nonce) {
            return;
        }
        self.alone = None;
        let Some(batch) = self.batches.get_mut(&uid) else {
            return;
        };
        if batch.front().is_some_and(|task| task.alone) {
            let tasks = batch.start(now, 1, &mut self.waits);
            if let Some(task) = tasks.first() {
                self.alone = Some(Alone::Running {
                    uid,
                    number: task.number,
                });
                self.out.push_back(Output::Run { uid, tasks });
            }
        }
    }
}

/// Nothing is to be said about a task: what it has spooled goes.
fn unspool(uid: BatchUid, task: &Finished) -> Output {
    Output::Unspool {
        uid,
        number: task.number,
        attempt: task.attempt,
    }
}
