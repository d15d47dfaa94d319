//! What becomes an event: transitions only, in Job's words where the meaning is Job's.

use harmony_api::conditions::{
    COLLECTOR_READY, COMPLETE, FAILED, PROGRESSING, RESULTS_AVAILABLE, SUSPENDED, WORKERS_READY, reason,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::runtime::events::{Event, EventType};

use super::conditions::find;

/// Bytes of an event's note: the API server's limit is 1,024.
const MAX_NOTE: usize = 1_000;

/// An event about a batch.
pub(crate) fn event(type_: EventType, reason: &str, action: &str, note: &str) -> Event {
    let mut end = note.len().min(MAX_NOTE);
    while !note.is_char_boundary(end) {
        end -= 1;
    }
    Event {
        type_,
        reason: reason.to_owned(),
        note: note.get(..end).map(str::to_owned),
        action: action.to_owned(),
        secondary: None,
    }
}

/// The events that tell how the conditions changed.
pub(crate) fn of_conditions(before: &[Condition], after: &[Condition]) -> Vec<Event> {
    let mut events: Vec<Event> = Vec::new();
    for condition in after {
        let old = find(before, &condition.type_);
        let changed = old.is_none_or(|old| (&old.status, &old.reason) != (&condition.status, &condition.reason));
        let told = changed.then(|| of_condition(condition, old.is_some())).flatten();
        // One trouble may keep several conditions from holding.
        events.extend(told.filter(|event| events.iter().all(|told| told.reason != event.reason)));
    }
    events
}

fn of_condition(condition: &Condition, was_told: bool) -> Option<Event> {
    let holds = condition.status == "True";
    let (type_, reason) = match (condition.type_.as_str(), holds) {
        (COMPLETE, true) => (EventType::Normal, "Completed"),
        (SUSPENDED, true) => (EventType::Normal, "Suspended"),
        (SUSPENDED, false) if was_told => (EventType::Normal, "Resumed"),
        (FAILED, true) => (EventType::Warning, condition.reason.as_str()),
        (PROGRESSING | WORKERS_READY | COLLECTOR_READY | RESULTS_AVAILABLE, false)
            if !reason::BENIGN.contains(&condition.reason.as_str()) =>
        {
            (EventType::Warning, condition.reason.as_str())
        }
        _ => return None,
    };
    Some(event(type_, reason, "Reconcile", &condition.message))
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::super::conditions::Conditions;
    use super::*;

    fn conditions(told: &[(&str, bool, &str)]) -> Vec<Condition> {
        let mut conditions = Conditions::new(&[], None, Timestamp::UNIX_EPOCH);
        for (kind, holds, reason) in told {
            conditions.set(kind, *holds, reason, "because");
        }
        conditions.into_list()
    }

    fn told(before: &[(&str, bool, &str)], after: &[(&str, bool, &str)]) -> Vec<(EventType, String)> {
        let events = of_conditions(&conditions(before), &conditions(after));
        events.into_iter().map(|event| (event.type_, event.reason)).collect()
    }

    #[test]
    fn what_did_not_change_is_not_told_again() {
        let trouble = [(PROGRESSING, false, reason::PODS_REFUSED)];
        assert_eq!(told(&trouble, &trouble), []);
        assert_eq!(
            told(&[], &trouble),
            [(EventType::Warning, reason::PODS_REFUSED.to_owned())]
        );
    }

    #[test]
    fn one_trouble_is_one_event() {
        let after = [
            (PROGRESSING, false, reason::IMAGE_PULL_FAILED),
            (WORKERS_READY, false, reason::IMAGE_PULL_FAILED),
        ];
        assert_eq!(told(&[], &after).len(), 1);
    }

    #[test]
    fn starting_is_no_trouble() {
        let after = [
            (WORKERS_READY, false, reason::STARTING),
            (PROGRESSING, false, reason::SUSPENDED),
        ];
        assert_eq!(told(&[], &after), []);
    }

    #[test]
    fn suspension_and_the_end_are_told_in_jobs_words() {
        let (on, off) = (
            [(SUSPENDED, true, reason::SUSPENDED)],
            [(SUSPENDED, false, reason::RESUMED)],
        );
        assert_eq!(told(&[], &on), [(EventType::Normal, "Suspended".to_owned())]);
        assert_eq!(told(&on, &off), [(EventType::Normal, "Resumed".to_owned())]);
        let complete = [(COMPLETE, true, reason::COMPLETIONS_REACHED)];
        assert_eq!(told(&[], &complete), [(EventType::Normal, "Completed".to_owned())]);
        let failed = [(FAILED, true, reason::DEADLINE_EXCEEDED)];
        assert_eq!(
            told(&[], &failed),
            [(EventType::Warning, reason::DEADLINE_EXCEEDED.to_owned())]
        );
    }

    #[test]
    fn a_note_fits_and_is_not_cut_within_a_character() {
        let note = event(EventType::Normal, "r", "a", &"ü".repeat(1_000)).note.unwrap();
        assert_eq!(note.len(), MAX_NOTE);
    }
}
