//! Why a number, or a batch, is not done: each reason, and that the machine then does as was said.
#![allow(clippy::expect_used, reason = "the helpers of a test may panic, as the test may")]

mod stage;

use std::time::Duration;

use harmony_protocol::limits::{END_AGAIN, GONE_AFTER, RETURN_WAIT};
use harmony_protocol::ventilator::{
    CollectorStage, Explanation, Hold, Missing, NoRoom, NumberExplanation, NumberState, Rooms, UpcomingKind,
    WorkerStage,
};
use harmony_protocol::wire::{Counts, Credit, Deaths, Failure, Health, Message, RefusedCode, Report, Retry};

use crate::stage::*;

impl Stage {
    fn number(&self, number: u64) -> NumberExplanation {
        let told = self.machine.explain_number(self.now, number);
        let text = serde_json::to_string(&told).expect("it is plain");
        assert_eq!(
            serde_json::from_str::<NumberExplanation>(&text).expect("its own text"),
            told,
            "{text}"
        );
        told
    }

    fn batch(&self) -> Explanation {
        let told = self.machine.explain(self.now);
        let text = serde_json::to_string(&told).expect("it is plain");
        assert_eq!(
            serde_json::from_str::<Explanation>(&text).expect("its own text"),
            told,
            "{text}"
        );
        told
    }

    /// What keeps number 0, which is ready.
    fn hold(&self) -> Option<Hold> {
        let state = self.number(0).state;
        let NumberState::Ready { hold, .. } = state else {
            unreachable!("it is not ready: {state:?}");
        };
        hold
    }
}

/// The collector has answered; the worker has not.
fn claimed(completions: u64, change: impl FnOnce(&mut harmony_protocol::wire::CollectorState)) -> Stage {
    let mut stage = Stage::new(|config| config.completions = completions);
    stage.collector_answers(&refused(RefusedCode::NotStarted, 0));
    stage.step();
    stage.collector_answers(&collector_state_with(|state| {
        state.completions = Some(completions);
        change(state);
    }));
    stage.step();
    stage
}

fn report(change: impl FnOnce(&mut Report)) -> Message {
    let mut report = Report {
        succeeded: Vec::new(),
        failed: Vec::new(),
        counts: Counts::default(),
        lowest_missing: 0,
        retries: Vec::new(),
        health: Health::Ok,
        failures: Vec::new(),
    };
    change(&mut report);
    Message::Report(Box::new(report))
}

#[test]
fn before_the_collector_answers_nothing_is_known() {
    let mut stage = Stage::new(|config| config.completions = 2);
    stage.keeps_epochs = false;
    let state = stage.number(1).state;
    assert_eq!(state, NumberState::Unknown { hold: Hold::Collector });
    assert_eq!(stage.batch().collector.stage, CollectorStage::Asked);
    stage.collector_answers(&refused(RefusedCode::NotStarted, 0));
    stage.step();
    let batch = stage.batch();
    assert_eq!(batch.collector.stage, CollectorStage::ClaimWaits);
    assert_eq!(batch.hold, Some(Hold::Collector));
    stage.machine.handle_epoch_kept(stage.now, 1);
    stage.step();
    assert_eq!(stage.batch().collector.stage, CollectorStage::Claimed);
    assert_eq!(stage.number(2).state, NumberState::OutOfRange);
}

#[test]
fn what_is_ready_waits_for_a_worker_and_then_for_credit() {
    let mut stage = claimed(30, |_| {});
    assert_eq!(stage.hold(), Some(Hold::NoWorker));
    assert_eq!(stage.batch().stages[&WorkerStage::Started], 1);
    stage.worker_answers(&worker_state());
    let said = stage.step();
    let full = Rooms {
        credit: 1,
        ..Rooms::default()
    };
    assert_eq!(stage.hold(), Some(Hold::NoRoom(full)));
    let batch = stage.batch();
    assert_eq!(batch.workers[0].no_room, Some(NoRoom::Credit));
    assert_eq!((batch.ready[0].numbers, batch.ready[0].first), (30, 0));

    stage.worker_answers(&credit(&said));
    assert_eq!(stage.hold(), None, "there is credit");
    let ahead = |state| match state {
        NumberState::Ready { ahead, hold: None, .. } => ahead,
        other => panic!("{other:?}"),
    };
    assert_eq!([0, 9, 29].map(|number| ahead(stage.number(number).state)), [0, 9, 29]);
    assert_eq!(tasks(&stage.step()), 1, "and so it is sent");
    // Ten were granted: what had fewer before it is at the worker.
    for number in 0..30 {
        match stage.number(number).state {
            NumberState::InFlight { worker, attempt: 1, .. } => {
                assert!(number < 10);
                assert_eq!(worker.expect("its link stands").name, "worker");
            }
            NumberState::Ready { ahead, hold, .. } => {
                assert_eq!((ahead, hold), (number - 10, Some(Hold::NoRoom(full))));
            }
            other => panic!("{number}: {other:?}"),
        }
    }
    let batch = stage.batch();
    assert_eq!((batch.in_flight, batch.ready[0].numbers), (10, 20));
    assert_eq!((batch.stragglers[0].first, batch.stragglers[0].last), (0, 9));
}

