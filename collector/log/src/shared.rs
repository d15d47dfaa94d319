//! What the writer, the syncer and the readers of a log have in common.

use std::any::Any;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::cache::FileCache;
use crate::disk::{Disk, DiskFile};
use crate::frame::Seed;
use crate::index::{Run, RunIndex};
use crate::index_file::{self, IndexFile, Summary};
use crate::scan::Scanner;
use crate::segment::{self, SegmentHeader, index_path, segment_path};
use crate::{Identity, LogConfig, LogError, Position};

/// A segment that is not written any more.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sealed {
    pub(crate) number: u32,
    /// The sequence of its first record.
    pub(crate) first: u64,
    /// Bytes.
    pub(crate) length: u64,
    pub(crate) index: Summary,
}

/// The segment that is written.
pub(crate) struct Active {
    pub(crate) number: u32,
    pub(crate) first: u64,
    pub(crate) file: Arc<dyn DiskFile>,
    /// Where the next record goes, in bytes.
    pub(crate) length: u64,
    /// The sequence of the next record.
    pub(crate) sequence: u64,
    pub(crate) index: RunIndex,
}

impl Active {
    pub(crate) fn position(&self) -> Position {
        Position {
            sequence: self.sequence,
            segment: self.number,
            offset: self.length,
        }
    }
}

/// All segments, the sealed ones by number.
pub(crate) struct Catalog {
    pub(crate) sealed: Vec<Sealed>,
    pub(crate) active: Active,
}

impl Catalog {
    pub(crate) fn sealed(&self, number: u32) -> Option<Sealed> {
        let at = self.sealed.binary_search_by_key(&number, |sealed| sealed.number).ok()?;
        self.sealed.get(at).copied()
    }

    /// The numbers of all segments, and the lowest task number that each may settle.
    pub(crate) fn segments(&self) -> Vec<(u32, u64)> {
        let sealed = self.sealed.iter().map(|sealed| (sealed.number, sealed.index.first));
        sealed
            .chain([(self.active.number, self.active.index.bounds().0)])
            .collect()
    }
}

pub(crate) struct Shared {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) dir: PathBuf,
    pub(crate) identity: Identity,
    pub(crate) config: LogConfig,
    pub(crate) catalog: RwLock<Catalog>,
    pub(crate) files: FileCache,
    /// How far the log is durable.
    pub(crate) synced: Mutex<Position>,
    /// Held during an fsync of a segment: two at once on one file could each see only half of its errors.
    pub(crate) sync_gate: Mutex<()>,
    /// Held while checkpoints are written; their sequences, in order.
    pub(crate) checkpoints: Mutex<Vec<u64>>,
    /// Held while an index is written anew.
    pub(crate) repair: Mutex<()>,
    pub(crate) failed: AtomicBool,
    /// The header of the newest segment was found damaged: nothing more is to be written there.
    pub(crate) spoiled: AtomicBool,
    /// Keeps other processes out for as long as anything of this log is alive.
    pub(crate) _lock: Box<dyn Any + Send + Sync>,
}

impl Shared {
    pub(crate) fn read(&self) -> RwLockReadGuard<'_, Catalog> {
        self.catalog.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn write(&self) -> RwLockWriteGuard<'_, Catalog> {
        self.catalog.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn seed(&self, segment: u32) -> Seed {
        Seed::new(self.identity.log, segment)
    }

    /// Refuses when an earlier failure has left the disk in doubt.
    pub(crate) fn usable(&self) -> Result<(), LogError> {
        if self.failed.load(Ordering::SeqCst) {
            return Err(LogError::Failed { dir: self.dir.clone() });
        }
        Ok(())
    }

    /// Notes a fatal error, after which the log takes nothing more.
    pub(crate) fn note(&self, error: LogError) -> LogError {
        if error.is_fatal() {
            self.failed.store(true, Ordering::SeqCst);
        }
        error
    }

    /// Makes the newest segment durable as far as it is written now. Older ones are durable since they were sealed.
    pub(crate) fn sync(&self) -> Result<Position, LogError> {
        let _gate = self.sync_gate.lock().unwrap_or_else(PoisonError::into_inner);
        self.usable()?;
        let (file, at) = {
            let catalog = self.read();
            (Arc::clone(&catalog.active.file), catalog.active.position())
        };
        file.sync().map_err(|source| {
            // Also when only room is missing: what the file holds now is unknown, and a second fsync would lie.
            self.failed.store(true, Ordering::SeqCst);
            LogError::Io {
                action: "sync",
                path: segment_path(&self.dir, at.segment),
                source,
            }
        })?;
        let mut synced = self.synced.lock().unwrap_or_else(PoisonError::into_inner);
        *synced = at.max(*synced);
        Ok(at)
    }

