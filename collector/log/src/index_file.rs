//! The index of a sealed segment, on disk: the runs of [`RunIndex`] in blocks that each carry a checksum.
//!
//! It holds nothing that is not in its segment, so that a lost or damaged one is written anew.

use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::{Buf, BufMut};
use harmony_protocol::ids::LogId;

use crate::LogError;
use crate::disk::{Disk, DiskFile};
use crate::frame::{Placed, Seed};
use crate::index::{Run, RunIndex};
use crate::segment::{FORMAT, index_path, replace};

const MAGIC: &[u8; 8] = b"HRMNYIDX";
const HEADER: usize = 72;
/// Bytes of one run.
const RUN: usize = 24;
/// Runs in a block: as many as fit one page with the checksum.
const BLOCK_RUNS: u64 = 170;
const BLOCK: u64 = BLOCK_RUNS * RUN as u64 + 4;

/// What is known of an index without reading its blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Summary {
    runs: u64,
    /// The lowest number.
    pub(crate) first: u64,
    /// The number after the highest.
    pub(crate) end: u64,
}

impl Summary {
    fn of(index: &RunIndex) -> Self {
        let (first, end) = index.bounds();
        Self {
            runs: index.len() as u64,
            first,
            end,
        }
    }

    fn header(self, log: LogId, segment: u32, length: u64) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER);
        bytes.put_slice(MAGIC);
        bytes.put_u32(FORMAT);
        bytes.put_u32(segment);
        bytes.put_slice(log.0.as_bytes());
        bytes.put_u64(length);
        bytes.put_u64(self.runs);
        bytes.put_u64(self.first);
        bytes.put_u64(self.end);
        bytes.put_u32(0);
        let sum = Seed::new(log, segment).sum(0, &bytes);
        bytes.put_u32(sum);
        bytes
    }

    /// Reads the header of an index; `None` unless it is whole and about this segment of this length.
    pub(crate) fn load(file: &dyn DiskFile, log: LogId, segment: u32, length: u64) -> Option<Self> {
        let mut bytes = [0; HEADER];
        // Whatever keeps it from being read, it can be written anew.
        file.read_at(0, &mut bytes).ok().filter(|read| *read == HEADER)?;
        let mut fields = bytes.get(40..64)?;
        let summary = Self {
            runs: fields.get_u64(),
            first: fields.get_u64(),
            end: fields.get_u64(),
        };
        let blocks = summary.runs.div_ceil(BLOCK_RUNS);
        let size = HEADER as u64 + summary.runs.checked_mul(RUN as u64)?.checked_add(blocks * 4)?;
        (summary.header(log, segment, length) == bytes && file.len().ok()? == size).then_some(summary)
    }
}

/// Writes the index of a segment of this length, durably.
pub(crate) fn write(
    disk: &dyn Disk,
    dir: &Path,
    log: LogId,
    (segment, length): (u32, u64),
    index: &RunIndex,
) -> Result<Summary, LogError> {
    let summary = Summary::of(index);
    let seed = Seed::new(log, segment);
    let path = index_path(dir, segment);
    let write = |file: &dyn DiskFile| {
        let mut bytes = summary.header(log, segment, length);
        let mut runs = index.iter().peekable();
        let mut at = 0;
        while runs.peek().is_some() {
            let start = bytes.len();
            for run in runs.by_ref().take(BLOCK_RUNS as usize) {
                bytes.put_u64(run.placed.number);
                bytes.put_u32(run.placed.count);
                bytes.put_u32(run.placed.entry);
                bytes.put_u64(run.offset);
            }
            let sum = seed.sum(at, bytes.get(start..).unwrap_or_default());
            bytes.put_u32(sum);
            at += BLOCK;
        }
        file.append(&mut [IoSlice::new(&bytes)])
    };
    replace(disk, dir, &path, write).map_err(|source| LogError::io("write", &path, source))?;
    Ok(summary)
}

/// An open index of a sealed segment.
pub(crate) struct IndexFile {
    pub(crate) file: Arc<dyn DiskFile>,
    pub(crate) path: PathBuf,
    pub(crate) seed: Seed,
    pub(crate) summary: Summary,
}

impl IndexFile {
    /// The run that settles this number.
    pub(crate) fn find(&self, number: u64) -> Result<Option<Run>, LogError> {
        let block = self.block(self.block_of(number)?)?;
        let after = block.partition_point(|run| run.number() <= number);
        let run = after.checked_sub(1).and_then(|last| block.get(last));
        Ok(run.copied().filter(|run| run.end() > number))
    }

    /// Some of the runs that settle numbers from this one on, in order; none only if there are none.
    pub(crate) fn from(&self, number: u64) -> Result<Vec<Run>, LogError> {
        for block in self.block_of(number)?..self.blocks() {
            let mut runs = self.block(block)?;
            runs.retain(|run| run.end() > number);
            if !runs.is_empty() {
                return Ok(runs);
            }
        }
        Ok(Vec::new())
    }

    /// All runs.
    pub(crate) fn all(&self) -> Result<RunIndex, LogError> {
        let mut runs = Vec::new();
        for block in 0..self.blocks() {
            runs.append(&mut self.block(block)?);
        }
        Ok(RunIndex::build(runs))
    }

    fn blocks(&self) -> u64 {
        self.summary.runs.div_ceil(BLOCK_RUNS)
    }

    /// The last block that begins at or below this number, else the first.
    fn block_of(&self, number: u64) -> Result<u64, LogError> {
        let (mut low, mut high) = (0, self.blocks());
        while high - low > 1 {
            let middle = low.midpoint(high);
            if self.block(middle)?.first().is_some_and(|run| run.number() <= number) {
                low = middle;
            } else {
                high = middle;
            }
        }
        Ok(low)
    }

    fn block(&self, block: u64) -> Result<Vec<Run>, LogError> {
        let runs = self.summary.runs.saturating_sub(block * BLOCK_RUNS).min(BLOCK_RUNS) as usize;
        if runs == 0 {
            return Ok(Vec::new());
        }
        let offset = HEADER as u64 + block * BLOCK;
        let mut bytes = vec![0; runs * RUN + 4];
        let read = self.file.read_at(offset, &mut bytes);
        let read = read.map_err(|source| LogError::io("read", &self.path, source))?;
        let (mut front, mut sum) = bytes.split_at(runs * RUN);
        if read < bytes.len() || sum.get_u32() != self.seed.sum(block * BLOCK, front) {
            return Err(LogError::Damaged {
                path: self.path.clone(),
                offset,
            });
        }
        let run = |_| Run {
            placed: Placed {
                number: front.get_u64(),
                count: front.get_u32(),
                entry: front.get_u32(),
            },
            offset: front.get_u64(),
        };
        Ok((0..runs).map(run).collect())
    }
}
