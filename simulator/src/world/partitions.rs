//! Networks that break: processes that cannot reach each other, and links on which everything waits, as TCP does it:
//! what waits arrives in order once there is a way again.

use std::time::Duration;

use fastrand::Rng;

use super::strikes::a_while;
use super::{Event, World};
use crate::faults::Fault;
use crate::network::{ConnectionId, PartyId};
use crate::observation::Observation;

/// The longest time until a dead process is started again, once all is healed.
pub const RESTART_HEALED: Duration = Duration::from_secs(1);

impl World {
    /// `FoundationDB`'s swizzle-clog: links stall one by one, and flow again in another order.
    pub(super) fn swizzle(&mut self, standing: &[ConnectionId], random: &mut Rng) {
        let time = a_while(random);
        let sides = standing.iter().flat_map(|id| [(*id, 0), (*id, 1)]);
        let stalled: Vec<_> = sides.filter(|_| random.bool()).collect();
        for (id, side) in &stalled {
            let (from, to) = (random.f64(), 1.0 + random.f64());
            self.push(self.at + time.mul_f64(from), Event::Stall(*id, *side));
            self.push(self.at + time.mul_f64(to), Event::Flow(*id, *side));
        }
        self.trace.note(
            self.at,
            format_args!("Swizzle stalls {stalled:?} one by one for {time:?}"),
        );
    }

    /// Two processes that talk to each other are kept apart for a while.
    pub(super) fn strike_pair(&mut self, fault: Fault, random: &mut Rng) -> bool {
        let standing = self.network.standing();
        if standing.is_empty() {
            return false;
        }
        let id = standing[random.usize(0..standing.len())];
        let Some(mut pair) = self.network.connection(id).map(|c| c.ends.map(|end| end.party)) else {
            return false;
        };
        random.shuffle(&mut pair);
        let [one, other] = pair;
        let time = a_while(random);
        self.strikes(fault);
        self.trace.note(
            self.at,
            format_args!(
                "{fault:?} strikes {} and {} for {time:?}",
                self.parties[one].name, self.parties[other].name
            ),
        );
        match fault {
            Fault::OneWay => self.block(fault, vec![(one, other)], time),
            Fault::Blackout => self.block(fault, vec![(one, other), (other, one)], time),
            _ => {
                self.part(one, other, true);
                self.push(self.at + time, Event::Join(one, other));
            }
        }
        true
    }

    /// One process, or half of all, is kept apart from all others for a while.
    pub(super) fn strike_crowd(&mut self, fault: Fault, random: &mut Rng) -> bool {
        let all: Vec<PartyId> = (0..self.parties.len()).filter(|id| !self.parties[*id].gone).collect();
        let one = all[random.usize(0..all.len())];
        let apart = |id: &PartyId, random: &mut Rng| *id == one || fault == Fault::Split && random.bool();
        let (inside, outside): (Vec<_>, Vec<_>) = all.iter().partition(|id| apart(id, random));
        let (inwards, outwards) = [(true, true), (true, true), (true, false), (false, true)][random.usize(0..4)];
        let time = a_while(random);
        let mut ways = Vec::new();
        for (inner, outer) in inside
            .iter()
            .flat_map(|i: &PartyId| outside.iter().map(|o: &PartyId| (*i, *o)))
        {
            ways.extend(inwards.then_some((outer, inner)));
            ways.extend(outwards.then_some((inner, outer)));
        }
        if ways.is_empty() {
            return false;
        }
        self.strikes(fault);
        let names: Vec<_> = inside.iter().map(|id| self.parties[*id].name.as_str()).collect();
        self.trace.note(
            self.at,
            format_args!("{fault:?} strikes {names:?} for {time:?}, inwards {inwards}, outwards {outwards}"),
        );
        self.block(fault, ways, time);
        true
    }

    pub(super) fn block(&mut self, fault: Fault, ways: Vec<(PartyId, PartyId)>, time: Duration) {
        for way in &ways {
            self.network.block(*way);
        }
        self.push(self.at + time, Event::Unblock(fault, ways));
    }

    pub(super) fn unblock(&mut self, fault: Fault, ways: &[(PartyId, PartyId)]) {
        for way in ways {
            self.network.unblock(*way);
        }
        self.release();
        self.observe(&Observation::Healed(fault));
    }

    pub(super) fn stall(&mut self, id: ConnectionId, side: usize, stalled: bool) {
        if stalled && self.at < self.settings.until {
            self.network.stall(id, side);
        } else if !stalled {
            self.network.flow(id, side);
            self.release();
        }
    }

    /// What has waited and need not wait any longer arrives at once, in order.
    pub(super) fn release(&mut self) {
        let places: Vec<_> = self.held.keys().copied().collect();
        for (id, side) in places {
            if self.network.holds(id, side) {
                continue;
            }
            for event in self.held.remove(&(id, side)).unwrap_or_default() {
                self.step(event);
            }
        }
    }

    /// Whatever can heal, heals: from now on the batches have to end.
    pub(super) fn heal(&mut self) {
        self.trace.note(self.at, format_args!("all is healed"));
        self.network.heal();
        self.release();
        self.disk.heal();
        self.settings.restart = self.settings.restart.min(RESTART_HEALED);
        self.settings.slow = 0;
        for id in 0..self.parties.len() {
            let incarnation = self.parties[id].incarnation;
            self.resume(id, incarnation);
            if self.parties[id].incarnation > 0 {
                self.push(self.at, Event::Start(id));
            }
        }
    }
}
