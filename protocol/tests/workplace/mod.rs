//! A worker whose ventilator the test plays.
#![allow(dead_code, unreachable_pub, reason = "each test file uses a part of it")]

use std::time::Instant;

use bytes::Bytes;
use harmony_protocol::ids::{BatchUid, InstanceId, LinkId, ProcessId};
use harmony_protocol::limits::{PART_BYTES, QUEUE_BYTES};
use harmony_protocol::wire::{Executor, Hello, Message, Role, Start, TaskEntry, Tasks, Want, Work, encode};
use harmony_protocol::worker::{Config, Only, Output, Worker};
use harmony_protocol::{Identity, VERSIONS};
use uuid::Uuid;

pub fn identity(role: Role, id: u128) -> Identity {
    Identity {
        role,
        name: format!("{role:?}"),
        process_id: ProcessId(Uuid::from_u128(id)),
        slots: Some(1),
    }
}

pub fn start(uid: BatchUid, completions: u64) -> Start {
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

pub fn want() -> Message {
    Message::Want(Want {
        serial: 1,
        backlog: 10,
        tasks_sent: 0,
        bytes_sent: 0,
    })
}

pub fn tasks(numbers: &[u64]) -> Tasks {
    let entries = numbers.iter().map(|number| TaskEntry {
        number: *number,
        attempt: 1,
        length: 0,
    });
    Tasks {
        epoch: 1,
        alone: false,
        backup: false,
        parted: false,
        entries: entries.collect(),
        payloads: Bytes::new(),
    }
}

/// A worker with a ventilator at this link.
pub fn greeted(now: Instant, link: LinkId, only: Only) -> Worker {
    greeted_with(now, link, only, 1)
}

/// The same with so many slots.
pub fn greeted_with(now: Instant, link: LinkId, only: Only, slots: u32) -> Worker {
    let mut worker = Worker::new(Config {
        identity: identity(Role::Worker, 2),
        slots,
        seed: 0,
        only,
        part_bytes: PART_BYTES,
        queue_bytes: QUEUE_BYTES,
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

pub fn outputs(worker: &mut Worker, now: Instant) -> Vec<Output> {
    std::iter::from_fn(|| worker.poll_output(now)).collect()
}
