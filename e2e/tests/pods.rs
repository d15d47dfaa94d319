//! Worker pods that fail: what is told of them, what counts against `backoffLimit`, and what `podFailurePolicy` makes of it.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use harmony_api::conditions::reason;
use harmony_api::spec::HarmonyBatch;
use harmony_api::status::{HarmonyBatchStatus, PodFailures};
use harmony_e2e::{Killer, Recorded, Scenario, all_right, ensure_installed, eventually, scenario};
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::ResourceExt as _;
use kube::api::{EvictParams, ListParams};

/// For a batch of a few seconds, on a busy machine.
const WITHIN: Duration = Duration::from_mins(3);

/// A batch: fields of its spec, and of its container.
fn batch(name: &str, fields: &[&str], container: &str) -> String {
    let fields: Vec<_> = fields.iter().map(|field| format!("  {field}\n")).collect();
    format!(
        "---\napiVersion: harmony.dev/v1alpha1\nkind: HarmonyBatch\nmetadata: {{name: {name}}}\nspec:\n{}  \
         template: {{spec: {{containers: [{{name: worker, image: shell:dev, securityContext: {{runAsUser: 1000}}{container}}}]}}}}\n",
        fields.concat()
    )
}

fn script(script: &str) -> String {
    format!("executor: {{exec: {{command: [sh, -c, '{script}']}}}}")
}

/// A container that ends at once, in place of a worker.
fn ends_with(code: i32) -> String {
    format!("executor: {{library: {{command: [sh, -c, exit {code}]}}}}")
}

/// Enough for the worker and a shell, and not for what the tasks here ask for.
const MEMORY: &str = ", resources: {limits: {memory: 96Mi}}";

fn status(batch: &HarmonyBatch) -> HarmonyBatchStatus {
    batch.status.clone().unwrap_or_default()
}

fn failures(batch: &HarmonyBatch) -> PodFailures {
    status(batch).pod_failures.unwrap_or_default()
}

/// The notes of the events of this reason.
async fn events(test: &Scenario, name: &str, reason: &str) -> Result<Vec<String>> {
    let about = ListParams::default().fields(&format!("involvedObject.name={name},reason={reason}"));
    let events = test.api::<Event>().list(&about).await?.items;
    Ok(events.into_iter().filter_map(|event| event.message).collect())
}

async fn told(test: &Scenario, name: &str, reason: &str, cause: &str) -> Result<()> {
    eventually(&format!("an event {reason} with {cause:?}"), WITHIN, async || {
        let notes = events(test, name, reason).await?;
        ensure!(notes.iter().any(|note| note.contains(cause)), "{notes:?}");
        Ok(())
    })
    .await
}

/// Waits until a worker runs a task, and gives its pod.
async fn at_work(test: &Scenario, name: &str, besides: &[String]) -> Result<Pod> {
    eventually("a worker that is ready", WITHIN, async || {
        let pods = test.pods_of(name, "worker").await?;
        let ready = pods.into_iter().find(|pod| {
            let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
            let mut ready = conditions.filter(|condition| condition.type_ == "Ready" && condition.status == "True");
            let lives = pod.metadata.deletion_timestamp.is_none();
            ready.next().is_some() && lives && !besides.contains(&pod.name_any())
        });
        ready.context("none")
    })
    .await
}

fn said(number: u64) -> String {
    format!("{number}\n")
}

fn of_number(results: &[Recorded], number: u64) -> Result<&Recorded> {
    let found = results.iter().find(|line| line.number == number);
    found.with_context(|| format!("number {number} has no result"))
}

