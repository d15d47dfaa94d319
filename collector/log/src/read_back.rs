//! Reading records back: all of them before a batch is called complete, one of them when a duplicate comes in.

use std::num::NonZero;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use harmony_protocol::collector::{Answer, Outcomes, Record};
use harmony_protocol::set::NumberSet;
use harmony_protocol::wire::{OutcomeCode, ResultEntry, Span};

use crate::{Cursor, LogError, LogReader, Outcome, Placed};

/// What reading a log back found.
#[derive(Debug, Default)]
pub struct ReadBack {
    /// Settled numbers that have no whole record.
    pub damaged: Vec<Span>,
    /// The sum of the CRC-32C of every settled number's outcome: it does not depend on the order of recording.
    pub digest: u32,
}

/// Bytes of an outcome that are put together before they are summed: a checksum of many short pieces costs more than a copy.
const SUMMED_AT_ONCE: usize = 1 << 10;

/// Reads every record back on so many threads, checks it, and compares with what should be settled.
pub fn read_back(reader: &LogReader, settled: &NumberSet, threads: NonZero<usize>) -> Result<ReadBack, LogError> {
    let digest = AtomicU32::new(0);
    let found = Mutex::new((NumberSet::new(), Vec::new()));
    reader.verify_on(threads, |record, placed| {
        // Borrowing would be enough, but the codec's slices are counted.
        let Ok(Record::Outcomes(outcomes)) = Record::decode(&Bytes::copy_from_slice(record)) else {
            return;
        };
        // Its output has a file of its own.
        if let [entry] = outcomes.results.entries[..]
            && entry.parted.is_some()
        {
            let (_, long) = &mut *lock(&found);
            return long.extend(placed.first().map(|_| entry));
        }
        digest.fetch_add(digest_of(&outcomes, placed), Ordering::Relaxed); // wraps around
        let spans = placed
            .iter()
            .map(|run| (run.number, run.number + u64::from(run.count) - 1));
        lock(&found).0.extend(spans);
    })?;
    let (mut seen, long) = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    let mut digest = digest.into_inner();
    for entry in long {
        if let Some(sum) = reader.check_output(&entry, &head_of(&entry))? {
            digest = digest.wrapping_add(sum);
            seen.extend([(entry.number, entry.number)]);
        }
    }
    let damaged = settled
        .spans()
        .flat_map(|(first, last)| seen.missing_within(first, last))
        .collect();
    Ok(ReadBack { damaged, digest })
}

fn lock<T>(found: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic of another thread is passed on when all have ended.
    found.lock().unwrap_or_else(PoisonError::into_inner)
}

fn digest_of(outcomes: &Outcomes, placed: &[Placed]) -> u32 {
    let mut runs = placed.iter().map(|run| run.entry..run.entry + run.count).peekable();
    let mut sum = 0_u32;
    let mut whole = Vec::with_capacity(SUMMED_AT_ONCE);
    let mut output_at = 0;
    for (position, entry) in (0_u32..).zip(&outcomes.results.entries) {
        let output_end = output_at + entry.inline() as usize;
        while runs.next_if(|run| run.end <= position).is_some() {}
        if runs.peek().is_some_and(|run| run.contains(&position)) {
            let output = outcomes.results.bytes.get(output_at..output_end).unwrap_or_default();
            sum = sum.wrapping_add(digest_of_entry(entry, output, &mut whole));
        }
        output_at = output_end + entry.log as usize;
    }
    sum
}

/// The checksum of an outcome. `whole` is a buffer that is used again.
fn digest_of_entry(entry: &ResultEntry, output: &[u8], whole: &mut Vec<u8>) -> u32 {
    let head = head_of(entry);
    if head.len() + output.len() > SUMMED_AT_ONCE {
        return crc32c::crc32c_append(crc32c::crc32c(&head), output);
    }
    whole.clear();
    whole.extend_from_slice(&head);
    whole.extend_from_slice(output);
    crc32c::crc32c(whole)
}

/// What of an outcome stands before its output in the digest.
fn head_of(entry: &ResultEntry) -> [u8; 17] {
    let mut head = [0; 17];
    let (number, rest) = head.split_at_mut(8);
    let (attempt, rest) = rest.split_at_mut(4);
    let (outcome, code) = rest.split_at_mut(1);
    number.copy_from_slice(&entry.number.to_be_bytes());
    attempt.copy_from_slice(&entry.attempt.to_be_bytes());
    outcome.copy_from_slice(&[entry.outcome as u8]);
    code.copy_from_slice(&entry.code.to_be_bytes());
    head
}

/// Whether the recorded success of a number has other bytes than a duplicate. Where one of both came in parts, length and
/// checksum are compared.
pub fn differs(reader: &LogReader, number: u64, duplicate: &Answer) -> Result<bool, LogError> {
    let Some(location) = reader.find(number)? else {
        return Ok(false);
    };
    let mut cursor = Cursor::new(reader);
    let sum = |bytes: &Bytes| (bytes.len() as u64, crc32c::crc32c(bytes));
    Ok(cursor.outcome(location)?.is_some_and(|Outcome { entry, output, .. }| {
        let same = match (entry.parted, duplicate) {
            (None, Answer::Bytes(bytes)) => output == *bytes,
            (None, Answer::Parted { length, checksum }) => sum(&output) == (u64::from(*length), *checksum),
            (Some(own), Answer::Bytes(bytes)) => sum(bytes) == (u64::from(entry.output), own),
            (Some(own), Answer::Parted { length, checksum }) => (entry.output, own) == (*length, *checksum),
        };
        entry.outcome == OutcomeCode::Succeeded && !same
    }))
}
