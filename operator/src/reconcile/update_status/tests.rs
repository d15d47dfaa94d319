//! What is seen, and what the conditions make of it.

use std::sync::Arc;
use std::time::Duration;

use harmony_api::status::HarmonyBatchStatus;
use harmony_protocol::ventilator::{Progress, Resent, WorkersLost};
use harmony_protocol::wire::{Counts, Health};

use super::super::conditions::find;
use super::*;
use crate::fleet::{Phase, Waiting};

fn worker(ready: bool) -> WorkerPod {
    WorkerPod {
        name: "w-0-0".into(),
        ordinal: 0,
        generation: 0,
        uid: "u".into(),
        revision: "r".into(),
        phase: Phase::Running,
        ip: Some("10.0.0.1".into()),
        ready,
        node: None,
        terminating: None,
        ended: None,
        waiting: None,
    }
}

fn collector() -> CollectorPod {
    CollectorPod::Running {
        ip: "10.0.0.2".into(),
        ready: true,
        uid: "c".into(),
        restarts: 0,
    }
}

fn waiting_collector() -> CollectorPod {
    CollectorPod::Waiting(Waiting {
        reason: "Unschedulable".into(),
        message: "0/2 nodes are available".into(),
    })
}

pub(crate) fn progress() -> Progress {
    Progress {
        completions: 10,
        counts: Counts {
            succeeded: 3,
            failed: 1,
            ..Counts::default()
        },
        counted: true,
        charges_counted: true,
        in_flight: 2,
        left: 4,
        waiting: 0,
        workers: 1,
        credit: 0,
        dispatched: 6,
        payload_bytes: 0,
        workers_lost: WorkersLost::default(),
        resent: Resent::default(),
        epoch: 1,
        collector_ready: true,
        health: Health::Ok,
        lowest_missing: 3,
        settled_above: Vec::new(),
        failed: Vec::new(),
        failures: Arc::default(),
        recorded_at: None,
        cancelling: None,
    }
}

fn verdict(complete: bool) -> Verdict {
    Verdict {
        complete,
        reason: if complete {
            "CompletionsReached"
        } else {
            "DeadlineExceeded"
        }
        .into(),
        message: String::new(),
    }
}

/// What is seen of a batch that runs as it should, but for a change.
struct Seen {
    before: HarmonyBatchStatus,
    stage: Stage,
    wanted: u32,
    workers: Vec<WorkerPod>,
    collector: CollectorPod,
    has_claim: bool,
    progress: Option<Progress>,
    trouble: Option<Trouble>,
    fleet_trouble: Option<Trouble>,
    stuck_for: Option<Duration>,
}

fn seen(change: impl FnOnce(&mut Seen)) -> Seen {
    let mut seen = Seen {
        before: HarmonyBatchStatus::default(),
        stage: Stage::Active,
        wanted: 1,
        workers: vec![worker(true)],
        collector: collector(),
        has_claim: false,
        progress: Some(progress()),
        trouble: None,
        fleet_trouble: None,
        stuck_for: None,
    };
    change(&mut seen);
    seen
}

fn told(seen: &Seen) -> HarmonyBatchStatus {
    status(&Observed {
        now: Timestamp::from_second(100).unwrap(),
        generation: Some(1),
        before: &seen.before,
        stage: &seen.stage,
        wanted: seen.wanted,
        selector: "a=b",
        workers: &seen.workers,
        collector: (&seen.collector, "the-collector"),
        has_claim: seen.has_claim,
        progress: seen.progress.as_ref(),
        resent_before: 0,
        rate: 2.0,
        digest: None,
        trouble: seen.trouble.as_ref(),
        fleet_trouble: seen.fleet_trouble.as_ref(),
        stuck_for: seen.stuck_for,
        failures: &PodFailures::default(),
    })
}

/// A condition as `Type=Status(Reason)`.
fn written(status: &HarmonyBatchStatus, kind: &str) -> String {
    find(&status.conditions, kind).map_or("-".to_owned(), |told| format!("{}({})", told.status, told.reason))
}

