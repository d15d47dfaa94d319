//! The success policy of a batch, as the machine wants it.

use harmony_api::SuccessRule as Written;
use harmony_protocol::set::NumberSet;
use harmony_protocol::ventilator::{SuccessPolicy, SuccessRule};

/// The policy of these rules; none, if there are no rules.
pub fn success_policy(rules: &[Written]) -> Option<SuccessPolicy> {
    let rules = rules.iter().map(|rule| {
        let mut indexes = NumberSet::new();
        for run in &rule.indexes {
            indexes.insert_span(*run.start(), *run.end());
        }
        SuccessRule {
            indexes: (!rule.indexes.is_empty()).then_some(indexes),
            count: Some(rule.count),
        }
    });
    let rules: Vec<_> = rules.collect();
    (!rules.is_empty()).then_some(SuccessPolicy { rules })
}
