//! What a cluster is made of: names, addresses and folders, all of them from its index.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};

use crate::context::Context;

/// Clusters that can stand side by side: as many second bytes as 100.64.0.0/10 has.
pub(crate) const CLUSTERS: u8 = 64;

/// The address of every cluster's API server as its pods see it.
pub(super) const SERVICE_ADDRESS: [u8; 4] = [10, 96, 0, 1];

/// Where Services have their addresses.
pub(super) const SERVICE_RANGE: &str = "10.96.0.0/16";

/// Where the pods of all nodes have theirs. Nothing outside the namespaces sees them, so clusters share the range.
pub(super) const POD_RANGE: &str = "10.244.0.0/16";

/// Longest folder that leaves room for the sockets below it: a unix socket's path has at most 107 bytes.
const LONGEST_FOLDER: usize = 60;

/// One cluster.
#[derive(Debug)]
pub(crate) struct Layout {
    /// Sets names and addresses apart.
    pub(super) index: u8,
    /// All it keeps.
    pub(super) folder: PathBuf,
    /// The programs that are built for it.
    pub(super) programs: PathBuf,
    /// The nodes; the first has the control plane too.
    pub(super) nodes: [Node; 2],
}

/// One node: a network namespace with a containerd and a kubelet.
#[derive(Debug)]
pub(super) struct Node {
    /// What the API server calls it.
    pub(super) name: String,
    /// Its network namespace.
    pub(super) namespace: String,
    /// Its address, where kubelet listens.
    pub(super) address: [u8; 4],
    /// Where its pods have their addresses.
    pub(super) pod_range: String,
    /// The cgroup of all its pods, below each controller's root.
    pub(super) cgroup: String,
    /// All it keeps.
    pub(super) folder: PathBuf,
}

impl Layout {
    /// The cluster of this index, whether it is up or not.
    pub(crate) fn new(context: &Context, index: u8) -> Result<Self> {
        ensure!(index < CLUSTERS, "--index {index}: there are {CLUSTERS}, from 0");
        let folder = context.cache.join(format!("cluster-{index}"));
        let length = folder.as_os_str().len();
        ensure!(
            length <= LONGEST_FOLDER,
            "{} has {length} bytes, and sockets below it need it to have at most {LONGEST_FOLDER}: set XDG_CACHE_HOME",
            folder.display()
        );
        Ok(Self {
            index,
            programs: context.cache.join("cluster-tools/bin"),
            nodes: [0, 1].map(|ordinal| Node::new(index, ordinal, &folder)),
            folder,
        })
    }

    /// The cluster whose administrator's kubeconfig this is, if it is one of these.
    pub(crate) fn of_kubeconfig(context: &Context, kubeconfig: &Path) -> Option<Self> {
        (0..CLUSTERS)
            .filter_map(|index| Self::new(context, index).ok())
            .find(|layout| layout.kubeconfig() == kubeconfig)
    }

    /// Marks all that belongs to this cluster.
    pub(super) fn name(&self) -> String {
        format!("harmony-{}", self.index)
    }

    /// The node that has the control plane too.
    pub(super) fn first(&self) -> &Node {
        &self.nodes[0]
    }

    /// The address of this side of the link to the first node.
    pub(super) fn outside(&self) -> [u8; 4] {
        [100, 64 + self.index, 0, 1]
    }

    /// Where the API server listens.
    pub(super) fn server(&self) -> String {
        format!("https://{}:6443", dotted(self.first().address))
    }

    /// The administrator's kubeconfig.
    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.folder.join("kubeconfig")
    }

    /// A kubeconfig of one of the components.
    pub(super) fn kubeconfig_of(&self, user: &str) -> PathBuf {
        self.folder.join(format!("kubeconfig-{user}"))
    }

    /// Where keys, certificates and tokens are.
    pub(super) fn secrets(&self) -> PathBuf {
        self.folder.join("secrets")
    }

    /// What the components say.
    pub(super) fn logs(&self) -> PathBuf {
        self.folder.join("logs")
    }

    /// The ids of the processes that were started.
    pub(super) fn processes(&self) -> PathBuf {
        self.folder.join("processes")
    }

    /// The folder that every node has: what a network volume would be.
    pub(super) fn shared_volumes(&self) -> PathBuf {
        self.folder.join("shared")
    }
}

impl Node {
    fn new(index: u8, ordinal: u8, cluster: &Path) -> Self {
        Self {
            name: format!("node-{ordinal}"),
            namespace: format!("harmony-{index}-{ordinal}"),
            address: [100, 64 + index, ordinal, 2],
            pod_range: format!("10.244.{ordinal}.0/24"),
            cgroup: format!("harmony-{index}-{ordinal}"),
            folder: cluster.join(format!("node-{ordinal}")),
        }
    }

    /// Where its containerd listens.
    pub(super) fn socket(&self) -> PathBuf {
        self.folder.join("containerd.sock")
    }

    /// Where its `local` volumes are.
    pub(super) fn volumes(&self) -> PathBuf {
        self.folder.join("volumes")
    }
}

/// An address as it is written.
pub(super) fn dotted([a, b, c, d]: [u8; 4]) -> String {
    format!("{a}.{b}.{c}.{d}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(index: u8) -> Result<Layout> {
        let mut context = Context::from_environment(false)?;
        context.cache = "/cache/harmony".into();
        Layout::new(&context, index)
    }

    #[test]
    fn clusters_share_no_name_and_no_address() {
        let (one, other) = (layout(0).unwrap(), layout(63).unwrap());
        assert_eq!(one.server(), "https://100.64.0.2:6443");
        assert_eq!(other.server(), "https://100.127.0.2:6443");
        for (one, other) in one.nodes.iter().zip(&other.nodes) {
            assert_ne!(one.namespace, other.namespace);
            assert_ne!(one.cgroup, other.cgroup);
            assert_ne!(one.folder, other.folder);
        }
        assert!(layout(64).unwrap_err().to_string().contains("from 0"));
    }

    #[test]
    fn a_folder_too_long_for_sockets_is_refused() {
        let mut context = Context::from_environment(false).unwrap();
        context.cache = "/very-long".repeat(8).into();
        let error = Layout::new(&context, 0).unwrap_err().to_string();
        assert!(error.contains("set XDG_CACHE_HOME"), "{error}");
    }
}
