//! The ventilator machine, message by message: when it asks, and when it sends again.
#![allow(clippy::expect_used, reason = "the helpers of a test may panic, as the test may")]

mod stage;

use std::time::Duration;

use harmony_protocol::ids::InstanceId;
use harmony_protocol::limits::{DEAD_AFTER, DEATHS_BEFORE_ALONE, END_AGAIN, GONE_AFTER};
use harmony_protocol::ventilator::{SuccessPolicy, SuccessRule, WorkerStage, WorkersLost};
use harmony_protocol::wire::{Counts, Deaths, Failure, Health, Held, Holding, Message, RefusedCode, Report};
use uuid::Uuid;

use crate::stage::*;

/// The collector misses the task, and its worker denies it.
fn denied() -> Stage {
    let mut stage = Stage::with_a_task_in_flight();
    stage.collector_answers(&missing(&[(0, 0)]));
    let said = stage.step();
    let question = held(&said).expect("it asks the worker").clone();
    assert_eq!((question.answer, &question.spans[..]), (false, &[(0, 0)][..]));
    let answer = Held {
        answer: true,
        spans: Vec::new(),
        ..question
    };
    stage.worker_answers(&Message::Held(answer));
    assert_eq!(
        tasks(&stage.step()),
        0,
        "the outcome may be on its way to the collector"
    );
    let said = stage.wait(END_AGAIN);
    assert_eq!(
        (ends(&said), tasks(&said)),
        (1, 0),
        "it asks the collector again, and only that: {said:?}"
    );
    stage
}

#[test]
fn what_a_worker_denies_goes_out_again_if_it_is_still_missing() {
    let mut stage = denied();
    stage.collector_answers(&missing(&[(0, 0)]));
    let said = stage.step();
    assert_eq!(tasks(&said), 1, "{said:?}");
}

#[test]
fn what_a_worker_denies_stays_where_it_is_if_it_is_missing_no_longer() {
    let mut stage = denied();
    stage.collector_answers(&missing(&[]));
    let said = stage.wait(2 * END_AGAIN);
    assert_eq!(tasks(&said), 0, "{said:?}");
}

#[test]
fn end_goes_out_on_every_new_link_to_the_collector() {
    let mut stage = Stage::with_a_task_in_flight();
    stage.collector_reconnects();
    stage.collector_answers(&collector_state());
    let said = stage.step();
    assert_eq!((ends(&said), tasks(&said)), (1, 0), "{said:?}");
}

#[test]
fn while_the_collector_is_silent_nothing_goes_out_a_second_time() {
    let mut stage = Stage::with_a_task_in_flight();
    for silent in [true, false] {
        stage.machine.handle_link_closed(stage.now, stage.worker.0);
        stage.collector_reconnects();
        stage.collector_answers(&collector_state());
        stage.step();
        stage.worker_answers(&worker_state());
        let credit = credit(&stage.step());
        if silent {
            stage.machine.handle_link_closed(stage.now, stage.collector.0);
        }
        stage.worker_answers(&credit);
        let said = stage.step();
        assert_eq!(tasks(&said), usize::from(!silent), "{said:?}");
    }
}

#[test]
fn nothing_goes_out_on_a_link_that_was_given_up() {
    let mut stage = Stage::with_a_task_in_flight();
    // The next attempt is due at the moment in which the worker has been silent for too long.
    stage.collector_answers(&second_attempt(DEAD_AFTER));
    stage.wait_on(DEAD_AFTER, &[stage.collector.0]);
    let progress = stage.machine.progress();
    assert_eq!(
        (progress.dispatched, progress.in_flight, progress.left),
        (1, 0, 1),
        "{progress:?}"
    );
}

