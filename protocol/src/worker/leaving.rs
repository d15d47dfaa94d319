//! Letting go: of tasks that are handed back, of batches that are over, and of everything at a drain.

use std::time::{Duration, Instant};

use super::batch::{Uplink, runs};
use super::{Alone, Drain, Output, Worker};
use crate::ids::{Attempt, BatchUid};
use crate::limits::{FLUSH_WITHIN, GONE_AFTER, KEEP_OUTCOMES, RANGES_PER_PIECE};
use crate::wire::{ByeCode, Message, Return, ReturnCause};

impl Worker {
    /// The batch is over: everything about it is dropped.
    pub(super) fn release(&mut self, uid: BatchUid) {
        let Some(batch) = self.batches.remove(&uid) else { return };
        for door in batch.doors.keys() {
            self.credits.close(*door);
        }
        if let Uplink::Bound { link, .. } = batch.uplink
            && let Some(collector) = self.collectors.get_mut(&link)
        {
            collector.under_way = collector.under_way.saturating_sub(batch.outcomes.under_way());
        }
        if self.alone.as_ref().is_some_and(|alone| alone.uid() == uid) {
            self.alone = None;
        }
        self.out.push_back(Output::Release { uid });
    }

    /// Gives queued tasks back to the ventilator, if it is there; else it learns from STATE that they are gone.
    pub(super) fn hand_back(&mut self, uid: BatchUid, spans: Option<&[crate::wire::Span]>, cause: ReturnCause) {
        let Some(batch) = self.batches.get_mut(&uid) else {
            return;
        };
        let tasks = batch.give_back(spans);
        self.send_return(uid, tasks, cause);
    }

    pub(super) fn send_return(&mut self, uid: BatchUid, mut tasks: Vec<(u64, Attempt)>, cause: ReturnCause) {
        tasks.sort_unstable();
        let Some(batch) = self.batches.get(&uid) else { return };
        for door in batch.doors.keys() {
            for tasks in runs(tasks.iter().copied()).chunks(RANGES_PER_PIECE) {
                let message = Message::Return(Return {
                    cause,
                    tasks: tasks.to_vec(),
                });
                self.sessions.send(door.0, door.1, &message);
            }
        }
    }

    /// The process is asked to leave: hands back what has not begun, and stops after `grace` what still runs.
    pub fn handle_drain(&mut self, now: Instant, grace: Duration) {
        self.step(now);
        if self.drain.is_some() {
            return;
        }
        self.drain = Some(Drain {
            stop_at: now + grace,
            stopped: false,
        });
        if let Some(Alone::Announced { .. }) = self.alone {
            self.alone = None;
        }
        let uids: Vec<_> = self.batches.keys().copied().collect();
        for uid in uids {
            self.hand_back(uid, None, ReturnCause::Drain);
        }
    }

    pub(super) fn advance_drain(&mut self, now: Instant) {
        let Some(drain) = &mut self.drain else { return };
        if self.exited {
            return;
        }
        let idle = self.batches.values().all(|batch| batch.running() == 0);
        if !idle && now >= drain.stop_at && !drain.stopped {
            drain.stopped = true;
            for (uid, batch) in &self.batches {
                let numbers = batch.running_in(None);
                if !numbers.is_empty() {
                    self.out.push_back(Output::Stop { uid: *uid, numbers });
                }
            }
        }
        let flushed = idle && self.batches.values().all(|batch| batch.outcomes.is_empty());
        if flushed || now >= drain.stop_at + FLUSH_WITHIN {
            self.exited = true;
            self.sessions.close_all(ByeCode::Leaving, "this worker leaves");
            self.out.push_back(Output::Exit);
        }
    }

    /// Batches without a ventilator go when nothing is held, or when nobody takes the outcomes for too long.
    pub(super) fn forget_abandoned(&mut self, now: Instant) {
        let abandoned = self.batches.iter().filter(|(_, batch)| {
            let since = |since: Option<Instant>, limit| since.is_some_and(|since| now >= since + limit);
            let empty = !batch.holds_any() && since(batch.alone_since, GONE_AFTER);
            let kept = batch.alone_since.max(batch.unbound_since());
            empty || batch.is_abandoned() && since(kept, KEEP_OUTCOMES)
        });
        let uids: Vec<_> = abandoned.map(|(uid, _)| *uid).collect();
        for uid in uids {
            self.release(uid);
        }
    }
}
