//! The memory that the processes of a run take.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use super::{Bench, Run, wait_for};

/// What no process of a run may ever take, in bytes.
const MOST_MEMORY: u64 = 256 << 20;

/// The most memory that a process ever had, in bytes; nothing if it has ended.
pub fn peak(pid: i32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? << 10)
}

/// The most memory that each process of a run has taken so far, with its name.
#[derive(Default)]
struct Memory(BTreeMap<i32, (String, u64)>);

impl Memory {
    fn look(&mut self, run: &Run) {
        self.note(run.pid(), "run");
        for part in run.parts() {
            let name = part.flag("--name").unwrap_or("collector").to_owned();
            self.note(part.pid, &name);
        }
    }

    fn note(&mut self, pid: i32, name: &str) {
        if let Some(bytes) = peak(pid) {
            self.0.insert(pid, (name.to_owned(), bytes));
        }
    }

    fn assert_bounded(&self) {
        assert!(self.0.len() >= 3, "run, collector and a worker: {:?}", self.0);
        println!("peaks in bytes: {:?}", self.0.values().collect::<Vec<_>>());
        assert!(self.0.values().all(|(_, bytes)| *bytes < MOST_MEMORY), "{:?}", self.0);
    }
}

/// Runs a batch to its end, and looks at its memory all the while.
pub fn run_in_bounds(bench: &Bench, patience: Duration) {
    let mut run = bench.start();
    let mut memory = Memory::default();
    wait_for("the end of the batch", patience, || {
        memory.look(&run);
        (!run.lives()).then_some(())
    });
    run.wait().expect(0);
    memory.assert_bounded();
}
