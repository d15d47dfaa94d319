//! The worker machine, message by message.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "the helpers of a test may panic, as the test may"
)]

mod workplace;

use std::time::{Duration, Instant};

use bytes::Bytes;
use harmony_protocol::ids::{BatchUid, LinkId, ProcessId};
use harmony_protocol::limits::PART_BYTES;
use harmony_protocol::wire::{
    Ack, Cancel, Executor, Hello, Message, OutcomeCode, Refused, RefusedCode, Role, decode, encode,
};
use harmony_protocol::worker::{Finished, Only, Output, Piece, Spooled, Worker};
use harmony_protocol::{LinkOutput, VERSIONS};
use uuid::Uuid;

use workplace::{greeted, outputs, start, tasks, want};

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
        spooled: None,
        output: Bytes::new(),
        log: Bytes::new(),
    };
    worker.handle_finished(now, uid, vec![finished]);
    outputs(&mut worker, now);
    assert_eq!(waits(&worker), (2, 300_000));
}

/// Bytes of a spooled output: two whole parts and a bit.
const LENGTH: usize = 2 * PART_BYTES + 5;

/// A worker whose one task has answered more than fits a message, and its collector.
struct Spooling {
    worker: Worker,
    now: Instant,
    uid: BatchUid,
    collector: LinkId,
    alias: u32,
}

impl Spooling {
    fn new() -> Self {
        let (now, uid, link) = (Instant::now(), BatchUid(Uuid::from_u128(1)), LinkId::accepted(1));
        let mut worker = greeted(now, link, Only::default());
        worker.handle_message(now, link, &encode(1, &Message::Start(Box::new(start(uid, 5)))));
        worker.handle_prepared(now, uid, Ok(1));
        worker.handle_message(now, link, &encode(1, &want()));
        let collector = dialled(&outputs(&mut worker, now)).expect("it dials the collector");
        worker.handle_message(now, link, &encode(1, &Message::Tasks(tasks(&[3]))));
        outputs(&mut worker, now);
        let finished = Finished {
            number: 3,
            attempt: 1,
            outcome: OutcomeCode::Succeeded,
            code: 0,
            start_micros: 0,
            duration_micros: 1,
            output: Bytes::new(),
            spooled: Some(Spooled {
                length: u32::try_from(LENGTH).expect("small"),
                checksum: 9,
            }),
            log: Bytes::new(),
        };
        worker.handle_finished(now, uid, vec![finished]);
        let mut spooling = Self {
            worker,
            now,
            uid,
            collector,
            alias: 0,
        };
        spooling.link(collector);
        spooling
    }

    /// The link to the collector stands, and the batch is bound under a new alias.
    fn link(&mut self, link: LinkId) {
        self.collector = link;
        self.worker.handle_link_opened(self.now, link);
        let hello = Hello {
            versions: VERSIONS,
            role: Role::Collector,
            name: "collector".into(),
            process_id: ProcessId(Uuid::from_u128(9)),
            slots: None,
            max_payload: 1,
            heartbeat_millis: 1_000,
        };
        self.worker
            .handle_message(self.now, link, &encode(0, &Message::Hello(hello)));
        self.alias = outputs(&mut self.worker, self.now)
            .iter()
            .filter_map(|output| match output {
                Output::Link(LinkOutput::Send { frames, .. }) => decode(frames).ok(),
                _ => None,
            })
            .find_map(|(alias, message)| matches!(message, Message::Bind(_)).then_some(alias))
            .expect("it binds");
    }

    fn ack(&mut self, sequence: u64, allowance: u64) -> Vec<Output> {
        let ack = Message::Ack(Ack { sequence, allowance });
        self.worker
            .handle_message(self.now, self.collector, &encode(self.alias, &ack));
        self.step()
    }

    fn step(&mut self) -> Vec<Output> {
        let outputs = outputs(&mut self.worker, self.now);
        self.worker.sanity_check();
        outputs
    }

