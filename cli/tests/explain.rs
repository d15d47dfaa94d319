//! Why a batch on this machine, or one of its tasks, is not done: asked of real runs in each of these states.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests fail like tests"
)]

#[cfg(test)]
mod kit;

use std::process::Command;

use kit::{Bench, PATIENCE, wait_for};
use serde_json::{Value, json};

/// What `harmony explain ./out` prints.
fn explain(bench: &Bench, more: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_harmony"))
        .args([&["explain", "./out"], more].concat())
        .current_dir(bench.path(""))
        .env("KUBECONFIG", "nowhere")
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Asks until the answer holds all of these.
fn explain_until(bench: &Bench, more: &[&str], said: &[&str]) -> String {
    let mut last = String::new();
    wait_for(&format!("{said:?}"), PATIENCE, || {
        // There is no batch in the folder before the run has begun.
        if bench.path("out/batch.json").exists() {
            last = explain(bench, more);
        }
        said.iter().all(|said| last.contains(said)).then(|| last.clone())
    })
}

/// Many tasks for one worker; each waits for a file.
fn waiting_for_a_file() -> Bench {
    Bench::with(&json!({
        "completions": 5000, "parallelism": 1,
        "executor": {"exec": {"command": ["sh", "-c", "until test -e go; do sleep 0.05; done"]}},
    }))
}

#[test]
fn a_batch_that_runs_says_where_its_tasks_are() {
    let bench = waiting_for_a_file();
    let run = bench.start();
    let batch = explain_until(&bench, &[], &["test is running", "at worker-0"]);
    assert!(batch.contains("0 of 5000 tasks settled (0 %)"), "{batch}");
    let first = explain(&bench, &["0"]);
    assert!(
        first.starts_with("Task 0 of test is at worker worker-0 since"),
        "{first}"
    );
    let last = explain(&bench, &["4999"]);
    assert!(
        last.starts_with("Task 4999 of test waits to be sent (attempt 1): the worker is busy (1 full)"),
        "{last}"
    );
    assert!(last.contains("go before it"), "{last}");
    let none = explain(&bench, &["5000"]);
    assert!(
        none.starts_with("Task 5000 of test does not exist: its tasks are 0 to 4999"),
        "{none}"
    );
    let object: Value = serde_json::from_str(&explain(&bench, &["0", "-o", "json"])).unwrap();
    assert_eq!(object["account"]["number"]["ventilator"]["state"], "in-flight");
    assert_eq!(object["account"]["ventilator"]["completions"], 5000);
    run.kill();
    bench.write("go", "");
    wait_for("its parts to end", PATIENCE, || bench.living().is_empty().then_some(()));
    let idle = explain(&bench, &[]);
    assert!(
        idle.starts_with("test is not done: no run is going on; the same harmony run resumes it"),
        "{idle}"
    );
    let task = explain(&bench, &["4999"]);
    assert!(
        task.starts_with("Task 4999 of test is not done: nothing is recorded of it; the batch: no run is going on"),
        "{task}"
    );
}

#[test]
fn a_run_takes_the_place_of_one_that_was_killed_and_a_batch_that_is_over_tells_its_end() {
    let bench = Bench::with(&json!({
        "completions": 20, "parallelism": 2, "backoffLimitPerIndex": 0,
        "executor": {"exec": {"command": ["sh", "-c",
            "until test -e go; do sleep 0.05; done; test $HARMONY_TASK != 7 || { echo lost >&2; exit 3; }"]}},
    }));
    let killed = bench.start();
    explain_until(&bench, &[], &["test is running"]);
    killed.kill();
    let run = bench.start();
    explain_until(&bench, &[], &["test is running"]);
    bench.write("go", "");
    run.wait().expect(1);
    assert!(!bench.path("out/control").exists(), "the socket is gone with its run");
    let end = explain(&bench, &[]);
    assert!(end.starts_with("test is done: 19 succeeded, 1 failed"), "{end}");
    let done = explain(&bench, &["6"]);
    assert!(done.starts_with("Task 6 of test is done: it succeeded"), "{done}");
    let failed = explain(&bench, &["7"]);
    assert!(
        failed.starts_with("Task 7 of test has failed for good: ExitCode 3"),
        "{failed}"
    );
    assert!(failed.contains("its last words: lost"), "{failed}");
}

#[test]
fn a_task_that_failed_says_when_it_is_tried_again() {
    let bench = Bench::with(&json!({
        "completions": 1, "parallelism": 1, "backoffLimitPerIndex": 50,
        "executor": {"exec": {"command": ["false"]}},
    }));
    let run = bench.start();
    let task = explain_until(&bench, &["0"], &["waits for its next attempt: attempt", "is due in"]);
    assert!(task.contains("the collector has charged"), "{task}");
    explain_until(
        &bench,
        &[],
        &["test is running", "1 task failed before", "task 0 is tried again"],
    );
    run.kill();
}

#[test]
fn a_frozen_worker_is_named() {
    let bench = waiting_for_a_file();
    let run = bench.start();
    explain_until(&bench, &["0"], &["is at worker worker-0"]);
    run.worker("worker-0").stop();
    // Its link is given up, and there is no other one.
    let batch = explain_until(&bench, &[], &["no worker is ready"]);
    assert!(
        batch.starts_with("test is not done: no worker is ready: 1 do not answer yet"),
        "{batch}"
    );
    assert!(
        batch.contains("worker-0 went away") && batch.contains("counts as dead in"),
        "{batch}"
    );
    explain_until(
        &bench,
        &["0"],
        &["waits to be sent again (attempt 1): no worker is ready"],
    );
    run.kill();
}

#[test]
fn a_frozen_collector_is_the_reason() {
    let bench = waiting_for_a_file();
    let run = bench.start();
    explain_until(&bench, &["0"], &["is at worker worker-0"]);
    run.collector().stop();
    explain_until(&bench, &[], &["test is not done: the collector"]);
    run.kill();
}
