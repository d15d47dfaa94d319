//! What is shown of a hosted ventilator.

use harmony_protocol::ids::Epoch;
use harmony_protocol::ventilator::{Progress, WorkerView};
use harmony_protocol::wire::Done;
use harmony_transport::Counters;
use harmony_ventilator::source::Digest;

/// How a ventilator is.
#[derive(Clone, Debug, PartialEq)]
pub enum VentilatorState {
    /// Its tasks are being read.
    Opening,
    /// It runs.
    Running(Running),
    /// The batch is over.
    Done {
        /// How it ended.
        done: Done,
        /// How far it was.
        progress: Box<Progress>,
    },
    /// Another ventilator has the batch.
    Fenced {
        /// Its epoch, for status.
        epoch: Epoch,
    },
    /// The batch cannot go on: something outside its tasks is broken.
    Failed {
        /// What.
        reason: String,
    },
    /// Its tasks cannot be read.
    SourceFailed {
        /// Why.
        error: String,
        /// The batch or its source is wrong; else trying again may help.
        is_input: bool,
    },
    /// Its tasks are not those that status knows.
    SourceChanged {
        /// The hash that status knows.
        was: Digest,
        /// The hash of what was read.
        now: Digest,
    },
}

/// A ventilator that runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Running {
    /// How far the batch is.
    pub progress: Box<Progress>,
    /// Its workers.
    pub workers: Vec<WorkerView>,
    /// Its links.
    pub links: Counters,
    /// The epoch that status must know before the batch is claimed under it: see [`super::Ventilators::epoch_kept`].
    pub claiming: Option<Epoch>,
    /// Another ventilator had the batch before.
    pub takeover: bool,
}

impl VentilatorState {
    /// How far the batch is, of a ventilator that leaves: what was in flight is not any more.
    pub(super) fn into_progress(self) -> Option<Progress> {
        let progress = match self {
            Self::Running(running) => running.progress,
            Self::Done { progress, .. } => progress,
            _ => return None,
        };
        Some(Progress {
            in_flight: 0,
            ..*progress
        })
    }

    /// Whether nothing will happen any more.
    pub fn is_over(&self) -> bool {
        !matches!(self, Self::Opening | Self::Running(_))
    }
}
