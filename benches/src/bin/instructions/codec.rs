//! Hot messages to bytes and back.

use std::hint::black_box;

use anyhow::Result;
use harmony_protocol::wire::{self, Message, TaskEntry, Tasks};

use crate::outcomes::{BYTES, pieces, successes};

/// Entries of one message: as many as there may be.
const ENTRIES: u32 = 1_024;
/// Messages, so that making the first one counts little beside them.
const TIMES: u32 = 200;

pub(crate) fn encode_tasks() {
    encode(&tasks());
}

pub(crate) fn decode_tasks() -> Result<()> {
    decode(&tasks())
}

pub(crate) fn encode_results() {
    encode(&results());
}

pub(crate) fn decode_results() -> Result<()> {
    decode(&results())
}

fn encode(message: &Message) {
    for _ in 0..TIMES {
        black_box(wire::encode(1, black_box(message)));
    }
}

/// Each piece is taken out too, as those do who receive them.
fn decode(message: &Message) -> Result<()> {
    let frames = wire::encode(1, message);
    for _ in 0..TIMES {
        match wire::decode(black_box(&frames))?.1 {
            Message::Tasks(tasks) => tasks.pieces().for_each(|piece| drop(black_box(piece))),
            Message::Results(results) => results.pieces().for_each(|piece| drop(black_box(piece))),
            other => drop(black_box(other)),
        }
    }
    Ok(())
}

fn tasks() -> Message {
    let entry = |number| TaskEntry {
        number,
        attempt: 1,
        length: BYTES,
    };
    Message::Tasks(Tasks {
        epoch: 1,
        alone: false,
        backup: false,
        parted: false,
        entries: (0..u64::from(ENTRIES)).map(entry).collect(),
        payloads: pieces(ENTRIES),
    })
}

fn results() -> Message {
    Message::Results(successes(0, ENTRIES, &pieces(ENTRIES)))
}
