//! Outputs that have a file of their own, in a folder beside the segments. A file is written under a passing name while its
//! parts come in, and gets its own name, durably, before the record that refers to it is written.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use harmony_protocol::collector::{Kept, OutputId};
use harmony_protocol::mutant::{self, Mutant};
use harmony_protocol::set::NumberSet;

use crate::LogError;
use crate::disk::{Disk, DiskFile, Mode};
use crate::segment::UNFINISHED;

/// The folder of the files, in that of the log.
pub(crate) const FOLDER: &str = "outputs";

/// The file of a number's output.
pub(crate) fn path(log: &Path, number: u64) -> PathBuf {
    log.join(FOLDER).join(number.to_string())
}

fn number_in(name: &str) -> Option<u64> {
    let number: u64 = name.parse().ok()?;
    (number.to_string() == name).then_some(number)
}

/// Files that are being written, and what was written since they were synced last. Clones are the same.
#[derive(Clone, Default)]
pub(crate) struct Unsynced(Arc<Mutex<BTreeMap<OutputId, Arc<dyn DiskFile>>>>);

impl Unsynced {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<OutputId, Arc<dyn DiskFile>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes back what is there, so that little is left to do when an output is complete. An error is fatal.
    pub(crate) fn sync(&self, dir: &Path) -> Result<(), LogError> {
        let files = std::mem::take(&mut *self.lock());
        files.values().try_for_each(|file| sync(&**file, dir))
    }
}

/// A file that is being written.
struct Open {
    file: Arc<dyn DiskFile>,
    path: PathBuf,
    length: u64,
    /// The number whose name it has by now.
    named: Option<u64>,
}

/// The outputs of one log.
pub(crate) struct Outputs {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    open: BTreeMap<OutputId, Open>,
    unsynced: Unsynced,
    made: bool,
    /// Bytes of all files.
    bytes: u64,
}

impl Outputs {
    /// The outputs beside a log. What no settled number refers to was left by a crash, and is removed.
    pub(crate) fn open(disk: Arc<dyn Disk>, log: &Path, settled: &NumberSet) -> Result<Self, LogError> {
        let dir = log.join(FOLDER);
        let names = match disk.list(&dir) {
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            names => Some(names.map_err(|source| LogError::io("list", &dir, source))?),
        };
        let mut outputs = Self {
            made: names.is_some(),
            disk,
            open: BTreeMap::new(),
            unsynced: Unsynced::default(),
            bytes: 0,
            dir,
        };
        let mut removed = false;
        for name in names.into_iter().flatten() {
            let path = outputs.dir.join(&name);
            let kept = number_in(&name).is_some_and(|number| settled.contains(number));
            if kept {
                let file = outputs.disk.open(&path, Mode::Read);
                let length = file.and_then(|file| file.len());
                outputs.bytes += length.map_err(|source| LogError::io("open", &path, source))?;
            } else if name.ends_with(UNFINISHED) || number_in(&name).is_some() {
                outputs.remove(&path)?;
                removed = true;
            }
        }
        if removed {
            outputs.sync_dir()?;
        }
        Ok(outputs)
    }

    pub(crate) fn unsynced(&self) -> Unsynced {
        self.unsynced.clone()
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether bytes of this output at this offset are to be written.
    pub(crate) fn takes(&self, output: OutputId, offset: u64) -> bool {
        offset == 0 || self.open.contains_key(&output)
    }

    /// Writes a piece behind what is there; nothing of it after an error.
    pub(crate) fn write(&mut self, output: OutputId, bytes: &[u8]) -> Result<(), LogError> {
        if !self.open.contains_key(&output) {
            let open = self.create(output)?;
            self.open.insert(output, open);
        }
        let Some(open) = self.open.get_mut(&output) else {
            return Ok(());
        };
        if let Err(source) = open.file.append(&mut [IoSlice::new(bytes)]) {
            let cut = open.file.set_len(open.length);
            // Else the next piece would follow on a part of this one.
            cut.map_err(|source| fatal("truncate", &open.path, source))?;
            return Err(LogError::io("append to", &open.path, source));
        }
        open.length += bytes.len() as u64;
        self.bytes += bytes.len() as u64;
        self.unsynced.lock().insert(output, Arc::clone(&open.file));
        Ok(())
    }

    fn create(&mut self, output: OutputId) -> Result<Open, LogError> {
        if !self.made {
            let failed = |source| LogError::io("create", &self.dir, source);
            self.disk.create_dir(&self.dir).map_err(failed)?;
            let log = crate::parent(&self.dir);
            self.disk
                .sync_dir(log)
                .map_err(|source| LogError::io("sync", log, source))?;
            self.made = true;
        }
        let path = self.dir.join(format!("{output}{UNFINISHED}"));
        let file = self.disk.open(&path, Mode::Create);
        Ok(Open {
            file: file.map_err(|source| LogError::io("create", &path, source))?,
            path,
            length: 0,
            named: None,
        })
    }

    /// Makes an output durable under the name of its number. May be asked for again after an error, or if the record that
    /// refers to it found no room.
    pub(crate) fn keep(&mut self, kept: Kept) -> Result<(), LogError> {
        let Some(open) = self.open.get_mut(&kept.output) else {
            return Ok(());
        };
        self.unsynced.lock().remove(&kept.output);
        if !mutant::on(Mutant::OutputUnsynced) {
            sync(&*open.file, &open.path)?;
        }
        if open.named.is_none() {
            let to = self.dir.join(kept.number.to_string());
            self.disk
                .rename(&open.path, &to)
                .map_err(|source| LogError::io("rename", &open.path, source))?;
            open.path = to;
            open.named = Some(kept.number);
        }
        self.sync_dir()
    }

    /// The record that refers to an output was written.
    pub(crate) fn close(&mut self, kept: Kept) {
        self.open.remove(&kept.output);
    }

    /// Removes what was written of an output.
    pub(crate) fn discard(&mut self, output: OutputId) -> Result<(), LogError> {
        self.unsynced.lock().remove(&output);
        match self.open.remove(&output) {
            None => Ok(()),
            Some(open) => {
                self.bytes -= open.length;
                self.remove(&open.path)
            }
        }
    }

    fn remove(&self, path: &Path) -> Result<(), LogError> {
        match self.disk.remove(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(LogError::io("remove", path, error)),
            _ => Ok(()),
        }
    }

    fn sync_dir(&self) -> Result<(), LogError> {
        self.disk
            .sync_dir(&self.dir)
            .map_err(|source| LogError::io("sync", &self.dir, source))
    }
}

/// As with segments, also want of room is fatal here: what the file holds is unknown, and a second fsync would lie.
fn sync(file: &dyn DiskFile, path: &Path) -> Result<(), LogError> {
    file.sync().map_err(|source| fatal("sync", path, source))
}

fn fatal(action: &'static str, path: &Path, source: io::Error) -> LogError {
    let path = path.to_path_buf();
    LogError::Io { action, path, source }
}
