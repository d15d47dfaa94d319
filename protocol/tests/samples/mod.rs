//! One message of each kind, by name: what the golden files and the examples of `docs/protocol.md` stand for.

use bytes::Bytes;
use harmony_protocol::ids::{Alias, BatchUid, InstanceId, LogId, ProcessId};
use harmony_protocol::wire::{
    Ack, Addressed, Bind, Bye, ByeCode, Cancel, CollectorState, Counts, Credit, Deaths, Done, End, Ending, Executor,
    Failure, Framing, Health, Held, Hello, Holding, Loss, Lost, Message, Missing, OutcomeCode, Part, Ping, Policy,
    Pong, Refused, RefusedCode, Report, ResultEntry, Results, Retry, Return, ReturnCause, Role, Start, State,
    StateBody, TaskEntry, Tasks, Unbound, Want, Work, WorkerState,
};
use uuid::Uuid;

/// The alias of all samples that concern a batch.
const ALIAS: Alias = 7;
const UID: BatchUid = BatchUid(Uuid::from_u128(0x0192_7f3a_5b00_7000_8000_0000_0000_0001));
const VENTILATOR: InstanceId = InstanceId(Uuid::from_u128(0x5f0c_2f6e_9d1b_4c43_8a54_0000_0000_00aa));
const WORKER: ProcessId = ProcessId(Uuid::from_u128(0x9b2d_6f10_33aa_4e0f_b1c8_0000_0000_00bb));
const LOG: LogId = LogId(Uuid::from_u128(0x77e1_0d52_8c4e_4b7d_9f02_0000_0000_00cc));
const COUNTS: Counts = Counts {
    succeeded: 997,
    failed: 1,
    duplicates: 3,
    differing: 0,
    charged: 6,
    damaged: 0,
};

/// Every sample with its name.
pub(crate) fn all() -> Vec<(&'static str, Addressed)> {
    let link = openings().into_iter().chain(farewells());
    link.chain(batch_controls())
        .chain(collector_controls())
        .chain(hot())
        .chain(parted())
        .collect()
}

fn openings() -> Vec<(&'static str, Addressed)> {
    let hello = Hello {
        versions: (1, 1),
        role: Role::Worker,
        name: "worker-3".to_owned(),
        process_id: WORKER,
        slots: Some(2),
        max_payload: 1 << 30,
        heartbeat_millis: 1_000,
    };
    let start = Start {
        uid: UID,
        name: "checksums".to_owned(),
        epoch: 4,
        instance: VENTILATOR,
        completions: Some(1_000),
        policy: None,
        work: None,
    };
    let policy = Policy {
        backoff_limit_per_index: 3,
        max_bytes_per_task: 16_777_216,
    };
    let command = vec!["sh".to_owned(), "-c".to_owned(), "sha256sum $(cat)".to_owned()];
    let work = |executor| Work {
        executor,
        collector: "unix:/run/harmony/c.sock".to_owned(),
        max_bytes_per_task: 16_777_216,
        deadline_millis: Some(60_000),
    };
    let exec = Start {
        work: Some(work(Executor::Exec {
            command: command.clone(),
        })),
        ..start.clone()
    };
    let lines = Executor::Process {
        command: vec!["python3".to_owned(), "filter.py".to_owned()],
        framing: Framing::Lines,
    };
    let lines = Start {
        completions: None,
        work: Some(work(lines)),
        ..start.clone()
    };
    vec![
        ("hello", (0, Message::Hello(hello))),
        (
            "start-collector",
            (
                ALIAS,
                Message::Start(Box::new(Start {
                    policy: Some(policy),
                    ..start
                })),
            ),
        ),
        ("start-worker", (ALIAS, Message::Start(Box::new(exec)))),
        ("start-worker-lines", (ALIAS, Message::Start(Box::new(lines)))),
        ("bind", (ALIAS, Message::Bind(Bind { uid: UID }))),
    ]
}

