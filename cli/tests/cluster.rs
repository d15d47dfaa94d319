//! The commands on batches of a cluster, before an API server of the test's own.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    unreachable_pub,
    reason = "helpers of tests fail like tests"
)]

#[path = "cluster/api.rs"]
mod api;

use std::fs;
use std::process::Output;

use serde_json::{Value, json};

use self::api::{FakeApi, Forward, World, chunked};

const LINES: &str = "{\"number\":0,\"attempt\":1,\"output\":\"a\"}\n{\"number\":3,\"attempt\":1,\"output\":\"b\"}\n";
const LAST: &str = "{\"number\":9,\"attempt\":2,\"output\":\"c\"}\n";

fn batch(conditions: &Value) -> Value {
    json!({
        "apiVersion": "harmony.dev/v1alpha1", "kind": "HarmonyBatch",
        "metadata": {"name": "render", "namespace": "team-a", "uid": "0196f3a0-0000-7000-8000-000000000001"},
        "spec": {"completions": 10},
        "status": {"state": "Running", "conditions": conditions},
    })
}

fn collector() -> Value {
    json!({"metadata": {"name": "hb-render-collector", "namespace": "team-a", "labels": {"harmony.dev/role": "collector"}},
           "status": {"phase": "Running"}})
}

fn with(forwards: Vec<Forward>) -> FakeApi {
    FakeApi::start(World {
        batch: Some(batch(&json!([]))),
        pods: vec![collector()],
        forwards,
        ..World::default()
    })
}

fn expect(output: &Output, code: i32, said: &[&str]) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    for said in said {
        assert!(stderr.contains(said), "{said:?} is missing in: {stderr}");
    }
}

#[test]
fn results_come_through_a_forwarded_port() {
    let api = with(vec![Forward::Answers(chunked(&format!("{LINES}{LAST}"), true))]);
    let output = api.harmony(&["results", "render"]);
    expect(&output, 0, &[]);
    assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("{LINES}{LAST}"));
    let asked = api.asked();
    let last = asked.last().unwrap();
    assert!(
        last.starts_with("GET /batches/0196f3a0-0000-7000-8000-000000000001/results.ndjson?from=0 "),
        "{last}"
    );
    let labels =
        "labelSelector=harmony.dev%2Fbatch-uid%3D0196f3a0-0000-7000-8000-000000000001%2Charmony.dev%2Frole%3Dcollector";
    assert!(asked.iter().any(|line| line.contains(labels)), "{asked:?}");
}

#[test]
fn results_that_break_off_go_on_where_they_were() {
    let half = LAST.split_at(10).0;
    let api = with(vec![
        Forward::Answers(chunked(&format!("{LINES}{half}"), false)),
        Forward::Answers(chunked(LAST, true)),
    ]);
    let output = api.harmony(&["results", "render", "-o", "out.ndjson"]);
    expect(&output, 0, &[]);
    assert_eq!(
        fs::read_to_string(api.path("out.ndjson")).unwrap(),
        format!("{LINES}{LAST}")
    );
    assert!(api.asked().last().unwrap().contains("from=4 "), "{:?}", api.asked());
}

#[test]
fn a_missing_right_is_named() {
    let api = with(vec![Forward::Refused(403)]);
    let output = api.harmony(&["failed", "render", "-o", "out"]);
    expect(
        &output,
        3,
        &["hb-render-collector", "the rights get and create on pods/portforward"],
    );
    assert!(!api.path("out").exists() && !api.path("out.part").exists());
}

#[test]
fn results_that_are_lost_are_said_to_be() {
    let conditions = json!([{"type": "ResultsAvailable", "status": "False", "reason": "ResultsLost",
        "message": "the disk is gone", "lastTransitionTime": "2026-01-02T03:04:05Z"}]);
    let api = FakeApi::start(World {
        batch: Some(batch(&conditions)),
        ..World::default()
    });
    expect(
        &api.harmony(&["results", "render"]),
        3,
        &["the disk is gone", "ResultsLost"],
    );
}

#[test]
fn a_batch_that_is_not_there_is_bad_input() {
    let api = FakeApi::start(World::default());
    expect(
        &api.harmony(&["status", "nobody"]),
        2,
        &["no batch nobody in namespace team-a", "./nobody"],
    );
}

