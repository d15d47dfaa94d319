//! Leaves nothing: no process, no cgroup, no mount, no network, no file. Works on what a crash left, too.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use super::layout::{Layout, Node};
use super::network;
use super::node::cgroups;
use super::process::{kill_all, kill_recorded};
use crate::context::works;

/// Takes a cluster down, whatever of it is there.
pub(super) fn down(layout: &Layout) -> Result<()> {
    kill_recorded(layout)?;
    for node in &layout.nodes {
        kill_all("containers", || {
            cgroups(node).iter().flat_map(|folder| members(folder)).collect()
        })?;
        kill_all("shims", || shims(node))?;
    }
    unmount_below(&layout.folder)?;
    for folder in layout.nodes.iter().flat_map(cgroups) {
        remove_cgroup(&folder);
    }
    network::down(layout);
    match fs::remove_dir_all(&layout.folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("{} cannot be removed", layout.folder.display()))
        }
        _ => Ok(()),
    }
}

/// The processes in a cgroup and in those below it.
fn members(folder: &Path) -> Vec<u32> {
    let mut found: Vec<u32> = fs::read_to_string(folder.join("cgroup.procs"))
        .map(|ids| ids.lines().filter_map(|id| id.parse().ok()).collect())
        .unwrap_or_default();
    for child in fs::read_dir(folder).into_iter().flatten().flatten() {
        if child.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(members(&child.path()));
        }
    }
    found
}

/// A cgroup can be removed only from the leaves up. One that will not go does no harm: the next cluster takes it over.
fn remove_cgroup(folder: &Path) {
    for child in fs::read_dir(folder).into_iter().flatten().flatten() {
        if child.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_cgroup(&child.path());
        }
    }
    let _ = fs::remove_dir(folder);
}

/// What containerd puts between itself and containers: it outlives containerd, and names its socket.
fn shims(node: &Node) -> Vec<u32> {
    let socket = node.socket();
    let socket = socket.as_os_str().as_encoded_bytes();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let is_shim = |id: &u32| {
        let Ok(line) = fs::read(format!("/proc/{id}/cmdline")) else {
            return false;
        };
        let mut words = line.split(|byte| *byte == 0);
        words
            .next()
            .is_some_and(|program| program.windows(15).any(|part| part == b"containerd-shim"))
            && words.any(|word| word == socket)
    };
    processes
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(is_shim)
        .collect()
}

/// Unmounts what is mounted below a folder, the last mounted first.
fn unmount_below(folder: &Path) -> Result<()> {
    for point in mounts_below(folder)?.iter().rev() {
        works(Command::new("umount").args(["--lazy", point]));
    }
    let left = mounts_below(folder)?;
    // Removing the folder would go through them.
    ensure!(left.is_empty(), "still mounted: {}", left.join(", "));
    Ok(())
}

fn mounts_below(folder: &Path) -> Result<Vec<String>> {
    let table = fs::read_to_string("/proc/self/mountinfo").context("the mounts cannot be read")?;
    let points = table.lines().filter_map(|line| line.split(' ').nth(4));
    let below = points.filter(|point| Path::new(point).starts_with(folder));
    Ok(below.map(String::from).collect())
}
