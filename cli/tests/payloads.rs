//! Payloads that are too long for one message: they reach their tasks right to the byte, and no process holds them in memory.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // helpers of tests fail by it

#[cfg(test)]
mod kit;

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::process::Command;

use kit::memory::run_in_bounds;
use kit::{Bench, PATIENCE, Run, sha256, wait_for};
use serde_json::{Value, json};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// Writes a line of so many bytes, no two places of which look alike.
fn write_line(file: &mut impl Write, number: usize, bytes: u64) -> io::Result<()> {
    let mut left = usize::try_from(bytes).unwrap();
    for place in 0.. {
        let word = format!("{number:04x}{place:012x}");
        file.write_all(&word.as_bytes()[..left.min(word.len())])?;
        left = left.saturating_sub(word.len());
        if left == 0 {
            break;
        }
    }
    writeln!(file)
}

/// A batch whose tasks have lines of so many bytes.
fn batch(lengths: &[u64], workers: u32, executor: &Value) -> Bench {
    let bench = Bench::with(&json!({
        "parallelism": workers,
        "backoffLimitPerIndex": 0,
        "results": {"maxBytesPerTask": "64Mi"},
        "executor": executor,
        "tasks": {"lines": {"path": "tasks.txt"}},
    }));
    let mut file = BufWriter::with_capacity(1 << 20, File::create(bench.path("tasks.txt")).unwrap());
    for (number, bytes) in lengths.iter().enumerate() {
        write_line(&mut file, number, *bytes).unwrap();
    }
    file.flush().unwrap();
    bench
}

/// The sum of the line of a task, without its LF.
fn sum(bench: &Bench, lengths: &[u64], number: usize) -> String {
    let before: u64 = lengths[..number].iter().map(|bytes| bytes + 1).sum();
    let script = format!("tail -c +{} tasks.txt | head -c {}", before + 1, lengths[number]);
    sha256(Command::new("sh").args(["-c", &script]).current_dir(bench.path("")))
}

fn exec(command: &[&str]) -> Value {
    json!({"exec": {"command": command}})
}

/// Each task has told the sum of its own line.
fn assert_sums(bench: &Bench, lengths: &[u64]) {
    let text = fs::read_to_string(bench.output().join("results.ndjson")).unwrap();
    let mut told = 0;
    for line_of_results in text.lines() {
        let result: Value = serde_json::from_str(line_of_results).unwrap();
        let number = usize::try_from(result["number"].as_u64().unwrap()).unwrap();
        let right = sum(bench, lengths, number);
        assert_eq!(result["output"].as_str(), Some(right.as_str()), "number {number}");
        told += 1;
    }
    assert_eq!(told, lengths.len());
}

fn one_long_payload(bytes: u64) {
    let lengths = [5, bytes, 3 * MIB, MIB, MIB + 1, 0, 7];
    let bench = batch(&lengths, 2, &exec(&["sha256sum"]));
    run_in_bounds(&bench, 20 * PATIENCE);
    assert_sums(&bench, &lengths);
    bench.assert_nothing_left();
}

#[test]
fn a_payload_of_256_mib_is_the_standard_input_of_its_task() {
    one_long_payload(256 * MIB);
}

#[test]
#[ignore = "the long form"]
fn a_payload_of_1_gib_is_the_standard_input_of_its_task() {
    one_long_payload(GIB);
}

#[test]
fn a_payload_above_1_gib_fails_as_one_task() {
    let lengths = [5, GIB + 1, 7];
    let bench = batch(&lengths, 1, &exec(&["wc", "-c"]));
    bench.start().wait_at_most(5 * PATIENCE).expect(1);
    let outcome = bench.outcome();
    assert_eq!((outcome.succeeded.len(), outcome.failed.len()), (2, 1), "{outcome:?}");
    let failed = outcome.failure(1);
    assert_eq!(failed.reason, "PayloadTooLarge", "{failed:?}");
    assert!(failed.log.contains("1073741825"), "{failed:?}");
}

#[test]
fn long_lines_go_through_a_filter() {
    let lengths = [5, 64 * MIB, 3, 2 * MIB, 2 * MIB, 1, MIB];
    let filter = "import sys\nfor line in sys.stdin.buffer: print(len(line) - 1, flush=True)";
    let bench = batch(&lengths, 1, &json!({"process": {"command": ["python3", "-c", filter]}}));
    bench.start().wait_at_most(5 * PATIENCE).expect(0);
    let text = fs::read_to_string(bench.output().join("results.ndjson")).unwrap();
    let told: Vec<(u64, String)> = text
        .lines()
        .map(|line| {
            let result: Value = serde_json::from_str(line).unwrap();
            (
                result["number"].as_u64().unwrap(),
                result["output"].as_str().unwrap().to_owned(),
            )
        })
        .collect();
    let right: Vec<(u64, String)> = (0..).zip(lengths.iter().map(u64::to_string)).collect();
    assert_eq!(told, right);
}

/// Bytes of payloads that are on the disk of the worker, in files without a name.
fn arrived(run: &Run) -> u64 {
    let Some(worker) = run.parts().into_iter().find(kit::processes::Process::is_worker) else {
        return 0;
    };
    let descriptors = fs::read_dir(format!("/proc/{}/fd", worker.pid))
        .into_iter()
        .flatten()
        .flatten();
    let paths = descriptors.map(|entry| entry.path());
    let unnamed =
        paths.filter(|path| fs::read_link(path).is_ok_and(|target| target.to_string_lossy().ends_with("(deleted)")));
    unnamed
        .filter_map(|path| Some(fs::metadata(path).ok()?).filter(fs::Metadata::is_file))
        .map(|file| file.len())
        .sum()
}

/// Kills a party in the middle of a payload, and checks that all is right in the end.
fn killed_in_the_middle(kill: impl FnOnce(Run) -> Option<Run>) {
    const BYTES: u64 = 256 * MIB;
    let lengths = [3, BYTES, 2 * MIB];
    let bench = batch(&lengths, 1, &exec(&["sha256sum"]));
    let run = bench.start();
    wait_for("parts of a payload", 5 * PATIENCE, || {
        (arrived(&run) > 8 * MIB).then_some(())
    });
    assert!(
        arrived(&run) < BYTES,
        "the payload was sent before it could be looked at"
    );
    let run = kill(run).unwrap_or_else(|| bench.start());
    run.wait_at_most(20 * PATIENCE).expect(0);
    assert_sums(&bench, &lengths);
    bench.wait_for_nothing_left();
}

#[test]
fn a_worker_that_is_killed_in_the_middle_of_a_payload() {
    killed_in_the_middle(|run| {
        run.worker("worker-0").kill();
        Some(run)
    });
}

#[test]
fn a_collector_that_is_killed_in_the_middle_of_a_payload() {
    killed_in_the_middle(|run| {
        run.collector().kill();
        Some(run)
    });
}

#[test]
fn a_run_that_is_killed_in_the_middle_of_a_payload() {
    killed_in_the_middle(|run| {
        run.kill();
        None
    });
}