#[test]
fn an_older_attempt_found_at_a_worker_does_not_replace_the_one_that_was_lost() {
    let mut stage = Stage::with_a_task_in_flight();
    stage.collector_answers(&second_attempt(Duration::ZERO));
    assert_eq!(tasks(&stage.step()), 1);
    // The same worker has a newer link, and never got the second attempt.
    stage.machine.handle_worker(stage.now, "other", "other");
    stage.greet();
    let first = Holding {
        first: 0,
        last: 0,
        attempt: 1,
    };
    stage.worker_answers(&worker_holds(vec![first]));
    stage.wait(Duration::from_secs(1));
    let progress = stage.machine.progress();
    assert_eq!((progress.in_flight, progress.left), (0, 1), "{progress:?}");
}

#[test]
fn who_comes_back_is_not_called_dead_any_more() {
    for back in [true, false] {
        let mut stage = Stage::with_a_task_in_flight();
        stage.machine.handle_link_closed(stage.now, stage.worker.0);
        stage.machine.handle_link_closed(stage.now, stage.collector.0);
        let mut dialled = Vec::new();
        let end = stage.now + GONE_AFTER;
        while stage.now < end {
            stage.now += Duration::from_millis(500);
            stage.machine.handle_timeout(stage.now);
            dialled.extend(stage.outputs().1);
        }
        dialled.retain(|(_, endpoint)| back || endpoint == "collector");
        stage.greet_on(dialled);
        stage.collector_answers(&collector_state());
        let said = stage.step();
        let lost = said.iter().any(|message| matches!(message, Message::Lost(_)));
        assert_eq!(lost, !back, "{said:?}");
    }
}

#[test]
fn what_runs_alone_does_so_on_a_new_link_too() {
    let mut stage = Stage::new(|config| config.completions = 2);
    let claimed = collector_state_with(|state| {
        state.completions = Some(2);
        let count = DEATHS_BEFORE_ALONE;
        state.deaths = [0, 1].map(|number| Deaths { number, count }).to_vec();
    });
    stage.collector_answers(&refused(RefusedCode::NotStarted, 0));
    stage.step();
    stage.collector_answers(&claimed);
    stage.step();
    stage.worker_answers(&worker_state());
    let wanted = credit(&stage.step());
    stage.worker_answers(&wanted);
    assert_eq!(tasks(&stage.step()), 1, "one runs alone");
    stage.machine.handle_link_closed(stage.now, stage.worker.0);
    stage.now += Duration::from_millis(100);
    stage.greet();
    stage.worker_answers(&worker_holds(vec![Holding {
        first: 0,
        last: 0,
        attempt: 1,
    }]));
    let wanted = credit(&stage.step());
    stage.worker_answers(&wanted);
    let said = stage.step();
    assert_eq!(tasks(&said), 0, "it runs alone: {said:?}");
}

#[test]
fn a_death_that_the_collector_does_not_know_yet_counts() {
    let claimed = collector_state_with(|state| {
        let count = DEATHS_BEFORE_ALONE - 1;
        state.deaths = vec![Deaths { number: 0, count }];
    });
    let mut stage = Stage::new(|_| {});
    stage.collector_answers(&refused(RefusedCode::NotStarted, 0));
    stage.step();
    let mut alone = Vec::new();
    for _ in 0..2 {
        stage.collector_answers(&claimed);
        stage.step();
        stage.worker_answers(&worker_state());
        let wanted = credit(&stage.step());
        stage.worker_answers(&wanted);
        alone.extend(stage.step().iter().filter_map(|message| match message {
            Message::Tasks(tasks) => Some(tasks.alone),
            _ => None,
        }));
        // Another process of the worker comes back, so that this one is dead, and the collector comes back later.
        stage.machine.handle_link_closed(stage.now, stage.collector.0);
        stage.machine.handle_link_closed(stage.now, stage.worker.0);
        stage.incarnation += 1;
        stage.now += Duration::from_millis(100);
        stage.machine.handle_timeout(stage.now);
        stage.greet();
    }
    assert_eq!(alone, [false, true]);
}

