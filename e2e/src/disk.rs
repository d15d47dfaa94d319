//! A small disk for a collector, which can be filled.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};

use crate::kubectl::kubectl_reading;
use crate::local::LocalCluster;
use crate::scenario::Scenario;

const SMALL: &str = "size=32m";
const AMPLE: &str = "size=128m";
/// Of the small disk this leaves room for a few MiB.
const BALLAST: u64 = 24 << 20;

/// A file system of 32 MiB on the first node, offered to claims of the class that has the name of the test's namespace. It
/// goes with this value.
#[derive(Debug)]
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Makes one.
    pub async fn offer(test: &Scenario, cluster: &LocalCluster) -> Result<Self> {
        let at = cluster.folder().join("node-0/volumes").join(&test.namespace);
        fs::create_dir_all(&at)?;
        mount(&["-t", "tmpfs", "-o", &format!("{SMALL},mode=0777"), "tmpfs"], &at)?;
        let disk = Self(at);
        kubectl_reading(&["apply", "--filename=-"], &volume(&test.namespace, &disk.0)).await?;
        Ok(disk)
    }

    /// Makes it four times as large.
    pub fn grow(&self) -> Result<()> {
        mount(&["-o", &format!("remount,{AMPLE}")], &self.0)
    }

    fn ballast(&self) -> PathBuf {
        self.0.join("ballast")
    }

    /// Leaves room for a few MiB.
    pub fn fill(&self) -> Result<()> {
        let zeros = vec![0; usize::try_from(BALLAST)?];
        Ok(fs::write(self.ballast(), zeros)?)
    }

    /// Takes back what [`Self::fill`] did.
    pub fn make_room(&self) -> Result<()> {
        Ok(fs::remove_file(self.ballast())?)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: the collector may still be there. What stays goes with the cluster.
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
        let _ = fs::remove_dir(&self.0);
    }
}

fn mount(options: &[&str], at: &Path) -> Result<()> {
    let mounted = Command::new("mount").args(options).arg(at).status()?;
    ensure!(mounted.success(), "no mount at {}", at.display());
    Ok(())
}

fn volume(name: &str, path: &Path) -> String {
    format!(
        "apiVersion: v1
kind: PersistentVolume
metadata: {{name: {name}}}
spec:
  capacity: {{storage: 1Gi}}
  accessModes: [ReadWriteOncePod]
  persistentVolumeReclaimPolicy: Retain
  storageClassName: {name}
  local: {{path: \"{}\"}}
  nodeAffinity: {{required: {{nodeSelectorTerms: [{{matchExpressions: [{{key: kubernetes.io/hostname, operator: In, values: [node-0]}}]}}]}}}}
",
        path.display()
    )
}
