//! Tasks that fail are in the list of failures after their retries, and the batch goes on. An executor that cannot run
//! anything ends the batch early.
#![allow(clippy::unwrap_used)] // helpers of tests fail by it

#[cfg(test)]
mod kit;

use std::time::Duration;

use kit::{Bench, Failed};
use serde_json::{Value, json};

/// A batch of six tasks of which number 3 runs the given shell code; the others answer `fine`.
fn batch_with(code: &str, more: &Value) -> Bench {
    let script = format!(r#"if [ "$HARMONY_TASK" = 3 ]; then {code}; fi; printf fine"#);
    let mut spec = json!({
        "completions": 6,
        "parallelism": 2,
        "backoffLimitPerIndex": 2,
        "executor": {"exec": {"command": ["sh", "-c", script]}},
    });
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    Bench::with(&spec)
}

/// Runs the batch and gives what became of number 3, after all that must hold of the rest.
fn failure_of(code: &str, more: &Value) -> Failed {
    let bench = batch_with(code, more);
    bench.run().expect(1).says(&["5 succeeded, 1 failed"]);
    let outcome = bench.outcome();
    outcome.assert_complete(6);
    outcome.assert_right(|_| b"fine".to_vec());
    let mut failed = outcome.failure(3).clone();
    // Which one it was is chance; the outcome compares it with the job log.
    failed.worker.clear();
    let reason = failed.reason.as_str();
    assert_eq!(outcome.attempts(3), [(1, reason), (2, reason), (3, reason)]);
    bench.assert_nothing_left();
    failed
}

fn failed(reason: &str, log: &str) -> Failed {
    Failed {
        number: 3,
        attempts: 3,
        reason: reason.to_owned(),
        exit_code: None,
        signal: None,
        worker: String::new(),
        log: log.to_owned(),
    }
}

#[test]
fn an_exit_code_fails_a_task_after_its_retries() {
    let found = failure_of("echo no such thing >&2; exit 9", &json!({}));
    let exit_code = Some(9);
    assert_eq!(
        found,
        Failed {
            exit_code,
            ..failed("ExitCode", "no such thing\n")
        }
    );
}

#[test]
fn a_signal_fails_a_task_after_its_retries() {
    let found = failure_of("echo ouch >&2; kill -SEGV $$", &json!({}));
    let signal = Some(11);
    assert_eq!(
        found,
        Failed {
            signal,
            ..failed("Signal", "ouch\n")
        }
    );
}

#[test]
fn a_task_that_takes_too_long_fails_after_its_retries() {
    let found = failure_of(
        "echo wait >&2; sleep 300",
        &json!({"activeDeadlineSecondsPerIndex": 1, "backoffLimitPerIndex": 2}),
    );
    assert_eq!(found, failed("DeadlineExceeded", "wait\n"));
}

#[test]
fn too_large_an_output_fails_a_task_after_its_retries() {
    let found = failure_of(
        "echo large >&2; head -c 5000 /dev/zero; sleep 300",
        &json!({"results": {"maxBytesPerTask": 4096}}),
    );
    assert_eq!(found, failed("ResultTooLarge", "large\n"));
}

#[test]
fn a_task_that_fails_once_succeeds_at_its_second_attempt() {
    let bench = batch_with(r#"[ "$HARMONY_ATTEMPT" = 2 ] || exit 5"#, &json!({}));
    bench.run().expect(0);
    let outcome = bench.outcome();
    outcome.assert_all(6, |_| b"fine".to_vec());
    assert_eq!(outcome.attempts(3), [(1, "ExitCode"), (2, "Succeeded")]);
}

#[test]
fn a_log_is_cut_to_its_tail() {
    let found = failure_of(
        "head -c 100000 /dev/zero | tr '\\0' x >&2; echo end >&2; exit 1",
        &json!({}),
    );
    assert_eq!(found.log.len(), 4096);
    assert!(found.log.ends_with("xxend\n"));
}

#[test]
fn without_retries_each_failure_is_final() {
    let bench = batch_with("exit 1", &json!({"backoffLimitPerIndex": 0}));
    bench.run().expect(1);
    let outcome = bench.outcome();
    assert_eq!(outcome.failure(3).attempts, 1);
    assert_eq!(outcome.attempts(3), [(1, "ExitCode")]);
}

/// A batch of a thousand tasks for an executor that cannot run them.
fn broken(executor: &Value, said: &[&str]) -> Bench {
    let bench = Bench::with(&json!({"completions": 1000, "parallelism": 2, "executor": executor}));
    broken_run(&bench, said);
    bench
}

fn broken_run(bench: &Bench, said: &[&str]) {
    bench
        .start()
        .wait()
        .expect(3)
        .says(said)
        .within(Duration::from_secs(20));
    bench.assert_nothing_left();
}

#[test]
fn a_program_that_is_missing_ends_the_batch_early() {
    for kind in ["exec", "process"] {
        broken(
            &json!({kind: {"command": ["no-such-program"]}}),
            &["\"no-such-program\"", "not found in PATH"],
        );
        broken(
            &json!({kind: {"command": ["./no-such-program"]}}),
            &["no-such-program", "No such file", "check its path"],
        );
    }
    broken(
        &json!({"library": {"command": ["./no-such-program"]}}),
        &["no-such-program", "No such file"],
    );
    broken(
        &json!({"library": {"command": ["no-such-program"]}}),
        &["no-such-program", "No such file"],
    );
}

#[test]
fn a_program_that_is_not_executable_ends_the_batch_early() {
    for kind in ["exec", "process", "library"] {
        let bench = Bench::with(&json!({"completions": 1000, "executor": {kind: {"command": ["./program"]}}}));
        bench.write("program", "#!/bin/sh\n");
        broken_run(&bench, &["program", "ermission denied"]);
    }
}

#[test]
fn a_warm_process_that_exits_at_once_ends_the_batch_early() {
    let script = "echo start 0 $PPID $$ >> $MARKS; echo no licence found >&2; exit 4";
    let bench = broken(
        &json!({"process": {"command": ["sh", "-c", script]}}),
        &["no licence found", "exit"],
    );
    let starts = bench.marks().started.len();
    assert!(starts < 50, "{starts} starts");
}

#[test]
fn a_program_of_ones_own_that_exits_at_once_ends_the_batch_early() {
    let script = "echo start 0 $PPID $$ >> $MARKS; echo no licence found >&2; exit 4";
    let bench = broken(
        &json!({"library": {"command": ["sh", "-c", script]}}),
        &["worker-", "no licence found", "exit status: 4"],
    );
    let starts = bench.marks().started.len();
    assert!(starts < 50, "{starts} starts");
}

/// A task that exits with an error is a task that fails, however many do.
#[test]
fn a_command_that_always_fails_fails_its_tasks() {
    let bench = Bench::with(&json!({
        "completions": 20, "parallelism": 2, "backoffLimitPerIndex": 0,
        "executor": {"exec": {"command": ["false"]}},
    }));
    bench.run().expect(1).says(&["0 succeeded, 20 failed"]);
    let outcome = bench.outcome();
    outcome.assert_complete(20);
    assert!(outcome.failed.iter().all(|failed| failed.exit_code == Some(1)));
}

#[test]
fn a_batch_that_has_what_its_success_policy_asks_for_ends_as_a_success() {
    let bench = Bench::with(&json!({
        "completions": 6,
        "parallelism": 2,
        "successPolicy": {"rules": [{"succeededIndexes": "0-1"}]},
        "executor": {"exec": {"command": ["sh", "-c", r#"[ "$HARMONY_TASK" -lt 2 ] || exec sleep 600"#]}},
    }));
    let said = ["2 succeeded, 0 failed, ended early (SuccessPolicy), 4 not settled"];
    bench.run().expect(0).says(&said);
    // The same again only shows how it ended.
    bench.run().expect(0).says(&said);
    bench.assert_nothing_left();
}
