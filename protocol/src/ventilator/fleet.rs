//! The workers, as one ventilator sees them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use crate::ids::{Alias, Attempt, LinkId, ProcessId};
use crate::mutant::{self, Mutant};
use crate::spans::SpanMap;
use crate::wire::{Credit, Hello, Want};

/// The least share of a worker goes so often into what it is ready to take, so that shares near the end do not shrink below what
/// a round trip costs, and the last worker ends some 25 ms after the first one at most.
const LEAST_SHARES: u64 = 8;

/// How far a worker's link has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Greeted; START is not sent yet.
    Greeted,
    /// START is sent; STATE is not complete.
    Started,
    /// It may get tasks.
    Ready,
    /// It refused, or leaves: it gets nothing more on this link.
    Closed,
}

/// A worker with a link.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) name: String,
    /// The name by which the host knows it.
    pub(crate) key: String,
    pub(crate) process_id: ProcessId,
    pub(crate) slots: u64,
    pub(crate) max_payload: u64,
    pub(crate) stage: Stage,
    pub(crate) alias: Alias,
    /// Numbers in flight there.
    pub(crate) in_flight: u64,
    /// The newest WANT, and the credit that echoes it.
    pub(crate) want: Want,
    credit: Option<Credit>,
    /// What it was ready to take when it last granted something: a quarter or more of what it wants to hold, which is as much
    /// as it does within [`CREDIT_AHEAD`](crate::limits::CREDIT_AHEAD).
    window: u64,
    /// The next task does not fit into its bytes: it waits for more, or until nothing is in flight there.
    pub(crate) starved: bool,
    /// The next payload is long, and another one is under way there, or too many are elsewhere.
    pub(crate) behind_uploads: bool,
    /// It has had no bound link to the collector for too long.
    pub(crate) unbound: bool,
    /// Nothing new goes there.
    pub(crate) draining: bool,
    /// The number it runs, or will run, alone. It may have several from before its link broke.
    pub(crate) alone: BTreeSet<u64>,
    /// What it said is about to run alone.
    pub(crate) alone_begun: Option<(u64, Attempt)>,
    pub(crate) held_serial: u32,
    /// The numbers in its STATE, as far as its pieces are in.
    pub(crate) listed: SpanMap<()>,
}

impl Member {
    pub(crate) fn new(key: String, hello: &Hello) -> Self {
        Self {
            key,
            name: hello.name.clone(),
            process_id: hello.process_id,
            slots: u64::from(hello.slots.unwrap_or(1)).max(1),
            max_payload: hello.max_payload,
            stage: Stage::Greeted,
            alias: 0,
            in_flight: 0,
            want: Want::default(),
            credit: None,
            window: 0,
            starved: false,
            behind_uploads: false,
            unbound: false,
            draining: false,
            alone: BTreeSet::new(),
            alone_begun: None,
            held_serial: 0,
            listed: SpanMap::default(),
        }
    }

    /// START is sent under this alias: credit begins anew only with the link, not with the alias.
    pub(crate) fn started(&mut self, alias: Alias) {
        self.alias = alias;
        self.stage = Stage::Started;
        self.listed.clear();
        self.want = Want {
            serial: self.want.serial,
            ..Want::default()
        };
        self.credit = None;
        self.starved = false;
    }

    /// CREDIT: only what echoes the newest WANT counts.
    pub(crate) fn credited(&mut self, credit: Credit) {
        if let Some(alone) = credit.alone {
            self.alone_begun = Some(alone);
        }
        if credit.serial == self.want.serial || mutant::on(Mutant::OldCredit) {
            if self
                .credit
                .is_none_or(|known| known.tasks_granted < credit.tasks_granted)
            {
                self.window = credit.tasks_granted.saturating_sub(self.want.tasks_sent);
            }
            self.credit = Some(credit);
            self.starved = false;
        }
    }

    /// The smallest share worth a round trip: one task for each slot, or what it does in an eighth of the time for which it
    /// takes tasks ahead.
    pub(crate) fn least_share(&self) -> u64 {
        self.slots.max(self.window / LEAST_SHARES)
    }

    /// Tasks and bytes that may be sent now.
    pub(crate) fn credit(&self) -> (u64, u64) {
        self.credit.map_or((0, 0), |credit| {
            (
                credit.tasks_granted.saturating_sub(self.want.tasks_sent),
                credit.bytes_granted.saturating_sub(self.want.bytes_sent),
            )
        })
    }

    pub(crate) fn void_credit(&mut self) {
        self.credit = None;
    }

    pub(crate) fn sent(&mut self, tasks: u64, bytes: u64) {
        self.want.tasks_sent += tasks;
        self.want.bytes_sent += bytes;
        self.want.backlog = self.want.backlog.saturating_sub(tasks);
        self.in_flight += tasks;
    }

