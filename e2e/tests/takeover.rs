//! The leading operator is killed. A test program of its own: what others do would feel it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use harmony_e2e::{
    Counter, Killer, Scenario, Scrape, all_right, batch, delete_by_force, ensure_installed, eventually, scenario,
};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;

const WITHIN: Duration = Duration::from_mins(3);
const NAME: &str = "goes-on";
const TASKS: u64 = 480;

/// The leader, and what it says: recorded tasks, those in flight, dispatches, and resends.
#[derive(Debug)]
struct Leader {
    pod: Pod,
    succeeded: f64,
    in_flight: f64,
    dispatched: f64,
    resent: f64,
}

impl Leader {
    async fn find(test: &Scenario) -> Result<Self> {
        let (pod, scrape) = Scrape::of_leader(&test.client).await?;
        let labels = [("namespace", test.namespace.as_str()), ("batch", NAME)];
        Ok(Self {
            pod,
            succeeded: scrape.tasks(&test.namespace, NAME, "succeeded"),
            in_flight: scrape.tasks(&test.namespace, NAME, "in_flight"),
            dispatched: scrape.sum("harmony_tasks_dispatched_total", &labels),
            resent: scrape.sum("harmony_tasks_resent_total", &labels),
        })
    }

    /// Waits until a leader, another than this one if there is one, has new results and tasks in flight.
    async fn at_work(test: &Scenario, before: Option<&Self>) -> Result<Self> {
        let recorded = before.map_or(20.0, |before| before.succeeded + 1.0);
        let uid = before.and_then(|before| before.pod.uid());
        eventually("a leader to have results and tasks in flight", WITHIN, async || {
            let now = Self::find(test).await?;
            let (succeeded, in_flight) = (now.succeeded, now.in_flight);
            // A process that is killed comes back in its pod; it must not lead with what it knew.
            let other =
                uid.is_none() || now.pod.uid() != uid || before.is_some_and(|it| now.dispatched < it.dispatched);
            ensure!(other, "still the same leader");
            ensure!(
                succeeded >= recorded && in_flight > 0.0,
                "{succeeded} recorded, {in_flight} in flight"
            );
            Ok(now)
        })
        .await
    }
}

fn none_again(runs: &BTreeMap<u64, u32>) -> Result<()> {
    ensure!(
        (runs.len() as u64) < TASKS,
        "all were begun: too late to tell copies from repetitions"
    );
    let again: Vec<_> = runs.iter().filter(|(_, runs)| **runs > 1).collect();
    ensure!(again.is_empty(), "begun more than once: {again:?}");
    Ok(())
}

#[tokio::test]
async fn recorded_work_is_not_run_again_and_running_work_is_found() -> Result<()> {
    ensure_installed().await?;
    scenario(async |test| {
        let counter = Counter::start(test).await?;
        let fields = format!(
            "completions: {TASKS}\nparallelism: 2\nslotsPerWorker: 4\n{}",
            counter.executor("1")
        );
        test.apply(&batch(NAME, &fields)).await?;

        let first = Leader::at_work(test, None).await?;
        let killer = Killer::of(&first.pod).await?;
        let first = Leader::find(test).await?;
        ensure!(first.in_flight > 0.0, "{first:?}");
        killer.kill().await?;
        let killed = Instant::now();
        let second = Leader::at_work(test, Some(&first)).await?;
        println!(
            "leader killed by SIGKILL: its successor's first new result after {:.1?}",
            killed.elapsed()
        );
        let runs = counter.runs(test).await?;
        println!(
            "{} were begun, {} are recorded, {} were dispatched by the successor",
            runs.len(),
            second.succeeded,
            second.dispatched
        );
        none_again(&runs)?;

        delete_by_force(&second.pod).await?;
        let killed = Instant::now();
        let third = Leader::at_work(test, Some(&second)).await?;
        println!(
            "leader deleted by force: its successor's first new result after {:.1?}",
            killed.elapsed()
        );
        let runs = counter.runs(test).await?;
        none_again(&runs)?;
        ensure!(third.resent == 0.0, "{third:?}");

        let done = test.wait_complete(NAME, WITHIN).await?;
        let status = done.status.unwrap_or_default();
        println!("epoch {:?}, {:?}", status.epoch, status.tasks);
        ensure!(
            status.epoch >= Some(3),
            "each leader takes over by an epoch of its own: {:?}",
            status.epoch
        );
        all_right(&test.results(NAME).await?, TASKS, |number| format!("{}\n", number * 2))
    })
    .await
}
