//! Segment files: their names and their headers.

use std::fmt::Write as _;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::{Buf, BufMut};
use crc32c::crc32c;
use harmony_protocol::ids::{BatchUid, LogId};
use uuid::Uuid;

use crate::disk::{Disk, DiskFile, Mode};
use crate::{Identity, LogError};

/// Bytes of a segment's header; the first record follows.
pub(crate) const HEADER: u64 = 64;
/// The format of segments, indexes and checkpoints. A change of any of them raises it.
pub(crate) const FORMAT: u32 = 1;

const MAGIC: &[u8; 8] = b"HRMNYLOG";
/// A file that is written beside the one it will replace. It never holds anything that was acknowledged.
pub(crate) const UNFINISHED: &str = ".new";

/// What a segment says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) identity: Identity,
    pub(crate) number: u32,
    /// The sequence of its first record.
    pub(crate) first: u64,
}

impl SegmentHeader {
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER as usize);
        bytes.put_slice(MAGIC);
        bytes.put_u32(FORMAT);
        bytes.put_u32(self.number);
        bytes.put_slice(self.identity.uid.0.as_bytes());
        bytes.put_slice(self.identity.log.0.as_bytes());
        bytes.put_u64(self.first);
        bytes.put_u32(0);
        bytes.put_u32(crc32c(&bytes));
        bytes
    }

    /// Reads the header of a file; `None` if there is no whole one.
    pub(crate) fn load(file: &dyn DiskFile, path: &Path) -> Result<Option<Self>, LogError> {
        let mut bytes = [0; HEADER as usize];
        let read = file
            .read_at(0, &mut bytes)
            .map_err(|source| LogError::io("read", path, source))?;
        let (front, mut sum) = bytes.split_at(HEADER as usize - 4);
        if read < bytes.len() || sum.get_u32() != crc32c(front) {
            return Ok(None);
        }
        let Some(mut rest) = front.strip_prefix(MAGIC.as_slice()) else {
            return Ok(None);
        };
        let found = rest.get_u32();
        if found != FORMAT {
            return Err(LogError::Version {
                path: path.to_path_buf(),
                found,
                supported: FORMAT,
            });
        }
        let number = rest.get_u32();
        let uid = BatchUid(Uuid::from_u128(rest.get_u128()));
        let log = LogId(Uuid::from_u128(rest.get_u128()));
        Ok(Some(Self {
            identity: Identity { uid, log },
            number,
            first: rest.get_u64(),
        }))
    }

    /// Makes the segment's file, durable and empty. It gets its name only when its header is whole, so that a segment
    /// without one is always damage and never a crash.
    pub(crate) fn create(&self, disk: &dyn Disk, dir: &Path) -> Result<Arc<dyn DiskFile>, LogError> {
        let path = segment_path(dir, self.number);
        replace(disk, dir, &path, |file| file.append(&mut [IoSlice::new(&self.bytes())]))
            .map_err(|source| LogError::io("create", &path, source))
    }
}

/// Writes a file beside its place, makes it durable and puts it there. What was there before stays until then.
pub(crate) fn replace(
    disk: &dyn Disk,
    dir: &Path,
    path: &Path,
    write: impl FnOnce(&dyn DiskFile) -> io::Result<()>,
) -> io::Result<Arc<dyn DiskFile>> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(UNFINISHED);
    let beside = PathBuf::from(beside);
    let place = || {
        let file = disk.open(&beside, Mode::Create)?;
        write(&*file)?;
        file.sync()?;
        disk.rename(&beside, path)?;
        disk.sync_dir(dir)?;
        Ok(file)
    };
    // Half a file would keep the room that the next try needs; if it cannot be removed, opening the log does it.
    place().inspect_err(|_| drop(disk.remove(&beside)))
}

/// The file of a segment.
pub(crate) fn segment_path(dir: &Path, number: u32) -> PathBuf {
    dir.join(format!("{number:08x}.log"))
}

/// The file of a segment's index.
pub(crate) fn index_path(dir: &Path, number: u32) -> PathBuf {
    dir.join(format!("{number:08x}.idx"))
}

/// The segment number in a file's name, if it ends as told.
pub(crate) fn number_in(name: &str, suffix: &str) -> Option<u32> {
    let digits = name.strip_suffix(suffix).filter(|digits| digits.len() == 8)?;
    u32::from_str_radix(digits, 16).ok()
}

/// The segment number that a name begins with, also of a file that was set aside.
pub(crate) fn number_before(name: &str) -> Option<u32> {
    u32::from_str_radix(name.get(..8)?, 16)
        .ok()
        .filter(|_| name.get(8..9) == Some("."))
}

/// Renames a file so that nothing reads it again, and nothing is lost that a person may want to look at.
pub(crate) fn set_aside(disk: &dyn Disk, dir: &Path, name: &str, taken: &[String]) -> Result<String, LogError> {
    let mut aside = format!("{name}.damaged");
    let mut copies = 1;
    while taken.contains(&aside) {
        copies += 1;
        aside = format!("{name}.damaged");
        let _ = write!(aside, "-{copies}");
    }
    let from = dir.join(name);
    disk.rename(&from, &dir.join(&aside))
        .map_err(|source| LogError::io("rename", &from, source))?;
    Ok(aside)
}