#[test]
fn a_collector_that_forgot_a_claim_fences_nobody() {
    let mut stage = Stage::new(|config| config.epoch_floor = 1);
    let own = InstanceId(Uuid::from_u128(3));
    let last = |epoch, instance| {
        collector_state_with(|state| {
            state.epoch = epoch;
            state.instance = Some(instance);
        })
    };
    stage.collector_answers(&refused(RefusedCode::NotStarted, 0));
    stage.step();
    stage.collector_answers(&last(2, own));
    stage.step();
    stage.worker_answers(&refused(RefusedCode::Fenced, 3));
    stage.step();
    // The record of this claim is damaged: the one before it is the last that the collector knows.
    stage.collector_answers(&last(1, InstanceId(Uuid::from_u128(4))));
    let said = stage.step();
    let claims = |message: &Message| matches!(message, Message::Start(start) if start.epoch == 4);
    assert!(said.iter().any(claims), "{said:?}");
}

fn starts(said: &[Message]) -> usize {
    let claims = |message: &&Message| matches!(message, Message::Start(start) if start.epoch > 0);
    said.iter().filter(claims).count()
}

#[test]
fn an_epoch_is_claimed_only_when_the_host_has_kept_it() {
    let mut stage = Stage::new(|config| config.epoch_floor = 6);
    stage.keeps_epochs = false;
    stage.collector_answers(&refused(RefusedCode::NotStarted, 0));
    assert_eq!(starts(&stage.step()), 0);
    stage.machine.handle_epoch_kept(stage.now, 6);
    assert_eq!(
        starts(&stage.wait(Duration::from_secs(1))),
        0,
        "an older one does not count"
    );
    // A new link to the collector changes nothing.
    stage.collector_reconnects();
    assert_eq!(starts(&stage.step()), 0);
    stage.machine.handle_epoch_kept(stage.now, 7);
    let said = stage.step();
    assert!(
        matches!(said.as_slice(), [Message::Start(start)] if start.epoch == 7),
        "{said:?}"
    );
}

#[test]
fn nothing_new_goes_to_a_drained_worker_until_it_is_needed_again() {
    let mut stage = Stage::with_a_task_in_flight();
    stage.machine.handle_worker_drain(stage.now, "worker");
    let view = stage.machine.workers().next().expect("there is a worker");
    assert!(view.draining && !view.is_idle() && view.in_flight == 1, "{view:?}");
    // Its task is to be tried again: there is work, and a worker with room.
    stage.collector_answers(&second_attempt(Duration::ZERO));
    let said = stage.wait(Duration::from_secs(2));
    assert_eq!(tasks(&said), 0, "{said:?}");
    let view = stage.machine.workers().next().expect("there is a worker");
    assert!(view.draining && view.is_idle(), "{view:?}");
    stage.machine.handle_worker_undrain(stage.now, "worker");
    let mut said = stage.step();
    if tasks(&said) == 0 {
        let wanted = credit(&said);
        stage.worker_answers(&wanted);
        said = stage.step();
    }
    assert_eq!(tasks(&said), 1, "{said:?}");
}

#[test]
fn what_was_granted_to_a_drained_worker_is_void() {
    let mut stage = Stage::new(|config| config.completions = 1_000);
    let state = collector_state_with(|state| state.completions = Some(1_000));
    stage.collector_answers(&refused(RefusedCode::NotStarted, 0));
    stage.step();
    stage.collector_answers(&state);
    stage.step();
    stage.worker_answers(&worker_state());
    let wanted = credit(&stage.step());
    stage.machine.handle_worker_drain(stage.now, "worker");
    let said = stage.step();
    assert!(
        matches!(said.as_slice(), [Message::Want(want)] if want.backlog == 0),
        "{said:?}"
    );
    stage.worker_answers(&wanted);
    assert_eq!(tasks(&stage.step()), 0, "this credit is void");
    stage.machine.handle_worker_gone(stage.now, "worker");
    assert_eq!(stage.machine.workers().count(), 0);
}

