//! Rule 9: nothing leaves beyond credit, and only credit that echoes the newest WANT counts.

use std::collections::{BTreeMap, BTreeSet};

use harmony_protocol::ids::Alias;
use harmony_protocol::wire::{Credit as CreditMessage, Message, Part, ReturnCause, Tasks as TasksMessage};

use super::coverage::Branch;
use super::scene::Seen;
use crate::network::{ConnectionId, PartyId};
use crate::observation::{Carried, Observation, Role};

/// One batch on one link, as its ventilator knows it.
#[derive(Debug, Default)]
struct Account {
    serial: u32,
    /// WANTs that the worker has taken in.
    wanted: BTreeSet<u32>,
    /// What was granted for the newest WANT.
    credit: Option<CreditMessage>,
    tasks_sent: u64,
    bytes_sent: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Credit {
    accounts: BTreeMap<(ConnectionId, Alias), Account>,
    /// Workers, by name, that a ventilator is to send nothing new.
    spared: BTreeSet<(PartyId, String)>,
}

impl Credit {
    pub(super) fn observe(&mut self, seen: &Seen<'_>) {
        match *seen.what {
            Observation::Spared {
                party,
                worker,
                spared: true,
            } => drop(self.spared.insert((party, worker.to_owned()))),
            Observation::Spared { party, worker, .. } => drop(self.spared.remove(&(party, worker.to_owned()))),
            Observation::Ended { party, .. } => self.spared.retain(|(ventilator, _)| *ventilator != party),
            Observation::Sent(carried) => {
                self.check_spared(seen, &carried);
                let account = self.accounts.entry((carried.connection, carried.alias));
                match carried.message {
                    Message::Want(want) => {
                        let account = account.or_default();
                        account.serial = want.serial;
                        account.credit = None;
                        assert_eq!(
                            (want.tasks_sent, want.bytes_sent),
                            (account.tasks_sent, account.bytes_sent),
                            "rule 9: WANT counts what was sent"
                        );
                    }
                    Message::Credit(credit) => account.or_default().grant(seen, &carried, credit),
                    Message::Tasks(tasks) => account.or_default().spend(seen, &carried, tasks),
                    Message::Part(part) if seen.scene.role_of(carried.to) != Some(Role::Collector) => {
                        account.or_default().spend_part(seen, &carried, part);
                    }
                    _ => {}
                }
            }
            Observation::Delivered(carried) => {
                let Some(account) = self.accounts.get_mut(&(carried.connection, carried.alias)) else {
                    return;
                };
                match carried.message {
                    Message::Want(want) => drop(account.wanted.insert(want.serial)),
                    Message::Credit(credit) if credit.serial == account.serial => account.credit = Some(*credit),
                    Message::Return(returned) if returned.cause == ReturnCause::Drain => account.credit = None,
                    _ => {}
                }
            }
            _ => {}
        }
    }
}

impl Credit {
    /// A worker that is drained gets no tasks, and WANT 0.
    fn check_spared(&self, seen: &Seen<'_>, carried: &Carried<'_>) {
        let worker = seen.scene.name(carried.to);
        if !self.spared.contains(&(carried.from, worker.to_owned())) {
            return;
        }
        match carried.message {
            Message::Tasks(_) | Message::Part(_) => panic!(
                "rule 9: {} sends {} to {worker}, which is drained",
                seen.scene.name(carried.from),
                carried.message.kind()
            ),
            Message::Want(want) if want.backlog == 0 => seen.coverage.note(Branch::WorkerSpared),
            _ => {}
        }
    }
}

impl Account {
    fn grant(&mut self, seen: &Seen<'_>, carried: &Carried<'_>, credit: &CreditMessage) {
        let name = seen.scene.name(carried.from);
        assert!(
            matches!(seen.scene.role(carried.from), Some(Role::Worker(_))),
            "rule 9: {name} grants credit"
        );
        assert!(
            credit.serial == 0 || self.wanted.contains(&credit.serial),
            "rule 9: {name} answers a WANT {} that it never got",
            credit.serial
        );
    }

    fn spend(&mut self, seen: &Seen<'_>, carried: &Carried<'_>, tasks: &TasksMessage) {
        let name = seen.scene.name(carried.from);
        let count = tasks.entries.len() as u64;
        self.tasks_sent += count;
        self.bytes_sent += tasks.payloads.len() as u64;
        let Some(credit) = self.credit else {
            panic!("rule 9: {name} sends TASKS without credit for its newest WANT");
        };
        assert!(
            self.tasks_sent <= credit.tasks_granted,
            "rule 9: {name} has sent {} tasks, {} are granted",
            self.tasks_sent,
            credit.tasks_granted
        );
        if self.tasks_sent == credit.tasks_granted {
            seen.coverage.note(Branch::CreditAtZero);
        }
        // After one task that passed what was granted, tasks without payloads may still follow.
        assert!(
            self.bytes_sent <= credit.bytes_granted || count == 1 || tasks.payloads.is_empty(),
            "rule 9: {name} has sent {} bytes, {} are granted, and more than one task",
            self.bytes_sent,
            credit.bytes_granted
        );
    }

    fn spend_part(&mut self, seen: &Seen<'_>, carried: &Carried<'_>, part: &Part) {
        let name = seen.scene.name(carried.from);
        self.bytes_sent += part.bytes.len() as u64;
        let granted = self.credit.map(|credit| credit.bytes_granted);
        assert!(
            granted.is_some_and(|granted| self.bytes_sent <= granted),
            "rule 9: {name} has sent {} bytes with a PART of {}, {granted:?} are granted",
            self.bytes_sent,
            part.number
        );
        if granted == Some(self.bytes_sent) {
            seen.coverage.note(Branch::PayloadWaited);
        }
    }
}
