//! Why tasks cannot be read.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use thiserror::Error;

/// Why tasks cannot be read. Each message names what it is about and the way out.
#[derive(Debug, Error)]
pub enum SourceError {
    /// A `ConfigMap` that nobody has asked the API server for.
    #[error("the ConfigMap {name} with the tasks under {key} has not been read")]
    Unresolved {
        /// The `ConfigMap`.
        name: String,
        /// The key of the value.
        key: String,
    },
    /// A range does not know its own end.
    #[error("spec.completions is missing, and tasks.range needs it")]
    CompletionsMissing,
    /// The batch and its source disagree on N.
    #[error(
        "spec.completions is {stated}, but {origin} holds {held} {unit}; make them equal, or leave completions out"
    )]
    CompletionsDiffer {
        /// What the batch says.
        stated: u64,
        /// What the source holds.
        held: u64,
        /// The source.
        origin: String,
        /// What the source is made of.
        unit: &'static str,
    },
    /// A number beyond the last task.
    #[error("there is no task {number}: the numbers end before {completions}")]
    NoSuchTask {
        /// The number asked for.
        number: u64,
        /// N.
        completions: u64,
    },
    /// A path that cannot be opened.
    #[error("cannot open {path}: {source}")]
    Open {
        /// The path, from the base folder.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A path that is a folder.
    #[error("cannot read tasks from {path}: it is a folder, and a file with one task per line is expected")]
    Folder {
        /// The path, from the base folder.
        path: PathBuf,
    },
    /// A file or pipe that stops being readable.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The path or address.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file that is no longer what it was when the batch began.
    #[error(
        "{path} changed while the batch ran: lines {first} to {last} (from 0) are not what they were; \
         restore the file and run the batch again"
    )]
    Changed {
        /// The file.
        path: PathBuf,
        /// The first line that may be another.
        first: u64,
        /// The last one.
        last: u64,
    },
    /// A line that no task can be.
    #[error("{path} holds a line of more than {limit} bytes at byte {offset}; does it have line breaks?")]
    LineTooLong {
        /// The file.
        path: PathBuf,
        /// Where the block of lines that ends with it begins.
        offset: u64,
        /// The longest line in bytes.
        limit: u64,
    },
    /// A server that does not answer in time.
    #[error("{url} did not answer within {patience:?}")]
    Late {
        /// The address, without its password.
        url: String,
        /// How long it had.
        patience: Duration,
    },
    /// A server that cannot be reached, or breaks off.
    #[error("cannot read {url}: {reason}")]
    Fetch {
        /// The address, without its password.
        url: String,
        /// The chain of causes: name lookup, connection, certificate, redirects ...
        reason: String,
    },
    /// A server that may not be asked.
    #[error("cannot read {url}: {reason}, which tasks are not read from; put them behind another address")]
    Local {
        /// The address, without its password.
        url: String,
        /// Which part of it leads where.
        reason: String,
    },
    /// A server that is not in the operator's list.
    #[error(
        "cannot read {url}: {reason}; put the tasks behind one that is, or have it added: the chart's value sourceHosts, which is \
         the operator's flag --source-host"
    )]
    HostNotAllowed {
        /// The address, without its password.
        url: String,
        /// Which host it leads to.
        reason: String,
    },
    /// A server that answers, but not with the tasks.
    #[error("{url} answered {status}, expected 200 OK")]
    Status {
        /// The address that answered, after redirects and without its password.
        url: String,
        /// Its answer.
        status: String,
    },
    /// More than may be written down.
    #[error(
        "{origin} holds more than {limit} bytes, which is the limit for tasks that have to be written down; split the batch, or \
         raise the chart's value spool.maxBytesPerBatch, which is the operator's flag --max-spool-bytes, and with it \
         spool.maxBytes and spool.sizeLimit; on one machine name a file, which is read where it is"
    )]
    TooLarge {
        /// The pipe or address.
        origin: String,
        /// The limit.
        limit: u64,
    },
    /// More than may be written down together with the tasks of other batches.
    #[error(
        "{origin} does not fit into the {limit} bytes for the tasks of all batches that have to be written down; it is tried \
         again when others have ended, or raise the chart's values spool.maxBytes, which is the operator's flag \
         --max-spool-bytes-total, and spool.sizeLimit"
    )]
    NoRoom {
        /// The pipe or address.
        origin: String,
        /// The limit.
        limit: u64,
    },
    /// A spool that cannot be written or read.
    #[error("cannot keep the tasks in {path}: {source}")]
    Spool {
        /// The file concerned.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A spool that was filled from elsewhere.
    #[error(
        "{path} was written from {held}, not from {wanted}; use another output folder, or delete it to read the tasks again"
    )]
    OtherOrigin {
        /// The spool's description.
        path: PathBuf,
        /// Where its tasks came from.
        held: String,
        /// Where the batch's tasks come from now.
        wanted: String,
    },
    /// A spool with other bytes than were written.
    #[error("{path} is damaged: its hash is not the one noted in tasks.json; delete both to read the tasks again")]
    SpoolDamaged {
        /// The spool.
        path: PathBuf,
    },
}

impl SourceError {
    /// Whether the batch or its source is wrong, so that the same command cannot succeed later. Everything else, such as a
    /// server that does not answer, may pass.
    pub fn is_input(&self) -> bool {
        match self {
            Self::CompletionsMissing
            | Self::CompletionsDiffer { .. }
            | Self::NoSuchTask { .. }
            | Self::Local { .. }
            | Self::Folder { .. }
            | Self::LineTooLong { .. }
            | Self::TooLarge { .. }
            | Self::OtherOrigin { .. } => true,
            Self::Open { source, .. } => source.kind() == io::ErrorKind::NotFound,
            Self::Status { status, .. } => !status.starts_with('5'),
            Self::Unresolved { .. }
            | Self::Read { .. }
            | Self::Changed { .. }
            | Self::Late { .. }
            | Self::HostNotAllowed { .. } // the list may grow
            | Self::Fetch { .. }
            | Self::NoRoom { .. } // others give theirs back
            | Self::Spool { .. }
            | Self::SpoolDamaged { .. } => false,
        }
    }

    pub(super) fn open(path: &Path, source: io::Error) -> Self {
        Self::Open {
            path: path.to_owned(),
            source,
        }
    }

    pub(super) fn read(path: &Path, source: io::Error) -> Self {
        Self::Read {
            path: path.to_owned(),
            source,
        }
    }

    pub(super) fn spool(path: &Path, source: io::Error) -> Self {
        Self::Spool {
            path: path.to_owned(),
            source,
        }
    }
}
