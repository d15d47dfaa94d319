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
    /// DASHBOARD: PANEL, LETTER.
    pub place: String,
    /// What is asked.
    pub expr: String,
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
            queries.push(Query {
                place: format!("{title}: {}, {}", text(&panel["title"]), text(&target["refId"])),
                expr: filled(&text(&target["expr"])),
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
        let dashboard = json!({"title": "D", "panels": [{"title": "P", "targets": [{"refId": "A", "expr": expr}]}]});
        let found = of_dashboard(&dashboard, |expr| fill(expr, "n", "b", "15s")).unwrap();
        let query = Query {
            place: "D: P, A".to_owned(),
            expr: "rate(a{job=~\".+\", namespace=~\"n\", batch=~\"b\"}[15s])".to_owned(),
        };
        assert_eq!(found, [query]);
    }
}
