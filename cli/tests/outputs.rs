//! Outputs that are too long for one message: each is a file of its own, right to the byte, and no process holds it in memory.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // helpers of tests fail by it

#[cfg(test)]
mod kit;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use kit::memory::run_in_bounds;
use kit::processes::Process;
use kit::{Bench, PATIENCE, Run, sha256, wait_for};
use serde_json::{Value, json};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// Shell code of a task with an output of so many bytes, no two places of which look alike.
fn script(bytes: u64) -> String {
    format!("seq -f \"$HARMONY_TASK-%.0f\" 1 100000000 | head -c {bytes}")
}

fn batch(completions: u64, bytes: u64, workers: u32) -> Bench {
    Bench::with(&json!({
        "completions": completions,
        "parallelism": workers,
        "backoffLimitPerIndex": 0,
        "results": {"maxBytesPerTask": "1Gi"},
        "executor": {"exec": {"command": ["sh", "-c", script(bytes)]}},
    }))
}

fn right(number: u64, bytes: u64) -> String {
    let mut shell = Command::new("sh");
    sha256(
        shell
            .args(["-c", &script(bytes)])
            .env("HARMONY_TASK", number.to_string()),
    )
}

/// The lines of the results, and where each output is.
fn files(bench: &Bench) -> BTreeMap<u64, PathBuf> {
    let text = fs::read_to_string(bench.output().join("results.ndjson")).unwrap();
    let file = |line: &str| {
        let line: Value = serde_json::from_str(line).unwrap();
        assert!(
            line.get("output").is_none() && line.get("outputBase64").is_none(),
            "{line}"
        );
        let file = line["outputFile"].as_str().unwrap();
        (line["number"].as_u64().unwrap(), bench.output().join(file))
    };
    text.lines().map(file).collect()
}

fn assert_right(bench: &Bench, completions: u64, bytes: u64) {
    let files = files(bench);
    assert!(files.keys().copied().eq(0..completions), "{files:?}");
    for (number, file) in files {
        assert_eq!(fs::metadata(&file).unwrap().len(), bytes, "{}", file.display());
        assert_eq!(
            sha256(Command::new("cat").arg(&file)),
            right(number, bytes),
            "number {number}"
        );
        assert_eq!(
            leftovers(file.parent().unwrap()),
            Vec::<PathBuf>::new(),
            "files without an outcome"
        );
    }
}

/// Files of outputs that are not complete.
fn leftovers(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let paths = entries.map(|entry| entry.path());
    paths.filter(|path| path.extension().is_some()).collect()
}

fn one_output(bytes: u64) {
    let bench = batch(1, bytes, 2);
    run_in_bounds(&bench, 20 * PATIENCE);
    assert_right(&bench, 1, bytes);
    let mut results = Command::new(env!("CARGO_BIN_EXE_harmony"));
    let read = sha256(results.arg("results").arg(bench.output()).arg("0"));
    assert_eq!(read, right(0, bytes), "harmony results BATCH NUMBER");
    bench.assert_nothing_left();
}

#[test]
fn an_output_of_256_mib_is_a_file() {
    one_output(256 * MIB);
}

#[test]
#[ignore = "the long form"]
fn an_output_of_1_gib_is_a_file() {
    one_output(GIB);
}

fn many_outputs(count: u64) {
    let bench = batch(count, MIB + 1, 2);
    run_in_bounds(&bench, 60 * PATIENCE);
    let files = files(&bench);
    assert!(files.keys().copied().eq(0..count));
    for (number, file) in files.iter().step_by(97) {
        assert_eq!(sha256(Command::new("cat").arg(file)), right(*number, MIB + 1));
    }
    for file in files.values() {
        assert_eq!(fs::metadata(file).unwrap().len(), MIB + 1);
    }
    bench.assert_nothing_left();
}

#[test]
fn a_thousand_outputs_of_a_mebibyte_and_a_byte() {
    many_outputs(1_000);
}

#[test]
#[ignore = "the long form"]
fn ten_thousand_outputs_of_a_mebibyte_and_a_byte() {
    many_outputs(10_000);
}

#[test]
fn outputs_of_a_mebibyte_go_whole_and_in_bounds() {
    let bench = batch(200, MIB, 2);
    run_in_bounds(&bench, 10 * PATIENCE);
    bench.outcome().assert_complete(200);
}

/// Bytes of parts that are on the disk and of no outcome yet.
fn under_way(bench: &Bench) -> u64 {
    let logs = fs::read_dir(bench.output().join("log")).into_iter().flatten().flatten();
    let unfinished = logs.flat_map(|log| leftovers(&log.path().join("outputs")));
    unfinished.filter_map(|path| Some(fs::metadata(path).ok()?.len())).sum()
}

/// Kills a part in the middle of an output, and checks that all is right in the end. There is one worker: what is under way
/// is of it.
fn killed_in_the_middle(victim: impl Fn(&Run) -> Process) {
    const BYTES: u64 = 256 * MIB;
    let bench = batch(2, BYTES, 1);
    let run = bench.start();
    wait_for("parts of an output", PATIENCE, || {
        (under_way(&bench) > 8 * MIB).then_some(())
    });
    let victim = victim(&run);
    victim.kill();
    assert!(under_way(&bench) > 0, "the kill hit nothing in flight");
    run.wait_at_most(20 * PATIENCE).expect(0);
    assert_right(&bench, 2, BYTES);
    bench.wait_for_nothing_left();
}

#[test]
fn a_worker_that_is_killed_in_the_middle_of_an_output() {
    killed_in_the_middle(|run| run.worker("worker-0"));
}

#[test]
fn a_collector_that_is_killed_in_the_middle_of_an_output() {
    killed_in_the_middle(Run::collector);
}
