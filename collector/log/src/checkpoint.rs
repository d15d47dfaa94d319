//! Checkpoints: the caller's state as of a record, and the segments that it was built from.
//!
//! A checkpoint is believed only while every segment that it names is there, so that a lost segment shows.

use std::io::IoSlice;
use std::path::Path;
use std::sync::PoisonError;

use bytes::{Buf, BufMut, Bytes};
use crc32c::{crc32c, crc32c_append};
use harmony_protocol::ids::{BatchUid, LogId};
use uuid::Uuid;

use crate::disk::{Disk, Mode};
use crate::segment::{FORMAT, replace};
use crate::shared::Shared;
use crate::{Identity, LogError, Position};

const MAGIC: &[u8; 8] = b"HRMNYCKP";
const PREFIX: &str = "checkpoint-";
const HEADER: usize = 80;
/// Bytes of one named segment.
const COVERED: usize = 20;
/// Checkpoints that are kept: the newest, and one in case that is damaged.
const KEPT: usize = 2;
/// The largest state in bytes: a bitmap of 10^9 numbers and a good deal more.
const MAX_STATE: u64 = 1 << 30;

/// A segment that a checkpoint was built from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Covered {
    pub(crate) number: u32,
    pub(crate) first: u64,
    /// Bytes of it that the state takes in: all of them, but for the last segment.
    pub(crate) length: u64,
}

pub(crate) struct Checkpoint {
    pub(crate) identity: Identity,
    pub(crate) at: Position,
    pub(crate) covered: Vec<Covered>,
    pub(crate) state: Bytes,
}

/// The name of a checkpoint's file.
pub(crate) fn name(sequence: u64) -> String {
    format!("{PREFIX}{sequence:016x}")
}

/// The sequence in a file's name, if it is a checkpoint's.
pub(crate) fn sequence_in(name: &str) -> Option<u64> {
    let digits = name.strip_prefix(PREFIX).filter(|digits| digits.len() == 16)?;
    u64::from_str_radix(digits, 16).ok()
}

/// Writes a checkpoint and removes those that are no longer needed.
pub(crate) fn write(shared: &Shared, at: Position, state: &[u8]) -> Result<(), LogError> {
    let length = state.len() as u64;
    if length > MAX_STATE {
        let allowed = format!("at most {MAX_STATE}");
        return Err(LogError::Invalid {
            field: "checkpoint bytes",
            value: length,
            allowed,
        });
    }
    let mut kept = shared.checkpoints.lock().unwrap_or_else(PoisonError::into_inner);
    let header = header(shared.identity, at, &covered(shared, at), length);
    let sum = crc32c_append(crc32c(&header), state).to_be_bytes();
    let path = shared.dir.join(name(at.sequence));
    let parts = &mut [IoSlice::new(&header), IoSlice::new(state), IoSlice::new(&sum)];
    replace(&*shared.disk, &shared.dir, &path, |file| file.append(parts))
        .map_err(|source| LogError::io("write", &path, source))?;
    kept.retain(|sequence| *sequence != at.sequence);
    kept.push(at.sequence);
    kept.sort_unstable();
    while kept.len() > KEPT {
        let path = shared.dir.join(name(kept.remove(0)));
        shared
            .disk
            .remove(&path)
            .map_err(|source| LogError::io("remove", &path, source))?;
    }
    Ok(())
}

fn covered(shared: &Shared, at: Position) -> Vec<Covered> {
    let catalog = shared.read();
    let active = &catalog.active;
    let sealed = catalog
        .sealed
        .iter()
        .map(|sealed| (sealed.number, sealed.first, sealed.length));
    sealed
        .chain([(active.number, active.first, active.length)])
        .filter(|(number, ..)| *number <= at.segment)
        .map(|(number, first, length)| {
            let length = if number == at.segment { at.offset } else { length };
            Covered { number, first, length }
        })
        .collect()
}

fn header(identity: Identity, at: Position, covered: &[Covered], state: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER + covered.len() * COVERED);
    bytes.put_slice(MAGIC);
    bytes.put_u32(FORMAT);
    bytes.put_u32(u32::try_from(covered.len()).unwrap_or(u32::MAX));
    bytes.put_slice(identity.uid.0.as_bytes());
    bytes.put_slice(identity.log.0.as_bytes());
    bytes.put_u64(at.sequence);
    bytes.put_u32(at.segment);
    bytes.put_u32(0);
    bytes.put_u64(at.offset);
    bytes.put_u64(state);
    for segment in covered {
        bytes.put_u32(segment.number);
        bytes.put_u64(segment.first);
        bytes.put_u64(segment.length);
    }
    bytes
}

/// Reads a checkpoint; `None` if it is not whole.
pub(crate) fn load(disk: &dyn Disk, path: &Path) -> Result<Option<Checkpoint>, LogError> {
    let failed = |source| LogError::io("read", path, source);
    let file = disk.open(path, Mode::Read).map_err(failed)?;
    let length = file.len().map_err(failed)?;
    if length > 2 * MAX_STATE {
        return Ok(None);
    }
    let mut bytes = vec![0; length as usize];
    let read = file.read_at(0, &mut bytes).map_err(failed)?;
    bytes.truncate(read);
    let Some((front, mut sum)) = bytes.len().checked_sub(4).and_then(|at| bytes.split_at_checked(at)) else {
        return Ok(None);
    };
    if sum.get_u32() != crc32c(front) || front.len() < HEADER || !front.starts_with(MAGIC) {
        return Ok(None);
    }
    let front = front.len();
    let mut bytes = Bytes::from(bytes).slice(MAGIC.len()..front);
    let found = bytes.get_u32();
    if found != FORMAT {
        return Err(LogError::Version {
            path: path.to_path_buf(),
            found,
            supported: FORMAT,
        });
    }
    Ok(fields(bytes))
}

fn fields(mut bytes: Bytes) -> Option<Checkpoint> {
    let segments = bytes.get_u32() as usize;
    let uid = BatchUid(Uuid::from_u128(bytes.get_u128()));
    let log = LogId(Uuid::from_u128(bytes.get_u128()));
    let (sequence, segment, _) = (bytes.get_u64(), bytes.get_u32(), bytes.get_u32());
    let at = Position {
        sequence,
        segment,
        offset: bytes.get_u64(),
    };
    let state = bytes.get_u64();
    if (bytes.len() as u64) != state.checked_add(segments as u64 * COVERED as u64)? {
        return None;
    }
    let mut next = || Covered {
        number: bytes.get_u32(),
        first: bytes.get_u64(),
        length: bytes.get_u64(),
    };
    let covered = (0..segments).map(|_| next()).collect();
    Some(Checkpoint {
        identity: Identity { uid, log },
        at,
        covered,
        state: bytes,
    })
}
