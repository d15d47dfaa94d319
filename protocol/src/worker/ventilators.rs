//! What ventilators say to a worker: START, WANT, TASKS, HELD, CANCEL and DONE.

use std::time::Instant;

use super::batch::{Batch, Stage};
use super::credit::{Door, May};
use super::{Output, PayloadId, Task, Worker};
use crate::ids::{Alias, BatchUid, Epoch, LinkId};
use crate::limits::{MAX_BATCHES, MAX_NUMBERS, RANGES_PER_PIECE};
use crate::mutant::{self, Mutant};
use crate::wire::{
    Cancel, Held, Message, Part, Refused, RefusedCode, ReturnCause, Start, State, StateBody, Tasks, Want, WorkerState,
};

impl Worker {
    pub(super) fn close_door(&mut self, now: Instant, door: Door) {
        self.credits.close(door);
        let batch = self.uses.get(&door).and_then(|uid| self.batches.get_mut(uid));
        if let Some(batch) = batch {
            batch.doors.remove(&door);
            batch.payloads.close(door);
            if batch.doors.is_empty() {
                batch.alone_since.get_or_insert(now);
            }
        }
        // The alias stays in `uses` while the link stands: aliases are never reused on a link.
        if self.sessions.hello(door.0).is_none() {
            self.uses.remove(&door);
        }
    }

    pub(super) fn take_from_ventilator(&mut self, now: Instant, link: LinkId, alias: Alias, message: Message) {
        let door = (link, alias);
        match message {
            Message::Start(start) => self.take_start(now, door, &start),
            Message::Want(want) => self.take_want(door, want),
            Message::Tasks(tasks) => self.take_tasks(now, door, tasks),
            Message::Part(part) => self.take_part(door, part),
            Message::Held(held) if !held.answer => self.take_held(door, &held),
            Message::Cancel(cancel) => self.take_cancel(door, &cancel),
            Message::Done(_) => self.take_done(door),
            Message::Pong(pong) => self.take_pong(now, link, pong.nonce),
            Message::Ping(_) => {}
            other => self
                .sessions
                .refuse(link, &format!("{} is not for a worker", other.kind())),
        }
    }

    pub(super) fn take_start(&mut self, now: Instant, door: Door, start: &Start) {
        if door.1 == 0 || self.uses.contains_key(&door) {
            return self
                .sessions
                .refuse(door.0, &format!("alias {} is in use on this link", door.1));
        }
        let Some(batch) = self.batches.get_mut(&start.uid) else {
            return self.start_new(now, door, start);
        };
        let known = (batch.epoch, batch.instance);
        if start.epoch == 0 {
            return self.send_state(door, start.uid);
        }
        let stale = start.epoch < known.0 || start.epoch == known.0 && start.instance != known.1;
        if stale && !mutant::on(Mutant::StaleEpochAtWorker) {
            self.dropped.stale_epoch += 1;
            return self.refuse(
                door,
                RefusedCode::Fenced,
                known.0,
                "another ventilator took this batch over",
            );
        }
        if let Some(work) = &start.work {
            if work.executor != batch.work.executor {
                let reason = "this worker runs another executor for this batch";
                return self.refuse(door, RefusedCode::Executor, known.0, reason);
            }
            let moved = work.collector != batch.work.collector;
            batch.work = work.clone();
            if moved {
                self.move_uplink(now, start.uid);
            }
        }
        self.enter(now, door, start);
    }

    pub(super) fn start_new(&mut self, now: Instant, door: Door, start: &Start) {
        let Some(work) = start.work.clone().filter(|_| start.epoch > 0) else {
            return self.refuse(door, RefusedCode::NotStarted, 0, "this batch was not started here");
        };
        if let Some(reason) = self.only.refusal(start.uid, &work.executor) {
            return self.refuse(door, RefusedCode::Mismatch, 0, &reason);
        }
        if self.batches.len() >= MAX_BATCHES || self.drain.is_some() {
            let reason = if self.drain.is_some() {
                "this worker leaves"
            } else {
                "this worker serves as many batches as it can"
            };
            return self.refuse(door, RefusedCode::Limit, 0, reason);
        }
        self.batches.insert(start.uid, Batch::new(now, start, work.clone()));
        self.out.push_back(Output::Prepare {
            uid: start.uid,
            name: start.name.clone(),
            work: Box::new(work),
        });
        self.move_uplink(now, start.uid);
        self.enter(now, door, start);
    }

