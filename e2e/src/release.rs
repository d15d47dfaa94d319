//! The chart, by real Helm.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, Result};
use tokio::sync::Mutex;

use crate::kubectl::{helm, kubectl};
use crate::operator::{OPERATOR_NAMESPACE, install, uninstall};
use crate::scenario::{Scenario, scenario};

/// The name of the release.
pub const RELEASE: &str = "harmony";

/// There is one Harmony on a cluster.
static ALONE: Mutex<()> = Mutex::const_new(());

/// Where the chart is.
pub fn chart() -> Result<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts/harmony");
    let folder = folder.canonicalize().with_context(|| format!("{}", folder.display()))?;
    Ok(folder.to_str().context("the checkout's path is not UTF-8")?.to_owned())
}

/// Runs Helm on the release, with the chart if it needs one.
pub async fn on_release(words: &[&str], arguments: &[&str]) -> Result<String> {
    let begun = Instant::now();
    let place = ["--namespace", OPERATOR_NAMESPACE, "--timeout=120s"];
    let said = helm(&[words, place.as_slice(), arguments].concat()).await?;
    println!("helm {}: {:.1} s", words.join(" "), begun.elapsed().as_secs_f64());
    Ok(said)
}

/// Runs a test on a cluster that knows nothing of Harmony, in its own namespace. What was installed comes back after it.
pub async fn without_harmony(test: impl AsyncFnOnce(&Scenario) -> Result<()>) -> Result<()> {
    let _alone = ALONE.lock().await;
    uninstall().await?;
    kubectl(&["create", "namespace", OPERATOR_NAMESPACE]).await?;
    let restricted = "pod-security.kubernetes.io/enforce=restricted";
    kubectl(&["label", "namespace", OPERATOR_NAMESPACE, restricted]).await?;
    let outcome = scenario(test).await;
    // Whatever the test left; the definition goes with the manifests.
    let gone = on_release(&["uninstall", RELEASE], &["--ignore-not-found", "--wait"]).await;
    uninstall().await?;
    install().await?;
    outcome.and(gone.map(drop))
}
