//! What ventilators say to a collector beside START: END, LOST and CANCEL.

use std::time::Instant;

use super::batch::Batch;
use super::commit::Effect;
use super::{Collector, Slot, Use};
use crate::ids::{Alias, Epoch, LinkId};
use crate::limits::HELD_MOST;
use crate::mutant::{self, Mutant};
use crate::wire::{Cancel, End, Loss, Lost, Message, RefusedCode};

impl Collector {
    /// The batch that a message of a ventilator is about, if its epoch is the last one.
    fn client_batch(&mut self, link: LinkId, alias: Alias, epoch: Epoch) -> Option<&mut Batch> {
        let Some(Use::Client(uid)) = self.uses.get(&link).and_then(|uses| uses.get(&alias)) else {
            self.dropped.unknown_alias += 1;
            self.refuse(link, alias, RefusedCode::NotStarted, 0, "this alias is not started");
            return None;
        };
        let uid = *uid;
        let Some(Slot::Open(batch)) = self.slots.get(&uid) else {
            return None;
        };
        let known = batch.state.epoch();
        // A claim of what has ended was answered, and not recorded.
        let other = epoch != known && batch.state.ended().is_none();
        let stale = other || !batch.clients.contains_key(&link);
        if stale && !mutant::on(Mutant::StaleEpochAtCollector) {
            self.dropped.stale_epoch += 1;
            self.refuse(link, alias, RefusedCode::Fenced, known, "another ventilator took over");
            return None;
        }
        match self.slots.get_mut(&uid) {
            Some(Slot::Open(batch)) => Some(batch),
            _ => None,
        }
    }

    pub(super) fn take_end(&mut self, now: Instant, link: LinkId, alias: Alias, end: &End) {
        let Some(batch) = self.client_batch(link, alias, end.epoch) else {
            return;
        };
        if let Some(known) = batch.state.completions().filter(|known| *known != end.completions) {
            let (epoch, reason) = (
                batch.state.epoch(),
                format!("this batch has {known} tasks, not {}", end.completions),
            );
            return self.refuse(link, alias, RefusedCode::Mismatch, epoch, &reason);
        }
        if let Some(done) = batch.state.ended().cloned() {
            return batch.commit.defer(Effect::Send {
                link,
                alias,
                message: Message::Done(done),
            });
        }
        batch.take_end(now, end.completions);
        if !batch.state.is_settled() || batch.reading_back {
            let missing = batch.missing(now);
            batch.commit.defer(Effect::Send {
                link,
                alias,
                message: Message::Missing(missing),
            });
        }
    }

    pub(super) fn take_lost(&mut self, now: Instant, link: LinkId, alias: Alias, lost: Lost) {
        if let Loss::Death { held, .. } = &lost.loss {
            let most = HELD_MOST;
            let sum = held
                .iter()
                .try_fold(0_u64, |sum, h| sum.checked_add(h.last - h.first + 1));
            if sum.is_none_or(|sum| sum > most) {
                return self
                    .sessions
                    .refuse(link, &format!("a worker holds at most {most} tasks, LOST names more"));
            }
        }
        let (anchor, micros) = self.config.clock;
        let elapsed = now.saturating_duration_since(anchor).as_micros();
        let wall = micros.saturating_add(u64::try_from(elapsed).unwrap_or(u64::MAX));
        if let Some(batch) = self.client_batch(link, alias, lost.epoch) {
            batch.take_loss(now, wall, &lost);
            batch.commit.defer(Effect::Send {
                link,
                alias,
                message: Message::Lost(lost),
            });
        }
    }

    pub(super) fn take_cancel(&mut self, now: Instant, link: LinkId, alias: Alias, cancel: Cancel) {
        let Some(batch) = self.client_batch(link, alias, cancel.epoch) else {
            return;
        };
        match batch.state.ended().cloned() {
            Some(done) => batch.commit.defer(Effect::Send {
                link,
                alias,
                message: Message::Done(done),
            }),
            None => batch.cancel(now, cancel.reason),
        }
    }
}
