//! Workers and collectors that are killed while they hold work: nothing is missing, nothing is there twice.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use harmony_e2e::{Counter, Killer, Scenario, Scrape, all_right, batch, ensure_installed, eventually, scenario};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;

const WITHIN: Duration = Duration::from_mins(3);
const TASKS: u32 = 400;

/// The leader's view of a batch.
struct View {
    succeeded: f64,
    in_flight: f64,
}

async fn view(test: &Scenario, name: &str) -> Result<View> {
    let (_, scrape) = Scrape::of_leader(&test.client).await?;
    let tasks = |state| scrape.tasks(&test.namespace, name, state);
    Ok(View {
        succeeded: tasks("succeeded"),
        in_flight: tasks("in_flight"),
    })
}

/// Waits until so many tasks are recorded and others are in flight, and gives the number recorded.
async fn mid_batch(test: &Scenario, name: &str, recorded: f64) -> Result<f64> {
    eventually("tasks to be recorded and in flight", WITHIN, async || {
        let View { succeeded, in_flight } = view(test, name).await?;
        ensure!(
            succeeded >= recorded && in_flight > 0.0,
            "{succeeded} recorded, {in_flight} in flight"
        );
        ensure!(
            succeeded < f64::from(TASKS),
            "all is recorded: the kill would come too late"
        );
        Ok(succeeded)
    })
    .await
}

/// Waits for the first new result after a kill, and prints how long it took.
async fn next_result(test: &Scenario, name: &str, what: &str, before: f64) -> Result<()> {
    let killed = Instant::now();
    eventually("a new result", WITHIN, async || {
        let View { succeeded, .. } = view(test, name).await?;
        ensure!(succeeded > before, "still {succeeded} recorded");
        Ok(())
    })
    .await?;
    println!("{what}: first new result after {:.1?}", killed.elapsed());
    Ok(())
}

async fn start(test: &Scenario, name: &str, fields: &str) -> Result<Counter> {
    let counter = Counter::start(test).await?;
    let fields = format!(
        "completions: {TASKS}\nparallelism: 2\nslotsPerWorker: 4\n{}\n{fields}",
        counter.executor("0.2")
    );
    test.apply(&batch(name, fields.trim())).await?;
    Ok(counter)
}

/// A pod of the batch that works now.
async fn victim(test: &Scenario, name: &str, role: &str) -> Result<Pod> {
    eventually("a pod that works", WITHIN, async || {
        for pod in test.pods_of(name, role).await? {
            let Ok(scrape) = Scrape::of(&test.namespace, &pod.name_any()).await else {
                continue;
            };
            let holds = match role {
                "worker" => scrape.sum("harmony_worker_tasks", &[("state", "running")]),
                _ => scrape.sum("harmony_collector_tasks", &[]),
            };
            if holds > 0.0 && pod.metadata.deletion_timestamp.is_none() {
                return Ok(pod);
            }
        }
        anyhow::bail!("none does")
    })
    .await
}

async fn delete_by_force(test: &Scenario, pod: &Pod) -> Result<()> {
    let name = pod.name_any();
    test.kubectl(&["delete", "pod", &name, "--force", "--grace-period=0", "--wait=false"])
        .await?;
    Ok(())
}

/// Waits for the end and looks at every result.
async fn ends_well(test: &Scenario, name: &str) -> Result<()> {
    test.wait_complete(name, WITHIN).await?;
    ensure!(test.failed(name).await?.is_empty());
    all_right(&test.results(name).await?, u64::from(TASKS), |number| {
        format!("{}\n", number * 2)
    })
}

#[tokio::test]
async fn workers() -> Result<()> {
    ensure_installed().await?;
    scenario(async |test| {
        let counter = start(test, "workers", "").await?;
        mid_batch(test, "workers", 20.0).await?;
        let pod = victim(test, "workers", "worker").await?;
        let killer = Killer::of(&pod).await?;
        let before = mid_batch(test, "workers", 20.0).await?;
        killer.kill().await?;
        next_result(test, "workers", "worker killed by SIGKILL", before).await?;
        let gone = pod.name_any();
        let other = eventually("another worker", WITHIN, async || {
            let pod = victim(test, "workers", "worker").await?;
            ensure!(pod.name_any() != gone, "still {gone}");
            Ok(pod)
        })
        .await?;
        let before = mid_batch(test, "workers", 20.0).await?;
        delete_by_force(test, &other).await?;
        next_result(test, "workers", "worker deleted by force", before).await?;
        ends_well(test, "workers").await?;
        let runs = counter.runs(test).await?;
        let (all, most) = (runs.values().sum::<u32>(), runs.values().max());
        println!("{TASKS} tasks were begun {all} times, the most {most:?}");
        ensure!(
            all >= TASKS && runs.len() == TASKS as usize,
            "{all} begun, {} numbers",
            runs.len()
        );
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_collector_without_a_claim() -> Result<()> {
    ensure_installed().await?;
    scenario(async |test| {
        let counter = start(test, "bare", "").await?;
        mid_batch(test, "bare", 10.0).await?;
        let pod = victim(test, "bare", "collector").await?;
        let killer = Killer::of(&pod).await?;
        let before = mid_batch(test, "bare", 10.0).await?;
        killer.kill().await?;
        next_result(test, "bare", "collector killed by SIGKILL", before).await?;
        none_again(&counter.runs(test).await?)?;

        // Its disk goes with its pod: what it had runs again.
        let before = mid_batch(test, "bare", 10.0).await?;
        let pod = victim(test, "bare", "collector").await?;
        delete_by_force(test, &pod).await?;
        let killed = Instant::now();
        let uid = pod.uid();
        eventually("a new collector to record", WITHIN, async || {
            let pod = victim(test, "bare", "collector").await?;
            ensure!(pod.uid() != uid, "still the same pod");
            Ok(())
        })
        .await?;
        println!(
            "collector deleted by force with its disk: first new result after {:.1?}",
            killed.elapsed()
        );
        ends_well(test, "bare").await?;
        let runs = counter.runs(test).await?;
        let again = runs.values().filter(|runs| **runs > 1).count();
        println!("{before} tasks were recorded on the disk that was lost, {again} were begun again");
        ensure!(again > 0, "nothing was lost, so the kill proves nothing");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_collector_with_a_claim() -> Result<()> {
    ensure_installed().await?;
    scenario(async |test| {
        let claim = "collector: {storage: {size: 1Gi, storageClassName: local}}";
        let counter = start(test, "claim", claim).await?;
        mid_batch(test, "claim", 20.0).await?;
        let pod = victim(test, "claim", "collector").await?;
        let before = mid_batch(test, "claim", 20.0).await?;
        delete_by_force(test, &pod).await?;
        next_result(test, "claim", "collector deleted by force, with a claim", before).await?;
        let runs = counter.runs(test).await?;
        none_again(&runs)?;
        ends_well(test, "claim").await
    })
    .await
}

/// No task was begun twice, long before the end, when slow ones may get a backup copy.
fn none_again(runs: &std::collections::BTreeMap<u64, u32>) -> Result<()> {
    let again: Vec<_> = runs.iter().filter(|(_, runs)| **runs > 1).collect();
    ensure!(
        runs.len() < TASKS as usize,
        "all were begun: too late to tell copies from repetitions"
    );
    ensure!(again.is_empty(), "begun more than once: {again:?}");
    Ok(())
}
