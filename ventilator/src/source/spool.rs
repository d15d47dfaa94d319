//! Tasks that can be read only once, written down: `tasks.lines` holds them, `tasks.json` says what they are.
//!
//! `tasks.json` is written last, so it is there only when `tasks.lines` is whole and on the disk.

use std::fs::{self, File};
use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{Digest, SourceConfig, SourceError, next_bytes};

/// Bytes moved at a time.
const CHUNK: usize = 256 << 10;

/// What `tasks.lines` holds.
#[derive(Serialize, Deserialize)]
struct Note {
    /// The pipe or address it came from.
    origin: String,
    /// SHA-256 of its bytes.
    sha256: Digest,
}

/// Where the lines are.
pub(super) fn lines_path(config: &SourceConfig) -> PathBuf {
    config.spool_dir.join("tasks.lines")
}

fn note_path(config: &SourceConfig) -> PathBuf {
    config.spool_dir.join("tasks.json")
}

/// Whether the tasks of `origin` are written down already.
pub(super) fn holds(origin: &str, config: &SourceConfig) -> Result<bool, SourceError> {
    let path = note_path(config);
    match read_note(&path)? {
        None => Ok(false),
        Some(note) if note.origin == origin => Ok(true),
        Some(note) => Err(SourceError::OtherOrigin {
            path,
            held: note.origin,
            wanted: origin.to_owned(),
        }),
    }
}

/// Compares what is there now with what was written.
pub(super) fn verify(digest: &Digest, config: &SourceConfig) -> Result<(), SourceError> {
    let noted = read_note(&note_path(config))?.map(|note| note.sha256);
    if noted.as_ref() == Some(digest) {
        Ok(())
    } else {
        Err(SourceError::SpoolDamaged {
            path: lines_path(config),
        })
    }
}

/// Writes down everything that `tasks` gives.
pub(super) fn write(origin: &str, tasks: impl Read, config: &SourceConfig) -> Result<(), SourceError> {
    let folder = &config.spool_dir;
    fs::create_dir_all(folder).map_err(|source| SourceError::spool(folder, source))?;
    let lines = lines_path(config);
    let mut sha256 = Digest::default();
    place(&lines, |file| {
        sha256 = copy(tasks, file, origin, config)?;
        Ok(())
    })?;
    let note = Note {
        origin: origin.to_owned(),
        sha256,
    };
    let path = note_path(config);
    place(&path, |file| {
        serde_json::to_writer(file, &note).map_err(|error| SourceError::spool(&path, error.into()))
    })
}

fn copy(mut tasks: impl Read, file: &mut File, origin: &str, config: &SourceConfig) -> Result<Digest, SourceError> {
    let mut hash = Sha256::new();
    let mut written = 0;
    let mut chunk = vec![0; CHUNK];
    loop {
        let bytes =
            next_bytes(&mut tasks, &mut chunk).map_err(|source| SourceError::read(Path::new(origin), source))?;
        if bytes.is_empty() {
            return Ok(hash.finalize().into());
        }
        let more = bytes.len() as u64;
        written += more;
        within_limits(written, more, origin, config)?;
        hash.update(bytes);
        file.write_all(bytes)
            .map_err(|source| SourceError::spool(&lines_path(config), source))?;
    }
}

/// Whether `written` bytes may be written, of which `more` are new.
fn within_limits(written: u64, more: u64, origin: &str, config: &SourceConfig) -> Result<(), SourceError> {
    let origin = || origin.to_owned();
    if written > config.max_spool_bytes {
        return Err(SourceError::TooLarge {
            origin: origin(),
            limit: config.max_spool_bytes,
        });
    }
    match &config.spool_share {
        Some(share) if !share.take(more) => Err(SourceError::NoRoom {
            origin: origin(),
            limit: share.limit(),
        }),
        _ => Ok(()),
    }
}

/// Makes a file that is either whole or not there, even if the power fails.
fn place(path: &Path, fill: impl FnOnce(&mut File) -> Result<(), SourceError>) -> Result<(), SourceError> {
    let failed = |source| SourceError::spool(path, source);
    let part = path.with_extension("part");
    let mut file = File::create(&part).map_err(failed)?;
    let filled = fill(&mut file).and_then(|()| file.sync_all().map_err(failed));
    if filled.is_err() {
        // The reason for which filling failed is the one that counts.
        let _ = fs::remove_file(&part);
        return filled;
    }
    fs::rename(&part, path).map_err(failed)?;
    let folder = path.parent().unwrap_or(path);
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)
}

fn read_note(path: &Path) -> Result<Option<Note>, SourceError> {
    match fs::read(path) {
        Ok(json) => serde_json::from_slice(&json)
            .map(Some)
            .map_err(|error| SourceError::spool(path, error.into())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(SourceError::spool(path, error)),
    }
}
