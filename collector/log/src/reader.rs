//! Reading the log while it is written: by number, in the order of the log, in the order of the numbers.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use crate::frame::{self, Header, Placed};
use crate::index::Run;
use crate::scan::Scanner;
use crate::segment::segment_path;
use crate::shared::Shared;
use crate::{InOrder, LogError};

/// Records that a reader keeps, so that the numbers of one record are read at once.
const KEPT_RECORDS: usize = 32;
/// Bytes of records that a reader keeps; the newest is kept whatever its size.
const KEPT_BYTES: usize = 16 << 20;

/// Where the outcome of a number is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Location {
    pub(crate) segment: u32,
    pub(crate) offset: u64,
    /// The entry of the record.
    pub entry: u32,
}

impl Location {
    /// The segment and the offset in it, in bytes; all numbers of one record share it.
    pub fn place(&self) -> (u32, u64) {
        (self.segment, self.offset)
    }

    pub(crate) fn of(segment: u32, run: &Run, number: u64) -> Self {
        Self {
            segment,
            offset: run.offset,
            entry: run.entry(number),
        }
    }
}

/// A record, read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// What was appended.
    pub bytes: Bytes,
    /// Which numbers it settled, neighbours joined.
    pub placed: Vec<Placed>,
}

/// Reads a log. It sees what was appended, also before it is durable. Clones are cheap.
pub struct LogReader {
    pub(crate) shared: Arc<Shared>,
    kept: Mutex<VecDeque<(u32, u64, Bytes)>>,
}

impl Clone for LogReader {
    fn clone(&self) -> Self {
        Self::new(Arc::clone(&self.shared))
    }
}

impl LogReader {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            kept: Mutex::default(),
        }
    }

    /// Makes durable what there was when this is called: what is read then can be relied on, also after a loss of power.
    pub fn make_durable(&self) -> Result<(), LogError> {
        self.shared.sync().map(drop)
    }

    /// Where the outcome of a number is; of several, the last one recorded.
    pub fn find(&self, number: u64) -> Result<Option<Location>, LogError> {
        let candidates: Vec<u32> = {
            let catalog = self.shared.read();
            if let Some(run) = catalog.active.index.find(number) {
                return Ok(Some(Location::of(catalog.active.number, &run, number)));
            }
            let holds = |first, end| (first..end).contains(&number);
            let sealed = catalog.sealed.iter().rev();
            sealed
                .filter(|sealed| holds(sealed.index.first, sealed.index.end))
                .map(|sealed| sealed.number)
                .collect()
        };
        for segment in candidates {
            if let Some(run) = self.shared.with_index(segment, |index| index.find(number))? {
                return Ok(Some(Location::of(segment, &run, number)));
            }
        }
        Ok(None)
    }

    /// The record at a location, checked. [`LogError::Damaged`] if the disk has lost it.
    pub fn read(&self, location: Location) -> Result<Bytes, LogError> {
        let (segment, offset) = (location.segment, location.offset);
        if let Some(bytes) = self.kept(segment, offset) {
            return Ok(bytes);
        }
        let bytes = self.load(segment, offset)?;
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.push_front((segment, offset, bytes.clone()));
        let mut total: usize = kept.iter().map(|(_, _, bytes)| bytes.len()).sum();
        while kept.len() > KEPT_RECORDS || (total > KEPT_BYTES && kept.len() > 1) {
            total -= kept.pop_back().map_or(0, |(_, _, bytes)| bytes.len());
        }
        Ok(bytes)
    }

    fn kept(&self, segment: u32, offset: u64) -> Option<Bytes> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter()
            .find(|kept| (kept.0, kept.1) == (segment, offset))
            .map(|(_, _, bytes)| bytes.clone())
    }

    fn load(&self, segment: u32, offset: u64) -> Result<Bytes, LogError> {
        let (file, _, length) = self.shared.segment(segment)?;
        let path = segment_path(&self.shared.dir, segment);
        let read = |offset, buffer: &mut [u8]| {
            file.read_at(offset, buffer)
                .map_err(|source| LogError::io("read", &path, source))
        };
        let mut front = [0; frame::HEADER];
        read(offset, &mut front)?;
        let header = Header::read(&front, self.shared.seed(segment), offset);
        let header = header.filter(|header| offset.saturating_add(header.frame()) <= length);
        let damaged = || LogError::Damaged {
            path: path.clone(),
            offset,
        };
        let header = header.ok_or_else(damaged)?;
        let mut body = vec![0; header.body() as usize];
        read(offset + frame::HEADER as u64, &mut body)?;
        header.open(&body, &mut Vec::new()).ok_or_else(damaged)?;
        body.truncate(header.length as usize);
        Ok(body.into())
    }

    /// The settled numbers from this one on, in order, each with its outcome's place. Numbers that are settled
    /// meanwhile may or may not be among them.
    pub fn in_order(&self, from: u64) -> InOrder {
        InOrder::new(Arc::clone(&self.shared), from)
    }

    /// All whole records, in the order in which they were appended. Damaged ones are left out.
    pub fn records(&self) -> Records {
        let mut segments: Vec<u32> = self
            .shared
            .read()
            .segments()
            .into_iter()
            .map(|(number, _)| number)
            .collect();
        segments.reverse();
        Records {
            shared: Arc::clone(&self.shared),
            segments,
            scanner: None,
        }
    }
}

/// The records of a log, in order.
pub struct Records {
    shared: Arc<Shared>,
    /// Those still to be read, the next one last.
    segments: Vec<u32>,
    scanner: Option<Scanner>,
}

impl Iterator for Records {
    type Item = Result<Record, LogError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if self.scanner.is_none() {
                match self.shared.scan(self.segments.pop()?) {
                    Ok(scanner) => self.scanner = Some(scanner),
                    Err(error) => return Some(Err(error)),
                }
            }
            match self.scanner.as_mut()?.next() {
                Ok(Some(frame)) => {
                    let bytes = Bytes::copy_from_slice(frame.payload);
                    return Some(Ok(Record {
                        bytes,
                        placed: frame.placed.to_vec(),
                    }));
                }
                Ok(None) => self.scanner = None,
                Err(error) => {
                    self.scanner = None;
                    return Some(Err(error));
                }
            }
        }
    }
}
