//! Credit: how many tasks, and payload bytes, each ventilator may still send to this worker.

use std::collections::BTreeMap;

use crate::ids::{Alias, Attempt, LinkId};
use crate::mutant::{self, Mutant};
use crate::wire::{Credit, Want};

/// A ventilator's START on one link.
pub(crate) type Door = (LinkId, Alias);

#[derive(Clone, Debug, Default)]
struct Account {
    serial: u32,
    /// What the last WANT asked for and was not granted yet.
    wanted: u64,
    tasks_granted: u64,
    bytes_granted: u64,
    tasks_received: u64,
    bytes_received: u64,
    /// A payload of it has begun to come in parts, and is not whole.
    uploads: bool,
    /// A CREDIT is due even if nothing is granted: it echoes a WANT.
    echo: bool,
}

/// What may be granted.
pub(crate) struct May<T, B> {
    /// Whether a ventilator may have tasks.
    pub(crate) tasks: T,
    /// Whether it needs bytes though it has no tasks left: a payload has begun to come.
    pub(crate) bytes: B,
    /// As many payloads as may be are kept on the disk: no more bytes until tasks have ended.
    pub(crate) enough: bool,
}

/// The accounts of all ventilators. Granted is only room that no ventilator holds.
#[derive(Clone, Debug)]
pub(crate) struct Credits {
    /// Payload bytes that are granted and held in memory at most.
    queue_bytes: u64,
    accounts: BTreeMap<Door, Account>,
    /// Where the next round of grants begins, so that nobody is always last.
    turn: Option<Door>,
}

impl Credits {
    pub(crate) fn new(queue_bytes: u64) -> Self {
        Self {
            queue_bytes,
            accounts: BTreeMap::new(),
            turn: None,
        }
    }

    pub(crate) fn open(&mut self, door: Door) {
        self.accounts.entry(door).or_default();
    }

    pub(crate) fn close(&mut self, door: Door) {
        self.accounts.remove(&door);
    }

    /// WANT: what was granted and not used by the time it was sent is void.
    pub(crate) fn want(&mut self, door: Door, want: Want) {
        if let Some(account) = self.accounts.get_mut(&door) {
            account.serial = want.serial;
            account.wanted = want.backlog;
            account.tasks_granted = account.tasks_received;
            account.bytes_granted = account.bytes_received;
            account.echo = true;
        }
    }

    /// TASKS came in. False if they are more than was granted: one task may exceed the bytes, but no task the count.
    pub(crate) fn received(&mut self, door: Door, tasks: u64, bytes: u64) -> bool {
        let Some(account) = self.accounts.get_mut(&door) else {
            return false;
        };
        account.tasks_received += tasks;
        account.bytes_received += bytes;
        let within = account.tasks_received <= account.tasks_granted;
        account.bytes_granted = account.bytes_granted.max(account.bytes_received);
        within
    }

    /// A piece of a payload came in: it is on the disk, and takes no more room here.
    pub(crate) fn received_part(&mut self, door: Door, bytes: u64) {
        self.received(door, 0, bytes);
        if let Some(account) = self.accounts.get_mut(&door) {
            account.uploads = true;
        }
    }

    /// Shares the free room out among the ventilators that want some and may have it. `target` and `held` count tasks,
    /// `held_bytes` their payloads.
    pub(crate) fn grant(
        &mut self,
        target: u64,
        held: u64,
        held_bytes: u64,
        may: May<impl Fn(Door) -> bool, impl Fn(Door) -> bool>,
    ) -> Vec<(Door, Credit)> {
        self.grant_tasks(target, held, may.tasks);
        for (door, account) in self.accounts.iter_mut().filter(|(_, account)| account.uploads) {
            account.uploads = (may.bytes)(*door);
        }
        if !may.enough {
            self.grant_bytes(held_bytes);
        }
        self.due()
    }

    /// Room is given in pieces of a quarter of the target, so that messages stay few.
    fn grant_tasks(&mut self, target: u64, held: u64, open: impl Fn(Door) -> bool) {
        let tasks_out: u64 = self.accounts.values().map(Account::tasks_out).sum();
        let free = target.saturating_sub(held + tasks_out);
        let wants = |door: &Door| self.accounts.get(door).is_some_and(|account| account.wanted > 0);
        let hungry: Vec<_> = self
            .in_turn()
            .into_iter()
            .filter(|door| wants(door) && open(*door))
            .collect();
        if hungry.is_empty() || free == 0 || free < target / 4 && tasks_out > 0 {
            return;
        }
        let share = free.div_ceil(hungry.len() as u64);
        let mut left = free;
        for door in hungry {
            let Some(account) = self.accounts.get_mut(&door) else {
                continue;
            };
            let tasks = share.min(left).min(account.wanted);
            if tasks == 0 {
                break;
            }
            left -= tasks;
            account.grant_tasks(tasks);
            self.turn = Some(door);
        }
    }

