//! The slow half of the writing end: fsync and checkpoints, for a thread of their own.

use std::sync::{Arc, PoisonError};

use crate::checkpoint;
use crate::outputs::Unsynced;
use crate::shared::Shared;
use crate::{LogError, Position};

/// Makes a log durable while it is appended to.
#[derive(Clone)]
pub struct Syncer {
    shared: Arc<Shared>,
    outputs: Unsynced,
}

impl Syncer {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            outputs: Unsynced::default(),
        }
    }

    /// Has it write these outputs back as well.
    pub(crate) fn with(self, outputs: Unsynced) -> Self {
        Self { outputs, ..self }
    }

    /// Makes durable all that was appended before the call, and returns how far that is. Every error is fatal: what
    /// the disk holds is unknown until the log is opened again.
    pub fn sync(&self) -> Result<Position, LogError> {
        self.outputs
            .sync(&self.shared.dir)
            .map_err(|error| self.shared.note(error))?;
        self.shared.sync()
    }

    /// How far the log is durable.
    pub fn synced(&self) -> Position {
        *self.shared.synced.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps the caller's state as of a durable position, so that the next opening replays only what lies behind it.
    /// The checkpoint before it stays as a spare. After [`LogError::NoSpace`] the older ones are still there.
    pub fn checkpoint(&self, at: Position, state: &[u8]) -> Result<(), LogError> {
        self.shared.usable()?;
        let synced = self.synced();
        if at > synced {
            return Err(LogError::Unsynced { at, synced });
        }
        checkpoint::write(&self.shared, at, state).map_err(|error| self.shared.note(error))
    }
}
