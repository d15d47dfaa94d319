//! From a log back to the state of its batch.

use bytes::Bytes;
use harmony_protocol::collector::{BatchState, Record};

use crate::{Placed, Replay, ReplayError};

/// Rebuilds the state of a batch while its log is opened.
#[derive(Debug, Default)]
pub struct Rebuild {
    /// The state so far.
    pub state: BatchState,
}

impl Replay for Rebuild {
    fn checkpoint(&mut self, state: &[u8]) -> Result<(), ReplayError> {
        self.state = BatchState::restore(state)?;
        Ok(())
    }

    fn record(&mut self, record: &[u8], _placed: &[Placed]) -> Result<(), ReplayError> {
        self.state.apply(&Record::decode(&Bytes::copy_from_slice(record))?);
        Ok(())
    }
}
