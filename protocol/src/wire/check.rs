//! What a message must keep to beyond its layout.

use super::{
    Bind, Bye, Cancel, Done, End, Ending, Executor, Held, Hello, Holding, Kind, Loss, Lost, Missing, Part, Ping, Pong,
    Refused, Report, Retry, Return, Span, Start, State, StateBody, WireError,
};
use crate::ids::Attempt;
use crate::limits::{
    FAILURES_TOLD, MAX_BATCHES, MAX_CONTROL, MAX_NAME, MAX_OUTPUT, MAX_PARTED, PART_BYTES, RANGES_PER_PIECE,
};

#[allow(clippy::cast_possible_truncation)] // 1 GiB
const MAX_OUTPUT_BYTES: usize = MAX_OUTPUT as usize;

/// A control body that knows its own limits.
pub(super) trait Check {
    fn check(&self, kind: Kind) -> Result<(), WireError>;
}

impl<T: Check> Check for Box<T> {
    fn check(&self, kind: Kind) -> Result<(), WireError> {
        self.as_ref().check(kind)
    }
}

impl Check for Hello {
    fn check(&self, kind: Kind) -> Result<(), WireError> {
        let (lowest, highest) = self.versions;
        if lowest > highest {
            return Err(WireError::Versions { lowest, highest });
        }
        text(kind, "name", &self.name)
    }
}

impl Check for Start {
    fn check(&self, kind: Kind) -> Result<(), WireError> {
        text(kind, "name", &self.name)?;
        let sizes = [
            self.policy.as_ref().map(|policy| policy.max_bytes_per_task),
            self.work.as_ref().map(|work| work.max_bytes_per_task),
        ];
        for size in sizes.into_iter().flatten() {
            let size = usize::try_from(size).unwrap_or(usize::MAX);
            count(kind, "bytes in maxBytesPerTask", size, 0, MAX_OUTPUT_BYTES)?;
        }
        let Some(work) = &self.work else { return Ok(()) };
        text(kind, "work.collector", &work.collector)?;
        match &work.executor {
            // Without words it is the worker's own command.
            Executor::Exec { command } => count(kind, "words of command", command.len(), 0, MAX_CONTROL),
            Executor::Process { command, .. } => count(kind, "words of command", command.len(), 1, MAX_CONTROL),
            Executor::Library => Ok(()),
        }
    }
}

impl Check for State {
    fn check(&self, kind: Kind) -> Result<(), WireError> {
        match &self.body {
            StateBody::Collector(state) => {
                let entries = [
                    state.succeeded.len(),
                    state.failed.len(),
                    state.retries.len(),
                    state.deaths.len(),
                ];
                piece(kind, entries.iter().sum())?;
                spans(kind, &state.succeeded)?;
                spans(kind, &state.failed)?;
                retries(kind, &state.retries)?;
                state.deaths.iter().try_for_each(|deaths| number(kind, deaths.number))
            }
            StateBody::Worker(state) => holdings(kind, &state.held),
        }
    }
}

impl Check for Refused {
    fn check(&self, kind: Kind) -> Result<(), WireError> {
        text(kind, "reason", &self.reason)
    }
}

impl Check for Report {
    fn check(&self, kind: Kind) -> Result<(), WireError> {
        piece(kind, self.succeeded.len() + self.failed.len() + self.retries.len())?;
        spans(kind, &self.succeeded)?;
        spans(kind, &self.failed)?;
        retries(kind, &self.retries)?;
        count(kind, "failures", self.failures.len(), 0, FAILURES_TOLD)?;
        self.failures.iter().try_for_each(|failure| {
            number(kind, failure.number)?;
            attempt(kind, failure.number, failure.attempt)?;
            text(kind, "failures.reason", &failure.reason)?;
            text(kind, "failures.worker", &failure.worker)?;
            text(kind, "failures.log", &failure.log)
        })
    }
}

impl Check for Held {
    fn check(&self, kind: Kind) -> Result<(), WireError> {
        piece(kind, self.spans.len())?;
        spans(kind, &self.spans)
    }
}

impl Check for Missing {
    fn check(&self, kind: Kind) -> Result<(), WireError> {
        piece(kind, self.spans.len())?;
        spans(kind, &self.spans)
    }
}

impl Check for Done {
    fn check(&self, kind: Kind) -> Result<(), WireError> {
        match &self.ending {
            Ending::Complete => Ok(()),
            Ending::Cancelled(reason) => text(kind, "ending.cancelled", reason),
        }
    }
}