#[test]
fn a_worker_is_known_from_when_it_is_named() {
    let mut stage = Stage::with_a_task_in_flight();
    stage.machine.handle_worker(stage.now, "another", "another");
    let views: Vec<_> = stage.machine.workers().collect();
    let stages: Vec<_> = views
        .iter()
        .map(|view| (view.name.as_str(), view.stage, view.greeted))
        .collect();
    assert_eq!(
        stages,
        [
            ("another", WorkerStage::Dialling, false),
            ("worker", WorkerStage::Ready, true)
        ]
    );
    assert!(!views[0].is_idle(), "nobody knows what it holds");
}

/// Numbers of a batch of ten that succeeded.
fn succeeded(spans: &[(u64, u64)]) -> Message {
    let count = spans.iter().map(|(first, last)| last - first + 1).sum();
    Message::Report(Box::new(Report {
        succeeded: spans.to_vec(),
        failed: Vec::new(),
        counts: Counts {
            succeeded: count,
            ..Counts::default()
        },
        lowest_missing: 0,
        retries: Vec::new(),
        health: Health::Ok,
        failures: Vec::new(),
    }))
}

fn cancels(said: &[Message]) -> Vec<&str> {
    let mut reasons = Vec::new();
    for message in said {
        if let Message::Cancel(cancel) = message {
            reasons.push(cancel.reason.as_str());
        }
    }
    reasons
}

#[test]
fn the_workers_of_a_batch_that_is_deleted_drop_it_without_its_collector() {
    let mut stage = Stage::with_a_task_in_flight();
    stage.step();
    stage.machine.handle_abandon(stage.now);
    assert_eq!(
        cancels(&stage.step()),
        ["the batch is deleted"],
        "one worker, and nobody else"
    );
}

/// A rule, what succeeds without meeting it, and what does meet it then.
type SuccessCase<'a> = (SuccessRule, &'a [(u64, u64)], &'a [(u64, u64)]);

#[test]
fn a_batch_that_met_its_success_policy_ends_early_once() {
    let rule = |indexes: Option<&[(u64, u64)]>, count| SuccessRule {
        indexes: indexes.map(|spans| spans.iter().copied().collect()),
        count,
    };
    let cases: [SuccessCase<'_>; 3] = [
        (
            rule(Some(&[(2, 3), (8, 8)]), None),
            &[(0, 2), (8, 8)],
            &[(0, 3), (8, 8)],
        ),
        (rule(Some(&[(0, 4)]), Some(2)), &[(4, 9)], &[(3, 9)]),
        (rule(None, Some(4)), &[(5, 7)], &[(4, 7)]),
    ];
    for (rule, not_yet, met) in cases {
        let unmet = SuccessRule {
            indexes: Some([(0, 9)].into_iter().collect()),
            count: None,
        };
        let mut stage = Stage::new(|config| {
            config.completions = 10;
            config.success = Some(SuccessPolicy {
                rules: vec![unmet, rule],
            });
        });
        stage.collector_answers(&refused(RefusedCode::NotStarted, 0));
        stage.step();
        stage.collector_answers(&collector_state_with(|state| state.completions = Some(10)));
        stage.step();
        stage.collector_answers(&succeeded(not_yet));
        assert_eq!(cancels(&stage.step()), Vec::<&str>::new(), "{not_yet:?}");
        stage.collector_answers(&succeeded(met));
        assert_eq!(cancels(&stage.step()), ["SuccessPolicy"], "{met:?}");
        stage.collector_answers(&succeeded(met));
        assert_eq!(cancels(&stage.step()), Vec::<&str>::new(), "once");
    }
}

#[test]
fn a_batch_that_is_all_settled_is_not_ended_early() {
    let mut stage = Stage::new(|config| {
        config.completions = 10;
        let rule = SuccessRule {
            indexes: None,
            count: Some(10),
        };
        config.success = Some(SuccessPolicy { rules: vec![rule] });
    });
    stage.collector_answers(&refused(RefusedCode::NotStarted, 0));
    stage.step();
    stage.collector_answers(&collector_state_with(|state| state.completions = Some(10)));
    stage.step();
    stage.collector_answers(&succeeded(&[(0, 9)]));
    let said = stage.step();
    assert!(cancels(&said).is_empty() && ends(&said) == 1, "{said:?}");
}

