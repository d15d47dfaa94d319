//! Processes, as /proc shows them.

use std::fs;
use std::path::PathBuf;

use rustix::process::{Pid, Signal, kill_process};

/// A process that was there when one looked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    pub pid: i32,
    pub parent: i32,
    pub command: Vec<String>,
}

impl Process {
    /// The value of a flag on its command line.
    pub fn flag(&self, flag: &str) -> Option<&str> {
        let at = self.command.iter().position(|word| word == flag)?;
        self.command.get(at + 1).map(String::as_str)
    }

    pub fn is_worker(&self) -> bool {
        self.command.get(1).is_some_and(|word| word == "worker") && self.command[0] == "harmony"
    }

    pub fn is_collector(&self) -> bool {
        self.command.get(1).is_some_and(|word| word == "collector") && self.command[0] == "harmony"
    }

    /// Whether it still runs; a zombie does not.
    pub fn lives(&self) -> bool {
        state_and_parent(self.pid).is_some()
    }

    pub fn kill(&self) {
        self.signal(Signal::KILL);
    }

    pub fn stop(&self) {
        self.signal(Signal::STOP);
    }

    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// Sends a signal; one who is gone does not hear it.
    pub fn signal(&self, signal: Signal) {
        send(self.pid, signal);
    }
}

/// Sends a signal; one who is gone does not hear it.
pub fn send(pid: i32, signal: Signal) {
    let _ = kill_process(Pid::from_raw(pid).unwrap(), signal);
}

/// All living processes with an entry of this kind in their environment: it passes to all descendants.
pub fn with_environment(entry: &str) -> Vec<Process> {
    let marked = |pid: &i32| {
        let environment = fs::read(path(*pid, "environ")).unwrap_or_default();
        environment
            .split(|byte| *byte == 0)
            .any(|found| found == entry.as_bytes())
    };
    pids().filter(marked).filter_map(look).collect()
}

/// The living children of a process.
pub fn children(parent: i32) -> Vec<Process> {
    let born = |pid: &i32| state_and_parent(*pid).is_some_and(|found| found == parent);
    pids().filter(born).filter_map(look).collect()
}

fn pids() -> impl Iterator<Item = i32> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn look(pid: i32) -> Option<Process> {
    let parent = state_and_parent(pid)?;
    let words = fs::read(path(pid, "cmdline")).ok()?;
    let words = words.split(|byte| *byte == 0).filter(|word| !word.is_empty());
    Some(Process {
        pid,
        parent,
        command: words.map(|word| String::from_utf8_lossy(word).into_owned()).collect(),
    })
}

/// The parent of a process that lives.
fn state_and_parent(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(path(pid, "stat")).ok()?;
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace();
    let lives = !matches!(fields.next()?, "Z" | "X");
    fields.next()?.parse().ok().filter(|_| lives)
}

fn path(pid: i32, file: &str) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/{file}"))
}
