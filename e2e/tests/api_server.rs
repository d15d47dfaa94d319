//! The API server goes away in the middle of a batch: work goes on, and so does the batch when it is back.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use harmony_api::conventions::COLLECTOR_ROLE;
use harmony_e2e::{Counter, Course, LocalCluster, Node, ensure_installed, eventually, kubectl, leader, scenario};
use tokio::sync::Mutex;

/// There is one API server.
static ALONE: Mutex<()> = Mutex::const_new(());

/// How long it is away: longer than the lease of the leader.
const SHORT: Duration = Duration::from_secs(20);
const LONG: Duration = Duration::from_mins(1);

const HOME: &str = "node-0";

/// How it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Away {
    /// Connections are refused.
    Killed,
    /// Connections are made, and nothing is answered.
    Frozen,
}

/// The tasks that the collector has, as it says itself, without the API server.
fn recorded(node: &Node, ip: &str) -> Result<u64> {
    let metrics = node.metrics_of(ip)?;
    let succeeded = metrics
        .lines()
        .filter(|line| line.starts_with("harmony_collector_tasks{") && line.contains("state=\"succeeded\""));
    let counts = succeeded.filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok());
    Ok(counts.sum())
}

/// Takes it away for so long, and gives how many tasks were recorded in each fifth of that time.
async fn take_away(cluster: &LocalCluster, how: Away, time: Duration, ip: &str) -> Result<Vec<u64>> {
    let (node, server) = (cluster.node(HOME)?, cluster.component("kube-apiserver")?);
    let mut counts = Vec::new();
    let mut fifths = tokio::time::interval(time / 5);
    let (killed, frozen) = match how {
        Away::Killed => (Some(server.kill()?), None),
        Away::Frozen => (None, Some(server.freeze()?)),
    };
    for _ in 0..=5 {
        fifths.tick().await;
        counts.push(recorded(&node, ip)?);
    }
    let gone = kubectl(&["get", "--raw=/readyz", "--request-timeout=1s"]).await;
    ensure!(gone.is_err(), "the API server is there");
    if let Some(killed) = killed {
        killed.start()?;
    }
    drop(frozen);
    let back = Instant::now();
    eventually("the API server", Duration::from_mins(1), async || {
        kubectl(&["get", "--raw=/readyz", "--request-timeout=2s"]).await
    })
    .await?;
    println!("the API server answers {:.1?} after it was let", back.elapsed());
    Ok(counts
        .iter()
        .zip(counts.iter().skip(1))
        .map(|(before, after)| after.saturating_sub(*before))
        .collect())
}

async fn goes_on_without(how: Away, time: Duration, tasks: u32) -> Result<()> {
    let _alone = ALONE.lock().await;
    let cluster = LocalCluster::of_kubeconfig()?;
    ensure_installed().await?;
    scenario(async |test| {
        let counter = Counter::start(test).await?;
        let fields = ["parallelism: 2", "slotsPerWorker: 2", &counter.executor("0.5")];
        let course = Course::begin(test, "b", tasks, &fields).await?;
        course.until(10.0).await?;
        let collector = course.at_work(COLLECTOR_ROLE).await?;
        let ip = collector
            .status
            .and_then(|status| status.pod_ip)
            .context("no address")?;
        let led = leader().await?;
        let began = Instant::now();
        let fifths = take_away(&cluster, how, time, &ip).await?;
        println!("{how:?} for {time:?}: recorded in each fifth of it {fifths:?}");
        ensure!(fifths.iter().all(|recorded| *recorded > 0), "{fifths:?}");
        let before = course.until(0.0).await?;
        println!(
            "a leader tells the count {:.1?} after the API server went",
            began.elapsed()
        );
        course.goes_on("API server back", before).await?;
        println!("the leader was {led}, and is {}", leader().await?);
        course.ends_well().await?;
        // At the end, idle slots run copies of the slowest tasks: as many as there are slots.
        let runs = counter.runs(test).await?;
        let all: u32 = runs.values().sum();
        println!("{tasks} tasks were begun {all} times");
        ensure!(all <= tasks + 4, "begun {all} times: {runs:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn work_goes_on_while_the_api_server_is_dead() -> Result<()> {
    goes_on_without(Away::Killed, SHORT, 240).await
}

#[tokio::test]
async fn work_goes_on_while_the_api_server_is_frozen() -> Result<()> {
    goes_on_without(Away::Frozen, SHORT, 240).await
}

#[tokio::test]
#[ignore = "three minutes"]
async fn work_goes_on_while_the_api_server_is_dead_for_a_minute() -> Result<()> {
    goes_on_without(Away::Killed, LONG, 800).await
}

#[tokio::test]
#[ignore = "three minutes"]
async fn work_goes_on_while_the_api_server_is_frozen_for_a_minute() -> Result<()> {
    goes_on_without(Away::Frozen, LONG, 800).await
}
