//! START and BIND: a log is opened, a ventilator claims its batch, a worker binds.

use std::collections::BTreeMap;
use std::time::Instant;

use super::batch::{Batch, Client};
use super::commit::Effect;
use super::{Claim, Collector, Opened, Output, Record, Request, Slot, Use};
use crate::ids::{Alias, BatchUid, LinkId};
use crate::limits::{DISK_FULL_PAUSE, MAX_BATCHES};
use crate::mutant::{self, Mutant};
use crate::wire::{Ack, Message, RefusedCode, Start};

impl Collector {
    /// Aliases belong to one link and are never reused on it.
    pub(super) fn alias_is_free(&mut self, link: LinkId, alias: Alias) -> bool {
        let free = alias != 0
            && self
                .uses
                .get(&link)
                .is_some_and(|uses| !uses.contains_key(&alias) && uses.len() < MAX_BATCHES);
        if !free {
            self.sessions.refuse(
                link,
                &format!("alias {alias} is in use on this link, or there are too many"),
            );
        }
        free
    }

    pub(super) fn take_start(&mut self, now: Instant, link: LinkId, alias: Alias, start: Box<Start>) {
        if self.alias_is_free(link, alias) {
            let create = start.epoch > 0;
            self.request(now, start.uid, create, Request::Start(link, alias, start));
        }
    }

    /// Serves a request at once if the log is open, else after it was opened.
    pub(super) fn request(&mut self, now: Instant, uid: BatchUid, create: bool, request: Request) {
        let full = self.slots.len() >= MAX_BATCHES;
        match self.slots.get_mut(&uid) {
            Some(Slot::Open(_)) => self.serve(now, uid, request),
            Some(Slot::Opening {
                create: creating,
                requests,
                ..
            }) => {
                // A log is opened once: if there is none, it is made after that answer.
                *creating |= create;
                requests.push(request);
            }
            None if full => {
                let (link, alias) = request.sender();
                self.refuse(
                    link,
                    alias,
                    RefusedCode::Limit,
                    0,
                    "this collector serves as many batches as it can",
                );
            }
            None => {
                self.slots.insert(
                    uid,
                    Slot::Opening {
                        create,
                        requests: vec![request],
                        again: None,
                    },
                );
                self.out.push_back(Output::Open { uid, create });
            }
        }
    }

    /// The answer to [`Output::Open`].
    pub fn handle_opened(&mut self, now: Instant, uid: BatchUid, opened: Opened) {
        self.sessions.step(now);
        match opened {
            Opened::Batch { state, log_id } => {
                let before = self
                    .slots
                    .insert(uid, Slot::Open(Box::new(Batch::new(now, *state, log_id))));
                match before {
                    Some(Slot::Opening { requests, .. }) => requests.into_iter().for_each(|r| self.serve(now, uid, r)),
                    // A second answer for a log that was asked for twice: keep what is open.
                    Some(open @ Slot::Open(_)) => drop(self.slots.insert(uid, open)),
                    None => {}
                }
            }
            Opened::Absent => self.answer_absent(now, uid),
            Opened::Later => {
                if let Some(Slot::Opening { again, .. }) = self.slots.get_mut(&uid) {
                    *again = Some(now + DISK_FULL_PAUSE);
                }
            }
            Opened::Failed(reason) => {
                if let Some(Slot::Opening { requests, .. }) = self.slots.remove(&uid) {
                    for (link, alias) in requests.iter().map(Request::sender) {
                        self.refuse(link, alias, RefusedCode::Limit, 0, &reason);
                    }
                }
            }
        }
    }

    /// Asks again for logs that found no room.
    pub(super) fn open_again(&mut self, now: Instant) {
        for (&uid, slot) in &mut self.slots {
            if let Slot::Opening { create, again, .. } = slot
                && again.take_if(|at| *at <= now).is_some()
            {
                self.out.push_back(Output::Open { uid, create: *create });
            }
        }
    }

