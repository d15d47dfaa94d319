//! Dispatch: lowest numbers first, never beyond credit, in ever smaller shares near the end.

use std::time::Instant;

use super::fleet::Stage;
use super::hold::Gate;
use super::work::Todo;
use super::{Flight, Peer, Since, Ventilator};
use crate::ids::{Attempt, LinkId};
use crate::limits::{END_AGAIN, TASKS_BYTES, TASKS_PER_MESSAGE};
use crate::mutant::{self, Mutant};
use crate::spans::Run;
use crate::wire::{Loss, Message, TaskEntry, Tasks};

use super::Payloads;

/// A takeover that has not heard from all workers yet.
#[derive(Clone, Debug, Default)]
pub(super) struct Locate {
    /// It waits no longer than that, once the collector has answered: before, no worker can be asked.
    pub(super) until: Option<Instant>,
    /// Nothing at all is sent before.
    pub(super) quiet_until: Option<Instant>,
    /// The highest number known to be settled or located: only numbers above it are sent meanwhile.
    pub(super) frontier: u64,
    /// Numbers found at workers.
    pub(super) located: u64,
}

/// What goes to one worker in one message.
#[derive(Default)]
pub(super) struct Parcel {
    entries: Vec<TaskEntry>,
    payloads: Vec<u8>,
    /// The payload of its one task went ahead.
    parted: bool,
    /// Tasks and bytes that may go in.
    tasks: u64,
    bytes: u64,
    /// The worker has nothing in flight, so that the first task may exceed the bytes.
    idle: bool,
    max_payload: u64,
    /// Payloads with more bytes do not go in.
    inline: u64,
}

/// What became of one number.
enum Packed {
    In,
    Full,
    /// Its payload has so many bytes and goes ahead in parts.
    Long(u64),
    TooLarge(u64),
}

/// What became of a run of numbers.
enum PackedRun {
    In,
    Full,
    /// This number goes ahead in parts, and the rest of the run went back.
    Long(u64, u64),
}

impl Parcel {
    /// A task whose payload went ahead.
    pub(super) fn parted(entry: TaskEntry) -> Self {
        Self {
            entries: vec![entry],
            parted: true,
            ..Self::default()
        }
    }

    fn pack(&mut self, number: u64, attempt: Attempt, payloads: &mut dyn Payloads) -> Result<Packed, String> {
        let before = self.payloads.len();
        let length = payloads.append(number, 0..self.inline, &mut self.payloads)?;
        let size = self.payloads.len() as u64;
        let first = self.entries.is_empty();
        let packed = if length > self.max_payload {
            Packed::TooLarge(length)
        } else if length > self.inline {
            Packed::Long(length)
        } else if size > self.bytes && !(first && self.idle) || size > TASKS_BYTES as u64 && !first {
            Packed::Full
        } else {
            let length = u32::try_from(length).unwrap_or(u32::MAX);
            self.entries.push(TaskEntry {
                number,
                attempt,
                length,
            });
            return Ok(Packed::In);
        };
        self.payloads.truncate(before);
        Ok(packed)
    }
}

impl Ventilator {
    /// Sends what may be sent.
    pub(super) fn dispatch(&mut self, now: Instant, payloads: &mut dyn Payloads) {
        let before = (self.dispatched, self.payload_bytes);
        self.give_up_uploads();
        let Ok(gate) = self.gate() else { return };
        self.advance_uploads(now, gate, payloads);
        if gate.hold_alone().is_none() {
            self.dispatch_lonely(now, gate, payloads);
        }
        while self.work.len() > 0 && !gate.quiet {
            let Some(link) = self.next_in_turn() else { break };
            self.turn = Some(link);
            if !self.dispatch_to(now, link, gate, payloads) {
                break;
            }
        }
        self.note_stall(now, (self.dispatched, self.payload_bytes) != before);
        self.tell_wants();
    }

    /// Workers have credit, and get nothing since their shares are full. If what fills them is lost, only the collector
    /// can say so.
    fn note_stall(&mut self, now: Instant, sent: bool) {
        let full = || self.fleet.ready().any(|(_, member)| member.credit().0 > 0);
        if !sent && self.work.len() > 0 && self.locate.is_none() && full() {
            self.collector.stalled.get_or_insert(now + END_AGAIN);
        } else {
            self.collector.stalled = None;
        }
    }