impl Check for Lost {
    fn check(&self, kind: Kind) -> Result<(), WireError> {
        match &self.loss {
            Loss::Death {
                worker, alone, held, ..
            } => {
                text(kind, "death.worker", worker)?;
                holdings(kind, held)?;
                // Checked spans: neither the difference nor the sum of so few of them overflows.
                let numbers = held
                    .iter()
                    .map(|held| u128::from(held.last - held.first) + 1)
                    .sum::<u128>();
                if *alone && numbers != 1 {
                    return Err(WireError::Alone {
                        kind,
                        found: u64::try_from(numbers).unwrap_or(u64::MAX),
                    });
                }
                Ok(())
            }
            Loss::Unsendable {
                number: lost,
                attempt: tried,
                reason,
            } => {
                number(kind, *lost)?;
                attempt(kind, *lost, *tried)?;
                text(kind, "unsendable.reason", reason)
            }
        }
    }
}

impl Check for Return {
    fn check(&self, kind: Kind) -> Result<(), WireError> {
        holdings(kind, &self.tasks)
    }
}

impl Check for Cancel {
    fn check(&self, kind: Kind) -> Result<(), WireError> {
        text(kind, "reason", &self.reason)?;
        let listed = self.spans.as_deref().unwrap_or_default();
        piece(kind, listed.len())?;
        spans(kind, listed)
    }
}

impl Check for Ping {
    fn check(&self, kind: Kind) -> Result<(), WireError> {
        count(kind, "batches in unbound", self.unbound.len(), 0, MAX_BATCHES)
    }
}

impl Check for Bye {
    fn check(&self, kind: Kind) -> Result<(), WireError> {
        text(kind, "reason", &self.reason)
    }
}

/// Nothing in these can be wrong.
macro_rules! unbounded {
    ($($name:ident),*) => {$(
        impl Check for $name {
            fn check(&self, _: Kind) -> Result<(), WireError> {
                Ok(())
            }
        }
    )*};
}
unbounded!(Bind, End, Pong);

pub(super) fn number(kind: Kind, number: u64) -> Result<(), WireError> {
    if number == u64::MAX {
        Err(WireError::Number { kind })
    } else {
        Ok(())
    }
}

pub(super) fn attempt(kind: Kind, number: u64, attempt: Attempt) -> Result<(), WireError> {
    if attempt == 0 {
        Err(WireError::Attempt { kind, number })
    } else {
        Ok(())
    }
}

pub(super) fn count(kind: Kind, what: &'static str, found: usize, least: usize, most: usize) -> Result<(), WireError> {
    if (least..=most).contains(&found) {
        Ok(())
    } else {
        Err(WireError::Count {
            kind,
            what,
            found,
            least,
            most,
        })
    }
}

pub(super) fn length(kind: Kind, field: &'static str, found: u32, most: u64) -> Result<(), WireError> {
    at_most(kind, field, u64::from(found), most)
}

pub(super) fn payload(kind: Kind, found: usize, declared: u64) -> Result<(), WireError> {
    if found as u64 == declared {
        Ok(())
    } else {
        Err(WireError::Payload { kind, found, declared })
    }
}

/// A part carries something, is no longer than it may be, and ends where the longest whole does.
pub(super) fn part(part: &Part) -> Result<(), WireError> {
    if part.bytes.is_empty() {
        return Err(WireError::EmptyPart { number: part.number });
    }
    at_most(Kind::Part, "the piece", part.bytes.len() as u64, PART_BYTES as u64)?;
    at_most(Kind::Part, "the whole", part.end(), MAX_PARTED)
}

fn text(kind: Kind, field: &'static str, text: &str) -> Result<(), WireError> {
    at_most(kind, field, text.len() as u64, MAX_NAME as u64)
}

fn at_most(kind: Kind, field: &'static str, found: u64, most: u64) -> Result<(), WireError> {
    if found > most {
        Err(WireError::TooLong {
            kind,
            field,
            found,
            most,
        })
    } else {
        Ok(())
    }
}

/// All lists of a body together, so that it stays below the limit of a control body.
fn piece(kind: Kind, found: usize) -> Result<(), WireError> {
    count(kind, "ranges and numbers", found, 0, RANGES_PER_PIECE)
}

fn span(kind: Kind, (first, last): Span) -> Result<(), WireError> {
    if first > last {
        Err(WireError::Span { kind, first, last })
    } else {
        number(kind, last)
    }
}

fn spans(kind: Kind, spans: &[Span]) -> Result<(), WireError> {
    spans.iter().try_for_each(|&listed| span(kind, listed))
}

fn holdings(kind: Kind, held: &[Holding]) -> Result<(), WireError> {
    piece(kind, held.len())?;
    held.iter().try_for_each(|held| {
        span(kind, (held.first, held.last))?;
        attempt(kind, held.first, held.attempt)
    })
}

fn retries(kind: Kind, retries: &[Retry]) -> Result<(), WireError> {
    retries.iter().try_for_each(|retry| {
        number(kind, retry.number)?;
        attempt(kind, retry.number, retry.attempt)
    })
}