#[test]
fn time_at_a_worker_and_its_silence_are_told() {
    let mut stage = Stage::with_a_task_in_flight();
    let collector = stage.collector.0;
    stage.wait_on(Duration::from_secs(3), &[collector]);
    let NumberState::InFlight {
        worker: Some(worker),
        millis,
        alone: false,
        missing: None,
        ..
    } = stage.number(0).state
    else {
        panic!("{:?}", stage.number(0));
    };
    assert_eq!((millis, worker.silent_millis), (3_000, Some(3_000)));
    assert_eq!(stage.batch().workers[0].oldest_millis, Some(3_000));
    assert_eq!(stage.batch().collector.silent_millis, Some(0));
}

#[test]
fn a_retry_says_when_it_is_due() {
    let mut stage = Stage::with_a_task_in_flight();
    stage.collector_answers(&second_attempt(Duration::from_secs(4)));
    stage.step();
    let waiting = NumberState::Waiting {
        attempt: 2,
        due_millis: 4_000,
    };
    assert_eq!(stage.number(0).state, waiting);
    let batch = stage.batch();
    assert_eq!(batch.waiting, 1);
    assert!(
        batch
            .upcoming
            .iter()
            .any(|next| next.kind == UpcomingKind::Retry { number: 0 } && next.in_millis == 4_000)
    );
    stage.wait(Duration::from_secs(4));
    assert!(matches!(
        stage.number(0).state,
        NumberState::InFlight { attempt: 2, .. }
    ));
}

#[test]
fn what_the_collector_misses_is_asked_after() {
    let mut stage = Stage::with_a_task_in_flight();
    stage.collector_answers(&missing(&[(0, 0)]));
    let said = stage.step();
    let state = |stage: &Stage| match stage.number(0).state {
        NumberState::InFlight { missing, .. } => missing,
        other => panic!("{other:?}"),
    };
    assert_eq!(state(&stage), Some(Missing::Asked));
    let answer = harmony_protocol::wire::Held {
        answer: true,
        spans: Vec::new(),
        ..held(&said).expect("it asks").clone()
    };
    stage.worker_answers(&Message::Held(answer));
    stage.step();
    assert_eq!(state(&stage), Some(Missing::Denied));
    let batch = stage.batch();
    assert_eq!(batch.missing, 1);
    let ask = batch
        .upcoming
        .iter()
        .find(|next| next.kind == UpcomingKind::AskCollector);
    assert!(ask.expect("END goes out again").in_millis <= u64::try_from(END_AGAIN.as_millis()).expect("seconds"));
}

#[test]
fn a_silent_collector_keeps_what_was_sent_before() {
    let mut stage = Stage::with_a_task_in_flight();
    stage.machine.handle_link_closed(stage.now, stage.collector.0);
    stage.machine.handle_link_closed(stage.now, stage.worker.0);
    stage.step();
    assert!(matches!(
        stage.number(0).state,
        NumberState::InFlight { worker: None, .. }
    ));
    stage.now += RETURN_WAIT;
    stage.machine.handle_timeout(stage.now);
    stage.step();
    assert_eq!(stage.hold(), Some(Hold::CollectorSilent));
    let batch = stage.batch();
    assert_eq!(batch.collector.stage, CollectorStage::Absent);
    assert_eq!(batch.suspects[0].worker, "worker");
    let given_up = batch.suspects[0].given_up_in_millis;
    assert_eq!(u128::from(given_up), GONE_AFTER.as_millis() - RETURN_WAIT.as_millis());
    assert_eq!(stage.number(0).suspects, batch.suspects);
}

