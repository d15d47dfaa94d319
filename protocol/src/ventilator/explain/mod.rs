//! Why a batch, or one of its numbers, is not done: told by what the machine itself decides by.

mod batch;
mod number;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::fleet::{Member, Stage};
use super::hold::{Hold, NoRoom};
use super::uploads::Upload;
use super::view::{WorkerStage, stage};
use super::{Resent, Ventilator};
use crate::ids::{Attempt, BatchUid, Epoch, LinkId};
use crate::wire::{Counts, Failure, Health};

/// Why a batch is not done. Bounded, however large the batch is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// The batch.
    pub uid: BatchUid,
    /// Its name.
    pub name: String,
    /// The epoch that is claimed, or about to be.
    pub epoch: Epoch,
    /// N.
    pub completions: u64,
    /// The collector's totals.
    pub counts: Counts,
    /// The lowest number that is not settled.
    pub lowest_missing: u64,
    /// Why nothing at all may be sent, if so.
    pub hold: Option<Hold>,
    /// The collector.
    pub collector: CollectorView,
    /// Numbers at workers.
    pub in_flight: u64,
    /// Of these, numbers that the collector misses, and whose workers are asked after them or have denied them.
    pub missing: u64,
    /// Numbers that are ready, by what keeps them from being sent.
    pub ready: Vec<Ready>,
    /// Numbers whose payload goes ahead to a worker in parts.
    #[serde(default)]
    pub uploading: Vec<Uploading>,
    /// Numbers that wait for their next attempt.
    pub waiting: u64,
    /// Numbers held back until it is clear what became of their worker.
    pub held_back: u64,
    /// Numbers whose payload no worker takes; the collector is told.
    pub unsendable: u64,
    /// Workers, by how far they are.
    pub stages: BTreeMap<WorkerStage, u64>,
    /// The most telling workers first.
    pub workers: Vec<WorkerExplanation>,
    /// How many worker processes may have died.
    pub suspect_count: u64,
    /// Those that went first.
    pub suspects: Vec<Suspect>,
    /// What has been at workers for the longest time.
    pub stragglers: Vec<Straggler>,
    /// What happens next by time alone, soonest first.
    pub upcoming: Vec<Upcoming>,
    /// Milliseconds since anything was recorded, if anything was.
    pub recorded_millis: Option<u64>,
    /// Why numbers were sent again.
    pub resent: Resent,
    /// The first failures, with their causes.
    pub failures: Vec<Failure>,
}

/// The collector, as its ventilator sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CollectorView {
    /// How far the link has come.
    pub stage: CollectorStage,
    /// What it said of its disk.
    pub health: Health,
    /// Milliseconds since it was heard of, if there is a link to it.
    pub silent_millis: Option<u64>,
}

/// How far a ventilator has come with its collector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CollectorStage {
    /// There is no link to it.
    Absent,
    /// It is asked whose the batch is.
    Asked,
    /// The claim waits until the host has kept its epoch.
    ClaimWaits,
    /// The batch is claimed; what is settled is not known yet.
    Claimed,
    /// It answers.
    Ready,
}

/// Numbers that are ready, and what keeps them from being sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ready {
    /// Nothing if they are sent next.
    pub hold: Option<Hold>,
    /// They are to run alone, since several workers died while they had them.
    pub alone: bool,
    /// How many.
    pub numbers: u64,
    /// The lowest.
    pub first: u64,
}

/// A number whose payload goes ahead to a worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Uploading {
    /// The number.
    pub number: u64,
    /// Its attempt.
    pub attempt: Attempt,
    /// To which worker.
    pub worker: String,
    /// Bytes that were sent.
    pub sent: u64,
    /// Bytes of the payload.
    pub length: u64,
}

/// One worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkerExplanation {
    /// Its name, as the host gave it.
    pub name: String,
    /// How far the link has come.
    pub stage: WorkerStage,
    /// Nothing new goes there.
    pub draining: bool,
    /// Tasks it runs at once.
    pub slots: u64,
    /// Numbers in flight there.
    pub in_flight: u64,
    /// Milliseconds for which the oldest of them has been there.
    pub oldest_millis: Option<u64>,
    /// Milliseconds since it was heard of.
    pub silent_millis: Option<u64>,
    /// Why it gets nothing more now, if it could.
    pub no_room: Option<NoRoom>,
}

/// A worker process that may have died.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Suspect {
    /// Its name.
    pub worker: String,
    /// Milliseconds since its link closed.
    pub gone_millis: u64,
    /// Milliseconds until it counts as dead, unless it comes back.
    pub given_up_in_millis: u64,
    /// Numbers it had then.
    pub in_flight: u64,
}

/// Numbers that have been at a worker for long.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Straggler {
    /// The first number.
    pub first: u64,
    /// The last number: what was sent together is told together.
    pub last: u64,
    /// Their attempt.
    pub attempt: Attempt,
    /// Where they are.
    pub worker: String,
    /// For how many milliseconds.
    pub millis: u64,
}

