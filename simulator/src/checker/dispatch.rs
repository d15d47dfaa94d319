//! I10 and rules 3, 5, 10 and 12: a number leaves a second time only for a reason, and only when it may.
//!
//! For each ventilator process this keeps what it can know from what it was told, and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use harmony_protocol::ids::{BatchUid, Epoch, ProcessId};
use harmony_protocol::wire::{Message, Refused, Span, Start, State, StateBody, Tasks as TasksMessage};

use super::belief::Belief;
use super::coverage::Branch;
use super::scene::Seen;
use crate::network::{ConnectionId, PartyId};
use crate::observation::{Carried, Observation, Role};

/// How long a takeover waits for workers that do not answer.
const LOCATE_WITHIN: Duration = Duration::from_secs(5);

/// A number that was in flight at so many deaths runs alone.
const DEATHS_BEFORE_ALONE: u32 = 3;

/// A takeover that does not know yet what workers hold.
#[derive(Debug)]
struct Locating {
    until: Instant,
    /// Numbers up to here may be at a worker that has not answered.
    frontier: Option<u64>,
    answered: Vec<PartyId>,
}

/// One ventilator process.
#[derive(Debug, Default)]
struct Client {
    belief: Belief,
    claimed: Epoch,
    /// The collector knew another ventilator when it was asked.
    takeover: bool,
    locating: Option<Locating>,
    /// The collector has just said all that is settled.
    restated: bool,
    /// Numbers that were sent to run alone, and to which process: a new link to it changes nothing.
    alone: BTreeMap<u64, ProcessId>,
    greeted: BTreeMap<ConnectionId, ProcessId>,
    /// Numbers that the STATE of the collector says must run alone, as far as its pieces are in.
    suspects: BTreeSet<u64>,
    ended: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Dispatch {
    clients: BTreeMap<PartyId, Client>,
}

impl Dispatch {
    pub(super) fn observe(&mut self, seen: &Seen<'_>) {
        match *seen.what {
            Observation::Started {
                party,
                role: Role::Ventilator(_),
                ..
            } => drop(self.clients.insert(party, Client::default())),
            Observation::Ended { party, .. } => drop(self.clients.remove(&party)),
            Observation::LinkOpened { party, connection } => {
                if let Some(client) = self.clients.get_mut(&party) {
                    client.step(seen, party);
                    client.belief.open_link(connection);
                }
            }
            Observation::LinkClosed { party, connection } => {
                if let Some(client) = self.clients.get_mut(&party) {
                    let now = client.step(seen, party);
                    client.belief.lose_link(now, connection);
                }
            }
            Observation::Claimed { party, epoch } => {
                if let Some(client) = self.clients.get_mut(&party) {
                    assert!(
                        epoch > client.claimed,
                        "rule 3: epoch {epoch} is claimed after {}",
                        client.claimed
                    );
                    client.claimed = epoch;
                }
            }
            Observation::Progress { party, numbers } => {
                self.check_restated(seen, party, numbers.settled);
                let Some(client) = self.clients.get_mut(&party) else {
                    return;
                };
                let now = client.step(seen, party);
                let (least, most) = client.belief.in_flight(now);
                assert!(
                    client.ended || (least..=most).contains(&numbers.in_flight),
                    "I7: {} counts {} in flight, {least} to {most} are at workers",
                    seen.scene.name(party),
                    numbers.in_flight
                );
            }
            Observation::Ends { party, .. } => {
                if let Some(client) = self.clients.get_mut(&party) {
                    client.ended = true;
                }
            }
            Observation::Delivered(carried) => {
                if let Some(client) = self.clients.get_mut(&carried.to) {
                    client.hear(seen, &carried);
                }
            }
            Observation::Sent(carried) => {
                let Some(client) = self.clients.get_mut(&carried.from) else {
                    return;
                };
                let Some(uid) = seen.scene.batch(&carried) else { return };
                match carried.message {
                    Message::Start(start) => client.start(seen, &carried, start),
                    Message::Tasks(tasks) => client.send(seen, &carried, uid, tasks),
                    Message::Part(part) => client.check_target(seen, &carried, part.stamp),
                    Message::Held(held) if !held.answer => {
                        client
                            .belief
                            .ask(carried.connection, carried.alias, held.serial, &held.spans);
                    }
                    _ => {}
                }
            }
            _ => {}
        }
    }
}

impl Dispatch {
    /// The first total after a STATE is that of the STATE, whatever was believed before.
    fn check_restated(&mut self, seen: &Seen<'_>, party: PartyId, settled: u64) {
        let Some(client) = self.clients.get_mut(&party) else {
            return;
        };
        if std::mem::take(&mut client.restated) {
            let told = client.belief.settled();
            assert_eq!(
                settled,
                told,
                "rule 4: settled at {} after a STATE, and by that STATE",
                seen.scene.name(party)
            );
        }
    }
}

impl Client {
    /// This process runs now, by its own clock.
    fn step(&mut self, seen: &Seen<'_>, party: PartyId) -> Instant {
        let now = seen.time_of(party).expect("who does something lives");
        if let Some(gap) = self.belief.step(now)
            && let Some(locating) = &mut self.locating
        {
            locating.until += gap;
        }
        now
    }