#[test]
fn what_runs_alone_is_held_back_when_its_worker_goes() {
    let mut stage = claimed(1, |state| {
        state.deaths = vec![Deaths { number: 0, count: 3 }];
    });
    let alone = |stage: &Stage| match stage.number(0).state {
        NumberState::Ready { alone, hold, .. } => (alone, hold),
        other => panic!("{other:?}"),
    };
    assert_eq!(alone(&stage), (true, Some(Hold::NoWorker)));
    assert_eq!(stage.number(0).deaths, 3);
    stage.worker_answers(&worker_state());
    let said = stage.step();
    stage.worker_answers(&credit(&said));
    assert_eq!(alone(&stage), (true, None));
    let said = stage.step();
    assert_eq!(tasks(&said), 1);
    stage.worker_answers(&Message::Credit(Credit {
        serial: 1,
        tasks_granted: 10,
        bytes_granted: 10,
        alone: Some((0, 1)),
    }));
    stage.step();
    stage.machine.handle_link_closed(stage.now, stage.worker.0);
    stage.now += RETURN_WAIT;
    stage.machine.handle_timeout(stage.now);
    stage.step();
    assert_eq!(stage.number(0).state, NumberState::HeldBack { attempt: 1 });
    assert_eq!(stage.batch().held_back, 1);
    assert_eq!(stage.number(0).suspects.len(), 1);
}

#[test]
fn what_is_settled_is_told_with_its_cause() {
    let mut stage = claimed(3, |state| state.succeeded = vec![(0, 0)]);
    let failure = Failure {
        number: 1,
        attempt: 4,
        reason: "ExitCode".into(),
        code: 1,
        worker: "worker".into(),
        log: "no".into(),
    };
    stage.collector_answers(&report(|report| {
        report.failed = vec![(1, 1)];
        report.failures = vec![failure.clone()];
        report.health = Health::DiskFull;
        report.retries = vec![Retry {
            number: 2,
            attempt: 2,
            delay_millis: 100,
        }];
    }));
    stage.step();
    assert_eq!(stage.number(0).state, NumberState::Succeeded);
    let failed = NumberState::Failed { failure: Some(failure) };
    assert_eq!(stage.number(1).state, failed);
    assert_eq!(stage.number(2).collector.health, Health::DiskFull);
}

#[test]
fn a_batch_that_stops_says_so() {
    let mut stage = claimed(1, |_| {});
    stage.machine.handle_drain(stage.now);
    stage.step();
    assert_eq!(stage.hold(), Some(Hold::Draining));
    stage.machine.handle_cancel(stage.now, "enough");
    stage.step();
    let cancelling = Hold::Cancelling { why: "enough".into() };
    assert_eq!(stage.hold(), Some(cancelling.clone()));
    assert_eq!(stage.batch().hold, Some(cancelling));
    stage.machine.handle_leave(stage.now);
    assert_eq!(stage.batch().hold, Some(Hold::Over));
}

#[test]
fn a_takeover_says_that_it_looks_for_what_is_under_way() {
    let mut stage = Stage::new(|config| config.completions = 4);
    stage.collector_answers(&collector_state_with(|state| {
        state.completions = Some(4);
        state.epoch = 7;
        state.instance = None;
    }));
    stage.step();
    stage.collector_answers(&collector_state_with(|state| {
        state.completions = Some(4);
        state.epoch = 8;
        state.succeeded = vec![(1, 1)];
    }));
    stage.step();
    assert_eq!(stage.hold(), Some(Hold::Locating));
    let batch = stage.batch();
    assert!(batch.upcoming.iter().any(|next| next.kind == UpcomingKind::Located));
    stage.wait(Duration::from_secs(1));
    // What lies above all that is known to be settled need not wait for the worker's STATE, but for the worker.
    let holds: Vec<_> = stage
        .batch()
        .ready
        .into_iter()
        .map(|ready| (ready.hold, ready.numbers))
        .collect();
    assert_eq!(holds, [(Some(Hold::Locating), 1), (Some(Hold::NoWorker), 2)]);
    stage.worker_answers(&worker_state());
    let said = stage.step();
    stage.worker_answers(&credit(&said));
    stage.step();
    // Its share of what is left; then the rest goes as that comes back.
    assert_eq!(stage.batch().in_flight, 2);
    let share = Rooms {
        share: 1,
        ..Rooms::default()
    };
    assert_eq!(stage.batch().ready[0].hold, Some(Hold::NoRoom(share)));
}
