//! What failed worker pods mean for their batch: pure, and each pod once.
//!
//! The numbers are in the batch's status, with the uids of the pods that are in them and not gone yet. A pod is deleted
//! only after a status was written that has its uid ([`may_go`]), so no operator that dies in between loses or doubles it.

use std::collections::BTreeSet;

use harmony_api::conditions::reason;
use harmony_api::spec::{ExitCodeOperatorSpec, OnExitCodesSpec, PodFailureActionSpec};
use harmony_api::status::{MAX_JUDGED, MAX_POD_FAILURE, PodFailures};
use harmony_api::{PodFailureMatch, PodFailureRule};

use super::{End, EndReason, Exit, WorkerPod};

/// A pod that was judged just now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judged {
    /// Its name.
    pub pod: String,
    /// Why it ended.
    pub reason: EndReason,
    /// Pod, node, container, exit code and rule, for people.
    pub told: String,
}

/// Counts the pods that failed and are not in the numbers yet, and forgets the uids of those that are gone.
pub fn judge(rules: &[PodFailureRule], pods: &[WorkerPod], failures: &mut PodFailures) -> Vec<Judged> {
    let there: BTreeSet<&str> = pods.iter().map(|pod| pod.uid.as_str()).collect();
    failures.judged.retain(|uid| there.contains(uid.as_str()));
    let mut news = Vec::new();
    for pod in pods {
        let Some(end) = failure(pod) else { continue };
        if failures.judged.len() < MAX_JUDGED && !failures.judged.contains(&pod.uid) {
            failures.judged.push(pod.uid.clone());
            news.push(judge_one(rules, pod, end, failures));
        }
    }
    news
}

/// Whether a pod may be deleted: it did not fail, or what is written has it.
pub fn may_go(pod: &WorkerPod, written: Option<&PodFailures>) -> bool {
    failure(pod).is_none() || written.is_some_and(|written| written.judged.contains(&pod.uid))
}

/// Why the batch fails by its pods, for programs and for people.
pub fn verdict(limit: Option<u32>, failures: &PodFailures) -> Option<(&'static str, String)> {
    let last = failures.last.as_deref().unwrap_or_default();
    if failures.fatal {
        return Some((reason::POD_FAILURE_POLICY, last.to_owned()));
    }
    let limit = limit.filter(|limit| failures.counted > *limit)?;
    let message = format!(
        "{} worker pods failed, and backoffLimit is {limit}; the last one: {last}",
        failures.counted
    );
    Some((reason::BACKOFF_LIMIT_EXCEEDED, message))
}

/// How a pod failed. What ended well has not, nor what somebody told to end.
fn failure(pod: &WorkerPod) -> Option<&End> {
    let end = pod.ended.as_ref()?;
    (!matches!(end.reason, EndReason::Completed | EndReason::Deleted)).then_some(end)
}

fn judge_one(rules: &[PodFailureRule], pod: &WorkerPod, end: &End, failures: &mut PodFailures) -> Judged {
    let found = rules.iter().enumerate().find(|(_, rule)| fits(&rule.on, end));
    // Disruptions are nobody's failure, unless a rule says so.
    let default = if end.reason.is_from_outside() {
        PodFailureActionSpec::Ignore
    } else {
        PodFailureActionSpec::Count
    };
    let action = found.map_or(default, |(_, rule)| rule.action);
    let mut told = told(pod, end, found);
    told.truncate(told.floor_char_boundary(MAX_POD_FAILURE));
    let of_reason = failures.reasons.entry(end.reason.name().to_owned()).or_default();
    *of_reason = of_reason.saturating_add(1);
    // What failed the batch stays the last word.
    if action != PodFailureActionSpec::Ignore && !failures.fatal {
        failures.last = Some(told.clone());
        failures.fatal = action == PodFailureActionSpec::FailBatch;
    }
    if action == PodFailureActionSpec::Count {
        failures.counted = failures.counted.saturating_add(1);
    }
    Judged {
        pod: pod.name.clone(),
        reason: end.reason,
        told,
    }
}

fn fits(on: &PodFailureMatch, end: &End) -> bool {
    match on {
        PodFailureMatch::ExitCodes(codes) => exit_that_fits(codes, end).is_some(),
        PodFailureMatch::Conditions(wanted) => wanted.iter().any(|wanted| {
            let mut there = end.conditions.iter();
            there.any(|(type_, status)| *type_ == wanted.type_ && *status == wanted.status.as_str())
        }),
    }
}

/// The container whose exit code fits. Where the end came from outside the exit codes say nothing.
fn exit_that_fits<'a>(codes: &OnExitCodesSpec, end: &'a End) -> Option<&'a Exit> {
    let mut exits = end.exits.iter().filter(|_| !end.reason.is_from_outside());
    exits.find(|exit| has_code(codes, exit))
}

fn has_code(codes: &OnExitCodesSpec, exit: &Exit) -> bool {
    let named = codes.container_name.as_ref().is_none_or(|name| *name == exit.container);
    let listed = codes.values.contains(&exit.code);
    named && exit.code != 0 && listed == (codes.operator == ExitCodeOperatorSpec::In)
}

/// Pod, node, container, exit code and rule.
fn told(pod: &WorkerPod, end: &End, rule: Option<(usize, &PodFailureRule)>) -> String {
    let by_code = rule.and_then(|(_, rule)| match &rule.on {
        PodFailureMatch::ExitCodes(codes) => exit_that_fits(codes, end),
        PodFailureMatch::Conditions(_) => None,
    });
    let exit = by_code.or(end.exits.first());
    let exit = exit.map(|exit| format!(", container {}, exit code {}", exit.container, exit.code));
    let rule = rule.map(|(index, rule)| format!("; rule {index} of podFailurePolicy says {:?}", rule.action));
    let said = if end.message.is_empty() {
        String::new()
    } else {
        format!(" ({})", end.message)
    };
    let node = pod.node.as_deref().unwrap_or("no node");
    format!(
        "pod {} on {node} ended: {}{}{said}{}",
        pod.name,
        end.reason.name(),
        exit.unwrap_or_default(),
        rule.unwrap_or_default()
    )
}
