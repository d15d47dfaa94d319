//! The dashboards as they come into the cluster, and what their panels ask.

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Client;
use kube::api::{Api, ListParams};
use serde_json::Value;

use crate::operator::OPERATOR_NAMESPACE;

/// By which Grafana's sidecar finds them.
const LABEL: &str = "grafana_dashboard=1";

/// One query of a panel, with all variables filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// The title of the dashboard.
    pub dashboard: String,
    /// The title of the panel, which draws all of its queries together.
    pub panel: String,
    /// What is asked.
    pub expr: String,
    /// What a line is called, with labels in two pairs of braces.
    pub legend: String,
    /// Grafana's name of the unit.
    pub unit: String,
    /// Values are drawn one on top of the other.
    pub is_stacked: bool,
}

/// The queries of all dashboards in the cluster, for one batch. `range` is what a rate is taken over.
pub async fn queries(client: &Client, namespace: &str, batch: &str, range: &str) -> Result<Vec<Query>> {
    let maps = Api::<ConfigMap>::namespaced(client.clone(), OPERATOR_NAMESPACE);
    let mut queries = Vec::new();
    for map in maps.list(&ListParams::default().labels(LABEL)).await? {
        for text in map.data.into_iter().flatten().map(|(_, text)| text) {
            let dashboard: Value = serde_json::from_str(&text)?;
            let filled = |expr: &str| fill(expr, namespace, batch, range);
            queries.extend(of_dashboard(&dashboard, filled)?);
        }
    }
    ensure!(!queries.is_empty(), "there are no dashboards");
    Ok(queries)
}

fn fill(expr: &str, namespace: &str, batch: &str, range: &str) -> String {
    expr.replace("$__rate_interval", range)
        .replace("$__range", "10m")
        .replace("$job", ".+")
        .replace("$namespace", namespace)
        .replace("$batch", batch)
}

fn of_dashboard(dashboard: &Value, filled: impl Fn(&str) -> String) -> Result<Vec<Query>> {
    let title = dashboard["title"].as_str().context("a dashboard has no title")?;
    let mut queries = Vec::new();
    for panel in dashboard["panels"].as_array().into_iter().flatten() {
        for target in panel["targets"].as_array().into_iter().flatten() {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let defaults = &panel["fieldConfig"]["defaults"];
            queries.push(Query {
                dashboard: title.to_owned(),
                panel: text(&panel["title"]),
                expr: filled(&text(&target["expr"])),
                legend: text(&target["legendFormat"]),
                unit: text(&defaults["unit"]),
                is_stacked: defaults["custom"]["stacking"]["mode"] == "normal",
            });
        }
    }
    Ok(queries)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn variables_are_filled_in() {
        let expr = "rate(a{job=~\"$job\", namespace=~\"$namespace\", batch=~\"$batch\"}[$__rate_interval])";
        let target = json!({"expr": expr, "legendFormat": "{{x}}"});
        let defaults = json!({"unit": "s", "custom": {"stacking": {"mode": "normal"}}});
        let panel = json!({"title": "P", "targets": [target], "fieldConfig": {"defaults": defaults}});
        let dashboard = json!({"title": "D", "panels": [panel]});
        let found = of_dashboard(&dashboard, |expr| fill(expr, "n", "b", "15s")).unwrap();
        let query = Query {
            dashboard: "D".to_owned(),
            panel: "P".to_owned(),
            expr: "rate(a{job=~\".+\", namespace=~\"n\", batch=~\"b\"}[15s])".to_owned(),
            legend: "{{x}}".to_owned(),
            unit: "s".to_owned(),
            is_stacked: true,
        };
        assert_eq!(found, [query]);
    }
}