#[test]
fn a_takeover_finds_the_success_policy_met() {
    let mut stage = Stage::new(|config| {
        config.completions = 10;
        let rule = SuccessRule {
            indexes: Some([(3, 4)].into_iter().collect()),
            count: None,
        };
        config.success = Some(SuccessPolicy { rules: vec![rule] });
    });
    let state = |failed: bool| {
        collector_state_with(|state| {
            state.completions = Some(10);
            state.succeeded = vec![(0, 3)];
            if failed {
                state.failed = vec![(4, 4)];
            } else {
                state.succeeded = vec![(0, 4)];
            }
        })
    };
    stage.collector_answers(&refused(RefusedCode::NotStarted, 0));
    stage.step();
    stage.collector_answers(&state(true));
    assert!(cancels(&stage.step()).is_empty(), "a failure is no success");
    stage.collector_reconnects();
    stage.collector_answers(&state(false));
    assert_eq!(cancels(&stage.step()), ["SuccessPolicy"]);
}

#[test]
fn progress_tells_ranges_and_the_first_failures() {
    let mut stage = Stage::new(|config| config.completions = 100);
    stage.collector_answers(&refused(RefusedCode::NotStarted, 0));
    stage.step();
    stage.collector_answers(&collector_state_with(|state| state.completions = Some(100)));
    stage.step();
    assert_eq!(stage.machine.progress().recorded_at, None);
    let failure = |number| Failure {
        number,
        attempt: 1,
        reason: "ExitCode".into(),
        code: 1,
        worker: "worker".into(),
        log: String::new(),
    };
    let mut report = match succeeded(&[(0, 4), (8, 8)]) {
        Message::Report(report) => *report,
        other => unreachable!("{other:?}"),
    };
    report.failed = vec![(50, 80)];
    report.failures = (50..70).map(failure).collect();
    stage.collector_answers(&Message::Report(Box::new(report.clone())));
    report.failures = (60..80).map(failure).collect();
    stage.collector_answers(&Message::Report(Box::new(report)));
    let progress = stage.machine.progress();
    assert_eq!(progress.lowest_missing, 5);
    assert_eq!(progress.settled_above, [(8, 8), (50, 80)]);
    assert_eq!(progress.failed, [(50, 80)]);
    let numbers: Vec<u64> = progress.failures.iter().map(|failure| failure.number).collect();
    assert_eq!(numbers, (50..70).collect::<Vec<_>>());
    assert_eq!(progress.recorded_at, Some(stage.now));
}

/// In a cluster a pod is replaced when its template is mended; until then the batch waits.
#[test]
fn a_worker_that_cannot_run_the_executor_does_not_end_a_batch_whose_workers_are_mended() {
    let mut stage = Stage::new(|config| config.workers_are_mended = true);
    stage.collector_answers(&refused(RefusedCode::NotStarted, 0));
    stage.step();
    stage.collector_answers(&collector_state());
    stage.step();
    stage.worker_answers(&refused(RefusedCode::Executor, 1));
    stage.wait(END_AGAIN);
    stage.machine.handle_worker_drain(stage.now, "worker");
    let views: Vec<_> = stage.machine.workers().collect();
    assert!(views[0].is_idle() && views[0].draining, "its pod can go: {views:?}");
    stage.incarnation += 1;
    stage.machine.handle_worker(stage.now, "mended", "mended");
    stage.greet();
    stage.worker_answers(&worker_state());
    let said = stage.step();
    stage.worker_answers(&credit(&said));
    assert_eq!(tasks(&stage.step()), 1);
}

/// The worker as its host sees it: whether it is suspect, and what became of those that were.
fn told(stage: &Stage) -> (bool, WorkersLost) {
    let worker = stage.machine.workers().next().expect("the host has named one");
    (worker.suspect, stage.machine.progress().workers_lost)
}

