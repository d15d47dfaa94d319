//! Nodes that are lost or drained while they hold work: the batch completes, nothing is missing, nothing is there twice.
//!
//! It is always the second node, since others of a test's pods are on the first. On a cluster that is not of this machine
//! the tests fail: nobody can break its nodes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use anyhow::{Result, ensure};
use futures_util::{join, try_join};
use harmony_api::conventions::{COLLECTOR_ROLE, WORKER_ROLE};
use harmony_e2e::{Counter, Course, LocalCluster, Scenario, doubler, ensure_installed, kubectl, scenario};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use tokio::sync::Mutex;

/// One node is broken at a time.
static NODE: Mutex<()> = Mutex::const_new(());

const HOME: &str = "node-0";
const LOST: &str = "node-1";

/// Tells the nodes apart on which the collectors of this test may run.
fn label(test: &Scenario) -> String {
    format!("e2e.harmony.dev/{}", test.namespace)
}

async fn allow_collectors_on(test: &Scenario, node: &str) -> Result<()> {
    kubectl(&["label", "node", node, &format!("{}=", label(test)), "--overwrite"])
        .await
        .map(drop)
}

/// Begins a batch whose collector is on the second node, and that has a worker on each.
async fn begin<'a>(test: &'a Scenario, name: &str, executor: &str, storage: &str) -> Result<Course<'a>> {
    let collector = format!("collector: {{nodeSelector: {{{}: ''}}{storage}}}", label(test));
    let fields = ["parallelism: 2", "slotsPerWorker: 4", executor, &collector];
    let course = Course::begin(test, name, 400, &fields).await?;
    course.until(20.0).await?;
    let nodes: BTreeSet<_> = nodes_of(test, name, WORKER_ROLE).await?.into_values().collect();
    ensure!(nodes.contains(LOST), "the workers of {name} are on {nodes:?}");
    let nodes = nodes_of(test, name, COLLECTOR_ROLE).await?;
    ensure!(
        nodes.values().all(|node| node == LOST),
        "the collector of {name}: {nodes:?}"
    );
    Ok(course)
}

/// The pods of a batch that are not going, and the node of each.
async fn nodes_of(test: &Scenario, name: &str, role: &str) -> Result<BTreeMap<String, String>> {
    let pods = test.pods_of(name, role).await?.into_iter();
    let stay = pods.filter(|pod| pod.metadata.deletion_timestamp.is_none());
    let node = |pod: Pod| {
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
        (pod.name_any(), node.unwrap_or_default())
    };
    Ok(stay.map(node).collect())
}

async fn ready(node: &str) -> Result<()> {
    let node = format!("node/{node}");
    kubectl(&["wait", &node, "--for=condition=Ready", "--timeout=60s"])
        .await
        .map(drop)
}

/// Two batches have their collectors and a worker each on the second node, which then is disturbed, and mended when both
/// go on without it.
async fn both_go_on<T>(
    test: &Scenario,
    what: &str,
    disturb: impl AsyncFnOnce() -> Result<T>,
    mend: impl AsyncFnOnce(T) -> Result<()>,
) -> Result<()> {
    let counter = Counter::start_on(test, HOME).await?;
    allow_collectors_on(test, LOST).await?;
    let (doubler, counted) = (doubler("0.2"), counter.executor("0.2"));
    let (bare, claim) = try_join!(
        begin(test, "bare", &doubler, ""),
        begin(
            test,
            "claim",
            &counted,
            ", storage: {size: 1Gi, storageClassName: shared}"
        )
    )?;
    allow_collectors_on(test, HOME).await?;
    let (bare_before, claim_before) = try_join!(bare.at_work(COLLECTOR_ROLE), claim.at_work(COLLECTOR_ROLE))?;
    let mark = counter.mark(test, "claim").await?;
    let (without, with) = (format!("{what}, without a claim"), format!("{what}, with a claim"));
    let (disturbed, bare_goes_on, claim_goes_on) = join!(
        disturb(),
        bare.goes_on_elsewhere(&without, &bare_before),
        claim.goes_on_elsewhere(&with, &claim_before)
    );
    mend(disturbed?).await?;
    bare_goes_on?;
    claim_goes_on?;
    try_join!(bare.ends_well(), claim.ends_well())?;
    counter.none_again(test, &mark).await
}

#[tokio::test]
async fn a_node_with_collectors_and_workers_is_lost() -> Result<()> {
    let _alone = NODE.lock().await;
    let node = LocalCluster::of_kubeconfig()?.node(LOST)?;
    ensure_installed().await?;
    // A lost node comes back with pods that nobody wants any more.
    let back = async |lost| {
        drop(lost);
        ready(LOST).await
    };
    scenario(async |test| Box::pin(both_go_on(test, "lost", async || node.lose(), back)).await).await
}

#[tokio::test]
async fn a_node_with_collectors_and_workers_is_drained() -> Result<()> {
    let _alone = NODE.lock().await;
    ensure_installed().await?;
    let drain = async || {
        let timeout = "--timeout=180s";
        let drain = [
            "drain",
            LOST,
            "--ignore-daemonsets",
            "--delete-emptydir-data",
            "--force",
            timeout,
        ];
        let begun = Instant::now();
        let drained = kubectl(&drain).await;
        println!("{LOST} was drained in {:.1?}", begun.elapsed());
        if drained.is_err() {
            kubectl(&["uncordon", LOST]).await?;
        }
        drained
    };
    let uncordon = async |_| kubectl(&["uncordon", LOST]).await.map(drop);
    scenario(async |test| Box::pin(both_go_on(test, "drained", drain, uncordon)).await).await
}

/// The short form is in `chaos.rs`.
#[tokio::test]
#[ignore = "a minute"]
async fn a_node_with_a_worker_is_lost() -> Result<()> {
    let _alone = NODE.lock().await;
    let node = LocalCluster::of_kubeconfig()?.node(LOST)?;
    ensure_installed().await?;
    scenario(async |test| {
        let counter = Counter::start_on(test, HOME).await?;
        let home = format!("collector: {{nodeSelector: {{kubernetes.io/hostname: {HOME}}}}}");
        let fields = ["parallelism: 2", "slotsPerWorker: 4", &counter.executor("0.2"), &home];
        let course = Course::begin(test, "b", 400, &fields).await?;
        course.until(20.0).await?;
        let nodes: BTreeSet<_> = nodes_of(test, "b", WORKER_ROLE).await?.into_values().collect();
        ensure!(nodes.len() == 2, "the workers are on {nodes:?}");
        let before = course.until(20.0).await?;
        let mark = counter.mark(test, "b").await?;
        let lost = node.lose()?;
        course.goes_on("node of a worker lost", before).await?;
        course.ends_well().await?;
        counter.none_again(test, &mark).await?;
        drop(lost);
        ready(LOST).await
    })
    .await
}
