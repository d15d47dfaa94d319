//! The worker machine, message by message.

#![allow(clippy::expect_used, reason = "the helpers of a test may panic, as the test may")]

use std::time::{Duration, Instant};

use bytes::Bytes;
use harmony_protocol::ids::{BatchUid, InstanceId, LinkId, ProcessId};
use harmony_protocol::wire::{
    Cancel, Executor, Hello, Message, OutcomeCode, Refused, RefusedCode, Role, Start, TaskEntry, Tasks, Want, Work,
    decode, encode,
};
use harmony_protocol::worker::{Config, Finished, Only, Output, Worker};
use harmony_protocol::{Identity, LinkOutput, VERSIONS};
use uuid::Uuid;

fn identity(role: Role, id: u128) -> Identity {
    Identity {
        role,
        name: format!("{role:?}"),
        process_id: ProcessId(Uuid::from_u128(id)),
        slots: Some(1),
    }
}

fn start(uid: BatchUid, completions: u64) -> Start {
    Start {
        uid,
        name: "batch".into(),
        epoch: 1,
        instance: InstanceId(Uuid::from_u128(5)),
        completions: Some(completions),
        policy: None,
        work: Some(Work {
            executor: Executor::Library,
            collector: "collector".into(),
            max_bytes_per_task: 1,
            deadline_millis: None,
        }),
    }
}

fn want() -> Message {
    Message::Want(Want {
        serial: 1,
        backlog: 10,
        tasks_sent: 0,
        bytes_sent: 0,
    })
}

fn tasks(numbers: &[u64]) -> Tasks {
    let entries = numbers.iter().map(|number| TaskEntry {
        number: *number,
        attempt: 1,
        length: 0,
    });
    Tasks {
        epoch: 1,
        alone: false,
        backup: false,
        entries: entries.collect(),
        payloads: Bytes::new(),
    }
}

/// A worker with a ventilator at this link.
fn greeted(now: Instant, link: LinkId, only: Only) -> Worker {
    let mut worker = Worker::new(Config {
        identity: identity(Role::Worker, 2),
        slots: 1,
        seed: 0,
        only,
    });
    let hello = Hello {
        versions: VERSIONS,
        role: Role::Ventilator,
        name: "ventilator".into(),
        process_id: ProcessId(Uuid::from_u128(3)),
        slots: None,
        max_payload: 1,
        heartbeat_millis: 1_000,
    };
    worker.handle_link_opened(now, link);
    worker.handle_message(now, link, &encode(0, &Message::Hello(hello)));
    worker
}

fn outputs(worker: &mut Worker, now: Instant) -> Vec<Output> {
    std::iter::from_fn(|| worker.poll_output(now)).collect()
}

fn exits(outputs: &[Output]) -> bool {
    outputs.iter().any(|output| matches!(output, Output::Exit))
}

/// How such a worker refuses a batch of [`start`], if it does.
fn refusal(only: Only, uid: BatchUid) -> Option<Refused> {
    let (now, link) = (Instant::now(), LinkId::accepted(1));
    let mut worker = greeted(now, link, only);
    worker.handle_message(now, link, &encode(1, &Message::Start(Box::new(start(uid, 5)))));
    let outputs = std::iter::from_fn(|| worker.poll_output(now));
    let mut sent = outputs.filter_map(|output| match output {
        Output::Link(LinkOutput::Send { frames, .. }) => decode(&frames).ok(),
        _ => None,
    });
    sent.find_map(|(_, message)| match message {
        Message::Refused(refused) => Some(refused),
        _ => None,
    })
}

#[test]
fn a_worker_made_for_one_batch_refuses_all_others() {
    let (own, other) = (BatchUid(Uuid::from_u128(1)), BatchUid(Uuid::from_u128(2)));
    let only = Only {
        batch: Some(own),
        executor: Some(start(own, 5).work.unwrap().executor),
    };
    assert_eq!(refusal(only.clone(), own), None);
    let refused = refusal(only, other).unwrap();
    assert_eq!(refused.code, RefusedCode::Mismatch);
    assert!(refused.reason.contains(&other.to_string()), "{}", refused.reason);
}

