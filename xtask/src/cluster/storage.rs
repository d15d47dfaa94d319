//! Volumes that are there before anyone claims them.

use std::fmt::Write as _;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::Result;

use super::layout::Layout;

/// Volumes of each kind: more than tests claim at once.
const VOLUMES: u32 = 20;

/// Folders for volumes. One that was claimed is not handed out again; tests put a volume with the next folder in its place.
const FOLDERS: u32 = 1000;

/// Makes the folders and describes the classes `local` (a folder of one node, claimed when its pod has a node) and
/// `shared` (a folder that all nodes have, as a network volume is).
pub(super) fn objects(layout: &Layout) -> Result<String> {
    let mut text = String::new();
    for class in ["local", "shared"] {
        write!(
            text,
            "---
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {{name: {class}}}
provisioner: kubernetes.io/no-provisioner
volumeBindingMode: WaitForFirstConsumer
"
        )?;
    }
    for node in &layout.nodes {
        let name = &node.name;
        let volumes = node.volumes();
        make_folders(&volumes)?;
        for number in 0..VOLUMES {
            let path = volumes.join(number.to_string());
            let source = format!("local: {{path: \"{}\"}}", path.display());
            volume(&mut text, "local", &format!("local-{name}-{number}"), number, &source)?;
            writeln!(
                text,
                "  nodeAffinity: {{required: {{nodeSelectorTerms: [{{matchExpressions: \
                 [{{key: kubernetes.io/hostname, operator: In, values: [{name}]}}]}}]}}}}"
            )?;
        }
    }
    let shared = layout.shared_volumes();
    make_folders(&shared)?;
    for number in 0..VOLUMES {
        let path = shared.join(number.to_string());
        let source = format!("hostPath: {{path: \"{}\"}}", path.display());
        volume(&mut text, "shared", &format!("shared-{number}"), number, &source)?;
    }
    Ok(text)
}

/// `ReadWriteOncePod` goes with no other access mode, so every second volume is for such claims.
fn volume(text: &mut String, class: &str, name: &str, number: u32, source: &str) -> Result<()> {
    let modes = if number.is_multiple_of(2) {
        "ReadWriteOncePod"
    } else {
        "ReadWriteOnce, ReadWriteMany"
    };
    write!(
        text,
        "---
apiVersion: v1
kind: PersistentVolume
metadata: {{name: {name}}}
spec:
  capacity: {{storage: 10Gi}}
  accessModes: [{modes}]
  persistentVolumeReclaimPolicy: Retain
  storageClassName: {class}
  {source}
"
    )?;
    Ok(())
}

/// Anyone may write: a shared one has no owner that kubelet could set.
fn make_folders(parent: &Path) -> Result<()> {
    for number in 0..FOLDERS {
        let folder = parent.join(number.to_string());
        fs::create_dir_all(&folder)?;
        fs::set_permissions(&folder, Permissions::from_mode(0o777))?;
    }
    Ok(())
}
