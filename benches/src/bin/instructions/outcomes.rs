//! What all subjects carry.

use bytes::Bytes;
use harmony_protocol::wire::{OutcomeCode, ResultEntry, Results};

/// Bytes of one payload and of one output.
pub(crate) const BYTES: u32 = 100;

/// One payload or output.
pub(crate) const PIECE: [u8; BYTES as usize] = [b'x'; BYTES as usize];

/// The bytes of so many pieces, end to end.
pub(crate) fn pieces(count: u32) -> Bytes {
    PIECE.repeat(count as usize).into()
}

/// So many successes from this number on.
pub(crate) fn successes(first: u64, count: u32, bytes: &Bytes) -> Results {
    let entry = |number| ResultEntry {
        number,
        attempt: 1,
        outcome: OutcomeCode::Succeeded,
        code: 0,
        start_micros: number,
        duration_micros: 1,
        output: BYTES,
        log: 0,
        parted: None,
    };
    Results {
        sequence: 1,
        entries: (first..first + u64::from(count)).map(entry).collect(),
        bytes: bytes.clone(),
    }
}
