//! Seen from outside: a Prometheus that finds everything by itself, dashboards of which every panel has data, and alerts that
//! fire by their faults and clear.

#![allow(clippy::indexing_slicing)] // as many graphs as panels

use std::collections::BTreeSet;
use std::env;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use harmony_api::conditions::{COMPLETE, FAILED};
use harmony_api::conventions::{COLLECTOR_ROLE, WORKER_ROLE};
use harmony_api::spec::HarmonyBatch;
use harmony_e2e::{
    Graph, Killer, LocalCluster, Prometheus, RELEASE, Scenario, batch, chart, condition, draw, eventually,
    install_monitoring, on_release, queries, uninstall_monitoring, without_harmony,
};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use kube::api::{Api, ListParams};

const WITHIN: Duration = Duration::from_mins(3);
/// Prometheus looks every second, and answers for every other one.
const SEEN_WITHIN: Duration = Duration::from_secs(30);
/// Rates are taken over this; Prometheus looks every second.
const RATE: &str = "15s";
const BATCH: &str = "faulty";
/// One task in eight fails at each of its two attempts, the last one is slow, and no two runs of a task print the same.
const FIELDS: &str = "completions: 1200
parallelism: 2
slotsPerWorker: 2
backoffLimitPerIndex: 1
executor: {exec: {command: [sh, -c, 'sleep 0.05; echo $$; [ $HARMONY_TASK != 1199 ] || sleep 15; [ $((HARMONY_TASK % 8)) != 3 ]']}}";
/// Alerts that this test waits for as soon as their fault is there.
const AT_ONCE: [&str; 3] = [
    "HarmonyCollectorUnreachable",
    "HarmonyStragglers",
    "HarmonyBatchErrorRatioHigh",
];

/// The variable that names a folder for pictures.
const PICTURES: &str = "HARMONY_PICTURES";
/// The panels that are drawn.
const DRAWN: [(&str, &str); 6] = [
    ("Harmony / Batch", "Tasks"),
    ("Harmony / Batch", "Recorded per second"),
    ("Harmony / Batch", "Quantiles of duration"),
    ("Harmony / Batch", "Sent again"),
    ("Harmony / Batch", "Workers by state"),
    ("Harmony / Links and collector", "Duration of a flush"),
];

/// A faulty batch, and who watches it.
struct Watched<'a> {
    test: &'a Scenario,
    prometheus: Prometheus,
    cluster: LocalCluster,
}