fn farewells() -> Vec<(&'static str, Addressed)> {
    let unbound = vec![Unbound {
        alias: ALIAS,
        millis: 2_500,
    }];
    let bye = Bye {
        code: ByeCode::Malformed,
        reason: "TASKS has attempt 0 of number 5".to_owned(),
    };
    vec![
        (
            "ping",
            (
                0,
                Message::Ping(Ping {
                    nonce: 42,
                    unbound,
                    blocked: Some(1_048_576),
                }),
            ),
        ),
        ("pong", (0, Message::Pong(Pong { nonce: 42 }))),
        ("bye", (0, Message::Bye(bye))),
    ]
}

fn batch_controls() -> Vec<(&'static str, Addressed)> {
    let holding = |first, last, attempt| Holding { first, last, attempt };
    let death = Loss::Death {
        process_id: WORKER,
        worker: "worker-3".to_owned(),
        alone: false,
        held: vec![holding(120, 180, 1), holding(77, 77, 2)],
    };
    let unsendable = Loss::Unsendable {
        number: 9,
        attempt: 1,
        reason: "its payload has 20000000 bytes".to_owned(),
    };
    let state = WorkerState {
        held: vec![holding(120, 180, 1), holding(77, 77, 2)],
    };
    vec![
        (
            "state-worker",
            (
                ALIAS,
                Message::State(Box::new(State {
                    last: true,
                    body: StateBody::Worker(state),
                })),
            ),
        ),
        (
            "held",
            (
                ALIAS,
                Message::Held(Held {
                    serial: 3,
                    answer: true,
                    spans: vec![(120, 180), (300, 300)],
                }),
            ),
        ),
        (
            "end",
            (
                ALIAS,
                Message::End(End {
                    epoch: 4,
                    completions: 1_000,
                }),
            ),
        ),
        ("lost-death", (ALIAS, Message::Lost(Lost { epoch: 4, loss: death }))),
        (
            "lost-unsendable",
            (
                ALIAS,
                Message::Lost(Lost {
                    epoch: 4,
                    loss: unsendable,
                }),
            ),
        ),
        (
            "return",
            (
                ALIAS,
                Message::Return(Return {
                    cause: ReturnCause::Drain,
                    tasks: vec![holding(181, 199, 1)],
                }),
            ),
        ),
        (
            "cancel",
            (
                ALIAS,
                Message::Cancel(Cancel {
                    epoch: 4,
                    spans: Some(vec![(77, 77)]),
                    reason: "settled".to_owned(),
                }),
            ),
        ),
    ]
}

fn collector_controls() -> Vec<(&'static str, Addressed)> {
    let retry = Retry {
        number: 42,
        attempt: 2,
        delay_millis: 400,
    };
    let state = CollectorState {
        log_id: LOG,
        epoch: 4,
        instance: Some(VENTILATOR),
        completions: Some(1_000),
        succeeded: vec![(0, 41), (43, 60)],
        failed: vec![(61, 61)],
        retries: vec![retry],
        deaths: vec![Deaths { number: 42, count: 1 }],
    };
    let refused = Refused {
        code: RefusedCode::Fenced,
        epoch: 5,
        reason: "epoch 5 of another ventilator is known".to_owned(),
    };
    let report = Report {
        succeeded: vec![(62, 90)],
        failed: vec![],
        counts: COUNTS,
        lowest_missing: 42,
        retries: vec![retry],
        health: Health::DiskFull,
        failures: vec![],
    };
    let failing = Report {
        succeeded: vec![],
        failed: vec![(17, 17)],
        counts: COUNTS,
        lowest_missing: 42,
        retries: vec![],
        health: Health::Ok,
        failures: vec![Failure {
            number: 17,
            attempt: 3,
            reason: "ExitCode".to_owned(),
            code: 2,
            worker: "worker-1".to_owned(),
            log: "cannot open input".to_owned(),
        }],
    };
    let done = |ending| {
        Message::Done(Done {
            ending,
            counts: COUNTS,
            digest: 3_735_928_559,
        })
    };
    vec![
        (
            "state-collector",
            (
                ALIAS,
                Message::State(Box::new(State {
                    last: false,
                    body: StateBody::Collector(state),
                })),
            ),
        ),
        ("refused", (ALIAS, Message::Refused(refused))),
        ("report", (ALIAS, Message::Report(Box::new(report)))),
        ("report-failures", (ALIAS, Message::Report(Box::new(failing)))),
        (
            "missing",
            (
                ALIAS,
                Message::Missing(Missing {
                    spans: vec![(42, 42), (91, 99)],
                    more: false,
                }),
            ),
        ),
        ("done", (ALIAS, done(Ending::Complete))),
        (
            "done-cancelled",
            (
                ALIAS,
                done(Ending::Cancelled("activeDeadlineSeconds passed".to_owned())),
            ),
        ),
    ]
}

