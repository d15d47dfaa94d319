//! What is in the folder of a log, found out without changing anything.

use std::collections::BTreeMap;
use std::path::Path;

use harmony_protocol::ids::{BatchUid, LogId};
use harmony_protocol::mutant::{self, Mutant};

use crate::checkpoint::{self, Checkpoint};
use crate::disk::{Disk, Mode};
use crate::frame::Seed;
use crate::index::RunIndex;
use crate::scan::Scanner;
use crate::segment::{HEADER, SegmentHeader, number_in, segment_path};
use crate::{Identity, LogError};

/// A segment of this log.
pub(crate) struct Found {
    pub(crate) number: u32,
    pub(crate) first: u64,
    /// Bytes, without a torn end.
    pub(crate) length: u64,
}

impl Found {
    /// Reads it from this offset, where the record of this sequence is expected. A log can have more segments than a
    /// process may have open files, so that each is open only while it is read.
    pub(crate) fn scan(&self, disk: &dyn Disk, dir: &Path, log: LogId, from: (u64, u64)) -> Result<Scanner, LogError> {
        let path = segment_path(dir, self.number);
        let file = disk
            .open(&path, Mode::Read)
            .map_err(|source| LogError::io("open", &path, source))?;
        Ok(Scanner::new(file, path, Seed::new(log, self.number), from, self.length))
    }
}

/// The end of the last segment.
pub(crate) struct Tail {
    /// Bytes behind the last whole record.
    pub(crate) torn: u64,
    /// The sequence of the next record.
    pub(crate) sequence: u64,
    pub(crate) index: RunIndex,
}

/// The files of a log.
pub(crate) struct Survey {
    /// All names in the folder.
    pub(crate) names: Vec<String>,
    /// Whose log it is; `None` if there is no segment.
    pub(crate) identity: Option<Identity>,
    /// By number.
    pub(crate) segments: Vec<Found>,
    pub(crate) tail: Option<Tail>,
    /// The newest one that the segments bear out.
    pub(crate) checkpoint: Option<Checkpoint>,
    /// Names of files that are damaged, belong to another log, or are checkpoints that cannot be believed.
    pub(crate) bad: Vec<String>,
}

impl Survey {
    pub(crate) fn take(disk: &dyn Disk, dir: &Path, uid: BatchUid) -> Result<Self, LogError> {
        let mut names = disk.list(dir).map_err(|source| LogError::io("list", dir, source))?;
        names.sort_unstable();
        let mut survey = Self {
            names,
            identity: None,
            segments: Vec::new(),
            tail: None,
            checkpoint: None,
            bad: Vec::new(),
        };
        survey.find_segments(disk, dir, uid)?;
        survey.read_tail(disk, dir)?;
        survey.choose_checkpoint(disk, dir, uid)?;
        Ok(survey)
    }

    fn find_segments(&mut self, disk: &dyn Disk, dir: &Path, uid: BatchUid) -> Result<(), LogError> {
        let mut logs: BTreeMap<LogId, Vec<Found>> = BTreeMap::new();
        for name in &self.names {
            let Some(number) = number_in(name, ".log") else {
                continue;
            };
            let path = segment_path(dir, number);
            let failed = |source| LogError::io("open", &path, source);
            let file = disk.open(&path, Mode::Read).map_err(failed)?;
            let header = SegmentHeader::load(&*file, &path)?.filter(|header| header.number == number);
            let Some(header) = header else {
                self.bad.push(name.clone());
                continue;
            };
            same_batch(&path, header.identity.uid, uid)?;
            let length = file.len().map_err(failed)?;
            logs.entry(header.identity.log).or_default().push(Found {
                number,
                first: header.first,
                length,
            });
        }
        // A segment that strayed in from a copy is outnumbered by those of the log.
        let log = logs
            .iter()
            .max_by_key(|(_, segments)| segments.len())
            .map(|(log, _)| *log);
        let Some(log) = log else { return Ok(()) };
        self.identity = Some(Identity { uid, log });
        self.segments = logs.remove(&log).unwrap_or_default();
        let strays = logs.into_values().flatten();
        self.bad.extend(strays.map(|stray| format!("{:08x}.log", stray.number)));
        Ok(())
    }

    /// Reads the last segment through: where its last whole record ends, and what it settles.
    fn read_tail(&mut self, disk: &dyn Disk, dir: &Path) -> Result<(), LogError> {
        let Some((identity, last)) = self.identity.zip(self.segments.last_mut()) else {
            return Ok(());
        };
        let mut scanner = last.scan(disk, dir, identity.log, (HEADER, last.first))?;
        let (index, end) = scanner.index()?;
        self.tail = Some(Tail {
            torn: last.length.saturating_sub(end),
            sequence: scanner.sequence(),
            index,
        });
        last.length = end;
        Ok(())
    }

    fn choose_checkpoint(&mut self, disk: &dyn Disk, dir: &Path, uid: BatchUid) -> Result<(), LogError> {
        let names: Vec<String> = self
            .names
            .iter()
            .filter(|name| checkpoint::sequence_in(name).is_some())
            .cloned()
            .collect();
        for name in names.into_iter().rev() {
            let path = dir.join(&name);
            let found = checkpoint::load(disk, &path)?;
            if let Some(found) = &found {
                same_batch(&path, found.identity.uid, uid)?;
            }
            let believed = |found: &Checkpoint| self.bears_out(found) || mutant::on(Mutant::CheckpointAhead);
            match found.filter(believed) {
                None => self.bad.push(name),
                believed => {
                    self.checkpoint = believed;
                    break;
                }
            }
        }
        Ok(())
    }

    /// Whether every segment that the checkpoint was built from is there, in full.
    fn bears_out(&self, checkpoint: &Checkpoint) -> bool {
        let there = |number| {
            let at = self
                .segments
                .binary_search_by_key(&number, |segment| segment.number)
                .ok()?;
            self.segments.get(at)
        };
        Some(checkpoint.identity) == self.identity
            && checkpoint
                .covered
                .last()
                .is_some_and(|last| last.number == checkpoint.at.segment)
            && checkpoint.covered.iter().all(|covered| {
                there(covered.number).is_some_and(|segment| {
                    let whole = if covered.number == checkpoint.at.segment {
                        segment.length >= covered.length
                    } else {
                        segment.length == covered.length
                    };
                    segment.first == covered.first && whole
                })
            })
    }

    /// The sequences of the checkpoints that stay, in order.
    pub(crate) fn checkpoints(&self) -> Vec<u64> {
        let staying = self.names.iter().filter(|name| !self.bad.contains(name));
        staying.filter_map(|name| checkpoint::sequence_in(name)).collect()
    }
}

fn same_batch(path: &Path, found: BatchUid, expected: BatchUid) -> Result<(), LogError> {
    if found == expected {
        return Ok(());
    }
    Err(LogError::OtherBatch {
        path: path.to_path_buf(),
        found,
        expected,
    })
}
