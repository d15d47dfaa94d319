//! The hot bodies: fixed-width records in network order. All fields are aligned; reserved bytes are sent as 0 and
//! ignored on receipt.

use bytes::{Buf, BufMut, Bytes};

use super::{Ack, Credit, Kind, OutcomeCode, Part, ResultEntry, Results, TaskEntry, Tasks, Want, WireError, check};
use crate::limits;

const WANT_BYTES: usize = 32;
const CREDIT_BYTES: usize = 32;
const ACK_BYTES: usize = 16;
/// What stands before the records of TASKS and of RESULTS.
const INDEX_HEAD_BYTES: usize = 16;
const TASK_BYTES: usize = 16;
pub(crate) const RESULT_BYTES: usize = 48;
pub(super) const PART_INDEX_BYTES: usize = 32;

const ALONE: u32 = 1;
const BACKUP: u32 = 2;
const PARTED: u32 = 4;

/// How an output travels.
const INLINE: u8 = 0;
const IN_PARTS: u8 = 1;

pub(super) fn encode_want(want: &Want) -> Bytes {
    let mut out = Vec::with_capacity(WANT_BYTES);
    out.put_u32(want.serial);
    out.put_u32(0);
    out.put_u64(want.backlog);
    out.put_u64(want.tasks_sent);
    out.put_u64(want.bytes_sent);
    out.into()
}

pub(super) fn decode_want(body: &[u8]) -> Result<Want, WireError> {
    let mut rest = fixed::<WANT_BYTES>(Kind::Want, body)?.as_slice();
    let serial = rest.get_u32();
    rest.get_u32();
    Ok(Want {
        serial,
        backlog: rest.get_u64(),
        tasks_sent: rest.get_u64(),
        bytes_sent: rest.get_u64(),
    })
}

pub(super) fn encode_credit(credit: &Credit) -> Bytes {
    // Attempts count from 1, so attempt 0 says that nothing is about to run alone.
    let (number, attempt) = credit.alone.unwrap_or_default();
    let mut out = Vec::with_capacity(CREDIT_BYTES);
    out.put_u32(credit.serial);
    out.put_u32(attempt);
    out.put_u64(credit.tasks_granted);
    out.put_u64(credit.bytes_granted);
    out.put_u64(number);
    out.into()
}

pub(super) fn decode_credit(body: &[u8]) -> Result<Credit, WireError> {
    let mut rest = fixed::<CREDIT_BYTES>(Kind::Credit, body)?.as_slice();
    let serial = rest.get_u32();
    let attempt = rest.get_u32();
    let (tasks_granted, bytes_granted, number) = (rest.get_u64(), rest.get_u64(), rest.get_u64());
    let alone = (attempt != 0).then_some((number, attempt));
    if alone.is_some() {
        check::number(Kind::Credit, number)?;
    }
    Ok(Credit {
        serial,
        tasks_granted,
        bytes_granted,
        alone,
    })
}

pub(super) fn encode_ack(ack: &Ack) -> Bytes {
    let mut out = Vec::with_capacity(ACK_BYTES);
    out.put_u64(ack.sequence);
    out.put_u64(ack.allowance);
    out.into()
}

pub(super) fn decode_ack(body: &[u8]) -> Result<Ack, WireError> {
    let mut rest = fixed::<ACK_BYTES>(Kind::Ack, body)?.as_slice();
    Ok(Ack {
        sequence: rest.get_u64(),
        allowance: rest.get_u64(),
    })
}

pub(super) fn encode_tasks(tasks: &Tasks) -> Bytes {
    let mut out = Vec::with_capacity(INDEX_HEAD_BYTES + tasks.entries.len() * TASK_BYTES);
    out.put_u64(tasks.epoch);
    let flag = |set, flag| if set { flag } else { 0 };
    out.put_u32(flag(tasks.alone, ALONE) | flag(tasks.backup, BACKUP) | flag(tasks.parted, PARTED));
    out.put_u32(count(tasks.entries.len()));
    for entry in &tasks.entries {
        out.put_u64(entry.number);
        out.put_u32(entry.attempt);
        out.put_u32(entry.length);
    }
    out.into()
}

pub(super) fn decode_tasks([index, payloads]: &[Bytes; 2]) -> Result<Tasks, WireError> {
    let kind = Kind::Tasks;
    let (epoch, flags, records) = split::<TASK_BYTES>(kind, index, "tasks", limits::TASKS_PER_MESSAGE)?;
    if flags & !(ALONE | BACKUP | PARTED) != 0 {
        return Err(WireError::Flags { found: flags });
    }
    let (alone, parted) = (flags & ALONE != 0, flags & PARTED != 0);
    let found = records.len() as u64;
    if alone && found != 1 {
        return Err(WireError::Alone { kind, found });
    }
    if parted && found != 1 {
        return Err(WireError::Parted { found });
    }
    let most = if parted {
        limits::MAX_PARTED
    } else {
        limits::INLINE_BYTES as u64
    };
    let mut entries = Vec::with_capacity(records.len());
    let mut declared = 0;
    for record in records {
        let mut rest = record.as_slice();
        let entry = TaskEntry {
            number: rest.get_u64(),
            attempt: rest.get_u32(),
            length: rest.get_u32(),
        };
        check::number(kind, entry.number)?;
        check::attempt(kind, entry.number, entry.attempt)?;
        check::length(kind, "a payload", entry.length, most)?;
        if parted && entry.length == 0 {
            return Err(WireError::NoParts { number: entry.number });
        }
        declared += if parted { 0 } else { u64::from(entry.length) };
        entries.push(entry);
    }
    check::payload(kind, payloads.len(), declared)?;
    Ok(Tasks {
        epoch,
        alone,
        backup: flags & BACKUP != 0,
        parted,
        entries,
        payloads: payloads.clone(),
    })
}

