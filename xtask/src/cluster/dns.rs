//! Names of Services: `CoreDNS` as a plain process, beside the API server.

use std::fs;

use anyhow::Result;

use super::layout::{Layout, dotted};
use super::process::start;

/// Starts it. It tries again until the API server is there.
pub(super) fn start_dns(layout: &Layout) -> Result<()> {
    let (address, kubeconfig) = (dotted(layout.first().address), layout.kubeconfig_of("dns"));
    let settings = format!(
        r".:53 {{
    bind {address}
    errors
    kubernetes cluster.local in-addr.arpa {{
        kubeconfig {kubeconfig}
        ttl 5
    }}
}}
",
        kubeconfig = kubeconfig.display()
    );
    let file = layout.folder.join("Corefile");
    fs::write(&file, settings)?;
    let config = format!("-conf={}", file.display());
    start(
        layout,
        layout.first(),
        "coredns",
        &layout.programs.join("coredns"),
        [config],
    )
}