/// What a case is called, what is seen, and what the state and the conditions say.
type Case = (&'static str, Seen, [&'static str; 5]);

#[test]
fn conditions_follow_from_what_is_seen() {
    let trouble = || Some(Trouble::new(reason::IMAGE_PULL_FAILED, "no such image"));
    // State, then Progressing, Ready, WorkersReady, CollectorReady.
    #[rustfmt::skip]
    let cases: Vec<Case> = vec![
        ("all is well", seen(|_| {}),
            ["Running", "True(Running)", "True(Running)", "True(AsDesired)", "True(Running)"]),
        ("nothing is there yet", seen(|it| { it.progress = None; it.workers.clear(); it.collector = CollectorPod::Absent; }),
            ["Starting", "True(Starting)", "False(Starting)", "False(Starting)", "False(Starting)"]),
        ("no worker gets on", seen(|it| { it.workers = vec![worker(false)]; it.trouble = trouble(); }),
            ["Stuck", "False(ImagePullFailed)", "False(ImagePullFailed)", "False(ImagePullFailed)", "True(Running)"]),
        ("some workers do not get on", seen(|it| { it.wanted = 2; it.fleet_trouble = trouble(); }),
            ["Running", "True(Running)", "False(Starting)", "False(ImagePullFailed)", "True(Running)"]),
        ("one of two workers is still to come", seen(|it| it.wanted = 2),
            ["Running", "True(Running)", "False(Starting)", "False(Starting)", "True(Running)"]),
        ("a worker that is going does not count", seen(|it| it.workers[0].terminating = Some(SignedDuration::ZERO)),
            ["Running", "True(Running)", "False(Starting)", "False(Starting)", "True(Running)"]),
        ("scaled to 0", seen(|it| { it.wanted = 0; it.workers.clear(); }),
            ["Running", "False(NoWorkers)", "True(Running)", "True(AsDesired)", "True(Running)"]),
        ("nothing is recorded for too long", seen(|it| it.stuck_for = Some(Duration::from_mins(1))),
            ["Stuck", "False(ProgressDeadlineExceeded)", "True(Running)", "True(AsDesired)", "True(Running)"]),
        ("the collector has no node", seen(|it| { it.progress = None; it.collector = waiting_collector(); }),
            ["Starting", "True(Starting)", "False(Starting)", "True(AsDesired)", "False(Unschedulable)"]),
        ("the collector's disk is full", seen(|it| it.progress.as_mut().unwrap().health = Health::DiskFull),
            ["Running", "True(Running)", "False(Starting)", "True(AsDesired)", "False(CollectorDiskFull)"]),
        ("suspended", seen(|it| { it.stage = Stage::Suspended; it.progress = None; it.workers.clear(); }),
            ["Suspended", "False(BatchSuspended)", "False(BatchSuspended)", "False(BatchSuspended)", "True(Running)"]),
        ("created suspended", seen(|it| { it.stage = Stage::Suspended; it.progress = None; it.workers.clear(); it.collector = CollectorPod::Absent; }),
            ["Suspended", "False(BatchSuspended)", "False(BatchSuspended)", "False(BatchSuspended)", "False(BatchSuspended)"]),
        ("its workers are being stopped", seen(|it| { it.stage = Stage::Ending(verdict(true)); it.progress = None; }),
            ["Completing", "True(Running)", "True(Running)", "False(Finished)", "True(Running)"]),
        ("complete", seen(|it| { it.stage = Stage::Finished(verdict(true)); it.progress = None; it.workers.clear(); }),
            ["Complete", "False(Finished)", "True(Finished)", "False(Finished)", "True(Running)"]),
        ("failed", seen(|it| { it.stage = Stage::Finished(verdict(false)); it.progress = None; it.workers.clear(); }),
            ["Failed", "False(Finished)", "False(Finished)", "False(Finished)", "True(Running)"]),
    ];
    for (what, seen, expected) in cases {
        let status = told(&seen);
        let kinds = [PROGRESSING, READY, WORKERS_READY, COLLECTOR_READY];
        let [progressing, ready, workers, collector] = kinds.map(|kind| written(&status, kind));
        let found = [status.state.clone().unwrap(), progressing, ready, workers, collector];
        assert_eq!(found, expected, "{what}");
    }
}

