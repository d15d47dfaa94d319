//! What the status of a batch means: how it goes on, and how it ended.

use harmony_api::conditions::{COLLECTOR_READY, COMPLETE, FAILED, PROGRESSING, SUSPENDED, WORKERS_READY, reason};
use harmony_api::spec::HarmonyBatch;
use harmony_api::status::HarmonyBatchStatus;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use crate::display::Snapshot;
use crate::exit::Exit;

/// Characters of a reason beside a progress bar.
const REASON: usize = 100;

/// How a batch ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// The exit code.
    pub(crate) exit: Exit,
    /// The same for people.
    pub(crate) message: String,
}

/// How a batch ended, if it has.
pub(crate) fn verdict(batch: &HarmonyBatch) -> Option<Verdict> {
    let status = batch.status.as_ref()?;
    let counts = status.tasks.unwrap_or_default();
    let left = counts.total.saturating_sub(counts.succeeded + counts.failed);
    let settled = format!("{} succeeded, {} failed", counts.succeeded, counts.failed);
    let early = |reason: &str| format!("{settled}, ended early ({reason}), {left} not settled");
    if let Some(condition) = holding(status, COMPLETE) {
        // What the policy asks for has succeeded, whatever became of the rest.
        let (exit, message) = if condition.reason == reason::SUCCESS_POLICY {
            (Exit::Succeeded, early(reason::SUCCESS_POLICY))
        } else if counts.failed == 0 {
            (Exit::Succeeded, settled)
        } else {
            (Exit::Failed, settled)
        };
        return Some(Verdict { exit, message });
    }
    if let Some(condition) = holding(status, FAILED) {
        let exit = match condition.reason.as_str() {
            reason::TASKS_SOURCE_CHANGED | reason::INVALID_SPEC => Exit::BadInput,
            reason::TASKS_SOURCE_UNAVAILABLE => Exit::Infrastructure,
            _ => Exit::Failed,
        };
        let message = match (exit, left) {
            (Exit::Failed, 0) => settled,
            (Exit::Failed, _) => early(&condition.reason),
            _ => format!("{}: {}", condition.reason, condition.message),
        };
        return Some(Verdict { exit, message });
    }
    // Nothing but another spec mends it.
    let invalid = status
        .conditions
        .iter()
        .filter(|condition| condition.reason == reason::INVALID_SPEC);
    // Others begin with what does not hold because of it.
    let invalid = invalid.max_by_key(|condition| condition.type_ == PROGRESSING)?;
    let current = batch.metadata.generation.is_none() || status.observed_generation >= batch.metadata.generation;
    current.then(|| Verdict {
        exit: Exit::BadInput,
        message: format!("the operator refuses it: {}", invalid.message),
    })
}

/// How far a batch is.
pub(crate) fn snapshot(batch: &HarmonyBatch) -> Snapshot {
    let status = batch.status.clone().unwrap_or_default();
    let counts = status.tasks.unwrap_or_default();
    let total = status.tasks.map(|counts| counts.total).or(batch.spec.completions);
    Snapshot {
        completions: total.unwrap_or_default(),
        succeeded: counts.succeeded,
        failed: counts.failed,
        counted: status.tasks.is_some(),
        rate: status
            .throughput_per_second
            .as_deref()
            .and_then(|rate| rate.parse().ok()),
        hindrance: hindrance(batch.status.as_ref()),
    }
}

/// What keeps a batch from going on, if anything does.
fn hindrance(status: Option<&HarmonyBatchStatus>) -> Option<String> {
    let Some(status) = status.filter(|status| !status.conditions.is_empty()) else {
        return Some("waiting for an operator".to_owned());
    };
    if holding(status, SUSPENDED).is_some() {
        return Some("suspended".to_owned());
    }
    let lacking = |type_: &str| {
        let mut conditions = status.conditions.iter();
        conditions.find(|condition| condition.type_ == type_ && condition.status == "False")
    };
    let workers = lacking(WORKERS_READY).filter(|condition| condition.reason != reason::STARTING || status.ready == 0);
    let (condition, waits) = lacking(COLLECTOR_READY)
        .map(|condition| (condition, "waiting for the collector"))
        .or_else(|| workers.map(|condition| (condition, "waiting for workers")))
        .or_else(|| lacking(PROGRESSING).map(|condition| (condition, "no progress")))?;
    if condition.reason == reason::STARTING {
        return Some(waits.to_owned());
    }
    let message: String = condition.message.split_whitespace().collect::<Vec<_>>().join(" ");
    let message: String = message.chars().take(REASON).collect();
    Some(format!("{waits}: {} {message}", condition.reason).trim_end().to_owned())
}

