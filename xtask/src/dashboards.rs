//! The chart's dashboards for Grafana: they hold the rules of Grafana's own dashboard-linter, and show only metrics that
//! are documented. Whether their queries have data, a test on a cluster sees.

mod model;
mod promql;
mod rules;

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};

use self::model::Dashboard;
use crate::context::Context;
use crate::gates::{files_below, none_of, read, seen};
use crate::step::Outcome;

const DASHBOARDS: &str = "charts/harmony/files/dashboards";
/// Each metric has a row there.
const METRICS: &str = "docs/metrics.md";

/// Reads all dashboards, and fails with what is wrong about them.
pub(crate) fn check(context: &Context) -> Result<Outcome> {
    let metrics = read(&context.root.join(METRICS))?;
    let (mut findings, mut uids, mut panels) = (Vec::new(), BTreeSet::new(), 0);
    let files = files_below(&context.root.join(DASHBOARDS), "json")?;
    for file in &files {
        let path = seen(&context.root, file);
        let dashboard: Dashboard = serde_json::from_str(&read(file)?).with_context(|| path.to_string())?;
        let found = rules::findings(&dashboard).into_iter();
        findings.extend(found.map(|finding| format!("{path}: {finding}")));
        for metric in rules::metrics(&dashboard) {
            if !is_documented(&metrics, &metric) {
                findings.push(format!("{path}: {metric} is not in {METRICS}"));
            }
        }
        panels += dashboard.panels.len();
        if !uids.insert(dashboard.uid.clone()) {
            findings.push(format!("{path}: another dashboard has the uid {}", dashboard.uid));
        }
    }
    none_of("dashboards are not as they should be", &findings)?;
    Ok(Outcome::Passed(format!("{} dashboards, {panels} panels", files.len())))
}

/// Histograms have one row for their three series.
fn is_documented(metrics: &str, metric: &str) -> bool {
    let base = ["_bucket", "_count", "_sum"]
        .iter()
        .find_map(|suffix| metric.strip_suffix(suffix))
        .unwrap_or(metric);
    [metric, base]
        .iter()
        .any(|name| metrics.contains(&format!("`{name}`")) || metrics.contains(&format!("`{name}{{")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_documented_by_its_row() {
        let text = "| `a_seconds` | histogram |\n| `b_total{result}` | counter |\n";
        for metric in ["a_seconds_bucket", "a_seconds_count", "a_seconds", "b_total"] {
            assert!(is_documented(text, metric), "{metric}");
        }
        for metric in ["a", "b", "c_total", "b_total_bucket_"] {
            assert!(!is_documented(text, metric), "{metric}");
        }
    }
}
