//! When a batch is complete before all its tasks are.

use std::ops::RangeInclusive;

use super::Findings;
use crate::batch::SuccessRule;
use crate::limits::MAX_COMPLETIONS;
use crate::problem::FieldPath;
use crate::spec::{HarmonyBatchSpec, SuccessPolicyRule};

impl Findings {
    pub(super) fn success_policy(&mut self, spec: &HarmonyBatchSpec) -> Option<Vec<SuccessRule>> {
        let policy = spec.success_policy.as_ref();
        let rules = policy.map(|policy| policy.rules.as_slice()).unwrap_or_default();
        let path = FieldPath::of(&["spec", "successPolicy", "rules"]);
        let most = spec.completions.unwrap_or(MAX_COMPLETIONS);
        let checked: Vec<_> = rules
            .iter()
            .enumerate()
            .map(|(index, rule)| self.success_rule(&path.entry(index), rule, most))
            .collect();
        checked.into_iter().collect()
    }

    fn success_rule(&mut self, path: &FieldPath, rule: &SuccessPolicyRule, completions: u64) -> Option<SuccessRule> {
        let indexes = match &rule.succeeded_indexes {
            None => Vec::new(),
            Some(text) => match runs(text, completions) {
                Ok(runs) => runs,
                Err(message) => return self.add_at(path.field("succeededIndexes"), message),
            },
        };
        let listed: u64 = indexes.iter().map(|run| run.end() - run.start() + 1).sum();
        let most = if indexes.is_empty() { completions } else { listed };
        match rule.succeeded_count {
            None if indexes.is_empty() => self.add_at(
                path.clone(),
                "found neither succeededIndexes nor succeededCount; give at least one of them",
            ),
            Some(count) if count == 0 || count > most => self.add_at(
                path.field("succeededCount"),
                format!("found {count}, expected 1 to {most}, as many tasks as there are"),
            ),
            count => Some(SuccessRule {
                count: count.unwrap_or(listed),
                indexes,
            }),
        }
    }
}

/// Reads `0,2-5`, in rising order and below `completions`. Neighbours become one run.
fn runs(text: &str, completions: u64) -> Result<Vec<RangeInclusive<u64>>, String> {
    let mut runs: Vec<RangeInclusive<u64>> = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (Some(first), Some(last)) = (number(first), number(last)) else {
            return Err(format!("found {part:?}, expected numbers and ranges such as 0,2-5"));
        };
        let next = runs.last().map_or(0, |run| run.end() + 1);
        if first < next || last < first {
            return Err(format!(
                "found {part:?}, expected rising numbers that are there once, such as 0,2-5"
            ));
        }
        if last >= completions {
            return Err(format!("found {last}, but the numbers end before {completions}"));
        }
        match runs.last_mut().filter(|_| first == next) {
            Some(run) => *run = *run.start()..=last,
            None => runs.push(first..=last),
        }
    }
    Ok(runs)
}

/// Digits alone: `parse` takes a plus sign.
fn number(text: &str) -> Option<u64> {
    text.bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| text.parse().ok())?
}
