//! Why a batch is not done, in words.

use harmony_api::conditions::{COLLECTOR_READY, PROGRESSING, SUSPENDED, WORKERS_READY, reason};
use harmony_protocol::ventilator::{Explanation, Hold, Ready, Upcoming, UpcomingKind, WorkerStage};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::account::{Account, Told};
use super::words::{self, numbers, running_workers, span, tasks};
use crate::status::render::last_words;

/// Lines about single workers, tasks and events each: the answer is to fit one screen.
const LINES: usize = 5;
/// Milliseconds at a worker after which a task is worth a line.
const LONG: u64 = 10_000;

/// What weighs more is told first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Weight {
    /// Nothing can go on.
    Stops,
    /// What goes on in the usual way.
    Usual,
    /// Good to know.
    Note,
}

type Cause = (Weight, String);

/// What people are told of a batch.
pub(super) fn told(account: &Account) -> Told {
    let progress = account.progress().map(|(settled, all)| {
        let percent = (u128::from(settled) * 100).checked_div(u128::from(all)).unwrap_or(100);
        format!("{settled} of {all} tasks settled ({percent} %)")
    });
    let mut causes = causes(account).into_iter();
    let first = causes.next();
    let (word, why) = match (&account.ended, first) {
        (Some(end), _) => ("done", end.clone()),
        (None, Some((Weight::Stops, why))) => ("not done", why),
        (None, Some((_, why))) => ("running", why),
        (None, None) => {
            let state = account.status.state.as_deref().unwrap_or("unknown");
            let why = format!("its state is {state}, and nobody who knows more could be asked");
            ("not done", why)
        }
    };
    let mut because: Vec<String> = causes.map(|(_, text)| text).collect();
    if let Some(progress) = progress {
        because.insert(0, progress);
    }
    because.extend(account.events.iter().take(LINES).cloned());
    Told {
        answer: format!("{} is {word}: {why}", account.name),
        because,
        next: next(account),
    }
}

/// The answer in a line, without the name of the batch.
pub(crate) fn summary(account: &Account) -> String {
    if let Some(end) = &account.ended {
        return end.clone();
    }
    causes(account)
        .into_iter()
        .next()
        .map_or_else(String::new, |(_, why)| why)
}

/// Why it is not done, what weighs most first.
fn causes(account: &Account) -> Vec<Cause> {
    if account.ended.is_some() {
        return Vec::new();
    }
    let mut causes = Vec::new();
    if let Some(idle) = &account.idle {
        causes.push((Weight::Stops, idle.clone()));
    }
    // What some workers lack is no answer while others work.
    let works = account.ventilator.as_ref().is_some_and(|told| {
        let ready = told.stages.get(&WorkerStage::Ready).is_some_and(|ready| *ready > 0);
        ready && told.hold.is_none()
    });
    let of_pods = if works { Weight::Note } else { Weight::Stops };
    causes.extend(of_conditions(&account.status.conditions, of_pods));
    for trouble in &account.pods {
        let text = format!("pod {} waits: {}", trouble.pod, trouble.reason);
        // The operator's conditions say it for one of the pods.
        if !causes.iter().any(|(_, told)| told.contains(&text)) && causes.len() < LINES {
            let said = if trouble.message.is_empty() { "" } else { ": " };
            causes.push((of_pods, format!("{text}{said}{}", trouble.message)));
        }
    }
    if let Some(explanation) = &account.ventilator {
        of_ventilator(explanation, &mut causes);
    }
    causes.extend(failed(account));
    causes.sort_by_key(|(weight, _)| *weight);
    causes
}

