//! What can go wrong in the log, and which of it ends the process.

use std::io;
use std::path::{Path, PathBuf};

use harmony_protocol::ids::BatchUid;

use crate::Position;

/// What a caller of [`Replay`](super::Replay) returns when it cannot take a state or a record.
pub type ReplayError = Box<dyn std::error::Error + Send + Sync>;

/// Why the log refused or failed.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// A call of the disk failed. The log takes nothing more; reopening it recovers.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The disk, the quota or the file size limit is used up. Nothing was recorded; try again when there is room.
    #[error("no room to {action} {}: {source}; free some space or raise the limit", path.display())]
    NoSpace {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// Another process writes this log.
    #[error("the log {} is in use by another process; end that process, or wait until it has ended", dir.display())]
    Locked {
        /// The folder of the log.
        dir: PathBuf,
    },
    /// The folder holds the log of another batch.
    #[error("{} belongs to batch {found}, not to {expected}; use another folder, or move this one away", path.display())]
    OtherBatch {
        /// The file that says so.
        path: PathBuf,
        /// The batch in the file.
        found: BatchUid,
        /// The batch that was to be opened.
        expected: BatchUid,
    },
    /// A file was written by a newer version.
    #[error("{} has format {found}, this version reads up to {supported}; use a newer harmony", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// The format in the file.
        found: u32,
        /// The newest format that is understood.
        supported: u32,
    },
    /// A setting or an argument is out of bounds.
    #[error("{field} is {value}, allowed is {allowed}")]
    Invalid {
        /// What is out of bounds.
        field: &'static str,
        /// What was given.
        value: u64,
        /// What would be accepted.
        allowed: String,
    },
    /// A checkpoint was to cover records that are not durable yet.
    #[error("a checkpoint at record {} is ahead of the {} durable records; sync first", at.sequence, synced.sequence)]
    Unsynced {
        /// The position of the refused checkpoint.
        at: Position,
        /// How far the log is durable.
        synced: Position,
    },
    /// An earlier write or fsync failed, so what the disk holds is unknown until the log is opened again.
    #[error("the log {} failed before and takes nothing more; restart to recover it", dir.display())]
    Failed {
        /// The folder of the log.
        dir: PathBuf,
    },
    /// A record, or the index of a segment, does not match its checksum.
    #[error("{} is damaged at offset {offset}; its numbers have to run again", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where the damage begins, in bytes.
        offset: u64,
    },
    /// The caller could not take a checkpoint or a record back.
    #[error("cannot replay {}: {source}", path.display())]
    Replay {
        /// The file that is replayed.
        path: PathBuf,
        /// The caller's reason.
        source: ReplayError,
    },
}

impl LogError {
    /// Sorts an error of the disk by whether room is all that is missing.
    pub(crate) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        let path = path.to_path_buf();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                Self::NoSpace { action, path, source }
            }
            _ => Self::Io { action, path, source },
        }
    }

    /// Whether the log takes nothing more and the process should end. [`NoSpace`](Self::NoSpace) is not fatal.
    pub fn is_fatal(&self) -> bool {
        !matches!(
            self,
            Self::NoSpace { .. } | Self::Invalid { .. } | Self::Unsynced { .. } | Self::Damaged { .. }
        )
    }
    /// Whether the system refused what was asked for, such as a folder without permission: a restart would be refused too.
    pub fn is_refusal(&self) -> bool {
        let Self::Io { source, .. } = self else { return false };
        matches!(
            source.kind(),
            io::ErrorKind::PermissionDenied
                | io::ErrorKind::AlreadyExists
                | io::ErrorKind::ReadOnlyFilesystem
                | io::ErrorKind::NotADirectory
                | io::ErrorKind::IsADirectory
                | io::ErrorKind::InvalidFilename
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_restart_cannot_mend_is_told_from_a_failing_disk() {
        let opening = |kind: io::ErrorKind| LogError::io("open", Path::new("log"), kind.into());
        assert!(opening(io::ErrorKind::PermissionDenied).is_refusal());
        assert!(!opening(io::ErrorKind::StorageFull).is_refusal());
        assert!(
            !LogError::io("read", Path::new("log"), io::Error::from_raw_os_error(5)).is_refusal(),
            "EIO"
        );
    }
}
