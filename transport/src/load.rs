//! What is queued in one link: accepted from the driver, and not yet handed to the connection.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use crate::config::MAX_QUEUED_MESSAGES;

/// Counted where messages enter the link and where the guard has sent them, so it covers zeromq's own queue too.
#[derive(Default)]
pub(crate) struct Load {
    messages: AtomicUsize,
    bytes: AtomicUsize,
}

impl Load {
    /// Takes room for one message; false if the link is full. An empty link takes any message.
    pub(crate) fn take(&self, bytes: usize, max_bytes: usize) -> bool {
        let messages = self.messages.fetch_add(1, Relaxed);
        let queued = self.bytes.fetch_add(bytes, Relaxed);
        messages == 0 || (messages < MAX_QUEUED_MESSAGES && queued.saturating_add(bytes) <= max_bytes)
    }

    pub(crate) fn sent(&self, messages: usize, bytes: usize) {
        self.messages.fetch_sub(messages, Relaxed);
        self.bytes.fetch_sub(bytes, Relaxed);
    }
}
