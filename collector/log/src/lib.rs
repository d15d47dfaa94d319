//! The append-only log of one batch: opaque records, each of which settles some numbers of the batch.
//!
//! A log is a folder of segments. Appends go to the newest one; a full segment is sealed with an index beside it, so
//! that outcomes are found by number without holding all offsets in memory. A checkpoint holds the caller's state as of
//! a record, so that opening replays only what lies behind it. One process writes; any number of readers look on.
//!
//! What was synced survives the loss of power, as far as the disk honours fsync. Of what was appended and not synced,
//! a beginning may survive. Damage is found by checksums, counted and stepped over; nothing that was found damaged is
//! deleted, only the torn end of the newest segment is cut.
//!
//! What the records of a collector say is known to [`Rebuild`], [`Cursor`] and [`read_back`] alone.

#![allow(
    clippy::cast_possible_truncation,
    reason = "usize is as wide as u64, see below; u32 is never cast to"
)]

mod append;
mod cache;
mod checkpoint;
mod cursor;
pub mod disk;
mod error;
pub mod fault;
mod frame;
mod in_order;
mod index;
mod index_file;
mod long_output;
mod look;
pub mod memory;
mod outputs;
pub mod read_back;
mod reader;
mod rebuild;
mod recorder;
mod recovery;
mod scan;
mod segment;
mod shared;
mod survey;
mod sync;
mod verify;
mod volatile;

use std::path::Path;

use harmony_protocol::ids::{BatchUid, LogId};
use harmony_protocol::limits::MAX_MESSAGE;

pub use append::{Appended, Log};
pub use cursor::{Cursor, Outcome};
pub use error::{LogError, ReplayError};
pub use frame::Placed;
pub use in_order::InOrder;
pub use long_output::LongOutput;
pub use reader::{Location, LogReader, Record, Records};
pub use rebuild::Rebuild;
pub use recorder::{DueCheckpoint, Opened, Recorder, Written};
pub use recovery::Recovery;
pub use sync::Syncer;
pub use verify::Damage;

// Lengths in files are used as lengths in memory.
const _: () = assert!(usize::BITS >= u64::BITS);

/// The bounds of a log.
#[derive(Clone, Copy, Debug)]
pub struct LogConfig {
    /// Bytes at which a segment is sealed and the next one begun. What lies behind the last checkpoint is read when a
    /// log is opened, so this bounds the time of opening too. From 4 KiB to 1 TiB.
    pub segment_bytes: u64,
    /// Bytes of the largest record, below 4 GiB. A record longer than a segment has a segment of its own.
    pub max_record: u64,
    /// Bytes that the log may take in all; appending pauses at nine tenths of it, as on a full disk. No limit if absent.
    pub max_bytes: Option<u64>,
    /// Whether appending pauses as well, as on a full disk, when less than a tenth of the file system is left, or less than
    /// 1 GiB of a large one. Asked anew for each record, since others write there too, and volumes grow.
    pub leave_room: bool,
    /// The identity of a log that is begun now; random if `None`. For runs that must repeat exactly.
    pub new_log: Option<LogId>,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            segment_bytes: 64 << 20,
            max_record: MAX_MESSAGE as u64,
            max_bytes: None,
            leave_room: false,
            new_log: None,
        }
    }
}

impl LogConfig {
    fn check(&self) -> Result<(), LogError> {
        let within = |field, value: u64, low: u64, high: u64| {
            let allowed = format!("{low} to {high}");
            if (low..=high).contains(&value) {
                Ok(())
            } else {
                Err(LogError::Invalid { field, value, allowed })
            }
        };
        within("segment_bytes", self.segment_bytes, 4 << 10, 1 << 40)?;
        within("max_record", self.max_record, 1, u32::MAX.into())
    }
}

/// Whose log it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity {
    uid: BatchUid,
    log: LogId,
}

/// The end of a record in the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// How many records were appended up to here, lost ones included.
    pub sequence: u64,
    /// The segment that the next record goes to, if there is room.
    pub segment: u32,
    /// Where in that segment, in bytes.
    pub offset: u64,
}

/// Takes back what a log holds, when it is opened: at most one state, then every record behind it in order.
pub trait Replay {
    /// Takes the state of the newest checkpoint that the log bears out.
    fn checkpoint(&mut self, state: &[u8]) -> Result<(), ReplayError>;
    /// Takes the next record, and which numbers it settles.
    fn record(&mut self, record: &[u8], placed: &[Placed]) -> Result<(), ReplayError>;
}

/// The folder that holds a path, for making a new name in it durable.
fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => path,
    }
}
