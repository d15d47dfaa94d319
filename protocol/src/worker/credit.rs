//! Credit: how many tasks, and payload bytes, each ventilator may still send to this worker.

use std::collections::BTreeMap;

use crate::ids::{Alias, Attempt, LinkId};
use crate::limits::QUEUE_BYTES;
use crate::wire::{Credit, Want};

/// A ventilator's START on one link.
pub(crate) type Door = (LinkId, Alias);

#[derive(Debug, Default)]
struct Account {
    serial: u32,
    /// What the last WANT asked for and was not granted yet.
    wanted: u64,
    tasks_granted: u64,
    bytes_granted: u64,
    tasks_received: u64,
    bytes_received: u64,
    /// A CREDIT is due even if nothing is granted: it echoes a WANT.
    echo: bool,
}

/// The accounts of all ventilators. Granted is only room that no ventilator holds.
#[derive(Debug, Default)]
pub(crate) struct Credits {
    accounts: BTreeMap<Door, Account>,
    /// Where the next round of grants begins, so that nobody is always last.
    turn: Option<Door>,
}

impl Credits {
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

    /// Tasks granted and not yet received, over all ventilators.
    fn outstanding(&self) -> (u64, u64) {
        self.accounts.values().fold((0, 0), |(tasks, bytes), account| {
            (
                tasks + account.tasks_granted.saturating_sub(account.tasks_received),
                bytes + account.bytes_granted.saturating_sub(account.bytes_received),
            )
        })
    }

    /// Shares the free room out among the ventilators that want some and may have it. `target` and `held` count tasks,
    /// `held_bytes` their payloads. Room is given in pieces of a quarter of the target, so that messages stay few.
    pub(crate) fn grant(
        &mut self,
        target: u64,
        held: u64,
        held_bytes: u64,
        open: impl Fn(Door) -> bool,
    ) -> Vec<(Door, Credit)> {
        let (tasks_out, bytes_out) = self.outstanding();
        let free = target.saturating_sub(held + tasks_out);
        let free_bytes = QUEUE_BYTES.saturating_sub(held_bytes + bytes_out);
        let doors: Vec<_> = self.in_turn().into_iter().filter(|door| open(*door)).collect();
        let hungry = doors
            .iter()
            .filter(|door| self.accounts.get(door).is_some_and(|a| a.wanted > 0))
            .count() as u64;
        if hungry > 0 && (free >= (target / 4).max(1) || tasks_out == 0 && free > 0) {
            let (share, share_bytes) = (free.div_ceil(hungry), free_bytes / hungry);
            let mut left = free;
            for door in &doors {
                let Some(account) = self.accounts.get_mut(door).filter(|account| account.wanted > 0) else {
                    continue;
                };
                let tasks = share.min(left).min(account.wanted);
                if tasks == 0 {
                    break;
                }
                left -= tasks;
                account.wanted -= tasks;
                account.tasks_granted += tasks;
                account.bytes_granted += share_bytes;
                account.echo = true;
                self.turn = Some(*door);
            }
        }
        self.due()
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
        let (tasks, bytes) = self.outstanding();
        assert!(tasks <= target * 4, "{tasks} tasks granted with a target of {target}");
        assert!(bytes <= QUEUE_BYTES, "{bytes} bytes granted");
    }
}

impl Account {
    fn credit(&self, alone: Option<(u64, Attempt)>) -> Credit {
        Credit {
            serial: self.serial,
            tasks_granted: self.tasks_granted,
            bytes_granted: self.bytes_granted,
            alone,
        }
    }
}
