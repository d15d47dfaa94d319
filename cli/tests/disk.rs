//! A disk that is full: recording pauses and says so, and goes on when there is room.
//!
//! The disk is a small tmpfs, which only root can mount.
#![allow(clippy::unwrap_used)] // helpers of tests fail by it

#[cfg(test)]
mod kit;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use kit::{Bench, Run, STARTED};
use serde_json::json;

/// Tasks, and bytes that each of them answers.
const TASKS: u64 = 100;
const ANSWER: usize = 64 << 10;
/// Far below what all answers take.
const SMALL: &str = "size=3m";
/// Room for all answers, not for a copy of them.
const ENOUGH_ONCE: &str = "size=9m";
const AMPLE: &str = "size=64m";

/// A mounted tmpfs.
struct Disk(PathBuf);

impl Disk {
    /// Mounts a tmpfs; `None`, and the reason said, where that cannot be done.
    fn mount(at: &Path, size: &str) -> Option<Self> {
        fs::create_dir_all(at).unwrap();
        let mount = ["-t", "tmpfs", "-o", size, "tmpfs"];
        let mounted = Command::new("mount").args(mount).arg(at).output().unwrap();
        if mounted.status.success() {
            return Some(Self(at.to_owned()));
        }
        let reason = String::from_utf8_lossy(&mounted.stderr).into_owned();
        assert!(
            std::env::var_os("CI").is_none_or(|ci| ci != "true"),
            "no tmpfs: {reason}"
        );
        println!("skipped, since there is no tmpfs: {reason}");
        None
    }

    fn resize(&self, size: &str) {
        let options = format!("remount,{size}");
        let resized = Command::new("mount")
            .args(["-o", &options])
            .arg(&self.0)
            .status()
            .unwrap();
        assert!(resized.success());
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: on failure something may still run in it.
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

fn answer(_: u64) -> Vec<u8> {
    vec![b'x'; ANSWER]
}

fn batch() -> Bench {
    let script = format!("head -c {ANSWER} /dev/zero | tr '\\0' x");
    Bench::with(&json!({
        "completions": TASKS,
        "parallelism": 2,
        "backoffLimitPerIndex": 0,
        "executor": {"exec": {"command": ["sh", "-c", script]}},
    }))
}

/// A batch whose log is on a small disk, and its run, once the disk is full. What is named last ends first: a folder can
/// be removed when nothing is mounted in it.
fn start_until_full() -> Option<(Bench, Disk, Run)> {
    let bench = batch();
    let disk = Disk::mount(&bench.output().join("log"), SMALL)?;
    let run = bench.start();
    run.wait_until_said("the disk is full: recording pauses until there is room");
    Some((bench, disk, run))
}

#[test]
fn recording_pauses_on_a_full_disk_and_goes_on_when_there_is_room() {
    let Some((bench, disk, mut run)) = start_until_full() else {
        return;
    };
    assert!(run.lives());
    disk.resize(AMPLE);
    run.wait().expect(0).says(&["there is room on the disk again"]);
    bench.outcome().assert_all(TASKS, answer);
    bench.assert_nothing_left();
}

/// As a backup does that is older than the log.
#[test]
fn a_stale_copy_of_the_log_costs_executions_and_no_number() {
    let script = format!("n=$HARMONY_TASK; {STARTED}; sleep 0.01; printf done");
    let bench = Bench::with(&json!({
        "completions": 2 * TASKS,
        "parallelism": 2,
        "executor": {"exec": {"command": ["sh", "-c", script]}},
    }));
    let run_to = |started: usize| {
        let run = bench.start();
        bench.wait_for_marks("some starts", |marks| marks.started.len() >= started);
        run.kill();
        bench.wait_for_nothing_left();
    };
    let copy = |from: &Path, to: &Path| {
        let _ = fs::remove_dir_all(to);
        assert!(
            Command::new("cp")
                .arg("-a")
                .args([from, to])
                .status()
                .unwrap()
                .success()
        );
    };
    let (log, backup) = (bench.output().join("log"), bench.path("backup"));
    run_to(40);
    copy(&log, &backup);
    run_to(120);
    copy(&backup, &log);
    bench.run().expect(0);
    bench.outcome().assert_all(2 * TASKS, |_| b"done".to_vec());
    let again = bench.marks().started.len() as u64 - 2 * TASKS;
    println!("{again} executions more than tasks");
    assert!(again > 0);
}

#[test]
fn kills_on_a_full_disk_lose_nothing() {
    let Some((bench, disk, run)) = start_until_full() else {
        return;
    };
    run.collector().kill();
    run.worker("worker-0").kill();
    run.kill();
    let run = bench.start();
    run.collector();
    disk.resize(AMPLE);
    run.wait().expect(0);
    bench.outcome().assert_all(TASKS, answer);
    bench.wait_for_nothing_left();
}

#[test]
fn a_run_on_a_full_disk_can_be_stopped() {
    let Some((bench, disk, run)) = start_until_full() else {
        return;
    };
    run.interrupt();
    run.wait_until_said("running tasks may end");
    run.interrupt();
    run.wait().expect(130).within(Duration::from_secs(30));
    bench.assert_nothing_left();
    disk.resize(AMPLE);
    bench.run().expect(0);
    bench.outcome().assert_all(TASKS, answer);
}

#[test]
fn results_that_cannot_be_written_say_so_and_leave_nothing_half() {
    let bench = batch();
    let Some(disk) = Disk::mount(&bench.output(), ENOUGH_ONCE) else {
        return;
    };
    bench.run().expect(3).says(&["results.ndjson", "No space left"]);
    bench.assert_nothing_left();
    assert!(!bench.output().join("results.ndjson").exists());
    disk.resize(AMPLE);
    bench.run().expect(0);
    bench.outcome().assert_all(TASKS, answer);
}
