//! Why a batch on a cluster is not done, before an API server of the test's own.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    unreachable_pub,
    dead_code,
    reason = "helpers of tests fail like tests"
)]

#[path = "cluster/api.rs"]
mod api;

use std::time::Instant;

use harmony_protocol::Identity;
use harmony_protocol::ids::{BatchUid, InstanceId, ProcessId};
use harmony_protocol::ventilator::{Config, Cut, Ventilator};
use harmony_protocol::wire::{Executor, Policy, Role, Work};
use serde_json::{Value, json};
use uuid::Uuid;

use self::api::{FakeApi, Forward, World, chunked};

const UID: &str = "0196f3a0-0000-7000-8000-000000000001";

fn batch(conditions: &Value) -> Value {
    json!({
        "apiVersion": "harmony.dev/v1alpha1", "kind": "HarmonyBatch",
        "metadata": {"name": "render", "namespace": "team-a", "uid": UID},
        "spec": {"completions": 10},
        "status": {
            "state": "Running", "conditions": conditions,
            "tasks": {"total": 10, "pending": 10, "inFlight": 0, "succeeded": 0, "failed": 0},
        },
    })
}

fn condition(kind: &str, status: &str, reason: &str, message: &str) -> Value {
    json!({"type": kind, "status": status, "reason": reason, "message": message,
           "lastTransitionTime": "2026-01-01T00:00:00Z"})
}

fn collector() -> Value {
    json!({"metadata": {"name": "hb-render-collector", "namespace": "team-a", "labels": {"harmony.dev/role": "collector"}},
           "status": {"phase": "Running"}})
}

fn unschedulable() -> Value {
    json!({
        "metadata": {"name": "hb-render-0", "namespace": "team-a"}, "spec": {"containers": [{"name": "worker"}]},
        "status": {"phase": "Pending", "conditions": [
            {"type": "PodScheduled", "status": "False", "reason": "Unschedulable",
             "message": "0/3 nodes are available: 3 Insufficient cpu."},
        ]},
    })
}

fn operator(name: &str) -> Value {
    json!({"metadata": {"name": name, "namespace": "harmony-system"}, "status": {"phase": "Running"}})
}

/// A ventilator that has just begun.
fn ventilator() -> Ventilator {
    Ventilator::new(Config {
        identity: Identity {
            role: Role::Ventilator,
            name: "operator".into(),
            process_id: ProcessId(Uuid::from_u128(1)),
            slots: None,
        },
        seed: 1,
        uid: BatchUid(UID.parse().unwrap()),
        name: "render".into(),
        instance: InstanceId(Uuid::from_u128(2)),
        epoch_floor: 0,
        completions: 10,
        policy: Policy {
            backoff_limit_per_index: 0,
            max_bytes_per_task: 1,
        },
        work: Work {
            executor: Executor::Library,
            collector: String::new(),
            max_bytes_per_task: 1,
            deadline_millis: None,
        },
        max_failed: None,
        deadline: None,
        success: None,
        workers_are_mended: true,
        cut: Cut::default(),
    })
}

fn answers(body: &impl serde::Serialize) -> Forward {
    Forward::Answers(chunked(&serde_json::to_string(body).unwrap(), true))
}

fn refuses(code: u16, said: &str) -> Forward {
    let length = said.len();
    Forward::Answers(format!("HTTP/1.1 {code} X\r\ncontent-length: {length}\r\n\r\n{said}"))
}

