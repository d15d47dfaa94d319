//! The writing end of the log.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use harmony_protocol::ids::LogId;

use crate::frame::{Builder, Placed};
use crate::index::RunIndex;
use crate::segment::{HEADER, SegmentHeader, segment_path};
use crate::shared::{Active, Sealed, Shared};
use crate::{LogError, LogReader, Position, Syncer, index_file};

/// Bytes that are left free on a file system of 10 GiB or more: what indexes, checkpoints and others need does not grow
/// with its size.
const MOST_ROOM_TO_LEAVE: u64 = 1 << 30;

/// The log of one batch, open to append to.
pub struct Log {
    shared: Arc<Shared>,
    builder: Builder,
}

/// A record was written. It is durable only after the next sync.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// The end of the record.
    pub position: Position,
    /// Whether the record is the first of a new segment: the time for a checkpoint.
    pub rotated: bool,
}

impl Log {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            builder: Builder::default(),
        }
    }

    /// The identity of this log; a log that was lost and begun anew has another.
    pub fn log_id(&self) -> LogId {
        self.shared.identity.log
    }

    /// The end of the last record appended.
    pub fn end(&self) -> Position {
        self.shared.read().active.position()
    }

    /// The bytes of all segments.
    pub fn bytes(&self) -> u64 {
        let catalog = self.shared.read();
        catalog.sealed.iter().map(|sealed| sealed.length).sum::<u64>() + catalog.active.length
    }

    /// The bytes that the disk has left.
    pub fn available(&self) -> Result<u64, LogError> {
        let dir = &self.shared.dir;
        self.shared
            .disk
            .available(dir)
            .map_err(|source| LogError::io("ask for the room at", dir, source))
    }

    /// A handle that makes the log durable, for a thread of its own.
    pub fn syncer(&self) -> Syncer {
        Syncer::new(Arc::clone(&self.shared))
    }

    /// A handle that reads the log while it is written.
    pub fn reader(&self) -> LogReader {
        LogReader::new(Arc::clone(&self.shared))
    }

    /// Writes a record, given in parts, and notes which numbers it settles. It is readable at once and durable after
    /// the next sync. After [`LogError::NoSpace`] nothing of it is there and the log can be used on; any error that
    /// is fatal ends the log.
    pub fn append(&mut self, record: &[&[u8]], placed: &[Placed]) -> Result<Appended, LogError> {
        self.append_beside(0, record, placed)
    }

    /// The same, where other files of the log take so many bytes.
    pub(crate) fn append_beside(
        &mut self,
        others: u64,
        record: &[&[u8]],
        placed: &[Placed],
    ) -> Result<Appended, LogError> {
        self.shared.usable()?;
        let frame = self.builder.load(record, placed, self.shared.config.max_record)?;
        self.check_limit(others, frame)?;
        let length = self.end().offset;
        let full = length > HEADER && length.saturating_add(frame) > self.shared.config.segment_bytes;
        let rotated = full || self.shared.spoiled.load(Ordering::SeqCst);
        if rotated {
            self.rotate().map_err(|error| self.shared.note(error))?;
        }
        self.write(record, frame).map_err(|error| self.shared.note(error))?;
        Ok(Appended {
            position: self.end(),
            rotated,
        })
    }

    /// Nine tenths of the byte limit are for records: the rest is for indexes, checkpoints and whoever else needs room.
    pub(crate) fn check_limit(&self, others: u64, frame: u64) -> Result<(), LogError> {
        let limit = self.shared.config.max_bytes.map(|limit| limit / 10 * 9);
        if limit.is_some_and(|limit| self.bytes().saturating_add(others).saturating_add(frame) > limit) {
            return Err(self.no_space("stay within the byte limit of"));
        }
        if self.shared.config.leave_room && self.left()? < frame {
            return Err(self.no_space("leave some of the file system free beside"));
        }
        Ok(())
    }

    /// The bytes that may be written until only [`room_to_leave`] is left.
    fn left(&self) -> Result<u64, LogError> {
        let (disk, dir) = (&self.shared.disk, &self.shared.dir);
        let capacity = disk.capacity(dir);
        let capacity = capacity.map_err(|source| LogError::io("ask for the size of", dir, source))?;
        Ok(self.available()?.saturating_sub(room_to_leave(capacity)))
    }

    fn no_space(&self, action: &'static str) -> LogError {
        LogError::NoSpace {
            action,
            path: self.shared.dir.clone(),
            source: io::ErrorKind::StorageFull.into(),
        }
    }

    fn write(&mut self, record: &[&[u8]], frame: u64) -> Result<(), LogError> {
        let (file, at) = {
            let catalog = self.shared.read();
            (Arc::clone(&catalog.active.file), catalog.active.position())
        };
        let path = || segment_path(&self.shared.dir, at.segment);
        let mut parts = self
            .builder
            .parts(record, self.shared.seed(at.segment), at.offset, at.sequence);
        if let Err(source) = file.append(&mut parts) {
            // What stays of the record would be in the way of the next one.
            file.set_len(at.offset).map_err(|source| LogError::Io {
                action: "truncate",
                path: path(),
                source,
            })?;
            return Err(LogError::io("append to", &path(), source));
        }
        drop(parts);
        let active = &mut self.shared.write().active;
        active.index.insert(&self.builder.placed, at.offset);
        active.length += frame;
        active.sequence += 1;
        Ok(())
    }

    /// Seals the newest segment and begins the next. Until that is durable, the old one stays the newest, so that it
    /// can be tried again when there is room.
    fn rotate(&self) -> Result<(), LogError> {
        let shared = &self.shared;
        let at = shared.sync()?;
        let index = {
            let catalog = shared.read();
            let place = (at.segment, at.offset);
            index_file::write(
                &*shared.disk,
                &shared.dir,
                shared.identity.log,
                place,
                &catalog.active.index,
            )?
        };
        shared
            .files
            .forget(&super::segment::index_path(&shared.dir, at.segment));
        let number = at
            .segment
            .checked_add(1)
            .ok_or_else(|| segments_used_up(shared.dir.clone()))?;
        let header = SegmentHeader {
            identity: shared.identity,
            number,
            first: at.sequence,
        };
        let file = header.create(&*shared.disk, &shared.dir)?;
        let active = Active {
            number,
            first: at.sequence,
            file,
            length: HEADER,
            sequence: at.sequence,
            index: RunIndex::default(),
        };
        let mut catalog = shared.write();
        let old = std::mem::replace(&mut catalog.active, active);
        catalog.sealed.push(Sealed {
            number: old.number,
            first: old.first,
            length: old.length,
            index,
        });
        shared.spoiled.store(false, Ordering::SeqCst);
        Ok(())
    }
}

fn segments_used_up(path: PathBuf) -> LogError {
    let source = io::Error::other("all 2^32 segment numbers are used up; take larger segments");
    LogError::Io {
        action: "add a segment to",
        path,
        source,
    }
}

/// Bytes to leave free on a file system of this size.
fn room_to_leave(capacity: u64) -> u64 {
    (capacity / 10).min(MOST_ROOM_TO_LEAVE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenth_is_left_free_but_of_large_file_systems_less() {
        assert_eq!(room_to_leave(1_000), 100);
        assert_eq!(room_to_leave(4 << 40), 1 << 30);
    }
}
