//! Batches on the cluster under test: how they end, what they leave, and the program that people ask.

use std::env;
use std::path::PathBuf;
use std::process::{Output, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use harmony_api::conventions::{BATCH_LABEL, ROLE_LABEL};
use harmony_api::spec::HarmonyBatch;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::ListParams;
use serde::Deserialize;
use tokio::process::Command;

use crate::Scenario;

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
        let printed = self.harmony_prints(&["results", batch]).await?;
        printed
            .lines()
            .map(|line| serde_json::from_str(line).with_context(|| format!("no result: {line}")))
            .collect()
    }
}
