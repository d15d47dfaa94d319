//! A batch is its folder: what it holds is never mixed with another batch, and only one run uses it at a time.
#![allow(clippy::unwrap_used)] // helpers of tests fail by it

#[cfg(test)]
mod kit;

use std::fs;

use kit::{Bench, Run, STARTED};
use serde_json::{Value, json};

fn spec(completions: u64, command: &str) -> Value {
    json!({"completions": completions, "executor": {"exec": {"command": ["sh", "-c", command]}}})
}

#[test]
fn another_batch_in_the_same_folder_is_refused() {
    let bench = Bench::with(&spec(4, "cat"));
    bench.run().expect(0);
    let before = fs::read(bench.output().join("results.ndjson")).unwrap();
    let other_source = json!({
        "tasks": {"items": ["a", "b", "c", "d"]},
        "executor": {"exec": {"command": ["sh", "-c", "cat"]}},
    });
    for other in [spec(5, "cat"), spec(4, "cat;"), other_source] {
        bench.batch(&other);
        bench
            .run()
            .expect(2)
            .says(&["holds results of another batch", "--output"]);
        assert_eq!(fs::read(bench.output().join("results.ndjson")).unwrap(), before);
    }
    bench.batch(&spec(4, "cat"));
    bench.run().expect(0);
}

/// A run that is killed once its batch has ended leaves its folder of sockets; the next one has nothing to run, and sweeps.
#[test]
fn a_run_of_a_batch_that_is_over_sweeps_too() {
    let bench = Bench::with(&spec(1, "cat"));
    bench.run().expect(0);
    let left = bench.path("tmp").join("harmony-1-left");
    fs::create_dir(&left).unwrap();
    fs::write(left.join("owner"), "").unwrap();
    bench.run().expect(0);
    bench.assert_nothing_left();
}

/// Lines that change under the same path make another batch, too.
#[test]
fn changed_lines_are_refused() {
    let bench = Bench::with(&json!({
        "tasks": {"lines": {"path": "lines"}},
        "executor": {"exec": {"command": ["cat"]}},
    }));
    bench.write("lines", "one\ntwo\n");
    bench.run().expect(0);
    bench.write("lines", "one\nTwo\n");
    bench.run().expect(2).says(&["holds results of another batch"]);
}

/// What cannot change a result may change: how many workers there are, how patient one is.
#[test]
fn more_workers_and_retries_are_the_same_batch() {
    let bench = held();
    start_held(&bench).kill();
    let mut more = held_spec();
    more["parallelism"] = json!(3);
    more["backoffLimitPerIndex"] = json!(1);
    bench.batch(&more);
    bench.write("go", "");
    bench.run().expect(0);
    bench.outcome().assert_all(4, |number| number.to_string().into_bytes());
}

#[test]
fn a_typing_error_can_be_mended_before_anything_is_recorded() {
    let bench = Bench::with(&json!({"completions": 3, "executor": {"exec": {"command": ["catt"]}}}));
    bench.run().expect(3).says(&["catt"]);
    bench.batch(&json!({"completions": 3, "executor": {"exec": {"command": ["cat"]}}}));
    bench.run().expect(0);
    bench.outcome().assert_all(3, |number| number.to_string().into_bytes());
}

fn held_spec() -> Value {
    spec(
        4,
        &format!("n=$HARMONY_TASK; {STARTED}; until [ -e go ]; do sleep 0.005; done; cat"),
    )
}

/// A batch of four tasks that wait for a file `go`.
fn held() -> Bench {
    Bench::with(&held_spec())
}

fn start_held(bench: &Bench) -> Run {
    let run = bench.start();
    bench.wait_for_marks("a task", |marks| !marks.started.is_empty());
    run
}

#[test]
fn a_second_run_is_refused_and_names_the_first() {
    let bench = held();
    let run = start_held(&bench);
    bench
        .run()
        .expect(2)
        .says(&[&format!("in use by another run, process {}", run.pid()), "--output"]);
    bench.write("go", "");
    run.wait().expect(0);
    bench.outcome().assert_all(4, |number| number.to_string().into_bytes());
}

#[test]
fn a_batch_of_nothing_is_done_at_once() {
    let empty = json!({"tasks": {"items": []}, "executor": {"exec": {"command": ["cat"]}}});
    for nothing in [spec(0, "cat"), empty] {
        let bench = Bench::with(&nothing);
        bench.run().expect(0).says(&["0 succeeded, 0 failed"]);
        bench.outcome().assert_complete(0);
        bench.run().expect(0);
        bench.assert_nothing_left();
    }
    let bench =
        Bench::with(&json!({"tasks": {"lines": {"path": "lines"}}, "executor": {"exec": {"command": ["cat"]}}}));
    bench.write("lines", "");
    bench.run().expect(0);
    bench.outcome().assert_complete(0);
}

/// All bytes but the LF, also in lines that are empty, end in CR, or in nothing.
fn strange_lines() -> Vec<Vec<u8>> {
    let all: Vec<u8> = (0..=255).filter(|byte| *byte != b'\n').collect();
    let texts: [&[u8]; 8] = [
        b"",
        b" ",
        b"\r",
        b"x\r",
        b"\0",
        b"\xff\xfe",
        "süß ☃".as_bytes(),
        b"\"\\\t",
    ];
    let mut lines: Vec<Vec<u8>> = texts.iter().map(|text| text.to_vec()).collect();
    lines.push(all.clone());
    lines.push(all.repeat(1_000));
    lines
}

