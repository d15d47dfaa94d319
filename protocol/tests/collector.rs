//! The collector machine, message by message.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "the helpers of a test may panic, as the test may"
)]

use std::time::Instant;

use harmony_protocol::collector::{Answer, BatchState, Collector, Config, Kept, Opened, Output, Write};
use harmony_protocol::ids::{BatchUid, InstanceId, LinkId, LogId, ProcessId};
use harmony_protocol::limits::{COMMIT_WITHIN, DISK_FULL_PAUSE, UNLOAD_AFTER};
use harmony_protocol::wire::{
    Bind, Bye, ByeCode, End, Hello, Loss, Lost, Message, OutcomeCode, Part, Policy, RefusedCode, ResultEntry, Results,
    Role, Start, decode, encode,
};
use harmony_protocol::{Identity, LinkOutput, VERSIONS};
use uuid::Uuid;

const UID: BatchUid = BatchUid(Uuid::from_u128(1));
const OTHER: BatchUid = BatchUid(Uuid::from_u128(4));

/// A collector, and the time.
struct Stage {
    machine: Collector,
    now: Instant,
}

impl Stage {
    fn new() -> Self {
        let now = Instant::now();
        let identity = Identity {
            role: Role::Collector,
            name: "collector".into(),
            process_id: ProcessId(Uuid::from_u128(2)),
            slots: None,
        };
        Self {
            machine: Collector::new(Config::new(identity, (now, 0))),
            now,
        }
    }

    /// A peer that has greeted.
    fn link(&mut self, n: u64, role: Role) -> LinkId {
        let link = LinkId::accepted(n);
        self.machine.handle_link_opened(self.now, link);
        let hello = Hello {
            versions: VERSIONS,
            role,
            name: format!("peer-{n}"),
            process_id: ProcessId(Uuid::from_u128(100 + u128::from(n))),
            slots: None,
            max_payload: 1,
            heartbeat_millis: 1_000,
        };
        self.tell(link, 0, &Message::Hello(hello));
        link
    }

    fn tell(&mut self, link: LinkId, alias: u32, message: &Message) {
        self.machine.handle_message(self.now, link, &encode(alias, message));
    }

    fn outputs(&mut self) -> Vec<Output> {
        let outputs = std::iter::from_fn(|| self.machine.poll_output(self.now)).collect();
        self.machine.sanity_check();
        outputs
    }

    /// The messages that leave on a link.
    fn said(&mut self, link: LinkId) -> Vec<Message> {
        let sent = self.outputs().into_iter().filter_map(|output| match output {
            Output::Link(LinkOutput::Send { link: to, frames }) if to == link => Some(frames),
            _ => None,
        });
        sent.map(|frames| decode(&frames).expect("machines send what can be read").1)
            .collect()
    }

    /// Serves the disk until nothing more is asked of it, and returns all outputs.
    fn settle(&mut self) -> Vec<Output> {
        let mut all = Vec::new();
        loop {
            let outputs = self.outputs();
            if outputs.is_empty() {
                return all;
            }
            for output in &outputs {
                match output {
                    Output::Open { uid, .. } => self.machine.handle_opened(self.now, *uid, opened()),
                    Output::Write { .. } => self.now += COMMIT_WITHIN,
                    Output::Sync { uid, sequence } => self.machine.handle_synced(self.now, *uid, *sequence),
                    _ => {}
                }
            }
            all.extend(outputs);
        }
    }

    /// A ventilator that has started a batch of so many tasks.
    fn client(&mut self, n: u64, uid: BatchUid, completions: u64) -> LinkId {
        let link = self.link(n, Role::Ventilator);
        self.tell(link, 1, &start(uid, 1, completions));
        self.settle();
        link
    }
}

/// Each epoch has an instance of its own.
fn start(uid: BatchUid, epoch: u64, completions: u64) -> Message {
    Message::Start(Box::new(Start {
        uid,
        name: "batch".into(),
        epoch,
        instance: InstanceId(Uuid::from_u128(5 << 8 | u128::from(epoch))),
        completions: Some(completions),
        policy: Some(Policy {
            backoff_limit_per_index: 0,
            max_bytes_per_task: 1,
        }),
        work: None,
    }))
}

