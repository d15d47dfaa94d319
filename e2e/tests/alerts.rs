//! Alerts that no batch with a few failing tasks makes fire: each is tried against its fault, as Prometheus sees it.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use harmony_api::conventions::COLLECTOR_ROLE;
use harmony_e2e::{
    LocalCluster, OPERATOR_NAMESPACE, Prometheus, RELEASE, Scenario, SlowDisk, SmallDisk, batch, chart, eventually,
    helm, install_monitoring, kubectl, kubectl_reading, on_release, uninstall_monitoring, without_harmony,
};
use tokio::time::sleep;

/// Each of these fires as soon as its fault is seen.
const ALERTS: [&str; 11] = [
    "HarmonyBatchLate",
    "HarmonyBatchStalled",
    "HarmonyCollectorDiskFull",
    "HarmonyCollectorFlushSlow",
    "HarmonyOperatorDown",
    "HarmonyOperatorNoLeader",
    "HarmonyOperatorTwoLeaders",
    "HarmonyReconcileErrors",
    "HarmonyReconcileSlow",
    "HarmonyWorkersFailing",
    "HarmonyWorkersMissing",
];
/// How long the API server stops at a time: longer than a pass may take, shorter than a request.
const STOPPED: Duration = Duration::from_secs(7);
const STOPS: u32 = 8;
const AWAY_WITHIN: Duration = Duration::from_mins(1);
/// For a batch of seconds while others fight over it.
const COMPLETE_WITHIN: Duration = Duration::from_mins(3);
/// Bytes a second of a slow disk: three seconds for one of the outputs that it is given.
const SLOW: u32 = 20_000;
/// Where the second release is. Leases are per namespace, so the first one does not keep it from leading.
const ELSEWHERE: &str = "harmony-elsewhere";

/// Lines of a batch's spec by its name; tasks wait for what never comes, or nearly.
const BATCHES: [(&str, &str); 4] = [
    (
        "wide",
        "completions: 9\nparallelism: 500\nexecutor: {exec: {command: [sleep, '600']}}",
    ),
    (
        "failing",
        "completions: 9\nexecutor: {library: {command: [sh, -c, exit 3]}}",
    ),
    (
        "late",
        "completions: 900\nactiveDeadlineSeconds: 120\nexecutor: {exec: {command: [sleep, '1']}}",
    ),
    ("stalled", "completions: 9\nexecutor: {exec: {command: [sleep, '600']}}"),
];

/// Outputs of 256 KiB, of which a filled disk takes a few.
async fn of_a_full_disk(test: &Scenario, prometheus: &Prometheus) -> Result<()> {
    let disk = SmallDisk::offer(test, &LocalCluster::of_kubeconfig()?).await?;
    disk.fill()?;
    let fields = format!(
        "completions: 200\ncollector: {{storage: {{size: 1Gi, storageClassName: {}}}}}\nexecutor: {{exec: {{command: [head, -c, '262144', /dev/zero]}}}}",
        test.namespace
    );
    test.apply(&batch("large", &fields)).await?;
    let alert = format!("HarmonyCollectorDiskFull of {}/large", test.namespace);
    prometheus.fires(&alert).await?;
    disk.grow()?;
    prometheus.clears(&alert).await?;
    test.kubectl(&["delete", "harmonybatch/large", "--cascade=foreground"])
        .await?;
    test.kubectl(&["delete", "persistentvolume", &test.namespace])
        .await
        .map(drop)
}

/// A collector whose disk takes seconds for each output.
async fn of_a_slow_disk(test: &Scenario, prometheus: &Prometheus) -> Result<()> {
    let cluster = LocalCluster::of_kubeconfig()?;
    let disk = SlowDisk::offer(test, &cluster).await?;
    let fields = format!(
        "completions: 9999\ncollector: {{storage: {{size: 1Gi, storageClassName: {}}}}}\nexecutor: {{exec: {{command: [sh, -c, 'sleep 0.2; head -c 65536 /dev/zero']}}}}",
        test.namespace
    );
    test.apply(&batch("slow", &fields)).await?;
    let node = cluster.node("node-0")?;
    let collector = eventually("a collector that can be slowed down", AWAY_WITHIN, async || {
        let pods = test.pods_of("slow", COLLECTOR_ROLE).await?;
        let pod = pods.first().context("no collector")?;
        disk.limit(&node, pod, Some(SLOW))?;
        Ok(pod.clone())
    })
    .await?;
    prometheus
        .fires(&format!("HarmonyCollectorFlushSlow of {}/slow", test.namespace))
        .await?;
    // What was slow in the last five minutes is told as long, so its end is not waited for.
    disk.limit(&node, &collector, None)?;
    test.kubectl(&["delete", "harmonybatch/slow", "--cascade=foreground"])
        .await?;
    test.kubectl(&["delete", "persistentvolume", &test.namespace])
        .await
        .map(drop)
}

/// A second release over the same namespaces. Batches are led twice, and end as they should: their epochs see to that.
async fn of_two_leaders(test: &Scenario, prometheus: &Prometheus) -> Result<()> {
    let chart = chart()?;
    let second = [
        "install",
        "second",
        &chart,
        "--namespace",
        ELSEWHERE,
        "--create-namespace",
    ];
    let settings = [
        "--set=crds.install=false",
        "--set=monitoring.rules.enabled=false",
        "--wait",
        "--timeout=120s",
    ];
    helm(&[second.as_slice(), &settings].concat()).await?;
    let outcome = async {
        test.apply(&batch(
            "fought-over",
            "completions: 200\nexecutor: {exec: {command: [sleep, '0.1']}}",
        ))
        .await?;
        prometheus.fires("HarmonyOperatorTwoLeaders").await?;
        test.wait_complete("fought-over", COMPLETE_WITHIN).await?;
        let results = test.results("fought-over").await?;
        ensure!(
            results.iter().map(|line| line.number).eq(0..200),
            "{} results",
            results.len()
        );
        Ok(())
    }
    .await;
    helm(&["uninstall", "second", "--namespace", ELSEWHERE, "--wait"]).await?;
    kubectl(&["delete", "namespace", ELSEWHERE]).await?;
    outcome?;
    prometheus.clears("HarmonyOperatorTwoLeaders").await?;
    test.kubectl(&["delete", "harmonybatch/fought-over"]).await.map(drop)
}

