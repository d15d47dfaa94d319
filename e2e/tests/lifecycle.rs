//! A batch is suspended, resumed, scaled, changed and deleted while it runs: no task is lost, doubled or interrupted, and
//! nothing of it stays.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use harmony_api::conventions::{BATCH_LABEL, BATCH_UID_LABEL, COLLECTOR_ROLE, REVISION_LABEL, WORKER_ROLE};
use harmony_api::spec::HarmonyBatch;
use harmony_api::status::{HarmonyBatchStatus, TaskCounts};
use harmony_e2e::{Scenario, Scrape, all_right, batch, condition, ensure_installed, eventually, scenario};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use kube::api::ListParams;

/// For pods to come or go, on a busy machine.
const PODS_WITHIN: Duration = Duration::from_mins(1);
/// For a batch that is deleted: well within its pods' grace, all of which a worker would use that waits for its collector.
const DELETED_WITHIN: Duration = Duration::from_secs(20);
/// For the longest of the batches here.
const COMPLETE_WITHIN: Duration = Duration::from_mins(4);

/// Runs each task for so long, and then says its number.
fn sleeper(seconds: &str) -> String {
    format!("executor: {{exec: {{command: [sh, -c, \"sleep {seconds}; echo $HARMONY_TASK\"]}}}}")
}

/// What the sleeper says.
fn said(number: u64) -> String {
    format!("{number}\n")
}

async fn patch(test: &Scenario, name: &str, patch: &str) -> Result<()> {
    let object = format!("hb/{name}");
    test.kubectl(&["patch", &object, "--type=merge", "--patch", patch])
        .await
        .map(drop)
}

async fn scale(test: &Scenario, name: &str, workers: u32) -> Result<()> {
    let (object, replicas) = (format!("hb/{name}"), format!("--replicas={workers}"));
    test.kubectl(&["scale", &object, &replicas]).await.map(drop)
}

/// Waits until the status is as it should be.
async fn status(
    test: &Scenario,
    name: &str,
    what: &str,
    is: impl Fn(&HarmonyBatchStatus, TaskCounts) -> bool,
) -> Result<HarmonyBatchStatus> {
    let what = format!("batch {name} to be {what}");
    test.wait_for(&what, PODS_WITHIN, name, |batch: &HarmonyBatch| {
        let status = batch.status.clone().context("no status")?;
        ensure!(is(&status, status.tasks.unwrap_or_default()), "{status:?}");
        Ok(status)
    })
    .await
}

async fn no_workers(test: &Scenario, name: &str) -> Result<()> {
    eventually("the workers to be gone", PODS_WITHIN, async || {
        let names: Vec<_> = test
            .pods_of(name, WORKER_ROLE)
            .await?
            .iter()
            .map(Pod::name_any)
            .collect();
        ensure!(names.is_empty(), "{names:?}");
        Ok(())
    })
    .await
}

/// How often an attempt of each number is recorded, and the highest attempt.
async fn attempts(test: &Scenario, name: &str) -> Result<(BTreeMap<u64, u64>, u64)> {
    let log = test.harmony_prints(&["joblog", name]).await?;
    let mut rows = log.lines();
    let head: Vec<_> = rows.next().context("no head")?.split('\t').collect();
    let column = |wanted: &str| {
        head.iter()
            .position(|name| *name == wanted)
            .with_context(|| format!("no {wanted} in {head:?}"))
    };
    let (number, attempt) = (column("number")?, column("attempt")?);
    let (mut counts, mut highest) = (BTreeMap::new(), 0);
    for row in rows {
        let fields: Vec<_> = row.split('\t').collect();
        let field = |column: usize| {
            fields
                .get(column)
                .with_context(|| format!("no column {column}: {row:?}"))
        };
        *counts.entry(field(number)?.parse()?).or_default() += 1;
        highest = highest.max(field(attempt)?.parse()?);
    }
    Ok((counts, highest))
}