fn opened() -> Opened {
    Opened::Batch {
        state: Box::new(BatchState::default()),
        log_id: LogId(Uuid::from_u128(3)),
    }
}

fn success(sequence: u64, number: u64) -> Message {
    let entry = ResultEntry {
        number,
        attempt: 1,
        outcome: OutcomeCode::Succeeded,
        code: 0,
        start_micros: 0,
        duration_micros: 0,
        output: 0,
        log: 0,
        parted: None,
    };
    Message::Results(Results {
        sequence,
        entries: vec![entry],
        ..Results::default()
    })
}

#[test]
fn a_batch_that_nobody_uses_is_unloaded_and_comes_back() {
    let mut stage = Stage::new();
    let client = stage.client(1, UID, 10);
    let worker = stage.link(2, Role::Worker);
    stage.tell(worker, 1, &Message::Bind(Bind { uid: UID }));
    stage.tell(worker, 1, &success(1, 3));
    stage.settle();
    stage.machine.handle_link_closed(stage.now, client);
    stage.settle();
    let due = stage.machine.poll_timeout().expect("heartbeats");
    assert!(due < stage.now + UNLOAD_AFTER, "the worker's link still has heartbeats");
    let unused_since = stage.now;
    stage.now += UNLOAD_AFTER / 2;
    stage.machine.handle_timeout(stage.now);
    assert!(stage.machine.batch(UID).is_some(), "it is too early");
    stage.now = unused_since + UNLOAD_AFTER;
    stage.machine.handle_timeout(stage.now);
    assert!(stage.machine.batch(UID).is_none());
    let outputs = stage.outputs();
    assert!(
        outputs
            .iter()
            .any(|output| matches!(output, Output::Close { uid } if *uid == UID)),
        "{outputs:?}"
    );
    // The worker does not know: it is refused, and what it has is kept until it has bound anew.
    stage.tell(worker, 1, &success(2, 4));
    let said = stage.said(worker);
    assert!(
        matches!(&said[..], [Message::Refused(refused)] if refused.code == RefusedCode::NotStarted),
        "{said:?}"
    );
    stage.tell(worker, 2, &Message::Bind(Bind { uid: UID }));
    let outputs = stage.outputs();
    assert!(
        matches!(&outputs[..], [Output::Open { uid, create: false }] if *uid == UID),
        "{outputs:?}"
    );
}

#[test]
fn one_batch_is_read_back_at_a_time() {
    let mut stage = Stage::new();
    let clients = [(UID, stage.client(1, UID, 1)), (OTHER, stage.client(2, OTHER, 1))];
    let worker = stage.link(3, Role::Worker);
    for (alias, (uid, client)) in (1..).zip(clients) {
        stage.tell(worker, alias, &Message::Bind(Bind { uid }));
        stage.tell(worker, alias, &success(1, 0));
        let end = End {
            epoch: 1,
            completions: 1,
        };
        stage.tell(client, 1, &Message::End(end));
    }
    let reads = |outputs: Vec<Output>| -> Vec<BatchUid> {
        let reads = outputs.into_iter().filter_map(|output| match output {
            Output::ReadBack { uid } => Some(uid),
            _ => None,
        });
        reads.collect()
    };
    let outputs = stage.settle();
    assert_eq!(reads(outputs), [UID], "the other one waits");
    stage.machine.handle_read_back(stage.now, UID, Vec::new(), 0);
    let outputs = stage.settle();
    assert_eq!(reads(outputs), [OTHER]);
}

#[test]
fn a_log_without_a_claim_takes_no_outcomes() {
    let mut stage = Stage::new();
    let worker = stage.link(1, Role::Worker);
    stage.tell(worker, 1, &Message::Bind(Bind { uid: UID }));
    stage.machine.handle_opened(stage.now, UID, opened());
    let said = stage.said(worker);
    assert!(
        said.iter()
            .any(|m| matches!(m, Message::Refused(r) if r.code == RefusedCode::NotStarted)),
        "BIND to a log that nobody claimed: {said:?}"
    );
}

