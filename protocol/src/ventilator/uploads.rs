//! Payloads that are too long for one message: they go ahead in PARTs, within what the worker grants, and their TASKS follows.
//! Until then the number is not in flight: whatever happens to the worker, nothing was begun.

use std::time::Instant;

use bytes::Bytes;

use super::dispatch::Parcel;
use super::hold::Gate;
use super::work::Todo;
use super::{Payloads, Ventilator};
use crate::ids::{Alias, LinkId};
use crate::mutant::{self, Mutant};
use crate::wire::{Message, Part, TaskEntry};

/// A payload on its way to a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Upload {
    pub(crate) link: LinkId,
    alias: Alias,
    pub(crate) todo: Todo,
    /// It is to run alone.
    alone: bool,
    /// Bytes of the payload, and how many of them were sent.
    pub(crate) length: u64,
    pub(crate) sent: u64,
}

impl Ventilator {
    /// Begins to send a long payload ahead, if one more may go to this worker; else the number goes back.
    pub(super) fn begin_upload(
        &mut self,
        link: LinkId,
        (number, todo): (u64, Todo),
        length: u64,
        alone: bool,
    ) -> Option<()> {
        let may = self.work.may_upload(link);
        let target = self.fleet.members.get_mut(&link).and_then(|member| {
            member.behind_uploads = !may;
            may.then_some(member.alias)
        });
        let Some(alias) = target else {
            self.work.add((number, number), todo);
            return None;
        };
        let upload = Upload {
            link,
            alias,
            todo,
            alone,
            length,
            sent: 0,
        };
        self.work.begin_upload(number, upload);
        Some(())
    }

    /// Gives up what goes to workers that get nothing more, or have begun anew.
    pub(super) fn give_up_uploads(&mut self) {
        let stands = |upload: &Upload| {
            self.fleet
                .ready()
                .any(|(link, member)| (link, member.alias) == (upload.link, upload.alias))
        };
        let lost = self.work.uploads().filter(|(_, upload)| !stands(upload));
        for number in lost.map(|(number, _)| number).collect::<Vec<_>>() {
            self.work.give_up_upload(number);
        }
    }

    /// Sends on what goes ahead, as far as workers have granted.
    pub(super) fn advance_uploads(&mut self, now: Instant, gate: Gate, payloads: &mut dyn Payloads) {
        let numbers: Vec<u64> = self.work.uploads().map(|(number, _)| number).collect();
        for number in numbers {
            self.advance_upload(now, number, gate, payloads);
        }
    }

    /// Sends parts of one payload; once all are sent, the task.
    pub(super) fn advance_upload(&mut self, now: Instant, number: u64, gate: Gate, payloads: &mut dyn Payloads) {
        while let Some(upload) = self.work.upload(number).copied() {
            if upload.sent == upload.length {
                return self.finish_upload(now, number, upload, gate);
            }
            match self.next_part(number, upload, payloads) {
                Ok(None) => return,
                Ok(Some(part)) => self.send_part(upload, part),
                Err(reason) => {
                    self.work.give_up_upload(number);
                    return self.fail(reason);
                }
            }
        }
    }

    /// The next part, if the worker has granted some bytes.
    fn next_part(&self, number: u64, upload: Upload, payloads: &mut dyn Payloads) -> Result<Option<Part>, String> {
        let granted = self
            .fleet
            .members
            .get(&upload.link)
            .map_or(0, |member| member.credit().1);
        let granted = if mutant::on(Mutant::PartBeyondCredit) {
            u64::MAX
        } else {
            granted
        };
        let most = (upload.length - upload.sent)
            .min(granted)
            .min(self.config.cut.part as u64);
        if most == 0 {
            return Ok(None);
        }
        let mut bytes = Vec::with_capacity(usize::try_from(most).unwrap_or_default());
        let length = payloads.append(number, upload.sent..upload.sent + most, &mut bytes)?;
        if length != upload.length || bytes.len() as u64 != most {
            return Err(format!("the payload of task {number} changed while it was sent"));
        }
        Ok(Some(Part {
            stamp: self.epoch,
            number,
            attempt: upload.todo.attempt,
            offset: upload.sent,
            bytes: Bytes::from(bytes),
        }))
    }

    fn send_part(&mut self, upload: Upload, part: Part) {
        let count = part.bytes.len() as u64;
        self.payload_bytes += count;
        if let Some(member) = self.fleet.members.get_mut(&upload.link) {
            member.sent_part(count);
        }
        if let Some(upload) = self.work.upload(part.number) {
            upload.sent += count;
        }
        self.sessions.send(upload.link, upload.alias, &Message::Part(part));
    }

    /// All of a payload is with its worker: the task follows as soon as it may be sent there.
    fn finish_upload(&mut self, now: Instant, number: u64, upload: Upload, gate: Gate) {
        let todo = upload.todo;
        let hold = if upload.alone {
            gate.hold_alone()
        } else {
            gate.hold(number, todo)
        };
        if self.work.is_lonely(number) && !upload.alone {
            return self.work.give_up_upload(number);
        }
        let Some(member) = self.fleet.members.get(&upload.link) else {
            return;
        };
        let taken = !member.alone.is_empty() || member.credit().0 == 0;
        if hold.is_some() || taken || upload.alone && self.busy_alone().is_err() {
            return;
        }
        self.work.remove((number, number));
        let entry = TaskEntry {
            number,
            attempt: todo.attempt,
            length: u32::try_from(upload.length).unwrap_or(u32::MAX),
        };
        self.send_tasks(now, upload.link, Parcel::parted(entry), upload.alone);
    }
}
