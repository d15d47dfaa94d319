//! Sources that have to be written down, and are read again by the next leader. A test program of its own: what others do
//! would feel the takeover.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use harmony_api::conditions::{PROGRESSING, reason};
use harmony_api::spec::HarmonyBatch;
use harmony_e2e::{
    SERVED, Scenario, Scrape, all_right, batch, condition, delete_by_force, ensure_installed, eventually, scenario,
};
use tokio::sync::Mutex;

const WITHIN: Duration = Duration::from_mins(15);
const NAME: &str = "lines";

/// There is one leader.
static ALONE: Mutex<()> = Mutex::const_new(());

/// Bytes of a line with its end: ten million of them are more than 1 GiB.
const LINE: usize = 108;

/// Answers each line with its first word.
const FIRST_WORD: &str = "executor: {process: {command: [awk, '{ print $1; fflush() }']}}";

/// A shell command that prints so many numbered lines.
fn numbered(lines: u32) -> String {
    let padding = "x".repeat(LINE - "00000000 \n".len());
    format!("awk 'BEGIN {{ for (i = 0; i < {lines}; i++) printf \"%08d {padding}\\n\", i }}'")
}

/// Deletes the leader once a tenth is recorded. Says how much was.
async fn depose(test: &Scenario, lines: u32) -> Result<f64> {
    let (leader, succeeded) = eventually("a tenth to be recorded", WITHIN, async || {
        let (pod, scrape) = Scrape::of_leader(&test.client).await?;
        let succeeded = scrape.tasks(&test.namespace, NAME, "succeeded");
        ensure!(succeeded * 10.0 >= f64::from(lines), "{succeeded} are recorded");
        Ok((pod, succeeded))
    })
    .await?;
    delete_by_force(&leader).await?;
    Ok(succeeded)
}

async fn goes_over_a_takeover(lines: u32) -> Result<()> {
    let _alone = ALONE.lock().await;
    ensure_installed().await?;
    scenario(async |test| {
        let url = test.serve(&numbered(lines)).await?;
        let began = Instant::now();
        apply(test, &url, 2).await?;
        let before = depose(test, lines).await?;
        ensure!(before < f64::from(lines), "too late for a takeover: all are recorded");
        let done = test.wait_complete(NAME, WITHIN).await?;
        println!(
            "{lines} lines of {LINE} bytes, leader deleted at {before}: {:.1?} from apply to Complete",
            began.elapsed()
        );
        let epoch = done.status.context("no status")?.epoch;
        ensure!(epoch >= Some(2), "nobody took over: epoch {epoch:?}");
        all_right(&test.results(NAME).await?, u64::from(lines), |number| {
            format!("{number:08}")
        })
    })
    .await
}

/// Applies the batch of the lines at this address.
async fn apply(test: &Scenario, url: &str, workers: u32) -> Result<()> {
    let fields = format!("parallelism: {workers}\ntasks: {{lines: {{url: '{url}'}}}}\n{FIRST_WORD}");
    test.apply(&batch(NAME, &fields)).await
}

/// Changes what is served.
async fn edit(test: &Scenario, from: &str, to: &str) -> Result<()> {
    let script = format!("s/{from}/{to}/");
    test.exec("web", &["sed", "-i", &script, SERVED]).await.map(drop)
}

#[tokio::test]
async fn the_next_leader_sees_that_the_source_has_changed() -> Result<()> {
    let _alone = ALONE.lock().await;
    ensure_installed().await?;
    scenario(async |test| {
        let url = test.serve(&numbered(4)).await?;
        // No worker, so that no task runs before the source changes.
        apply(test, &url, 0).await?;
        test.wait_for("the tasks to be read", WITHIN, NAME, |batch: &HarmonyBatch| {
            let status = batch.status.clone().unwrap_or_default();
            ensure!(status.tasks_digest.is_some() && status.epoch.is_some(), "{status:?}");
            Ok(())
        })
        .await?;
        let (first, _) = Scrape::of_leader(&test.client).await?;
        edit(test, "00000003", "changed!").await?;
        delete_by_force(&first).await?;
        let deleted = Instant::now();
        test.wait_for("the change to be told", WITHIN, NAME, |batch: &HarmonyBatch| {
            let told = condition(batch, PROGRESSING).map(|condition| condition.reason.as_str());
            ensure!(told == Some(reason::TASKS_SOURCE_CHANGED), "{told:?}");
            Ok(())
        })
        .await?;
        println!("the next leader told of the change after {:.1?}", deleted.elapsed());
        test.kubectl(&["scale", "hb", NAME, "--replicas=1"]).await?;
        edit(test, "changed!", "00000003").await?;
        test.wait_complete(NAME, WITHIN).await?;
        all_right(&test.results(NAME).await?, 4, |number| format!("{number:08}"))
    })
    .await
}

#[tokio::test]
async fn a_large_source_is_read_again_by_the_next_leader() -> Result<()> {
    goes_over_a_takeover(1_000_000).await
}

#[tokio::test]
#[ignore = "takes minutes, and some gigabytes of memory and disk"]
async fn a_gibibyte_of_ten_million_lines_is_read_again_by_the_next_leader() -> Result<()> {
    goes_over_a_takeover(10_000_000).await
}
