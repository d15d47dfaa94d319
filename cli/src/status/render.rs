//! Text for people.

use std::fmt::Write as _;

use harmony_api::conditions::FAILED;
use harmony_api::status::{Failure, HarmonyBatchStatus, TaskCounts};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use k8s_openapi::jiff::Timestamp;

use super::Overview;
use super::age::between;

/// Characters of a failure's last words: one line of a terminal.
const TAIL: usize = 100;
/// Failures on the screen; the command below them shows all.
const FAILURES: usize = 10;

/// One batch on one screen.
pub(crate) fn screen(batch: &Overview, now: Timestamp) -> String {
    let status = &batch.status;
    let mut text = String::new();
    let age = batch.created.map(|created| format!(", {} old", between(created, now)));
    line(
        &mut text,
        "Batch",
        &format!("{} {}{}", batch.name, batch.place, age.unwrap_or_default()),
    );
    line(&mut text, "State", &state(batch, now));
    if let Some(counts) = &status.tasks {
        line(&mut text, "Progress", &progress(counts));
        line(&mut text, "Tasks", &tasks(counts));
    }
    if let Some(rate) = rate(status, now) {
        line(&mut text, "Rate", &rate);
    }
    if let Some(workers) = workers(batch) {
        line(&mut text, "Workers", &workers);
    }
    if !status.conditions.is_empty() {
        text.push_str("\nConditions\n");
        text.push_str(&conditions(&status.conditions, now));
    }
    if !status.failures.is_empty() {
        let all = status.tasks.map_or(0, |counts| counts.failed);
        let _ = writeln!(text, "\nFailures ({} of {all})", status.failures.len().min(FAILURES)); // a string takes all
        text.push_str(&failures(&status.failures));
    }
    if !batch.commands.is_empty() {
        text.push('\n');
        for command in &batch.commands {
            let _ = writeln!(text, "{command}");
        }
    }
    text
}

fn line(text: &mut String, label: &str, value: &str) {
    let _ = writeln!(text, "{:<10} {value}", format!("{label}:"));
}

/// One word; of a batch that is over also why, when, and how long it took.
fn state(batch: &Overview, now: Timestamp) -> String {
    let status = &batch.status;
    let mut text = status
        .state
        .clone()
        .unwrap_or_else(|| "not taken up yet by an operator".to_owned());
    let Some(end) = batch.end() else { return text };
    if end.type_ == FAILED && text != end.reason {
        let _ = write!(text, " ({})", end.reason);
    }
    let ended = end.last_transition_time.0;
    let _ = write!(text, ", {} ago", between(ended, now));
    let began = status.start_time.as_ref().map(|time| time.0).or(batch.created);
    if let Some(began) = began {
        let _ = write!(text, ", after {}", between(began, ended));
    }
    text
}

fn progress(counts: &TaskCounts) -> String {
    let settled = counts.succeeded + counts.failed;
    // Rounded down: 100 % only when all is settled.
    let percent = (u128::from(settled) * 100)
        .checked_div(u128::from(counts.total))
        .unwrap_or(100);
    format!("{settled} of {} ({percent} %)", counts.total)
}

fn tasks(counts: &TaskCounts) -> String {
    let TaskCounts {
        pending,
        in_flight,
        succeeded,
        failed,
        resent,
        duplicates,
        ..
    } = *counts;
    let mut text = format!("{succeeded} succeeded, {failed} failed, {in_flight} running, {pending} pending");
    for (count, what) in [(resent, "sent again"), (duplicates, "answered twice")] {
        if count > 0 {
            let _ = write!(text, ", {count} {what}");
        }
    }
    text
}

fn rate(status: &HarmonyBatchStatus, now: Timestamp) -> Option<String> {
    let rate = status.throughput_per_second.as_ref()?;
    let eta = status.estimated_completion_time.as_ref();
    let eta = eta.map(|eta| format!(", done in about {}", between(now, eta.0)));
    Some(format!("{rate}/s{}", eta.unwrap_or_default()))
}