fn explain(api: &FakeApi, more: &[&str]) -> String {
    let output = api.harmony(&[&["explain", "render"], more].concat());
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_operator_that_leads_and_the_collector_are_asked() {
    let machine = ventilator();
    let recorded = json!({
        "number": 3, "settled": true, "currentAttempt": 1, "deaths": 0,
        "outcome": {"outcome": "ExitCode", "code": 3, "attempt": 2, "worker": "hb-render-0", "start": "2026-01-01T00:00:00Z",
                    "seconds": 0.5, "outputBytes": 0, "log": "no such frame\n"},
    });
    let api = FakeApi::start(World {
        batch: Some(batch(&json!([condition("CollectorReady", "False", "Starting", "")]))),
        pods: vec![collector()],
        operators: vec![operator("harmony-operator-a"), operator("harmony-operator-b")],
        forwards: vec![
            refuses(503, "this operator stands by"),
            answers(&machine.explain(Instant::now())),
            answers(&machine.explain_number(Instant::now(), 3)),
            answers(&recorded),
        ],
        ..World::default()
    });
    let text = explain(&api, &["3"]);
    assert!(
        text.starts_with("Task 3 of render has failed for good: ExitCode 3"),
        "{text}"
    );
    assert!(text.contains("its last words: no such frame"), "{text}");
    assert!(!text.contains("Could not be asked"), "{text}");
    let asked = api.asked();
    for line in [
        "GET /explain/team-a/render ".to_owned(),
        "GET /explain/team-a/render/3 ".to_owned(),
        format!("GET /batches/{UID}/numbers/3 "),
    ] {
        assert!(asked.iter().any(|asked| asked.starts_with(&line)), "{line}: {asked:?}");
    }
}

#[test]
fn a_batch_without_workers_tells_what_its_pods_wait_for() {
    let waits = "pod hb-render-0 waits: Unschedulable: 0/3 nodes are available: 3 Insufficient cpu.";
    let event = json!({"metadata": {}, "involvedObject": {}, "type": "Warning", "reason": "WorkerLost",
                       "message": "worker hb-render-1 is lost with node n1", "lastTimestamp": "2026-01-01T00:00:00Z"});
    let api = FakeApi::start(World {
        batch: Some(batch(&json!([condition(
            "WorkersReady",
            "False",
            "Unschedulable",
            waits
        )]))),
        pods: vec![collector(), unschedulable()],
        operators: vec![operator("harmony-operator-a")],
        events: vec![event],
        forwards: vec![answers(&ventilator().explain(Instant::now()))],
        ..World::default()
    });
    let object: Value = serde_json::from_str(&explain(&api, &["-o", "json"])).unwrap();
    assert_eq!(
        object["answer"],
        format!("render is not done: workers are not ready (Unschedulable): {waits}")
    );
    assert_eq!(object["account"]["pods"][0]["reason"], "Unschedulable");
    let because = object["because"].to_string();
    assert!(
        because.contains("ago WorkerLost: worker hb-render-1 is lost with node n1"),
        "{because}"
    );
}

#[test]
fn whoever_lacks_a_right_is_told_which_one_and_gets_the_rest() {
    let suspended = batch(&json!([condition("Suspended", "True", "BatchSuspended", "")]));
    let api = FakeApi::start(World {
        batch: Some(suspended.clone()),
        batches_only: true,
        ..World::default()
    });
    let text = explain(&api, &[]);
    assert!(text.starts_with("render is not done: it is suspended"), "{text}");
    for right in [
        "ask for the right list on pods there",
        "ask for the right list on events there",
        "the operator: you may not list pods in namespace harmony-system",
    ] {
        assert!(text.contains(right), "{right}: {text}");
    }
    let api = FakeApi::start(World {
        batch: Some(suspended),
        pods: vec![collector()],
        operators: vec![operator("harmony-operator-a")],
        forwards: vec![Forward::Refused(403), Forward::Refused(403)],
        ..World::default()
    });
    let text = explain(&api, &["3"]);
    assert!(
        text.starts_with("Task 3 of render is not known: nobody who knows could be asked; the batch: it is suspended"),
        "{text}"
    );
    for right in [
        "ask for the rights get and create on pods/portforward in namespace harmony-system",
        "ask for the rights get and create on pods/portforward in namespace team-a",
    ] {
        assert!(text.contains(right), "{right}: {text}");
    }
}