#[tokio::test]
async fn a_batch_that_is_created_suspended_has_no_pod_until_it_is_resumed() -> Result<()> {
    ensure_installed().await?;
    scenario(async |test| {
        test.apply(&batch("b", &format!("completions: 8\nsuspend: true\n{}", sleeper("0"))))
            .await?;
        let told = status(test, "b", "suspended", |status, _| {
            status.state.as_deref() == Some("Suspended")
        })
        .await?;
        ensure!(told.start_time.is_none(), "{told:?}");
        let all = ListParams::default().labels(&format!("{BATCH_LABEL}=b"));
        let pods = test.api::<Pod>().list(&all).await?.items;
        ensure!(pods.is_empty(), "{pods:?}");
        patch(test, "b", r#"{"spec":{"suspend":false}}"#).await?;
        let done = test.wait_complete("b", COMPLETE_WITHIN).await?;
        let suspended = condition(&done, "Suspended").context("never told")?;
        ensure!(
            (suspended.status.as_str(), suspended.reason.as_str()) == ("False", "BatchResumed"),
            "{suspended:?}"
        );
        all_right(&test.results("b").await?, 8, said)
    })
    .await
}

#[tokio::test]
async fn what_is_recorded_stays_while_a_batch_is_suspended_and_does_not_run_again() -> Result<()> {
    const TASKS: u64 = 80;
    /// At the end, idle slots run copies of the slowest tasks.
    const SLOTS: u32 = 4;
    ensure_installed().await?;
    scenario(async |test| {
        let fields = format!(
            "completions: {TASKS}\nparallelism: 2\nslotsPerWorker: 2\n{}",
            sleeper("0.5")
        );
        test.apply(&batch("b", &fields)).await?;
        let before = status(test, "b", "under way", |_, tasks| tasks.succeeded > 5).await?;
        patch(test, "b", r#"{"spec":{"suspend":true}}"#).await?;
        status(test, "b", "suspended", |status, tasks| {
            status.state.as_deref() == Some("Suspended") && tasks.in_flight == 0
        })
        .await?;
        no_workers(test, "b").await?;
        let collector = test
            .pods_of("b", COLLECTOR_ROLE)
            .await?
            .pop()
            .context("the collector is gone")?;
        ensure!(
            collector.uid() == before.collector_ref.map(|kept| kept.uid),
            "another collector"
        );
        let kept = test.results("b").await?;
        ensure!(
            kept.len() as u64 >= 6 && (kept.len() as u64) < TASKS,
            "{} of {TASKS} results",
            kept.len()
        );

        patch(test, "b", r#"{"spec":{"suspend":false}}"#).await?;
        test.wait_complete("b", COMPLETE_WITHIN).await?;
        // A ventilator counts from 0, so this is what was sent since.
        let (_, leader) = Scrape::of_leader(&test.client).await?;
        let labels = [("namespace", test.namespace.as_str()), ("batch", "b")];
        let dispatched = leader.sum("harmony_tasks_dispatched_total", &labels);
        let left = u32::try_from(TASKS - kept.len() as u64)?;
        println!(
            "{} of {TASKS} tasks were recorded before, {dispatched} were sent after",
            kept.len()
        );
        ensure!(
            (1.0..=f64::from(left + SLOTS)).contains(&dispatched),
            "{dispatched} sent, {left} were left"
        );
        let results = test.results("b").await?;
        ensure!(
            kept.iter().all(|line| results.contains(line)),
            "what was recorded changed"
        );
        let (counts, highest) = attempts(test, "b").await?;
        ensure!(
            highest == 1 && counts.values().all(|count| *count == 1),
            "{counts:?}, attempt {highest}"
        );
        all_right(&results, TASKS, said)
    })
    .await
}

#[tokio::test]
async fn scaling_in_interrupts_no_task() -> Result<()> {
    const TASKS: u64 = 40;
    ensure_installed().await?;
    scenario(async |test| {
        test.apply(&batch("b", &format!("completions: {TASKS}\n{}", sleeper("2"))))
            .await?;
        status(test, "b", "at work", |_, tasks| tasks.in_flight > 0).await?;
        scale(test, "b", 4).await?;
        let four = status(test, "b", "at work with four", |status, tasks| {
            status.ready == 4 && tasks.in_flight >= 4
        })
        .await?;
        ensure!(four.active == 4, "{four:?}");
        scale(test, "b", 0).await?;
        no_workers(test, "b").await?;
        let none = status(test, "b", "without workers", |status, tasks| {
            status.active == 0 && tasks.in_flight == 0
        })
        .await?;
        let progressing = none
            .conditions
            .iter()
            .find(|told| told.type_ == "Progressing")
            .context("not told")?;
        ensure!(progressing.reason == "NoWorkers", "{progressing:?}");
        let (_, leader) = Scrape::of_leader(&test.client).await?;
        let labels = [("namespace", test.namespace.as_str()), ("batch", "b")];
        let sum = |name: &str| leader.sum(name, &labels);
        let succeeded = leader.tasks(&test.namespace, "b", "succeeded");
        ensure!((1.0..40.0).contains(&succeeded), "{succeeded} tasks ended before");
        // What was sent has ended, each once: nothing was handed back, lost or sent again.
        let (sent, resent) = (sum("harmony_tasks_dispatched_total"), sum("harmony_tasks_resent_total"));
        println!("{sent} tasks sent, {succeeded} ended, {resent} sent again");
        ensure!(
            sent.to_bits() == succeeded.to_bits() && resent == 0.0,
            "{sent} sent, {succeeded} ended, {resent} again"
        );
        scale(test, "b", 2).await?;
        let done = test.wait_complete("b", COMPLETE_WITHIN).await?;
        let tasks = done.status.and_then(|status| status.tasks).context("no counts")?;
        ensure!(tasks.resent == 0, "{tasks:?}");
        let (counts, highest) = attempts(test, "b").await?;
        ensure!(
            highest == 1 && counts.values().all(|count| *count == 1),
            "{counts:?}, attempt {highest}"
        );
        all_right(&test.results("b").await?, TASKS, said)
    })
    .await
}

#[tokio::test]
async fn a_changed_template_or_executor_replaces_the_workers_and_interrupts_no_task() -> Result<()> {
    const TASKS: usize = 60;
    const GREETS: &str = "completions: 60\nparallelism: 2\n\
                          executor: {exec: {command: [sh, -c, 'sleep 1; echo one $GREETING']}}";
    ensure_installed().await?;
    scenario(async |test| {
        test.apply(&batch("b", GREETS)).await?;
        status(test, "b", "under way", |status, tasks| {
            status.ready == 2 && tasks.succeeded > 1
        })
        .await?;
        let first = revisions(test).await?;
        let container = "[{\"name\":\"worker\",\"image\":\"shell:dev\",\"securityContext\":{\"runAsUser\":1000},\
                         \"env\":[{\"name\":\"GREETING\",\"value\":\"new\"}]}]";
        patch(
            test,
            "b",
            &format!(r#"{{"spec":{{"template":{{"spec":{{"containers":{container}}}}}}}}}"#),
        )
        .await?;
        let second = replaced(test, &first).await?;
        let before = status(test, "b", "at work again", |status, tasks| {
            status.ready == 2 && tasks.in_flight > 0
        })
        .await?;
        status(test, "b", "further", |_, tasks| {
            tasks.succeeded > before.tasks.unwrap_or_default().succeeded + 1
        })
        .await?;
        let executor = r#"{"exec":{"command":["sh","-c","sleep 1; echo two $GREETING"]}}"#;
        patch(test, "b", &format!(r#"{{"spec":{{"executor":{executor}}}}}"#)).await?;
        replaced(test, &second).await?;
        let done = test.wait_complete("b", COMPLETE_WITHIN).await?;
        let tasks = done.status.and_then(|status| status.tasks).context("no counts")?;
        ensure!(tasks.resent == 0, "a task was interrupted: {tasks:?}");
        let mut outputs = BTreeMap::<String, usize>::new();
        for line in test.results("b").await? {
            ensure!(line.attempt == 1, "{line:?}");
            *outputs.entry(line.output).or_default() += 1;
        }
        println!("{outputs:?}");
        let kinds: Vec<_> = outputs.keys().map(|output| output.trim()).collect();
        ensure!(kinds == ["one", "one new", "two new"], "{kinds:?}");
        ensure!(outputs.values().sum::<usize>() == TASKS, "{outputs:?}");
        Ok(())
    })
    .await
}

/// The revisions of the pods that are not going.
async fn revisions(test: &Scenario) -> Result<BTreeSet<String>> {
    let pods = test.pods_of("b", WORKER_ROLE).await?;
    let stay = pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none());
    let revision = |pod: &Pod| pod.labels().get(REVISION_LABEL).cloned();
    Ok(stay.filter_map(revision).collect())
}

async fn replaced(test: &Scenario, before: &BTreeSet<String>) -> Result<BTreeSet<String>> {
    eventually("all workers to be replaced", PODS_WITHIN, async || {
        let now = revisions(test).await?;
        ensure!(now.len() == 1 && now.is_disjoint(before), "{now:?}, before {before:?}");
        Ok(now)
    })
    .await
}

#[tokio::test]
async fn a_batch_that_is_deleted_leaves_nothing_whatever_its_phase() -> Result<()> {
    ensure_installed().await?;
    scenario(async |test| {
        let long = format!("completions: 1000\nparallelism: 2\n{}", sleeper("1"));
        let short = format!("completions: 2\n{}", sleeper("0"));
        test.apply(&(batch("running", &long) + &batch("suspended", &long) + &batch("complete", &short)))
            .await?;
        for name in ["running", "suspended"] {
            status(test, name, "running", |_, tasks| tasks.in_flight > 0).await?;
            ensure!(is_led(test, name).await?, "the leader's metrics lack the batch {name}");
        }
        patch(test, "suspended", r#"{"spec":{"suspend":true}}"#).await?;
        status(test, "suspended", "suspended", |status, _| {
            status.state.as_deref() == Some("Suspended")
        })
        .await?;
        test.wait_complete("complete", COMPLETE_WITHIN).await?;
        // Last: it does not stay in its phase for long.
        test.apply(&batch("starting", &long)).await?;
        status(test, "starting", "starting", |status, _| {
            status.state.as_deref() == Some("Starting")
        })
        .await?;
        for name in ["starting", "running", "suspended", "complete"] {
            let begun = std::time::Instant::now();
            let uid = test.api::<HarmonyBatch>().get(name).await?.uid().context("no uid")?;
            let object = format!("hb/{name}");
            test.kubectl(&["delete", &object, "--timeout=30s"]).await?;
            eventually(&format!("all of {name} to be gone"), DELETED_WITHIN, async || {
                let left = objects(test, &uid).await?;
                ensure!(left.is_empty(), "{left}");
                ensure!(!is_led(test, name).await?, "its ventilator still runs");
                Ok(())
            })
            .await?;
            println!("{name}: all gone after {:.1} s", begun.elapsed().as_secs_f64());
        }
        Ok(())
    })
    .await
}

async fn is_led(test: &Scenario, name: &str) -> Result<bool> {
    let (_, leader) = Scrape::of_leader(&test.client).await?;
    let labels = [("namespace", test.namespace.as_str()), ("batch", name)];
    Ok(leader.sum("harmony_batch_completions", &labels) > 0.0)
}

/// All objects of a batch that are there.
async fn objects(test: &Scenario, uid: &str) -> Result<String> {
    let kinds = "pods,services,networkpolicies,poddisruptionbudgets,persistentvolumeclaims,secrets,configmaps";
    let label = format!("{BATCH_UID_LABEL}={uid}");
    test.kubectl(&["get", kinds, "--selector", &label, "--output=name"])
        .await
}

#[tokio::test]
async fn a_batch_that_is_deleted_and_made_again_at_once_has_its_own_results() -> Result<()> {
    ensure_installed().await?;
    scenario(async |test| {
        let says = |word: &str, seconds: &str, count: u32| {
            let command = format!("[sh, -c, \"sleep {seconds}; echo {word}\"]");
            batch(
                "b",
                &format!("completions: {count}\nparallelism: 2\nexecutor: {{exec: {{command: {command}}}}}"),
            )
        };
        test.apply(&says("old", "0.5", 1000)).await?;
        status(test, "b", "under way", |_, tasks| tasks.succeeded > 0).await?;
        let uid = test.api::<HarmonyBatch>().get("b").await?.uid();
        test.kubectl(&["delete", "hb/b", "--wait=false"]).await?;
        test.apply(&says("new", "0", 20)).await?;
        let again = test.wait_complete("b", COMPLETE_WITHIN).await?;
        if again.uid() == uid {
            bail!("it is the old batch");
        }
        all_right(&test.results("b").await?, 20, |_| "new\n".to_owned())
    })
    .await
}