/// The condition of a type, if it is True.
fn holding<'a>(status: &'a HarmonyBatchStatus, type_: &str) -> Option<&'a Condition> {
    let mut conditions = status.conditions.iter();
    conditions.find(|condition| condition.type_ == type_ && condition.status == "True")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn batch(tasks: &Value, conditions: &[(&str, &str, &str, &str)]) -> HarmonyBatch {
        let condition = |(type_, status, reason, message): &(&str, &str, &str, &str)| {
            json!({"type": type_, "status": status, "reason": reason, "message": message,
                   "lastTransitionTime": "2026-01-02T03:04:05Z"})
        };
        serde_json::from_value(json!({
            "apiVersion": "harmony.dev/v1alpha1", "kind": "HarmonyBatch",
            "metadata": {"name": "b", "generation": 1},
            "spec": {"completions": 10},
            "status": {
                "observedGeneration": 1,
                "tasks": tasks,
                "throughputPerSecond": "9.8",
                "conditions": conditions.iter().map(condition).collect::<Vec<_>>(),
            },
        }))
        .unwrap()
    }

    fn tasks(succeeded: u64, failed: u64) -> Value {
        json!({"total": 10, "pending": 0, "inFlight": 0, "succeeded": succeeded, "failed": failed})
    }

    #[test]
    fn the_end_of_a_batch_has_the_exit_code_that_a_run_has() {
        let cases = [
            (
                tasks(10, 0),
                COMPLETE,
                reason::COMPLETIONS_REACHED,
                Exit::Succeeded,
                "10 succeeded, 0 failed",
            ),
            (
                tasks(6, 0),
                COMPLETE,
                reason::SUCCESS_POLICY,
                Exit::Succeeded,
                "ended early (SuccessPolicy), 4 not settled",
            ),
            (
                tasks(9, 1),
                FAILED,
                reason::FAILED_INDEXES,
                Exit::Failed,
                "9 succeeded, 1 failed",
            ),
            (
                tasks(5, 3),
                FAILED,
                reason::MAX_FAILED_INDEXES_EXCEEDED,
                Exit::Failed,
                "2 not settled",
            ),
            (
                tasks(5, 0),
                FAILED,
                reason::DEADLINE_EXCEEDED,
                Exit::Failed,
                "ended early (DeadlineExceeded)",
            ),
            (
                tasks(5, 0),
                FAILED,
                reason::TASKS_SOURCE_CHANGED,
                Exit::BadInput,
                "TasksSourceChanged: why",
            ),
            (
                tasks(0, 0),
                FAILED,
                reason::TASKS_SOURCE_UNAVAILABLE,
                Exit::Infrastructure,
                "why",
            ),
            (
                tasks(0, 0),
                "Ready",
                reason::INVALID_SPEC,
                Exit::BadInput,
                "the operator refuses it: why",
            ),
        ];
        for (tasks, type_, reason, exit, said) in cases {
            let verdict = verdict(&batch(&tasks, &[(type_, "True", reason, "why")])).unwrap();
            assert_eq!(verdict.exit, exit, "{type_} {reason}");
            assert!(verdict.message.contains(said), "{}", verdict.message);
        }
    }

    #[test]
    fn a_batch_that_runs_has_no_verdict() {
        let conditions = [
            (COMPLETE, "False", "", ""),
            ("SuccessCriteriaMet", "True", reason::COMPLETIONS_REACHED, ""),
        ];
        assert_eq!(verdict(&batch(&tasks(10, 0), &conditions)), None);
        let mut new = batch(&tasks(10, 0), &[]);
        new.status = None;
        assert_eq!(verdict(&new), None);
        assert_eq!(snapshot(&new).hindrance.as_deref(), Some("waiting for an operator"));
        assert_eq!(snapshot(&new).completions, 10);
        assert!(!snapshot(&new).counted);
    }

    #[test]
    fn a_refusal_of_an_older_spec_is_not_the_last_word() {
        let mut batch = batch(&tasks(0, 0), &[("Ready", "False", reason::INVALID_SPEC, "why")]);
        batch.metadata.generation = Some(2);
        assert_eq!(verdict(&batch), None);
    }

    #[test]
    fn a_refusal_is_told_without_what_follows_from_it() {
        let conditions = [
            (
                WORKERS_READY,
                "False",
                reason::INVALID_SPEC,
                "0 of 1 workers are ready; why",
            ),
            (PROGRESSING, "False", reason::INVALID_SPEC, "why"),
            ("Ready", "False", reason::INVALID_SPEC, ""),
        ];
        let verdict = verdict(&batch(&tasks(0, 0), &conditions)).unwrap();
        assert_eq!(verdict.message, "the operator refuses it: why");
    }

    #[test]
    fn what_hinders_a_batch_is_named() {
        let said = |conditions: &[(&str, &str, &str, &str)]| snapshot(&batch(&tasks(1, 0), conditions)).hindrance;
        let ok = (COLLECTOR_READY, "True", reason::RUNNING, "");
        assert_eq!(said(&[ok]), None);
        assert_eq!(
            said(&[ok, (SUSPENDED, "True", "BatchSuspended", "")]).unwrap(),
            "suspended"
        );
        let starting = (WORKERS_READY, "False", reason::STARTING, "");
        assert_eq!(said(&[ok, starting]).unwrap(), "waiting for workers");
        let image = (WORKERS_READY, "False", reason::IMAGE_PULL_FAILED, "no such\n image");
        assert_eq!(
            said(&[ok, image]).unwrap(),
            "waiting for workers: ImagePullFailed no such image"
        );
        let collector = (COLLECTOR_READY, "False", reason::STARTING, "");
        assert_eq!(said(&[image, collector]).unwrap(), "waiting for the collector");
    }

    #[test]
    fn the_rate_is_the_operators() {
        assert_eq!(snapshot(&batch(&tasks(1, 0), &[])).rate, Some(9.8));
    }
}
