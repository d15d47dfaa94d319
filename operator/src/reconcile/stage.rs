//! Where a batch stands, and how it ends.

use harmony_api::conditions::{COMPLETE, FAILED, FAILURE_TARGET, SUCCESS_CRITERIA_MET, reason};
use harmony_protocol::wire::{Done, Ending};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::conditions::{find, holds};

/// How a batch ended, or is about to end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// Complete, or failed.
    pub(crate) complete: bool,
    /// Why, for programs.
    pub(crate) reason: String,
    /// Why, for people.
    pub(crate) message: String,
}

/// Where a batch stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Tasks are to run.
    Active,
    /// The workers are to be stopped.
    Suspended,
    /// It is decided how the batch ends; its workers are being deleted.
    Ending(Verdict),
    /// Over.
    Finished(Verdict),
}

impl Stage {
    /// Reads the stage from what the status says, so that every leader sees the same one.
    pub(crate) fn of(conditions: &[Condition], suspend: bool) -> Self {
        let verdict = |kind: &str, complete| {
            let condition = find(conditions, kind).filter(|_| holds(conditions, kind))?;
            Some(Verdict {
                complete,
                reason: condition.reason.clone(),
                message: condition.message.clone(),
            })
        };
        if let Some(verdict) = verdict(COMPLETE, true).or_else(|| verdict(FAILED, false)) {
            return Self::Finished(verdict);
        }
        match verdict(SUCCESS_CRITERIA_MET, true).or_else(|| verdict(FAILURE_TARGET, false)) {
            Some(verdict) => Self::Ending(verdict),
            None if suspend => Self::Suspended,
            None => Self::Active,
        }
    }
}

/// What the collector's DONE means for a batch of so many tasks.
pub(crate) fn verdict(done: &Done, completions: u64) -> Verdict {
    let (succeeded, failed) = (done.counts.succeeded, done.counts.failed);
    let left = completions.saturating_sub(succeeded + failed);
    let counts = format!("{succeeded} succeeded, {failed} failed, {left} not settled");
    let (complete, reason) = match &done.ending {
        Ending::Complete if failed == 0 => (true, reason::COMPLETIONS_REACHED.to_owned()),
        Ending::Complete => (false, reason::FAILED_INDEXES.to_owned()),
        Ending::Cancelled(why) => (why == reason::SUCCESS_POLICY, camel_case(why)),
    };
    Verdict {
        complete,
        reason,
        message: counts,
    }
}

/// A reason as the API server takes it; whoever cancelled may have said something else.
fn camel_case(why: &str) -> String {
    let valid = why.starts_with(|first: char| first.is_ascii_alphabetic())
        && why.len() <= 128
        && why.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if valid { why.to_owned() } else { "Cancelled".to_owned() }
}

#[cfg(test)]
mod tests {
    use harmony_protocol::wire::Counts;
    use jiff::Timestamp;

    use super::super::conditions::Conditions;
    use super::*;

    fn done(ending: Ending, succeeded: u64, failed: u64) -> Done {
        Done {
            ending,
            counts: Counts {
                succeeded,
                failed,
                ..Counts::default()
            },
            digest: 0,
        }
    }

    #[test]
    fn a_batch_is_complete_only_when_all_succeeded_or_its_policy_says_so() {
        let judged = |ending, succeeded, failed| {
            let verdict = verdict(&done(ending, succeeded, failed), 10);
            (verdict.complete, verdict.reason)
        };
        let cancelled = |why: &str| Ending::Cancelled(why.to_owned());
        assert_eq!(judged(Ending::Complete, 10, 0), (true, "CompletionsReached".into()));
        assert_eq!(judged(Ending::Complete, 9, 1), (false, "FailedIndexes".into()));
        assert_eq!(judged(cancelled("SuccessPolicy"), 3, 0), (true, "SuccessPolicy".into()));
        assert_eq!(
            judged(cancelled("DeadlineExceeded"), 3, 0),
            (false, "DeadlineExceeded".into())
        );
        assert_eq!(judged(cancelled("no more money"), 3, 0), (false, "Cancelled".into()));
    }

    #[test]
    fn what_is_not_settled_is_counted() {
        let verdict = verdict(&done(Ending::Cancelled("SuccessPolicy".into()), 3, 1), 10);
        assert_eq!(verdict.message, "3 succeeded, 1 failed, 6 not settled");
    }

    #[test]
    fn the_end_is_final_and_goes_before_suspension() {
        let conditions = |kind| {
            let mut conditions = Conditions::new(&[], None, Timestamp::UNIX_EPOCH);
            conditions.set(kind, true, "DeadlineExceeded", "late");
            conditions.into_list()
        };
        let late = Verdict {
            complete: false,
            reason: "DeadlineExceeded".into(),
            message: "late".into(),
        };
        assert_eq!(
            Stage::of(&conditions(FAILURE_TARGET), true),
            Stage::Ending(late.clone())
        );
        assert_eq!(Stage::of(&conditions(FAILED), true), Stage::Finished(late));
        assert_eq!(Stage::of(&[], true), Stage::Suspended);
        assert_eq!(Stage::of(&[], false), Stage::Active);
    }
}