    /// A piece of a payload went ahead.
    pub(crate) fn sent_part(&mut self, bytes: u64) {
        self.want.bytes_sent += bytes;
    }

    /// Whether it gets nothing new. What was granted to it is void with the next WANT, which asks for nothing.
    pub(crate) fn is_drained(&self) -> bool {
        self.draining && !mutant::on(Mutant::DrainedWorkerFed)
    }

    /// The WANT to send, if what is left to do changed between nothing and something, or more came than was asked for.
    pub(crate) fn next_want(&mut self, backlog: u64) -> Option<Want> {
        let nothing_asked = self.want.backlog == 0;
        let nothing_left = backlog == 0;
        if nothing_asked == nothing_left {
            return None;
        }
        self.want.serial = self.want.serial.wrapping_add(1);
        self.want.backlog = backlog;
        self.credit = None;
        Some(self.want)
    }
}

/// A worker process whose link closed without BYE: perhaps it died.
#[derive(Clone, Debug)]
pub(crate) struct Suspicion {
    pub(crate) name: String,
    /// The name by which the host knows it.
    pub(crate) key: String,
    pub(crate) since: Instant,
    /// What it had in flight.
    pub(crate) held: Vec<crate::wire::Holding>,
    pub(crate) alone_begun: Option<(u64, Attempt)>,
}

/// All workers with a link, and those that may have died.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fleet {
    pub(crate) members: BTreeMap<LinkId, Member>,
    /// Workers that get nothing new, by the host's name for them.
    pub(crate) draining: BTreeSet<String>,
    /// Numbers settled while in flight at a worker that has greeted, by the host's name for it.
    pub(crate) settled: BTreeMap<String, u64>,
    pub(crate) suspicions: BTreeMap<ProcessId, Suspicion>,
}

impl Fleet {
    /// A worker has greeted on a new link.
    pub(crate) fn greet(&mut self, link: LinkId, mut member: Member) {
        member.draining = self.draining.contains(&member.key);
        self.settled.entry(member.key.clone()).or_default();
        self.members.insert(link, member);
    }

    /// Numbers were settled while in flight at a worker.
    pub(crate) fn note_settled(&mut self, link: LinkId, count: u64) {
        if let Some(settled) = self
            .members
            .get(&link)
            .and_then(|member| self.settled.get_mut(&member.key))
        {
            *settled += count;
        }
    }

    /// Links of workers that may get tasks.
    pub(crate) fn ready(&self) -> impl Iterator<Item = (LinkId, &Member)> {
        self.members
            .iter()
            .filter(|(_, member)| member.stage == Stage::Ready && !member.unbound && !member.is_drained())
            .map(|(l, m)| (*l, m))
    }

    /// The processes of this name that may have died.
    pub(crate) fn suspects_named(&self, name: &str) -> Vec<ProcessId> {
        let named = self.suspicions.iter().filter(|(_, suspicion)| suspicion.name == name);
        named.map(|(process, _)| *process).collect()
    }

    /// By the host's names for them, workers of which a process may have died.
    pub(crate) fn suspects(&self) -> BTreeSet<&str> {
        self.suspicions
            .values()
            .map(|suspicion| suspicion.key.as_str())
            .collect()
    }

    /// The alias is checked so that what was said under an older START does not count.
    pub(crate) fn speaker(&mut self, link: LinkId, alias: Alias) -> Option<&mut Member> {
        self.members.get_mut(&link).filter(|member| member.alias == alias)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::VERSIONS;
    use crate::wire::Role;

    fn credit(tasks_granted: u64) -> Credit {
        Credit {
            tasks_granted,
            ..Credit::default()
        }
    }

    #[test]
    fn shares_stay_worth_a_round_trip_where_tasks_are_short() {
        let hello = Hello {
            versions: VERSIONS,
            role: Role::Worker,
            name: String::new(),
            process_id: ProcessId(uuid::Uuid::nil()),
            slots: Some(2),
            max_payload: 0,
            heartbeat_millis: 1,
        };
        let mut member = Member::new(String::new(), &hello);
        member.credited(credit(4));
        assert_eq!(member.least_share(), 2, "long tasks: one for each slot");
        member.sent(4, 0);
        member.credited(credit(804));
        assert_eq!(member.least_share(), 100, "an eighth of what it takes at once");
        member.sent(700, 0);
        member.credited(credit(804));
        assert_eq!(member.least_share(), 100, "nothing new was granted");
        member.sent(104, 0);
        member.credited(credit(808));
        assert_eq!(member.least_share(), 2, "tasks have become long");
    }
}
