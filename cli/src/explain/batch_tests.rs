use std::collections::BTreeMap;

use harmony_api::status::{Failure, TaskCounts};
use harmony_protocol::ids::BatchUid;
use harmony_protocol::ventilator::{
    CollectorStage, CollectorView, Resent, Rooms, Straggler, Suspect, WorkerExplanation,
};
use harmony_protocol::wire::{Counts, Health};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use uuid::Uuid;

use super::super::account::PodTrouble;
use super::super::render;
use super::*;

/// A batch with two ready workers, of which nothing is settled.
fn running() -> Explanation {
    let worker = |name: &str| WorkerExplanation {
        name: name.into(),
        stage: WorkerStage::Ready,
        draining: false,
        slots: 1,
        in_flight: 4,
        oldest_millis: Some(40_000),
        silent_millis: Some(300),
        no_room: Some(harmony_protocol::ventilator::NoRoom::Credit),
    };
    Explanation {
        uid: BatchUid(Uuid::from_u128(1)),
        name: "render".into(),
        epoch: 1,
        completions: 100,
        counts: Counts {
            succeeded: 41,
            ..Counts::default()
        },
        lowest_missing: 41,
        hold: None,
        collector: CollectorView {
            stage: CollectorStage::Ready,
            health: Health::Ok,
            silent_millis: Some(100),
        },
        in_flight: 8,
        missing: 0,
        ready: vec![Ready {
            hold: Some(Hold::NoRoom(Rooms {
                credit: 2,
                ..Rooms::default()
            })),
            alone: false,
            numbers: 50,
            first: 49,
        }],
        uploading: Vec::new(),
        waiting: 1,
        held_back: 0,
        unsendable: 0,
        stages: BTreeMap::from([(WorkerStage::Ready, 2)]),
        workers: vec![worker("worker-0"), worker("worker-1")],
        suspect_count: 0,
        suspects: Vec::new(),
        stragglers: vec![Straggler {
            first: 41,
            last: 44,
            attempt: 2,
            worker: "worker-1".into(),
            millis: 40_000,
        }],
        upcoming: vec![Upcoming {
            in_millis: 4_200,
            kind: UpcomingKind::Retry { number: 7 },
        }],
        recorded_millis: Some(500),
        resent: Resent {
            worker_lost: 3,
            ..Resent::default()
        },
        failures: Vec::new(),
    }
}

fn account(ventilator: Option<Explanation>) -> Account {
    Account {
        name: "render".into(),
        place: "in namespace team-a".into(),
        named: "render -n team-a".into(),
        ventilator,
        ..Account::default()
    }
}

fn condition(type_: &str, status: &str, reason: &str, message: &str) -> Condition {
    Condition {
        type_: type_.into(),
        status: status.into(),
        reason: reason.into(),
        message: message.into(),
        last_transition_time: Time(Timestamp::UNIX_EPOCH),
        observed_generation: None,
    }
}

/// The first line.
fn answer(account: &Account) -> String {
    account.told().answer
}

#[test]
fn a_batch_that_runs_fits_a_screen() {
    let expected = "\
render is running: 50 tasks wait: the 2 workers are busy (2 full)

  41 of 100 tasks settled (41 %)
  8 tasks at workers, the oldest for 40s (task 41 at worker-1)
  1 task failed before, waiting for the next attempt, task 7 in 4.2s
  2 tasks failed for good, the first task 12 (ExitCode 2): no such frame
  tasks 41-44, attempt 2, at worker-1 for 40s
  3 tasks sent again so far since their worker was lost
  2 of 2 running workers ready

Next
  in 4.2s: task 7 is tried again
  harmony explain render -n team-a NUMBER tells of one task
  harmony failed render -n team-a shows the failures
";
    let mut account = account(Some(running()));
    account.status.tasks = Some(TaskCounts {
        failed: 2,
        ..TaskCounts::default()
    });
    account.status.failures.push(Failure {
        number: 12,
        reason: "ExitCode".into(),
        exit_code: Some(2),
        log_tail: Some("reading\nno such frame\n".into()),
        ..Failure::default()
    });
    assert_eq!(render(&account), expected);
}

