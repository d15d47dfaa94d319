//! Who is there, which links stand, and which batch an alias means: what all checks need to know.

use std::collections::BTreeMap;

use harmony_protocol::ids::{Alias, BatchUid, ProcessId};
use harmony_protocol::wire::Message;

use crate::disk::Disk;
use crate::facts::Facts;
use crate::network::{ConnectionId, PartyId};
use crate::observation::{Carried, Observation, Role};
use crate::tasks::Tasks;

/// A process that lives.
#[derive(Clone, Debug)]
pub(super) struct Process {
    pub(super) id: ProcessId,
    pub(super) role: Role,
    pub(super) name: String,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Scene {
    processes: BTreeMap<PartyId, Process>,
    aliases: BTreeMap<(ConnectionId, Alias), BatchUid>,
}

/// One observation, and all that a check may look at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen<'a> {
    pub(super) what: &'a Observation<'a>,
    pub(super) scene: &'a Scene,
    pub(super) oracle: &'a [Tasks],
    pub(super) disk: &'a Disk,
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
            } => {
                let process = Process {
                    id: process,
                    role,
                    name: name.to_owned(),
                };
                self.processes.insert(party, process);
            }
            Observation::Sent(carried) => self.learn_alias(&carried),
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

    /// Which batch a message is about.
    pub(super) fn batch(&self, carried: &Carried<'_>) -> Option<BatchUid> {
        self.aliases.get(&(carried.connection, carried.alias)).copied()
    }
}

impl<'a> Seen<'a> {
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
