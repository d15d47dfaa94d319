//! The numbers of a status: how many tasks are in which state, and which.

use harmony_api::status::{Failure, HarmonyBatchStatus, MAX_FAILURE_TAIL, MAX_FAILURES, MAX_RANGES, TaskCounts};
use harmony_protocol::limits::SPANS_TOLD;
use harmony_protocol::set::NumberSet;
use harmony_protocol::ventilator::{Progress, Resent};
use harmony_protocol::wire::{self, OutcomeCode, Span};

use super::ranges;

/// Writes what the ventilator says; without it what was said before stays, but that nothing is in flight.
pub(crate) fn fill(status: &mut HarmonyBatchStatus, progress: Option<&Progress>, resent_before: u64) {
    let Some(progress) = progress else {
        if let Some(tasks) = &mut status.tasks {
            tasks.pending += std::mem::take(&mut tasks.in_flight);
        }
        return;
    };
    let counts = &progress.counts;
    let (total, settled) = (progress.completions, counts.succeeded + counts.failed);
    let (pending, in_flight) = progress.pending_and_in_flight();
    status.tasks = Some(TaskCounts {
        total,
        pending,
        in_flight,
        succeeded: counts.succeeded,
        failed: counts.failed,
        resent: resent_before + resent(&progress.resent),
        duplicates: counts.duplicates,
    });
    status.completions = Some(format!("{settled}/{total}"));
    let percent = (u128::from(settled) * 100)
        .checked_div(u128::from(total))
        .unwrap_or(100);
    status.progress_percent = u32::try_from(percent).ok();
    status.completed_through = Some(progress.lowest_missing);
    sets(status, progress);
    failures(&mut status.failures, &progress.failures);
}

/// All resends, whatever their reason.
pub(crate) fn resent(resent: &Resent) -> u64 {
    let Resent {
        worker_lost,
        missing_at_collector,
        retry,
        returned,
        unbound,
    } = resent;
    worker_lost + missing_at_collector + retry + returned + unbound
}

fn sets(status: &mut HarmonyBatchStatus, progress: &Progress) {
    let failed_is_cut = progress.failed.len() >= SPANS_TOLD;
    let (failed, cut) = ranges::write(&progress.failed, MAX_RANGES);
    status.failed_indexes = (!failed.is_empty()).then_some(failed);
    status.failed_indexes_truncated = cut || failed_is_cut;
    let (succeeded, above_is_cut) = succeeded_above(progress, failed_is_cut);
    let (succeeded, cut) = ranges::write(&succeeded, MAX_RANGES);
    status.completed_indexes = (!succeeded.is_empty()).then_some(succeeded);
    status.completed_indexes_truncated = cut || above_is_cut;
}

/// Of what is settled above the mark that which did not fail, as far as both are told.
fn succeeded_above(progress: &Progress, failed_is_cut: bool) -> (Vec<Span>, bool) {
    let mut set = NumberSet::new();
    for (first, last) in &progress.settled_above {
        set.insert_span(*first, *last);
    }
    for (first, last) in &progress.failed {
        set.remove_span(*first, *last);
    }
    let known = progress.failed.last().filter(|_| failed_is_cut).map(|span| span.1);
    let told = set
        .spans()
        .filter(|span| known.is_none_or(|known| span.1 <= known))
        .collect();
    (told, failed_is_cut || progress.settled_above.len() >= SPANS_TOLD)
}

fn failures(told: &mut Vec<Failure>, new: &[wire::Failure]) {
    for failure in new {
        if told.len() >= MAX_FAILURES {
            return;
        }
        if told.iter().all(|known| known.number != failure.number) {
            told.push(as_told(failure));
        }
    }
}

fn as_told(failure: &wire::Failure) -> Failure {
    let tail = failure
        .log
        .get(..failure.log.floor_char_boundary(MAX_FAILURE_TAIL))
        .unwrap_or_default();
    Failure {
        number: failure.number,
        attempt: failure.attempt,
        reason: failure.reason.clone(),
        exit_code: (failure.reason == OutcomeCode::ExitCode.name()).then_some(failure.code),
        signal: (failure.reason == OutcomeCode::Signal.name()).then_some(failure.code),
        worker: Some(failure.worker.clone()),
        log_tail: (!tail.is_empty()).then(|| tail.to_owned()),
    }
}