#[test]
fn lines_of_any_bytes_survive() {
    let lines = strange_lines();
    let exec = json!({"exec": {"command": ["cat"]}});
    let process = json!({"process": {"command": ["cat"]}});
    for (executor, last_has_end) in [(&exec, true), (&exec, false), (&process, true), (&process, false)] {
        let bench = Bench::with(&json!({"tasks": {"lines": {"path": "lines"}}, "executor": executor}));
        let mut text = lines.join(&b'\n');
        text.extend(last_has_end.then_some(b'\n'));
        bench.write("lines", text);
        bench.run().expect(0);
        let count = lines.len() as u64;
        bench
            .outcome()
            .assert_all(count, |number| lines[usize::try_from(number).unwrap()].clone());
    }
}

#[test]
fn output_of_any_bytes_survives() {
    let bench = Bench::with(&spec(
        3,
        r"printf '\377\376\000\n'; printf '%s' $HARMONY_TASK; printf '\r\n'",
    ));
    bench.run().expect(0);
    let outcome = bench.outcome();
    outcome.assert_all(3, |number| {
        [b"\xff\xfe\0\n", number.to_string().as_bytes(), b"\r\n"].concat()
    });
    assert!(outcome.succeeded.iter().all(|line| line.output.is_none()));
}

#[test]
fn completions_that_differ_from_the_source_are_refused() {
    let bench = Bench::with(&json!({
        "completions": 3,
        "tasks": {"lines": {"path": "lines"}},
        "executor": {"exec": {"command": ["cat"]}},
    }));
    bench.write("lines", "a\nb\n");
    bench.run().expect(2).says(&["completions", "3", "2"]);
    assert!(!bench.output().join("results.ndjson").exists());
    bench.write("lines", "a\nb\nc\n");
    bench.run().expect(0);
}

#[test]
fn bad_yaml_is_refused_with_its_place() {
    let bench = Bench::new();
    bench.write(
        "batch.yaml",
        "apiVersion: harmony.dev/v1alpha1\nkind: HarmonyBatch\nmetadata: {name: test}\nspec:\n  completions: many\n",
    );
    bench
        .run()
        .expect(2)
        .says(&["batch.yaml:5:16", "spec.completions", "many"]);
    bench.write("batch.yaml", "spec: {");
    bench.run().expect(2).says(&["batch.yaml:1:"]);
    let missing = Bench::new();
    missing.run().expect(2).says(&["batch.yaml cannot be read"]);
}

#[test]
fn too_many_failures_end_the_batch_early() {
    let mut spec = spec(1_000, "[ $HARMONY_TASK -lt 5 ]");
    spec["maxFailedIndexes"] = json!(2);
    spec["backoffLimitPerIndex"] = json!(0);
    let bench = Bench::with(&spec);
    let ended = bench
        .run()
        .expect(1)
        .says(&["ended early", "MaxFailedIndexesExceeded", "not settled"]);
    let outcome = bench.outcome();
    let (succeeded, failed) = (outcome.succeeded.len(), outcome.failed.len());
    assert!(failed >= 3 && succeeded + failed < 1_000, "{succeeded} {failed}");
    let left = 1_000 - succeeded - failed;
    assert!(ended.said.contains(&format!("{left} not settled")), "{}", ended.said);
    bench.assert_nothing_left();
    // It stays ended.
    bench.run().expect(1).says(&["ended early"]);
    assert_eq!(bench.outcome().failed.len(), failed);
}

#[test]
fn a_deadline_ends_the_batch_early() {
    let mut spec = spec(1_000, "n=$HARMONY_TASK; [ $n -lt 3 ] || sleep 300; printf done");
    spec["activeDeadlineSeconds"] = json!(2);
    let bench = Bench::with(&spec);
    bench
        .run()
        .expect(1)
        .says(&["ended early", "DeadlineExceeded", "997 not settled"]);
    let outcome = bench.outcome();
    assert_eq!((outcome.succeeded.len(), outcome.failed.len()), (3, 0));
    bench.assert_nothing_left();
    bench.run().expect(1).says(&["ended early"]);
}

/// A task that kills its worker is found out and fails; who ran beside it does not.
#[test]
fn a_task_that_kills_its_worker_fails_alone() {
    let script = "if [ $HARMONY_TASK = 13 ]; then kill -9 $PPID; sleep 300; fi; sleep 0.02; printf done";
    let mut spec = spec(60, script);
    spec["parallelism"] = json!(2);
    spec["slotsPerWorker"] = json!(2);
    spec["backoffLimitPerIndex"] = json!(1);
    let bench = Bench::with(&spec);
    bench.run().expect(1).says(&["59 succeeded, 1 failed"]);
    let outcome = bench.outcome();
    outcome.assert_complete(60);
    outcome.assert_right(|_| b"done".to_vec());
    let failed = outcome.failure(13);
    assert_eq!((failed.reason.as_str(), failed.attempts), ("WorkerLost", 2));
    assert_eq!(outcome.attempts(13), [(1, "WorkerLost"), (2, "WorkerLost")]);
    bench.assert_nothing_left();
}
