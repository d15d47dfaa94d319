//! A Prometheus on this machine, and what it answers.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use url::Url;

use super::operator::{configuration, rules};
use crate::eventually;
use crate::kubectl::kubectl;

/// The variable that names the program; `cargo xtask e2e` sets it.
const PROGRAM: &str = "HARMONY_PROMETHEUS";
const READY_WITHIN: Duration = Duration::from_secs(30);
/// From a fault to its alert, on a busy machine: some faults are seen only after a minute.
const ALERT_WITHIN: Duration = Duration::from_mins(3);
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

/// One line of a graph.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// What tells it from the others.
    pub labels: BTreeMap<String, String>,
    /// Seconds since the start, and values.
    pub points: Vec<(f64, f64)>,
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
        let program =
            env::var_os(PROGRAM).with_context(|| format!("{PROGRAM} is not set; `cargo xtask e2e` does it"))?;
        let server = Command::new(program)
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
            .context("Prometheus cannot be started")?;
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

    /// What a query gave since this Prometheus was started; values that are no numbers are left out, and series of them.
    pub async fn series(&self, query: &str) -> Result<Vec<Series>> {
        let seconds =
            |time: SystemTime| -> Result<f64> { Ok(time.duration_since(SystemTime::UNIX_EPOCH)?.as_secs_f64()) };
        let (start, end) = (seconds(self.since)?, seconds(SystemTime::now())?);
        let (from, to) = (start.to_string(), end.to_string());
        let parameters = [("query", query), ("start", &from), ("end", &to), ("step", STEP)];
        let data = self.ask("/api/v1/query_range", &parameters).await?;
        let found = data["result"].as_array().into_iter().flatten();
        let series = found.map(|series| {
            let points = series["values"].as_array().into_iter().flatten();
            let point = |point: &Value| Some((point[0].as_f64()? - start, point[1].as_str()?.parse().ok()?));
            Series {
                labels: serde_json::from_value(series["metric"].clone()).unwrap_or_default(),
                points: points
                    .filter_map(point)
                    .filter(|(_, value): &(_, f64)| !value.is_nan())
                    .collect(),
            }
        });
        Ok(series.filter(|series| !series.points.is_empty()).collect())
    }

    /// Waits until an alert fires, named as in [`Self::firing`].
    pub async fn fires(&self, alert: &str) -> Result<()> {
        let begun = Instant::now();
        eventually(&format!("{alert} to fire"), ALERT_WITHIN, async || {
            let firing = self.firing().await?;
            ensure!(firing.contains(alert), "{firing:?}");
            Ok(())
        })
        .await?;
        println!("{alert} fires after {:.1?}", begun.elapsed());
        Ok(())
    }

    /// Waits until it does not.
    pub async fn clears(&self, alert: &str) -> Result<()> {
        let begun = Instant::now();
        eventually(&format!("{alert} to clear"), ALERT_WITHIN, async || {
            ensure!(!self.firing().await?.contains(alert), "it fires");
            Ok(())
        })
        .await?;
        println!("{alert} is clear after {:.1?}", begun.elapsed());
        Ok(())
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
