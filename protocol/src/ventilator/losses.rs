//! Workers that went away: their numbers go back to work at once, and their deaths are counted once they are certain.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::fleet::{Member, Suspicion};
use super::work::Todo;
use super::{Event, Ventilator};
use crate::ids::{Attempt, LinkId, ProcessId};
use crate::limits::{GONE_AFTER, HELD_MOST, LOSSES_KEPT, RANGES_PER_PIECE, RETURN_WAIT};
use crate::mutant::{self, Mutant};
use crate::wire::{Holding, Loss, Lost, Span};

/// Numbers that still stand as in flight on a link, and go back to work soon unless a REPORT settles them.
#[derive(Clone, Debug)]
struct Returning {
    link: LinkId,
    due: Instant,
    /// Only these, since the link still stands; else all of a link that closed.
    only: Option<Vec<Span>>,
    /// Its number that ran alone is held back until it is clear what became of the worker.
    alone: Option<(u64, Attempt)>,
}

/// Workers whose link closed without BYE, by what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkersLost {
    /// Their process was seen to end by itself.
    pub exited: u64,
    /// Their process was ended from outside: a pod deleted, a node lost.
    pub disrupted: u64,
    /// Another process of their name greeted.
    pub replaced: u64,
    /// They stayed away for [`GONE_AFTER`].
    pub gone: u64,
    /// The same process came back; what it had was sent elsewhere meanwhile.
    pub reconnected: u64,
}

/// Why a death is certain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Death {
    Exited,
    Disrupted,
    Replaced,
    Gone,
}

impl Death {
    fn seen(counts: bool) -> Self {
        if counts { Self::Exited } else { Self::Disrupted }
    }
}

impl WorkersLost {
    fn count(&mut self, death: Death) {
        *match death {
            Death::Exited => &mut self.exited,
            Death::Disrupted => &mut self.disrupted,
            Death::Replaced => &mut self.replaced,
            Death::Gone => &mut self.gone,
        } += 1;
    }
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct Losses {
    returning: Vec<Returning>,
    /// Numbers that ran alone on a worker that may have died of them, with their attempt.
    pub(super) held_back: BTreeMap<u64, Attempt>,
    /// Losses that the collector has not echoed.
    pending: Vec<Loss>,
    /// Workers whose process was seen to end, by name, and whether that counts against their numbers.
    exited: BTreeMap<String, bool>,
    oldest_suspicion: Option<Instant>,
    pub(super) lost: WorkersLost,
}

impl Losses {
    /// No link of this worker is left whose end the exit could explain.
    pub(super) fn forget_exit(&mut self, name: &str) {
        self.exited.remove(name);
    }

    /// A REPORT came in: what it could settle is settled, so that the rest may go back.
    pub(super) fn hasten(&mut self, now: Instant) {
        for returning in &mut self.returning {
            returning.due = returning.due.min(now);
        }
    }

    /// A worker does not hold these numbers.
    pub(super) fn return_unlisted(&mut self, now: Instant, link: LinkId, numbers: Vec<Span>) {
        if !numbers.is_empty() {
            self.returning.push(Returning {
                link,
                due: now + RETURN_WAIT,
                only: Some(numbers),
                alone: None,
            });
        }
    }

    /// Whether a number goes back to work in a moment, since its worker does not list it.
    pub(super) fn is_unlisted(&self, link: LinkId, number: u64) -> bool {
        let lists = self.returning.iter().filter(|returning| returning.link == link);
        lists.filter_map(|returning| returning.only.as_ref()).any(|spans| {
            let position = spans.partition_point(|(_, last)| *last < number);
            spans.get(position).is_some_and(|(first, _)| *first <= number)
        })
    }

    /// Numbers in flight at deaths that the collector has not echoed.
    pub(super) fn untold(&self) -> impl Iterator<Item = u64> {
        let held = self.pending.iter().flat_map(|loss| match loss {
            Loss::Death { held, .. } => held.as_slice(),
            Loss::Unsendable { .. } => &[],
        });
        held.flat_map(|holding| holding.first..=holding.last)
    }

