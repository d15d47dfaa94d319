//! From what is there and what is wanted to what is to be done.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use super::memory::Seen;
use super::{
    CREATIONS, CREATIONS_PAUSE, Deletion, Desired, EndReason, LOST_AFTER, Load, Loads, Memory, Phase, Plan, WorkerPod,
    Workers,
};

/// Says what to do next.
///
/// - Each wanted ordinal has at most one pod that lives; when it has ended, its end is told, it is deleted, and the next
///   generation is created: at once the first time, after a growing pause when it ends again without progress.
/// - Pods above the wanted count, and pods of another template or executor, are drained, all at the same time, and each is
///   deleted when it holds nothing. So a change of template takes the longest running task, and never interrupts one. An
///   ordinal gets its new pod when the old one is gone.
/// - A pod that is terminating counts until it is gone, or its node is taken for lost.
pub fn plan(now: Timestamp, desired: &Desired, pods: &[WorkerPod], loads: &Loads, memory: &mut Memory) -> Plan {
    let mut planning = Planning {
        now,
        desired,
        loads,
        memory,
        plan: Plan::default(),
    };
    planning.memory.expect(&desired.revision);
    planning.note_vanished(pods);
    let mut occupied = BTreeSet::new();
    for pod in newest_first(pods) {
        planning.note(pod);
        if planning.is_gone(pod) {
            planning.end(pod);
        } else {
            // Of two that live the newer one stays.
            let spare = !occupied.insert(pod.ordinal);
            planning.steer(pod, spare);
        }
    }
    planning.create(&occupied);
    planning.plan
}

struct Planning<'a> {
    now: Timestamp,
    desired: &'a Desired,
    loads: &'a Loads,
    memory: &'a mut Memory,
    plan: Plan,
}

fn newest_first(pods: &[WorkerPod]) -> Vec<&WorkerPod> {
    let mut sorted: Vec<_> = pods.iter().collect();
    sorted.sort_by_key(|pod| (pod.ordinal, std::cmp::Reverse(pod.generation)));
    sorted
}

impl Planning<'_> {
    fn wanted(&self) -> u32 {
        match self.desired.workers {
            Workers::Run(workers) => workers,
            Workers::Stop => 0,
        }
    }

    /// Pods that are gone without a word were deleted by somebody: their tasks are not the cause, and the next pod is no
    /// likelier to end. However often that happens, each is replaced at once.
    fn note_vanished(&mut self, pods: &[WorkerPod]) {
        let names: BTreeSet<&str> = pods.iter().map(|pod| pod.name.as_str()).collect();
        let gone = self
            .memory
            .seen
            .iter()
            .filter(|(name, _)| !names.contains(name.as_str()));
        let gone: BTreeMap<String, Seen> = gone.map(|(name, seen)| (name.clone(), seen.clone())).collect();
        for (name, _) in gone.iter().filter(|(_, seen)| !seen.told) {
            self.plan.exited.push((name.clone(), false));
        }
        self.memory.keep_only(&names);
    }

    fn note(&mut self, pod: &WorkerPod) {
        let place = self.memory.places.entry(pod.ordinal).or_default();
        place.generation = place.generation.max(pod.generation + 1);
        let seen = self.memory.seen.entry(pod.name.clone()).or_insert(Seen {
            ordinal: pod.ordinal,
            told: false,
            deleted: false,
            settled: 0,
        });
        let settled = self.loads.get(&pod.name).map_or(0, |load| load.settled);
        seen.settled = seen.settled.max(settled);
    }

    fn note_end(&mut self, seen: &Seen) {
        let place = self.memory.places.entry(seen.ordinal).or_default();
        place.ended(self.now, seen.settled > 0);
    }

    /// It has ended, or its node is lost: its ordinal is free.
    fn is_gone(&mut self, pod: &WorkerPod) -> bool {
        if let Some(overdue) = pod.terminating.filter(|_| !pod.is_gone()) {
            let lost_after = SignedDuration::try_from(LOST_AFTER).unwrap_or(SignedDuration::MAX);
            self.again_in(lost_after.saturating_sub(overdue));
        }
        pod.is_gone()
    }

    /// Its end is told once, and it is deleted, unless that was done.
    fn end(&mut self, pod: &WorkerPod) {
        let Some(seen) = self.memory.seen.get_mut(&pod.name) else {
            return;
        };
        if !std::mem::replace(&mut seen.told, true) {
            let seen = seen.clone();
            let counts = pod.ended.as_ref().is_some_and(|end| end.counts);
            self.plan.exited.push((pod.name.clone(), counts && !seen.deleted));
            if !seen.deleted && !was_taken(pod) {
                self.note_end(&seen);
            }
        }
        self.delete(pod, Deletion::Ended);
    }

    /// What becomes of a pod that lives.
    fn steer(&mut self, pod: &WorkerPod, spare: bool) {
        let why = if self.desired.workers == Workers::Stop {
            return self.delete(pod, Deletion::Stopped);
        } else if spare || pod.ordinal >= self.wanted() {
            Deletion::ScaledIn
        } else if pod.revision != self.desired.revision {
            Deletion::Outdated
        } else {
            return self.undrain(pod);
        };
        if pod.terminating.is_some() {
            return;
        }
        let load = self.loads.get(&pod.name);
        if !load.is_some_and(|load| load.draining) {
            self.plan.drain.push(pod.name.clone());
        }
        if is_free(pod, load) {
            self.delete(pod, why);
        }
    }

    fn undrain(&mut self, pod: &WorkerPod) {
        let draining = self.loads.get(&pod.name).is_some_and(|load| load.draining);
        if draining && pod.terminating.is_none() {
            self.plan.undrain.push(pod.name.clone());
        }
    }

    fn delete(&mut self, pod: &WorkerPod, why: Deletion) {
        if pod.terminating.is_some() {
            return;
        }
        if let Some(seen) = self.memory.seen.get_mut(&pod.name) {
            seen.deleted = true;
        }
        self.plan.delete.push((pod.name.clone(), pod.uid.clone(), why));
    }

    fn create(&mut self, occupied: &BTreeSet<u32>) {
        for ordinal in (0..self.wanted()).filter(|ordinal| !occupied.contains(ordinal)) {
            let place = self.memory.places.entry(ordinal).or_default();
            let generation = place.generation;
            if let Some(pause) = place.pause(self.now) {
                self.again_in(SignedDuration::try_from(pause).unwrap_or(SignedDuration::MAX));
            } else if self.plan.create.len() < CREATIONS {
                self.plan.create.push((ordinal, generation));
            } else {
                let pause = SignedDuration::try_from(CREATIONS_PAUSE).unwrap_or(SignedDuration::MAX);
                return self.again_in(pause);
            }
        }
    }

    fn again_in(&mut self, pause: SignedDuration) {
        let Ok(pause) = pause.try_into() else { return };
        self.plan.next = Some(self.plan.next.map_or(pause, |next| next.min(pause)));
    }
}

/// Whether somebody took the pod away, for reasons that are not its own.
fn was_taken(pod: &WorkerPod) -> bool {
    let reason = pod.ended.as_ref().map(|end| end.reason);
    matches!(reason, Some(EndReason::Deleted | EndReason::DisruptionTarget))
}

/// Whether a pod can be deleted without interrupting a task: it is drained and holds nothing, or it never came so far.
fn is_free(pod: &WorkerPod, load: Option<&Load>) -> bool {
    match load {
        Some(load) if load.greeted => load.draining && load.idle,
        _ => pod.phase == Phase::Pending || !pod.ready,
    }
}
