//! Payloads that come ahead of their task, at the worker: the driver keeps them for as long as the task needs them.

#![allow(
    clippy::panic,
    clippy::indexing_slicing,
    reason = "the helpers of a test may panic, as the test may"
)]

mod workplace;

use std::time::Instant;

use bytes::Bytes;
use harmony_protocol::LinkOutput;
use harmony_protocol::ids::{Attempt, BatchUid, LinkId};
use harmony_protocol::limits::{KEPT_PAYLOAD_BYTES, MAX_PARTED, PART_BYTES};
use harmony_protocol::wire::{
    Bye, ByeCode, Credit, Held, Message, OutcomeCode, Part, TaskEntry, Tasks, decode, encode,
};
use harmony_protocol::worker::{Finished, Only, Output, Payload, PayloadId, Worker};
use uuid::Uuid;

use workplace::{greeted_with, outputs, start, want};

/// A worker with some slots that has started a batch and granted tasks.
struct Bench {
    worker: Worker,
    now: Instant,
    uid: BatchUid,
    link: LinkId,
}

impl Bench {
    fn new() -> Self {
        let (now, uid, link) = (Instant::now(), BatchUid(Uuid::from_u128(1)), LinkId::accepted(1));
        let mut bench = Self {
            worker: greeted_with(now, link, Only::default(), 4),
            now,
            uid,
            link,
        };
        bench.says(1, &Message::Start(Box::new(start(uid, 100))));
        bench.worker.handle_prepared(now, uid, Ok(1));
        bench.says(1, &want());
        bench
    }

    fn says(&mut self, alias: u32, message: &Message) -> Vec<Output> {
        self.worker.handle_message(self.now, self.link, &encode(alias, message));
        self.step()
    }

    fn step(&mut self) -> Vec<Output> {
        let outputs = outputs(&mut self.worker, self.now);
        self.worker.sanity_check();
        outputs
    }

    fn part(&mut self, number: u64, offset: u64, bytes: usize) -> Vec<Output> {
        let part = Part {
            stamp: 1,
            number,
            attempt: 1,
            offset,
            bytes: Bytes::from(vec![7; bytes]),
        };
        self.says(1, &Message::Part(part))
    }

    fn task(&mut self, number: u64, length: u64) -> Vec<Output> {
        let entry = TaskEntry {
            number,
            attempt: 1,
            length: u32::try_from(length).unwrap_or(u32::MAX),
        };
        let tasks = Tasks {
            epoch: 1,
            parted: true,
            entries: vec![entry],
            ..Tasks::default()
        };
        self.says(1, &Message::Tasks(tasks))
    }

    fn finish(&mut self, number: u64) -> Vec<Output> {
        let finished = Finished {
            number,
            attempt: 1,
            outcome: OutcomeCode::Succeeded,
            code: 0,
            start_micros: 0,
            duration_micros: 0,
            output: Bytes::new(),
            spooled: None,
            log: Bytes::new(),
        };
        self.worker.handle_finished(self.now, self.uid, vec![finished]);
        self.step()
    }
}

fn kept(outputs: &[Output]) -> Vec<(PayloadId, usize)> {
    let kept = outputs.iter().filter_map(|output| match output {
        Output::Keep { id, bytes, .. } => Some((*id, bytes.len())),
        _ => None,
    });
    kept.collect()
}

fn discarded(outputs: &[Output]) -> Vec<PayloadId> {
    let discarded = outputs.iter().filter_map(|output| match output {
        Output::Discard { id, .. } => Some(*id),
        _ => None,
    });
    discarded.collect()
}

fn run(outputs: &[Output]) -> Vec<(u64, Attempt, Payload)> {
    let tasks = outputs.iter().filter_map(|output| match output {
        Output::Run { tasks, .. } => Some(tasks),
        _ => None,
    });
    tasks
        .flatten()
        .map(|task| (task.number, task.attempt, task.payload.clone()))
        .collect()
}

fn said(outputs: &[Output]) -> Vec<Message> {
    let sent = outputs.iter().filter_map(|output| match output {
        Output::Link(LinkOutput::Send { frames, .. }) => decode(frames).ok(),
        _ => None,
    });
    sent.map(|(_, message)| message).collect()
}

fn granted(outputs: &[Output]) -> Option<Credit> {
    let credits = said(outputs).into_iter().filter_map(|message| match message {
        Message::Credit(credit) => Some(credit),
        _ => None,
    });
    credits.last()
}

fn malformed(outputs: &[Output]) -> Option<String> {
    said(outputs).into_iter().find_map(|message| match message {
        Message::Bye(Bye {
            code: ByeCode::Malformed,
            reason,
        }) => Some(reason),
        _ => None,
    })
}