    /// A ventilator of the highest epoch comes in; those of lower ones are shown out.
    pub(super) fn enter(&mut self, now: Instant, door: Door, start: &Start) {
        let Some(batch) = self.batches.get_mut(&start.uid) else {
            return;
        };
        let newer = start.epoch > batch.epoch;
        batch.epoch = start.epoch;
        batch.instance = start.instance;
        batch.completions = start.completions.or(batch.completions);
        let older: Vec<Door> = batch.doors.keys().copied().collect();
        for old in older {
            self.close_door(now, old);
            if newer && old.0 != door.0 {
                self.refuse(
                    old,
                    RefusedCode::Fenced,
                    start.epoch,
                    "another ventilator took this batch over",
                );
            }
        }
        let Some(batch) = self.batches.get_mut(&start.uid) else {
            return;
        };
        batch.alone_since = None;
        batch.doors.insert(door, false);
        self.uses.insert(door, start.uid);
        match &batch.stage {
            Stage::Preparing => {}
            Stage::Ready { .. } => self.open_door(door, start.uid),
            Stage::Broken(reason) => {
                let reason = reason.clone();
                self.refuse(door, RefusedCode::Executor, start.epoch, &reason);
            }
        }
    }

    pub(super) fn open_door(&mut self, door: Door, uid: BatchUid) {
        self.send_state(door, uid);
        self.credits.open(door);
        if let Some(open) = self.batches.get_mut(&uid).and_then(|batch| batch.doors.get_mut(&door)) {
            *open = true;
        }
    }

    pub(super) fn send_state(&mut self, door: Door, uid: BatchUid) {
        let holdings = self.batches.get(&uid).map(Batch::holdings).unwrap_or_default();
        let mut pieces: Vec<_> = holdings.chunks(RANGES_PER_PIECE).map(<[_]>::to_vec).collect();
        if pieces.is_empty() {
            pieces.push(Vec::new());
        }
        let last = pieces.len() - 1;
        for (position, held) in pieces.into_iter().enumerate() {
            let state = State {
                last: position == last,
                body: StateBody::Worker(WorkerState { held }),
            };
            self.sessions.send(door.0, door.1, &Message::State(Box::new(state)));
        }
    }

    pub(super) fn refuse(&mut self, door: Door, code: RefusedCode, epoch: u64, reason: &str) {
        let refused = Refused {
            code,
            epoch,
            reason: reason.to_owned(),
        };
        self.sessions.send(door.0, door.1, &Message::Refused(refused));
    }

    pub(super) fn take_want(&mut self, door: Door, want: Want) {
        self.credits.want(door, want);
    }

    /// The batch that a ventilator may send to; else it is told why it may not.
    fn open_batch(&mut self, door: Door, epoch: Epoch) -> Option<BatchUid> {
        let uid = self.uses.get(&door).copied();
        let Some((uid, batch)) = uid.and_then(|uid| Some((uid, self.batches.get(&uid)?))) else {
            self.refuse(door, RefusedCode::NotStarted, 0, "this alias is not started");
            return None;
        };
        let stale = epoch < batch.epoch && !mutant::on(Mutant::StaleEpochAtWorker);
        if stale || !batch.doors.get(&door).is_some_and(|open| *open) {
            self.dropped.stale_epoch += 1;
            let (epoch, reason) = (batch.epoch, "another ventilator took this batch over");
            self.refuse(door, RefusedCode::Fenced, epoch, reason);
            return None;
        }
        Some(uid)
    }

    fn take_part(&mut self, door: Door, part: Part) {
        let Some(uid) = self.open_batch(door, part.stamp) else {
            return;
        };
        let Some(batch) = self.batches.get_mut(&uid) else {
            return;
        };
        let Some(id) = batch.payloads.take(door, &part, self.next_payload) else {
            let reason = format!(
                "a PART of number {} does not go on where the last one ended",
                part.number
            );
            return self.sessions.refuse(door.0, &reason);
        };
        self.next_payload = self.next_payload.max(PayloadId(id.0 + 1));
        self.credits.received_part(door, part.bytes.len() as u64);
        let bytes = part.bytes;
        self.out.push_back(Output::Keep { uid, id, bytes });
    }

