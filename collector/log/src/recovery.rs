//! Opening a log: what is there is looked at first, then put in order, then replayed.

use std::any::Any;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, RwLock};

use harmony_protocol::ids::{BatchUid, LogId};
use harmony_protocol::mutant::{self, Mutant};
use uuid::Uuid;

use crate::cache::FileCache;
use crate::disk::{Disk, Mode};
use crate::index::RunIndex;
use crate::index_file::{self, Summary};
use crate::scan::Scanner;
use crate::segment::{self, SegmentHeader, UNFINISHED, index_path, number_before, segment_path, set_aside};
use crate::shared::{Active, Catalog, Sealed, Shared};
use crate::survey::{Found, Survey};
use crate::{Damage, Identity, Log, LogConfig, LogError, Position, Replay, checkpoint, parent};

/// What opening a log came upon.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Whether the log was begun now.
    pub created: bool,
    /// The position of the checkpoint that was replayed.
    pub checkpoint: Option<Position>,
    /// The records replayed behind it.
    pub replayed: u64,
    /// The end of the log.
    pub end: Position,
    /// Bytes of a record that was being written when the process died; they are cut off.
    pub torn_bytes: u64,
    /// Damage in what was replayed. The numbers that were settled there are missing again.
    pub damage: Damage,
    /// The new names of files that were damaged, or belonged to another log, or were checkpoints ahead of the log.
    pub set_aside: Vec<String>,
    /// Indexes that had to be written anew.
    pub indexes_rebuilt: u64,
}

impl Log {
    /// Opens the log of a batch in a folder, or begins it, and replays it. All that was replayed is durable when this
    /// returns. The log is locked until the last handle of it is dropped.
    pub fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        uid: BatchUid,
        config: LogConfig,
        replay: &mut dyn Replay,
    ) -> Result<(Self, Recovery), LogError> {
        config.check()?;
        let lock = enter(&*disk, dir)?;
        let survey = Survey::take(&*disk, dir, uid)?;
        let mut recovery = Recovery::default();
        tidy(&*disk, dir, &survey, &mut recovery)?;
        let begun = || Identity {
            uid,
            log: config.new_log.unwrap_or_else(|| LogId(Uuid::new_v4())),
        };
        let identity = survey.identity.unwrap_or_else(begun);
        let opening = Opening {
            disk: &*disk,
            dir,
            identity,
            survey: &survey,
        };
        opening.replay(replay, &mut recovery)?;
        let catalog = Catalog {
            sealed: opening.sealed(&mut recovery)?,
            active: opening.active(&mut recovery)?,
        };
        recovery.end = catalog.active.position();
        let shared = Shared {
            dir: dir.to_path_buf(),
            identity,
            config,
            synced: Mutex::new(recovery.end),
            catalog: RwLock::new(catalog),
            files: FileCache::default(),
            sync_gate: Mutex::default(),
            checkpoints: Mutex::new(survey.checkpoints()),
            repair: Mutex::default(),
            failed: AtomicBool::new(false),
            spoiled: AtomicBool::new(false),
            _lock: lock,
            disk,
        };
        Ok((Self::new(Arc::new(shared)), recovery))
    }
}

/// Makes the folder, durably, and keeps others out of it for as long as the guard lives.
fn enter(disk: &dyn Disk, dir: &Path) -> Result<Box<dyn Any + Send + Sync>, LogError> {
    disk.create_dir(dir)
        .map_err(|source| LogError::io("create", dir, source))?;
    disk.sync_dir(parent(dir))
        .map_err(|source| LogError::io("sync", parent(dir), source))?;
    disk.lock(&dir.join("lock")).map_err(|source| match source.kind() {
        ErrorKind::WouldBlock => LogError::Locked { dir: dir.to_path_buf() },
        _ => LogError::io("lock", dir, source),
    })
}

/// Removes what a crash left half written, and renames what must not be read again.
fn tidy(disk: &dyn Disk, dir: &Path, survey: &Survey, recovery: &mut Recovery) -> Result<(), LogError> {
    for name in survey.names.iter().filter(|name| name.ends_with(UNFINISHED)) {
        let path = dir.join(name);
        disk.remove(&path)
            .map_err(|source| LogError::io("remove", &path, source))?;
    }
    let mut taken = survey.names.clone();
    for name in &survey.bad {
        let aside = set_aside(disk, dir, name, &taken)?;
        taken.push(aside.clone());
        recovery.set_aside.push(aside);
    }
    disk.sync_dir(dir).map_err(|source| LogError::io("sync", dir, source))
}

/// A log that was surveyed and, if it is to be written, tidied.
pub(crate) struct Opening<'a> {
    pub(crate) disk: &'a dyn Disk,
    pub(crate) dir: &'a Path,
    pub(crate) identity: Identity,
    pub(crate) survey: &'a Survey,
}