    pub(super) fn timeout(&self) -> Option<Instant> {
        let returning = self.returning.iter().map(|returning| returning.due).min();
        returning
            .into_iter()
            .chain(self.oldest_suspicion.map(|since| since + GONE_AFTER))
            .min()
    }
}

impl Ventilator {
    /// The link to a worker closed. Unless it said BYE, it may have died.
    pub(super) fn lose_link(&mut self, now: Instant, link: LinkId, member: &Member, said_bye: bool) {
        let runs = self.in_flight.iter().filter(|run| run.value.link == link);
        let held: Vec<Holding> = runs
            .map(|run| Holding {
                first: run.first,
                last: run.last,
                attempt: run.value.attempt,
            })
            .collect();
        let count = held.iter().map(|holding| holding.last - holding.first + 1).sum();
        let alone_begun = member.alone_begun.filter(|(number, _)| member.alone.contains(number));
        let alone = alone_begun.filter(|_| !said_bye);
        self.losses.returning.push(Returning {
            link,
            due: now + RETURN_WAIT,
            only: None,
            alone,
        });
        let moved = self
            .fleet
            .members
            .values()
            .any(|other| other.process_id == member.process_id);
        if said_bye || moved || self.over {
            return;
        }
        self.events.push_back(Event::WorkerLost {
            name: member.name.clone(),
            in_flight: count,
        });
        let suspicion = Suspicion {
            name: member.name.clone(),
            key: member.key.clone(),
            since: now,
            held,
            alone_begun,
        };
        if self.fleet.suspicions.len() < LOSSES_KEPT {
            self.fleet.suspicions.insert(member.process_id, suspicion);
        }
        if let Some(counts) = self.losses.exited.remove(&member.name) {
            self.confirm(member.process_id, Death::seen(counts));
        }
        self.note_oldest();
    }

    /// This machine did not run for a while, in which nobody could come back.
    pub(super) fn shift_suspicions(&mut self, gap: Duration) {
        for suspicion in self.fleet.suspicions.values_mut() {
            suspicion.since += gap;
        }
        self.note_oldest();
    }

    fn note_oldest(&mut self) {
        self.losses.oldest_suspicion = self.fleet.suspicions.values().map(|suspicion| suspicion.since).min();
    }

    /// The process of a worker was seen to end; to be told before another of its name is started. `counts` is false for a
    /// death from outside: a pod deleted, a node lost.
    pub fn handle_worker_exit(&mut self, now: Instant, name: &str, counts: bool) {
        self.step(now);
        let named = self.fleet.suspects_named(name);
        if named.is_empty() {
            self.losses.exited.insert(name.to_owned(), counts);
        }
        for process in named {
            self.confirm(process, Death::seen(counts));
        }
        self.note_oldest();
    }

    /// A worker greets: its process is alive, and another process of its name is dead.
    pub(super) fn meet_process(&mut self, name: &str, process: ProcessId) {
        self.losses.exited.remove(name);
        if let Some(suspicion) = self.fleet.suspicions.remove(&process) {
            self.losses.lost.reconnected += 1;
            if let Some((number, _)) = suspicion.alone_begun {
                self.let_go(number);
            }
        }
        self.withdraw(process);
        let older = self.fleet.suspects_named(name);
        for process in older {
            self.confirm(process, Death::Replaced);
        }
        self.note_oldest();
    }

    /// A process that was told to be dead is alive: what the collector may not know yet is not said again.
    fn withdraw(&mut self, process: ProcessId) {
        let of_it = |loss: &mut Loss| matches!(loss, Loss::Death { process_id, .. } if *process_id == process);
        let withdrawn: Vec<Loss> = self.losses.pending.extract_if(.., of_it).collect();
        for loss in &withdrawn {
            self.let_go_alone(loss);
        }
    }

    pub(super) fn confirm_gone(&mut self, now: Instant) {
        if self
            .losses
            .oldest_suspicion
            .is_none_or(|since| now < since + GONE_AFTER)
        {
            return;
        }
        let gone = self
            .fleet
            .suspicions
            .iter()
            .filter(|(_, suspicion)| now >= suspicion.since + GONE_AFTER);
        for process in gone.map(|(process, _)| *process).collect::<Vec<_>>() {
            self.confirm(process, Death::Gone);
        }
        self.note_oldest();
    }