fn of_conditions(conditions: &[Condition], of_pods: Weight) -> Vec<Cause> {
    let said = |condition: &Condition| {
        let text = condition.message.split_whitespace().collect::<Vec<_>>().join(" ");
        let kind = match condition.type_.as_str() {
            COLLECTOR_READY => "the collector is not ready",
            WORKERS_READY => "workers are not ready",
            PROGRESSING => "no task finishes",
            SUSPENDED => "it is suspended",
            other => other,
        };
        match (text.is_empty(), condition.type_ == SUSPENDED) {
            (_, true) => format!("{kind}: set spec.suspend to false to go on"),
            (true, _) => format!("{kind} ({})", condition.reason),
            (false, _) => format!("{kind} ({}): {text}", condition.reason),
        }
    };
    let mut causes: Vec<Cause> = Vec::new();
    for condition in conditions {
        let holds = condition.status == "True";
        let weight = match condition.type_.as_str() {
            SUSPENDED if holds => Weight::Stops,
            // The first is that of a queue such as Kueue's, which holds the batch.
            "QuotaReserved" | COLLECTOR_READY | PROGRESSING if !holds => Weight::Stops,
            WORKERS_READY if !holds => of_pods,
            _ => continue,
        };
        let text = said(condition);
        // One trouble may keep several conditions from holding.
        let told = causes
            .iter()
            .any(|(_, other)| !condition.message.is_empty() && other.contains(&condition.message));
        if !told && !reason::BENIGN.contains(&condition.reason.as_str()) || condition.type_ == SUSPENDED {
            causes.push((weight, text));
        }
    }
    causes
}

fn of_ventilator(told: &Explanation, causes: &mut Vec<Cause>) {
    let collector = words::collector(&told.collector);
    // What the collector lacks is told in its own words.
    if let Some(hold) = told.hold.as_ref().filter(|hold| **hold != Hold::Collector) {
        causes.push((Weight::Stops, words::hold(hold, &told.collector)));
    }
    causes.extend(collector.map(|why| (Weight::Stops, why)));
    let ready = told.stages.get(&WorkerStage::Ready).copied().unwrap_or_default();
    if ready == 0 && told.hold.is_none() {
        causes.push((Weight::Stops, no_worker(told)));
    }
    for ready in &told.ready {
        causes.extend(of_ready(told, ready));
    }
    if told.in_flight > 0 {
        let oldest = told.stragglers.first().map(|straggler| {
            let worker = &straggler.worker;
            let at = if worker.is_empty() {
                String::new()
            } else {
                format!(" at {worker}")
            };
            format!(
                ", the oldest for {} (task {}{at})",
                span(straggler.millis),
                straggler.first
            )
        });
        let text = format!("{} at workers{}", tasks(told.in_flight), oldest.unwrap_or_default());
        causes.push((Weight::Usual, text));
    }
    for uploading in &told.uploading {
        let text = format!(
            "task {} is being sent: {}",
            uploading.number,
            words::uploading(uploading)
        );
        causes.push((Weight::Usual, text));
    }
    if told.waiting > 0 {
        let retry = told.upcoming.iter().find_map(|upcoming| match upcoming.kind {
            UpcomingKind::Retry { number } => Some((number, upcoming.in_millis)),
            _ => None,
        });
        let next = retry.map(|(number, due)| format!(", task {number} in {}", span(due)));
        let text = format!(
            "{} failed before, waiting for the next attempt{}",
            tasks(told.waiting),
            next.unwrap_or_default()
        );
        causes.push((Weight::Usual, text));
    }
    for (count, what) in [
        (
            told.missing,
            "missing at the collector: their workers are asked after them",
        ),
        (
            told.held_back,
            "held back until it is clear what became of their worker",
        ),
        (
            told.unsendable,
            "with a payload that no worker takes: recorded as failures",
        ),
    ] {
        if count > 0 {
            causes.push((Weight::Usual, format!("{} {what}", tasks(count))));
        }
    }
    notes(told, causes);
}

/// What has failed for good ends no batch by itself, so that it is easily overlooked.
fn failed(account: &Account) -> Option<Cause> {
    let (told, status) = (account.ventilator.as_ref(), &account.status);
    let counted = told.map_or(0, |told| told.counts.failed);
    let count = counted.max(status.tasks.map_or(0, |counts| counts.failed));
    let first = status.failures.first().map(|failure| {
        let words = failure.log_tail.as_deref().and_then(last_words);
        let words = words.map(|words| format!(": {words}")).unwrap_or_default();
        format!(", the first task {} ({}){words}", failure.number, failure.cause())
    });
    (count > 0).then(|| {
        let text = format!("{} failed for good{}", tasks(count), first.unwrap_or_default());
        (Weight::Usual, text)
    })
}

