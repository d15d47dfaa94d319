//! Payloads that came ahead of their task because they are too long for one message: in files that have no name, so that nothing
//! of them outlives the process. The machine bounds how many there are, and how long they are together.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use harmony_protocol::ids::BatchUid;
use harmony_protocol::worker::{Payload, PayloadId, Task};
use memchr::memchr;

type Key = (BatchUid, PayloadId);

/// A file, and the bytes in it so far; or why it cannot be kept.
type Kept = Result<(Arc<File>, u64), String>;

/// Bytes that are read at once of a payload that is looked through.
const READ_BYTES: usize = 256 << 10;

/// See the module.
#[derive(Debug)]
pub(crate) struct Payloads {
    dir: PathBuf,
    kept: Mutex<BTreeMap<Key, Kept>>,
}

impl Payloads {
    /// Files will be on the file system of this folder.
    pub(crate) fn new(dir: &Path) -> Self {
        Self {
            dir: dir.to_path_buf(),
            kept: Mutex::default(),
        }
    }

    fn kept(&self) -> MutexGuard<'_, BTreeMap<Key, Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a piece behind those before it. If that fails, the task is told when it asks for its payload.
    pub(crate) fn keep(&self, uid: BatchUid, id: PayloadId, bytes: &[u8]) {
        let key = (uid, id);
        let before = self.kept().remove(&key);
        let begin = || tempfile::tempfile_in(&self.dir).map(|file| (Arc::new(file), 0));
        let kept = before.unwrap_or_else(|| begin().map_err(|error| self.explain(&error)));
        let kept = kept.and_then(|(file, length)| {
            let written = file.write_all_at(bytes, length);
            written
                .map(|()| (file, length + bytes.len() as u64))
                .map_err(|error| self.explain(&error))
        });
        self.kept().insert(key, kept);
    }

    fn explain(&self, error: &io::Error) -> String {
        let dir = self.dir.display();
        format!(
            "its payload is too long for one message and cannot be kept in {dir}: {error}; --spool names another folder"
        )
    }

    /// A payload is not needed any more.
    pub(crate) fn discard(&self, uid: BatchUid, id: PayloadId) {
        self.kept().remove(&(uid, id));
    }

    /// No payload of this batch is needed any more.
    pub(crate) fn release(&self, uid: BatchUid) {
        self.kept().retain(|key, _| key.0 != uid);
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.kept().len()
    }

    /// What a task is given; or why it cannot be had.
    pub(crate) fn input<'a>(&self, uid: BatchUid, task: &'a Task) -> Result<Input<'a>, String> {
        let id = match &task.payload {
            Payload::Whole(bytes) => return Ok(Input::Whole(bytes)),
            Payload::Kept { id, .. } => *id,
        };
        let kept = self.kept().get(&(uid, id)).cloned();
        let (file, length) = kept.unwrap_or_else(|| Err("its payload is gone".to_owned()))?;
        Ok(Input::File { file, length })
    }
}

/// What a task is given.
#[derive(Clone, Debug)]
pub(crate) enum Input<'a> {
    Whole(&'a Bytes),
    /// From its first byte on; whoever reads it leaves the position of the file alone.
    File {
        file: Arc<File>,
        length: u64,
    },
}

impl<'a> Input<'a> {
    /// All of it, in memory.
    pub(crate) fn into_bytes(self) -> io::Result<Cow<'a, [u8]>> {
        match self {
            Self::Whole(bytes) => Ok(Cow::Borrowed(bytes)),
            Self::File { file, length } => {
                let mut bytes = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
                file.read_exact_at(&mut bytes, 0)?;
                Ok(Cow::Owned(bytes))
            }
        }
    }

    /// Whether it holds a line feed.
    pub(crate) fn holds_line_feed(&self) -> io::Result<bool> {
        match self {
            Self::Whole(bytes) => Ok(memchr(b'\n', bytes).is_some()),
            Self::File { file, .. } => {
                let (mut chunk, mut at) = (vec![0; READ_BYTES], 0);
                loop {
                    let count = file.read_at(&mut chunk, at)?;
                    if count == 0 {
                        return Ok(false);
                    }
                    if memchr(b'\n', chunk.get(..count).unwrap_or_default()).is_some() {
                        return Ok(true);
                    }
                    at += count as u64;
                }
            }
        }
    }
}