    /// A death is certain. If it counts, the collector hears what was in flight.
    fn confirm(&mut self, process_id: ProcessId, death: Death) {
        let Some(suspicion) = self.fleet.suspicions.remove(&process_id) else {
            return;
        };
        self.losses.lost.count(death);
        let alone = suspicion.alone_begun;
        if death == Death::Disrupted {
            if let Some((number, _)) = alone {
                self.let_go(number);
            }
            return;
        }
        let held = match alone {
            Some((number, attempt)) => vec![Holding {
                first: number,
                last: number,
                attempt,
            }],
            None => suspicion.held,
        };
        let held = self.blamed(&held);
        if held.is_empty() {
            return;
        }
        for number in held.iter().flat_map(|holding| holding.first..=holding.last) {
            self.work.count_death(number);
        }
        let loss = Loss::Death {
            process_id,
            worker: suspicion.name,
            alone: alone.is_some(),
            held,
        };
        if self.losses.pending.len() < LOSSES_KEPT {
            self.losses.pending.push(loss.clone());
        }
        self.send_loss(loss);
    }

    /// What of a dead worker's numbers is not settled, and so can be blamed. One message must hold it all, since a process
    /// counts once; what is cut off is merely not blamed.
    fn blamed(&self, held: &[Holding]) -> Vec<Holding> {
        let mut room = HELD_MOST;
        let unsettled = held.iter().flat_map(|holding| {
            let spans = self.settled.missing_within(holding.first, holding.last);
            spans.map(|(first, last)| Holding {
                first,
                last,
                attempt: holding.attempt,
            })
        });
        let fitting = unsettled.take(RANGES_PER_PIECE).map_while(|holding| {
            let count = (holding.last - holding.first + 1).min(room);
            room -= count;
            (count > 0).then(|| Holding {
                last: holding.first + count - 1,
                ..holding
            })
        });
        fitting.collect()
    }

    /// A number that was held back may be sent again.
    fn let_go(&mut self, number: u64) {
        if let Some(attempt) = self.losses.held_back.remove(&number) {
            self.work.add((number, number), Todo { attempt, resend: true });
        }
        for returning in &mut self.losses.returning {
            returning.alone.take_if(|(held, _)| *held == number);
        }
    }

    /// Puts the numbers of closed links back to work.
    pub(super) fn return_lost(&mut self, now: Instant) {
        while let Some(position) = self.losses.returning.iter().position(|returning| returning.due <= now) {
            let returning = self.losses.returning.swap_remove(position);
            if mutant::on(Mutant::LostNeverReturned) {
                continue;
            }
            if let Some(numbers) = returning.only {
                self.resent.missing_at_collector += self.take_back_these(returning.link, &numbers);
                continue;
            }
            let keep = returning.alone.filter(|(number, _)| {
                self.in_flight
                    .value(*number)
                    .is_some_and(|flight| flight.link == returning.link)
            });
            self.resent.worker_lost += self.take_back(returning.link, keep.map(|(number, _)| number));
            if let Some((number, attempt)) = keep {
                self.losses.held_back.insert(number, attempt);
            }
        }
    }

    /// Takes these numbers back from a link, if they are still in flight there; returns how many.
    pub(super) fn take_back_these(&mut self, link: LinkId, numbers: &[Span]) -> u64 {
        let runs = numbers.iter().flat_map(|span| self.in_flight.within(*span));
        let runs: Vec<_> = runs.filter(|run| run.value.link == link).collect();
        for run in &runs {
            self.put_back((run.first, run.last), run.value);
        }
        runs.iter().map(crate::spans::Run::count).sum()
    }

    /// The collector has a loss in its log. A lone number that it said nothing else about is sent again.
    pub(super) fn take_echo(&mut self, lost: &Lost) {
        self.losses.pending.retain(|pending| *pending != lost.loss);
        self.let_go_alone(&lost.loss);
    }

    fn let_go_alone(&mut self, loss: &Loss) {
        if let Loss::Death { alone: true, held, .. } = loss {
            for number in held.iter().map(|holding| holding.first) {
                self.let_go(number);
            }
        }
    }

    /// A new STATE is in: what it may not know yet is said again.
    pub(super) fn resend_losses(&mut self) {
        for loss in self.losses.pending.clone() {
            self.send_loss(loss);
        }
    }
}