#[test]
fn a_worker_made_for_one_executor_refuses_all_others() {
    let uid = BatchUid(Uuid::from_u128(1));
    let command = vec!["sort".to_owned()];
    let only = Only {
        batch: None,
        executor: Some(Executor::Exec { command }),
    };
    let refused = refusal(only, uid).unwrap();
    assert_eq!(refused.code, RefusedCode::Mismatch);
    assert!(
        refused.reason.contains(r#"{"exec":{"command":["sort"]}}"#),
        "{}",
        refused.reason
    );
}

#[test]
fn numbers_beyond_the_batch_are_dropped_and_counted() {
    let (now, uid, link) = (Instant::now(), BatchUid(Uuid::from_u128(1)), LinkId::accepted(1));
    let mut worker = greeted(now, link, Only::default());
    worker.handle_message(now, link, &encode(1, &Message::Start(Box::new(start(uid, 5)))));
    worker.handle_prepared(now, uid, Ok(1));
    worker.handle_message(now, link, &encode(1, &want()));
    let outputs = outputs(&mut worker, now);
    let granted = outputs.iter().any(|output| {
        let Output::Link(LinkOutput::Send { frames, .. }) = output else {
            return false;
        };
        matches!(decode(frames), Ok((1, Message::Credit(credit))) if credit.tasks_granted >= 2)
    });
    assert!(granted, "{outputs:?}");
    worker.handle_message(now, link, &encode(1, &Message::Tasks(tasks(&[4, 5]))));
    assert_eq!((worker.unfinished(), worker.dropped().out_of_range), (1, 1));
    let snapshot = worker.snapshot();
    let [batch] = &snapshot.batches[..] else {
        panic!("{snapshot:?}")
    };
    assert_eq!((batch.queued, batch.running, batch.ventilators), (1, 0, 1));
    assert_eq!((snapshot.links, snapshot.dropped.out_of_range), (1, 1));
    worker.sanity_check();
}

#[test]
fn a_worker_that_leaves_waits_for_no_collector_of_a_batch_that_is_over() {
    let (now, uid, link) = (Instant::now(), BatchUid(Uuid::from_u128(1)), LinkId::accepted(1));
    let mut worker = greeted(now, link, Only::default());
    worker.handle_message(now, link, &encode(1, &Message::Start(Box::new(start(uid, 5)))));
    worker.handle_prepared(now, uid, Ok(1));
    worker.handle_message(now, link, &encode(1, &want()));
    outputs(&mut worker, now);
    worker.handle_message(now, link, &encode(1, &Message::Tasks(tasks(&[4]))));
    let begun = outputs(&mut worker, now);
    assert!(
        begun.iter().any(|output| matches!(output, Output::Run { .. })),
        "{begun:?}"
    );
    worker.handle_drain(now, Duration::from_secs(25));
    let leaving = outputs(&mut worker, now);
    assert!(!exits(&leaving), "a task runs: {leaving:?}");
    let cancel = Cancel {
        epoch: 1,
        spans: None,
        reason: "the batch is deleted".into(),
    };
    worker.handle_message(now, link, &encode(1, &Message::Cancel(cancel)));
    worker.handle_timeout(now);
    let left = outputs(&mut worker, now);
    assert!(exits(&left), "{left:?}");
}

#[test]
fn waiting_ends_when_a_slot_takes_the_task() {
    let (mut now, uid, link) = (Instant::now(), BatchUid(Uuid::from_u128(1)), LinkId::accepted(1));
    let mut worker = greeted(now, link, Only::default());
    worker.handle_message(now, link, &encode(1, &Message::Start(Box::new(start(uid, 5)))));
    worker.handle_prepared(now, uid, Ok(1));
    worker.handle_message(now, link, &encode(1, &want()));
    outputs(&mut worker, now);
    worker.handle_message(now, link, &encode(1, &Message::Tasks(tasks(&[0, 1]))));
    outputs(&mut worker, now);
    let waits = |worker: &Worker| {
        let waits = worker.snapshot().waits;
        (waits.count(), waits.total_micros())
    };
    assert_eq!(
        waits(&worker),
        (1, 0),
        "the first one runs at once, the second one has no slot"
    );
    now += Duration::from_millis(300);
    let finished = Finished {
        number: 0,
        attempt: 1,
        outcome: OutcomeCode::Succeeded,
        code: 0,
        start_micros: 0,
        duration_micros: 300_000,
        output: Bytes::new(),
        log: Bytes::new(),
    };
    worker.handle_finished(now, uid, vec![finished]);
    outputs(&mut worker, now);
    assert_eq!(waits(&worker), (2, 300_000));
}