    /// There is no log: who only asked hears so, who wants to create one waits for that.
    pub(super) fn answer_absent(&mut self, now: Instant, uid: BatchUid) {
        let Some(Slot::Opening { create, requests, .. }) = self.slots.remove(&uid) else {
            return;
        };
        let (creators, askers): (Vec<_>, Vec<_>) = requests.into_iter().partition(Request::creates);
        for asker in askers {
            if mutant::on(Mutant::NotStartedAcked) && matches!(asker, Request::Bind(..)) {
                self.serve(now, uid, asker);
                continue;
            }
            let (link, alias) = asker.sender();
            self.refuse(
                link,
                alias,
                RefusedCode::NotStarted,
                0,
                "no ventilator has started this batch here",
            );
        }
        if create {
            self.slots.insert(
                uid,
                Slot::Opening {
                    create,
                    requests: creators,
                    again: None,
                },
            );
            self.out.push_back(Output::Open { uid, create });
        }
    }

    pub(super) fn serve(&mut self, now: Instant, uid: BatchUid, request: Request) {
        match request {
            Request::Start(link, alias, start) => self.serve_start(now, uid, link, alias, &start),
            Request::Bind(link, alias) => {
                if !self.sessions.is_ready(link) {
                    return;
                }
                // A log that was made for a START which never came to be served has no policy to judge outcomes by.
                let unclaimed = self.batch(uid).is_none_or(|state| state.claim().is_none());
                if unclaimed && !mutant::on(Mutant::NotStartedAcked) {
                    let reason = "no ventilator has started this batch here";
                    return self.refuse(link, alias, RefusedCode::NotStarted, 0, reason);
                }
                if let Some(uses) = self.uses.get_mut(&link) {
                    uses.insert(
                        alias,
                        Use::Worker {
                            uid,
                            received: 0,
                            acked: 0,
                            upload: None,
                        },
                    );
                }
                self.allowances.add(link);
                let allowance = self.allowances.tell(link);
                self.sessions
                    .send(link, alias, &Message::Ack(Ack { sequence: 0, allowance }));
            }
        }
    }

    pub(super) fn serve_start(&mut self, now: Instant, uid: BatchUid, link: LinkId, alias: Alias, start: &Start) {
        let Some(Slot::Open(batch)) = self.slots.get_mut(&uid) else {
            return;
        };
        if !self.sessions.is_ready(link) {
            return;
        }
        let known = (batch.state.epoch(), batch.state.instance());
        let again = start.epoch == known.0 && known.1 == Some(start.instance);
        if start.epoch > 0 {
            let stale = start.epoch < known.0 || start.epoch == known.0 && !again;
            if stale && !mutant::on(Mutant::StaleEpochAtCollector) {
                self.dropped.stale_epoch += 1;
                let reason = format!("epoch {} is taken by another ventilator", known.0);
                return self.refuse(link, alias, RefusedCode::Fenced, known.0, &reason);
            }
            if let (Some(found), Some(recorded)) = (start.completions, batch.state.completions())
                && found != recorded
            {
                let reason = format!("this batch was recorded with {recorded} tasks, not {found}");
                return self.refuse(link, alias, RefusedCode::Mismatch, known.0, &reason);
            }
            let Some(policy) = start.policy.clone() else {
                return self.sessions.refuse(link, "START to a collector needs a policy");
            };
            // What has ended stays as it is, and answers with DONE whoever asks.
            let ended = batch.state.ended().is_some();
            if !again && !ended {
                let claim = Claim {
                    name: start.name.clone(),
                    epoch: start.epoch,
                    instance: start.instance,
                    completions: start.completions,
                    policy,
                };
                batch.record(now, &Record::Claim(claim));
            }
            // Nobody takes over what has ended: its epoch does not rise, so that a late START of a lower epoch comes through.
            let older = if ended {
                BTreeMap::new()
            } else {
                std::mem::take(&mut batch.clients)
            };
            batch.clients.insert(link, Client { alias, ready: false });
            for (other, client) in older.into_iter().filter(|(other, _)| *other != link) {
                if !again {
                    self.refuse(
                        other,
                        client.alias,
                        RefusedCode::Fenced,
                        start.epoch,
                        "another ventilator took over",
                    );
                }
            }
            if let Some(uses) = self.uses.get_mut(&link) {
                uses.insert(alias, Use::Client(uid));
            }
        }
        let Some(Slot::Open(batch)) = self.slots.get_mut(&uid) else {
            return;
        };
        let pieces = batch.snapshot(now);
        batch.commit.defer(Effect::State { link, alias, pieces });
        if let Some(done) = batch.state.ended().cloned() {
            batch.commit.defer(Effect::Send {
                link,
                alias,
                message: Message::Done(done),
            });
        }
    }
}
