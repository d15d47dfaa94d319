//! Asks a pod by port-forward, which reaches its loopback too.

use anyhow::{Context as _, Result};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// The body that a pod's port answers a GET with; any status but 200 is an error.
pub async fn fetch_forwarded(pods: &Api<Pod>, pod: &str, port: u16, path: &str) -> Result<String> {
    let mut forwarder = pods.portforward(pod, &[port]).await?;
    let mut stream = forwarder.take_stream(port).context("the port is not forwarded")?;
    // Of version 1.0: the answer ends where the connection does, in one piece.
    let request = format!("GET {path} HTTP/1.0\r\nHost: {pod}\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let (head, body) = answer.split_once("\r\n\r\n").context("the answer has no head")?;
    let status = head.lines().next().unwrap_or_default();
    anyhow::ensure!(status.contains(" 200 "), "{path} of {pod}:{port}: {status}: {body}");
    Ok(body.to_owned())
}
