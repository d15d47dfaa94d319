//! Who is there, which links stand, and which batch an alias means: what all checks need to know.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use harmony_protocol::ids::{Alias, BatchUid, ProcessId};
use harmony_protocol::wire::Message;

use super::coverage::Coverage;
use crate::clock::Clock;
use crate::disk::Disk;
use crate::facts::Facts;
use crate::faults::Fault;
use crate::network::{ConnectionId, PartyId};
use crate::observation::{Carried, Observation, Role};
use crate::tasks::Tasks;

/// A process that lives.
#[derive(Clone, Debug)]
pub(super) struct Process {
    pub(super) id: ProcessId,
    pub(super) role: Role,
    pub(super) name: String,
    clock: Clock,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Scene {
    processes: BTreeMap<PartyId, Process>,
    /// What each place is, whether a process lives there or not.
    roles: BTreeMap<PartyId, Role>,
    aliases: BTreeMap<(ConnectionId, Alias), BatchUid>,
    /// How often the disk was filled, less how often room was made.
    full: u32,
}

/// One observation, and all that a check may look at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen<'a> {
    pub(super) at: Duration,
    pub(super) what: &'a Observation<'a>,
    pub(super) scene: &'a Scene,
    pub(super) oracle: &'a [Tasks],
    pub(super) disk: &'a Disk,
    pub(super) coverage: &'a Coverage,
}

impl Scene {
    /// Takes one observation in, before the checks see it. An end takes effect only with `forget`.
    pub(super) fn observe(&mut self, what: &Observation<'_>) {
        match *what {
            Observation::Started {
                party,
                role,
                name,
                process,
                clock,
            } => {
                let process = Process {
                    id: process,
                    role,
                    name: name.to_owned(),
                    clock,
                };
                self.processes.insert(party, process);
                self.roles.insert(party, role);
            }
            Observation::Sent(carried) => self.learn_alias(&carried),
            Observation::Struck(Fault::DiskFull) => self.full += 1,
            Observation::Healed(Fault::DiskFull) => self.full = self.full.saturating_sub(1),
            _ => {}
        }
    }

    /// Lets go what has ended, after the checks have seen the end.
    pub(super) fn forget(&mut self, what: &Observation<'_>) {
        if let Observation::Ended { party, .. } = what {
            self.processes.remove(party);
        }
    }

    fn learn_alias(&mut self, carried: &Carried<'_>) {
        let uid = match carried.message {
            Message::Start(start) => start.uid,
            Message::Bind(bind) => bind.uid,
            _ => return,
        };
        let known = self.aliases.insert((carried.connection, carried.alias), uid);
        assert!(
            carried.alias > 0 && known.is_none_or(|known| known == uid),
            "rule 1: alias {} of connection {} means {uid} after {known:?}",
            carried.alias,
            carried.connection
        );
    }

    pub(super) fn process(&self, party: PartyId) -> Option<&Process> {
        self.processes.get(&party)
    }

    pub(super) fn role(&self, party: PartyId) -> Option<Role> {
        self.process(party).map(|process| process.role)
    }

    /// What a place is, whether its process lives or not.
    pub(super) fn role_of(&self, party: PartyId) -> Option<Role> {
        self.roles.get(&party).copied()
    }

    /// The name of a process that lives.
    pub(super) fn name(&self, party: PartyId) -> &str {
        self.process(party).map_or("nobody", |process| &process.name)
    }

    /// Nothing can be appended to a log.
    pub(super) fn disk_full(&self) -> bool {
        self.full > 0
    }

    /// All places of workers.
    pub(super) fn workers(&self) -> Vec<PartyId> {
        let workers = self.roles.iter().filter(|(_, role)| matches!(role, Role::Worker(_)));
        workers.map(|(party, _)| *party).collect()
    }

    /// Which batch a message is about.
    pub(super) fn batch(&self, carried: &Carried<'_>) -> Option<BatchUid> {
        self.aliases.get(&(carried.connection, carried.alias)).copied()
    }
}

impl<'a> Seen<'a> {
    /// The time by the clock of a process that lives.
    pub(super) fn time_of(&self, party: PartyId) -> Option<Instant> {
        Some(self.scene.process(party)?.clock.shows(self.at))
    }

    /// What is durable of a batch.
    pub(super) fn facts(&self, uid: BatchUid) -> &'a Facts {
        self.disk.facts(uid)
    }

    /// What the oracle knows of a batch.
    pub(super) fn tasks(&self, uid: BatchUid) -> &'a Tasks {
        let found = self.oracle.iter().find(|tasks| tasks.uid == uid);
        found.unwrap_or_else(|| panic!("I5: nobody knows batch {uid}"))
    }

    /// The message sent just now, its batch, and who sends it to whom.
    pub(super) fn sent(&self) -> Option<(Carried<'a>, BatchUid)> {
        match *self.what {
            Observation::Sent(carried) => Some((carried, self.scene.batch(&carried)?)),
            _ => None,
        }
    }

    /// The message taken in just now, its batch, and who sent it to whom.
    pub(super) fn delivered(&self) -> Option<(Carried<'a>, BatchUid)> {
        match *self.what {
            Observation::Delivered(carried) => Some((carried, self.scene.batch(&carried)?)),
            _ => None,
        }
    }
}