#[tokio::test]
async fn a_task_that_is_killed_for_its_memory_fails_alone_and_says_so() -> Result<()> {
    ensure_installed().await?;
    scenario(async |test| {
        // Number 3 asks for too much once, number 5 always.
        let greedy = script(
            "if [ $HARMONY_TASK = 5 ] || [ $HARMONY_TASK.$HARMONY_ATTEMPT = 3.1 ]; then exec dd if=/dev/zero of=/dev/null \
             bs=300M count=1; fi; echo $HARMONY_TASK",
        );
        let fields = ["completions: 20", "slotsPerWorker: 2", "backoffLimitPerIndex: 1", "backoffLimit: 0", &greedy];
        test.apply(&batch("task", &fields, MEMORY)).await?;
        let (ended, end) = test.wait_end("task", WITHIN).await?;
        ensure!(end.reason == reason::FAILED_INDEXES, "{end:?}");
        ensure!(failures(&ended) == PodFailures::default(), "a pod failed: {:?}", failures(&ended));
        let results = test.results("task").await?;
        ensure!(results.len() == 19 && of_number(&results, 3)?.attempt == 2, "{results:?}");
        let told = status(&ended).failures;
        let [failure] = told.as_slice() else {
            anyhow::bail!("{told:?}")
        };
        ensure!((failure.number, failure.attempt, failure.signal) == (5, 2, Some(9)), "{failure:?}");
        let log = failure.log_tail.clone().unwrap_or_default();
        ensure!(log.starts_with("out of memory (OOMKilled)"), "{failure:?}");
        let first = failure.worker.as_ref().is_some_and(|worker| worker.ends_with("-w-0-0"));
        ensure!(first, "the pod was replaced: {failure:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_worker_that_is_killed_for_its_memory_is_told_and_its_numbers_run_again() -> Result<()> {
    ensure_installed().await?;
    scenario(async |test| {
        // In the first pod the worker is to hold more than it may: lines of several tasks at once, which it keeps in memory.
        let greedy = "executor: {process: {command: [sh, -c, 'while read -r number; do case $HOSTNAME in *-0-0) head -c 60000000 \
                      /dev/zero;; esac; sleep 0.2; echo $number; done']}}";
        let fields = [
            "completions: 40",
            "slotsPerWorker: 4",
            "results: {maxBytesPerTask: 64Mi}",
            greedy,
        ];
        test.apply(&batch("worker", &fields, MEMORY)).await?;
        let ended = test.wait_complete("worker", WITHIN).await?;
        let failures = failures(&ended);
        let killed = failures.reasons.get("OOMKilled").copied();
        ensure!(killed == Some(1) && failures.counted == 1, "{failures:?}");
        let last = failures.last.unwrap_or_default();
        ensure!(
            last.contains("ended: OOMKilled, container worker, exit code 137"),
            "{last}"
        );
        told(test, "worker", "WorkerOOMKilled", "container worker, exit code 137").await?;
        all_right(&test.results("worker").await?, 40, |number| number.to_string())
    })
    .await
}

#[tokio::test]
async fn a_batch_fails_when_more_pods_failed_than_it_allows() -> Result<()> {
    ensure_installed().await?;
    scenario(async |test| {
        let fields = ["completions: 4", "backoffLimit: 2", &ends_with(3)];
        test.apply(&batch("b", &fields, "")).await?;
        let (ended, end) = test.wait_end("b", WITHIN).await?;
        ensure!(end.reason == reason::BACKOFF_LIMIT_EXCEEDED, "{end:?}");
        let cause = "3 worker pods failed, and backoffLimit is 2; the last one: pod ";
        ensure!(
            end.message.starts_with(cause) && end.message.contains("container worker, exit code 3"),
            "{end:?}"
        );
        let failures = failures(&ended);
        ensure!(
            failures.counted == 3 && failures.reasons.get("Error") == Some(&3),
            "{failures:?}"
        );
        told(test, "b", "WorkerError", "exit code 3").await?;
        told(test, "b", reason::BACKOFF_LIMIT_EXCEEDED, cause).await?;
        eventually("the failed pods to be deleted", WITHIN, async || {
            let left = test.pods_of("b", "worker").await?;
            ensure!(left.is_empty(), "{} are left", left.len());
            Ok(())
        })
        .await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_rule_fails_a_batch_by_an_exit_code() -> Result<()> {
    ensure_installed().await?;
    scenario(async |test| {
        let rules = "podFailurePolicy: {rules: [{action: Ignore, onExitCodes: {operator: In, values: [7]}}, \
                     {action: FailBatch, onExitCodes: {containerName: worker, operator: In, values: [42]}}]}";
        let fields = ["completions: 4", rules, &ends_with(42)];
        test.apply(&batch("b", &fields, "")).await?;
        let (ended, end) = test.wait_end("b", WITHIN).await?;
        ensure!(end.reason == reason::POD_FAILURE_POLICY, "{end:?}");
        let cause = "container worker, exit code 42; rule 1 of podFailurePolicy says FailBatch";
        ensure!(end.message.contains(cause), "{end:?}");
        ensure!(failures(&ended).counted == 0, "{:?}", failures(&ended));
        Ok(())
    })
    .await
}

#[tokio::test]
async fn pods_that_are_ignored_deleted_or_evicted_do_not_count() -> Result<()> {
    ensure_installed().await?;
    scenario(async |test| {
        let rules = "podFailurePolicy: {rules: [{action: Ignore, onExitCodes: {operator: In, values: [137]}}]}";
        let tasks = script("sleep 0.5; echo $HARMONY_TASK");
        let fields = [
            "completions: 150",
            "parallelism: 2",
            "slotsPerWorker: 2",
            "backoffLimit: 0",
            rules,
            &tasks,
        ];
        test.apply(&batch("b", &fields, "")).await?;
        let killed = at_work(test, "b", &[]).await?;
        Killer::of(&killed).await?.kill().await?;
        told(
            test,
            "b",
            "WorkerError",
            "exit code 137; rule 0 of podFailurePolicy says Ignore",
        )
        .await?;
        let deleted = at_work(test, "b", &[killed.name_any()]).await?.name_any();
        test.kubectl(&["delete", "pod", &deleted, "--wait=false"]).await?;
        let evicted = at_work(test, "b", &[killed.name_any(), deleted]).await?.name_any();
        let pods = test.api::<Pod>();
        // The disruption budget waits for the one that was deleted.
        eventually("the eviction to be allowed", WITHIN, async || {
            Ok(pods.evict(&evicted, &EvictParams::default()).await?)
        })
        .await?;
        let ended = test.wait_complete("b", WITHIN).await?;
        let failures = failures(&ended);
        println!("told of pods that do not count: {:?}", failures.reasons);
        ensure!(
            failures.counted == 0 && failures.reasons.get("Error") == Some(&1),
            "{failures:?}"
        );
        all_right(&test.results("b").await?, 150, said)
    })
    .await
}
