//! The API server's own rules, tried without one. `e2e/tests/api.rs` tries the same cases against a real one.

#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests fail by it

mod cases;

use harmony_api::spec::HarmonyBatch;
use harmony_api::validate_for_cluster;
use kube::core::cel::{validate_cel, validate_cel_update};
use serde_json::{Value, json};

use crate::cases::{BASE, CHANGED, CREATED, Case};

fn base() -> Value {
    serde_json::from_str(BASE).unwrap()
}

/// `target` after a JSON merge patch (RFC 7396).
fn merge(target: &mut Value, patch: &Value) {
    let Some(fields) = patch.as_object() else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (name, value) in fields {
        if value.is_null() {
            target.as_object_mut().unwrap().remove(name);
        } else {
            merge(&mut target[name], value);
        }
    }
}

fn batch(change: &str) -> HarmonyBatch {
    let mut spec = base();
    merge(&mut spec, &serde_json::from_str(change).unwrap());
    serde_json::from_value(json!({
        "apiVersion": "harmony.dev/v1alpha1", "kind": "HarmonyBatch", "metadata": {"name": "b"}, "spec": spec,
    }))
    .unwrap()
}

#[track_caller]
fn assert_verdict(case: &Case, said: Option<String>) {
    match (case.refused, said) {
        (None, None) => {}
        (Some(message), Some(said)) if said.contains(message) => {}
        (expected, said) => panic!("{}: expected {expected:?}, found {said:?}", case.change),
    }
}

#[test]
fn what_is_created_is_checked() {
    for case in CREATED {
        assert_verdict(
            case,
            validate_cel(&batch(case.change)).err().map(|error| error.to_string()),
        );
    }
}

#[test]
fn what_may_change_is_told_from_what_may_not() {
    for case in CHANGED {
        let changed = validate_cel_update(&batch(case.change), &batch("{}"));
        assert_verdict(case, changed.err().map(|error| error.to_string()));
    }
}

/// An API server that has an older copy of the rules must not make the operator run what cannot run.
#[test]
fn the_operator_refuses_what_the_rules_refuse() {
    for case in CREATED {
        let valid = validate_for_cluster(&batch(case.change));
        assert_eq!(valid.is_err(), case.refused.is_some(), "{}: {valid:?}", case.change);
    }
}
