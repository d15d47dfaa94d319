//! What real processes log.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests fail like tests"
)]

#[cfg(test)]
mod kit;

use std::fs;
use std::process::Command;

use kit::Bench;
use kit::pods::Pods;
use serde_json::{Value, json};

const TASKS: u64 = 500;

#[test]
fn each_line_of_a_run_says_of_what_batch_it_is_and_tasks_have_none() {
    let bench = Bench::with(&json!({
        "completions": TASKS, "parallelism": 2,
        "executor": {"process": {"command": ["cat"]}},
    }));
    let ended = bench
        .start_with(&["--log-level", "info", "--log-format", "json"])
        .wait();
    let said = ended.expect(0).said;
    let lines: Vec<Value> = said
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect();
    assert!(!lines.is_empty() && (lines.len() as u64) < TASKS / 10, "{said}");
    let trace = &lines[0]["trace_id"];
    assert_eq!(trace.as_str().unwrap().len(), 32, "{said}");
    for line in lines
        .iter()
        .filter(|line| line["target"] == "harmony_ventilator::driver")
    {
        assert!(line["batch"].is_string() && line["epoch"].is_u64(), "{line}");
        assert_eq!(&line["trace_id"], trace);
    }
    assert!(
        lines.iter().any(|line| line["message"] == "the batch is over"),
        "{said}"
    );
}

#[test]
fn the_filter_of_a_run_is_no_business_of_its_tasks_and_an_empty_one_is_none() {
    let bench = Bench::with(&json!({"completions": 1, "executor": {"exec": {"command": ["env"]}}}));
    let run = Command::new(env!("CARGO_BIN_EXE_harmony"))
        .args(["run", "batch.yaml", "--output", "out", "--log-format", "json"])
        .current_dir(bench.path(""))
        .env("HARMONY_LOG", "")
        .env("TMPDIR", bench.path("tmp"))
        .output()
        .unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let result: Value = serde_json::from_str(&fs::read_to_string(bench.path("out/results.ndjson")).unwrap()).unwrap();
    let variables = result["output"].as_str().unwrap();
    let ours = variables.lines().filter(|line| line.starts_with("HARMONY_LOG"));
    assert_eq!(ours.collect::<Vec<_>>(), ["HARMONY_LOG="], "as the user has it");
}

#[test]
fn the_level_changes_while_a_process_runs() {
    let pods = Pods::new();
    let collector = pods.collector();
    assert_eq!(collector.private("/debug/log"), (200, "info\n".to_owned()));
    let filter = "info,harmony_collector=debug";
    assert_eq!(collector.put("/debug/log", filter), (200, format!("{filter}\n")));
    let (status, reason) = collector.put("/debug/log", "info,harmony_collector=lout");
    assert_eq!(status, 400);
    assert!(
        reason.starts_with("\"harmony_collector=lout\" is no filter directive"),
        "{reason}"
    );
    assert_eq!(collector.private("/debug/log"), (200, format!("{filter}\n")));
    assert_eq!(collector.public("/debug/log").0, 404, "not for everybody");
    assert_eq!(collector.metric("harmony_log_lines_suppressed_total"), 0);
}