#[test]
fn what_became_of_a_lost_worker_is_counted_once() {
    type Fate = (&'static str, fn(&mut Stage), fn(&WorkersLost) -> u64);
    let fates: [Fate; 5] = [
        (
            "exited",
            |stage| stage.machine.handle_worker_exit(stage.now, "worker", true),
            |lost| lost.exited,
        ),
        (
            "disrupted",
            |stage| stage.machine.handle_worker_exit(stage.now, "worker", false),
            |lost| lost.disrupted,
        ),
        ("replaced", |stage| back_as(stage, 1), |lost| lost.replaced),
        ("reconnected", |stage| back_as(stage, 0), |lost| lost.reconnected),
        (
            "gone",
            |stage| drop(stage.wait_on(GONE_AFTER, &[stage.collector.0])),
            |lost| lost.gone,
        ),
    ];
    for (fate, happens, count) in fates {
        let mut stage = Stage::with_a_task_in_flight();
        assert_eq!(told(&stage), (false, WorkersLost::default()));
        stage.machine.handle_link_closed(stage.now, stage.worker.0);
        assert_eq!(told(&stage), (true, WorkersLost::default()), "{fate} is not known yet");
        happens(&mut stage);
        let (suspect, lost) = told(&stage);
        let WorkersLost {
            exited,
            disrupted,
            replaced,
            gone,
            reconnected,
        } = lost;
        assert_eq!((suspect, count(&lost)), (false, 1), "{fate}: {lost:?}");
        assert_eq!(
            exited + disrupted + replaced + gone + reconnected,
            1,
            "{fate}: {lost:?}"
        );
    }
}

/// A worker's process greets on a new link: the same one, or one that came after it.
fn back_as(stage: &mut Stage, later: u128) {
    stage.incarnation += later;
    stage.now += Duration::from_millis(500);
    stage.machine.handle_timeout(stage.now);
    stage.greet();
}

#[test]
fn counts_are_not_known_before_the_collector_has_said_them() {
    let mut stage = Stage::new(|config| config.completions = 3);
    let known = |stage: &Stage| {
        let progress = stage.machine.progress();
        (progress.counted, progress.charges_counted, progress.counts.succeeded)
    };
    stage.collector_answers(&refused(RefusedCode::NotStarted, 0));
    stage.step();
    assert_eq!(known(&stage), (false, false, 0));
    stage.collector_answers(&collector_state_with(|state| {
        state.completions = Some(3);
        state.succeeded = vec![(0, 1)];
    }));
    stage.step();
    assert_eq!(known(&stage), (true, false, 2), "STATE does not say what was charged");
    stage.collector_answers(&second_attempt(Duration::ZERO));
    assert!(known(&stage).1);
    // Where nothing was recorded, nothing was charged.
    let fresh = Stage::with_a_task_in_flight();
    assert_eq!(known(&fresh), (true, true, 0));
}

#[test]
fn credit_is_what_workers_still_take() {
    let mut stage = Stage::with_a_task_in_flight();
    assert_eq!(stage.machine.progress().credit, 9, "one of ten is used");
    stage.machine.handle_link_closed(stage.now, stage.worker.0);
    assert_eq!(stage.machine.progress().credit, 0, "nobody is there");
}

#[test]
fn what_a_worker_does_not_list_may_be_found_at_another_one() {
    let mut stage = Stage::with_a_task_in_flight();
    // All workers are asked anew.
    stage.collector_reconnects();
    stage.collector_answers(&collector_state());
    stage.step();
    stage.worker_answers(&worker_state());
    stage.step();
    assert_eq!(stage.machine.progress().in_flight, 1, "it may be recorded");
    let first = stage.worker.0;
    stage.incarnation += 1;
    stage.machine.handle_worker(stage.now, "other", "other");
    stage.greet();
    assert_ne!(stage.worker.0, first);
    stage.worker_answers(&worker_holds(vec![Holding {
        first: 0,
        last: 0,
        attempt: 1,
    }]));
    let said = stage.wait_on(Duration::from_millis(500), &[stage.collector.0, stage.worker.0, first]);
    assert_eq!(tasks(&said), 0, "{said:?}");
    assert_eq!(stage.machine.progress().in_flight, 1);
}
