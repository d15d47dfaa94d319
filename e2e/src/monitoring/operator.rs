//! The part of the Prometheus operator that matters here: its definitions, which the API server judges monitors and rules
//! by, and what it makes of them for Prometheus.

use std::env;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::kubectl::kubectl;

/// The variable that names the folder of the operator's module; `cargo xtask e2e` sets it.
const MODULE: &str = "HARMONY_PROMETHEUS_OPERATOR";
const DEFINITIONS: [&str; 2] = ["podmonitors", "prometheusrules"];
/// Between two looks at a target. Tests have no half minute to wait.
const INTERVAL: &str = "1s";

/// Lets the cluster know the kinds of the Prometheus operator.
pub async fn install_monitoring() -> Result<()> {
    for file in definitions()? {
        kubectl(&["apply", "--server-side", "--filename", &file]).await?;
        kubectl(&[
            "wait",
            "--for=condition=Established",
            "--timeout=60s",
            "--filename",
            &file,
        ])
        .await?;
    }
    Ok(())
}

/// Takes them away, with all objects.
pub async fn uninstall_monitoring() -> Result<()> {
    for file in definitions()? {
        kubectl(&["delete", "--ignore-not-found", "--timeout=60s", "--filename", &file]).await?;
    }
    Ok(())
}

fn definitions() -> Result<Vec<String>> {
    let folder = env::var_os(MODULE).map(PathBuf::from);
    let folder = folder.with_context(|| format!("{MODULE} is not set; `cargo xtask e2e` does it"))?;
    let path = |kind| {
        folder.join(format!(
            "example/prometheus-operator-crd/monitoring.coreos.com_{kind}.yaml"
        ))
    };
    Ok(DEFINITIONS.map(|kind| path(kind).display().to_string()).into())
}

/// As much of a `PodMonitor` as Harmony's says; any other field is refused, since nothing here would do what it asks for.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Monitor {
    selector: Selector,
    namespace_selector: Namespaces,
    pod_metrics_endpoints: Vec<Endpoint>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Selector {
    match_expressions: Vec<Expression>,
}