#[test]
fn only_a_failed_batch_is_stalled() {
    for (stage, stalled) in [
        (Stage::Active, "False(AsDesired)"),
        (Stage::Suspended, "False(AsDesired)"),
        (Stage::Finished(verdict(true)), "False(AsDesired)"),
        (Stage::Finished(verdict(false)), "True(Finished)"),
    ] {
        assert_eq!(written(&told(&seen(|it| it.stage = stage)), STALLED), stalled);
    }
}

#[test]
fn the_end_is_told_before_it_is_over() {
    let told_of = |stage| {
        let status = told(&seen(|it| it.stage = stage));
        [SUCCESS_CRITERIA_MET, COMPLETE, FAILURE_TARGET, FAILED].map(|kind| written(&status, kind))
    };
    let (good, bad) = ("True(CompletionsReached)", "True(DeadlineExceeded)");
    assert_eq!(told_of(Stage::Ending(verdict(true))), [good, "-", "-", "-"]);
    assert_eq!(told_of(Stage::Finished(verdict(true))), [good, good, "-", "-"]);
    assert_eq!(told_of(Stage::Ending(verdict(false))), ["-", "-", bad, "-"]);
    assert_eq!(told_of(Stage::Finished(verdict(false))), ["-", "-", bad, bad]);
}

#[test]
fn results_are_lost_with_the_disk_that_had_them() {
    let after = |collector: CollectorPod, has_claim: bool| {
        written(
            &told(&seen(|it| {
                it.stage = Stage::Finished(verdict(true));
                it.before.collector_ref = Some(CollectorRef {
                    name: "the-collector".into(),
                    uid: "c".into(),
                });
                it.collector = collector;
                it.has_claim = has_claim;
            })),
            RESULTS_AVAILABLE,
        )
    };
    let other = CollectorPod::Running {
        ip: "10.0.0.3".into(),
        ready: true,
        uid: "another".into(),
        restarts: 0,
    };
    assert_eq!(after(collector(), false), "True(ResultsKept)");
    assert_eq!(after(other.clone(), false), "False(ResultsLost)");
    assert_eq!(after(other, true), "True(ResultsKept)");
    assert_eq!(after(CollectorPod::Absent, false), "False(ResultsLost)");
    assert_eq!(after(CollectorPod::Absent, true), "False(ResultsUnavailable)");
    assert_eq!(
        written(&told(&seen(|_| {})), RESULTS_AVAILABLE),
        "-",
        "nothing is final yet"
    );
}

#[test]
fn the_deadlines_clock_begins_anew_when_a_batch_is_resumed() {
    let running = told(&seen(|_| {}));
    assert!(running.start_time.is_some());
    let suspended = told(&seen(|it| {
        it.before = running.clone();
        it.stage = Stage::Suspended;
        it.progress = None;
    }));
    assert_eq!(suspended.start_time, None);
    let resumed = told(&seen(|it| it.before = suspended.clone()));
    assert_eq!(written(&resumed, SUSPENDED), "False(BatchResumed)");
    assert_eq!(resumed.start_time, Some(Time(Timestamp::from_second(100).unwrap())));
}

#[test]
fn without_a_ventilator_nothing_is_in_flight_and_nothing_is_forgotten() {
    let running = told(&seen(|_| {})).tasks.unwrap();
    assert_eq!((running.pending, running.in_flight, running.succeeded), (4, 2, 3));
    let suspended = told(&seen(|it| {
        it.before.tasks = Some(running);
        it.stage = Stage::Suspended;
        it.progress = None;
    }));
    let tasks = suspended.tasks.unwrap();
    assert_eq!((tasks.pending, tasks.in_flight, tasks.succeeded), (6, 0, 3));
    assert_eq!(suspended.estimated_completion_time, None);
}
