//! Looking into a log that another process may be writing: nothing is locked, made, mended or removed.

use std::any::Any;
use std::io;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, RwLock};

use harmony_protocol::collector::BatchState;
use harmony_protocol::ids::BatchUid;

use crate::cache::FileCache;
use crate::disk::{Disk, DiskFile, Mode};
use crate::recovery::{Opening, Recovery};
use crate::segment::segment_path;
use crate::shared::{Active, Catalog, Shared};
use crate::survey::Survey;
use crate::{LogConfig, LogError, LogReader, Rebuild};

/// How often looking is tried: the writer may remove an old checkpoint between two reads of the folder.
const TRIES: u32 = 5;

impl LogReader {
    /// Reads the log of a batch as it is now, with the state that follows from it, without disturbing whoever writes it.
    /// What is appended later is not seen. `None` if there is no log yet.
    pub fn look(disk: Arc<dyn Disk>, dir: &Path, uid: BatchUid) -> Result<Option<(Self, BatchState)>, LogError> {
        let disk: Arc<dyn Disk> = Arc::new(Looking(disk));
        let mut tries = 0;
        loop {
            tries += 1;
            match look(&disk, dir, uid) {
                Err(LogError::Io { source, .. }) if source.kind() == ErrorKind::NotFound && tries < TRIES => {}
                looked => return looked,
            }
        }
    }
}

fn look(disk: &Arc<dyn Disk>, dir: &Path, uid: BatchUid) -> Result<Option<(LogReader, BatchState)>, LogError> {
    if disk.list(dir).is_err_and(|error| error.kind() == ErrorKind::NotFound) {
        return Ok(None);
    }
    let survey = Survey::take(&**disk, dir, uid)?;
    let parts = survey.identity.zip(survey.segments.last()).zip(survey.tail.as_ref());
    let Some(((identity, last), tail)) = parts else {
        return Ok(None);
    };
    let opening = Opening {
        disk: &**disk,
        dir,
        identity,
        survey: &survey,
    };
    let (mut rebuild, mut recovery) = (Rebuild::default(), Recovery::default());
    opening.replay(&mut rebuild, &mut recovery)?;
    let path = segment_path(dir, last.number);
    let active = Active {
        number: last.number,
        first: last.first,
        file: disk
            .open(&path, Mode::Read)
            .map_err(|source| LogError::io("open", &path, source))?,
        length: last.length,
        sequence: tail.sequence,
        index: tail.index.clone(),
    };
    let catalog = Catalog {
        sealed: opening.sealed(&mut recovery)?,
        active,
    };
    let shared = Shared {
        disk: Arc::clone(disk),
        dir: dir.to_path_buf(),
        identity,
        config: LogConfig::default(),
        synced: Mutex::new(catalog.active.position()),
        catalog: RwLock::new(catalog),
        files: FileCache::default(),
        sync_gate: Mutex::default(),
        checkpoints: Mutex::default(),
        repair: Mutex::default(),
        failed: AtomicBool::new(false),
        spoiled: AtomicBool::new(false),
        _lock: Box::new(()),
    };
    Ok(Some((LogReader::new(Arc::new(shared)), rebuild.state)))
}

/// A disk that is only read.
struct Looking(Arc<dyn Disk>);

fn refused<T>() -> io::Result<T> {
    Err(io::Error::new(
        ErrorKind::ReadOnlyFilesystem,
        "it is only looked at; running the batch mends it",
    ))
}

impl Disk for Looking {
    fn create_dir(&self, _: &Path) -> io::Result<()> {
        refused()
    }

    fn open(&self, path: &Path, mode: Mode) -> io::Result<Arc<dyn DiskFile>> {
        if mode == Mode::Read {
            self.0.open(path, mode)
        } else {
            refused()
        }
    }

    fn rename(&self, _: &Path, _: &Path) -> io::Result<()> {
        refused()
    }

    fn remove(&self, _: &Path) -> io::Result<()> {
        refused()
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        self.0.list(path)
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        refused()
    }