    fn start(&mut self, seen: &Seen<'_>, carried: &Carried<'_>, start: &Start) {
        if seen.scene.role_of(carried.to) == Some(Role::Collector) {
            if start.epoch == 0 && self.claimed > 0 {
                seen.coverage.note(Branch::EpochDoubted);
            }
            assert!(
                start.epoch == 0 || start.epoch == self.claimed,
                "rule 3: START of epoch {} to the collector, kept is {}",
                start.epoch,
                self.claimed
            );
            return self
                .belief
                .open_collector(carried.connection, carried.alias, start.epoch);
        }
        assert!(
            start.epoch == self.claimed && start.epoch > 0,
            "rule 3: START of epoch {} to a worker, claimed is {}",
            start.epoch,
            self.claimed
        );
        assert!(
            self.belief.is_ready(),
            "rule 3: START to a worker without the STATE of the collector"
        );
        self.belief.open_worker(carried.connection, carried.alias);
    }

    fn hear(&mut self, seen: &Seen<'_>, carried: &Carried<'_>) {
        match carried.message {
            Message::Missing(missing) => self.note_missing(seen, &missing.spans),
            Message::Hello(hello) => drop(self.greeted.insert(carried.connection, hello.process_id)),
            Message::State(state) => self.forget_alone(state),
            _ => {}
        }
        let asked = self.belief.asked();
        let was_ready = self.belief.is_ready();
        let now = self.step(seen, carried.to);
        let heard = self.belief.hear(now, carried);
        if let Message::State(_) = carried.message
            && asked
            && let Some(last) = heard.answered_epoch
        {
            self.takeover |= self.claimed == 0 && last > 0;
        }
        if let Message::State(state) = carried.message {
            self.restated = state.last && matches!(state.body, StateBody::Collector(_)) && self.belief.is_ready();
        }
        if !was_ready && self.belief.is_ready() {
            if std::mem::take(&mut self.takeover) {
                self.locating = Some(Locating {
                    until: now + LOCATE_WITHIN,
                    frontier: None,
                    answered: Vec::new(),
                });
            }
            if let Some(locating) = &mut self.locating {
                locating.frontier = locating.frontier.max(self.belief.highest_settled());
            }
        }
        let Some(locating) = &mut self.locating else { return };
        locating.frontier = locating.frontier.max(heard.located);
        if heard.located.is_some() {
            seen.coverage.note(Branch::TakeoverLocated);
        }
        let closed = matches!(carried.message, Message::Refused(Refused { .. }) | Message::Return(_));
        if heard.worker_answered || closed {
            locating.answered.push(carried.from);
        }
    }

