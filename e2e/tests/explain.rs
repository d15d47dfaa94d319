//! Why a batch on a cluster is not done: answered within a minute, from all doors.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use harmony_e2e::{Scenario, ensure_installed, eventually, scenario};
use serde_json::Value;

/// For the cluster to show what is wrong, and for an answer.
const WITHIN: Duration = Duration::from_secs(50);

/// A batch of three tasks of which the first ends at once and the others do not. `pod` and `image` are of its template.
fn batch(name: &str, pod: &str, image: &str) -> String {
    format!(
        "apiVersion: harmony.dev/v1alpha1
kind: HarmonyBatch
metadata: {{name: {name}}}
spec:
  completions: 3
  parallelism: 1
  executor: {{exec: {{command: [sh, -c, '[ $HARMONY_TASK = 0 ] || sleep 300']}}}}
  template: {{spec: {{{pod} containers: [{{name: worker, image: '{image}', securityContext: {{runAsUser: 1000}}}}]}}}}
"
    )
}

/// Asks until the first line holds all of these; gives the whole answer.
async fn answers(test: &Scenario, arguments: &[&str], said: &[&str]) -> Result<Value> {
    let arguments = [&["explain"], arguments, &["-o", "json"]].concat();
    eventually(&format!("harmony {arguments:?} to say {said:?}"), WITHIN, async || {
        let answer: Value = serde_json::from_str(&test.harmony_prints(&arguments).await?)?;
        let first = answer.get("answer").and_then(Value::as_str).context("no answer")?;
        ensure!(said.iter().all(|said| first.contains(said)), "{answer:#}");
        Ok(answer)
    })
    .await
}

#[tokio::test]
async fn an_image_that_cannot_be_pulled_and_a_node_that_is_not_there_are_the_answer() -> Result<()> {
    ensure_installed().await?;
    scenario(async |test| {
        test.apply(&batch("image", "", "nowhere:1")).await?;
        let nowhere = "nodeSelector: {harmony.dev/nowhere: 'true'},";
        test.apply(&batch("node", nowhere, "shell:dev")).await?;
        let (image, node) = tokio::try_join!(
            answers(test, &["image"], &["image is not done", "nowhere:1"]),
            answers(test, &["node"], &["node is not done", "Unschedulable"]),
        )?;
        ensure!(image["account"]["pods"][0]["reason"] != Value::Null, "{image:#}");
        ensure!(node["account"]["pods"][0]["reason"] == "Unschedulable", "{node:#}");
        answers(test, &["node", "2"], &["Task 2 of node waits to be sent"]).await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_task_that_runs_and_one_that_is_done_are_told() -> Result<()> {
    ensure_installed().await?;
    scenario(async |test| {
        test.apply(&batch("b", "", "shell:dev")).await?;
        let done = answers(test, &["b", "0"], &["Task 0 of b is done: it succeeded"]).await?;
        ensure!(done["account"]["number"]["recorded"]["settled"] == true, "{done:#}");
        let runs = answers(test, &["b", "1"], &["Task 1 of b is at worker"]).await?;
        ensure!(
            runs["account"]["number"]["ventilator"]["state"] == "in-flight",
            "{runs:#}"
        );
        answers(test, &["b", "7"], &["does not exist"]).await?;
        let whole = answers(test, &["b"], &["b is running"]).await?;
        ensure!(whole["unknown"] == Value::Array(Vec::new()), "{whole:#}");
        Ok(())
    })
    .await
}
