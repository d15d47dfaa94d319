//! Payloads that are too long for one message, at the ventilator: they go ahead in parts, and nothing is in flight before.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "the helpers of a test may panic, as the test may"
)]

mod stage;

use std::time::Duration;

use harmony_protocol::ventilator::{Cut, NumberState};
use harmony_protocol::wire::{Credit, Message, RefusedCode, Return, ReturnCause};

use stage::{Stage, collector_state_with, parts, refused, tasks, worker_state};

/// Payloads have 25 bytes and go in parts of 10 at most.
const CUT: Cut = Cut { inline: 20, part: 10 };

/// A batch of so many tasks whose worker has said what it holds: nothing. What the ventilator said then.
fn ready(completions: u64) -> (Stage, Vec<Message>) {
    let mut stage = Stage::new(|config| {
        config.completions = completions;
        config.cut = CUT;
    });
    stage.payload = 25;
    stage.collector_answers(&refused(RefusedCode::NotStarted, 0));
    stage.step();
    stage.collector_answers(&collector_state_with(|state| state.completions = Some(completions)));
    stage.step();
    stage.worker_answers(&worker_state());
    let said = stage.step();
    (stage, said)
}

fn serial(said: &[Message]) -> u32 {
    let want = said.iter().rev().find_map(|message| match message {
        Message::Want(want) => Some(want.serial),
        _ => None,
    });
    want.expect("WANT")
}

/// The worker has granted so much in all.
fn grant(stage: &mut Stage, serial: u32, tasks_granted: u64, bytes_granted: u64) -> Vec<Message> {
    stage.worker_answers(&Message::Credit(Credit {
        serial,
        tasks_granted,
        bytes_granted,
        alone: None,
    }));
    stage.step()
}

#[test]
fn parts_go_within_the_bytes_that_are_granted_and_the_task_follows() {
    let (mut stage, said) = ready(1);
    let serial = serial(&said);
    let said = grant(&mut stage, serial, 1, 12);
    assert_eq!((parts(&said), tasks(&said)), (vec![(0, 10), (10, 2)], 0));
    let NumberState::Uploading(uploading) = stage.machine.explain_number(stage.now, 0).state else {
        panic!("{:?}", stage.machine.explain_number(stage.now, 0));
    };
    assert_eq!(
        (uploading.sent, uploading.length, uploading.worker.as_str()),
        (12, 25, "worker")
    );
    assert_eq!(
        stage.machine.progress().in_flight,
        0,
        "nothing is in flight before TASKS"
    );
    let said = grant(&mut stage, serial, 1, 30);
    assert_eq!(parts(&said), [(12, 10), (22, 3)]);
    let sent = said.iter().find_map(|message| match message {
        Message::Tasks(tasks) => Some(tasks.clone()),
        _ => None,
    });
    let sent = sent.expect("TASKS follows the last part");
    assert_eq!(
        (sent.parted, sent.entries[0].length, sent.payloads.len()),
        (true, 25, 0)
    );
    assert_eq!(stage.machine.progress().in_flight, 1);
}

#[test]
fn one_payload_is_under_way_to_a_worker_at_a_time() {
    let (mut stage, said) = ready(8);
    let serial = serial(&said);
    let said = grant(&mut stage, serial, 8, 12);
    assert_eq!(parts(&said), [(0, 10), (10, 2)], "the others wait");
    assert!(
        stage
            .machine
            .explain(stage.now)
            .ready
            .iter()
            .all(|ready| ready.hold.is_some())
    );
    let said = grant(&mut stage, serial, 8, 60);
    assert_eq!(tasks(&said), 2, "60 bytes are two payloads and a bit: {said:?}");
    assert_eq!(parts(&said).last(), Some(&(0, 10)), "the third one has begun");
}

#[test]
fn what_was_sent_to_a_worker_that_is_lost_goes_anew_and_blames_nobody() {
    let (mut stage, said) = ready(1);
    grant(&mut stage, serial(&said), 1, 12);
    stage.machine.handle_link_closed(stage.now, stage.worker.0);
    stage.step();
    stage.now += Duration::from_millis(100);
    stage.incarnation += 1;
    stage.greet();
    stage.worker_answers(&worker_state());
    let said = stage.step();
    let said = grant(&mut stage, serial(&said), 1, 100);
    assert_eq!(parts(&said), [(0, 10), (10, 10), (20, 5)], "from the first byte on");
    assert_eq!(tasks(&said), 1);
    assert!(
        !said.iter().any(|message| matches!(message, Message::Lost(_))),
        "nothing was in flight: {said:?}"
    );
}

#[test]
fn a_worker_that_leaves_gets_no_further_part() {
    let (mut stage, said) = ready(1);
    let serial = serial(&said);
    grant(&mut stage, serial, 1, 12);
    stage.worker_answers(&Message::Return(Return {
        cause: ReturnCause::Drain,
        tasks: Vec::new(),
    }));
    stage.step();
    let said = grant(&mut stage, serial, 1, 100);
    assert_eq!((parts(&said), tasks(&said)), (Vec::new(), 0));
    assert!(matches!(
        stage.machine.explain_number(stage.now, 0).state,
        NumberState::Ready { .. }
    ));
}

#[test]
fn a_payload_that_has_gone_waits_for_a_task_to_be_granted() {
    let (mut stage, said) = ready(8);
    let serial = serial(&said);
    let said = grant(&mut stage, serial, 1, 50);
    assert_eq!(tasks(&said), 1, "one task is granted: {said:?}");
    let said = grant(&mut stage, serial, 2, 50);
    assert_eq!((parts(&said).len(), tasks(&said)), (3, 1), "{said:?}");
}