    pub(super) fn take_tasks(&mut self, now: Instant, door: Door, mut tasks: Tasks) {
        let Some(uid) = self.open_batch(door, tasks.epoch) else {
            return;
        };
        let Some(batch) = self.batches.get_mut(&uid) else {
            return;
        };
        if !self
            .credits
            .received(door, tasks.entries.len() as u64, tasks.payloads.len() as u64)
        {
            return self.sessions.refuse(door.0, "more tasks than were granted");
        }
        let completions = batch.completions.unwrap_or(MAX_NUMBERS);
        tasks.detach();
        for (entry, bytes) in tasks.pieces() {
            let came = if tasks.parted {
                batch.payloads.complete(door, entry)
            } else {
                Some(bytes.into())
            };
            let Some(payload) = came else {
                let reason = format!(
                    "the parts of the payload of number {} do not fit its task",
                    entry.number
                );
                return self.sessions.refuse(door.0, &reason);
            };
            if entry.number >= completions {
                self.dropped.out_of_range += 1;
                batch.payloads.drop(&payload);
                continue;
            }
            let (number, attempt, alone) = (entry.number, entry.attempt, tasks.alone);
            let task = Task {
                number,
                attempt,
                payload,
                alone,
            };
            batch.take(now, task);
        }
        let broken = matches!(batch.stage, Stage::Broken(_));
        self.pace.begin(now);
        if self.drain.is_some() || broken {
            self.hand_back(uid, None, ReturnCause::Drain);
        }
    }

    pub(super) fn take_held(&mut self, door: Door, question: &Held) {
        let batch = self.uses.get(&door).and_then(|uid| self.batches.get(uid));
        let mut spans = batch.map(|batch| batch.held_in(&question.spans)).unwrap_or_default();
        // Cutting the answer would deny what is held. So many gaps in so few numbers cannot be: credit bounds what is held.
        spans.truncate(RANGES_PER_PIECE);
        let answer = Held {
            serial: question.serial,
            answer: true,
            spans,
        };
        self.sessions.send(door.0, door.1, &Message::Held(answer));
    }

    pub(super) fn take_cancel(&mut self, door: Door, cancel: &Cancel) {
        let Some(uid) = self.uses.get(&door).copied() else {
            return;
        };
        let Some(batch) = self.batches.get(&uid) else { return };
        if cancel.epoch < batch.epoch {
            self.dropped.stale_epoch += 1;
            return;
        }
        let Some(spans) = &cancel.spans else {
            return self.release(uid);
        };
        let numbers = batch.running_in(Some(spans));
        self.hand_back(uid, Some(spans), ReturnCause::Cancel);
        if !numbers.is_empty() {
            self.out.push_back(Output::Stop { uid, numbers });
        }
    }

    pub(super) fn take_done(&mut self, door: Door) {
        // A ventilator that was fenced still has its alias, but no door.
        let uid = self.uses.get(&door).copied();
        if let Some(uid) = uid.filter(|uid| {
            self.batches
                .get(uid)
                .is_some_and(|batch| batch.doors.contains_key(&door))
        }) {
            self.release(uid);
        }
    }

    pub(super) fn grant(&mut self) {
        if self.drain.is_some() {
            return;
        }
        let (held, bytes) = self
            .batches
            .values()
            .map(Batch::unfinished)
            .fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1));
        let enough = self.has_payloads_enough();
        let (uses, batches) = (&self.uses, &self.batches);
        let batch = |door: Door| uses.get(&door).and_then(|uid| batches.get(uid));
        let may = May {
            tasks: |door: Door| batch(door).is_some_and(|batch| batch.may_grant(door)),
            bytes: |door: Door| batch(door).is_some_and(|batch| batch.payloads.is_open(door)),
            enough,
        };
        for (door, credit) in self.credits.grant(self.pace.target(), held, bytes, may) {
            self.sessions.send(door.0, door.1, &Message::Credit(credit));
        }
    }
}
