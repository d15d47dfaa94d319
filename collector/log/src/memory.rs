//! A disk in memory for tests and the simulator. It tells what was synced from what was only written, and at a crash
//! loses any part of the latter.

use std::any::Any;
use std::collections::{BTreeMap, HashSet};
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::disk::{Disk, DiskFile, Mode};
use crate::volatile::{ByteChange, Chance, Content, Folder, NameChange, hold};

/// A disk in memory. Clones are the same disk.
#[derive(Clone, Default)]
pub struct MemoryDisk {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    folders: BTreeMap<PathBuf, Folder>,
    locks: HashSet<PathBuf>,
    capacity: Option<u64>,
    /// Raised by a crash: handles from before are dead.
    generation: u64,
    /// Syncs of files return before they are done.
    syncs_last: bool,
}

impl MemoryDisk {
    /// An empty disk without a limit.
    pub fn new() -> Self {
        Self::default()
    }

    /// The machine loses power: of what was not synced, a part that follows from the seed survives. All handles and
    /// locks from before are dead.
    pub fn crash(&self, seed: u64) {
        let mut state = self.state();
        let mut chance = Chance(seed);
        for folder in state.folders.values_mut() {
            folder.crash(&mut chance);
        }
        state.end_process();
    }

    /// The process is killed: nothing that it wrote is lost, all its handles and locks are dead.
    pub fn kill(&self) {
        self.state().end_process();
    }

    /// Limits the bytes of all files together. A write that does not fit leaves what fits and fails.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.state().capacity = bytes;
    }

    /// The bytes of all files together.
    pub fn used(&self) -> u64 {
        self.state().used()
    }

    /// The bytes of a file.
    pub fn contents(&self, path: &Path) -> Option<Vec<u8>> {
        let content = self.state().find(path).ok()?;
        let bytes = hold(&content).bytes.clone();
        Some(bytes)
    }

    /// Whether syncs of files from now on last until [`end_syncs`](Self::end_syncs): what they cover is no safer before.
    pub fn let_syncs_last(&self, last: bool) {
        self.state().syncs_last = last;
    }

    /// The syncs of files in a folder that were begun are done.
    pub fn end_syncs(&self, dir: &Path) {
        if let Some(folder) = self.state().folders.get(dir) {
            folder.names.values().for_each(|content| hold(content).end_sync());
        }
    }

    /// The names in a folder that would survive a crash now.
    pub fn durable_names(&self, dir: &Path) -> Vec<String> {
        let state = self.state();
        let folder = state.folders.get(dir);
        folder.map_or_else(Vec::new, |folder| folder.durable.keys().cloned().collect())
    }

    /// The bytes of a file from an offset on that would survive a crash now.
    pub fn durable(&self, path: &Path, offset: usize) -> Option<Vec<u8>> {
        let (folder, name) = split(path).ok()?;
        let state = self.state();
        let content = hold(state.folders.get(&folder)?.durable.get(&name)?);
        Some(content.durable.get(offset..)?.to_vec())
    }

    /// A folder is lost, with all that is in it.
    pub fn lose(&self, dir: &Path) {
        self.state().folders.remove(dir);
    }

    /// Puts a file there, durably, past all limits.
    pub fn put(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let (folder, name) = split(path)?;
        let content = Arc::new(Mutex::new(Content::durable(bytes)));
        let mut state = self.state();
        let folder = state.folders.entry(folder).or_default();
        folder.names.insert(name.clone(), Arc::clone(&content));
        folder.durable.insert(name, content);
        Ok(())
    }

    /// Flips one bit of a file, as a failing disk does.
    pub fn flip_bit(&self, path: &Path, bit: u64) -> io::Result<()> {
        let content = self.state().find(path)?;
        let mut content = hold(&content);
        let content = &mut *content;
        for bytes in [&mut content.bytes, &mut content.durable] {
            if let Some(byte) = usize::try_from(bit / 8).ok().and_then(|at| bytes.get_mut(at)) {
                *byte ^= 1 << (bit % 8);
            }
        }
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        hold(&self.state)
    }
}

impl State {
    fn end_process(&mut self) {
        self.locks.clear();
        self.generation += 1;
    }

    fn used(&self) -> u64 {
        let contents = self.folders.values().flat_map(|folder| folder.names.values());
        contents.map(|content| hold(content).bytes.len() as u64).sum()
    }

    fn folder(&mut self, path: &Path) -> io::Result<&mut Folder> {
        self.folders.get_mut(path).ok_or_else(|| missing(path))
    }

    fn find(&self, path: &Path) -> io::Result<Arc<Mutex<Content>>> {
        let (folder, name) = split(path)?;
        let content = self.folders.get(&folder).and_then(|folder| folder.names.get(&name));
        content.map(Arc::clone).ok_or_else(|| missing(path))
    }
}