#[test]
fn what_stops_a_batch_is_told_first() {
    let mut told = running();
    told.collector.health = Health::DiskFull;
    assert!(answer(&account(Some(told.clone()))).starts_with("render is not done: the collector's disk is full"));
    told.collector.health = Health::Ok;
    told.collector.stage = CollectorStage::Absent;
    told.hold = Some(Hold::Collector);
    assert!(answer(&account(Some(told.clone()))).starts_with("render is not done: the collector does not answer"));
    told.hold = Some(Hold::Cancelling { why: "enough".into() });
    assert!(answer(&account(Some(told))).starts_with("render is not done: the batch is being ended early (enough)"));
    let mut told = running();
    told.collector.silent_millis = Some(4_000);
    let silent = "render is not done: the collector has been silent for 4.0s; after 5s";
    assert!(answer(&account(Some(told))).starts_with(silent));
}

#[test]
fn without_workers_the_pods_say_why() {
    let mut told = running();
    told.stages = BTreeMap::from([(WorkerStage::Dialling, 2)]);
    told.ready = vec![Ready {
        hold: Some(Hold::NoWorker),
        alone: false,
        numbers: 59,
        first: 41,
    }];
    let mut batch = account(Some(told));
    assert_eq!(
        answer(&batch),
        "render is not done: no worker is ready: 2 do not answer yet"
    );
    batch.pods = vec![PodTrouble {
        pod: "hb-render-0".into(),
        reason: "Unschedulable".into(),
        message: "0/3 nodes are available: 3 Insufficient cpu.".into(),
    }];
    let waits = "pod hb-render-0 waits: Unschedulable: 0/3 nodes are available: 3 Insufficient cpu.";
    assert_eq!(answer(&batch), format!("render is not done: {waits}"));
    batch.status.conditions = vec![
        condition("WorkersReady", "False", "Unschedulable", waits),
        condition("Progressing", "False", "Unschedulable", waits),
    ];
    let told = batch.told();
    assert_eq!(
        told.answer,
        format!("render is not done: workers are not ready (Unschedulable): {waits}")
    );
    let again = told.because.iter().filter(|line| line.contains("Unschedulable"));
    assert_eq!(again.count(), 0, "it is told once: {told:?}");
}

#[test]
fn what_some_workers_lack_is_no_answer_while_others_work() {
    let mut batch = account(Some(running()));
    let conditions = [condition("WorkersReady", "False", "ImagePullFailed", "pod x waits")];
    batch.status.conditions = conditions.to_vec();
    let told = batch.told();
    assert!(told.answer.starts_with("render is running: 50 tasks wait"), "{told:?}");
    assert!(
        told.because.iter().any(|line| line.contains("ImagePullFailed")),
        "{told:?}"
    );
}

#[test]
fn conditions_alone_give_an_answer() {
    let mut batch = account(None);
    batch.status.conditions = vec![condition("Suspended", "True", "BatchSuspended", "spec.suspend is set")];
    assert!(answer(&batch).starts_with("render is not done: it is suspended"));
    batch.status.conditions = vec![condition("QuotaReserved", "False", "Pending", "no room in queue a")];
    assert_eq!(
        answer(&batch),
        "render is not done: QuotaReserved (Pending): no room in queue a"
    );
    batch.status.conditions = vec![condition("WorkersReady", "False", "Starting", "")];
    batch.status.state = Some("Starting".into());
    assert!(answer(&batch).starts_with("render is not done: its state is Starting"));
    batch.ended = Some("complete (CompletionsReached)".into());
    assert_eq!(answer(&batch), "render is done: complete (CompletionsReached)");
}

#[test]
fn silent_and_lost_workers_are_named() {
    let mut told = running();
    told.workers[0].silent_millis = Some(3_100);
    told.suspects = vec![Suspect {
        worker: "worker-2".into(),
        gone_millis: 6_000,
        given_up_in_millis: 24_000,
        in_flight: 3,
    }];
    let because = account(Some(told)).told().because;
    for line in [
        "worker-2 went away 6.0s ago with 3 tasks; it counts as dead in 24s unless it comes back",
        "worker-0: silent for 3.1s, after 5s its tasks go elsewhere; 4 tasks there, the oldest for 40s",
    ] {
        assert!(because.iter().any(|told| told == line), "{line}: {because:?}");
    }
}
