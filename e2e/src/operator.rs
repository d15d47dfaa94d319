//! Harmony on the cluster under test.

use std::path::Path;

use anyhow::{Context as _, Result};
use tokio::sync::OnceCell;

use crate::kubectl::{kubectl, kubectl_reading};

/// Where `deploy/harmony.yaml` puts the operator.
pub const OPERATOR_NAMESPACE: &str = "harmony-system";

/// Once per test program: the file says the same each time.
static INSTALLED: OnceCell<()> = OnceCell::const_new();

/// Installs Harmony as the documentation says, and waits until the operator is available.
pub async fn ensure_installed() -> Result<()> {
    INSTALLED.get_or_try_init(install).await.copied()
}

/// Removes all that [`install`] made and is there, and waits until it is gone.
pub async fn uninstall() -> Result<()> {
    kubectl(&[
        "delete",
        "--ignore-not-found",
        "--filename",
        &manifest()?,
        "--timeout=120s",
    ])
    .await
    .map(drop)
}

fn manifest() -> Result<String> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/harmony.yaml");
    let file = file.canonicalize().with_context(|| format!("{}", file.display()))?;
    Ok(file.to_str().context("the checkout's path is not UTF-8")?.to_owned())
}

/// The same as [`ensure_installed`], each time: for tests that uninstall.
pub async fn install() -> Result<()> {
    kubectl(&["apply", "--filename", &manifest()?]).await?;
    rolled_out().await
}

/// Lets operators of another image take over, as an upgrade does: `harmony:next` in place of `harmony:dev`.
pub async fn upgrade() -> Result<()> {
    let text = std::fs::read_to_string(manifest()?)?.replace("harmony:dev", "harmony:next");
    kubectl_reading(&["apply", "--filename=-"], &text).await?;
    rolled_out().await
}

/// The process that leads, as the lease has it.
pub async fn leader() -> Result<String> {
    let lease = ["get", "lease", "harmony-operator", "--namespace", OPERATOR_NAMESPACE];
    kubectl(&[lease.as_slice(), &["--output=jsonpath={.spec.holderIdentity}"]].concat()).await
}

async fn rolled_out() -> Result<()> {
    let deployment = "deployment/harmony-operator";
    let available = [
        "--for=condition=Available",
        "--timeout=90s",
        "--namespace",
        OPERATOR_NAMESPACE,
    ];
    kubectl(&[&["wait", deployment], available.as_slice()].concat()).await?;
    // Of an image that was loaded again, the old operator may still be the one that is available.
    kubectl(&[
        "rollout",
        "status",
        deployment,
        "--timeout=90s",
        "--namespace",
        OPERATOR_NAMESPACE,
    ])
    .await?;
    Ok(())
}
