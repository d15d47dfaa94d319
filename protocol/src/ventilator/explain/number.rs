//! Why one number is not settled.

use std::time::Instant;

use super::{Missing, NumberExplanation, NumberState, Suspect, since, until};
use crate::ids::Attempt;
use crate::limits::{GONE_AFTER, SUSPECTS_TOLD};
use crate::ventilator::fleet::Suspicion;
use crate::ventilator::hold::{Gate, Hold};
use crate::ventilator::work::Place;
use crate::ventilator::{Flight, Ventilator};

impl Ventilator {
    /// Why a number is not settled, or how it is.
    pub fn explain_number(&self, now: Instant, number: u64) -> NumberExplanation {
        let had = |suspicion: &&Suspicion| {
            let mut held = suspicion.held.iter();
            held.any(|holding| (holding.first..=holding.last).contains(&number))
        };
        let suspects = self.fleet.suspicions.values().filter(had);
        NumberExplanation {
            number,
            completions: self.config.completions,
            state: self.state_of(now, number),
            deaths: self.work.deaths(number),
            suspects: suspects
                .take(SUSPECTS_TOLD)
                .map(|suspicion| suspect(now, suspicion))
                .collect(),
            collector: self.collector_view(now),
        }
    }

    fn state_of(&self, now: Instant, number: u64) -> NumberState {
        if number >= self.config.completions {
            return NumberState::OutOfRange;
        }
        if self.failed.contains(number) {
            let failure = self.failures.iter().find(|failure| failure.number == number);
            return NumberState::Failed {
                failure: failure.cloned(),
            };
        }
        if self.settled.contains(number) {
            return NumberState::Succeeded;
        }
        if let Some(flight) = self.in_flight.value(number) {
            return self.in_flight_state(now, number, flight);
        }
        if let Some(attempt) = self.losses.held_back.get(&number) {
            return NumberState::HeldBack { attempt: *attempt };
        }
        if let Some((attempt, why)) = self.unsendable.get(&number) {
            return NumberState::Unsendable {
                attempt: *attempt,
                why: why.clone(),
            };
        }
        match self.work.place(number) {
            Some(Place::Ready(todo)) => {
                let gate = self.gate();
                let hold = match &gate {
                    Ok(gate) => gate.hold(number, todo).or_else(|| self.no_room()),
                    Err(hold) => Some(hold.clone()),
                };
                let may = |run| gate.as_ref().is_ok_and(|gate| gate.hold_kind(run).is_none());
                let above = gate
                    .as_ref()
                    .ok()
                    .and_then(|gate| gate.above)
                    .map_or(0, |above| above + 1);
                NumberState::Ready {
                    attempt: todo.attempt,
                    resend: todo.resend,
                    alone: false,
                    ahead: self.work.lonely() as u64 + self.work.count_within(above, number, may),
                    hold,
                }
            }
            Some(Place::Lonely(attempt)) => self.lonely_state(number, attempt),
            Some(Place::Uploading(upload)) => NumberState::Uploading(self.uploading(number, &upload)),
            Some(Place::Waiting(due, attempt)) => NumberState::Waiting {
                attempt,
                due_millis: until(now, due),
            },
            None => NumberState::Unknown {
                hold: self.gate().err().unwrap_or(Hold::Collector),
            },
        }
    }

    fn lonely_state(&self, number: u64, attempt: Attempt) -> NumberState {
        let hold = self.gate().map_or_else(Some, Gate::hold_alone);
        NumberState::Ready {
            attempt,
            resend: true,
            alone: true,
            ahead: self.work.lonely_below(number),
            hold: hold.or_else(|| self.place_alone().err()),
        }
    }

    fn in_flight_state(&self, now: Instant, number: u64, flight: Flight) -> NumberState {
        let member = self.fleet.members.get(&flight.link);
        let asked = self.asked.iter().any(|((link, _), spans)| {
            let within = |span: &(u64, u64)| (span.0..=span.1).contains(&number);
            *link == flight.link && spans.iter().any(within)
        });
        let missing = if self.doubted.value(number) == Some(flight.link) {
            Some(Missing::Denied)
        } else {
            asked.then_some(Missing::Asked)
        };
        NumberState::InFlight {
            attempt: flight.attempt,
            millis: since(now, flight.since.0),
            alone: member.is_some_and(|member| member.alone.contains(&number)),
            worker: member.map(|member| self.explain_worker(now, flight.link, member, None)),
            missing,
        }
    }
}

/// A worker process that may have died.
pub(super) fn suspect(now: Instant, suspicion: &Suspicion) -> Suspect {
    let held = suspicion.held.iter().map(|holding| holding.last - holding.first + 1);
    Suspect {
        worker: suspicion.name.clone(),
        gone_millis: since(now, suspicion.since),
        given_up_in_millis: until(now, suspicion.since + GONE_AFTER),
        in_flight: held.sum(),
    }
}
