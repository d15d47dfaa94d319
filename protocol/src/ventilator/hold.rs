//! What keeps numbers that are ready from being sent: dispatch decides by it, and people are told it.

use serde::{Deserialize, Serialize};

use super::Ventilator;
use super::work::Todo;
use crate::ids::LinkId;
use crate::limits::WAITING_RETRIES;
use crate::mutant::{self, Mutant};

/// Why a number that is ready is not sent.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "reason", rename_all = "kebab-case")]
pub enum Hold {
    /// The ventilator has ended.
    Over,
    /// The batch is being ended early.
    Cancelling {
        /// Why.
        why: String,
    },
    /// The ventilator leaves: another one may go on later.
    Draining,
    /// The collector has not given its STATE.
    Collector,
    /// The collector does not answer any more: what was sent before may be recorded there, and is not sent twice.
    CollectorSilent,
    /// So many numbers wait for their next attempt that no other ones are begun.
    ManyRetries,
    /// A takeover waits until workers have said what they hold.
    Locating,
    /// No worker may get tasks.
    NoWorker,
    /// Every worker that may get tasks has enough.
    NoRoom(Rooms),
    /// It is to run alone, and others do so on as many workers as may be used for that.
    OthersAlone {
        /// Workers that run a number alone.
        workers: usize,
    },
}

/// How many workers take nothing now, by the reason of each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rooms {
    /// All that they granted is used: their slots and queues are full.
    pub credit: usize,
    /// They have their share of what is left; the rest is for the others.
    pub share: usize,
    /// The next payload does not fit into the bytes that they granted.
    pub bytes: usize,
    /// They run a number alone.
    pub alone: usize,
    /// The next payload is long, and as many are under way as may be.
    #[serde(default)]
    pub uploads: usize,
}

/// Why a worker that may get tasks gets none now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NoRoom {
    /// It granted no more.
    Credit,
    /// It has its share of what is left.
    Share,
    /// The next payload does not fit into the bytes that it granted.
    Bytes,
    /// It runs a number alone.
    Alone,
    /// The next payload is long, and another one is under way there, or as many as may be are elsewhere.
    Uploads,
}

/// Which numbers may be sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Gate {
    /// The collector is silent: only what was never sent.
    fresh_only: bool,
    /// Only what was sent before.
    resent_only: bool,
    /// A takeover: only numbers above this one.
    pub(super) above: Option<u64>,
    /// And not even those yet.
    pub(super) quiet: bool,
}

impl Gate {
    /// Why a number is not sent, whatever workers have room.
    pub(super) fn hold(self, number: u64, todo: Todo) -> Option<Hold> {
        if self.quiet || self.above.is_some_and(|above| number <= above) {
            return Some(Hold::Locating);
        }
        self.hold_kind(todo)
    }

    /// The same for all numbers of a kind, as far as it does not depend on the number.
    pub(super) fn hold_kind(self, todo: Todo) -> Option<Hold> {
        if self.fresh_only && todo.resend {
            Some(Hold::CollectorSilent)
        } else if self.resent_only && !todo.resend {
            Some(Hold::ManyRetries)
        } else {
            None
        }
    }

    /// Why a number that is to run alone is not sent, whatever workers have room.
    pub(super) fn hold_alone(self) -> Option<Hold> {
        if self.fresh_only {
            Some(Hold::CollectorSilent)
        } else {
            self.above.map(|_| Hold::Locating)
        }
    }
}

impl Ventilator {
    /// Which numbers may be sent, or why none may.
    pub(super) fn gate(&self) -> Result<Gate, Hold> {
        if self.over {
            return Err(Hold::Over);
        }
        if let Some(why) = &self.cancelling {
            return Err(Hold::Cancelling { why: why.clone() });
        }
        if self.draining {
            return Err(Hold::Draining);
        }
        let silent = self.collector.is_silent() && self.collector.kept_epoch() >= self.epoch;
        if !self.collector.is_ready() && !silent {
            return Err(Hold::Collector);
        }
        Ok(Gate {
            fresh_only: silent && !mutant::on(Mutant::ResendInSilence),
            resent_only: self.work.waiting() >= WAITING_RETRIES,
            above: self.locate.as_ref().map(|locate| locate.frontier),
            quiet: self.locate.as_ref().is_some_and(|locate| locate.quiet_until.is_some()),
        })
    }

    /// How many tasks a worker may get now. Guided self-scheduling (Polychronopoulos and Kuck, 1987): a share is what is
    /// left over twice the number of workers, so that all of them end at about the same time, but never less than is worth a
    /// round trip.
    pub(super) fn room(&self, link: LinkId) -> Result<u64, NoRoom> {
        let member = self.fleet.members.get(&link).ok_or(NoRoom::Credit)?;
        if !member.alone.is_empty() {
            return Err(NoRoom::Alone);
        }
        if member.starved && member.in_flight > 0 {
            return Err(NoRoom::Bytes);
        }
        if member.behind_uploads && !self.work.may_upload(link) {
            return Err(NoRoom::Uploads);
        }
        let credit = member.credit().0;
        if credit == 0 {
            return Err(NoRoom::Credit);
        }
        let workers = self.fleet.ready().count().max(1) as u64;
        let share = self.work.len().div_ceil(2 * workers).max(member.least_share());
        match share.saturating_sub(member.in_flight) {
            0 => Err(NoRoom::Share),
            left => Ok(credit.min(left)),
        }
    }

    /// Why no worker takes a task now; nothing if one does.
    pub(super) fn no_room(&self) -> Option<Hold> {
        if self.next_in_turn().is_some() {
            return None;
        }
        let mut rooms = Rooms::default();
        let mut links = self.fleet.ready().map(|(link, _)| link).peekable();
        if links.peek().is_none() {
            return Some(Hold::NoWorker);
        }
        for why in links.filter_map(|link| self.room(link).err()) {
            *match why {
                NoRoom::Credit => &mut rooms.credit,
                NoRoom::Share => &mut rooms.share,
                NoRoom::Bytes => &mut rooms.bytes,
                NoRoom::Alone => &mut rooms.alone,
                NoRoom::Uploads => &mut rooms.uploads,
            } += 1;
        }
        Some(Hold::NoRoom(rooms))
    }

    /// How many workers run a number alone, if one more may.
    pub(super) fn busy_alone(&self) -> Result<usize, Hold> {
        let members = self.fleet.members.values();
        let busy = members.filter(|member| !member.alone.is_empty()).count();
        if busy >= (self.fleet.ready().count() / 2).max(1) {
            return Err(Hold::OthersAlone { workers: busy });
        }
        Ok(busy)
    }

    /// The worker for the next number that runs alone: at most half of the workers are used for that.
    pub(super) fn place_alone(&self) -> Result<LinkId, Hold> {
        let busy = self.busy_alone()?;
        // Whether its payload is long is not known yet.
        let open = |link: LinkId| self.work.may_upload(link);
        let free = self
            .fleet
            .ready()
            .filter(|(link, member)| member.alone.is_empty() && member.credit().0 > 0 && open(*link));
        let link = free.min_by_key(|(_, member)| member.in_flight).map(|(link, _)| link);
        link.ok_or_else(|| {
            let others = || self.fleet.ready().filter(|(_, member)| member.alone.is_empty());
            let uploads = others().filter(|(link, _)| !open(*link)).count();
            if self.fleet.ready().next().is_none() {
                Hold::NoWorker
            } else {
                Hold::NoRoom(Rooms {
                    credit: others().count() - uploads,
                    alone: busy,
                    uploads,
                    ..Rooms::default()
                })
            }
        })
    }
}
