//! The chart's rules for Prometheus: they do what their tests say, and each alert has a page.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context as _, Result};
use serde::Deserialize;

use crate::context::{Context, succeed, works};
use crate::gates::none_of;
use crate::step::Outcome;

const RULES: &str = "charts/harmony/files/rules/harmony.yaml";
const TESTS: &str = "charts/harmony/ci/rules-test.yaml";
/// A page for each alert, and one that lists them.
const RUNBOOKS: &str = "docs/runbooks";
const INDEX: &str = "README";

/// Runs the rules' tests, and compares the alerts with those that are tested and those that have a page.
pub(crate) fn check(context: &Context) -> Result<Outcome> {
    let read =
        |path: &str| fs::read_to_string(context.root.join(path)).with_context(|| format!("{path} cannot be read"));
    let alerts = alerts(&read(RULES)?)?;
    none_of(
        "these alerts have no page, or pages no alert",
        &differing(&alerts, &pages(context)?),
    )?;
    none_of(
        "these alerts have no test",
        &differing(&alerts, &tested(&read(TESTS)?, &alerts)),
    )?;
    if !works(context.command("promtool").arg("--version")) {
        return Ok(Outcome::Skipped(
            "promtool is missing: --install installs it, as root".to_owned(),
        ));
    }
    succeed(context.command("promtool").args(["check", "rules", RULES]))?;
    succeed(context.command("promtool").args(["test", "rules", TESTS]))?;
    Ok(Outcome::Passed(format!("{} alerts", alerts.len())))
}

fn alerts(rules: &str) -> Result<BTreeSet<String>> {
    #[derive(Deserialize)]
    struct Rules {
        groups: Vec<Group>,
    }
    #[derive(Deserialize)]
    struct Group {
        rules: Vec<Rule>,
    }
    #[derive(Deserialize)]
    struct Rule {
        /// Recording rules have none.
        alert: Option<String>,
    }
    let rules: Rules = serde_saphyr::from_str(rules).context(RULES)?;
    let rules = rules.groups.into_iter().flat_map(|group| group.rules);
    Ok(rules.filter_map(|rule| rule.alert).collect())
}

fn pages(context: &Context) -> Result<BTreeSet<String>> {
    let entries = fs::read_dir(context.root.join(RUNBOOKS)).with_context(|| format!("{RUNBOOKS} cannot be read"))?;
    let mut names = BTreeSet::new();
    for entry in entries {
        let name = entry?.file_name().to_string_lossy().into_owned();
        names.extend(
            name.strip_suffix(".md")
                .filter(|name| *name != INDEX)
                .map(str::to_owned),
        );
    }
    Ok(names)
}

/// Those that a test sees both silent and firing. The first test is of a cluster in which all are silent.
fn tested(tests: &str, alerts: &BTreeSet<String>) -> BTreeSet<String> {
    let fires = |alert: &str| tests.contains(&format!("alertname: {alert}\n"));
    let is_silent = |alert: &str| tests.contains(&format!("alertname: {alert}, "));
    let both = alerts.iter().filter(|alert| fires(alert) && is_silent(alert));
    both.cloned().collect()
}

fn differing(these: &BTreeSet<String>, those: &BTreeSet<String>) -> Vec<String> {
    these.symmetric_difference(those).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn alerts_are_told_from_recording_rules() {
        let rules = "groups: [{rules: [{record: r, expr: x}, {alert: B, expr: x}]}, {rules: [{alert: A, expr: x}]}]";
        assert_eq!(alerts(rules).unwrap(), names(&["A", "B"]));
    }

    #[test]
    fn an_alert_is_tested_that_is_seen_silent_and_firing() {
        let tests = "- {alertname: A, eval_time: 1m}\n- {alertname: B, eval_time: 1m}\n- alertname: A\n  eval_time: 2m\n- alertname: C\n";
        assert_eq!(tested(tests, &names(&["A", "B", "C"])), names(&["A"]));
        assert_eq!(differing(&names(&["A", "B"]), &names(&["A", "C"])), ["B", "C"]);
    }
}
