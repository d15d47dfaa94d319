//! Somebody else decides when and where a batch runs, as Kueue does: it flips suspend, and puts node selectors into the
//! template. The operator does not fight that.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use harmony_api::conditions::SUSPENDED;
use harmony_api::conventions::{OPERATOR, WORKER_ROLE};
use harmony_api::spec::HarmonyBatch;
use harmony_e2e::{Scenario, all_right, batch, condition, ensure_installed, eventually, scenario};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use serde_json::{Value, json};

const WITHIN: Duration = Duration::from_mins(2);
const TASKS: u64 = 120;

const QUEUE: (&str, &str) = ("kueue.x-k8s.io/queue-name", "render");
const FIELDS: &str = "completions: 120
                      parallelism: 2
                      slotsPerWorker: 2
                      suspend: true
                      executor: {exec: {command: [sh, -c, 'sleep 0.5; echo $HARMONY_TASK']}}";

/// The stand-in writes as another manager of fields, as every controller does.
async fn patch(test: &Scenario, spec: Value) -> Result<i64> {
    let patch = json!({ "spec": spec }).to_string();
    let flags = ["--type=merge", "--field-manager=queue", "--patch", &patch];
    test.kubectl(&[&["patch", "hb/b"], flags.as_slice()].concat()).await?;
    generation(&test.api::<HarmonyBatch>().get("b").await?)
}

fn generation(batch: &HarmonyBatch) -> Result<i64> {
    batch.metadata.generation.context("no generation")
}

async fn admit(test: &Scenario, node: &str) -> Result<i64> {
    let selector = json!({ "kubernetes.io/hostname": node });
    patch(
        test,
        json!({ "suspend": false, "template": { "spec": { "nodeSelector": selector } } }),
    )
    .await
}

/// Takes the batch out again, and the node selector with it.
async fn evict(test: &Scenario) -> Result<i64> {
    patch(
        test,
        json!({ "suspend": true, "template": { "spec": { "nodeSelector": null } } }),
    )
    .await
}

/// Waits until workers run on this node and none on another, and work is done by them.
async fn runs_on(test: &Scenario, node: &str, recorded: u64) -> Result<u64> {
    eventually(&format!("workers on {node}"), WITHIN, async || {
        let pods = test.pods_of("b", WORKER_ROLE).await?;
        let selected = |pod: &Pod| {
            let spec = pod.spec.as_ref();
            let selector = spec.and_then(|spec| spec.node_selector.as_ref());
            let told = selector.and_then(|selector| selector.get("kubernetes.io/hostname"));
            told.is_some_and(|told| told == node) && spec.is_some_and(|spec| spec.node_name.as_deref() == Some(node))
        };
        ensure!(pods.len() == 2 && pods.iter().all(selected), "{} pods", pods.len());
        let batch = test.api::<HarmonyBatch>().get("b").await?;
        let tasks = batch.status.and_then(|status| status.tasks).unwrap_or_default();
        ensure!(tasks.succeeded > recorded, "{tasks:?}");
        Ok(tasks.succeeded)
    })
    .await
}

async fn is_suspended(test: &Scenario, generation: i64) -> Result<()> {
    let what = "the batch to be suspended";
    test.wait_for(what, WITHIN, "b", |batch: &HarmonyBatch| {
        let status = batch.status.as_ref().context("no status")?;
        ensure!(status.observed_generation == Some(generation), "{status:?}");
        let told = condition(batch, SUSPENDED).context("not told")?;
        ensure!(told.status == "True" && status.active == 0, "{status:?}");
        Ok(())
    })
    .await?;
    eventually("the workers to be gone", WITHIN, async || {
        let pods = test.pods_of("b", WORKER_ROLE).await?;
        ensure!(pods.is_empty(), "{} are there", pods.len());
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_queue_that_flips_suspend_and_chooses_nodes_is_not_fought() -> Result<()> {
    ensure_installed().await?;
    scenario(async |test| {
        let text = batch("b", FIELDS).replace(
            "metadata: {name: b}",
            &format!("metadata: {{name: b, labels: {{{}: {}}}}}", QUEUE.0, QUEUE.1),
        );
        test.apply(&text).await?;
        is_suspended(test, 1).await?;
        admit(test, "node-1").await?;
        let recorded = runs_on(test, "node-1", 0).await?;
        let evicted = evict(test).await?;
        is_suspended(test, evicted).await?;
        let admitted = admit(test, "node-0").await?;
        let more = runs_on(test, "node-0", recorded).await?;
        println!("{recorded} tasks on node-1, then {more} with node-0");

        let done = test.wait_complete("b", WITHIN).await?;
        // Nobody but the queue wrote the spec, and what it wrote is there.
        ensure!(
            generation(&done)? == admitted && admitted == evicted + 1,
            "{:?}",
            done.metadata
        );
        ensure!(done.spec.suspend == Some(false), "{:?}", done.spec.suspend);
        ensure!(
            done.labels().get(QUEUE.0).is_some_and(|queue| queue == QUEUE.1),
            "{:?}",
            done.labels()
        );
        let managers = done.metadata.managed_fields.iter().flatten();
        let of_operator = managers.filter(|entry| entry.manager.as_deref() == Some(OPERATOR));
        for entry in of_operator {
            ensure!(entry.subresource.as_deref() == Some("status"), "{entry:?}");
        }
        all_right(&test.results("b").await?, TASKS, |number| format!("{number}\n"))
    })
    .await
}
