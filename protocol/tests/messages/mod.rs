//! Random messages that keep to the protocol.

use bytes::Bytes;
use harmony_protocol::ids::{Alias, BatchUid, InstanceId, LogId, ProcessId};
use harmony_protocol::wire::{
    Ack, Addressed, Bind, Bye, ByeCode, Cancel, CollectorState, Counts, Credit, Deaths, Done, End, Ending, Executor,
    Failure, Framing, Health, Held, Hello, Holding, Loss, Lost, Message, Missing, OutcomeCode, Part, Ping, Policy,
    Pong, Refused, RefusedCode, Report, ResultEntry, Results, Retry, Return, ReturnCause, Role, Span, Start, State,
    StateBody, TaskEntry, Tasks, Unbound, Want, Work, WorkerState,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use uuid::Uuid;

/// Any message under an alias that it may bear.
pub(crate) fn addressed() -> impl Strategy<Value = Addressed> {
    prop_oneof![
        (
            Just(0),
            prop_oneof![
                hello(),
                ping(),
                any::<u64>().prop_map(|nonce| Message::Pong(Pong { nonce })),
                bye()
            ]
        ),
        (
            1..=Alias::MAX,
            prop_oneof![
                start(),
                any_id().prop_map(|id| Message::Bind(Bind { uid: BatchUid(id) }))
            ]
        ),
        (
            any::<Alias>(),
            prop_oneof![state(), refused(), report(), held(), end(), missing()]
        ),
        (any::<Alias>(), prop_oneof![done(), lost(), hand_back(), cancel()]),
        (
            any::<Alias>(),
            prop_oneof![want(), credit(), tasks(), results(), ack(), part()]
        ),
    ]
}

fn any_id() -> impl Strategy<Value = Uuid> {
    any::<u128>().prop_map(Uuid::from_u128)
}

fn text() -> impl Strategy<Value = String> {
    "\\PC{0,24}"
}

fn number() -> impl Strategy<Value = u64> {
    prop_oneof![0..2_000_u64, 0..u64::MAX]
}

fn span() -> impl Strategy<Value = Span> {
    (number(), number()).prop_map(|(a, b)| (a.min(b), a.max(b)))
}

fn spans() -> impl Strategy<Value = Vec<Span>> {
    vec(span(), 0..8)
}

fn holdings() -> impl Strategy<Value = Vec<Holding>> {
    vec(
        (span(), 1..u32::MAX).prop_map(|((first, last), attempt)| Holding { first, last, attempt }),
        0..8,
    )
}

fn retries() -> impl Strategy<Value = Vec<Retry>> {
    let retry = (number(), 1..u32::MAX, any::<u64>());
    vec(
        retry.prop_map(|(number, attempt, delay_millis)| Retry {
            number,
            attempt,
            delay_millis,
        }),
        0..8,
    )
}

fn counts() -> impl Strategy<Value = Counts> {
    any::<[u64; 6]>().prop_map(|[succeeded, failed, duplicates, differing, charged, damaged]| Counts {
        succeeded,
        failed,
        duplicates,
        differing,
        charged,
        damaged,
    })
}

fn hello() -> impl Strategy<Value = Message> {
    let role = select(vec![Role::Ventilator, Role::Worker, Role::Collector]);
    let rest = (option::of(any::<u32>()), any::<u64>(), any::<u32>());
    (any::<(u8, u8)>(), role, text(), any_id(), rest).prop_map(|((a, b), role, name, id, rest)| {
        let (slots, max_payload, heartbeat_millis) = rest;
        let versions = (a.min(b), a.max(b));
        Message::Hello(Hello {
            versions,
            role,
            name,
            process_id: ProcessId(id),
            slots,
            max_payload,
            heartbeat_millis,
        })
    })
}

fn executor() -> impl Strategy<Value = Executor> {
    let command = || vec(text(), 1..4);
    prop_oneof![
        command().prop_map(|command| Executor::Exec { command }),
        command().prop_map(|command| Executor::Process {
            command,
            framing: Framing::Lines
        }),
        Just(Executor::Library),
    ]
}

fn work() -> impl Strategy<Value = Work> {
    (
        executor(),
        text(),
        0..=harmony_protocol::limits::MAX_OUTPUT,
        option::of(any::<u64>()),
    )
        .prop_map(|(executor, collector, max_bytes_per_task, deadline_millis)| Work {
            executor,
            collector,
            max_bytes_per_task,
            deadline_millis,
        })
}

fn policy() -> impl Strategy<Value = Policy> {
    (any::<u32>(), 0..=harmony_protocol::limits::MAX_OUTPUT).prop_map(
        |(backoff_limit_per_index, max_bytes_per_task)| Policy {
            backoff_limit_per_index,
            max_bytes_per_task,
        },
    )
}

fn start() -> impl Strategy<Value = Message> {
    let roles = (option::of(policy()), option::of(work()));
    (
        any_id(),
        text(),
        any::<u64>(),
        any_id(),
        option::of(any::<u64>()),
        roles,
    )
        .prop_map(|(uid, name, epoch, instance, completions, (policy, work))| {
            let (uid, instance) = (BatchUid(uid), InstanceId(instance));
            Message::Start(Box::new(Start {
                uid,
                name,
                epoch,
                instance,
                completions,
                policy,
                work,
            }))
        })
}

fn collector_state() -> impl Strategy<Value = StateBody> {
    let deaths = vec(
        (number(), any::<u32>()).prop_map(|(number, count)| Deaths { number, count }),
        0..8,
    );
    let head = (any_id(), any::<u64>(), option::of(any_id()), option::of(any::<u64>()));
    (head, spans(), spans(), retries(), deaths).prop_map(|(head, succeeded, failed, retries, deaths)| {
        let (log_id, epoch, instance, completions) = head;
        let (log_id, instance) = (LogId(log_id), instance.map(InstanceId));
        StateBody::Collector(CollectorState {
            log_id,
            epoch,
            instance,
            completions,
            succeeded,
            failed,
            retries,
            deaths,
        })
    })
}

fn state() -> impl Strategy<Value = Message> {
    let worker = holdings().prop_map(|held| StateBody::Worker(WorkerState { held }));
    (any::<bool>(), prop_oneof![collector_state(), worker])
        .prop_map(|(last, body)| Message::State(Box::new(State { last, body })))
}

fn refused() -> impl Strategy<Value = Message> {
    use RefusedCode::{Executor, Fenced, Limit, Mismatch, NotStarted};
    (
        select(vec![Fenced, NotStarted, Executor, Limit, Mismatch]),
        any::<u64>(),
        text(),
    )
        .prop_map(|(code, epoch, reason)| Message::Refused(Refused { code, epoch, reason }))
}

fn report() -> impl Strategy<Value = Message> {
    let health = select(vec![Health::Ok, Health::DiskFull]);
    let failures = vec(failure(), 0..4);
    (spans(), spans(), counts(), any::<u64>(), retries(), health, failures).prop_map(
        |(succeeded, failed, counts, lowest_missing, retries, health, failures)| {
            Message::Report(Box::new(Report {
                succeeded,
                failed,
                counts,
                lowest_missing,
                retries,
                health,
                failures,
            }))
        },
    )
}

fn failure() -> impl Strategy<Value = Failure> {
    (number(), 1..u32::MAX, text(), any::<i32>(), text(), text()).prop_map(
        |(number, attempt, reason, code, worker, log)| Failure {
            number,
            attempt,
            reason,
            code,
            worker,
            log,
        },
    )
}

fn held() -> impl Strategy<Value = Message> {
    (any::<u32>(), any::<bool>(), spans())
        .prop_map(|(serial, answer, spans)| Message::Held(Held { serial, answer, spans }))
}

fn end() -> impl Strategy<Value = Message> {
    any::<(u64, u64)>().prop_map(|(epoch, completions)| Message::End(End { epoch, completions }))
}

fn missing() -> impl Strategy<Value = Message> {
    (spans(), any::<bool>()).prop_map(|(spans, more)| Message::Missing(Missing { spans, more }))
}

fn done() -> impl Strategy<Value = Message> {
    let ending = prop_oneof![Just(Ending::Complete), text().prop_map(Ending::Cancelled)];
    (ending, counts(), any::<u32>()).prop_map(|(ending, counts, digest)| Message::Done(Done { ending, counts, digest }))
}

fn lost() -> impl Strategy<Value = Message> {
    let death = |(id, worker, alone, held)| Loss::Death {
        process_id: ProcessId(id),
        worker,
        alone,
        held,
    };
    let alone = (number(), 1..u32::MAX).prop_map(|(n, attempt)| {
        vec![Holding {
            first: n,
            last: n,
            attempt,
        }]
    });
    let unsendable = (number(), 1..u32::MAX, text()).prop_map(|(number, attempt, reason)| Loss::Unsendable {
        number,
        attempt,
        reason,
    });
    let loss = prop_oneof![
        (any_id(), text(), Just(false), holdings()).prop_map(death),
        (any_id(), text(), Just(true), alone).prop_map(death),
        unsendable,
    ];
    (any::<u64>(), loss).prop_map(|(epoch, loss)| Message::Lost(Lost { epoch, loss }))
}

fn hand_back() -> impl Strategy<Value = Message> {
    let cause = select(vec![ReturnCause::Drain, ReturnCause::Cancel]);
    (cause, holdings()).prop_map(|(cause, tasks)| Message::Return(Return { cause, tasks }))
}

fn cancel() -> impl Strategy<Value = Message> {
    (any::<u64>(), option::of(spans()), text())
        .prop_map(|(epoch, spans, reason)| Message::Cancel(Cancel { epoch, spans, reason }))
}

fn ping() -> impl Strategy<Value = Message> {
    let unbound = vec(
        any::<(u32, u64)>().prop_map(|(alias, millis)| Unbound { alias, millis }),
        0..4,
    );
    (any::<u64>(), unbound, option::of(any::<u64>())).prop_map(|(nonce, unbound, blocked)| {
        Message::Ping(Ping {
            nonce,
            unbound,
            blocked,
        })
    })
}

fn bye() -> impl Strategy<Value = Message> {
    let code = select(vec![
        ByeCode::Leaving,
        ByeCode::Version,
        ByeCode::Malformed,
        ByeCode::Limit,
    ]);
    (code, text()).prop_map(|(code, reason)| Message::Bye(Bye { code, reason }))
}

fn want() -> impl Strategy<Value = Message> {
    any::<(u32, u64, u64, u64)>().prop_map(|(serial, backlog, tasks_sent, bytes_sent)| {
        Message::Want(Want {
            serial,
            backlog,
            tasks_sent,
            bytes_sent,
        })
    })
}

fn credit() -> impl Strategy<Value = Message> {
    (any::<(u32, u64, u64)>(), option::of((number(), 1..u32::MAX))).prop_map(
        |((serial, tasks_granted, bytes_granted), alone)| {
            Message::Credit(Credit {
                serial,
                tasks_granted,
                bytes_granted,
                alone,
            })
        },
    )
}

fn ack() -> impl Strategy<Value = Message> {
    any::<(u64, u64)>().prop_map(|(sequence, allowance)| Message::Ack(Ack { sequence, allowance }))
}

fn tasks() -> impl Strategy<Value = Message> {
    let task = (number(), 1..u32::MAX, vec(any::<u8>(), 0..20));
    (any::<(u64, bool, bool, bool)>(), vec(task, 1..20)).prop_map(|((epoch, alone, backup, parted), tasks)| {
        let mut payloads = Vec::new();
        let mut entry = |(number, attempt, payload): (u64, u32, Vec<u8>)| {
            payloads.extend_from_slice(&payload);
            TaskEntry {
                number,
                attempt,
                length: u32::try_from(payload.len()).unwrap_or(u32::MAX),
            }
        };
        let entries: Vec<_> = tasks
            .into_iter()
            .take(if alone || parted { 1 } else { 20 })
            .map(&mut entry)
            .collect();
        // What came in parts has some bytes, and none of them here.
        let parted = parted && !payloads.is_empty();
        Message::Tasks(Tasks {
            epoch,
            alone,
            backup,
            parted,
            entries,
            payloads: if parted { Bytes::new() } else { payloads.into() },
        })
    })
}

fn outcome() -> impl Strategy<Value = OutcomeCode> {
    use OutcomeCode::{
        DeadlineExceeded, ExecutorError, ExitCode, PayloadTooLarge, ResultTooLarge, Signal, Succeeded, WorkerLost,
    };
    select(vec![
        Succeeded,
        ExitCode,
        Signal,
        DeadlineExceeded,
        ResultTooLarge,
        PayloadTooLarge,
        WorkerLost,
        ExecutorError,
    ])
}

fn result() -> impl Strategy<Value = ResultEntry> {
    (
        number(),
        1..u32::MAX,
        outcome(),
        any::<(i32, u64, u64)>(),
        0..40_u32,
        0..20_u32,
        option::of(any::<u32>()),
    )
        .prop_map(
            |(number, attempt, outcome, (code, start_micros, duration_micros), output, log, parted)| ResultEntry {
                number,
                attempt,
                outcome,
                code,
                start_micros,
                duration_micros,
                output,
                log,
                parted: parted.filter(|_| outcome == OutcomeCode::Succeeded),
            },
        )
}

fn results() -> impl Strategy<Value = Message> {
    (any::<u64>(), vec(result(), 1..20), any::<u8>()).prop_map(|(sequence, entries, seed)| {
        let length: u32 = entries.iter().map(|entry| entry.inline() + entry.log).sum();
        let bytes: Bytes = (seed..=u8::MAX).cycle().zip(0..length).map(|(byte, _)| byte).collect();
        Message::Results(Results {
            sequence,
            entries,
            bytes,
        })
    })
}

fn part() -> impl Strategy<Value = Message> {
    let place = (any::<u64>(), number(), 1..u32::MAX, 0..1_u64 << 29);
    (place, vec(any::<u8>(), 1..200)).prop_map(|((stamp, number, attempt, offset), bytes)| {
        Message::Part(Part {
            stamp,
            number,
            attempt,
            offset,
            bytes: bytes.into(),
        })
    })
}
