//! Which worker pods a batch is to have.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)] // helpers of tests fail by it

use std::time::Duration;

use harmony_operator::fleet::{
    BACKOFF_FIRST, BACKOFF_MOST, CREATIONS, CREATIONS_PAUSE, Deletion, Desired, End, EndReason, LOST_AFTER, Load,
    Loads, Memory, Phase, Plan, WorkerPod, Workers, plan,
};
use jiff::{SignedDuration, Timestamp};

mod fleet_failures;
mod fleet_model;
mod fleet_observe;

fn pod(ordinal: u32, generation: u64) -> WorkerPod {
    WorkerPod {
        name: name(ordinal, generation),
        ordinal,
        generation,
        uid: format!("uid-{ordinal}-{generation}"),
        revision: "r1".into(),
        phase: Phase::Running,
        ip: Some(format!("10.0.0.{ordinal}")),
        ready: true,
        node: Some("node".into()),
        terminating: None,
        ended: None,
        waiting: None,
    }
}

fn name(ordinal: u32, generation: u64) -> String {
    format!("w-{ordinal}-{generation}")
}

fn ended(ordinal: u32, generation: u64, counts: bool) -> WorkerPod {
    let end = End {
        exit_code: Some(1),
        signal: None,
        reason: EndReason::Error,
        counts,
        message: String::new(),
        exits: Vec::new(),
        conditions: Vec::new(),
    };
    WorkerPod {
        phase: Phase::Failed,
        ready: false,
        ended: Some(end),
        ..pod(ordinal, generation)
    }
}

fn run(workers: u32) -> Desired {
    Desired {
        workers: Workers::Run(workers),
        revision: "r1".into(),
    }
}

fn load(idle: bool, draining: bool) -> Load {
    Load {
        idle,
        draining,
        greeted: true,
        settled: 0,
    }
}

fn loads(of: &[(u32, u64, Load)]) -> Loads {
    of.iter()
        .map(|(ordinal, generation, load)| (name(*ordinal, *generation), *load))
        .collect()
}

/// An operator that plans again and again.
struct Operator {
    now: Timestamp,
    memory: Memory,
}

impl Operator {
    fn new() -> Self {
        Self {
            now: Timestamp::UNIX_EPOCH,
            memory: Memory::default(),
        }
    }

    fn plan(&mut self, desired: &Desired, pods: &[WorkerPod], loads: &Loads) -> Plan {
        plan(self.now, desired, pods, loads, &mut self.memory)
    }

    fn wait(&mut self, time: Duration) {
        self.now += SignedDuration::try_from(time).unwrap();
    }
}

#[test]
fn the_wanted_pods_are_created_and_then_left_alone() {
    let mut operator = Operator::new();
    let plan = operator.plan(&run(3), &[pod(1, 0)], &Loads::new());
    assert_eq!(
        plan,
        Plan {
            create: vec![(0, 0), (2, 0)],
            ..Plan::default()
        }
    );
    let busy = load(false, false);
    let plan = operator.plan(&run(2), &[pod(0, 0), pod(1, 0)], &loads(&[(0, 0, busy), (1, 0, busy)]));
    assert_eq!(plan, Plan::default());
}

#[test]
fn a_large_fleet_is_created_in_pieces() {
    let mut operator = Operator::new();
    let many = u32::try_from(CREATIONS).unwrap() + 5;
    let plan = operator.plan(&run(many), &[], &Loads::new());
    assert_eq!((plan.create.len(), plan.next), (CREATIONS, Some(CREATIONS_PAUSE)));
    let pods: Vec<_> = plan
        .create
        .iter()
        .map(|(ordinal, generation)| pod(*ordinal, *generation))
        .collect();
    let plan = operator.plan(&run(many), &pods, &Loads::new());
    assert_eq!((plan.create.len(), plan.next), (5, None));
}

#[test]
fn an_end_is_told_once_and_the_next_generation_comes_at_once() {
    let mut operator = Operator::new();
    let pods = [ended(0, 4, true)];
    let first = operator.plan(&run(1), &pods, &Loads::new());
    assert_eq!(
        first,
        Plan {
            exited: vec![(name(0, 4), true)],
            delete: vec![(name(0, 4), "uid-0-4".into(), Deletion::Ended)],
            create: vec![(0, 5)],
            ..Plan::default()
        }
    );
    // The pod is still there, and the new one is not seen yet: all may be done again, but the end is not told again.
    let again = operator.plan(&run(1), &pods, &Loads::new());
    assert_eq!(
        again,
        Plan {
            exited: Vec::new(),
            ..first
        }
    );
}