    /// The file of a segment, its first sequence, and how far it is written.
    pub(crate) fn segment(&self, number: u32) -> Result<(Arc<dyn DiskFile>, u64, u64), LogError> {
        let sealed = {
            let catalog = self.read();
            let active = &catalog.active;
            if active.number == number {
                return Ok((Arc::clone(&active.file), active.first, active.length));
            }
            catalog.sealed(number)
        };
        let (file, sealed) = self.open_sealed(sealed, &segment_path(&self.dir, number))?;
        Ok((file, sealed.first, sealed.length))
    }

    /// Opens a file of a sealed segment; what is not in the catalog counts as damaged.
    fn open_sealed(&self, sealed: Option<Sealed>, path: &Path) -> Result<(Arc<dyn DiskFile>, Sealed), LogError> {
        let sealed = sealed.ok_or_else(|| LogError::Damaged {
            path: path.to_path_buf(),
            offset: 0,
        })?;
        let file = self
            .files
            .open(&*self.disk, path)
            .map_err(|source| LogError::io("open", path, source))?;
        Ok((file, sealed))
    }

    /// Whether the header of a segment can be read. If not, opening the log will set the whole segment aside.
    pub(crate) fn is_header_whole(&self, number: u32) -> Result<bool, LogError> {
        let (file, first, _) = self.segment(number)?;
        let expected = SegmentHeader {
            identity: self.identity,
            number,
            first,
        };
        let found = SegmentHeader::load(&*file, &segment_path(&self.dir, number))?;
        Ok(found == Some(expected))
    }

    /// Reads a segment from its first record on.
    pub(crate) fn scan(&self, number: u32) -> Result<Scanner, LogError> {
        let (file, first, length) = self.segment(number)?;
        let path = segment_path(&self.dir, number);
        Ok(Scanner::new(
            file,
            path,
            self.seed(number),
            (segment::HEADER, first),
            length,
        ))
    }

    /// Runs of a segment that settle numbers from this one on, in order; none only if there are none.
    pub(crate) fn runs(&self, segment: u32, number: u64) -> Result<Vec<Run>, LogError> {
        /// Runs copied from the newest segment at once, so that the writer waits only briefly.
        const AT_ONCE: usize = 256;
        {
            let catalog = self.read();
            if catalog.active.number == segment {
                return Ok(catalog.active.index.from(number).take(AT_ONCE).collect());
            }
        }
        self.with_index(segment, |index| index.from(number))
    }

    /// Asks the index of a sealed segment, and writes it anew if it is lost or damaged.
    pub(crate) fn with_index<T>(
        &self,
        segment: u32,
        ask: impl Fn(&IndexFile) -> Result<T, LogError>,
    ) -> Result<T, LogError> {
        match self.index(segment).and_then(|index| ask(&index)) {
            Err(LogError::Damaged { .. } | LogError::Io { .. }) => {
                self.rebuild(segment)?;
                ask(&self.index(segment)?)
            }
            answer => answer,
        }
    }

    fn index(&self, segment: u32) -> Result<IndexFile, LogError> {
        let path = index_path(&self.dir, segment);
        let sealed = self.read().sealed(segment);
        let (file, sealed) = self.open_sealed(sealed, &path)?;
        Ok(IndexFile {
            file,
            path,
            seed: self.seed(segment),
            summary: sealed.index,
        })
    }

    /// Writes the index of a sealed segment anew, from the records of the segment that are whole.
    pub(crate) fn rebuild(&self, segment: u32) -> Result<(), LogError> {
        let _repair = self.repair.lock().unwrap_or_else(PoisonError::into_inner);
        let mut scanner = self.scan(segment)?;
        let (index, _) = scanner.index()?;
        let place = (segment, scanner.offset());
        let summary = index_file::write(&*self.disk, &self.dir, self.identity.log, place, &index)?;
        self.files.forget(&index_path(&self.dir, segment));
        let mut catalog = self.write();
        if let Some(sealed) = catalog.sealed.iter_mut().find(|sealed| sealed.number == segment) {
            sealed.index = summary;
        }
        Ok(())
    }
}
