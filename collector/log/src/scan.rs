//! Reading a segment from a place onwards: every whole record in order, stepping over what is damaged.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use harmony_protocol::mutant::{self, Mutant};

use crate::LogError;
use crate::disk::DiskFile;
use crate::frame::{self, ALIGN, Header, Placed, Seed};
use crate::index::{Run, RunIndex};

/// Bytes read from the disk at once.
const CHUNK: usize = 1 << 20;

/// One record, as it lies in a segment.
pub(crate) struct Frame<'a> {
    pub(crate) offset: u64,
    /// Where the next record begins.
    pub(crate) end: u64,
    pub(crate) payload: &'a [u8],
    pub(crate) placed: &'a [Placed],
}

/// Reads the records of one segment in order.
pub(crate) struct Scanner {
    file: Arc<dyn DiskFile>,
    path: PathBuf,
    seed: Seed,
    /// Where the segment ends, in bytes.
    length: u64,
    offset: u64,
    /// A record of a lower sequence is an older one that has no place here.
    sequence: u64,
    buffer: Vec<u8>,
    buffer_at: u64,
    placed: Vec<Placed>,
    /// The regions that hold no record.
    pub(crate) damage: Vec<Range<u64>>,
    /// Records that are missing between those that were read.
    pub(crate) lost: u64,
}

impl Scanner {
    /// Reads `file` from `offset`, where the record of this sequence is expected, up to `length`.
    pub(crate) fn new(file: Arc<dyn DiskFile>, path: PathBuf, seed: Seed, from: (u64, u64), length: u64) -> Self {
        let (offset, sequence) = from;
        Self {
            file,
            path,
            seed,
            length,
            offset,
            sequence,
            buffer: Vec::new(),
            buffer_at: offset,
            placed: Vec::new(),
            damage: Vec::new(),
            lost: 0,
        }
    }

    /// The end of the last record read, or of the damage behind it.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// The sequence of the next record.
    pub(crate) fn sequence(&self) -> u64 {
        self.sequence
    }

    /// The next whole record; `None` at the end of the segment.
    pub(crate) fn next(&mut self) -> Result<Option<Frame<'_>>, LogError> {
        let from = self.offset;
        let mut offset = from;
        let (header, body) = loop {
            if offset >= self.length {
                self.offset = self.length;
                self.note_damage(from..self.length);
                return Ok(None);
            }
            if let Some(found) = self.record_at(offset)? {
                break found;
            }
            offset = (offset + 1).next_multiple_of(ALIGN);
            if mutant::on(Mutant::DamageDropsTheRest) {
                offset = self.length;
            }
        };
        self.note_damage(from..offset);
        self.lost += header.sequence.saturating_sub(self.sequence);
        self.sequence = header.sequence.saturating_add(1);
        self.offset = offset + header.frame();
        let payload = self
            .buffer
            .get(body.start..body.start + header.length as usize)
            .unwrap_or_default();
        Ok(Some(Frame {
            offset,
            end: self.offset,
            payload,
            placed: &self.placed,
        }))
    }

    /// Reads to the end of the segment. Returns what its records settle, and where the last whole one ends.
    pub(crate) fn index(&mut self) -> Result<(RunIndex, u64), LogError> {
        let (mut runs, mut last) = (Vec::new(), self.offset);
        while let Some(frame) = self.next()? {
            let run = |placed: &Placed| Run {
                placed: *placed,
                offset: frame.offset,
            };
            runs.extend(frame.placed.iter().map(run));
            last = frame.end;
        }
        Ok((RunIndex::build(runs), last))
    }

    fn note_damage(&mut self, region: Range<u64>) {
        if !region.is_empty() {
            self.damage.push(region);
        }
    }

    /// The whole, checked record at this offset: its header, and where its body is in the buffer. Its runs are left in
    /// `placed`.
    fn record_at(&mut self, offset: u64) -> Result<Option<(Header, Range<usize>)>, LogError> {
        let Some(front) = self.window(offset, frame::HEADER as u64)? else {
            return Ok(None);
        };
        let front = self.buffer.get(front).unwrap_or_default();
        let Some(header) = Header::read(front, self.seed, offset) else {
            return Ok(None);
        };
        if header.sequence < self.sequence {
            return Ok(None);
        }
        let Some(range) = self.window(offset + frame::HEADER as u64, header.body())? else {
            return Ok(None);
        };
        let body = self.buffer.get(range.clone()).unwrap_or_default();
        Ok(header.open(body, &mut self.placed).map(|_| (header, range)))
    }

    /// Has the bytes from `offset` in the buffer and says where; `None` if the segment ends before that.
    fn window(&mut self, offset: u64, length: u64) -> Result<Option<Range<usize>>, LogError> {
        if length > self.length.saturating_sub(offset) {
            return Ok(None);
        }
        let end = offset + length;
        if offset < self.buffer_at || end > self.buffer_at + self.buffer.len() as u64 {
            let wanted = length.max(CHUNK as u64).min(self.length - offset);
            self.buffer.resize(usize::try_from(wanted).unwrap_or(usize::MAX), 0);
            self.buffer_at = offset;
            let read = self.file.read_at(offset, &mut self.buffer);
            let read = read.map_err(|source| LogError::io("read", &self.path, source))?;
            self.buffer.truncate(read);
            if (read as u64) < length {
                return Ok(None);
            }
        }
        // Both are bounded by the length of the buffer.
        let start = (offset - self.buffer_at) as usize;
        Ok(Some(start..start + length as usize))
    }
}
