//! Disks of a collector's own: a small one that can be filled, and one that can be slowed down.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::Pod;

use crate::kubectl::kubectl_reading;
use crate::local::{LocalCluster, Node};
use crate::scenario::Scenario;

const SMALL: &str = "size=32m";
const AMPLE: &str = "size=128m";
/// Of the small disk this leaves room for a few MiB.
const BALLAST: u64 = 24 << 20;

/// Of the disk that is slowed down: sparse, so that it takes only what is written to it.
const SLOW: u64 = 256 << 20;

/// A file system of 32 MiB on the first node, offered to claims of the class that has the name of the test's namespace. It
/// goes with this value.
#[derive(Debug)]
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Makes one.
    pub async fn offer(test: &Scenario, cluster: &LocalCluster) -> Result<Self> {
        let disk = Self(folder(test, cluster)?);
        mount(&["-t", "tmpfs", "-o", &format!("{SMALL},mode=0777"), "tmpfs"], &disk.0)?;
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
        unmount(&self.0);
    }
}

/// A file system with a device of its own on the first node, offered as [`SmallDisk`] is: what slows it down slows nothing
/// else on this machine. It goes with this value.
#[derive(Debug)]
pub struct SlowDisk(PathBuf);

impl SlowDisk {
    /// Makes one, as fast as the machine's disk so far.
    pub async fn offer(test: &Scenario, cluster: &LocalCluster) -> Result<Self> {
        let disk = Self(folder(test, cluster)?);
        let image = disk.image();
        fs::File::create(&image)?.set_len(SLOW)?;
        let made = Command::new("mkfs.ext4").arg("-q").arg(&image).status()?;
        ensure!(made.success(), "no file system in {}", image.display());
        let image = image.to_str().context("the cluster's folder is not UTF-8")?;
        mount(&["-o", "loop", image], &disk.0)?;
        fs::set_permissions(&disk.0, Permissions::from_mode(0o777))?;
        kubectl_reading(&["apply", "--filename=-"], &volume(&test.namespace, &disk.0)).await?;
        Ok(disk)
    }

    /// From now on a container writes so many bytes a second to it, or as many as it can.
    pub fn limit(&self, node: &Node, pod: &Pod, bytes_per_second: Option<u32>) -> Result<()> {
        node.limit_writes(pod, fs::metadata(&self.0)?.dev(), bytes_per_second)
    }

    fn image(&self) -> PathBuf {
        self.0.with_extension("image")
    }
}

impl Drop for SlowDisk {
    fn drop(&mut self) {
        unmount(&self.0);
        // Its device goes with the last who has it open.
        let _ = fs::remove_file(self.image());
    }
}

/// Where the disk of a test is on the first node.
fn folder(test: &Scenario, cluster: &LocalCluster) -> Result<PathBuf> {
    let at = cluster.folder().join("node-0/volumes").join(&test.namespace);
    fs::create_dir_all(&at)?;
    Ok(at)
}

/// Lazily: the collector may still be there. What stays goes with the cluster.
fn unmount(at: &Path) {
    let _ = Command::new("umount").arg("--lazy").arg(at).status();
    let _ = fs::remove_dir(at);
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