#[test]
fn a_late_start_of_a_lower_epoch_fences_nobody_after_the_end() {
    let mut stage = Stage::new();
    let first = stage.client(1, UID, 0);
    let end = End {
        epoch: 1,
        completions: 0,
    };
    stage.tell(first, 1, &Message::End(end));
    stage.settle();
    stage.machine.handle_read_back(stage.now, UID, Vec::new(), 0);
    // The end is recorded and not durable yet when a third ventilator comes, and then what the second one had sent.
    let (second, third) = (stage.link(2, Role::Ventilator), stage.link(3, Role::Ventilator));
    stage.tell(third, 1, &start(UID, 3, 0));
    stage.tell(second, 1, &start(UID, 2, 0));
    let outputs = stage.settle();
    let told = |link: LinkId| {
        let sent = outputs.iter().filter_map(move |output| match output {
            Output::Link(LinkOutput::Send { link: to, frames }) if *to == link => Some(frames),
            _ => None,
        });
        sent.map(|frames| decode(frames).expect("machines send what can be read").1)
            .collect::<Vec<_>>()
    };
    for link in [first, second, third] {
        let told = told(link);
        assert!(told.iter().any(|m| matches!(m, Message::Done(_))), "{told:?}");
        assert!(!told.iter().any(|m| matches!(m, Message::Refused(_))), "{told:?}");
    }
}

#[test]
fn what_has_ended_answers_end_with_done_in_any_epoch() {
    let mut stage = Stage::new();
    let first = stage.client(1, UID, 0);
    let end = |epoch| Message::End(End { epoch, completions: 0 });
    stage.tell(first, 1, &end(1));
    stage.settle();
    stage.machine.handle_read_back(stage.now, UID, Vec::new(), 0);
    stage.settle();
    let second = stage.link(2, Role::Ventilator);
    stage.tell(second, 1, &start(UID, 2, 0));
    stage.settle();
    stage.tell(second, 1, &end(2));
    let said = stage.said(second);
    assert!(matches!(said[..], [Message::Done(_)]), "{said:?}");
}

#[test]
fn a_log_that_finds_no_room_is_opened_when_there_is_some() {
    let mut stage = Stage::new();
    let client = stage.link(1, Role::Ventilator);
    stage.tell(client, 1, &start(UID, 1, 1));
    let opens = |outputs: &[Output]| {
        outputs
            .iter()
            .filter(|output| matches!(output, Output::Open { .. }))
            .count()
    };
    assert_eq!(opens(&stage.outputs()), 1);
    stage.machine.handle_opened(stage.now, UID, Opened::Later);
    assert_eq!(opens(&stage.outputs()), 0, "not before a pause");
    stage.now += DISK_FULL_PAUSE;
    assert!(stage.machine.poll_timeout().is_some_and(|at| at <= stage.now));
    stage.machine.handle_timeout(stage.now);
    let outputs = stage.settle();
    assert_eq!(opens(&outputs), 1);
    let refused = |output: &Output| {
        let Output::Link(LinkOutput::Send { frames, .. }) = output else {
            return false;
        };
        matches!(decode(frames), Ok((_, Message::Refused(_))))
    };
    assert!(!outputs.iter().any(refused), "the ventilator only waits");
}

#[test]
fn totals_are_told_when_they_are_durable() {
    let mut stage = Stage::new();
    let client = stage.client(1, UID, 3);
    let worker = stage.link(2, Role::Worker);
    stage.tell(worker, 1, &Message::Bind(Bind { uid: UID }));
    stage.tell(worker, 1, &success(1, 0));
    stage.outputs();
    stage.now += COMMIT_WITHIN;
    let outputs = stage.outputs();
    let synced = outputs.iter().find_map(|output| match output {
        Output::Sync { sequence, .. } => Some(*sequence),
        _ => None,
    });
    stage.tell(worker, 1, &success(2, 1));
    let synced = synced.expect("the first outcome is being made durable");
    stage.machine.handle_synced(stage.now, UID, synced);
    let said = stage.said(client);
    let report = said.iter().find_map(|message| match message {
        Message::Report(report) => Some((report.counts.succeeded, report.lowest_missing)),
        _ => None,
    });
    assert_eq!(report, Some((1, 1)), "{said:?}");
}

