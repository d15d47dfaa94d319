//! A Prometheus on this machine, and what it answers.

use std::collections::BTreeSet;
use std::fs;
use std::process::Stdio;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use url::Url;

use super::operator::{configuration, rules};
use crate::eventually;
use crate::kubectl::kubectl;

const READY_WITHIN: Duration = Duration::from_secs(30);
/// Between two values of a range.
const STEP: &str = "2s";

/// A Prometheus that watches the cluster as the monitors and rules there say. It ends with this value.
#[derive(Debug)]
pub struct Prometheus {
    url: Url,
    client: reqwest::Client,
    _folder: TempDir,
    _server: Child,
    /// Lets it talk to any cluster, whatever the kubeconfig proves itself by.
    _proxy: Child,
    since: SystemTime,
}

impl Prometheus {
    /// Starts one by the monitors and rules of the cluster.
    pub async fn start() -> Result<Self> {
        let (proxy, api_server) = start_proxy().await?;
        let folder = TempDir::new()?;
        let configuration = configuration(&objects("podmonitors").await?, &api_server)?;
        fs::write(folder.path().join("prometheus.yaml"), configuration.to_string())?;
        let rules = rules(&objects("prometheusrules").await?);
        fs::write(folder.path().join("rules.yaml"), rules.to_string())?;
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let server = Command::new("prometheus")
            .args([
                "--config.file=prometheus.yaml",
                "--storage.tsdb.path=data",
                "--log.level=warn",
            ])
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .context("prometheus cannot be started; it is in the package prometheus")?;
        let prometheus = Self {
            url: Url::parse(&format!("http://127.0.0.1:{port}"))?,
            client: reqwest::Client::new(),
            _folder: folder,
            _server: server,
            _proxy: proxy,
            since: SystemTime::now(),
        };
        eventually("Prometheus to be ready", READY_WITHIN, async || {
            let answer = prometheus.client.get(prometheus.url.join("/-/ready")?).send().await?;
            ensure!(answer.status().is_success(), "{}", answer.status());
            Ok(())
        })
        .await?;
        Ok(prometheus)
    }

    async fn ask(&self, path: &str, parameters: &[(&str, &str)]) -> Result<Value> {
        let mut url = self.url.join(path)?;
        url.query_pairs_mut().extend_pairs(parameters);
        let text = self.client.get(url).send().await?.text().await?;
        let answer: Value = serde_json::from_str(&text).with_context(|| text.clone())?;
        if answer["status"] != "success" {
            bail!("{}", answer["error"]);
        }
        Ok(answer["data"].clone())
    }

    /// The pods that it asks with success, as NAMESPACE/POD.
    pub async fn healthy(&self) -> Result<BTreeSet<String>> {
        let data = self.ask("/api/v1/targets", &[("state", "active")]).await?;
        let targets = data["activeTargets"].as_array().cloned().unwrap_or_default();
        let healthy = targets.iter().filter(|target| target["health"] == "up");
        let text = |target: &Value, label: &str| target["labels"][label].as_str().unwrap_or_default().to_owned();
        Ok(healthy
            .map(|target| format!("{}/{}", text(target, "namespace"), text(target, "pod")))
            .collect())
    }

    /// The value of a query of one number now; none if nothing is selected.
    pub async fn value(&self, query: &str) -> Result<Option<f64>> {
        let data = self.ask("/api/v1/query", &[("query", query)]).await?;
        let value = data["result"][0]["value"][1].as_str();
        Ok(value.map(str::parse).transpose()?)
    }

    /// All values of a query since this Prometheus was started that are numbers.
    pub async fn values(&self, query: &str) -> Result<Vec<f64>> {
        let seconds = |time: SystemTime| -> Result<String> {
            Ok(time.duration_since(SystemTime::UNIX_EPOCH)?.as_secs_f64().to_string())
        };
        let (start, end) = (seconds(self.since)?, seconds(SystemTime::now())?);
        let parameters = [("query", query), ("start", &start), ("end", &end), ("step", STEP)];
        let data = self.ask("/api/v1/query_range", &parameters).await?;
        let series = data["result"].as_array().cloned().unwrap_or_default();
        let points = series
            .iter()
            .flat_map(|series| series["values"].as_array().into_iter().flatten());
        let values = points.filter_map(|point| point[1].as_str()?.parse::<f64>().ok());
        Ok(values.filter(|value| !value.is_nan()).collect())
    }

    /// The alerts that fire, as NAME or NAME of NAMESPACE/BATCH.
    pub async fn firing(&self) -> Result<BTreeSet<String>> {
        let data = self.ask("/api/v1/alerts", &[]).await?;
        let alerts = data["alerts"].as_array().cloned().unwrap_or_default();
        let firing = alerts.iter().filter(|alert| alert["state"] == "firing");
        let name = |alert: &Value| {
            let label = |name: &str| alert["labels"][name].as_str().unwrap_or_default().to_owned();
            let (name, batch) = (label("alertname"), label("batch"));
            if batch.is_empty() {
                name
            } else {
                format!("{name} of {}/{batch}", label("namespace"))
            }
        };
        Ok(firing.map(name).collect())
    }
}

/// The objects of a kind of the Prometheus operator, in all namespaces.
async fn objects(kind: &str) -> Result<Vec<Value>> {
    let kind = format!("{kind}.monitoring.coreos.com");
    let text = kubectl(&["get", &kind, "--all-namespaces", "--output=json"]).await?;
    let list: Value = serde_json::from_str(&text)?;
    let items = list["items"].as_array().cloned().unwrap_or_default();
    ensure!(!items.is_empty(), "there are no {kind}");
    Ok(items)
}

async fn start_proxy() -> Result<(Child, String)> {
    let mut proxy = Command::new("kubectl")
        .args(["proxy", "--port=0"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let mut lines = BufReader::new(proxy.stdout.take().context("no output")?).lines();
    let said = lines.next_line().await?.context("kubectl proxy says nothing")?;
    let address = said
        .strip_prefix("Starting to serve on ")
        .with_context(|| said.clone())?;
    Ok((proxy, format!("http://{address}")))
}