impl Opening<'_> {
    fn scanner(&self, segment: &Found, from: (u64, u64)) -> Result<Scanner, LogError> {
        segment.scan(self.disk, self.dir, self.identity.log, from)
    }

    /// Gives the caller back its state and the records behind it.
    pub(crate) fn replay(&self, replay: &mut dyn Replay, recovery: &mut Recovery) -> Result<(), LogError> {
        let mut from = Position::default();
        if let Some(checkpoint) = &self.survey.checkpoint {
            from = checkpoint.at;
            let path = self.dir.join(checkpoint::name(from.sequence));
            replay
                .checkpoint(&checkpoint.state)
                .map_err(|source| LogError::Replay { path, source })?;
            recovery.checkpoint = Some(from);
        }
        let mut sequence = from.sequence;
        for segment in self
            .survey
            .segments
            .iter()
            .filter(|segment| segment.number >= from.segment)
        {
            let covered = self.survey.checkpoint.is_some() && segment.number == from.segment;
            let start = if covered {
                (from.offset, from.sequence)
            } else {
                (segment::HEADER, segment.first)
            };
            recovery.damage.records += start.1.saturating_sub(sequence);
            let mut scanner = self.scanner(segment, start)?;
            while let Some(frame) = scanner.next()? {
                replay
                    .record(frame.payload, frame.placed)
                    .map_err(|source| LogError::Replay {
                        path: segment_path(self.dir, segment.number),
                        source,
                    })?;
                recovery.replayed += 1;
            }
            sequence = scanner.sequence();
            recovery.damage.add(&scanner.damage, scanner.lost);
        }
        Ok(())
    }

    /// All segments but the last, each with its index.
    pub(crate) fn sealed(&self, recovery: &mut Recovery) -> Result<Vec<Sealed>, LogError> {
        let Some((_, segments)) = self.survey.segments.split_last() else {
            return Ok(Vec::new());
        };
        let mut sealed = Vec::with_capacity(segments.len());
        for segment in segments {
            let path = index_path(self.dir, segment.number);
            let known = self.disk.open(&path, Mode::Read).ok();
            let known = known.and_then(|file| Summary::load(&*file, self.identity.log, segment.number, segment.length));
            let index = match known {
                Some(summary) => summary,
                None => self.rebuild(segment, recovery)?,
            };
            sealed.push(Sealed {
                number: segment.number,
                first: segment.first,
                length: segment.length,
                index,
            });
        }
        Ok(sealed)
    }

    fn rebuild(&self, segment: &Found, recovery: &mut Recovery) -> Result<Summary, LogError> {
        let (index, _) = self.scanner(segment, (segment::HEADER, segment.first))?.index()?;
        recovery.indexes_rebuilt += 1;
        let place = (segment.number, segment.length);
        index_file::write(self.disk, self.dir, self.identity.log, place, &index)
    }

    /// The segment to go on with: the last one without its torn end, or a first one.
    fn active(&self, recovery: &mut Recovery) -> Result<Active, LogError> {
        let survey = self.survey;
        let Some((last, tail)) = survey.segments.last().zip(survey.tail.as_ref()) else {
            return self.first(recovery);
        };
        let path = segment_path(self.dir, last.number);
        let file = self
            .disk
            .open(&path, Mode::Append)
            .map_err(|source| LogError::io("open", &path, source))?;
        if tail.torn > 0 && !mutant::on(Mutant::TornTailKept) {
            file.set_len(last.length)
                .map_err(|source| LogError::io("truncate", &path, source))?;
            recovery.torn_bytes = tail.torn;
        }
        // Records that a killed process had not synced were replayed too, and the caller will rely on them.
        file.sync().map_err(|source| LogError::io("sync", &path, source))?;
        let (number, first, length) = (last.number, last.first, last.length);
        Ok(Active {
            number,
            first,
            file,
            length,
            sequence: tail.sequence,
            index: tail.index.clone(),
        })
    }

    fn first(&self, recovery: &mut Recovery) -> Result<Active, LogError> {
        // Not the number of a segment that was set aside: two files of one name would only confuse.
        let used = self.survey.names.iter().filter_map(|name| number_before(name)).max();
        let number = used.map_or(0, |used| used.saturating_add(1));
        let header = SegmentHeader {
            identity: self.identity,
            number,
            first: 0,
        };
        let file = header.create(self.disk, self.dir)?;
        recovery.created = true;
        Ok(Active {
            number,
            first: 0,
            file,
            length: segment::HEADER,
            sequence: 0,
            index: RunIndex::default(),
        })
    }
}
