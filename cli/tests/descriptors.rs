//! Too few descriptors: it is said clearly, with the way out, and all goes on when there are more.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // helpers of tests fail by it

#[cfg(test)]
mod kit;

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use kit::processes::Process;
use kit::{Bench, PATIENCE, STARTED, wait_for};
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
use serde_json::{Value, json};

const TASKS: u64 = 100;
const NOT_ACCEPTED: &str = "cannot accept a connection";
/// Failures to accept that are waited for: with pauses that double from 10 ms up to a second, these take over a second.
const FAILURES: usize = 8;
const PAUSED: Duration = Duration::from_secs(1);
/// What a collector may use meanwhile; one that spins uses all of it.
const AT_MOST: Duration = Duration::from_millis(500);

fn batch(spec: &Value) -> Bench {
    let mut spec = spec.clone();
    spec["completions"] = TASKS.into();
    spec["backoffLimitPerIndex"] = 0.into();
    Bench::with(&spec)
}

/// A run under a limit of 64 descriptors ends with one of these, and the same command goes on without the limit.
fn is_short(bench: &Bench, said: &[&str]) {
    let limited = "ulimit -n 64; exec \"$0\" run batch.yaml --output out";
    let run = Command::new("sh")
        .args(["-c", limited, env!("CARGO_BIN_EXE_harmony")])
        .current_dir(bench.path(""))
        .env("TMPDIR", bench.path("tmp"))
        .env("MARKS", bench.path("marks"))
        .output()
        .unwrap();
    let words = String::from_utf8(run.stderr).unwrap();
    assert_eq!(run.status.code(), Some(3), "{words}");
    assert!(said.iter().any(|part| words.contains(part)), "{words}");
    for part in ["Too many open files", "raise the limit of open files (ulimit -n)"] {
        assert!(words.contains(part), "{words}");
    }
    bench.wait_for_nothing_left();
    bench.run().expect(0);
    bench.outcome().assert_all(TASKS, |_| b"done".to_vec());
}

#[test]
fn a_run_that_cannot_start_its_workers_says_so_and_resumes() {
    let bench = batch(&json!({"parallelism": 40, "executor": {"exec": {"command": ["printf", "done"]}}}));
    is_short(&bench, &["cannot be started"]);
}

#[test]
fn a_worker_that_cannot_start_its_tasks_says_so_and_the_batch_resumes() {
    let script = "sleep 0.2; printf done";
    let bench = batch(&json!({"slotsPerWorker": 40, "executor": {"exec": {"command": ["sh", "-c", script]}}}));
    // The slots take nearly all descriptors, or all: that depends on which links are up by then.
    is_short(&bench, &["\"sh\" (", "slots cannot be set up"]);
}

/// Gives a process another limit of descriptors; gives the one before.
fn limit(process: &Process, limit: Rlimit) -> Rlimit {
    prlimit(Pid::from_raw(process.pid), Resource::Nofile, limit).unwrap()
}

/// Processor time of a process so far.
fn used(process: &Process) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{}/stat", process.pid)).unwrap();
    let (_, fields) = stat.rsplit_once(')').unwrap();
    let ticks = |at| fields.split_whitespace().nth(at).unwrap().parse::<u64>().unwrap();
    // A tick is a hundredth of a second in all that Linux shows.
    Duration::from_millis((ticks(11) + ticks(12)) * 10)
}

#[test]
fn a_collector_that_cannot_accept_rests_and_goes_on() {
    let script = format!("n=$HARMONY_TASK; {STARTED}; until test -e go; do sleep 0.05; done; printf done");
    let bench = batch(&json!({"parallelism": 1, "executor": {"exec": {"command": ["sh", "-c", script]}}}));
    let run = bench.start();
    bench.wait_for_marks("a start", |marks| !marks.started.is_empty());
    let (collector, worker) = (run.collector(), run.worker("worker-0"));
    let mut none = getrlimit(Resource::Nofile);
    none.current = Some(3); // those that are open stay
    let before = limit(&collector, none);
    let (began, used_before) = (Instant::now(), used(&collector));
    worker.kill();
    wait_for("failures to accept", PATIENCE, || {
        (run.said().matches(NOT_ACCEPTED).count() >= FAILURES).then_some(())
    });
    let (took, used) = (began.elapsed(), used(&collector).saturating_sub(used_before));
    println!("{FAILURES} failures within {took:?}, {used:?} of a processor");
    assert!(took >= PAUSED, "{took:?}");
    assert!(used <= AT_MOST, "{used:?}");
    assert!(run.said().contains("Too many open files"), "{}", run.said());
    assert!(collector.lives());
    limit(&collector, before);
    bench.write("go", "");
    run.wait().expect(0);
    bench.outcome().assert_all(TASKS, |_| b"done".to_vec());
    bench.assert_nothing_left();
}
