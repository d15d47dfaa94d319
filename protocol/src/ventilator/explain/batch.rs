//! Why a batch is not done.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::Instant;

use super::number::suspect;
use super::{Explanation, Ready, Straggler, Upcoming, UpcomingKind, WorkerExplanation, since, until};
use crate::ids::LinkId;
use crate::limits::{GONE_AFTER, SILENT_AFTER, STRAGGLERS_TOLD, SUSPECTS_TOLD, WORKERS_EXPLAINED};
use crate::ventilator::hold::{Gate, Hold};
use crate::ventilator::view::WorkerStage;
use crate::ventilator::{Flight, Peer, Ventilator};
use crate::wire::Span;

impl Ventilator {
    /// Why the batch is not done.
    pub fn explain(&self, now: Instant) -> Explanation {
        let (stages, workers) = self.explain_workers(now);
        let suspicions = oldest(self.fleet.suspicions.values(), SUSPECTS_TOLD, |suspicion| {
            suspicion.since
        });
        let asked: u64 = self.asked.values().flatten().map(|span| span.1 - span.0 + 1).sum();
        Explanation {
            uid: self.config.uid,
            name: self.config.name.clone(),
            epoch: self.epoch,
            completions: self.config.completions,
            counts: self.counts,
            lowest_missing: self.settled.low(),
            hold: self.gate().err(),
            collector: self.collector_view(now),
            in_flight: self.in_flight.len(),
            missing: asked + self.doubted.len(),
            ready: self.explain_ready(),
            uploading: self
                .work
                .uploads()
                .map(|(number, upload)| self.uploading(number, upload))
                .collect(),
            waiting: self.work.waiting() as u64,
            held_back: self.losses.held_back.len() as u64,
            unsendable: self.unsendable.len() as u64,
            stages,
            workers,
            suspect_count: self.fleet.suspicions.len() as u64,
            suspects: suspicions
                .into_iter()
                .map(|suspicion| suspect(now, suspicion))
                .collect(),
            stragglers: self.stragglers(now),
            upcoming: self.upcoming(now),
            recorded_millis: self.recorded_at.map(|at| since(now, at)),
            resent: self.resent,
            failures: self.failures.as_ref().clone(),
        }
    }

    /// Numbers that are ready, together where the same keeps them.
    pub(in crate::ventilator) fn explain_ready(&self) -> Vec<Ready> {
        let mut found: BTreeMap<(bool, Option<Hold>), (u64, u64)> = BTreeMap::new();
        let mut note = |alone: bool, hold: Option<Hold>, (first, last): Span| {
            let (numbers, lowest) = found.entry((alone, hold)).or_insert((0, first));
            *numbers += last - first + 1;
            *lowest = first.min(*lowest);
        };
        let (gate, no_room) = (self.gate(), self.no_room());
        for run in self.work.ready() {
            match &gate {
                Err(hold) => note(false, Some(hold.clone()), (run.first, run.last)),
                Ok(gate) => {
                    // A takeover may hold the lower part of a run alone.
                    let cut = gate.above.map_or(run.first, |above| above + 1).max(run.first);
                    if cut > run.first {
                        let last = run.last.min(cut - 1);
                        note(false, gate.hold(run.first, run.value), (run.first, last));
                    }
                    if cut <= run.last {
                        let hold = gate.hold(run.last, run.value).or_else(|| no_room.clone());
                        note(false, hold, (cut, run.last));
                    }
                }
            }
        }
        if self.work.lonely() > 0 {
            let hold = gate.map_or_else(Some, Gate::hold_alone);
            let hold = hold.or_else(|| self.place_alone().err());
            for number in self.work.lonely_numbers() {
                note(true, hold.clone(), (number, number));
            }
        }
        let tell = |((alone, hold), (numbers, first))| Ready {
            hold,
            alone,
            numbers,
            first,
        };
        found.into_iter().map(tell).collect()
    }

    /// Workers by stage, and those that tell most: the silent, those that cannot work, and those with the oldest numbers.
    fn explain_workers(&self, now: Instant) -> (BTreeMap<WorkerStage, u64>, Vec<WorkerExplanation>) {
        let mut oldest: BTreeMap<LinkId, Instant> = BTreeMap::new();
        for run in self.in_flight.iter() {
            let sent = run.value.since.0;
            oldest
                .entry(run.value.link)
                .and_modify(|known| *known = sent.min(*known))
                .or_insert(sent);
        }
        let mut told: BTreeMap<&str, WorkerExplanation> = BTreeMap::new();
        for (link, member) in &self.fleet.members {
            let explained = self.explain_worker(now, *link, member, oldest.get(link).copied());
            told.insert(&member.key, explained);
        }
        let named = self.dialler.keys().filter_map(|peer| match peer {
            Peer::Worker(name) => Some(name),
            Peer::Collector => None,
        });
        let mut workers: Vec<_> = named
            .map(|name| told.remove(name.as_str()).unwrap_or_else(|| self.unlinked(name)))
            .collect();
        let mut stages = BTreeMap::new();
        for worker in &workers {
            *stages.entry(worker.stage).or_default() += 1;
        }
        workers.sort_by_key(|worker| Reverse(interest(worker)));
        workers.truncate(WORKERS_EXPLAINED);
        (stages, workers)
    }