#[test]
fn a_payload_is_kept_until_its_task_has_ended() {
    let mut bench = Bench::new();
    let first = bench.part(3, 0, 10);
    let [(id, 10)] = kept(&first)[..] else {
        panic!("{first:?}")
    };
    assert_eq!(kept(&bench.part(3, 10, 5)), [(id, 5)]);
    let begun = bench.task(3, 15);
    assert_eq!(run(&begun), [(3, 1, Payload::Kept { id, length: 15 })]);
    assert_eq!(discarded(&begun), []);
    assert_eq!(discarded(&bench.finish(3)), [id]);
}

#[test]
fn before_its_task_a_number_is_not_held() {
    let mut bench = Bench::new();
    bench.part(3, 0, 10);
    assert_eq!(bench.worker.unfinished(), 0);
    let question = Message::Held(Held {
        serial: 1,
        answer: false,
        spans: vec![(0, 99)],
    });
    let answers = bench.says(1, &question);
    let held = said(&answers).into_iter().find_map(|message| match message {
        Message::Held(held) => Some(held.spans),
        _ => None,
    });
    assert_eq!(held, Some(Vec::new()));
}

#[test]
fn what_another_payload_or_the_end_of_the_link_cuts_off_is_discarded() {
    let mut bench = Bench::new();
    let first = kept(&bench.part(3, 0, 10))[0].0;
    let next = bench.part(4, 0, 10);
    assert_eq!(discarded(&next), [first]);
    let second = kept(&next)[0].0;
    assert_ne!(first, second);
    bench.worker.handle_link_closed(bench.now, bench.link);
    assert_eq!(discarded(&bench.step()), [second]);
}

#[test]
fn another_start_of_the_same_ventilator_gives_up_what_is_open() {
    let mut bench = Bench::new();
    let open = kept(&bench.part(3, 0, 10))[0].0;
    let again = bench.says(2, &Message::Start(Box::new(start(bench.uid, 100))));
    assert_eq!(discarded(&again), [open]);
}

#[test]
fn a_number_that_is_held_already_is_not_kept_twice() {
    let mut bench = Bench::new();
    bench.part(3, 0, 10);
    bench.task(3, 10);
    let again = kept(&bench.part(3, 0, 10))[0].0;
    let taken = bench.task(3, 10);
    assert_eq!((run(&taken), discarded(&taken)), (Vec::new(), vec![again]));
}

#[test]
fn parts_that_do_not_fit_are_malformed() {
    let mut bench = Bench::new();
    let reason = malformed(&bench.part(3, 10, 5)).unwrap_or_default();
    assert_eq!(reason, "a PART of number 3 does not go on where the last one ended");

    let mut bench = Bench::new();
    bench.part(3, 0, 10);
    let reason = malformed(&bench.part(3, 11, 5)).unwrap_or_default();
    assert_eq!(reason, "a PART of number 3 does not go on where the last one ended");

    let mut bench = Bench::new();
    bench.part(3, 0, 10);
    let reason = malformed(&bench.task(3, 11)).unwrap_or_default();
    assert_eq!(reason, "the parts of the payload of number 3 do not fit its task");

    let mut bench = Bench::new();
    let reason = malformed(&bench.task(3, 11)).unwrap_or_default();
    assert_eq!(reason, "the parts of the payload of number 3 do not fit its task");
}

/// Sends parts for as long as bytes are granted, up to the longest payload. Returns what was sent.
fn send_all(bench: &mut Bench, number: u64, granted_before: u64, sent_before: u64) -> (u64, u64) {
    let (mut most, mut sent) = (granted_before, 0);
    while sent < MAX_PARTED && sent_before + sent + PART_BYTES as u64 <= most {
        let outputs = bench.part(number, sent, PART_BYTES);
        sent += PART_BYTES as u64;
        most = granted(&outputs).map_or(most, |credit| credit.bytes_granted.max(most));
    }
    (most, sent)
}

#[test]
fn bytes_are_granted_as_parts_come_in_until_enough_payloads_wait() {
    let mut bench = Bench::new();
    // Backlog 0 voids what was granted.
    let first = granted(&bench.says(1, &want())).map_or(0, |credit| credit.bytes_granted);
    assert!(first > 0);
    let (mut most, mut all) = (first, 0);
    let mut complete = 0;
    for number in 0..6 {
        let (granted, sent) = send_all(&mut bench, number, most, all);
        (most, all) = (granted, all + sent);
        if sent < MAX_PARTED {
            break;
        }
        complete += 1;
        let outputs = bench.task(number, MAX_PARTED);
        most = self::granted(&outputs).map_or(most, |credit| credit.bytes_granted.max(most));
    }
    assert_eq!(
        complete * MAX_PARTED,
        KEPT_PAYLOAD_BYTES,
        "as much as the disk is to hold"
    );
    let outputs = bench.finish(0);
    let more = granted(&outputs).map_or(0, |credit| credit.bytes_granted);
    assert!(
        more > most,
        "a task has ended, so that bytes are granted again: {outputs:?}"
    );
}