#[test]
fn a_batch_is_shown_on_a_screen_and_as_its_object() {
    let api = with(Vec::new());
    let screen = api.harmony(&["status", "render"]);
    expect(&screen, 0, &[]);
    let screen = String::from_utf8(screen.stdout).unwrap();
    assert!(
        screen.starts_with("Batch:     render in namespace team-a\nState:     Running\n"),
        "{screen}"
    );
    let object = api.harmony(&["status", "render", "-o", "json"]);
    let object: Value = serde_json::from_slice(&object.stdout).unwrap();
    assert_eq!(object["metadata"]["name"], "render");
    assert_eq!(object["status"]["state"], "Running");
}

#[test]
fn without_a_cluster_it_says_how_to_name_one() {
    let api = FakeApi::start(World::default());
    expect(
        &api.harmony(&["status", "--kubeconfig", "nowhere"]),
        2,
        &["no cluster is known", "--kubeconfig"],
    );
    expect(
        &api.harmony(&["status", "--context", "other"]),
        2,
        &["no cluster is known", "other"],
    );
}

#[test]
fn a_file_that_is_wrong_does_not_reach_the_cluster() {
    let api = FakeApi::start(World::default());
    let file = json!({
        "apiVersion": "harmony.dev/v1alpha1", "kind": "HarmonyBatch", "metadata": {"name": "render"},
        "spec": {"completion": 10},
    });
    fs::write(api.path("batch.yaml"), file.to_string()).unwrap();
    expect(
        &api.harmony(&["submit", "batch.yaml"]),
        2,
        &["batch.yaml:1:", "completion"],
    );
    assert_eq!(api.asked(), Vec::<String>::new());
}

fn ended(condition: &str, reason: &str, failed: u64) -> FakeApi {
    let condition = json!([{"type": condition, "status": "True", "reason": reason, "message": "",
        "lastTransitionTime": "2026-01-02T03:04:05Z"}]);
    let mut batch = batch(&condition);
    let counts = json!({"total": 10, "pending": 0, "inFlight": 0, "succeeded": 10 - failed, "failed": failed});
    batch["status"]["tasks"] = counts;
    let api = FakeApi::start(World {
        batch: Some(batch),
        ..World::default()
    });
    let file = json!({
        "apiVersion": "harmony.dev/v1alpha1", "kind": "HarmonyBatch", "metadata": {"name": "render"},
        "spec": {
            "completions": 10,
            "executor": {"exec": {"command": ["cat"]}},
            "template": {"spec": {"containers": [{"name": "worker", "image": "busybox"}]}},
        },
    });
    fs::write(api.path("batch.yaml"), file.to_string()).unwrap();
    api
}

#[test]
fn a_batch_is_applied_and_followed_to_its_end() {
    for (condition, reason, failed, code) in [
        ("Complete", "CompletionsReached", 0, 0),
        ("Failed", "FailedIndexes", 1, 1),
    ] {
        let api = ended(condition, reason, failed);
        let said = format!("render: {} succeeded, {failed} failed: harmony", 10 - failed);
        expect(&api.harmony(&["submit", "batch.yaml"]), code, &[&said]);
        let patch = "PATCH /apis/harmony.dev/v1alpha1/namespaces/team-a/harmonybatches/render?&fieldManager=harmony ";
        assert!(api.asked()[0].starts_with(patch), "{:?}", api.asked());
    }
}

#[test]
fn a_batch_that_is_not_followed_says_how_to_go_on() {
    let api = ended("Complete", "CompletionsReached", 0);
    let said = [
        "harmony status render -n team-a --watch",
        "harmony results render -n team-a",
    ];
    expect(&api.harmony(&["submit", "batch.yaml", "--detach"]), 0, &said);
    assert_eq!(api.asked().len(), 1, "nothing but the PATCH");
}

#[test]
fn all_batches_of_a_namespace_make_a_table() {
    let output = with(Vec::new()).harmony(&["status"]);
    expect(&output, 0, &[]);
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(table.starts_with("NAME    STATE    COMPLETIONS"), "{table}");
    assert!(table.contains("\nrender  Running"), "{table}");
    let empty = FakeApi::start(World::default()).harmony(&["status", "-n", "team-a"]);
    assert!(String::from_utf8_lossy(&empty.stdout).contains("no batch in namespace team-a"));
}