    /// Answers what is asked for until nothing is, and returns what was sent: offset and length of parts, and outcomes.
    fn serve(&mut self, mut outputs: Vec<Output>) -> Vec<String> {
        let mut sent = Vec::new();
        while !outputs.is_empty() {
            for output in std::mem::take(&mut outputs) {
                match output {
                    Output::ReadPiece { uid, piece } => {
                        let bytes = Bytes::from(vec![0; piece.length]);
                        self.worker.handle_piece(self.now, uid, piece, Ok(bytes));
                    }
                    Output::Link(LinkOutput::Send { frames, .. }) => match decode(&frames).expect("well-formed").1 {
                        Message::Part(part) => {
                            sent.push(format!("{} {}+{}", part.stamp, part.offset, part.bytes.len()));
                        }
                        Message::Results(results) => {
                            let entry = results.entries[0];
                            sent.push(format!(
                                "{} {:?} {} {:?}",
                                results.sequence, entry.outcome, entry.output, entry.parted
                            ));
                        }
                        _ => {}
                    },
                    Output::Unspool { number, attempt, .. } => sent.push(format!("unspool {number}@{attempt}")),
                    _ => {}
                }
            }
            outputs = self.step();
        }
        sent
    }
}

fn dialled(outputs: &[Output]) -> Option<LinkId> {
    outputs.iter().find_map(|output| match output {
        Output::Link(LinkOutput::Dial { link, .. }) => Some(*link),
        _ => None,
    })
}

/// What a part weighs beside its bytes.
const HEAD: usize = 32;

#[test]
fn a_spooled_output_goes_ahead_in_parts_and_again_on_a_new_link() {
    let mut spooling = Spooling::new();
    let outputs = spooling.ack(0, 1 << 30);
    let all = [
        format!("1 0+{PART_BYTES}"),
        format!("2 {PART_BYTES}+{PART_BYTES}"),
        format!("3 {}+5", 2 * PART_BYTES),
        format!("4 Succeeded {LENGTH} Some(9)"),
    ];
    assert_eq!(spooling.serve(outputs), all);
    let outputs = spooling.ack(3, 1 << 30);
    assert_eq!(spooling.serve(outputs), [""; 0], "its outcome is not disposed of");
    spooling.worker.handle_link_closed(spooling.now, spooling.collector);
    spooling.now += Duration::from_secs(3);
    let outputs = spooling.step();
    spooling.link(dialled(&outputs).expect("it dials again"));
    let outputs = spooling.ack(0, 1 << 30);
    assert_eq!(spooling.serve(outputs), all, "from the first byte");
    let outputs = spooling.ack(4, 1 << 30);
    assert_eq!(spooling.serve(outputs), ["unspool 3@1"]);
}

#[test]
fn parts_are_cut_to_the_allowance_and_wait_for_it() {
    let mut spooling = Spooling::new();
    let allowance = 64 << 10;
    let outputs = spooling.ack(0, allowance);
    let first = (64 << 10) - HEAD;
    assert_eq!(spooling.serve(outputs), [format!("1 0+{first}")]);
    let outputs = spooling.ack(0, allowance + 4_000);
    assert_eq!(spooling.serve(outputs), [""; 0], "such a small part is not worth it");
    let outputs = spooling.ack(1, 0);
    assert_eq!(spooling.serve(outputs), [""; 0], "the collector pauses");
    let outputs = spooling.ack(1, allowance);
    assert_eq!(spooling.serve(outputs), [format!("2 {first}+{first}")]);
}

#[test]
fn an_output_that_cannot_be_read_back_fails_its_attempt() {
    let mut spooling = Spooling::new();
    let outputs = spooling.ack(0, 1 << 30);
    let asked = outputs.iter().find_map(|output| match output {
        Output::ReadPiece { piece, .. } => Some(*piece),
        _ => None,
    });
    let asked = asked.expect("a piece is asked for");
    let other = Piece { offset: 1, ..asked };
    spooling
        .worker
        .handle_piece(spooling.now, spooling.uid, other, Err("old".into()));
    assert!(spooling.step().is_empty(), "nobody asked for that");
    spooling
        .worker
        .handle_piece(spooling.now, spooling.uid, asked, Err("the disk is gone".into()));
    let outputs = spooling.step();
    assert_eq!(spooling.serve(outputs), ["unspool 3@1", "1 ExecutorError 0 None"]);
}
