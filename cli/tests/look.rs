//! Looking at a batch on this machine from outside: after it and while it runs.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests fail like tests"
)]

#[cfg(test)]
mod kit;

use std::fs;
use std::process::{Command, Output};

use kit::{Bench, PATIENCE, wait_for};
use serde_json::{Value, json};

fn harmony(bench: &Bench, arguments: &[&str]) -> Output {
    let output = Command::new(env!("CARGO_BIN_EXE_harmony"))
        .args(arguments)
        .current_dir(bench.path(""))
        .env("KUBECONFIG", "nowhere")
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    output
}

fn text(bench: &Bench, arguments: &[&str]) -> String {
    String::from_utf8(harmony(bench, arguments).stdout).unwrap()
}

#[test]
fn a_batch_that_is_over_prints_its_files_and_its_end() {
    let bench = Bench::with(&json!({
        "completions": 30, "parallelism": 2, "backoffLimitPerIndex": 1,
        "executor": {"exec": {"command": ["sh", "-c", "test $HARMONY_TASK != 7 || { echo lost >&2; exit 3; }; echo $HARMONY_TASK"]}},
    }));
    bench.start().wait().expect(1);
    for (command, file) in [
        ("results", "results.ndjson"),
        ("failed", "failed.ndjson"),
        ("joblog", "joblog.tsv"),
    ] {
        assert_eq!(
            text(&bench, &[command, "./out"]),
            fs::read_to_string(bench.output().join(file)).unwrap(),
            "{command}"
        );
    }
    harmony(&bench, &["results", "./out", "-o", "copy"]);
    assert_eq!(
        fs::read(bench.path("copy")).unwrap(),
        fs::read(bench.output().join("results.ndjson")).unwrap()
    );
    let screen = text(&bench, &["status", "./out"]);
    for said in [
        "State:     Failed\n",
        "30 of 30 (100 %)",
        "29 succeeded, 1 failed",
        "task 7",
        "ExitCode 3",
        "lost",
    ] {
        assert!(screen.contains(said), "{said:?} is missing in: {screen}");
    }
}

#[test]
fn a_batch_that_runs_is_seen_and_not_disturbed() {
    let bench = Bench::with(&json!({
        "completions": 20, "parallelism": 1,
        "executor": {"exec": {"command": ["sh", "-c", "test $HARMONY_TASK -lt 10 || while ! test -e go; do sleep 0.05; done; echo $HARMONY_TASK"]}},
    }));
    let run = bench.start();
    wait_for("ten results", PATIENCE, || {
        let begun = bench.output().join("batch.json").exists();
        (begun && text(&bench, &["results", "./out"]).lines().count() == 10).then_some(())
    });
    let object: Value = serde_json::from_str(&text(&bench, &["status", "./out", "-o", "json"])).unwrap();
    assert_eq!(object["status"]["tasks"]["succeeded"], 10);
    let state = object["status"]["state"].as_str().unwrap();
    assert_eq!(state, format!("Running (process {})", run.pid()));
    bench.write("go", "");
    run.wait().expect(0);
    assert_eq!(text(&bench, &["results", "./out"]).lines().count(), 20);
}