impl Watched<'_> {
    fn named(&self, alert: &str) -> String {
        format!("{alert} of {}/{BATCH}", self.test.namespace)
    }

    async fn fires(&self, alert: &str) -> Result<()> {
        self.prometheus.fires(&self.named(alert)).await
    }

    async fn clears(&self, alert: &str) -> Result<()> {
        self.prometheus.clears(&self.named(alert)).await
    }

    /// Waits until Prometheus has seen so many tasks with a final result.
    async fn until(&self, settled: f64) -> Result<()> {
        let query = format!("sum(harmony_batch_tasks{{batch=\"{BATCH}\",state=~\"succeeded|failed\"}})");
        eventually("tasks to be recorded", WITHIN, async || {
            let value = self.prometheus.value(&query).await?.unwrap_or_default();
            ensure!(value >= settled, "{value} of {settled}");
            Ok(())
        })
        .await
    }

    async fn pod(&self, role: &str) -> Result<Pod> {
        let pods = self.test.pods_of(BATCH, role).await?;
        let lives = |pod: &Pod| pod.metadata.deletion_timestamp.is_none();
        pods.into_iter().find(lives).with_context(|| format!("no {role}"))
    }

    /// Stops a pod until something is seen; nothing is told to anybody meanwhile.
    async fn frozen(&self, role: &str, until: impl AsyncFnOnce() -> Result<()>) -> Result<()> {
        let pod = self.pod(role).await?;
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
        let node = self.cluster.node(&node.context("no node")?)?;
        let _frozen = node.freeze(&pod)?;
        until().await
    }

    /// Everything of Harmony that has a metrics port is asked with success.
    async fn finds_all(&self) -> Result<()> {
        let pods = Api::<Pod>::all(self.test.client.clone());
        let ours = ListParams::default().labels("app.kubernetes.io/name=harmony");
        eventually("all pods to be found", WITHIN, async || {
            let there: BTreeSet<String> = pods.list(&ours).await?.iter().map(name).collect();
            let healthy = self.prometheus.healthy().await?;
            ensure!(there.len() == 5 && healthy == there, "found {healthy:?} of {there:?}");
            Ok(())
        })
        .await
    }

    async fn faults(&self) -> Result<()> {
        self.until(50.0).await?;
        self.finds_all().await?;
        self.fires("HarmonyTasksFailed").await?;
        self.fires("HarmonyBatchErrorRatioHigh").await?;
        let collector = "HarmonyCollectorUnreachable";
        self.frozen(COLLECTOR_ROLE, async || self.fires(collector).await)
            .await?;
        self.clears(collector).await?;
        let lost = format!("sum(harmony_tasks_resent_total{{batch=\"{BATCH}\",reason=\"worker_lost\"}})");
        self.frozen(WORKER_ROLE, async || {
            eventually("its tasks to go out again", WITHIN, async || {
                ensure!(self.prometheus.value(&lost).await? > Some(0.0));
                Ok(())
            })
            .await
        })
        .await?;
        // Its processes went on where they were, and their tasks were done by then.
        self.fires("HarmonyResultsDiffer").await?;
        Killer::of(&self.pod(WORKER_ROLE).await?).await?.kill().await?;
        Killer::of(&self.pod(COLLECTOR_ROLE).await?).await?.kill().await
    }

    async fn ends(&self) -> Result<()> {
        self.fires("HarmonyStragglers").await?;
        self.fires("HarmonyBatchFailed").await?;
        self.clears("HarmonyStragglers").await?;
        let batch: HarmonyBatch = self.test.api().get(BATCH).await?;
        let reason = condition(&batch, FAILED).map(|failed| failed.reason.clone());
        ensure!(
            reason.as_deref() == Some("FailedIndexes"),
            "{:?}, {:?}",
            reason,
            condition(&batch, COMPLETE)
        );
        Ok(())
    }

    /// Asks what every panel asks, and draws the key ones. What came last may not have been seen yet.
    async fn every_panel_has_data(&self) -> Result<()> {
        let folder = env::var_os(PICTURES).map(PathBuf::from);
        let graphs = eventually("every panel to have data", SEEN_WITHIN, async || self.panels().await).await?;
        folder.map_or(Ok(()), |folder| draw(&folder.join("batch.png"), &graphs))
    }

    async fn panels(&self) -> Result<Vec<Graph>> {
        let queries = queries(&self.test.client, &self.test.namespace, BATCH, RATE).await?;
        let (mut empty, mut graphs) = (Vec::new(), vec![Graph::default(); DRAWN.len()]);
        for query in &queries {
            let place = format!("{}, {}: {}", query.dashboard, query.panel, query.expr);
            let series = self
                .prometheus
                .series(&query.expr)
                .await
                .with_context(|| place.clone())?;
            if series.is_empty() {
                empty.push(place);
            }
            let panel = (query.dashboard.as_str(), query.panel.as_str());
            if let Some(at) = DRAWN.iter().position(|drawn| *drawn == panel) {
                graphs[at].add(query, series);
            }
        }
        println!("{} queries of panels, {} without data", queries.len(), empty.len());
        ensure!(empty.is_empty(), "without data:\n{}", empty.join("\n"));
        Ok(graphs)
    }
}

fn name(pod: &Pod) -> String {
    format!("{}/{}", pod.namespace().unwrap_or_default(), pod.name_any())
}

async fn watch(test: &Scenario) -> Result<()> {
    let mut values = vec!["--set=networkPolicy.enabled=true".to_owned()];
    values.extend(AT_ONCE.map(|alert| format!("--set=monitoring.rules.for.{alert}=0s")));
    let mut arguments: Vec<&str> = values.iter().map(String::as_str).collect();
    arguments.push("--wait");
    on_release(&["install", RELEASE, &chart()?], &arguments).await?;
    let watched = Watched {
        test,
        prometheus: Prometheus::start().await?,
        cluster: LocalCluster::of_kubeconfig()?,
    };
    test.apply(&batch(BATCH, FIELDS)).await?;
    watched.faults().await?;
    watched.ends().await?;
    watched.every_panel_has_data().await?;
    test.kubectl(&["delete", "harmonybatch", BATCH]).await?;
    watched.clears("HarmonyBatchFailed").await
}

#[tokio::test]
async fn prometheus_finds_all_panels_have_data_and_alerts_fire_and_clear() -> Result<()> {
    without_harmony(async |test| {
        install_monitoring().await?;
        let outcome = watch(test).await;
        // Before its kinds are gone, by which Helm would know what to remove.
        on_release(&["uninstall", RELEASE], &["--ignore-not-found", "--wait"]).await?;
        uninstall_monitoring().await?;
        outcome
    })
    .await
}