/// An attempt that took so long, with an output of one byte.
fn outcome(number: u64, outcome: OutcomeCode, duration_micros: u64) -> ResultEntry {
    ResultEntry {
        number,
        attempt: 1,
        outcome,
        code: 0,
        start_micros: 0,
        duration_micros,
        output: 1,
        log: 0,
        parted: None,
    }
}

#[test]
fn durations_and_reasons_are_of_what_is_recorded() {
    let mut stage = Stage::new();
    let client = stage.client(1, UID, 10);
    let worker = stage.link(2, Role::Worker);
    stage.tell(worker, 1, &Message::Bind(Bind { uid: UID }));
    stage.settle();
    let entries = vec![
        outcome(0, OutcomeCode::Succeeded, 900),
        outcome(1, OutcomeCode::DeadlineExceeded, 2_000_000),
        outcome(0, OutcomeCode::Succeeded, 800),
    ];
    let results = Results {
        sequence: 1,
        entries,
        bytes: "abc".into(),
    };
    stage.tell(worker, 1, &Message::Results(results));
    let of_batch = |stage: &Stage| stage.machine.snapshot().batches[0].unflushed;
    assert_eq!(of_batch(&stage), 2, "nothing is durable yet");
    let failed = |stage: &Stage| stage.machine.snapshot().tally.failed.values().sum::<u64>();
    assert_eq!(failed(&stage), 0, "what may be lost is not counted");
    stage.settle();
    assert_eq!(of_batch(&stage), 0);
    let unsendable = Loss::Unsendable {
        number: 2,
        attempt: 1,
        reason: "too large".into(),
    };
    let lost = Lost {
        epoch: 1,
        loss: unsendable,
    };
    stage.tell(client, 1, &Message::Lost(lost));
    stage.settle();
    let expect = |stage: &Stage| {
        let tally = stage.machine.snapshot().tally;
        let durations = (tally.durations.count(), tally.durations.total_micros());
        assert_eq!(
            durations,
            (2, 2_000_900),
            "a duplicate, and what never ran, took no time"
        );
        assert_eq!(tally.bytes, 3, "a duplicate takes its room on the link, too");
        for (reason, count) in &tally.failed {
            let expected = u64::from(["DeadlineExceeded", "PayloadTooLarge"].contains(reason));
            assert_eq!(*count, expected, "{reason}");
        }
        assert_eq!(tally.failed.len(), OutcomeCode::FAILURES.len());
    };
    expect(&stage);
    for link in [client, worker] {
        stage.machine.handle_link_closed(stage.now, link);
    }
    stage.now += UNLOAD_AFTER;
    stage.machine.handle_timeout(stage.now);
    assert!(stage.machine.snapshot().batches.is_empty());
    expect(&stage);
}

/// Bytes of an output that comes in two parts.
const LONG: &[u8] = b"an output in two parts";
const CUT: usize = 5;

impl Stage {
    /// A worker that has bound the batch under alias 1.
    fn bound(&mut self, n: u64) -> LinkId {
        let link = self.link(n, Role::Worker);
        self.tell(link, 1, &Message::Bind(Bind { uid: UID }));
        self.settle();
        link
    }

    fn part(&mut self, link: LinkId, stamp: u64, number: u64, offset: usize) {
        let end = if offset == 0 { CUT } else { LONG.len() };
        let part = Part {
            stamp,
            number,
            attempt: 1,
            offset: offset as u64,
            bytes: LONG[offset..end].into(),
        };
        self.tell(link, 1, &Message::Part(part));
    }

    fn long_success(&mut self, link: LinkId, sequence: u64, number: u64) {
        let Message::Results(mut results) = success(sequence, number) else {
            unreachable!("it is RESULTS")
        };
        for entry in &mut results.entries {
            entry.output = 22;
            entry.parted = Some(crc32c::crc32c(LONG));
        }
        self.tell(link, 1, &Message::Results(results));
    }
}

