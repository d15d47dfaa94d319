//! What pods show over HTTP while they run a batch, and what they refuse.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // helpers of tests fail by it

#[cfg(test)]
mod kit;

use std::fs::File;

use harmony_protocol::ids::BatchUid;
use harmony_protocol::ventilator::Event;
use rustix::fs::{FlockOperation, flock};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::kit::metrics::Scrape;
use crate::kit::pods::{Pod, Pods};
use crate::kit::{PATIENCE, wait_for};

const UID: BatchUid = BatchUid(Uuid::from_u128(0x0192_7f3a_5b00_7000_8000_0000_0000_0001));
/// Tasks, those from this number on that wait for the test, and one that fails.
const TASKS: u64 = 60;
const GATED: u64 = 40;
const FAILING: u64 = 7;

fn path(file: &str) -> String {
    format!("/batches/{UID}/{file}")
}

fn numbers(lines: &str) -> Vec<u64> {
    let number = |line| serde_json::from_str::<Value>(line).unwrap()["number"].as_u64().unwrap();
    lines.lines().map(number).collect()
}

fn output(line: &str) -> String {
    let line: Value = serde_json::from_str(line).unwrap();
    line["output"].as_str().unwrap().to_owned()
}

/// Starts the batch and waits until all is recorded that need not wait.
fn started(pods: &Pods) -> (Pod, Pod, kit::pods::Served) {
    let script = format!(
        "test $HARMONY_TASK -eq {FAILING} && exit 3
         while test $HARMONY_TASK -ge {GATED} -a ! -e {}; do sleep 0.01; done
         echo number $HARMONY_TASK",
        pods.path().join("go").display()
    );
    let (collector, worker) = (pods.collector(), pods.worker(UID, &["sh", "-c", &script]));
    let served = pods.serve(UID, TASKS);
    wait_for("the first results", PATIENCE, || {
        let tasks = |state| collector.metric(&format!("harmony_collector_tasks{{state=\"{state}\"}}"));
        (tasks("succeeded") + tasks("failed") == GATED).then_some(())
    });
    (collector, worker, served)
}

fn open_the_gate(pods: &Pods, served: &kit::pods::Served) {
    std::fs::write(pods.path().join("go"), "").unwrap();
    served.wait("the end", |event| matches!(event, Event::Done(_)).then_some(()));
}

#[test]
fn results_are_read_while_the_batch_runs_and_after_a_restart() {
    let pods = Pods::new();
    let (collector, _worker, served) = started(&pods);
    let (_, early) = collector.private(&path("results.ndjson"));
    let recorded: Vec<u64> = (0..GATED).filter(|number| *number != FAILING).collect();
    assert_eq!(numbers(&early), recorded);
    let number = |number: u64| -> Value {
        let (status, text) = collector.private(&path(&format!("numbers/{number}")));
        assert_eq!(status, 200, "{text}");
        serde_json::from_str(&text).unwrap()
    };
    let failed = number(FAILING);
    assert_eq!(
        (&failed["settled"], &failed["outcome"]["outcome"]),
        (&json!(true), &json!("ExitCode"))
    );
    assert_eq!(number(TASKS - 1)["settled"], false);
    assert_eq!(number(TASKS - 1)["outcome"], Value::Null);
    open_the_gate(&pods, &served);
    assert_eq!(number(TASKS - 1)["outcome"]["outcome"], "Succeeded");
    let (_, all) = collector.private(&path("results.ndjson"));
    assert!(all.starts_with(&early), "what was read early is the beginning");
    assert_eq!(numbers(&all).len() as u64, TASKS - 1);
    let (_, rest) = collector.private(&path(&format!("results.ndjson?from={GATED}")));
    assert_eq!(format!("{early}{rest}"), all);
    collector.terminate();

    let collector = pods.collector();
    assert_eq!(collector.private(&path("results.ndjson")), (200, all));
    let (_, failed) = collector.private(&path("failed.ndjson"));
    assert_eq!(numbers(&failed), [FAILING]);
    let (_, rows) = collector.private(&path("joblog.tsv"));
    assert_eq!(rows.lines().count() as u64, TASKS + 1, "a heading and a row for each");
    let (_, summary) = collector.private(&format!("/batches/{UID}"));
    let summary: Value = serde_json::from_str(&summary).unwrap();
    assert_eq!(summary["counts"]["succeeded"], TASKS - 1);
    assert_eq!(summary["lowestMissing"], TASKS);
    assert_eq!(summary["ended"]["ending"], "complete");
}

#[test]
fn long_outputs_are_read_one_by_one() {
    let pods = Pods::new();
    let script = "test $HARMONY_TASK = 2 && exit 1; seq 1 400000 | head -c $((2000000 * HARMONY_TASK + 1))";
    let (collector, _worker) = (pods.collector(), pods.worker(UID, &["sh", "-c", script]));
    let served = pods.serve(UID, 3);
    served.wait("the end", |event| matches!(event, Event::Done(_)).then_some(()));
    let (_, lines) = collector.private(&path("results.ndjson"));
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let expected = [
        json!({"number": 0, "attempt": 1, "output": "1"}),
        json!({"number": 1, "attempt": 1, "outputFile": "outputs/1"}),
    ];
    assert_eq!(lines, expected);
    assert_eq!(collector.private(&path("outputs/0")), (200, "1".to_owned()));
    let (status, output) = collector.private(&path("outputs/1"));
    let right: String = (1..).map(|number| format!("{number}\n")).take(400_000).collect();
    assert!(
        status == 200 && output == right[..2_000_001],
        "{status}, {} bytes",
        output.len()
    );
    for number in [2, 3] {
        let (status, reason) = collector.private(&path(&format!("outputs/{number}")));
        assert!(status == 404 && reason.contains("has no output"), "{reason}");
    }
    assert_eq!(collector.public(&path("outputs/1")).0, 404, "outputs are not public");
}