    fn unlinked(&self, name: &str) -> WorkerExplanation {
        WorkerExplanation {
            name: name.to_owned(),
            stage: WorkerStage::Dialling,
            draining: self.fleet.draining.contains(name),
            slots: 0,
            in_flight: 0,
            oldest_millis: None,
            silent_millis: None,
            no_room: None,
        }
    }

    fn stragglers(&self, now: Instant) -> Vec<Straggler> {
        let runs = oldest(self.in_flight.iter(), STRAGGLERS_TOLD, |run| run.value.since.0);
        let name = |flight: Flight| match self.fleet.members.get(&flight.link) {
            Some(member) => member.key.clone(),
            None => String::new(),
        };
        let told = runs.into_iter().map(|run| Straggler {
            first: run.first,
            last: run.last,
            attempt: run.value.attempt,
            worker: name(run.value),
            millis: since(now, run.value.since.0),
        });
        told.collect()
    }

    fn upcoming(&self, now: Instant) -> Vec<Upcoming> {
        if self.over {
            return Vec::new();
        }
        let suspicions = self.fleet.suspicions.values();
        let give_up = suspicions.min_by_key(|suspicion| suspicion.since).map(|suspicion| {
            let worker = suspicion.name.clone();
            (suspicion.since + GONE_AFTER, UpcomingKind::GiveUp { worker })
        });
        let retry = self.work.next_retry();
        let ask = self.collector.timeout().filter(|_| !self.draining);
        let located = self.locate.as_ref().and_then(|locate| locate.until);
        let deadline = self.config.deadline.filter(|_| self.cancelling.is_none());
        let deadline = deadline.and_then(|deadline| Some(self.started? + deadline));
        let all = [
            retry.map(|(due, number)| (due, UpcomingKind::Retry { number })),
            ask.map(|at| (at, UpcomingKind::AskCollector)),
            self.dialler.timeout().map(|at| (at, UpcomingKind::Dial)),
            give_up,
            located.map(|at| (at, UpcomingKind::Located)),
            deadline.map(|at| (at, UpcomingKind::Deadline)),
        ];
        let mut all: Vec<_> = all
            .into_iter()
            .flatten()
            .map(|(at, kind)| Upcoming {
                in_millis: until(now, at),
                kind,
            })
            .collect();
        all.sort_by_key(|upcoming| upcoming.in_millis);
        all
    }
}

/// The `most` oldest of many, the oldest first: of millions only these are put in order.
fn oldest<T>(all: impl Iterator<Item = T>, most: usize, since: impl Fn(&T) -> Instant) -> Vec<T> {
    let mut kept: Vec<T> = Vec::new();
    for one in all {
        let at = kept.partition_point(|other| since(other) <= since(&one));
        if at < most {
            kept.truncate(most - 1);
            kept.insert(at, one);
        }
    }
    kept
}

/// How much a worker tells: silent ones first, then those that get nothing, then those with the oldest numbers.
fn interest(worker: &WorkerExplanation) -> (bool, bool, u64) {
    let silent = worker
        .silent_millis
        .is_some_and(|silent| u128::from(silent) > SILENT_AFTER.as_millis());
    let useless = worker.stage != WorkerStage::Ready || worker.draining;
    (silent, useless, worker.oldest_millis.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn of_many_the_oldest_are_told_in_order() {
        let begin = Instant::now();
        let at = |second: u64| begin + Duration::from_secs(second);
        // 7 and 100 have no common divisor, so that each second comes once.
        let ages: Vec<_> = (0..100).map(|turn| at(turn * 7 % 100)).collect();
        let told = oldest(ages.iter(), 3, |since| **since);
        assert_eq!(told, [&at(0), &at(1), &at(2)]);
        assert_eq!(oldest([at(1)].iter(), 3, |since| **since), [&at(1)]);
        assert!(oldest(ages.iter(), 0, |since| **since).is_empty());
    }
}