fn workers(batch: &Overview) -> Option<String> {
    let wanted = batch.parallelism?;
    let HarmonyBatchStatus {
        active,
        ready,
        terminating,
        ..
    } = batch.status;
    let mut text = match batch.end() {
        Some(_) if active == 0 => "none, the batch is over".to_owned(),
        _ => format!("{ready} ready of {wanted}"),
    };
    for (count, what) in [(active.saturating_sub(ready), "starting"), (terminating, "ending")] {
        if count > 0 {
            let _ = write!(text, ", {count} {what}");
        }
    }
    Some(text)
}

fn conditions(conditions: &[Condition], now: Timestamp) -> String {
    let row = |condition: &Condition| {
        [
            condition.type_.clone(),
            // Its reason may be younger.
            format!(
                "{} for {}",
                condition.status,
                between(condition.last_transition_time.0, now)
            ),
            condition.reason.clone(),
            one_line(&condition.message),
        ]
    };
    table(None, conditions.iter().map(row))
}

/// A row per failure.
pub(crate) fn failures(failures: &[Failure]) -> String {
    let row = |failure: &Failure| {
        [
            format!("task {}", failure.number),
            format!("attempt {}", failure.attempt),
            failure.cause(),
            failure.worker.clone().unwrap_or_default(),
            last_line(failure.log_tail.as_deref().unwrap_or_default()),
        ]
    };
    table(None, failures.iter().take(FAILURES).map(row))
}

/// The batches of a namespace.
pub(crate) fn list(batches: &[Overview], now: Timestamp) -> String {
    let row = |batch: &Overview| {
        let status = &batch.status;
        let eta = status.estimated_completion_time.as_ref();
        let of = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
        [
            batch.name.clone(),
            of(status.state.clone()),
            of(status.completions.clone()),
            of(status.progress_percent.map(|percent| format!("{percent}%"))),
            status.ready.to_string(),
            of(status.tasks.map(|counts| counts.failed.to_string())),
            of(eta.map(|eta| between(now, eta.0))),
            of(batch.created.map(|created| between(created, now))),
        ]
    };
    let heading = [
        "NAME",
        "STATE",
        "COMPLETIONS",
        "PROGRESS",
        "WORKERS",
        "FAILED",
        "ETA",
        "AGE",
    ];
    table(Some(heading), batches.iter().map(row))
}

