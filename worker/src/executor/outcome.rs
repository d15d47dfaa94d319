//! How the end of an attempt becomes an outcome.

use std::{
    os::unix::process::ExitStatusExt,
    process::ExitStatus,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use harmony_protocol::{
    ids::{Attempt, BatchUid},
    limits::INLINE_BYTES,
    wire::OutcomeCode,
    worker::Spooled,
};

use super::{Finished, Task, child::tail};
use crate::spool::{Collected, Collection, Spool};

/// When an attempt began, on both clocks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Began {
    pub(super) at: Instant,
    unix_micros: u64,
}

impl Began {
    pub(super) fn now() -> Self {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            at: Instant::now(),
            unix_micros: micros(unix),
        }
    }

    /// The same clocks `by` later.
    pub(super) fn later(self, by: Duration) -> Self {
        Self {
            at: self.at + by,
            unix_micros: self.unix_micros.saturating_add(micros(by)),
        }
    }
}

/// How an attempt ended, apart from which it was.
#[derive(Clone, Debug)]
pub(super) struct End {
    outcome: OutcomeCode,
    code: i32,
    output: Bytes,
    spooled: Option<Spooled>,
    log: Bytes,
}

impl End {
    pub(super) fn success(output: Bytes) -> Self {
        Self {
            outcome: OutcomeCode::Succeeded,
            code: 0,
            output,
            spooled: None,
            log: Bytes::new(),
        }
    }

    /// A success with an output that was collected.
    pub(super) fn collected(output: Collected, spool: &Spool, key: (BatchUid, u64, Attempt)) -> Self {
        match output.finish(spool, key) {
            Collection::Whole(output) => Self::success(output),
            Collection::Spooled(spooled) => Self {
                spooled: Some(spooled),
                ..Self::success(Bytes::new())
            },
        }
    }

    /// A success with an output that is in memory. One that is too long for one message moves to a file.
    pub(super) fn success_of(output: Bytes, spool: &Spool, key: (BatchUid, u64, Attempt)) -> Self {
        if output.len() <= INLINE_BYTES {
            return Self::success(output);
        }
        let mut collected = Collected::default();
        match collected.push(spool, &output) {
            Ok(()) => Self::collected(collected, spool, key),
            Err(reason) => Self::error(reason),
        }
    }

    pub(super) fn failure(outcome: OutcomeCode, log: Bytes) -> Self {
        Self {
            outcome,
            code: 0,
            output: Bytes::new(),
            spooled: None,
            log,
        }
    }

    pub(super) fn exit_code(code: i32, log: Bytes) -> Self {
        Self {
            code,
            ..Self::failure(OutcomeCode::ExitCode, log)
        }
    }

    /// The executor could not run it, for the reason given.
    pub(super) fn error(reason: impl Into<String>) -> Self {
        Self::failure(OutcomeCode::ExecutorError, text(reason))
    }

    /// A process that ended with this status and did not deliver.
    pub(super) fn of_status(status: ExitStatus, log: Bytes) -> Self {
        match status.signal() {
            Some(signal) => Self {
                code: signal,
                ..Self::failure(OutcomeCode::Signal, log)
            },
            None => Self::exit_code(status.code().unwrap_or_default(), log),
        }
    }

    pub(super) fn of(self, number: u64, attempt: Attempt, began: Began, took: Duration) -> Finished {
        let Self {
            outcome,
            code,
            output,
            spooled,
            log,
        } = self;
        let (start_micros, duration_micros) = (began.unix_micros, micros(took));
        Finished {
            number,
            attempt,
            outcome,
            code,
            start_micros,
            duration_micros,
            output,
            spooled,
            log,
        }
    }

    /// The end of a task that began then and ended now.
    pub(super) fn of_task(self, task: &Task, began: Began) -> Finished {
        self.of(task.number, task.attempt, began, began.at.elapsed())
    }
}

/// A log made of a reason; cut like any log.
pub(super) fn text(reason: impl Into<String>) -> Bytes {
    let bytes = Bytes::from(reason.into().into_bytes());
    bytes.slice_ref(tail(&bytes))
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
