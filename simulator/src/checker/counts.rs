//! I7: totals are true, wherever they are told.

use harmony_protocol::wire::{Counts as Totals, Message, OutcomeCode};

use super::scene::Seen;
use crate::facts::Facts;
use crate::network::PartyId;
use crate::observation::{Numbers, Observation, Role};

pub(super) fn observe(seen: &Seen<'_>) {
    match *seen.what {
        Observation::Progress { party, numbers } => check_progress(seen, party, numbers),
        Observation::Sent(carried) => {
            let Some(uid) = seen.scene.batch(&carried) else { return };
            if seen.scene.role(carried.from) != Some(Role::Collector) {
                return;
            }
            match carried.message {
                Message::Report(report) => check_totals(&report.counts, seen.facts(uid)),
                Message::Done(done) => check_totals(&done.counts, seen.facts(uid)),
                _ => {}
            }
        }
        _ => {}
    }
}

/// What is told is durable, and so can never be more than what is durable.
fn check_totals(told: &Totals, facts: &Facts) {
    let durable = facts.settled.len() as u64;
    assert!(
        told.succeeded + told.failed <= durable + facts.damages,
        "I7: {} succeeded and {} failed are told, durable are {durable} in all",
        told.succeeded,
        told.failed
    );
    let charged = facts
        .charged
        .values()
        .filter(|code| **code != OutcomeCode::Succeeded)
        .count() as u64;
    // A charge whose record was damaged was made, and stays counted.
    assert!(
        told.charged <= charged || facts.damages > 0,
        "I7: {} charged attempts are told, durable are {charged}",
        told.charged
    );
}

fn check_progress(seen: &Seen<'_>, party: PartyId, numbers: Numbers) {
    let Some(Role::Ventilator(batch)) = seen.scene.role(party) else {
        return;
    };
    let completions = seen.oracle[batch].completions;
    assert!(
        numbers.in_flight + numbers.left + numbers.waiting <= completions && numbers.settled <= completions,
        "I7: {} counts {numbers:?} of {completions}",
        seen.scene.name(party)
    );
}
