//! A node: containerd, kubelet and kube-proxy in a network namespace.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::layout::{Layout, Node, POD_RANGE, dotted};
use super::process::{start, wait_until};

/// How long containerd may take until it listens.
const LISTENING_WITHIN: Duration = Duration::from_secs(20);

/// Where Linux shows its control groups.
const CGROUPS: &str = "/sys/fs/cgroup";

/// Starts what runs containers. It needs nothing else of the cluster.
pub(super) fn start_containerd(layout: &Layout, node: &Node) -> Result<()> {
    let networks = node.folder.join("cni");
    fs::create_dir_all(&networks)?;
    fs::write(networks.join("10-bridge.conflist"), network(node))?;
    let config = node.folder.join("containerd.toml");
    fs::write(&config, containerd(node))?;
    let name = format!("containerd-{}", node.name);
    start(
        layout,
        node,
        &name,
        Path::new("containerd"),
        [Path::new("--config"), &config],
    )
}

/// Waits until containerd listens.
pub(super) fn wait_for_containerd(node: &Node) -> Result<()> {
    let socket = node.socket();
    wait_until("containerd", LISTENING_WITHIN, || {
        let connected = std::os::unix::net::UnixStream::connect(&socket);
        connected
            .map(drop)
            .map_err(|error| format!("{}: {error}", socket.display()))
    })
}

/// Starts what makes pods of it and leads service addresses to them.
pub(super) fn start_kubelet(layout: &Layout, node: &Node) -> Result<()> {
    make_cgroups(node)?;
    let resolver = node.folder.join("resolv.conf");
    fs::write(&resolver, "")?;
    let kubelet = node.folder.join("kubelet.yaml");
    fs::write(&kubelet, kubelet_settings(layout, node, &resolver))?;
    let name = format!("kubelet-{}", node.name);
    let flags = [
        format!("--config={}", kubelet.display()),
        format!("--kubeconfig={}", layout.kubeconfig_of(&node.name).display()),
        format!("--hostname-override={}", node.name),
        format!("--node-ip={}", dotted(node.address)),
        format!("--root-dir={}", node.folder.join("kubelet").display()),
        format!("--cert-dir={}", node.folder.join("pki").display()),
    ];
    start(layout, node, &name, &layout.programs.join("kubelet"), flags)?;

    let proxy = node.folder.join("kube-proxy.yaml");
    fs::write(&proxy, proxy_settings(layout, node))?;
    let name = format!("kube-proxy-{}", node.name);
    let config = format!("--config={}", proxy.display());
    start(layout, node, &name, &layout.programs.join("kube-proxy"), [config])
}

fn network(node: &Node) -> String {
    let (name, range) = (&node.name, &node.pod_range);
    let leases = node.folder.join("addresses");
    let leases = leases.display();
    format!(
        r#"{{
  "cniVersion": "0.4.0",
  "name": "{name}",
  "plugins": [
    {{
      "type": "bridge",
      "bridge": "pods",
      "isGateway": true,
      "hairpinMode": true,
      "ipam": {{
        "type": "host-local",
        "dataDir": "{leases}",
        "ranges": [[{{"subnet": "{range}"}}]],
        "routes": [{{"dst": "0.0.0.0/0"}}]
      }}
    }},
    {{"type": "portmap", "capabilities": {{"portMappings": true}}}}
  ]
}}
"#
    )
}

/// Everything below the node's folder, and nothing that needs `CAP_SYS_RESOURCE`.
fn containerd(node: &Node) -> String {
    let (folder, socket) = (node.folder.display(), node.socket());
    let socket = socket.display();
    format!(
        r#"version = 2
root = "{folder}/containerd"
state = "{folder}/containerd-state"

[grpc]
  address = "{socket}"

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "localhost/pause:1"
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true

[plugins."io.containerd.grpc.v1.cri".containerd]
  snapshotter = "overlayfs"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "/usr/lib/cni"
  conf_dir = "{folder}/cni"
"#
    )
}

fn kubelet_settings(layout: &Layout, node: &Node, resolver: &Path) -> String {
    let (socket, cgroup) = (node.socket(), &node.cgroup);
    let (socket, dns) = (socket.display(), dotted(layout.first().address));
    let (folder, resolver) = (node.folder.display(), resolver.display());
    // Nobody else reaches the port: access to it is not checked. Disks of test machines are nearly full, and swap may be on.
    format!(
        r#"apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
containerRuntimeEndpoint: "unix://{socket}"
cgroupDriver: cgroupfs
cgroupRoot: "/{cgroup}"
failCgroupV1: false
failSwapOn: false
authentication: {{anonymous: {{enabled: true}}, webhook: {{enabled: false}}}}
authorization: {{mode: AlwaysAllow}}
clusterDomain: cluster.local
clusterDNS: ["{dns}"]
resolvConf: "{resolver}"
podLogsDir: "{folder}/pod-logs"
volumePluginDir: "{folder}/volume-plugins"
evictionHard: {{memory.available: "1Mi", nodefs.available: "0.1%", nodefs.inodesFree: "0.1%", imagefs.available: "0.1%"}}
imageGCHighThresholdPercent: 100
serializeImagePulls: false
registryPullQPS: 0
"#
    )
}

fn proxy_settings(layout: &Layout, node: &Node) -> String {
    let (kubeconfig, name) = (layout.kubeconfig_of("proxy"), &node.name);
    let kubeconfig = kubeconfig.display();
    format!(
        r#"apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
clusterCIDR: "{POD_RANGE}"
hostnameOverride: "{name}"
conntrack: {{maxPerCore: 0}}
clientConnection: {{kubeconfig: "{kubeconfig}"}}
"#
    )
}

/// The folders of a node's cgroup, one for each controller, or the one of version 2.
pub(super) fn cgroups(node: &Node) -> Vec<PathBuf> {
    let root = Path::new(CGROUPS);
    if root.join("cgroup.controllers").is_file() {
        return vec![root.join(&node.cgroup)];
    }
    let controllers = fs::read_dir(root).into_iter().flatten().flatten();
    controllers
        .map(|entry| entry.path())
        .filter(|path| path.is_dir() && !path.is_symlink())
        .map(|path| path.join(&node.cgroup))
        .collect()
}

/// Kubelet wants its root to be there.
fn make_cgroups(node: &Node) -> Result<()> {
    for folder in cgroups(node) {
        fs::create_dir_all(&folder).with_context(|| format!("{} cannot be made", folder.display()))?;
        // A new cpuset of version 1 has no processors and no memory, and takes no process.
        for setting in ["cpuset.cpus", "cpuset.mems"] {
            if let Ok(inherited) = fs::read_to_string(folder.with_file_name(setting)) {
                let _ = fs::write(folder.join(setting), inherited);
            }
        }
    }
    Ok(())
}
