//! The success policy: when a batch has succeeded before all of it is settled.

use crate::set::NumberSet;
use crate::wire::Span;

/// The batch ends early, as a success, once any rule is met. A Job's `successPolicy`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SuccessPolicy {
    /// In order; one is enough.
    pub rules: Vec<SuccessRule>,
}

/// One rule: at least one of the two is given.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SuccessRule {
    /// These numbers must have succeeded: all of them, or `count` of them if that is given too.
    pub indexes: Option<NumberSet>,
    /// So many numbers must have succeeded, of `indexes` if those are given.
    pub count: Option<u64>,
}

/// How far each rule is.
#[derive(Clone, Debug, Default)]
pub(super) struct Success {
    rules: Vec<Standing>,
}

#[derive(Clone, Debug)]
struct Standing {
    rule: SuccessRule,
    /// Of the rule's numbers those that have not succeeded.
    open: NumberSet,
}

impl Success {
    pub(super) fn new(policy: Option<SuccessPolicy>) -> Self {
        let rules = policy.into_iter().flat_map(|policy| policy.rules);
        let standing = |rule: SuccessRule| Standing {
            open: rule.indexes.clone().unwrap_or_default(),
            rule,
        };
        Self {
            rules: rules.map(standing).collect(),
        }
    }

    /// Begins anew: nothing is known to have succeeded.
    pub(super) fn clear(&mut self) {
        for standing in &mut self.rules {
            standing.open = standing.rule.indexes.clone().unwrap_or_default();
        }
    }

    pub(super) fn succeeded(&mut self, (first, last): Span) {
        for standing in &mut self.rules {
            standing.open.remove_span(first, last);
        }
    }

    /// A number is missing again.
    pub(super) fn missing(&mut self, number: u64) {
        for standing in &mut self.rules {
            if standing.rule.indexes.as_ref().is_some_and(|set| set.contains(number)) {
                standing.open.insert(number);
            }
        }
    }

    /// Whether any rule is met, with so many successes in all.
    pub(super) fn is_met(&self, total: u64) -> bool {
        self.rules.iter().any(|standing| match &standing.rule {
            SuccessRule {
                indexes: Some(set),
                count,
            } => {
                let met = set.len() - standing.open.len();
                met >= count.unwrap_or(set.len())
            }
            SuccessRule { indexes: None, count } => count.is_some_and(|count| total >= count),
        })
    }
}
