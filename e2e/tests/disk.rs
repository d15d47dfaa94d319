//! The disk of the collector: full in the middle of a batch, and lost after its end.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use harmony_api::conditions::{COLLECTOR_READY, COMPLETE, RESULTS_AVAILABLE, reason};
use harmony_api::conventions::COLLECTOR_ROLE;
use harmony_api::spec::HarmonyBatch;
use harmony_e2e::{
    LocalCluster, Scenario, SmallDisk, batch, condition, ensure_installed, eventually, restarts, scenario,
};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;

const WITHIN: Duration = Duration::from_mins(2);

const TASKS: u64 = 200;
/// The bytes that each task prints.
const OUTPUT: usize = 256 << 10;
/// Waits until the condition says so; gives how many tasks are recorded then.
async fn collector_ready(test: &Scenario, ready: bool) -> Result<u64> {
    let what = format!("the collector to be {}", if ready { "ready" } else { "full" });
    test.wait_for(&what, WITHIN, "b", |batch: &HarmonyBatch| {
        let told = condition(batch, COLLECTOR_READY).context("not told")?;
        let full = told.status == "False" && told.reason == reason::COLLECTOR_DISK_FULL;
        ensure!(if ready { told.status == "True" } else { full }, "{:?}", batch.status);
        ensure!(condition(batch, COMPLETE).is_none(), "it is complete");
        Ok(batch
            .status
            .as_ref()
            .and_then(|status| status.tasks)
            .unwrap_or_default()
            .succeeded)
    })
    .await
}

#[tokio::test]
async fn recording_pauses_on_a_full_disk_and_goes_on_when_there_is_room() -> Result<()> {
    let cluster = LocalCluster::of_kubeconfig()?;
    ensure_installed().await?;
    scenario(async |test| {
        let disk = SmallDisk::offer(test, &cluster).await?;
        disk.fill()?;
        // Slow enough that what the collector is between two full disks can be seen.
        let fields = format!(
            "completions: {TASKS}
            slotsPerWorker: 4
            collector: {{storage: {{size: 1Gi, storageClassName: {}}}}}
            executor: {{exec: {{command: [sh, -c, 'sleep 0.3; head -c {OUTPUT} /dev/zero | tr \"\\\\0\" x']}}}}",
            test.namespace
        );
        let begun = Instant::now();
        test.apply(&batch("b", &fields)).await?;
        let few = collector_ready(test, false).await?;
        println!("full with {few} tasks recorded, {:.1?} after it began", begun.elapsed());
        let pod = only_collector(test).await?;

        disk.make_room()?;
        let begun = Instant::now();
        collector_ready(test, true).await?;
        println!("ready {:.1?} after room was made", begun.elapsed());
        let more = eventually("a full disk with more tasks", WITHIN, async || {
            let more = collector_ready(test, false).await?;
            ensure!(more > few, "still {more} recorded");
            Ok(more)
        })
        .await?;
        let results = test.results("b").await?;
        ensure!(results.len() as u64 >= more, "{} results of {more}", results.len());

        disk.grow()?;
        let begun = Instant::now();
        test.wait_complete("b", WITHIN).await?;
        println!(
            "full again with {more}; complete {:.1?} after the volume grew",
            begun.elapsed()
        );
        let results = test.results("b").await?;
        ensure!(
            results.iter().map(|line| line.number).eq(0..TASKS),
            "{} results",
            results.len()
        );
        let right = "x".repeat(OUTPUT);
        ensure!(results.iter().all(|line| line.output == right), "outputs differ");
        // It waited in one piece: nobody took it for broken.
        let same = only_collector(test).await?;
        ensure!(same.uid() == pod.uid() && restarts(&same) == 0, "{:?}", same.status);
        test.kubectl(&["delete", "hb/b", "--cascade=foreground"]).await?;
        test.kubectl(&["delete", "persistentvolume", &test.namespace])
            .await
            .map(drop)
    })
    .await
}

async fn only_collector(test: &Scenario) -> Result<Pod> {
    let mut pods = test.pods_of("b", COLLECTOR_ROLE).await?;
    ensure!(pods.len() == 1, "{} collectors", pods.len());
    pods.pop().context("no collector")
}

/// Waits until the condition says whether results are there, and why. That the batch is complete stays.
async fn results_available(test: &Scenario, name: &str, available: bool, why: &str) -> Result<()> {
    let what = format!("batch {name} to say {why}");
    test.wait_for(&what, WITHIN, name, |batch: &HarmonyBatch| {
        let told = condition(batch, RESULTS_AVAILABLE).context("not told")?;
        let status = if available { "True" } else { "False" };
        ensure!(
            (told.status.as_str(), told.reason.as_str()) == (status, why),
            "{told:?}"
        );
        let complete = condition(batch, COMPLETE).context("not complete")?;
        ensure!(complete.status == "True", "{complete:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_disk_that_is_lost_after_the_end_takes_the_results_and_not_the_end() -> Result<()> {
    ensure_installed().await?;
    scenario(async |test| {
        let fields = "completions: 20\nexecutor: {exec: {command: [sh, -c, 'echo $HARMONY_TASK']}}";
        let claim = format!("{fields}\ncollector: {{storage: {{size: 1Gi, storageClassName: local}}}}");
        test.apply(&(batch("bare", fields) + &batch("claim", &claim))).await?;
        for name in ["bare", "claim"] {
            test.wait_complete(name, WITHIN).await?;
            results_available(test, name, true, reason::RESULTS_KEPT).await?;
            ensure!(test.results(name).await?.len() == 20);
        }
        let before = test.results("claim").await?;
        for name in ["bare", "claim"] {
            for pod in test.pods_of(name, COLLECTOR_ROLE).await? {
                let pod = pod.name_any();
                test.kubectl(&["delete", "pod", &pod, "--force", "--grace-period=0"])
                    .await?;
            }
        }
        results_available(test, "bare", false, reason::RESULTS_LOST).await?;
        let refused = test.harmony(&["results", "bare"]).await?;
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        println!("harmony results: {}", said.trim());
        ensure!(
            !refused.status.success() && said.contains("spec.collector.storage"),
            "{said}"
        );
        // On a claim they are only out of reach until there is another pod.
        eventually("the results on the claim", WITHIN, async || {
            ensure!(test.results("claim").await? == before, "other results");
            Ok(())
        })
        .await?;
        results_available(test, "claim", true, reason::RESULTS_KEPT).await
    })
    .await
}