    fn available(&self, path: &Path) -> io::Result<u64> {
        self.0.available(path)
    }

    fn capacity(&self, path: &Path) -> io::Result<u64> {
        self.0.capacity(path)
    }

    fn lock(&self, _: &Path) -> io::Result<Box<dyn Any + Send + Sync>> {
        refused()
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use harmony_protocol::collector::{Record, Write};
    use uuid::Uuid;

    use super::*;
    use crate::disk::RealDisk;
    use crate::{Placed, Recorder};

    const UID: BatchUid = BatchUid(Uuid::from_u128(1));

    fn look_at(dir: &Path) -> Option<(LogReader, BatchState)> {
        LogReader::look(Arc::new(RealDisk), dir, UID).unwrap()
    }

    fn files(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
        let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
        let mut files: Vec<_> = entries
            .map(|path| (path.clone(), std::fs::read(path).unwrap()))
            .collect();
        files.sort();
        files
    }

    #[test]
    fn a_log_is_read_while_it_is_written_and_nothing_changes() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("log");
        assert!(look_at(&dir).is_none(), "no log yet");
        let config = LogConfig {
            segment_bytes: 4096,
            ..LogConfig::default()
        };
        let opened = Recorder::open(Arc::new(RealDisk), &dir, UID, config, true)
            .unwrap()
            .unwrap();
        let mut recorder = opened.recorder;
        assert_eq!(look_at(&dir).unwrap().0.records().count(), 0);
        let end = Write::from(&Record::End(7));
        for sequence in 1..=200 {
            recorder.write(sequence, &end).unwrap();
            if sequence == 100 {
                recorder.offer_checkpoint(sequence + 1, opened.state.checkpoint());
            }
        }
        let before = files(&dir);
        assert!(before.len() > 3, "the log has several segments: {}", before.len());
        let (reader, state) = look_at(&dir).unwrap();
        assert_eq!(reader.records().count(), 200);
        assert_eq!(state.completions(), Some(7));
        assert_eq!(files(&dir), before);
        recorder.write(201, &end).unwrap();
        assert_eq!(reader.records().count(), 200, "it is as it was");
        assert_eq!(look_at(&dir).unwrap().0.records().count(), 201);
    }

    #[test]
    fn a_record_that_is_being_written_is_not_seen_and_stays() {
        let dir = tempfile::tempdir().unwrap();
        let opened = Recorder::open(Arc::new(RealDisk), dir.path(), UID, LogConfig::default(), true);
        let mut recorder = opened.unwrap().unwrap().recorder;
        recorder.write(1, &Write::from(&Record::End(7))).unwrap();
        drop(recorder);
        let segment = segment_path(dir.path(), 0);
        let mut bytes = std::fs::read(&segment).unwrap();
        bytes.extend(b"the beginning of a record");
        std::fs::write(&segment, &bytes).unwrap();
        assert_eq!(look_at(dir.path()).unwrap().0.records().count(), 1);
        assert_eq!(std::fs::read(&segment).unwrap(), bytes);
    }

    #[test]
    fn a_lost_index_is_not_written_anew() {
        let dir = tempfile::tempdir().unwrap();
        let config = LogConfig {
            segment_bytes: 4096,
            ..LogConfig::default()
        };
        let mut log = crate::Log::open(Arc::new(RealDisk), dir.path(), UID, config, &mut Rebuild::default())
            .unwrap()
            .0;
        let placed = [Placed {
            number: 0,
            count: 1,
            entry: 0,
        }];
        let record = Record::End(7).encode().concat();
        while !log.append(&[&record], &placed).unwrap().rotated {}
        std::fs::remove_file(crate::segment::index_path(dir.path(), 0)).unwrap();
        let before = files(dir.path());
        let error = LogReader::look(Arc::new(RealDisk), dir.path(), UID)
            .map(drop)
            .unwrap_err();
        assert!(error.to_string().contains("running the batch mends it"), "{error}");
        assert_eq!(files(dir.path()), before);
    }
}
