//! etcd, the API server, the controller manager and the scheduler, in the first node's network.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use super::layout::{Layout, POD_RANGE, SERVICE_RANGE, dotted};
use super::process::{start, wait_until};
use crate::context::works;

/// How long the API server may take: a second or two, more on a machine that is busy.
const READY_WITHIN: Duration = Duration::from_mins(1);

/// A node that says nothing for so long is lost; with the default, a test of it would take a minute.
const LOST_AFTER: &str = "20s";

/// Starts what keeps the objects and hands them out.
pub(super) fn start_server(layout: &Layout) -> Result<()> {
    let data = layout.folder.join("etcd");
    start(
        layout,
        layout.first(),
        "etcd",
        Path::new("etcd"),
        [
            format!("--data-dir={}", data.display()),
            "--listen-client-urls=http://127.0.0.1:2379".to_owned(),
            "--advertise-client-urls=http://127.0.0.1:2379".to_owned(),
            "--listen-peer-urls=http://127.0.0.1:2380".to_owned(),
            "--unsafe-no-fsync".to_owned(),
        ],
    )?;
    let program = layout.programs.join("kube-apiserver");
    start(layout, layout.first(), "kube-apiserver", &program, server_flags(layout))
}

fn server_flags(layout: &Layout) -> Vec<String> {
    let secret = |flag: &str, file: &str| format!("--{flag}={}", layout.secrets().join(file).display());
    vec![
        "--etcd-servers=http://127.0.0.1:2379".to_owned(),
        format!("--advertise-address={}", dotted(layout.first().address)),
        "--secure-port=6443".to_owned(),
        format!("--service-cluster-ip-range={SERVICE_RANGE}"),
        "--allow-privileged=true".to_owned(),
        // No name server knows the nodes.
        "--kubelet-preferred-address-types=InternalIP".to_owned(),
        "--authorization-mode=Node,RBAC".to_owned(),
        // What stricter distributions switch on: a node writes only its own, an owner reference that blocks needs the right to.
        "--enable-admission-plugins=NodeRestriction,OwnerReferencesPermissionEnforcement".to_owned(),
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local".to_owned(),
        secret("service-account-key-file", "accounts.pub"),
        secret("service-account-signing-key-file", "accounts.key"),
        secret("token-auth-file", "tokens.csv"),
        secret("tls-cert-file", "server.crt"),
        secret("tls-private-key-file", "server.key"),
    ]
}

/// Starts those who act on the objects. Without leases, which they would lose for good when a test stops the server.
pub(super) fn start_controllers(layout: &Layout) -> Result<()> {
    let start_one = |name: &str, kubeconfig: &str, flags: Vec<String>| {
        let kubeconfig = format!("--kubeconfig={}", layout.kubeconfig_of(kubeconfig).display());
        let program = layout.programs.join(name);
        let flags = flags.into_iter().chain([kubeconfig, "--leader-elect=false".to_owned()]);
        start(layout, layout.first(), name, &program, flags)
    };
    let secret = |flag: &str, file: &str| format!("--{flag}={}", layout.secrets().join(file).display());
    start_one(
        "kube-controller-manager",
        "controller-manager",
        vec![
            format!("--cluster-cidr={POD_RANGE}"),
            format!("--service-cluster-ip-range={SERVICE_RANGE}"),
            format!("--node-monitor-grace-period={LOST_AFTER}"),
            "--use-service-account-credentials".to_owned(),
            secret("service-account-private-key-file", "accounts.key"),
            secret("root-ca-file", "ca.crt"),
        ],
    )?;
    start_one("kube-scheduler", "scheduler", Vec::new())
}

/// Waits until the API server says that it is ready.
pub(super) fn wait_for_server(layout: &Layout) -> Result<()> {
    wait_until("API server", READY_WITHIN, || {
        let unready = || format!("/readyz is not ok; see {}/kube-apiserver.log", layout.logs().display());
        is_ready(layout).then_some(()).ok_or_else(unready)
    })
}

/// Whether the API server says that it is ready.
pub(super) fn is_ready(layout: &Layout) -> bool {
    works(kubectl(layout).args(["--request-timeout=2s", "get", "--raw=/readyz"]))
}

/// kubectl as the administrator: the one on PATH or the one that was built.
pub(super) fn kubectl(layout: &Layout) -> Command {
    let built = layout.programs.join("kubectl");
    let mut kubectl = Command::new(if built.is_file() { &built } else { Path::new("kubectl") });
    kubectl.env("KUBECONFIG", layout.kubeconfig());
    kubectl
}