fn hot() -> Vec<(&'static str, Addressed)> {
    let tasks = Tasks {
        epoch: 4,
        alone: false,
        backup: true,
        parted: false,
        entries: vec![
            TaskEntry {
                number: 42,
                attempt: 1,
                length: 5,
            },
            TaskEntry {
                number: 43,
                attempt: 2,
                length: 0,
            },
            TaskEntry {
                number: 1_000_000_000,
                attempt: 1,
                length: 2,
            },
        ],
        payloads: Bytes::from_static(b"hello42"),
    };
    let parted = Tasks {
        epoch: 4,
        parted: true,
        entries: vec![TaskEntry {
            number: 42,
            attempt: 1,
            length: 2_000_000,
        }],
        ..Tasks::default()
    };
    let succeeded = ResultEntry {
        number: 42,
        attempt: 1,
        outcome: OutcomeCode::Succeeded,
        code: 0,
        start_micros: 1_767_225_600_000_000,
        duration_micros: 1_500,
        output: 5,
        log: 0,
        parted: None,
    };
    let killed = ResultEntry {
        number: 43,
        attempt: 2,
        outcome: OutcomeCode::Signal,
        code: 9,
        start_micros: 1_767_225_600_250_000,
        duration_micros: 2_000_000,
        output: 0,
        log: 4,
        parted: None,
    };
    let results = Results {
        sequence: 17,
        entries: vec![succeeded, killed],
        bytes: Bytes::from_static(b"HELLOoops"),
    };
    let want = Want {
        serial: 2,
        backlog: 958,
        tasks_sent: 42,
        bytes_sent: 210,
    };
    let credit = Credit {
        serial: 2,
        tasks_granted: 298,
        bytes_granted: 1_048_786,
        alone: Some((43, 2)),
    };
    vec![
        ("want", (ALIAS, Message::Want(want))),
        ("credit", (ALIAS, Message::Credit(credit))),
        ("tasks", (ALIAS, Message::Tasks(tasks))),
        ("tasks-parted", (ALIAS, Message::Tasks(parted))),
        ("results", (ALIAS, Message::Results(results))),
        (
            "ack",
            (
                ALIAS,
                Message::Ack(Ack {
                    sequence: 17,
                    allowance: 8_388_608,
                }),
            ),
        ),
    ]
}

fn parted() -> [(&'static str, Addressed); 2] {
    let results = Results {
        sequence: 20,
        entries: vec![ResultEntry {
            number: 42,
            attempt: 1,
            outcome: OutcomeCode::Succeeded,
            code: 0,
            start_micros: 1_767_225_600_000_000,
            duration_micros: 1_500,
            output: 2_000_000,
            log: 0,
            parted: Some(0x1234_5678),
        }],
        bytes: Bytes::new(),
    };
    let part = Part {
        stamp: 17,
        number: 42,
        attempt: 1,
        offset: 1_048_576,
        bytes: Bytes::from_static(b"HELLO"),
    };
    [
        ("results-parted", (ALIAS, Message::Results(results))),
        ("part", (ALIAS, Message::Part(part))),
    ]
}