/// Of these outputs those that are about an output's file.
fn file_work(outputs: &[Output]) -> Vec<String> {
    let work = outputs.iter().filter_map(|output| match output {
        Output::Write {
            write: Write::Part { output, offset, bytes },
            ..
        } => Some(format!("part {output} at {offset}: {}", bytes.len())),
        Output::Discard { output, .. } => Some(format!("discard {output}")),
        Output::Write {
            write:
                Write::Record {
                    keeps: Some(Kept { output, number }),
                    ..
                },
            ..
        } => Some(format!("keep {output} of {number}")),
        Output::Compare {
            answer: Answer::Parted { length, .. },
            ..
        } => Some(format!("compare {length}")),
        _ => None,
    });
    work.collect()
}

fn acks(said: &[Message]) -> Vec<u64> {
    let acks = said.iter().filter_map(|message| match message {
        Message::Ack(ack) => Some(ack.sequence),
        _ => None,
    });
    acks.collect()
}

fn is_blamed(said: &[Message], what: &str) -> bool {
    let blames = |message: &Message| matches!(message, Message::Bye(Bye { code: ByeCode::Malformed, reason }) if reason.contains(what));
    said.iter().any(blames)
}

#[test]
fn an_output_in_parts_is_written_as_it_comes_and_kept_with_its_outcome() {
    let mut stage = Stage::new();
    stage.client(1, UID, 2);
    let worker = stage.bound(2);
    stage.part(worker, 1, 0, 0);
    stage.part(worker, 2, 0, CUT);
    assert_eq!(file_work(&stage.outputs()), ["part 1 at 0: 5", "part 1 at 5: 17"]);
    stage.long_success(worker, 3, 0);
    let outputs = stage.outputs();
    assert_eq!(file_work(&outputs), ["keep 1 of 0"]);
    assert!(
        outputs.iter().all(|output| !matches!(output, Output::Link(_))),
        "nothing is durable: {outputs:?}"
    );
    stage.now += COMMIT_WITHIN;
    let sync = stage.outputs().into_iter().find_map(|output| match output {
        Output::Sync { sequence, .. } => Some(sequence),
        _ => None,
    });
    stage
        .machine
        .handle_synced(stage.now, UID, sync.expect("a commit is due"));
    assert_eq!(acks(&stage.said(worker)), [3]);
    assert_eq!(stage.machine.batch(UID).map(|state| state.counts().succeeded), Some(1));
}

#[test]
fn an_output_goes_with_its_link_or_when_its_worker_gives_it_up() {
    let mut stage = Stage::new();
    stage.client(1, UID, 9);
    let worker = stage.bound(2);
    stage.part(worker, 1, 0, 0);
    stage.part(worker, 2, 3, 0);
    assert_eq!(
        file_work(&stage.outputs()),
        ["discard 1", "part 1 at 0: 0", "part 2 at 0: 5"]
    );
    stage.tell(worker, 1, &success(3, 4));
    assert_eq!(file_work(&stage.outputs()), ["discard 2"]);
    stage.part(worker, 4, 5, 0);
    stage.settle();
    stage.machine.handle_link_closed(stage.now, worker);
    assert_eq!(file_work(&stage.outputs()), ["discard 3"]);
    let another = stage.bound(3);
    stage.part(another, 1, 5, 0);
    stage.settle();
    stage.machine.handle_shutdown(stage.now);
    assert_eq!(file_work(&stage.outputs()), ["discard 4"]);
}