    fn send(&mut self, seen: &Seen<'_>, carried: &Carried<'_>, uid: BatchUid, tasks: &TasksMessage) {
        let name = seen.scene.name(carried.from);
        let now = self.step(seen, carried.from);
        self.check_target(seen, carried, tasks.epoch);
        self.check_alone(carried.connection, tasks);
        if !self.belief.is_ready() {
            seen.coverage.note(Branch::SentWhileSilent);
        }
        let completions = seen.tasks(uid).completions;
        for entry in &tasks.entries {
            let (number, attempt) = (entry.number, entry.attempt);
            assert!(number < completions, "I5: {number} is out of range, yet it is sent");
            self.check_locating(seen, now, number);
            match self.belief.dispatch(now, carried.connection, (number, attempt)) {
                Ok(cause) => cause.iter().for_each(|cause| seen.coverage.note(cause.branch())),
                Err(fault) => panic!("{}: {name} sends {number}@{attempt}: {fault:?}", fault.rule()),
            }
        }
    }

    /// TASKS and PARTs go only where they may.
    fn check_target(&self, seen: &Seen<'_>, carried: &Carried<'_>, epoch: Epoch) {
        let (name, kind) = (seen.scene.name(carried.from), carried.message.kind());
        assert_eq!(
            epoch, self.claimed,
            "rule 2: {name} sends {kind} of an epoch that is not its own"
        );
        assert!(
            self.belief.worker_is_ready(carried.connection, carried.alias),
            "rule 5: {name} sends {kind} before the STATE of the worker"
        );
        assert!(
            !self.belief.is_unbound(carried.connection),
            "rule 10: {name} sends {kind} to a worker that cannot reach the collector"
        );
    }

    /// Numbers that must run alone do so on at most half of the workers.
    fn check_alone(&mut self, connection: ConnectionId, tasks: &TasksMessage) {
        if !tasks.alone {
            for entry in &tasks.entries {
                self.alone.remove(&entry.number);
            }
            return;
        }
        let [entry] = tasks.entries[..] else {
            panic!("rule 12: {:?} are to run alone, together", tasks.entries);
        };
        let (belief, greeted) = (&self.belief, &self.greeted);
        let at = |connection: ConnectionId| greeted.get(&connection).copied();
        self.alone
            .retain(|number, process| belief.flies_on(*number).and_then(at) == Some(*process));
        self.alone.extend(at(connection).map(|process| (entry.number, process)));
        let most = (belief.workers() / 2).max(1);
        let busy: BTreeSet<_> = self.alone.values().collect();
        assert!(
            busy.len() <= most,
            "rule 12: {:?} run alone, on more than {most} workers",
            self.alone
        );
    }

    /// What the collector does not suspect any more, since it lost its log, need not be alone.
    fn forget_alone(&mut self, state: &State) {
        let StateBody::Collector(body) = &state.body else {
            return;
        };
        let suspects = body.deaths.iter().filter(|deaths| deaths.count >= DEATHS_BEFORE_ALONE);
        self.suspects.extend(suspects.map(|deaths| deaths.number));
        if state.last {
            let suspects = std::mem::take(&mut self.suspects);
            self.alone.retain(|number, _| suspects.contains(number));
        }
    }

    fn note_missing(&self, seen: &Seen<'_>, spans: &[Span]) {
        for number in spans.iter().flat_map(|(first, last)| *first..=*last) {
            if self.belief.is_settled(number) {
                seen.coverage.note(Branch::MissingSettled);
            } else if self.belief.is_flying(number) {
                seen.coverage.note(Branch::MissingInFlight);
            }
        }
    }

    fn check_locating(&mut self, seen: &Seen<'_>, now: Instant, number: u64) {
        let Some(locating) = &self.locating else { return };
        let workers = seen.scene.workers();
        if now >= locating.until || workers.iter().all(|worker| locating.answered.contains(worker)) {
            self.locating = None;
            return;
        }
        seen.coverage.note(Branch::TakeoverBeforeAllAnswered);
        assert!(
            locating.frontier.is_none_or(|frontier| number > frontier),
            "rule 5: a takeover sends {number} before it knows who holds it; {:?} answered",
            locating.answered
        );
    }
}
