//! Processes that a killed worker left behind: this process is their child subreaper, finds them, and kills them.

use std::collections::BTreeSet;
use std::fs;

use harmony_protocol::ids::BatchUid;
use rustix::process::{
    Pid, Signal, WaitOptions, getpid, kill_process, kill_process_group, set_child_subreaper, waitpid,
};

/// From now on the descendants of killed children become children of this process. Returns the children that it has
/// already: whoever started it by `exec` may have left it some, which are nobody's orphans.
pub(crate) fn adopt() -> BTreeSet<u32> {
    if let Err(error) = set_child_subreaper(Some(getpid())) {
        tracing::warn!(%error, "tasks of a killed worker may go on for a while");
    }
    let me = getpid().as_raw_nonzero().get();
    let children = processes().filter(|process| process.parent == me);
    children.map(|process| process.pid.unsigned_abs()).collect()
}

/// Kills and reaps all children but the known ones, with their process groups. Returns how many there were.
pub(crate) fn kill(known: &BTreeSet<u32>) -> usize {
    let me = getpid().as_raw_nonzero().get();
    let group = rustix::process::getpgrp();
    let mut found = 0;
    for process in processes().filter(|process| process.parent == me) {
        let Some(pid) = Pid::from_raw(process.pid) else {
            continue;
        };
        if known.contains(&process.pid.unsigned_abs()) {
            continue;
        }
        found += 1;
        if let Some(orphaned) = Pid::from_raw(process.group).filter(|orphaned| *orphaned != group) {
            let _ = kill_process_group(orphaned, Signal::KILL);
        }
        let _ = kill_process(pid, Signal::KILL);
        let _ = waitpid(Some(pid), WaitOptions::NOHANG);
    }
    found
}

/// Kills what runs of a batch that was killed together with all its parts still left: nobody else may run it now.
pub(crate) fn sweep(uid: BatchUid) {
    let mark = format!("HARMONY_UID={uid}");
    let me = getpid().as_raw_nonzero().get();
    for process in processes().filter(|process| process.pid != me) {
        let environment = fs::read(format!("/proc/{}/environ", process.pid)).unwrap_or_default();
        if environment
            .split(|byte| *byte == 0)
            .any(|entry| entry == mark.as_bytes())
            && let Some(pid) = Pid::from_raw(process.pid)
        {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

struct Process {
    pid: i32,
    parent: i32,
    group: i32,
}

fn processes() -> impl Iterator<Item = Process> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
        // The name in brackets may hold anything; after it come state, parent and process group.
        let (_, rest) = stat.rsplit_once(')')?;
        let mut fields = rest.split_ascii_whitespace().skip(1);
        Some(Process {
            pid,
            parent: fields.next()?.parse().ok()?,
            group: fields.next()?.parse().ok()?,
        })
    })
}