impl Disk for MemoryDisk {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.state().folders.entry(path.to_path_buf()).or_default();
        Ok(())
    }

    fn open(&self, path: &Path, mode: Mode) -> io::Result<Arc<dyn DiskFile>> {
        let (folder, name) = split(path)?;
        let mut state = self.state();
        let content = match state.find(path) {
            Err(error) if mode != Mode::Create => return Err(error),
            Ok(content) => content,
            Err(_) => {
                let content = Arc::default();
                state
                    .folder(&folder)?
                    .change(NameChange::Create(name, Arc::clone(&content)));
                content
            }
        };
        if mode == Mode::Create {
            hold(&content).change(ByteChange::SetLen(0));
        }
        Ok(Arc::new(MemoryFile {
            disk: self.clone(),
            content,
            generation: state.generation,
        }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let ((folder, from_name), (other, to_name)) = (split(from)?, split(to)?);
        let mut state = self.state();
        state.find(from)?;
        if folder != other {
            return Err(io::ErrorKind::CrossesDevices.into());
        }
        state.folder(&folder)?.change(NameChange::Rename(from_name, to_name));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let (folder, name) = split(path)?;
        let mut state = self.state();
        state.find(path)?;
        state.folder(&folder)?.change(NameChange::Remove(name));
        Ok(())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        Ok(self.state().folder(path)?.names.keys().cloned().collect())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        // Folders are durable from the start, also those above the ones in use.
        if let Some(folder) = self.state().folders.get_mut(path) {
            folder.sync();
        }
        Ok(())
    }

    fn available(&self, _path: &Path) -> io::Result<u64> {
        let state = self.state();
        Ok(state
            .capacity
            .map_or(u64::MAX, |capacity| capacity.saturating_sub(state.used())))
    }

    fn capacity(&self, _path: &Path) -> io::Result<u64> {
        Ok(self.state().capacity.unwrap_or(u64::MAX))
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Any + Send + Sync>> {
        let mut state = self.state();
        if !state.locks.insert(path.to_path_buf()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(Box::new(Lock {
            disk: self.clone(),
            path: path.to_path_buf(),
            generation: state.generation,
        }))
    }
}

struct Lock {
    disk: MemoryDisk,
    path: PathBuf,
    generation: u64,
}

impl Drop for Lock {
    fn drop(&mut self) {
        let mut state = self.disk.state();
        if state.generation == self.generation {
            state.locks.remove(&self.path);
        }
    }
}

struct MemoryFile {
    disk: MemoryDisk,
    content: Arc<Mutex<Content>>,
    generation: u64,
}

impl MemoryFile {
    /// The disk, unless the process that opened this file is dead.
    fn alive(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.disk.state();
        if state.generation == self.generation {
            Ok(state)
        } else {
            Err(io::Error::other("the machine has crashed"))
        }
    }
}

impl DiskFile for MemoryFile {
    fn append(&self, parts: &mut [IoSlice<'_>]) -> io::Result<()> {
        let state = self.alive()?;
        let mut bytes: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
        let room = state
            .capacity
            .map_or(u64::MAX, |capacity| capacity.saturating_sub(state.used()));
        let fits = bytes.len() as u64 <= room;
        bytes.truncate(usize::try_from(room).unwrap_or(usize::MAX));
        hold(&self.content).change(ByteChange::Append(bytes));
        if fits {
            Ok(())
        } else {
            Err(io::ErrorKind::StorageFull.into())
        }
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let _state = self.alive()?;
        let content = hold(&self.content);
        let rest = usize::try_from(offset)
            .ok()
            .and_then(|offset| content.bytes.get(offset..))
            .unwrap_or_default();
        let length = rest.len().min(buffer.len());
        for (to, from) in buffer.iter_mut().zip(rest) {
            *to = *from;
        }
        Ok(length)
    }

    fn sync(&self) -> io::Result<()> {
        let state = self.alive()?;
        let mut content = hold(&self.content);
        content.begin_sync();
        if !state.syncs_last {
            content.end_sync();
        }
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let _state = self.alive()?;
        let length = usize::try_from(length).map_err(|_| io::ErrorKind::FileTooLarge)?;
        hold(&self.content).change(ByteChange::SetLen(length));
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        let _state = self.alive()?;
        Ok(hold(&self.content).bytes.len() as u64)
    }
}

fn split(path: &Path) -> io::Result<(PathBuf, String)> {
    let parts = path.parent().zip(path.file_name().and_then(|name| name.to_str()));
    let (folder, name) = parts.ok_or(io::ErrorKind::InvalidInput)?;
    Ok((folder.to_path_buf(), name.to_owned()))
}

fn missing(path: &Path) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("{} does not exist", path.display()))
}
