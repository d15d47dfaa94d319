//! Workers and collectors that are killed while they hold work: nothing is missing, nothing is there twice.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use harmony_e2e::{Counter, Course, Killer, Scenario, delete_by_force, ensure_installed, eventually, scenario};
use kube::ResourceExt as _;

const WITHIN: Duration = Duration::from_mins(3);
const TASKS: u32 = 400;

async fn start<'a>(test: &'a Scenario, name: &str, fields: &str) -> Result<(Counter, Course<'a>)> {
    let counter = Counter::start(test).await?;
    let fields = ["parallelism: 2", "slotsPerWorker: 4", &counter.executor("0.2"), fields];
    let course = Course::begin(test, name, TASKS, &fields).await?;
    Ok((counter, course))
}

#[tokio::test]
async fn workers() -> Result<()> {
    ensure_installed().await?;
    scenario(async |test| {
        let (counter, course) = start(test, "workers", "").await?;
        course.until(20.0).await?;
        let pod = course.at_work("worker").await?;
        let killer = Killer::of(&pod).await?;
        let before = course.until(20.0).await?;
        killer.kill().await?;
        course.goes_on("worker killed by SIGKILL", before).await?;
        let gone = pod.name_any();
        let other = eventually("another worker", WITHIN, async || {
            let pod = course.at_work("worker").await?;
            ensure!(pod.name_any() != gone, "still {gone}");
            Ok(pod)
        })
        .await?;
        let before = course.until(20.0).await?;
        delete_by_force(&other).await?;
        course.goes_on("worker deleted by force", before).await?;
        course.ends_well().await?;
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
        let (counter, course) = start(test, "bare", "").await?;
        course.until(10.0).await?;
        let pod = course.at_work("collector").await?;
        let killer = Killer::of(&pod).await?;
        let before = course.until(10.0).await?;
        killer.kill().await?;
        course.goes_on("collector killed by SIGKILL", before).await?;
        none_again(&counter.runs(test).await?)?;

        // Its disk goes with its pod: what it had runs again.
        let before = course.until(10.0).await?;
        let pod = course.at_work("collector").await?;
        delete_by_force(&pod).await?;
        let killed = Instant::now();
        let uid = pod.uid();
        eventually("a new collector to record", WITHIN, async || {
            let pod = course.at_work("collector").await?;
            ensure!(pod.uid() != uid, "still the same pod");
            Ok(())
        })
        .await?;
        println!(
            "collector deleted by force with its disk: first new result after {:.1?}",
            killed.elapsed()
        );
        course.ends_well().await?;
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
        let (counter, course) = start(test, "claim", claim).await?;
        course.until(20.0).await?;
        let pod = course.at_work("collector").await?;
        let before = course.until(20.0).await?;
        delete_by_force(&pod).await?;
        course
            .goes_on("collector deleted by force, with a claim", before)
            .await?;
        let runs = counter.runs(test).await?;
        none_again(&runs)?;
        course.ends_well().await
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