#[test]
fn what_is_not_there_is_refused_with_a_reason() {
    let pods = Pods::new();
    let collector = pods.collector();
    let (status, reason) = collector.private(&path("results.ndjson"));
    assert_eq!((status, reason), (404, format!("no batch {UID} is recorded here\n")));
    let (status, reason) = collector.private(&path("results.csv"));
    assert!(status == 404 && reason.contains("results.ndjson"), "{reason}");
    assert_eq!(
        collector.public(&path("results.ndjson")).0,
        404,
        "results are not public"
    );
}

#[test]
fn metrics_agree_with_the_results() {
    let pods = Pods::new();
    let (collector, worker, served) = started(&pods);
    let running = worker.metric("harmony_worker_slots{state=\"busy\"}");
    assert_eq!(running, 2, "both slots wait for the test");
    open_the_gate(&pods, &served);
    assert_eq!(
        collector.metric("harmony_collector_tasks{state=\"succeeded\"}"),
        TASKS - 1
    );
    assert_eq!(collector.metric("harmony_collector_tasks{state=\"failed\"}"), 1);
    assert_eq!(collector.metric("harmony_task_results_duplicate_total"), 0);
    assert!(collector.metric("harmony_collector_flush_duration_seconds_count") > 0);
    assert_eq!(collector.metric("harmony_task_duration_seconds_count"), TASKS);
    assert_eq!(
        collector.metric("harmony_task_duration_seconds_bucket{le=\"+Inf\"}"),
        TASKS
    );
    assert_eq!(collector.metric("harmony_tasks_failed_total{reason=\"ExitCode\"}"), 1);
    assert_eq!(collector.metric("harmony_tasks_failed_total{reason=\"WorkerLost\"}"), 0);
    assert_eq!(collector.metric("harmony_collector_unflushed_results"), 0);
    let (_, results) = collector.private(&path("results.ndjson"));
    let outputs: u64 = results.lines().map(|line| output(line).len() as u64).sum();
    let bytes = collector.metric("harmony_task_payload_bytes_total{direction=\"to_collector\"}");
    assert_eq!(bytes, outputs, "the failed one wrote nothing");
    assert_eq!(worker.metric("harmony_task_wait_seconds_count"), TASKS);
    assert_eq!(
        worker.metric("harmony_worker_attempts_total{result=\"succeeded\"}"),
        TASKS - 1
    );
    assert_eq!(worker.metric("harmony_worker_attempts_total{result=\"failed\"}"), 1);
    for pod in [&collector, &worker] {
        let metrics = Scrape::read(pod.public("/metrics").1);
        metrics.assert_clean();
        metrics.assert_documented();
        assert!(pod.metric("harmony_link_messages_total{direction=\"sent\"}") > 0);
        assert!(pod.metric("harmony_link_bytes_total{direction=\"received\"}") > 0);
        assert_eq!(pod.metric("harmony_links_closed_total{reason=\"violation\"}"), 0);
        assert_eq!(pod.public("/healthz"), (200, "ok\n".to_owned()));
        assert_eq!(pod.public("/readyz"), (200, "ok\n".to_owned()));
        let (_, state) = pod.private("/debug/state");
        assert!(
            serde_json::from_str::<Value>(&state).unwrap()["batches"].is_array(),
            "{state}"
        );
        assert_eq!(pod.public("/debug/state").0, 404, "the state is not public");
    }
}

#[test]
fn a_log_that_a_predecessor_still_holds_is_waited_for() {
    let pods = Pods::new();
    let log = pods.path().join("data").join(UID.to_string());
    std::fs::create_dir_all(&log).unwrap();
    let lock = File::create(log.join("lock")).unwrap();
    flock(&lock, FlockOperation::NonBlockingLockExclusive).unwrap();
    let (collector, _worker) = (pods.collector(), pods.worker(UID, &["true"]));
    let served = pods.serve(UID, 1);
    wait_for("the log to be asked for", PATIENCE, || {
        let state: Value = serde_json::from_str(&collector.private("/debug/state").1).unwrap();
        (state["opening"] == serde_json::json!([UID])).then_some(())
    });
    drop(lock);
    served.wait("the end", |event| matches!(event, Event::Done(_)).then_some(()));
}

#[test]
fn a_worker_of_another_batch_refuses_it() {
    let pods = Pods::new();
    let other = BatchUid(Uuid::from_u128(9));
    let (_collector, _worker) = (pods.collector(), pods.worker(other, &["true"]));
    let served = pods.serve(UID, 1);
    let reason = served.wait("the refusal", |event| match event {
        Event::WorkerRefused { reason, .. } => Some(reason),
        _ => None,
    });
    assert!(
        reason.contains(&other.to_string()) && reason.contains(&UID.to_string()),
        "{reason}"
    );
}
