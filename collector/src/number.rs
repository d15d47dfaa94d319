//! What is recorded of one number.

use harmony_log::{Cursor, LogError, LogReader};
use harmony_protocol::collector::BatchState;
use harmony_protocol::limits::FAILURE_LOG;
use harmony_protocol::wire::OutcomeCode;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// What is recorded of one number.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Recorded {
    /// The number.
    pub number: u64,
    /// It is settled: what is recorded is how it ended.
    pub settled: bool,
    /// The attempt that counts next, while it is not.
    pub current_attempt: u32,
    /// Worker deaths that it was in flight at.
    pub deaths: u32,
    /// The last recorded outcome.
    pub outcome: Option<RecordedOutcome>,
}

/// A recorded outcome.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RecordedOutcome {
    /// How it went, such as `Succeeded` or `ExitCode`.
    pub outcome: String,
    /// The exit code or the signal, where one applies.
    pub code: Option<i32>,
    /// Which attempt.
    pub attempt: u32,
    /// The worker that ran it.
    pub worker: String,
    /// When it began.
    pub start: String,
    /// How long it took, in seconds.
    pub seconds: f64,
    /// Bytes of output.
    pub output_bytes: u32,
    /// The end of its log.
    pub log: String,
}

/// Looks a number up in the log of its batch.
pub fn recorded(reader: &LogReader, state: &BatchState, number: u64) -> Result<Recorded, LogError> {
    let deaths = state.deaths().find(|(other, _)| *other == number);
    let settled = state.settled().contains(number);
    let outcome = outcome(reader, number)?;
    Ok(Recorded {
        number,
        settled,
        current_attempt: state.attempt(number),
        deaths: deaths.map_or(0, |(_, deaths)| deaths),
        outcome: outcome.filter(|_| settled),
    })
}

fn outcome(reader: &LogReader, number: u64) -> Result<Option<RecordedOutcome>, LogError> {
    let Some(location) = reader.find(number)? else {
        return Ok(None);
    };
    let mut cursor = Cursor::new(reader);
    Ok(cursor.outcome(location)?.map(|recorded| {
        let (entry, log) = (recorded.entry, String::from_utf8_lossy(&recorded.log));
        let cut = log.ceil_char_boundary(log.len().saturating_sub(FAILURE_LOG));
        let micros = i64::try_from(entry.start_micros).unwrap_or(i64::MAX);
        let coded = matches!(entry.outcome, OutcomeCode::ExitCode | OutcomeCode::Signal);
        RecordedOutcome {
            outcome: entry.outcome.name().to_owned(),
            code: coded.then_some(entry.code),
            attempt: entry.attempt,
            worker: recorded.worker.to_owned(),
            start: Timestamp::from_microsecond(micros).unwrap_or_default().to_string(),
            seconds: std::time::Duration::from_micros(entry.duration_micros).as_secs_f64(),
            output_bytes: entry.output,
            log: log.get(cut..).unwrap_or_default().to_owned(),
        }
    }))
}
