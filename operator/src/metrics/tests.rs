use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::Arc;

use harmony_admin::exposition;
use harmony_api::status::HarmonyBatchStatus;
use harmony_protocol::ventilator::{WorkerStage, WorkerView};
use harmony_transport::Counters as Links;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;

use super::*;
use crate::reconcile::update_status::tests::progress;
use crate::requests::Requests;
use crate::ventilators::Running;

fn worker(stage: WorkerStage, in_flight: u64, suspect: bool) -> WorkerView {
    WorkerView {
        name: "w".into(),
        stage,
        process_id: None,
        in_flight,
        draining: false,
        suspect,
        greeted: true,
        settled: 0,
    }
}

fn status() -> HarmonyBatchStatus {
    let now = Time(Timestamp::from_second(1_700_000_000).unwrap());
    HarmonyBatchStatus {
        start_time: Some(now.clone()),
        completion_time: Some(now.clone()),
        estimated_completion_time: Some(now.clone()),
        conditions: vec![Condition {
            type_: "Complete".into(),
            status: "True".into(),
            reason: "CompletionsReached".into(),
            message: String::new(),
            observed_generation: None,
            last_transition_time: now,
        }],
        ..HarmonyBatchStatus::default()
    }
}

/// An operator with a batch that runs.
fn leading() -> Snapshot {
    let workers = vec![
        worker(WorkerStage::Ready, 2, false),
        worker(WorkerStage::Ready, 0, false),
        worker(WorkerStage::Dialling, 0, false),
        worker(WorkerStage::Dialling, 0, true),
    ];
    let mut progress = progress();
    progress.recorded_at = Some(std::time::Instant::now());
    let running = Running {
        progress: Box::new(progress),
        workers,
        links: Links::default(),
        claiming: None,
        takeover: false,
    };
    let key = BatchKey {
        namespace: "default".into(),
        name: "b".into(),
    };
    Snapshot {
        leader: true,
        batches: vec![Batch {
            namespace: key.namespace.clone(),
            name: key.name.clone(),
            ventilator: None,
            state: Some(VentilatorState::Running(running)),
            stopped_at: None,
        }],
        said: vec![Said {
            key,
            executor: "exec",
            active_deadline: Some(60),
            status: Arc::new(status()),
        }],
    }
}

fn metrics() -> String {
    let registry = Registry::new();
    let _counters = Counters::register(&registry).unwrap();
    let _requests = Requests::register(&registry).unwrap();
    exposition(&leading(), &registry).unwrap()
}

#[test]
fn each_worker_has_one_state() {
    let metrics = metrics();
    for (state, count) in [
        ("busy", 1),
        ("idle", 1),
        ("connecting", 1),
        ("suspect", 1),
        ("draining", 0),
    ] {
        let line = format!("harmony_workers{{batch=\"b\",namespace=\"default\",state=\"{state}\"}} {count}\n");
        let other = format!("harmony_workers{{namespace=\"default\",batch=\"b\",state=\"{state}\"}} {count}\n");
        assert!(
            metrics.contains(&line) || metrics.contains(&other),
            "{line} in {metrics}"
        );
    }
}

#[test]
fn every_metric_is_documented() {
    let documented = include_str!("../../../docs/metrics.md");
    let metrics = metrics();
    let families = metrics
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
    for family in families {
        assert!(documented.contains(family), "docs/metrics.md does not know {family}");
    }
}

/// Skipped, with the reason said, where the linter is missing and may be.
#[test]
fn the_linter_of_prometheus_has_nothing_to_say() {
    let linter = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut linter = match linter {
        Ok(linter) => linter,
        Err(missing) => {
            assert!(
                std::env::var_os("CI").is_none_or(|ci| ci != "true"),
                "promtool, of Debian's package prometheus: {missing}"
            );
            return println!("not linted, since there is no promtool: {missing}");
        }
    };
    linter.stdin.take().unwrap().write_all(metrics().as_bytes()).unwrap();
    let said = linter.wait_with_output().unwrap();
    let (out, err) = (
        String::from_utf8_lossy(&said.stdout),
        String::from_utf8_lossy(&said.stderr),
    );
    assert!(said.status.success() && out.is_empty() && err.is_empty(), "{out}{err}");
}