#[test]
fn a_pod_that_ends_again_without_progress_is_replaced_after_growing_pauses() {
    let mut operator = Operator::new();
    let mut generation = 0;
    let mut pauses = Vec::new();
    for _ in 0..12 {
        let plan = operator.plan(&run(1), &[ended(0, generation, true)], &Loads::new());
        let pause = plan.next.unwrap_or_default();
        if !pause.is_zero() {
            assert_eq!(plan.create, []);
            operator.wait(pause.saturating_sub(Duration::from_millis(1)));
            assert_eq!(operator.plan(&run(1), &[], &Loads::new()).create, []);
            operator.wait(Duration::from_millis(1));
        }
        generation += 1;
        assert_eq!(operator.plan(&run(1), &[], &Loads::new()).create, [(0, generation)]);
        pauses.push(pause);
    }
    let doubling = |times: u32| (BACKOFF_FIRST * 2_u32.pow(times)).min(BACKOFF_MOST);
    let expected: Vec<_> = std::iter::once(Duration::ZERO).chain((0..11).map(doubling)).collect();
    assert_eq!(pauses, expected);
    assert_eq!(pauses[11], BACKOFF_MOST);
    // One that got something done is replaced at once.
    let progress = Load {
        settled: 1,
        ..load(false, false)
    };
    operator.plan(&run(1), &[pod(0, generation)], &loads(&[(0, generation, progress)]));
    let plan = operator.plan(&run(1), &[ended(0, generation, true)], &Loads::new());
    assert_eq!(plan.create, [(0, generation + 1)]);
}

#[test]
fn a_pod_that_vanished_was_deleted_by_somebody() {
    let mut operator = Operator::new();
    operator.plan(&run(1), &[pod(0, 0)], &Loads::new());
    let plan = operator.plan(&run(1), &[], &Loads::new());
    assert_eq!(
        plan,
        Plan {
            exited: vec![(name(0, 0), false)],
            create: vec![(0, 1)],
            ..Plan::default()
        }
    );
    assert_eq!(operator.plan(&run(1), &[], &Loads::new()).exited, []);
}

#[test]
fn pods_that_somebody_takes_away_are_replaced_at_once_however_often() {
    let taken = |generation, reason| {
        let mut pod = ended(0, generation, false);
        pod.ended.as_mut().unwrap().reason = reason;
        vec![pod]
    };
    let mut operator = Operator::new();
    for generation in 0..12 {
        let there = [pod(0, generation)];
        assert_eq!(operator.plan(&run(1), &there, &Loads::new()).create, []);
        // By force, by a plain deletion, by the drain of a node.
        let left = match generation % 3 {
            0 => Vec::new(),
            1 => taken(generation, EndReason::Deleted),
            _ => taken(generation, EndReason::DisruptionTarget),
        };
        let plan = operator.plan(&run(1), &left, &Loads::new());
        assert_eq!((plan.create, plan.next), (vec![(0, generation + 1)], None));
    }
}

#[test]
fn scaling_in_drains_first_and_interrupts_nothing() {
    let mut operator = Operator::new();
    let pods = [pod(0, 0), pod(1, 0), pod(2, 0)];
    let at = |one: Load, two: Load| loads(&[(0, 0, load(false, false)), (1, 0, one), (2, 0, two)]);
    let idle_yet_open = load(true, false);
    let plan = operator.plan(&run(1), &pods, &at(load(false, false), idle_yet_open));
    assert_eq!((plan.drain, plan.delete), (vec![name(1, 0), name(2, 0)], Vec::new()));
    let plan = operator.plan(&run(1), &pods, &at(load(false, true), load(true, true)));
    let deleted = vec![(name(2, 0), "uid-2-0".to_owned(), Deletion::ScaledIn)];
    assert_eq!((plan.drain, plan.delete), (Vec::new(), deleted));
    // What was deleted by this operator is no failure: it comes back at once when it is wanted again.
    let plan = operator.plan(&run(3), &pods[..2], &at(load(false, true), load(true, true)));
    assert_eq!((plan.undrain, plan.create), (vec![name(1, 0)], vec![(2, 1)]));
}