/// What is ready and waits, unless the collector says it already.
fn of_ready(told: &Explanation, ready: &Ready) -> Option<Cause> {
    if told.hold.is_some() {
        return None;
    }
    let alone = if ready.alone { " (to run alone)" } else { "" };
    let why = match &ready.hold {
        None => "are sent next".to_owned(),
        Some(Hold::NoWorker) => return None,
        Some(hold) => format!("wait: {}", words::hold(hold, &told.collector)),
    };
    let weight = match ready.hold {
        None | Some(Hold::NoRoom(_) | Hold::OthersAlone { .. } | Hold::ManyRetries) => Weight::Usual,
        Some(_) => Weight::Stops,
    };
    Some((weight, format!("{}{alone} {why}", tasks(ready.numbers))))
}

fn no_worker(told: &Explanation) -> String {
    let named: Vec<String> = told
        .stages
        .iter()
        .map(|(stage, count)| {
            let what = match stage {
                WorkerStage::Dialling => "do not answer yet",
                WorkerStage::Greeted => "wait for the collector",
                WorkerStage::Started => "prepare for the batch",
                WorkerStage::Ready => "are ready",
                WorkerStage::Unbound => "have lost the collector",
                WorkerStage::Closed => "refused the batch, or leave",
            };
            format!("{count} {what}")
        })
        .collect();
    if named.is_empty() {
        return "there is no worker".to_owned();
    }
    format!("no worker is ready: {}", named.join(", "))
}

/// Workers and tasks that stand out.
fn notes(told: &Explanation, causes: &mut Vec<Cause>) {
    let notes = told.suspects.iter().take(LINES).map(words::suspect);
    causes.extend(notes.map(|text| (Weight::Note, text)));
    let telling = told.workers.iter().filter(|worker| {
        let silent = words::silence(worker.silent_millis).is_some();
        silent || worker.stage != WorkerStage::Ready || worker.draining
    });
    causes.extend(telling.take(LINES).map(|worker| (Weight::Note, words::worker(worker))));
    let long = told.stragglers.iter().filter(|straggler| straggler.millis >= LONG);
    for straggler in long.take(LINES) {
        let at = numbers(straggler.first, straggler.last);
        let (attempt, worker) = (straggler.attempt, &straggler.worker);
        let text = format!("{at}, attempt {attempt}, at {worker} for {}", span(straggler.millis));
        causes.push((Weight::Note, text));
    }
    let resent = told.resent;
    let again = [
        (resent.worker_lost, "since their worker was lost"),
        (resent.missing_at_collector, "since the collector missed them"),
        (resent.returned, "since a worker handed them back"),
        (resent.unbound, "since their worker had lost the collector"),
    ];
    for (count, why) in again.into_iter().filter(|(count, _)| *count > 0) {
        causes.push((Weight::Note, format!("{} sent again so far {why}", tasks(count))));
    }
    let all = told.stages.values().sum::<u64>();
    let ready = told.stages.get(&WorkerStage::Ready).copied().unwrap_or_default();
    if ready > 0 {
        causes.push((Weight::Note, format!("{ready} of {} ready", running_workers(all))));
    }
}

fn next(account: &Account) -> Vec<String> {
    let mut lines = Vec::new();
    let upcoming = account.ventilator.iter().flat_map(|told| &told.upcoming);
    lines.extend(upcoming.take(LINES).map(happens));
    if account.ended.is_none() {
        lines.push(format!("harmony explain {} NUMBER tells of one task", account.named));
    }
    let failed = account.status.tasks.is_some_and(|counts| counts.failed > 0)
        || account.ventilator.as_ref().is_some_and(|told| told.counts.failed > 0);
    if failed {
        lines.push(format!("harmony failed {} shows the failures", account.named));
    }
    lines
}

fn happens(upcoming: &Upcoming) -> String {
    let what = match &upcoming.kind {
        UpcomingKind::Retry { number } => format!("task {number} is tried again"),
        UpcomingKind::AskCollector => "the collector is asked what it misses".to_owned(),
        UpcomingKind::Dial => "who is out of reach is dialled again".to_owned(),
        UpcomingKind::GiveUp { worker } => format!("{worker} counts as dead, unless it comes back"),
        UpcomingKind::Located => "workers that have not answered are no longer waited for".to_owned(),
        UpcomingKind::Deadline => "the batch's deadline ends it".to_owned(),
    };
    format!("in {}: {what}", span(upcoming.in_millis))
}

#[cfg(test)]
#[path = "batch_tests.rs"]
mod tests;
