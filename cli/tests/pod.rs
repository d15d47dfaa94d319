//! What runs in pods, as processes on this machine.

#![allow(clippy::unwrap_used)] // helpers of tests fail by it

#[cfg(test)]
mod kit;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::Signal;

use crate::kit::processes::{self, Process, send};
use crate::kit::{PATIENCE, wait_for};

const HARMONY: &str = env!("CARGO_BIN_EXE_harmony");

/// Installs under the strictest umask that there is.
fn install(dir: &Path) {
    let script = "umask 777; exec \"$0\" install \"$1\"";
    let installed = Command::new("sh").args(["-c", script, HARMONY]).arg(dir).status();
    assert!(installed.unwrap().success());
}

#[test]
fn an_installed_program_runs_and_is_replaced_while_it_runs() {
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("harmony");
    for _ in 0..2 {
        install(dir.path());
        assert_eq!(fs::metadata(&program).unwrap().permissions().mode() & 0o7777, 0o555);
        let version = Command::new(&program).arg("--version").output().unwrap();
        assert!(version.stdout.starts_with(b"harmony "), "{version:?}");
    }
    let names: Vec<_> = fs::read_dir(dir.path()).unwrap().collect();
    assert_eq!(names.len(), 1, "{names:?}");
}

/// The first process of its own container, as far as processes go, is a worker.
#[test]
fn as_the_first_process_it_reaps_and_hands_signals_on() {
    let dir = tempfile::tempdir().unwrap();
    let listen = format!("unix:{}", dir.path().join("w.sock").display());
    let mut container = Command::new("unshare")
        .args(["--user", "--map-root-user", "--pid", "--fork", "--mount-proc", HARMONY])
        .args(["worker", "--name", "w", "--listen", &listen])
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    let outside = i32::try_from(container.id()).unwrap();
    let first = child(outside, "worker");
    let worker = child(first.pid, "worker");
    // It listens, so that its handlers stand.
    wait_for("its socket", PATIENCE, || {
        dir.path().join("w.sock").exists().then_some(())
    });
    leave_an_orphan(&worker);
    let orphan = child(first.pid, "sleep");
    orphan.kill();
    wait_for("the orphan to be reaped", PATIENCE, || {
        (!Path::new(&format!("/proc/{}", orphan.pid)).exists()).then_some(())
    });
    send(first.pid, Signal::TERM);
    let ended = wait_for("its end", PATIENCE, || container.try_wait().unwrap());
    assert_eq!(ended.code(), Some(0));
}

/// The child of a process that has this word on its command line, once there is one.
fn child(parent: i32, word: &str) -> Process {
    wait_for(word, PATIENCE, || {
        let has = |child: &Process| child.command.iter().any(|found| found == word);
        processes::children(parent).into_iter().find(has)
    })
}

/// Starts a process inside the container whose parent ends at once.
fn leave_an_orphan(inside: &Process) {
    let left = Command::new("nsenter")
        .args(["--user", "--pid", "--preserve-credentials", "--target"])
        .arg(inside.pid.to_string())
        .args(["sh", "-c", "sleep 1000 >/dev/null 2>&1 &"])
        .status();
    assert!(left.unwrap().success());
}