#[test]
fn an_output_of_a_settled_number_is_compared_and_not_stored() {
    let mut stage = Stage::new();
    stage.client(1, UID, 9);
    let (worker, other) = (stage.bound(2), stage.bound(3));
    stage.part(worker, 1, 0, 0);
    stage.settle();
    stage.tell(other, 1, &success(1, 0));
    stage.settle();
    stage.part(worker, 2, 0, CUT);
    assert_eq!(file_work(&stage.settle()), ["discard 1"], "it was settled meanwhile");
    stage.long_success(worker, 3, 0);
    assert_eq!(file_work(&stage.settle()), ["compare 22"]);
    stage.part(worker, 4, 0, 0);
    stage.part(worker, 5, 0, CUT);
    stage.long_success(worker, 6, 0);
    let outputs = stage.settle();
    assert_eq!(file_work(&outputs), ["compare 22"]);
    assert_eq!(stage.machine.counts(UID).map(|counts| counts.duplicates), Some(2));
}

#[test]
fn parts_that_do_not_fit_are_malformed() {
    let blamed = |play: &dyn Fn(&mut Stage, LinkId), what: &str| {
        let mut stage = Stage::new();
        stage.client(1, UID, 9);
        let worker = stage.bound(2);
        play(&mut stage, worker);
        let outputs = stage.outputs();
        assert!(
            file_work(&outputs).iter().all(|work| !work.contains("keep")),
            "{outputs:?}"
        );
        let said = outputs.into_iter().filter_map(|output| match output {
            Output::Link(LinkOutput::Send { link, frames }) if link == worker => decode(&frames).ok(),
            _ => None,
        });
        let said: Vec<_> = said.map(|(_, message)| message).collect();
        assert!(is_blamed(&said, what), "{what}: {said:?}");
    };
    blamed(&|stage, worker| stage.part(worker, 1, 0, CUT), "due is byte 0");
    blamed(&|stage, worker| stage.part(worker, 2, 0, 0), "2 follow number 0");
    blamed(
        &|stage, worker| {
            stage.part(worker, 1, 0, 0);
            stage.part(worker, 2, 7, CUT);
        },
        "of number 0",
    );
    blamed(
        &|stage, worker| {
            stage.part(worker, 1, 0, 0);
            stage.long_success(worker, 2, 0);
        },
        "those were others",
    );
    blamed(&|stage, worker| stage.long_success(worker, 1, 0), "those were others");
}

#[test]
fn parts_that_a_full_disk_refused_are_written_again_in_order() {
    let mut stage = Stage::new();
    stage.client(1, UID, 9);
    let worker = stage.bound(2);
    stage.part(worker, 1, 0, 0);
    stage.part(worker, 2, 0, CUT);
    let first = stage.outputs().into_iter().find_map(|output| match output {
        Output::Write {
            sequence,
            write: Write::Part { .. },
            ..
        } => Some(sequence),
        _ => None,
    });
    let first = first.expect("parts are written");
    stage.machine.handle_disk_full(stage.now, UID, first);
    stage.machine.handle_disk_full(stage.now, UID, first + 1);
    assert_eq!(file_work(&stage.outputs()), [""; 0]);
    stage.now += DISK_FULL_PAUSE;
    assert_eq!(file_work(&stage.outputs()), ["part 1 at 0: 5", "part 1 at 5: 17"]);
}

#[test]
fn an_output_that_was_not_stored_and_is_missed_by_now_is_asked_for_again() {
    let mut stage = Stage::new();
    let client = stage.client(1, UID, 1);
    let (worker, other) = (stage.bound(2), stage.bound(3));
    stage.tell(other, 1, &success(1, 0));
    stage.settle();
    stage.part(worker, 1, 0, 0);
    stage.part(worker, 2, 0, CUT);
    stage.tell(
        client,
        1,
        &Message::End(End {
            epoch: 1,
            completions: 1,
        }),
    );
    stage.settle();
    stage.machine.handle_read_back(stage.now, UID, vec![(0, 0)], 0);
    stage.settle();
    stage.long_success(worker, 3, 0);
    let said = stage.said(worker);
    let refused =
        |message: &Message| matches!(message, Message::Refused(refused) if refused.code == RefusedCode::NotStarted);
    assert!(said.iter().any(refused), "{said:?}");
    stage.tell(worker, 2, &Message::Bind(Bind { uid: UID }));
    stage.settle();
    assert_eq!(stage.machine.batch(UID).map(|state| state.counts().succeeded), Some(0));
}
