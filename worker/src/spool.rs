//! Outputs that are too long for one message: in files that have no name, so that nothing of them outlives the process. The
//! machine bounds how many there are, and how long they are together.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use harmony_protocol::ids::{Attempt, BatchUid};
use harmony_protocol::limits::INLINE_BYTES;
use harmony_protocol::worker::{PayloadId, Piece, Spooled};

use crate::payloads::Payloads;

/// Whose output a file holds.
type Key = (BatchUid, u64, Attempt);

/// The files of a worker.
#[derive(Debug)]
pub struct Spool {
    dir: PathBuf,
    pub(crate) payloads: Payloads,
    kept: Mutex<BTreeMap<Key, Arc<File>>>,
}

impl Spool {
    /// Files will be on the file system of this folder.
    pub fn new(dir: &Path) -> Self {
        Self {
            dir: dir.to_path_buf(),
            payloads: Payloads::new(dir),
            kept: Mutex::default(),
        }
    }

    fn kept(&self) -> MutexGuard<'_, BTreeMap<Key, Arc<File>>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep(&self, key: Key, file: File) {
        self.kept().insert(key, Arc::new(file));
    }

    /// Where a piece can be read.
    pub(crate) fn find(&self, uid: BatchUid, piece: Piece) -> Option<Arc<File>> {
        self.kept().get(&(uid, piece.number, piece.attempt)).map(Arc::clone)
    }

    /// An output is not needed any more.
    pub(crate) fn forget(&self, key: Key) {
        self.kept().remove(&key);
    }

    /// Nothing of this batch is needed any more.
    pub(crate) fn release(&self, uid: BatchUid) {
        self.kept().retain(|key, _| key.0 != uid);
        self.payloads.release(uid);
    }

    /// Outputs and payloads that are kept.
    pub fn len(&self) -> usize {
        self.kept().len() + self.payloads.len()
    }

    /// Whether none is kept.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Keeps a piece of a payload, behind those before it. If that fails, the task fails that asks for the payload.
    pub fn keep_payload(&self, uid: BatchUid, id: PayloadId, bytes: &[u8]) {
        self.payloads.keep(uid, id, bytes);
    }
}

/// Reads a piece, whole.
pub(crate) fn read(file: &File, piece: Piece) -> io::Result<Bytes> {
    let mut bytes = BytesMut::zeroed(piece.length);
    file.read_exact_at(&mut bytes, piece.offset)?;
    Ok(bytes.freeze())
}

/// An output that is being collected: in memory as long as it can go whole, then in a file.
#[derive(Debug, Default)]
pub(crate) struct Collected {
    bytes: Vec<u8>,
    file: Option<File>,
    length: u64,
    checksum: u32,
}

/// What an output has become.
pub(crate) enum Collection {
    Whole(Bytes),
    Spooled(Spooled),
}

impl Collected {
    /// Bytes collected so far.
    pub(crate) fn len(&self) -> u64 {
        self.length
    }

    /// Takes more. After an error the output is lost.
    pub(crate) fn push(&mut self, spool: &Spool, more: &[u8]) -> Result<(), String> {
        self.length += more.len() as u64;
        if self.file.is_none() && self.bytes.len() + more.len() <= INLINE_BYTES {
            self.bytes.extend_from_slice(more);
            return Ok(());
        }
        self.write(spool, more).map_err(|error| {
            let dir = spool.dir.display();
            format!("an output of more than {INLINE_BYTES} bytes cannot be kept in {dir}: {error}; --spool names another folder")
        })
    }

    fn write(&mut self, spool: &Spool, more: &[u8]) -> io::Result<()> {
        let before = std::mem::take(&mut self.bytes);
        let file = match &mut self.file {
            Some(file) => file,
            None => self.file.insert(tempfile::tempfile_in(&spool.dir)?),
        };
        for bytes in [&before, more] {
            file.write_all(bytes)?;
            self.checksum = crc32c::crc32c_append(self.checksum, bytes);
        }
        Ok(())
    }

    /// The output is complete.
    pub(crate) fn finish(self, spool: &Spool, key: Key) -> Collection {
        let Some(file) = self.file else {
            return Collection::Whole(self.bytes.into());
        };
        spool.keep(key, file);
        Collection::Spooled(Spooled {
            length: u32::try_from(self.length).unwrap_or(u32::MAX),
            checksum: self.checksum,
        })
    }
}
