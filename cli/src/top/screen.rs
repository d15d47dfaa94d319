//! The page as lines: the same on a terminal and where it is printed.

use harmony_api::status::TaskCounts;
use harmony_protocol::ventilator::{Explanation, WorkerStage};
use k8s_openapi::jiff::Timestamp;
use ratatui::style::{Modifier, Style};
use ratatui::text::Line;

use super::page::Page;
use crate::explain::{Account, span, worker_state};
use crate::status::Overview;
use crate::status::age::between;
use crate::status::render::{failures, table};

/// Characters of the bar that shows how far a batch is.
const BAR: usize = 40;
/// Workers on the page of one batch, and stragglers: with the failures a page fits a small terminal.
const WORKERS: usize = 8;
const STRAGGLERS: usize = 5;

/// The page, top to bottom.
pub(super) fn lines(page: &Page, columns: usize, now: Timestamp) -> Vec<Line<'static>> {
    let mut lines = match page.open() {
        Some(name) => one(page, name, now),
        None => all(page, now),
    };
    if let Some(trouble) = page.trouble() {
        lines.push(Line::default());
        lines.push(Line::styled(trouble.trim().to_owned(), Modifier::BOLD));
    }
    for line in &mut lines {
        clip(line, columns);
    }
    lines
}

/// What does not fit is cut, visibly.
fn clip(line: &mut Line<'static>, columns: usize) {
    if line.width() > columns {
        let text: String = line.to_string().chars().take(columns.saturating_sub(1)).collect();
        *line = Line::styled(text + "\u{2026}", line.style);
    }
}

fn heading(text: impl Into<String>) -> Line<'static> {
    Line::styled(text.into(), Modifier::BOLD)
}

fn all(page: &Page, now: Timestamp) -> Vec<Line<'static>> {
    let count = page.batches().len();
    let head = match (page.has_looked(), count) {
        (false, _) => "looking ...".to_owned(),
        (true, 0) if page.trouble().is_none() => "there is no batch; harmony submit FILE makes one".to_owned(),
        (true, 1) => "1 batch".to_owned(),
        (true, _) => format!("{count} batches"),
    };
    let mut lines = vec![heading(format!("{head}   (up, down, enter; q ends)")), Line::default()];
    if count == 0 {
        return lines;
    }
    let row = |batch: &Overview| {
        let counts = batch.status.tasks.unwrap_or_default();
        let of = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
        [
            batch.name.clone(),
            of(batch.status.state.clone()),
            progress(counts),
            of(page.rate(batch).map(|rate| format!("{rate:.1}/s"))),
            of(eta(page, batch, now)),
            workers(batch),
            counts.failed.to_string(),
            of(batch.created.map(|created| between(created, now))),
        ]
    };
    let names = ["NAME", "STATE", "PROGRESS", "RATE", "ETA", "WORKERS", "FAILED", "AGE"];
    let text = table(Some(names), page.batches().iter().map(row));
    let chosen = page.position().map(|position| position + 1);
    for (at, row) in text.lines().enumerate() {
        let style = if at == 0 {
            Style::from(Modifier::BOLD)
        } else if Some(at) == chosen {
            Style::from(Modifier::REVERSED)
        } else {
            Style::default()
        };
        lines.push(Line::styled(row.to_owned(), style));
    }
    lines
}

fn progress(counts: TaskCounts) -> String {
    let settled = counts.succeeded + counts.failed;
    format!("{settled}/{} ({} %)", counts.total, percent(counts))
}

/// Rounded down: 100 % only when all is settled.
fn percent(counts: TaskCounts) -> u128 {
    let settled = u128::from(counts.succeeded + counts.failed);
    (settled * 100).checked_div(u128::from(counts.total)).unwrap_or(100)
}

fn workers(batch: &Overview) -> String {
    match batch.parallelism {
        Some(wanted) if batch.end().is_none() => format!("{} of {wanted}", batch.status.ready),
        _ => batch.status.ready.to_string(),
    }
}