    /// The next worker that has credit and a share left.
    pub(super) fn next_in_turn(&self) -> Option<LinkId> {
        let usable = |link: &LinkId| self.room(*link).is_ok();
        let ready: Vec<LinkId> = self.fleet.ready().map(|(link, _)| link).collect();
        let after = ready.iter().find(|link| Some(**link) > self.turn && usable(link));
        after.or_else(|| ready.iter().find(|link| usable(link))).copied()
    }

    /// Sends one message to a worker. False if nothing could be sent to anybody.
    fn dispatch_to(&mut self, now: Instant, link: LinkId, gate: Gate, payloads: &mut dyn Payloads) -> bool {
        let tasks = self.room(link).unwrap_or(0).min(TASKS_PER_MESSAGE as u64);
        let Some(mut parcel) = self.parcel(link, tasks) else {
            return false;
        };
        if let Some(member) = self.fleet.members.get_mut(&link) {
            member.behind_uploads = false;
        }
        let (mut full, mut progress) = (false, false);
        while !full && (parcel.entries.len() as u64) < parcel.tasks {
            let most = parcel.tasks - parcel.entries.len() as u64;
            let Some(run) = self.next_run(most, gate) else { break };
            progress = true;
            match self.pack_run(run, &mut parcel, payloads) {
                Ok(PackedRun::In) => {}
                Ok(PackedRun::Full) => full = true,
                Ok(PackedRun::Long(number, length)) => {
                    // What is packed goes first, since it is lower.
                    if !parcel.entries.is_empty() {
                        self.send_tasks(now, link, parcel, false);
                    }
                    if self.begin_upload(link, (number, run.value), length, false).is_some() {
                        self.advance_upload(now, number, gate, payloads);
                    }
                    return true;
                }
                Err(reason) => {
                    self.work.add((run.first, run.last), run.value);
                    self.fail(reason);
                    return false;
                }
            }
        }
        if !parcel.entries.is_empty() {
            self.send_tasks(now, link, parcel, false);
        } else if let Some(member) = self.fleet.members.get_mut(&link).filter(|_| full) {
            member.starved = true;
        }
        progress
    }

    fn parcel(&self, link: LinkId, tasks: u64) -> Option<Parcel> {
        let member = self
            .fleet
            .members
            .get(&link)
            .filter(|member| member.stage == Stage::Ready)?;
        let capacity = usize::try_from(tasks).unwrap_or(TASKS_PER_MESSAGE);
        Some(Parcel {
            entries: Vec::with_capacity(capacity),
            payloads: Vec::new(),
            tasks,
            bytes: member.credit().1,
            idle: member.in_flight == 0,
            max_payload: member.max_payload,
            inline: self.config.cut.inline as u64,
            parted: false,
        })
    }

    fn next_run(&mut self, most: u64, gate: Gate) -> Option<Run<Todo>> {
        let may = |todo: Todo| gate.hold_kind(todo).is_none();
        match gate.above {
            Some(above) => self.work.take_above(above + 1, most, may),
            None => self.work.take(most, may),
        }
    }

    /// Packs a run; what does not fit goes back.
    fn pack_run(
        &mut self,
        run: Run<Todo>,
        parcel: &mut Parcel,
        payloads: &mut dyn Payloads,
    ) -> Result<PackedRun, String> {
        for number in run.first..=run.last {
            match parcel.pack(number, run.value.attempt, payloads)? {
                Packed::In => {}
                Packed::Full => {
                    self.work.add((number, run.last), run.value);
                    return Ok(PackedRun::Full);
                }
                Packed::Long(length) => {
                    if number < run.last {
                        self.work.add((number + 1, run.last), run.value);
                    }
                    return Ok(PackedRun::Long(number, length));
                }
                Packed::TooLarge(length) => {
                    self.report_unsendable(number, run.value.attempt, length, parcel.max_payload);
                }
            }
        }
        Ok(PackedRun::In)
    }

