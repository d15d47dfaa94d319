//! How one record lies in a segment: a header, the payload, the runs of numbers it settles, zeros up to 8 bytes.
//!
//! | bytes | field |
//! |---|---|
//! | 0..4 | magic |
//! | 4..8, 8..12 | length of the payload, and its complement |
//! | 12..16 | how many runs follow the payload |
//! | 16..24 | sequence: how many records the log held before this one |
//! | 24..28 | CRC32C of payload, runs and zeros |
//! | 28..32 | CRC32C of log id, segment, offset and the header so far |
//!
//! All integers are in network order. The log id in the checksum keeps a payload from passing for a record, even when
//! it holds a copy of one: a scan over a damaged region looks at bytes that tasks have chosen.

use std::io::IoSlice;

use bytes::{Buf, BufMut};
use crc32c::{crc32c, crc32c_append};
use harmony_protocol::ids::LogId;

use crate::LogError;

/// Bytes of a record's header.
pub(crate) const HEADER: usize = 32;
/// Records begin at multiples of this many bytes, so that a scan looks at one place in eight.
pub(crate) const ALIGN: u64 = 8;
/// How a record begins.
pub(crate) const MAGIC: u32 = u32::from_be_bytes(*b"HREC");
/// Bytes of one run.
const RUN: usize = 16;

/// Entries `entry..entry + count` of a record settle the numbers `number..number + count`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placed {
    /// The first number.
    pub number: u64,
    /// How many numbers, at least 1.
    pub count: u32,
    /// The entry of the record that settles `number`.
    pub entry: u32,
}

impl Placed {
    /// The number after the last one.
    pub(crate) fn end(&self) -> u64 {
        self.number.saturating_add(u64::from(self.count))
    }

    fn is_valid(&self) -> bool {
        self.count > 0
            && self.number.checked_add(u64::from(self.count)).is_some()
            && self.entry.checked_add(self.count).is_some()
    }

    /// Whether `next` goes on where this run ends.
    fn joins(&self, next: &Self) -> bool {
        self.end() == next.number
            && u64::from(self.entry) + u64::from(self.count) == u64::from(next.entry)
            && self.count.checked_add(next.count).is_some()
    }
}

/// Where the checksums of one segment start from.
#[derive(Clone, Copy)]
pub(crate) struct Seed(u32);

impl Seed {
    pub(crate) fn new(log: LogId, segment: u32) -> Self {
        Self(crc32c_append(crc32c(log.0.as_bytes()), &segment.to_be_bytes()))
    }

    /// The checksum of bytes that belong at this offset of the segment.
    pub(crate) fn sum(self, offset: u64, bytes: &[u8]) -> u32 {
        crc32c_append(crc32c_append(self.0, &offset.to_be_bytes()), bytes)
    }
}

/// The checked header of a record.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Header {
    pub(crate) length: u32,
    runs: u32,
    pub(crate) sequence: u64,
    body_sum: u32,
}

impl Header {
    /// Reads a header; `None` if these bytes are no header of this log at this place.
    pub(crate) fn read(bytes: &[u8], seed: Seed, offset: u64) -> Option<Self> {
        let (mut bytes, front) = (bytes.get(..HEADER)?, bytes.get(..HEADER - 4)?);
        if bytes.get_u32() != MAGIC {
            return None;
        }
        let length = bytes.get_u32();
        if bytes.get_u32() != !length {
            return None;
        }
        let header = Self {
            length,
            runs: bytes.get_u32(),
            sequence: bytes.get_u64(),
            body_sum: bytes.get_u32(),
        };
        (bytes.get_u32() == seed.sum(offset, front)).then_some(header)
    }

    /// Bytes of payload, runs and zeros. Widened, since a header is believed only as far as its checksum goes.
    pub(crate) fn body(&self) -> u64 {
        (u64::from(self.length) + u64::from(self.runs) * RUN as u64).next_multiple_of(ALIGN)
    }

    /// Bytes of the whole record.
    pub(crate) fn frame(&self) -> u64 {
        HEADER as u64 + self.body()
    }

    /// Checks the body and takes it apart into payload and runs; the runs replace what `placed` held.
    pub(crate) fn open<'a>(&self, body: &'a [u8], placed: &mut Vec<Placed>) -> Option<&'a [u8]> {
        if body.len() as u64 != self.body() || crc32c(body) != self.body_sum {
            return None;
        }
        let (payload, mut runs) = body.split_at_checked(self.length as usize)?;
        placed.clear();
        for _ in 0..self.runs {
            let run = Placed {
                number: runs.get_u64(),
                count: runs.get_u32(),
                entry: runs.get_u32(),
            };
            if !run.is_valid() {
                return None;
            }
            placed.push(run);
        }
        Some(payload)
    }
}

/// Builds the frame around a record. The buffers are kept from record to record.
#[derive(Default)]
pub(crate) struct Builder {
    header: Vec<u8>,
    tail: Vec<u8>,
    /// The runs of the record, with neighbours joined.
    pub(crate) placed: Vec<Placed>,
    length: u32,
    body_sum: u32,
}

impl Builder {
    /// Takes in a record of at most `limit` bytes. Returns the bytes of its frame.
    pub(crate) fn load(&mut self, record: &[&[u8]], placed: &[Placed], limit: u64) -> Result<u64, LogError> {
        let length: u64 = record.iter().map(|part| part.len() as u64).sum();
        let too_large = || LogError::Invalid {
            field: "record bytes",
            value: length,
            allowed: format!("at most {limit}"),
        };
        self.length = u32::try_from(length)
            .ok()
            .filter(|_| length <= limit)
            .ok_or_else(too_large)?;
        self.join(placed)?;
        self.tail.clear();
        for run in &self.placed {
            self.tail.put_u64(run.number);
            self.tail.put_u32(run.count);
            self.tail.put_u32(run.entry);
        }
        let body = (length + self.tail.len() as u64).next_multiple_of(ALIGN);
        self.tail.resize((body - length) as usize, 0);
        self.body_sum = record.iter().fold(0, |sum, part| crc32c_append(sum, part));
        self.body_sum = crc32c_append(self.body_sum, &self.tail);
        Ok(HEADER as u64 + body)
    }

    fn join(&mut self, placed: &[Placed]) -> Result<(), LogError> {
        self.placed.clear();
        for run in placed {
            if !run.is_valid() {
                let allowed = "at least 1 number, none above 2^64 - 2".to_owned();
                return Err(LogError::Invalid {
                    field: "placed count",
                    value: run.count.into(),
                    allowed,
                });
            }
            match self.placed.last_mut() {
                Some(last) if last.joins(run) => last.count += run.count,
                _ => self.placed.push(*run),
            }
        }
        Ok(())
    }

    /// The parts to write for the record that was loaded last.
    pub(crate) fn parts<'a>(
        &'a mut self,
        record: &[&'a [u8]],
        seed: Seed,
        offset: u64,
        sequence: u64,
    ) -> Vec<IoSlice<'a>> {
        self.header.clear();
        self.header.put_u32(MAGIC);
        self.header.put_u32(self.length);
        self.header.put_u32(!self.length);
        self.header
            .put_u32(u32::try_from(self.placed.len()).unwrap_or(u32::MAX));
        self.header.put_u64(sequence);
        self.header.put_u32(self.body_sum);
        let sum = seed.sum(offset, &self.header);
        self.header.put_u32(sum);
        let mut parts = Vec::with_capacity(record.len() + 2);
        parts.push(IoSlice::new(&self.header));
        parts.extend(record.iter().map(|part| IoSlice::new(part)));
        parts.push(IoSlice::new(&self.tail));
        parts
    }
}