async fn in_operators_namespace(arguments: &[&str]) -> Result<String> {
    kubectl(&[&["--namespace", OPERATOR_NAMESPACE], arguments].concat()).await
}

async fn of_batches(test: &Scenario, prometheus: &Prometheus) -> Result<()> {
    for (name, fields) in BATCHES {
        test.apply(&batch(name, fields)).await?;
    }
    let expected = [
        ("HarmonyWorkersMissing", "wide"),
        ("HarmonyWorkersFailing", "failing"),
        ("HarmonyBatchLate", "late"),
        ("HarmonyBatchStalled", "stalled"),
    ];
    let named = |(alert, batch): (&str, &str)| format!("{alert} of {}/{batch}", test.namespace);
    for pair in expected {
        prometheus.fires(&named(pair)).await?;
    }
    for (name, _) in BATCHES {
        test.kubectl(&["delete", "harmonybatch", name]).await?;
    }
    // What failed in the last quarter of an hour is told as long.
    for pair in expected
        .into_iter()
        .filter(|(alert, _)| *alert != "HarmonyWorkersFailing")
    {
        prometheus.clears(&named(pair)).await?;
    }
    Ok(())
}

/// An API server that stops again and again, each time for less than a request may take: passes wait, and do not fail.
async fn of_a_slow_api_server(prometheus: &Prometheus) -> Result<()> {
    let server = LocalCluster::of_kubeconfig()?.component("kube-apiserver")?;
    for _ in 0..STOPS {
        let stopped = server.freeze()?;
        sleep(STOPPED).await; // the fault itself, not a wait for something
        drop(stopped);
        sleep(STOPPED / 2).await;
        if prometheus.firing().await?.contains("HarmonyReconcileSlow") {
            return Ok(());
        }
    }
    bail!("HarmonyReconcileSlow does not fire")
}

/// The operators lose their rights, a lease that somebody else holds, the API server, and themselves. Their rights first: of
/// many passes that went well, a few errors are no tenth.
async fn of_operators(test: &Scenario, prometheus: &Prometheus) -> Result<()> {
    test.apply(&batch(
        "long",
        "completions: 900\nexecutor: {exec: {command: [sleep, '1']}}",
    ))
    .await?;
    let binding = ["clusterrolebinding", "harmony-operator"];
    let text = kubectl(&[["get"].as_slice(), &binding, &["--output=yaml"]].concat()).await?;
    kubectl(&[["delete"].as_slice(), &binding].concat()).await?;
    let fires = prometheus.fires("HarmonyReconcileErrors").await;
    kubectl_reading(&["create", "--filename=-"], &text).await?;
    fires?;

    let taken = r#"{"spec": {"holderIdentity": "somebody", "leaseDurationSeconds": 3600}}"#;
    in_operators_namespace(&["patch", "lease", "harmony-operator", "--type=merge", "--patch", taken]).await?;
    prometheus.fires("HarmonyOperatorNoLeader").await?;
    in_operators_namespace(&["delete", "lease", "harmony-operator"]).await?;
    prometheus.clears("HarmonyOperatorNoLeader").await?;

    of_a_slow_api_server(prometheus).await?;

    let scale = |replicas: &'static str| async move {
        in_operators_namespace(&["scale", "deployment/harmony-operator", replicas]).await
    };
    scale("--replicas=0").await?;
    prometheus.fires("HarmonyOperatorDown").await?;
    scale("--replicas=2").await?;
    prometheus.clears("HarmonyOperatorDown").await
}

async fn tried(test: &Scenario) -> Result<()> {
    let values = ALERTS.map(|alert| format!("--set=monitoring.rules.for.{alert}=0s"));
    let mut arguments: Vec<&str> = values.iter().map(String::as_str).collect();
    arguments.push("--wait");
    on_release(&["install", RELEASE, &chart()?], &arguments).await?;
    let prometheus = Prometheus::start().await?;
    eventually("the operators to be found", AWAY_WITHIN, async || {
        let found = prometheus.healthy().await?;
        ensure!(found.len() == 2, "{found:?}");
        Ok(())
    })
    .await?;
    of_operators(test, &prometheus).await.context("of operators")?;
    of_two_leaders(test, &prometheus).await.context("of two leaders")?;
    of_a_full_disk(test, &prometheus).await.context("of a full disk")?;
    of_a_slow_disk(test, &prometheus).await.context("of a slow disk")?;
    of_batches(test, &prometheus).await.context("of batches")
}

/// On a cluster that knows the kinds of the Prometheus operator, and where Harmony is not yet installed.
async fn watched(test: impl AsyncFnOnce(&Scenario) -> Result<()>) -> Result<()> {
    without_harmony(async |scenario| {
        install_monitoring().await?;
        let outcome = test(scenario).await;
        // Before its kinds are gone, by which Helm would know what to remove.
        on_release(&["uninstall", RELEASE], &["--ignore-not-found", "--wait"]).await?;
        uninstall_monitoring().await?;
        outcome
    })
    .await
}

#[tokio::test]
#[ignore = "takes five minutes"]
async fn each_alert_fires_by_its_fault() -> Result<()> {
    watched(tried).await
}