    fn report_unsendable(&mut self, number: u64, attempt: Attempt, length: u64, most: u64) {
        let reason = format!("the payload has {length} bytes, a worker takes at most {most}");
        self.unsendable.insert(number, (attempt, reason.clone()));
        self.send_loss(Loss::Unsendable {
            number,
            attempt,
            reason,
        });
    }

    pub(super) fn send_tasks(&mut self, now: Instant, link: LinkId, parcel: Parcel, alone: bool) {
        let Some(member) = self.fleet.members.get_mut(&link) else {
            return;
        };
        if alone {
            member.alone.extend(parcel.entries.iter().map(|entry| entry.number));
            member.alone_begun = None;
        }
        member.sent(parcel.entries.len() as u64, parcel.payloads.len() as u64);
        self.dispatched += parcel.entries.len() as u64;
        self.payload_bytes += parcel.payloads.len() as u64;
        let since = Since(now);
        let mut run: Option<Run<Attempt>> = None;
        for entry in &parcel.entries {
            run = match run {
                Some(run) if run.last + 1 == entry.number && run.value == entry.attempt => Some(Run {
                    last: entry.number,
                    ..run
                }),
                other => {
                    note_flight(&mut self.in_flight, link, since, other);
                    Some(Run {
                        first: entry.number,
                        last: entry.number,
                        value: entry.attempt,
                    })
                }
            };
        }
        note_flight(&mut self.in_flight, link, since, run);
        let tasks = Tasks {
            epoch: self.epoch,
            alone,
            backup: false,
            parted: parcel.parted,
            entries: parcel.entries,
            payloads: parcel.payloads.into(),
        };
        let alias = member.alias;
        self.sessions.send(link, alias, &Message::Tasks(tasks));
    }

    /// Numbers that were in flight at too many deaths run alone.
    fn dispatch_lonely(&mut self, now: Instant, gate: Gate, payloads: &mut dyn Payloads) {
        while self.work.lonely() > 0 {
            let Ok(link) = self.place_alone() else { return };
            let Some(mut parcel) = self.parcel(link, 1) else { return };
            let Some((number, attempt)) = self.work.take_lonely() else {
                return;
            };
            parcel.idle = true;
            let todo = Todo { attempt, resend: true };
            match parcel.pack(number, attempt, payloads) {
                Ok(Packed::In) => self.send_tasks(now, link, parcel, true),
                Ok(Packed::TooLarge(length)) => self.report_unsendable(number, attempt, length, parcel.max_payload),
                Ok(Packed::Long(length)) => {
                    if self.begin_upload(link, (number, todo), length, true).is_some() {
                        self.advance_upload(now, number, gate, payloads);
                    }
                }
                Ok(Packed::Full) => return self.work.add((number, number), todo),
                Err(reason) => {
                    self.work.add((number, number), todo);
                    return self.fail(reason);
                }
            }
        }
    }

    fn tell_wants(&mut self) {
        let left = self.work.len();
        for (link, member) in &mut self.fleet.members {
            let backlog = if member.is_drained() { 0 } else { left };
            if member.stage == Stage::Ready
                && let Some(want) = member.next_want(backlog)
            {
                self.sessions.send(*link, member.alias, &Message::Want(want));
            }
        }
    }

    /// A takeover is over when all known workers have said what they hold, or after some time.
    pub(super) fn end_locating(&mut self, now: Instant) {
        let Some(locate) = &mut self.locate else { return };
        locate.quiet_until.take_if(|until| now >= *until);
        let Some(until) = locate.until else { return };
        let answered = |name: &String| {
            self.fleet
                .members
                .values()
                .any(|member| member.name == *name && matches!(member.stage, Stage::Ready | Stage::Closed))
        };
        let known = self.dialler.keys().filter_map(|peer| match peer {
            Peer::Worker(name) => Some(name),
            Peer::Collector => None,
        });
        let blind = mutant::on(Mutant::TakeoverBlind);
        if now >= until || blind || known.into_iter().all(answered) {
            self.locate = None;
        }
    }
}

fn note_flight(in_flight: &mut crate::spans::SpanMap<Flight>, link: LinkId, since: Since, run: Option<Run<Attempt>>) {
    if let Some(run) = run {
        in_flight.insert(
            (run.first, run.last),
            Flight {
                link,
                attempt: run.value,
                since,
            },
        );
    }
}