/// Something that happens by time alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Upcoming {
    /// In how many milliseconds.
    pub in_millis: u64,
    /// What.
    #[serde(flatten)]
    pub kind: UpcomingKind,
}

/// What happens by time alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "kebab-case")]
pub enum UpcomingKind {
    /// A number is tried again.
    Retry {
        /// The number.
        number: u64,
    },
    /// The collector is asked what it misses.
    AskCollector,
    /// Parties without a link are dialled again.
    Dial,
    /// A worker that went away counts as dead.
    GiveUp {
        /// The worker.
        worker: String,
    },
    /// A takeover waits no longer for workers.
    Located,
    /// The batch's deadline.
    Deadline,
}

/// Why one number is not settled, or how it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NumberExplanation {
    /// The number.
    pub number: u64,
    /// N.
    pub completions: u64,
    /// Where it is.
    #[serde(flatten)]
    pub state: NumberState,
    /// Worker deaths that it was in flight at.
    pub deaths: u32,
    /// Workers that went away while they had it, and may have died.
    pub suspects: Vec<Suspect>,
    /// The collector.
    pub collector: CollectorView,
}

/// Where a number is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case", rename_all_fields = "camelCase")]
pub enum NumberState {
    /// The batch has no such number.
    OutOfRange,
    /// What is settled is not known before the collector has told it.
    Unknown {
        /// Why it has not.
        hold: Hold,
    },
    /// It is recorded as a success.
    Succeeded,
    /// It is recorded as a failure.
    Failed {
        /// Why, if this ventilator heard it.
        failure: Option<Failure>,
    },
    /// It was sent to a worker: it runs there, waits for a slot, or its outcome is on its way to the collector.
    InFlight {
        /// Its attempt.
        attempt: Attempt,
        /// Milliseconds since it was sent, or found there.
        millis: u64,
        /// The worker; nothing if the link to it has just closed: then it goes out again in a moment.
        worker: Option<WorkerExplanation>,
        /// It runs alone there.
        alone: bool,
        /// The collector misses it.
        missing: Option<Missing>,
    },
    /// It is ready to be sent.
    Ready {
        /// Its attempt.
        attempt: Attempt,
        /// It was sent before.
        resend: bool,
        /// It is to run alone.
        alone: bool,
        /// Numbers that are sent before it.
        ahead: u64,
        /// What keeps it from being sent, besides those.
        hold: Option<Hold>,
    },
    /// Its payload goes ahead to a worker in parts; it is sent there when all of it is there.
    Uploading(Uploading),
    /// It failed, and waits for its next attempt.
    Waiting {
        /// That attempt.
        attempt: Attempt,
        /// Milliseconds until then.
        due_millis: u64,
    },
    /// It ran alone on a worker that went away, and is held back until it is clear what became of that.
    HeldBack {
        /// Its attempt.
        attempt: Attempt,
    },
    /// No worker takes its payload; the collector is to record that.
    Unsendable {
        /// Its attempt.
        attempt: Attempt,
        /// Why.
        why: String,
    },
}

/// What is known of a number that is at a worker and that the collector misses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Missing {
    /// The worker is asked whether it holds it.
    Asked,
    /// The worker does not: it goes out again if the collector still misses it the next time.
    Denied,
}

impl Ventilator {
    fn collector_view(&self, now: Instant) -> CollectorView {
        CollectorView {
            stage: self.collector.view(),
            health: self.health,
            silent_millis: self.collector.link.and_then(|link| self.silence(now, link)),
        }
    }

    fn uploading(&self, number: u64, upload: &Upload) -> Uploading {
        Uploading {
            number,
            attempt: upload.todo.attempt,
            worker: self
                .fleet
                .members
                .get(&upload.link)
                .map_or_else(String::new, |member| member.key.clone()),
            sent: upload.sent,
            length: upload.length,
        }
    }

    fn silence(&self, now: Instant, link: LinkId) -> Option<u64> {
        self.sessions.heard(link).map(|heard| since(now, heard))
    }

    /// `oldest` is when the oldest of its numbers was sent.
    fn explain_worker(
        &self,
        now: Instant,
        link: LinkId,
        member: &Member,
        oldest: Option<Instant>,
    ) -> WorkerExplanation {
        let may = member.stage == Stage::Ready && !member.unbound && !member.is_drained();
        WorkerExplanation {
            name: member.key.clone(),
            stage: stage(member),
            draining: member.draining,
            slots: member.slots,
            in_flight: member.in_flight,
            oldest_millis: oldest.map(|oldest| since(now, oldest)),
            silent_millis: self.silence(now, link),
            no_room: self.room(link).err().filter(|_| may),
        }
    }
}

/// Milliseconds from then to now.
fn since(now: Instant, then: Instant) -> u64 {
    millis(now.saturating_duration_since(then))
}

/// Milliseconds from now to then.
fn until(now: Instant, then: Instant) -> u64 {
    millis(then.saturating_duration_since(now))
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