#[derive(Deserialize)]
struct Expression {
    key: String,
    operator: String,
    values: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Namespaces {
    #[serde(default)]
    any: bool,
    #[serde(default)]
    match_names: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Endpoint {
    port: String,
    #[serde(rename = "interval")]
    _interval: String,
    honor_labels: bool,
    #[serde(default)]
    relabelings: Vec<Relabeling>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Relabeling {
    source_labels: Vec<String>,
    target_label: String,
    action: String,
}

/// The configuration that a Prometheus gets by these pod monitors. It finds pods by the API server at this address, and asks
/// them through it: a test need not reach pods itself.
pub fn configuration(monitors: &[Value], api_server: &str) -> Result<Value> {
    let jobs: Result<Vec<Value>> = monitors.iter().map(|monitor| job(monitor, api_server)).collect();
    Ok(json!({
        "global": {"scrape_interval": INTERVAL, "scrape_timeout": INTERVAL, "evaluation_interval": INTERVAL},
        "rule_files": ["rules.yaml"],
        "scrape_configs": jobs?,
    }))
}

fn job(monitor: &Value, api_server: &str) -> Result<Value> {
    let spec: Monitor = serde_json::from_value(monitor["spec"].clone()).context("a PodMonitor")?;
    let [endpoint] = spec.pod_metrics_endpoints.as_slice() else {
        anyhow::bail!("not one endpoint");
    };
    let text = |path: &str| monitor.pointer(path).and_then(Value::as_str).unwrap_or_default();
    let name = format!("{}/{}", text("/metadata/namespace"), text("/metadata/name"));
    let mut found = json!({"role": "pod", "api_server": api_server});
    if !spec.namespace_selector.any {
        found["namespaces"] = json!({"names": spec.namespace_selector.match_names});
    }
    let host = api_server
        .strip_prefix("http://")
        .context("the address is not of http")?;
    let mut relabelings = Vec::new();
    for expression in &spec.selector.match_expressions {
        anyhow::ensure!(expression.operator == "In", "{} is not understood", expression.operator);
        let label = format!("__meta_kubernetes_pod_label_{}", as_label(&expression.key));
        relabelings.push(keep(&label, &expression.values.join("|")));
    }
    relabelings.push(keep("__meta_kubernetes_pod_container_port_name", &endpoint.port));
    relabelings.push(keep("__meta_kubernetes_pod_phase", "Pending|Running|Unknown"));
    for label in ["namespace", "pod_name", "pod_container_name"] {
        let target = label.trim_start_matches("pod_").trim_end_matches("_name");
        let target = if label == "pod_name" { "pod" } else { target };
        relabelings.push(copy(&[format!("__meta_kubernetes_{label}")], target));
    }
    relabelings.push(json!({"target_label": "job", "replacement": name}));
    relabelings.push(json!({"target_label": "endpoint", "replacement": endpoint.port}));
    for relabeling in &endpoint.relabelings {
        anyhow::ensure!(
            relabeling.action == "replace",
            "{} is not understood",
            relabeling.action
        );
        relabelings.push(copy(&relabeling.source_labels, &relabeling.target_label));
    }
    relabelings.extend(by_the_api_server(host));
    Ok(json!({
        "job_name": name,
        "honor_labels": endpoint.honor_labels,
        "kubernetes_sd_configs": [found],
        "relabel_configs": relabelings,
    }))
}

/// As Prometheus writes a Kubernetes label's name.
fn as_label(key: &str) -> String {
    key.replace(|one: char| !one.is_ascii_alphanumeric(), "_")
}

fn keep(label: &str, values: &str) -> Value {
    json!({"action": "keep", "source_labels": [label], "regex": values})
}

fn copy(from: &[String], to: &str) -> Value {
    json!({"source_labels": from, "target_label": to})
}

/// The way to a pod, and nothing of what is told about it.
fn by_the_api_server(host: &str) -> [Value; 3] {
    let place = [
        "__meta_kubernetes_namespace",
        "__meta_kubernetes_pod_name",
        "__meta_kubernetes_pod_container_port_number",
    ];
    [
        json!({"source_labels": ["__address__"], "target_label": "instance"}),
        json!({"source_labels": place, "separator": "/", "regex": "(.+)/(.+)/(.+)", "target_label": "__metrics_path__",
               "replacement": "/api/v1/namespaces/$1/pods/$2:$3/proxy/metrics"}),
        json!({"target_label": "__address__", "replacement": host}),
    ]
}

/// The rules that a Prometheus gets by these.
pub fn rules(rules: &[Value]) -> Value {
    let groups = rules
        .iter()
        .flat_map(|rules| rules["spec"]["groups"].as_array().into_iter().flatten());
    json!({"groups": groups.collect::<Vec<_>>()})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_monitor_becomes_a_job() {
        let monitor = json!({
            "metadata": {"namespace": "a", "name": "b"},
            "spec": {
                "selector": {"matchExpressions": [{"key": "app.k8s.io/name", "operator": "In", "values": ["x", "y"]}]},
                "namespaceSelector": {"matchNames": ["n"]},
                "podMetricsEndpoints": [{"port": "metrics", "interval": "30s", "honorLabels": true,
                    "relabelings": [{"sourceLabels": ["from"], "targetLabel": "to", "action": "replace"}]}],
            },
        });
        let configuration = configuration(std::slice::from_ref(&monitor), "http://127.0.0.1:1").unwrap();
        let job = &configuration["scrape_configs"][0];
        assert_eq!((&job["job_name"], &job["honor_labels"]), (&json!("a/b"), &json!(true)));
        assert_eq!(job["kubernetes_sd_configs"][0]["namespaces"]["names"], json!(["n"]));
        let relabelings = job["relabel_configs"].as_array().unwrap();
        let keeps = keep("__meta_kubernetes_pod_label_app_k8s_io_name", "x|y");
        assert!(relabelings.contains(&keeps), "{relabelings:?}");
        for target in ["namespace", "pod", "container", "to"] {
            assert!(
                relabelings.iter().any(|one| one["target_label"] == target),
                "{target}: {relabelings:?}"
            );
        }
        assert_eq!(relabelings.last().unwrap()["replacement"], "127.0.0.1:1");
        let mut unknown = monitor;
        unknown["spec"]["jobLabel"] = json!("x");
        assert!(
            super::job(&unknown, "http://127.0.0.1:1").is_err(),
            "a field that nothing heeds"
        );
    }
}
