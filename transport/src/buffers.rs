//! Copy buffers that all links of a socket thread share, so that an idle link holds none.

use std::sync::Mutex;

use crate::counters::locked;

/// Bytes of one buffer: large enough that a system call costs little beside the copy, small enough for the L2 cache.
const SIZE: usize = 128 << 10;
/// Buffers kept for the next use; a link that waits for its reader holds one of its own.
const KEPT: usize = 16;

#[derive(Default)]
pub(crate) struct Buffers(Mutex<Vec<Box<[u8]>>>);

impl Buffers {
    pub(crate) fn take(&self) -> Box<[u8]> {
        locked(&self.0)
            .pop()
            .unwrap_or_else(|| vec![0; SIZE].into_boxed_slice())
    }

    pub(crate) fn put(&self, buffer: Box<[u8]>) {
        let mut kept = locked(&self.0);
        if kept.len() < KEPT {
            kept.push(buffer);
        }
    }
}
