//! I9 and rules 2 and 3: per receiver accepted epochs never fall, and one ventilator dispatches under an epoch.

use std::collections::{BTreeMap, BTreeSet};

use harmony_protocol::ids::{Alias, BatchUid, Epoch, InstanceId, ProcessId};
use harmony_protocol::wire::{Message, RefusedCode, StateBody};

use super::scene::Seen;
use crate::network::{ConnectionId, PartyId};
use crate::observation::{Carried, Observation, Role};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Fencing {
    /// What each START claims.
    starts: BTreeMap<(ConnectionId, Alias), (Epoch, InstanceId)>,
    /// The last claim that each worker process has answered with STATE.
    accepted: BTreeMap<(PartyId, BatchUid), (Epoch, InstanceId)>,
    dispatchers: BTreeMap<(BatchUid, Epoch), ProcessId>,
    /// Batches whose log was lost: who claims from an empty log may claim an epoch again.
    wiped: BTreeSet<BatchUid>,
    /// Ventilators that were told of a higher epoch.
    fenced: BTreeSet<ProcessId>,
}

impl Fencing {
    pub(super) fn observe(&mut self, seen: &Seen<'_>) {
        match *seen.what {
            Observation::Ended { party, .. } => self.accepted.retain(|(worker, _), _| *worker != party),
            Observation::Released { party, uid } => drop(self.accepted.remove(&(party, uid))),
            Observation::Wiped(uid) => drop(self.wiped.insert(uid)),
            Observation::Sent(carried) => {
                if let Some(uid) = seen.scene.batch(&carried) {
                    self.hear(seen, &carried, uid);
                }
            }
            Observation::Delivered(carried) => self.take(seen, &carried),
            _ => {}
        }
    }

    fn hear(&mut self, seen: &Seen<'_>, carried: &Carried<'_>, uid: BatchUid) {
        let place = (carried.connection, carried.alias);
        match carried.message {
            Message::Start(start) => drop(self.starts.insert(place, (start.epoch, start.instance))),
            Message::State(state) => match &state.body {
                StateBody::Worker(_) => self.accept(carried, uid),
                StateBody::Collector(_) => self.check_durable(seen, carried, uid),
            },
            Message::Tasks(tasks) => {
                let Some(process) = seen.scene.process(carried.from) else {
                    return;
                };
                let first = self.dispatchers.entry((uid, tasks.epoch)).or_insert(process.id);
                // A claim that was damaged may be made again.
                let forgotten = self.wiped.contains(&uid) || tasks.epoch <= seen.facts(uid).doubted_epoch;
                assert!(
                    *first == process.id || forgotten,
                    "I9: two ventilators dispatch under epoch {} of {uid}",
                    tasks.epoch
                );
                assert!(
                    !self.fenced.contains(&process.id),
                    "rule 3: {} was fenced by the collector and sends TASKS",
                    process.name
                );
            }
            _ => {}
        }
    }

    /// A worker answers START with STATE: it accepts the claim.
    fn accept(&mut self, carried: &Carried<'_>, uid: BatchUid) {
        let Some(claim) = self.starts.get(&(carried.connection, carried.alias)) else {
            panic!("rule 4: STATE answers no START");
        };
        let before = self.accepted.insert((carried.from, uid), *claim);
        let Some((epoch, instance)) = before else { return };
        assert!(
            claim.0 > epoch || *claim == (epoch, instance),
            "I9: a worker accepts epoch {} of {} after epoch {epoch} of {instance}",
            claim.0,
            claim.1
        );
    }

    /// The collector answers a claim with STATE: it has made the claim durable.
    fn check_durable(&self, seen: &Seen<'_>, carried: &Carried<'_>, uid: BatchUid) {
        let Some((epoch, instance)) = self.starts.get(&(carried.connection, carried.alias)) else {
            panic!("rule 4: STATE answers no START");
        };
        let facts = seen.facts(uid);
        let durable = facts.claims.contains(&(*epoch, *instance));
        // What has ended is not claimed any more, and a claim may have been damaged since.
        assert!(
            *epoch == 0 || durable || facts.ended.is_some() || *epoch <= facts.doubted_epoch,
            "rule 3: STATE answers the claim of epoch {epoch} by {instance}, which is not durable"
        );
    }

    fn take(&mut self, seen: &Seen<'_>, carried: &Carried<'_>) {
        let fenced = matches!(carried.message, Message::Refused(refused) if refused.code == RefusedCode::Fenced);
        if fenced
            && seen.scene.role_of(carried.from) == Some(Role::Collector)
            && let Some(process) = seen.scene.process(carried.to)
        {
            self.fenced.insert(process.id);
        }
    }
}