/// Columns as wide as their widest cell, and two apart. Without a heading they are set in.
pub(crate) fn table<const N: usize>(heading: Option<[&str; N]>, rows: impl Iterator<Item = [String; N]>) -> String {
    let indent = if heading.is_some() { "" } else { "  " };
    let heading = heading.map(|cells| cells.map(str::to_owned));
    let rows: Vec<[String; N]> = heading.into_iter().chain(rows).collect();
    let mut widths = [0; N];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut text = String::new();
    for row in &rows {
        let mut cells = String::new();
        for (width, cell) in widths.iter().zip(row).filter(|(width, _)| **width > 0) {
            let _ = write!(cells, "{cell:<width$}  ");
        }
        let _ = writeln!(text, "{indent}{}", cells.trim_end());
    }
    text
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The last line that says something, without what would move the cursor.
pub(crate) fn last_words(text: &str) -> Option<String> {
    let line = text.lines().rev().map(str::trim).find(|line| !line.is_empty())?;
    Some(line.chars().filter(|character| !character.is_control()).collect())
}

/// As much of the last words as fits a row.
fn last_line(text: &str) -> String {
    let clean = last_words(text).unwrap_or_default();
    if clean.chars().count() <= TAIL {
        return clean;
    }
    clean.chars().take(TAIL).chain(['\u{2026}']).collect()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn running() -> Overview {
        let condition = |type_: &str, status: &str, reason: &str, message: &str| Condition {
            type_: type_.into(),
            status: status.into(),
            reason: reason.into(),
            message: message.into(),
            last_transition_time: Time(at(40)),
            observed_generation: Some(1),
        };
        Overview {
            name: "render".into(),
            place: "in namespace team-a".into(),
            created: Some(at(0)),
            parallelism: Some(4),
            status: HarmonyBatchStatus {
                state: Some("Running".into()),
                active: 3,
                ready: 2,
                terminating: 1,
                completions: Some("412/1000".into()),
                progress_percent: Some(41),
                throughput_per_second: Some("9.8".into()),
                estimated_completion_time: Some(Time(at(160))),
                tasks: Some(TaskCounts {
                    total: 1000,
                    pending: 580,
                    in_flight: 8,
                    succeeded: 411,
                    failed: 1,
                    resent: 3,
                    duplicates: 0,
                }),
                conditions: vec![
                    condition("CollectorReady", "True", "Running", ""),
                    condition("WorkersReady", "False", "ImagePullFailed", "pod x:\n  no such image"),
                ],
                failures: vec![Failure {
                    number: 7,
                    attempt: 4,
                    reason: "ExitCode".into(),
                    exit_code: Some(1),
                    worker: Some("hb-render-0".into()),
                    log_tail: Some("reading\n\x1b[31mno such frame\n\n".into()),
                    ..Failure::default()
                }],
                ..HarmonyBatchStatus::default()
            },
            commands: vec!["Results:   harmony results render".into()],
        }
    }

    #[test]
    fn a_batch_fits_one_screen() {
        let expected = "\
Batch:     render in namespace team-a, 100s old
State:     Running
Progress:  412 of 1000 (41 %)
Tasks:     411 succeeded, 1 failed, 8 running, 580 pending, 3 sent again
Rate:      9.8/s, done in about 60s
Workers:   2 ready of 4, 1 starting, 1 ending

Conditions
  CollectorReady  True for 60s   Running
  WorkersReady    False for 60s  ImagePullFailed  pod x: no such image

Failures (1 of 1)
  task 7  attempt 4  ExitCode 1  hb-render-0  [31mno such frame

Results:   harmony results render
";
        assert_eq!(screen(&running(), at(100)), expected);
    }

    #[test]
    fn a_batch_that_is_over_says_since_when_and_misses_no_worker() {
        let mut batch = running();
        let status = &mut batch.status;
        (status.active, status.ready, status.terminating) = (0, 0, 0);
        status.state = Some("Failed".into());
        for condition in &mut status.conditions {
            (condition.type_, condition.status) = (FAILED.into(), "True".into());
            condition.reason = "FailedIndexes".into();
        }
        let text = screen(&batch, at(100));
        assert!(
            text.contains("State:     Failed (FailedIndexes), 60s ago, after 40s\n"),
            "{text}"
        );
        assert!(text.contains("Workers:   none, the batch is over\n"), "{text}");
        batch.status.terminating = 2;
        let text = screen(&batch, at(100));
        assert!(
            text.contains("Workers:   none, the batch is over, 2 ending\n"),
            "{text}"
        );
    }

    #[test]
    fn a_batch_that_nobody_took_up_says_so() {
        let batch = Overview {
            name: "new".into(),
            place: "in namespace default".into(),
            ..Overview::default()
        };
        let expected = "Batch:     new in namespace default\nState:     not taken up yet by an operator\n";
        assert_eq!(screen(&batch, at(0)), expected);
    }

    #[test]
    fn all_batches_make_a_table() {
        let new = Overview {
            name: "new".into(),
            created: Some(at(95)),
            ..Overview::default()
        };
        let expected = "\
NAME    STATE    COMPLETIONS  PROGRESS  WORKERS  FAILED  ETA  AGE
render  Running  412/1000     41%       2        1       60s  100s
new     -        -            -         0        -       -    5s
";
        assert_eq!(list(&[running(), new], at(100)), expected);
    }

    #[test]
    fn all_is_done_only_when_all_is_settled() {
        let counts = |succeeded, failed, total| TaskCounts {
            total,
            succeeded,
            failed,
            ..TaskCounts::default()
        };
        assert_eq!(progress(&counts(998, 1, 1000)), "999 of 1000 (99 %)");
        assert_eq!(progress(&counts(999, 1, 1000)), "1000 of 1000 (100 %)");
        assert_eq!(progress(&counts(0, 0, 0)), "0 of 0 (100 %)");
    }
}
