//! Batches on the cluster under test: how they end, what they leave, and the program that people ask.

use std::env;
use std::path::PathBuf;
use std::process::{Output, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use harmony_api::conditions::{COMPLETE, FAILED};
use harmony_api::conventions::{BATCH_LABEL, ROLE_LABEL, WORKER_ROLE};
use harmony_api::spec::HarmonyBatch;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::ListParams;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::process::Command;

use crate::{Scenario, eventually};

/// The variable that names the program, of the same build as the image.
const PROGRAM: &str = "HARMONY_BIN";

/// A line of `results.ndjson` whose output is text.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Recorded {
    /// The task.
    pub number: u64,
    /// Which attempt gave the result, from 1.
    pub attempt: u32,
    /// The result.
    pub output: String,
}

/// One line of `harmony failed`.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct FailedLine {
    /// The task.
    pub number: u64,
    /// How often it was tried.
    pub attempts: u32,
    /// One word for the cause.
    pub reason: String,
    /// What it ended with.
    pub exit_code: Option<i32>,
    /// The pod that ran it.
    pub worker: String,
    /// Its last words.
    pub log: String,
}

/// What a user's worker pod is at least. The image is root's, which "restricted" refuses.
const CONTAINERS: &str = "containers: [{name: worker, image: shell:dev, securityContext: {runAsUser: 1000}}]";

/// The text of a batch: its name, and the fields of its spec besides the template, each in a line.
pub fn batch(name: &str, fields: &str) -> String {
    let template = format!("template: {{spec: {{{CONTAINERS}}}}}");
    with_template(name, fields, &template)
}

/// The same with a worker on each node, as far as there are nodes.
pub fn batch_on_all_nodes(name: &str, fields: &str) -> String {
    let template = format!(
        "template: {{spec: {{topologySpreadConstraints: [{{maxSkew: 1, topologyKey: kubernetes.io/hostname, \
         whenUnsatisfiable: ScheduleAnyway, labelSelector: {{matchLabels: {{{BATCH_LABEL}: {name}, {ROLE_LABEL}: \
         {WORKER_ROLE}}}}}}}], {CONTAINERS}}}}}"
    );
    with_template(name, fields, &template)
}

fn with_template(name: &str, fields: &str, template: &str) -> String {
    let fields = fields.lines().map(|field| format!("  {}\n", field.trim()));
    let fields: String = fields.collect();
    format!(
        "---\napiVersion: harmony.dev/v1alpha1\nkind: HarmonyBatch\nmetadata: {{name: {name}}}\nspec:\n{fields}  {template}\n"
    )
}

/// Every number from 0 on has one result, in order, and it is the right one.
pub fn all_right(results: &[Recorded], count: u64, right: impl Fn(u64) -> String) -> Result<()> {
    for (number, line) in (0..count).zip(results) {
        let right = right(number);
        if line.number != number || line.output != right {
            bail!("in place {number} there should be {right:?}, not {line:?}");
        }
    }
    if results.len() as u64 != count {
        bail!("{} results of {count} tasks", results.len());
    }
    Ok(())
}

/// A condition of a batch, if it was told.
pub fn condition<'a>(batch: &'a HarmonyBatch, type_: &str) -> Option<&'a Condition> {
    let conditions = batch.status.as_ref().map(|status| status.conditions.as_slice());
    conditions
        .unwrap_or_default()
        .iter()
        .find(|condition| condition.type_ == type_)
}

/// The program `harmony`, as it is in the image.
pub fn program() -> Result<PathBuf> {
    let program = env::var_os(PROGRAM).map(PathBuf::from);
    program
        .with_context(|| format!("{PROGRAM} is not set: `cargo xtask e2e` sets it to the path of the program harmony"))
}

impl Scenario {
    /// Waits as users do: `kubectl wait` for the condition.
    pub async fn wait_complete(&self, name: &str, within: Duration) -> Result<HarmonyBatch> {
        let (object, timeout) = (format!("hb/{name}"), format!("--timeout={}s", within.as_secs()));
        self.kubectl(&["wait", &object, "--for=condition=Complete", &timeout])
            .await?;
        Ok(self.api::<HarmonyBatch>().get(name).await?)
    }