    /// Half of the queue's bytes are shared evenly among those that hold task credit or send a payload in parts, and filled up
    /// when they run low. The other half leaves room for who comes later.
    fn grant_bytes(&mut self, held_bytes: u64) {
        let bytes_out: u64 = self.accounts.values().map(Account::bytes_out).sum();
        let mut free = self.queue_bytes.saturating_sub(held_bytes + bytes_out);
        let holders = self.accounts.values().filter(|account| account.may_send()).count() as u64;
        let share = self.queue_bytes / 2 / holders.max(1);
        for account in self.accounts.values_mut().filter(|account| account.may_send()) {
            if account.bytes_out() < share / 2 && free >= share / 2 {
                let bytes = (share - account.bytes_out()).min(free);
                free -= bytes;
                account.bytes_granted += bytes;
                account.echo = true;
            }
        }
    }

    fn in_turn(&self) -> Vec<Door> {
        let after = self.accounts.keys().filter(|door| Some(**door) > self.turn);
        let before = self.accounts.keys().filter(|door| Some(**door) <= self.turn);
        after.chain(before).copied().collect()
    }

    fn due(&mut self) -> Vec<(Door, Credit)> {
        let due = self.accounts.iter_mut().filter(|(_, account)| account.echo);
        due.map(|(door, account)| {
            account.echo = false;
            (*door, account.credit(None))
        })
        .collect()
    }

    /// The CREDIT that says which task is about to run alone.
    pub(crate) fn alone(&self, door: Door, task: (u64, Attempt)) -> Option<Credit> {
        self.accounts.get(&door).map(|account| account.credit(Some(task)))
    }

    pub(crate) fn sanity_check(&self, target: u64) {
        let tasks: u64 = self.accounts.values().map(Account::tasks_out).sum();
        let bytes: u64 = self.accounts.values().map(Account::bytes_out).sum();
        assert!(tasks <= target * 4, "{tasks} tasks granted with a target of {target}");
        assert!(bytes <= self.queue_bytes, "{bytes} bytes granted");
    }
}

impl Account {
    /// Tasks granted and not yet received.
    fn tasks_out(&self) -> u64 {
        if mutant::on(Mutant::CreditKept) {
            return self.tasks_granted;
        }
        self.tasks_granted.saturating_sub(self.tasks_received)
    }

    /// Whether bytes can come: with a task, or for one that has begun to come.
    fn may_send(&self) -> bool {
        self.uploads || self.tasks_out() > 0
    }

    /// Bytes granted and not yet received. Where nothing can come they are free for others.
    fn bytes_out(&self) -> u64 {
        if !self.may_send() {
            return 0;
        }
        self.bytes_granted.saturating_sub(self.bytes_received)
    }

    fn grant_tasks(&mut self, tasks: u64) {
        if !self.may_send() {
            self.bytes_granted = self.bytes_received;
        }
        self.wanted -= tasks;
        self.tasks_granted += tasks;
        self.echo = true;
    }

    fn credit(&self, alone: Option<(u64, Attempt)>) -> Credit {
        Credit {
            serial: self.serial,
            tasks_granted: self.tasks_granted,
            bytes_granted: self.bytes_granted,
            alone,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::QUEUE_BYTES;

    /// Nothing comes in parts.
    fn may() -> May<impl Fn(Door) -> bool, impl Fn(Door) -> bool> {
        May {
            tasks: |_| true,
            bytes: |_| false,
            enough: false,
        }
    }

    #[test]
    fn a_second_ventilator_finds_bytes_left_and_used_ones_come_back() {
        let [one, other]: [Door; 2] = [(LinkId::accepted(1), 1), (LinkId::accepted(2), 1)];
        let mut credits = Credits::new(QUEUE_BYTES);
        for door in [one, other] {
            credits.open(door);
        }
        let want = |backlog| Want {
            serial: 1,
            backlog,
            ..Want::default()
        };
        credits.want(one, want(100));
        let first = credits.grant(4, 0, 0, may());
        assert!(
            matches!(first[..], [(door, credit)] if door == one && credit.tasks_granted == 4),
            "{first:?}"
        );
        credits.want(other, want(100));
        assert!(credits.received(one, 3, 1000));
        let second = credits.grant(8, 3, 1000, may());
        let granted = second
            .iter()
            .find(|(door, _)| *door == other)
            .map(|(_, credit)| *credit);
        assert!(granted.is_some_and(|credit| credit.bytes_granted > 0), "{second:?}");

        let used = granted.map_or(0, |credit| credit.bytes_granted);
        assert!(credits.received(other, 1, used - 1));
        let third = credits.grant(8, 0, 0, may());
        let refilled = third
            .iter()
            .any(|(door, credit)| *door == other && credit.bytes_granted > used);
        assert!(
            refilled,
            "a ventilator with task credit but without bytes is stuck: {third:?}"
        );
        credits.sanity_check(8);
    }
}
