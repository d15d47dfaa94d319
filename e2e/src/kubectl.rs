//! kubectl and Helm, for what a person does by them.

use std::process::Stdio;

use anyhow::{Context as _, Result, bail};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// Runs kubectl and gives what it prints; its complaint is the error.
pub async fn kubectl(arguments: &[&str]) -> Result<String> {
    kubectl_reading(arguments, "").await
}

/// The same with something to read.
pub async fn kubectl_reading(arguments: &[&str], input: &str) -> Result<String> {
    run("kubectl", arguments, input).await
}

/// Runs Helm and gives what it prints; its complaint is the error.
pub async fn helm(arguments: &[&str]) -> Result<String> {
    run("helm", arguments, "").await
}

async fn run(program: &str, arguments: &[&str], input: &str) -> Result<String> {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("{program} cannot be started; `cargo xtask e2e` builds it where PATH has none"))?;
    if let Some(mut stdin) = child.stdin.take() {
        // It may refuse before it has read all; what it says then is the error.
        let _ = stdin.write_all(input.as_bytes()).await;
    }
    let output = child.wait_with_output().await?;
    if !output.status.success() {
        let complaint = String::from_utf8_lossy(&output.stderr);
        bail!("{program} {}: {}", arguments.join(" "), complaint.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