pub(crate) fn encode_results(results: &Results) -> Bytes {
    let mut out = Vec::with_capacity(INDEX_HEAD_BYTES + results.entries.len() * RESULT_BYTES);
    out.put_u64(results.sequence);
    out.put_u32(0);
    out.put_u32(count(results.entries.len()));
    for entry in &results.entries {
        out.extend_from_slice(&result_record(entry));
    }
    out.into()
}

/// One array: to append each field by itself would check the room for each.
fn result_record(entry: &ResultEntry) -> [u8; RESULT_BYTES] {
    let mut record = [0; RESULT_BYTES];
    let mut out = record.as_mut_slice();
    out.put_u64(entry.number);
    out.put_u32(entry.attempt);
    let way = if entry.parted.is_some() { IN_PARTS } else { INLINE };
    out.put_slice(&[entry.outcome as u8, way, 0, 0]);
    out.put_i32(entry.code);
    out.put_u32(entry.output);
    out.put_u64(entry.start_micros);
    out.put_u64(entry.duration_micros);
    out.put_u32(entry.log);
    out.put_u32(entry.parted.unwrap_or_default());
    record
}

pub(crate) fn decode_results([index, bytes]: &[Bytes; 2]) -> Result<Results, WireError> {
    let kind = Kind::Results;
    let (sequence, _, records) = split::<RESULT_BYTES>(kind, index, "outcomes", limits::RESULTS_PER_MESSAGE)?;
    let mut entries = Vec::with_capacity(records.len());
    let mut declared = 0;
    for record in records {
        let entry = decode_result(record)?;
        let most = if entry.parted.is_some() {
            limits::MAX_PARTED
        } else {
            limits::INLINE_BYTES as u64
        };
        check::length(kind, "an output", entry.output, most)?;
        check::length(kind, "a log tail", entry.log, limits::LOG_TAIL as u64)?;
        declared += u64::from(entry.inline()) + u64::from(entry.log);
        entries.push(entry);
    }
    check::payload(kind, bytes.len(), declared)?;
    Ok(Results {
        sequence,
        entries,
        bytes: bytes.clone(),
    })
}

fn decode_result(record: &[u8; RESULT_BYTES]) -> Result<ResultEntry, WireError> {
    let mut rest = record.as_slice();
    let number = rest.get_u64();
    check::number(Kind::Results, number)?;
    let attempt = rest.get_u32();
    check::attempt(Kind::Results, number, attempt)?;
    let [code, way, _, _] = rest.get_u32().to_be_bytes();
    let outcome = OutcomeCode::from_code(code).ok_or(WireError::Outcome { found: code, number })?;
    let entry = ResultEntry {
        number,
        attempt,
        outcome,
        code: rest.get_i32(),
        output: rest.get_u32(),
        start_micros: rest.get_u64(),
        duration_micros: rest.get_u64(),
        log: rest.get_u32(),
        parted: None,
    };
    match way {
        INLINE => Ok(entry),
        IN_PARTS if outcome == OutcomeCode::Succeeded => Ok(ResultEntry {
            parted: Some(rest.get_u32()),
            ..entry
        }),
        IN_PARTS => Err(WireError::PartsOfFailure { number }),
        found => Err(WireError::Way { found, number }),
    }
}

pub(super) fn encode_part(part: &Part) -> Bytes {
    let mut out = Vec::with_capacity(PART_INDEX_BYTES);
    out.put_u64(part.stamp);
    out.put_u64(part.number);
    out.put_u32(part.attempt);
    out.put_u32(0);
    out.put_u64(part.offset);
    out.into()
}

pub(super) fn decode_part([index, bytes]: &[Bytes; 2]) -> Result<Part, WireError> {
    let kind = Kind::Part;
    let mut rest = fixed::<PART_INDEX_BYTES>(kind, index)?.as_slice();
    let (stamp, number, attempt) = (rest.get_u64(), rest.get_u64(), rest.get_u32());
    rest.get_u32();
    let part = Part {
        stamp,
        number,
        attempt,
        offset: rest.get_u64(),
        bytes: bytes.clone(),
    };
    check::number(kind, number)?;
    check::attempt(kind, number, attempt)?;
    check::part(&part)?;
    Ok(part)
}

/// A count that exceeds its field exceeds every limit too, and is refused by the receiver.
fn count(entries: usize) -> u32 {
    u32::try_from(entries).unwrap_or(u32::MAX)
}

fn fixed<const N: usize>(kind: Kind, body: &[u8]) -> Result<&[u8; N], WireError> {
    body.try_into().map_err(|_| WireError::Length {
        kind,
        found: body.len(),
        expected: N,
    })
}

/// The head of an index frame, a word and flags, and its records: as many as the head says, and at most `most`.
fn split<'a, const N: usize>(
    kind: Kind,
    index: &'a [u8],
    what: &'static str,
    most: usize,
) -> Result<(u64, u32, &'a [[u8; N]]), WireError> {
    let too_short = WireError::Length {
        kind,
        found: index.len(),
        expected: INDEX_HEAD_BYTES,
    };
    let (head, records) = index.split_first_chunk::<INDEX_HEAD_BYTES>().ok_or(too_short)?;
    let mut head = head.as_slice();
    let (word, flags) = (head.get_u64(), head.get_u32());
    let count = usize::try_from(head.get_u32()).unwrap_or(usize::MAX);
    check::count(kind, what, count, 1, most)?;
    match records.as_chunks::<N>() {
        (records, []) if records.len() == count => Ok((word, flags, records)),
        _ => Err(WireError::Length {
            kind,
            found: index.len(),
            expected: INDEX_HEAD_BYTES + count * N,
        }),
    }
}