    /// Waits until a batch is over, however it ends, and gives it with the condition that says so.
    pub async fn wait_end(&self, name: &str, within: Duration) -> Result<(HarmonyBatch, Condition)> {
        let what = format!("the end of batch {name}");
        let batches = self.api::<HarmonyBatch>();
        eventually(&what, within, async || {
            let batch = batches.get(name).await?;
            let mut ends = [COMPLETE, FAILED]
                .into_iter()
                .filter_map(|kind| condition(&batch, kind));
            let end = ends.find(|end| end.status == "True").cloned();
            let end = end.with_context(|| format!("{:?}", batch.status))?;
            Ok((batch, end))
        })
        .await
    }

    /// Waits until a condition of a batch is True, and gives the batch as it is then.
    pub async fn wait_for_condition(&self, batch: &str, type_: &str, within: Duration) -> Result<HarmonyBatch> {
        let what = format!("batch {batch} to be {type_}");
        self.wait_for(&what, within, batch, |batch: &HarmonyBatch| {
            let holds = condition(batch, type_).is_some_and(|condition| condition.status == "True");
            ensure!(holds, "{:?}", batch.status);
            Ok(batch.clone())
        })
        .await
    }

    /// The pods of a batch that have a role, by the labels that scripts rely on.
    pub async fn pods_of(&self, batch: &str, role: &str) -> Result<Vec<Pod>> {
        let labels = ListParams::default().labels(&format!("{BATCH_LABEL}={batch},{ROLE_LABEL}={role}"));
        Ok(self.api::<Pod>().list(&labels).await?.items)
    }

    /// Runs `harmony` on the namespace; how it ends is part of the answer.
    pub async fn harmony(&self, arguments: &[&str]) -> Result<Output> {
        let mut command = Command::new(program()?);
        command.args(arguments).args(["--namespace", &self.namespace]);
        let output = command.stdin(Stdio::null()).kill_on_drop(true).output();
        output.await.context("harmony cannot be started")
    }

    /// What `harmony` prints when all is well.
    pub async fn harmony_prints(&self, arguments: &[&str]) -> Result<String> {
        let output = self.harmony(arguments).await?;
        let complaint = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success(),
            "harmony {arguments:?} ended with {}: {complaint}",
            output.status
        );
        Ok(String::from_utf8(output.stdout)?)
    }

    /// What `harmony results` prints of a batch.
    pub async fn results(&self, batch: &str) -> Result<Vec<Recorded>> {
        lines(&self.harmony_prints(&["results", batch]).await?)
    }

    /// What `harmony failed` prints of a batch.
    pub async fn failed(&self, batch: &str) -> Result<Vec<FailedLine>> {
        lines(&self.harmony_prints(&["failed", batch]).await?)
    }
}

/// Reads what `harmony` printed, a JSON object a line.
fn lines<T: DeserializeOwned>(text: &str) -> Result<Vec<T>> {
    let parse = |line| serde_json::from_str(line).with_context(|| format!("not as expected: {line}"));
    text.lines().map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(number: u64, output: &str) -> Recorded {
        let output = output.to_owned();
        Recorded {
            number,
            attempt: 1,
            output,
        }
    }

    #[test]
    fn missing_doubled_and_wrong_results_are_seen() {
        let right = |number: u64| number.to_string();
        let judge = |results: &[Recorded]| all_right(results, 2, right).is_ok();
        assert!(judge(&[line(0, "0"), line(1, "1")]));
        assert!(!judge(&[line(0, "0")]));
        assert!(!judge(&[line(0, "0"), line(0, "0"), line(1, "1")]));
        assert!(!judge(&[line(0, "0"), line(1, "1"), line(1, "1")]));
        assert!(!judge(&[line(0, "0"), line(1, "2")]));
    }
}