#[test]
fn scaling_to_nothing_drains_all_and_a_worker_that_nobody_knows_is_kept() {
    let mut operator = Operator::new();
    let unknown = operator.plan(&run(0), &[pod(0, 0)], &Loads::new());
    assert_eq!((unknown.drain, unknown.delete), (vec![name(0, 0)], Vec::new()));
    let waiting = WorkerPod {
        phase: Phase::Pending,
        ready: false,
        ip: None,
        ..pod(1, 0)
    };
    let plan = operator.plan(&run(0), &[waiting], &Loads::new());
    assert_eq!(plan.delete, [(name(1, 0), "uid-1-0".to_owned(), Deletion::ScaledIn)]);
}

#[test]
fn a_batch_that_stops_deletes_all_pods_at_once() {
    let mut operator = Operator::new();
    let desired = Desired {
        workers: Workers::Stop,
        ..run(0)
    };
    let going = WorkerPod {
        terminating: Some(SignedDuration::from_secs(-5)),
        ..pod(2, 0)
    };
    let plan = operator.plan(&desired, &[pod(0, 0), ended(1, 0, true), going], &Loads::new());
    let deleted = vec![
        (name(0, 0), "uid-0-0".to_owned(), Deletion::Stopped),
        (name(1, 0), "uid-1-0".to_owned(), Deletion::Ended),
    ];
    assert_eq!((plan.delete, plan.create), (deleted, Vec::new()));
    assert_eq!(plan.exited, [(name(1, 0), true)]);
}

#[test]
fn another_revision_replaces_each_pod_when_it_holds_nothing() {
    let mut operator = Operator::new();
    let desired = Desired {
        revision: "r2".into(),
        ..run(2)
    };
    let pods = [pod(0, 0), pod(1, 0)];
    let plan = operator.plan(
        &desired,
        &pods,
        &loads(&[(0, 0, load(true, true)), (1, 0, load(false, false))]),
    );
    assert_eq!(plan.drain, [name(1, 0)]);
    assert_eq!(plan.delete, [(name(0, 0), "uid-0-0".to_owned(), Deletion::Outdated)]);
    assert_eq!(plan.create, [], "its ordinal is not free yet");
    let plan = operator.plan(&desired, &pods[1..], &loads(&[(1, 0, load(false, true))]));
    assert_eq!((plan.create, plan.delete), (vec![(0, 1)], Vec::new()));
}

#[test]
fn a_pod_of_a_lost_node_is_replaced_long_after_its_grace() {
    let mut operator = Operator::new();
    let since = |seconds: i64| WorkerPod {
        terminating: Some(SignedDuration::from_secs(seconds)),
        ..pod(0, 0)
    };
    let plan = operator.plan(&run(1), &[since(-10)], &Loads::new());
    assert_eq!(
        (plan.create, plan.next),
        (Vec::new(), Some(LOST_AFTER + Duration::from_secs(10)))
    );
    let plan = operator.plan(&run(1), &[since(30)], &Loads::new());
    assert_eq!(plan.exited, [(name(0, 0), false)]);
    assert_eq!((plan.create, plan.delete), (vec![(0, 1)], Vec::new()));
}

#[test]
fn of_two_pods_of_one_ordinal_the_newer_stays() {
    let mut operator = Operator::new();
    let plan = operator.plan(&run(1), &[pod(0, 0), pod(0, 1)], &loads(&[(0, 0, load(true, true))]));
    assert_eq!(plan.delete, [(name(0, 0), "uid-0-0".to_owned(), Deletion::ScaledIn)]);
    assert_eq!(plan.drain, Vec::<String>::new());
}

#[test]
fn a_new_template_or_executor_does_not_wait_for_the_failures_of_the_old_one() {
    let mut operator = Operator::new();
    for generation in 0..4 {
        operator.plan(&run(1), &[ended(0, generation, true)], &Loads::new());
    }
    let waits = operator.plan(&run(1), &[], &Loads::new());
    assert!(waits.create.is_empty() && waits.next.is_some(), "{waits:?}");
    let mended = Desired {
        revision: "r2".into(),
        ..run(1)
    };
    assert_eq!(operator.plan(&mended, &[], &Loads::new()).create, [(0, 4)]);
}