fn eta(page: &Page, batch: &Overview, now: Timestamp) -> Option<String> {
    if let Some(at) = &batch.status.estimated_completion_time {
        return Some(between(now, at.0));
    }
    let counts = batch.status.tasks?;
    let left = counts.total.saturating_sub(counts.succeeded + counts.failed);
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an estimate; the cast of a float saturates"
    )]
    let millis = (left as f64 / page.rate(batch)? * 1_000.0) as u64;
    (left > 0).then(|| span(millis))
}

fn one(page: &Page, name: &str, now: Timestamp) -> Vec<Line<'static>> {
    let Some(batch) = page.batches().iter().find(|batch| batch.name == name) else {
        let said = if page.has_looked() { "it is gone" } else { "looking ..." };
        return vec![heading(format!("{name}   {said}   (esc shows all; q ends)"))];
    };
    let mut lines = vec![
        heading(format!("{name} {}   (esc shows all; q ends)", batch.place)),
        Line::default(),
    ];
    let counts = batch.status.tasks.unwrap_or_default();
    let rate = page.rate(batch).map(|rate| format!("   {rate:.1}/s"));
    let eta = eta(page, batch, now).map(|eta| format!("   done in about {eta}"));
    lines.push(Line::raw(format!(
        "{} {}{}{}",
        bar(counts),
        progress(counts),
        rate.unwrap_or_default(),
        eta.unwrap_or_default()
    )));
    let state = batch.status.state.as_deref().unwrap_or("not taken up yet");
    lines.push(Line::raw(format!(
        "{state}: {} succeeded, {} failed, {} at workers, {} workers ready",
        counts.succeeded,
        counts.failed,
        counts.in_flight,
        workers(batch)
    )));
    match page.detail() {
        Some(account) => of_account(account, &mut lines),
        None => lines.extend([Line::default(), Line::raw("asking why it is not done ...")]),
    }
    if !batch.status.failures.is_empty() {
        lines.extend([Line::default(), heading("Failures")]);
        lines.extend(
            failures(&batch.status.failures)
                .lines()
                .map(|row| Line::raw(row.to_owned())),
        );
    }
    lines
}

fn bar(counts: TaskCounts) -> String {
    let filled = usize::try_from(percent(counts)).unwrap_or_default().min(100) * BAR / 100;
    format!("[{}{}]", "#".repeat(filled), ".".repeat(BAR.saturating_sub(filled)))
}

fn of_account(account: &Account, lines: &mut Vec<Line<'static>>) {
    lines.extend([Line::default(), heading(account.told().answer)]);
    if let Some(told) = &account.ventilator {
        of_ventilator(told, lines);
    }
    for unknown in &account.unknown {
        lines.push(Line::raw(format!("could not be asked: {unknown}")));
    }
}

fn of_ventilator(told: &Explanation, lines: &mut Vec<Line<'static>>) {
    let ready = told.stages.get(&WorkerStage::Ready).copied().unwrap_or_default();
    let all: u64 = told.stages.values().sum();
    lines.extend([Line::default(), heading(format!("Workers ({ready} of {all} ready)"))]);
    let rows = told.workers.iter().take(WORKERS).map(|worker| {
        let oldest = worker.oldest_millis.map(|oldest| format!("oldest {}", span(oldest)));
        [
            worker.name.clone(),
            format!("{} there", worker.in_flight),
            oldest.unwrap_or_default(),
            worker_state(worker),
        ]
    });
    lines.extend(table(None, rows).lines().map(|row| Line::raw(row.to_owned())));
    if told.stragglers.is_empty() {
        return;
    }
    lines.extend([Line::default(), heading("Longest at workers")]);
    let rows = told.stragglers.iter().take(STRAGGLERS).map(|straggler| {
        let numbers = if straggler.first == straggler.last {
            format!("task {}", straggler.first)
        } else {
            format!("tasks {}-{}", straggler.first, straggler.last)
        };
        [
            numbers,
            format!("attempt {}", straggler.attempt),
            straggler.worker.clone(),
            span(straggler.millis),
        ]
    });
    lines.extend(table(None, rows).lines().map(|row| Line::raw(row.to_owned())));
}

#[cfg(test)]
#[path = "screen_tests.rs"]
mod tests;
