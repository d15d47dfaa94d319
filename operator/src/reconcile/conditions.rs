//! The conditions of a batch, written so that what did not change keeps its time.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// Characters of a condition's message: what the API server takes is far more, but nobody reads it.
const MAX_MESSAGE: usize = 1_024;

/// The conditions as they are being written.
#[derive(Clone, Debug)]
pub(crate) struct Conditions {
    list: Vec<Condition>,
    generation: Option<i64>,
    now: Timestamp,
}

impl Conditions {
    /// Begins with what was written before. `generation` is the one of the spec that the changes are about.
    pub(crate) fn new(before: &[Condition], generation: Option<i64>, now: Timestamp) -> Self {
        Self {
            list: before.to_vec(),
            generation,
            now,
        }
    }

    /// Says that a condition holds, or that it does not, and why.
    pub(crate) fn set(&mut self, kind: &str, holds: bool, reason: &str, message: &str) {
        let status = if holds { "True" } else { "False" };
        let before = self.list.iter().find(|condition| condition.type_ == kind);
        let since = before.filter(|condition| condition.status == status);
        let condition = Condition {
            type_: kind.to_owned(),
            status: status.to_owned(),
            reason: reason.to_owned(),
            message: message.chars().take(MAX_MESSAGE).collect(),
            observed_generation: self.generation,
            last_transition_time: since.map_or(Time(self.now), |before| before.last_transition_time.clone()),
        };
        match self.list.iter_mut().find(|condition| condition.type_ == kind) {
            Some(before) => *before = condition,
            None => self.list.push(condition),
        }
    }

    /// Says that a condition does not hold, if it was ever told; what never was needs no denial.
    pub(crate) fn clear(&mut self, kind: &str, reason: &str, message: &str) {
        if find(&self.list, kind).is_some() {
            self.set(kind, false, reason, message);
        }
    }

    /// The conditions.
    pub(crate) fn into_list(self) -> Vec<Condition> {
        self.list
    }
}

/// The condition of this type.
pub(crate) fn find<'a>(conditions: &'a [Condition], kind: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.type_ == kind)
}

/// Whether the condition of this type holds.
pub(crate) fn holds(conditions: &[Condition], kind: &str) -> bool {
    find(conditions, kind).is_some_and(|condition| condition.status == "True")
}

/// Whether the two tell the same, whatever their counts are: a reason to write at once, not when it is due.
pub(crate) fn same(before: &[Condition], after: &[Condition]) -> bool {
    let told = |list: &[Condition]| -> Vec<_> {
        let mut told: Vec<_> = list
            .iter()
            .map(|condition| {
                (
                    condition.type_.clone(),
                    condition.status.clone(),
                    condition.reason.clone(),
                )
            })
            .collect();
        told.sort();
        told
    };
    told(before) == told(after)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    #[test]
    fn the_time_is_that_of_the_last_change_of_status() {
        let mut first = Conditions::new(&[], Some(1), at(1));
        first.set("Ready", false, "Starting", "");
        let mut second = Conditions::new(&first.into_list(), Some(2), at(2));
        second.set("Ready", false, "NoWorkers", "none");
        let list = second.into_list();
        let ready = find(&list, "Ready").unwrap();
        assert_eq!(
            (ready.last_transition_time.0, ready.observed_generation),
            (at(1), Some(2))
        );
        let mut third = Conditions::new(&list, Some(2), at(3));
        third.set("Ready", true, "Running", "");
        assert_eq!(find(&third.into_list(), "Ready").unwrap().last_transition_time.0, at(3));
    }

    #[test]
    fn what_was_never_told_is_not_denied() {
        let mut conditions = Conditions::new(&[], None, at(1));
        conditions.clear("Suspended", "BatchResumed", "");
        assert!(conditions.clone().into_list().is_empty());
        conditions.set("Suspended", true, "BatchSuspended", "");
        conditions.clear("Suspended", "BatchResumed", "");
        assert!(!holds(&conditions.into_list(), "Suspended"));
    }

    #[test]
    fn a_message_alone_is_no_change() {
        let mut before = Conditions::new(&[], None, at(1));
        before.set("Ready", true, "Running", "one");
        let mut after = before.clone();
        after.set("Ready", true, "Running", "two");
        assert!(same(&before.clone().into_list(), &after.clone().into_list()));
        after.set("Ready", false, "NoWorkers", "");
        assert!(!same(&before.into_list(), &after.into_list()));
    }
}
