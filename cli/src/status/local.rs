//! The status of a batch in its folder.

use std::path::Path;
use std::thread;
use std::time::Duration;

use harmony_api::conditions::{COMPLETE, FAILED};
use harmony_api::status::{Failure as TaskFailure, HarmonyBatchStatus, MAX_FAILURE_TAIL, MAX_FAILURES, TaskCounts};
use harmony_log::{Cursor, LogError, LogReader, Outcome};
use harmony_protocol::collector::BatchState;
use harmony_protocol::wire::{Done, Ending, OutcomeCode};
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use super::{Overview, Screen, StatusArgs, render};
use crate::exit::Failure;
use crate::local::{Glance, LocalBatch};

/// How often a folder is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Shows the batch of a folder.
pub(crate) fn show(args: &StatusArgs, dir: &Path) -> Result<(), Failure> {
    let mut screen = Screen::new(args);
    loop {
        let batch = LocalBatch::find(dir)?;
        let seen = batch.glance()?;
        let running = seen.runner.is_some();
        let overview = overview(&batch, &seen)?;
        let text = match args.output {
            Some(format) => format.print(&object(&batch, &overview))?,
            None => render::screen(&overview, Timestamp::now()),
        };
        if !screen.print(&text)? || !args.watch || !running {
            return Ok(());
        }
        thread::sleep(LOOK_EVERY);
    }
}

/// In the shape that it has on a cluster, as far as it goes.
fn object(batch: &LocalBatch, overview: &Overview) -> Value {
    json!({
        "apiVersion": "harmony.dev/v1alpha1",
        "kind": "HarmonyBatch",
        "metadata": {"name": batch.record.name, "uid": batch.record.uid},
        "status": overview.status,
    })
}

/// What the folder of a batch tells.
pub(crate) fn overview(batch: &LocalBatch, seen: &Glance) -> Result<Overview, Failure> {
    let mut status = match &seen.log {
        Some((reader, state)) => summary(reader, state).map_err(Failure::infrastructure)?,
        None => HarmonyBatchStatus::default(),
    };
    let ended = seen.log.as_ref().and_then(|(_, state)| state.ended());
    status.state = Some(match (ended, seen.runner) {
        (Some(done), _) => ending(done),
        (None, Some(pid)) => format!("Running (process {pid})"),
        (None, None) => "Interrupted; the same harmony run resumes it".to_owned(),
    });
    let dir = batch.dir.display();
    let created = i64::try_from(batch.record.started).ok();
    let mut commands = Vec::new();
    let counts = status.tasks.unwrap_or_default();
    if counts.succeeded > 0 {
        commands.push(format!("Results:   harmony results {dir}"));
    }
    if counts.failed > 0 {
        commands.push(format!("Failed:    harmony failed {dir}"));
    }
    Ok(Overview {
        name: batch.record.name.clone(),
        place: format!("in {dir}"),
        created: created.and_then(|second| Timestamp::from_second(second).ok()),
        parallelism: None,
        status,
        commands,
    })
}

/// How a batch ended, in a sentence.
pub(crate) fn end_in_words(done: &Done, completions: Option<u64>) -> String {
    let counts = done.counts;
    let settled = counts.succeeded + counts.failed;
    let told = format!("{} succeeded, {} failed", counts.succeeded, counts.failed);
    match &done.ending {
        Ending::Cancelled(reason) => {
            let left = completions.map_or(0, |all| all.saturating_sub(settled));
            format!("it was ended early ({reason}): {told}, {left} not settled")
        }
        Ending::Complete => told,
    }
}

fn ending(done: &Done) -> String {
    match &done.ending {
        Ending::Cancelled(reason) => format!("Ended early ({reason})"),
        Ending::Complete if done.counts.failed > 0 => FAILED.to_owned(),
        Ending::Complete => COMPLETE.to_owned(),
    }
}

/// Counts and failures, as the log tells them.
pub(crate) fn summary(reader: &LogReader, state: &BatchState) -> Result<HarmonyBatchStatus, LogError> {
    let counts = state.counts();
    let total = state.completions().unwrap_or(counts.succeeded + counts.failed);
    let settled = counts.succeeded + counts.failed;
    Ok(HarmonyBatchStatus {
        tasks: Some(TaskCounts {
            total,
            pending: total.saturating_sub(settled),
            succeeded: counts.succeeded,
            failed: counts.failed,
            ..TaskCounts::default()
        }),
        completions: Some(format!("{settled}/{total}")),
        failures: failures(reader, state)?,
        ..HarmonyBatchStatus::default()
    })
}

fn failures(reader: &LogReader, state: &BatchState) -> Result<Vec<TaskFailure>, LogError> {
    let mut cursor = Cursor::new(reader);
    let mut failures = Vec::new();
    let numbers = state.failed_spans().into_iter().flat_map(|(first, last)| first..=last);
    for number in numbers.take(MAX_FAILURES) {
        let Some(location) = reader.find(number)? else { continue };
        failures.extend(cursor.outcome(location)?.as_ref().map(failure));
    }
    Ok(failures)
}

fn failure(recorded: &Outcome<'_>) -> TaskFailure {
    let (entry, tail) = (&recorded.entry, String::from_utf8_lossy(&recorded.log));
    let cut = tail.ceil_char_boundary(tail.len().saturating_sub(MAX_FAILURE_TAIL));
    TaskFailure {
        number: entry.number,
        attempt: entry.attempt,
        reason: entry.outcome.name().to_owned(),
        exit_code: (entry.outcome == OutcomeCode::ExitCode).then_some(entry.code),
        signal: (entry.outcome == OutcomeCode::Signal).then_some(entry.code),
        worker: Some(recorded.worker.to_owned()),
        log_tail: tail.get(cut..).filter(|tail| !tail.is_empty()).map(str::to_owned),
    }
}
