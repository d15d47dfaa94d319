//! I9 and rules 2 and 3: per receiver accepted epochs never fall, and one ventilator dispatches under an epoch.

use std::collections::{BTreeMap, BTreeSet};

use harmony_protocol::ids::{Alias, BatchUid, Epoch, InstanceId, ProcessId};
use harmony_protocol::wire::{Message, RefusedCode, StateBody};

use super::scene::Seen;
use crate::network::{ConnectionId, PartyId};
use crate::observation::{Carried, Observation, Role, Verdict};

/// A claim, and the link on which it was heard.
type Heard = (Epoch, InstanceId, ConnectionId);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Fencing {
    /// What each START claims.
    starts: BTreeMap<(ConnectionId, Alias), (Epoch, InstanceId)>,
    /// All claims that were ever made.
    claims: BTreeMap<BatchUid, BTreeSet<(Epoch, InstanceId)>>,
    /// The last claim of each ventilator process.
    own: BTreeMap<PartyId, (Epoch, InstanceId)>,
    /// The claims that each process has heard of, and on which links.
    heard: BTreeMap<(PartyId, BatchUid), BTreeSet<Heard>>,
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
            Observation::Ended { party, .. } => {
                self.accepted.retain(|(worker, _), _| *worker != party);
                self.heard.retain(|(hearer, _), _| *hearer != party);
                self.own.remove(&party);
            }
            Observation::Released { party, uid } => {
                self.accepted.remove(&(party, uid));
                self.heard.remove(&(party, uid));
            }
            Observation::Ends {
                party,
                verdict: Verdict::Fenced(epoch),
            } => self.check_end(seen, party, *epoch),
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
            Message::Start(start) => {
                let claim = (start.epoch, start.instance);
                self.starts.insert(place, claim);
                if start.epoch > 0 {
                    self.claims.entry(uid).or_default().insert(claim);
                    self.own.insert(carried.from, claim);
                }
            }
            Message::Refused(refused) if refused.code == RefusedCode::Fenced => {
                self.check_refused(seen, carried, uid, refused.epoch);
            }
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

    /// Only who was overtaken is refused as fenced, by who knows the claim that overtook it. A link that a ventilator has
    /// given up may be overtaken by what that ventilator said on a newer one.
    fn check_refused(&self, seen: &Seen<'_>, carried: &Carried<'_>, uid: BatchUid, epoch: Epoch) {
        let Some(claim) = self.starts.get(&(carried.connection, carried.alias)) else {
            panic!("rule 3: REFUSED answers no START");
        };
        let mut heard = self.heard.get(&(carried.from, uid)).into_iter().flatten();
        let by_heard = heard.any(|(known, instance, connection)| {
            let elsewhere = *connection != carried.connection && *known >= claim.0;
            *known == epoch && (elsewhere || overtakes((*known, *instance), *claim))
        });
        let mut durable = seen.facts(uid).claims.iter();
        let by_durable = seen.scene.role(carried.from) == Some(Role::Collector)
            && durable.any(|known| known.0 == epoch && overtakes(*known, *claim));
        assert!(
            by_heard || by_durable,
            "rule 3: {} is fenced by {} for epoch {epoch}, and has {claim:?}",
            seen.scene.name(carried.to),
            seen.scene.name(carried.from)
        );
    }

    /// Who ends as fenced was overtaken by another ventilator.
    fn check_end(&self, seen: &Seen<'_>, party: PartyId, epoch: Epoch) {
        let Some(Role::Ventilator(batch)) = seen.scene.role(party) else {
            return;
        };
        let own = self.own.get(&party);
        let mut claims = self.claims.get(&seen.oracle[batch].uid).into_iter().flatten();
        assert!(
            own.is_some_and(|own| claims.any(|claim| claim.0 == epoch && overtakes(*claim, *own))),
            "rule 3: {} ends as fenced for epoch {epoch}, and has {own:?}",
            seen.scene.name(party)
        );
    }

    fn take(&mut self, seen: &Seen<'_>, carried: &Carried<'_>) {
        if let (Message::Start(start), Some(uid)) = (carried.message, seen.scene.batch(carried))
            && start.epoch > 0
        {
            let heard = self.heard.entry((carried.to, uid)).or_default();
            heard.insert((start.epoch, start.instance, carried.connection));
        }
        // An answer to an older claim comes too late.
        let fenced = |epoch| self.own.get(&carried.to).is_none_or(|own| epoch >= own.0);
        if let Message::Refused(refused) = carried.message
            && refused.code == RefusedCode::Fenced
            && fenced(refused.epoch)
            && seen.scene.role_of(carried.from) == Some(Role::Collector)
            && let Some(process) = seen.scene.process(carried.to)
        {
            self.fenced.insert(process.id);
        }
    }
}

/// Whether a claim fences that of another ventilator.
fn overtakes(claim: (Epoch, InstanceId), other: (Epoch, InstanceId)) -> bool {
    claim.1 != other.1 && claim.0 >= other.0
}
