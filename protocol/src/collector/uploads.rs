//! Outputs that come in by parts: which output a worker is sending, what is stored of it, and when it is whole.

use std::time::Instant;

use super::commit::Effect;
use super::output::OutputId;
use super::state::Verdict;
use super::{Collector, Output, Slot, Use};
use crate::ids::{Alias, Attempt, BatchUid, LinkId};
use crate::wire::{OutcomeCode, Part, RefusedCode, ResultEntry, Results};

/// An output of which parts came in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Upload {
    number: u64,
    attempt: Attempt,
    length: u64,
    checksum: u32,
    /// Where it goes; nowhere if its number was settled when it began, or is by now.
    stored: Option<OutputId>,
}

/// Why an outcome cannot be taken with its output.
pub(super) enum Unfit {
    /// The worker broke the protocol.
    Malformed(String),
    /// Its bytes were not kept, and are wanted now.
    Again,
}

impl Upload {
    fn fits(&self, entry: &ResultEntry, checksum: u32) -> bool {
        let length = u64::from(entry.output);
        (self.number, self.attempt, self.length, self.checksum) == (entry.number, entry.attempt, length, checksum)
    }
}

impl Collector {
    /// Notes that a message of this sequence came in under a bound alias, and takes the upload of that out.
    pub(super) fn receive(
        &mut self,
        link: LinkId,
        alias: Alias,
        sequence: u64,
        weight: u64,
    ) -> Option<(BatchUid, Option<Upload>)> {
        let used = self.uses.get_mut(&link).and_then(|uses| uses.get_mut(&alias));
        let Some(Use::Worker {
            uid, received, upload, ..
        }) = used
        else {
            self.dropped.unknown_alias += 1;
            self.refuse(link, alias, RefusedCode::NotStarted, 0, "this alias is not bound");
            return None;
        };
        if sequence != *received + 1 {
            let reason = format!("RESULTS or PART {sequence} follow number {received} of this alias");
            self.sessions.refuse(link, &reason);
            return None;
        }
        *received += 1;
        let taken = (*uid, upload.take());
        self.allowances.received(link, weight);
        Some(taken)
    }

    pub(super) fn take_part(&mut self, now: Instant, link: LinkId, alias: Alias, part: &Part) {
        let Some((uid, upload)) = self.receive(link, alias, part.stamp, part.weight()) else {
            return;
        };
        let mut upload = match upload {
            Some(upload) if part.offset > 0 => upload,
            abandoned => {
                self.drop_upload(uid, abandoned);
                Upload {
                    number: part.number,
                    attempt: part.attempt,
                    length: 0,
                    checksum: 0,
                    stored: self.begin_upload(uid, part),
                }
            }
        };
        if (upload.number, upload.attempt, upload.length) != (part.number, part.attempt, part.offset) {
            let reason = format!(
                "a PART of number {} begins at byte {}; due is byte {} of number {}",
                part.number, part.offset, upload.length, upload.number
            );
            self.drop_upload(uid, Some(upload));
            return self.sessions.refuse(link, &reason);
        }
        upload.length = part.end();
        upload.checksum = crc32c::crc32c_append(upload.checksum, &part.bytes);
        if !self.wants(uid, part.number, part.attempt) {
            self.discard(uid, upload.stored.take());
        }
        if let Some(Slot::Open(batch)) = self.slots.get_mut(&uid) {
            batch.used_at = now;
            if let Some(output) = upload.stored {
                batch.commit.push_part(now, output, part.offset, part.bytes.clone());
            }
            let sequence = part.stamp;
            batch.commit.defer(Effect::Ack { link, alias, sequence });
        }
        if let Some(Use::Worker { upload: slot, .. }) = self.uses.get_mut(&link).and_then(|uses| uses.get_mut(&alias)) {
            *slot = Some(upload);
        }
    }

    /// Whether a success of a number would count.
    fn wants(&self, uid: BatchUid, number: u64, attempt: Attempt) -> bool {
        let Some(Slot::Open(batch)) = self.slots.get(&uid) else {
            return false;
        };
        let verdict = batch.state.judge(number, attempt, OutcomeCode::Succeeded);
        batch.state.ended().is_none() && matches!(verdict, Verdict::Success)
    }

    fn begin_upload(&mut self, uid: BatchUid, part: &Part) -> Option<OutputId> {
        self.wants(uid, part.number, part.attempt).then(|| {
            self.next_output += 1;
            self.next_output
        })
    }

    /// An outcome came in: the output that it closes, if that is stored and counts. What was open and is not closed by it,
    /// its worker has given up.
    pub(super) fn finish_upload(
        &mut self,
        uid: BatchUid,
        upload: Option<Upload>,
        results: &Results,
    ) -> Result<Option<OutputId>, Unfit> {
        let parted = results.entries.iter().find_map(|entry| Some((entry, entry.parted?)));
        let Some((entry, checksum)) = parted else {
            self.drop_upload(uid, upload);
            return Ok(None);
        };
        let fitting = upload.filter(|upload| upload.fits(entry, checksum) && results.entries.len() == 1);
        let Some(fitting) = fitting else {
            let (number, length) = (entry.number, entry.output);
            self.drop_upload(uid, upload);
            return Err(Unfit::Malformed(format!(
                "RESULTS say that {length} bytes of number {number} went ahead in parts; those were others"
            )));
        };
        match (self.wants(uid, entry.number, entry.attempt), fitting.stored) {
            (true, None) => Err(Unfit::Again),
            (true, stored) => Ok(stored),
            (false, stored) => {
                self.discard(uid, stored);
                Ok(None)
            }
        }
    }

    /// Has a worker bind anew and send all again: a number that was settled when its output began is missing by now.
    pub(super) fn ask_again(&mut self, link: LinkId, alias: Alias) {
        if let Some(used) = self.uses.get_mut(&link).and_then(|uses| uses.get_mut(&alias)) {
            *used = Use::Unloaded;
        }
        let reason = "a number became missing while its output came in; send that again";
        self.refuse(link, alias, RefusedCode::NotStarted, 0, reason);
    }

    pub(super) fn drop_upload(&mut self, uid: BatchUid, upload: Option<Upload>) {
        self.discard(uid, upload.and_then(|upload| upload.stored));
    }

    /// What is open of one batch, or of all, goes.
    pub(super) fn drop_uploads(&mut self, of: Option<BatchUid>) {
        let uses = self.uses.values_mut().flat_map(|uses| uses.values_mut());
        let open = uses.filter_map(|used| match used {
            Use::Worker { uid, upload, .. } if of.is_none_or(|of| of == *uid) => Some((*uid, upload.take()?)),
            _ => None,
        });
        for (uid, upload) in open.collect::<Vec<_>>() {
            self.drop_upload(uid, Some(upload));
        }
    }

    fn discard(&mut self, uid: BatchUid, stored: Option<OutputId>) {
        if let Some(output) = stored
            && let Some(Slot::Open(batch)) = self.slots.get_mut(&uid)
        {
            batch.commit.void(output);
            self.out.push_back(Output::Discard { uid, output });
        }
    }
}
