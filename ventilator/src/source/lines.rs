//! The lines of a file, read by position and checked against what the file was at the start.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use super::blocks::BlockIndex;
use super::{Digest, SourceError, TaskSource};

/// A line is a payload; it loses only its LF. The last line may lack one.
pub(super) struct LinesSource {
    file: File,
    path: PathBuf,
    index: BlockIndex,
    loaded: Loaded,
}

/// The block that was read last, and how far its lines were taken.
#[derive(Default)]
struct Loaded {
    bytes: Vec<u8>,
    /// Its first line, and the one after its last.
    first_line: u64,
    end_line: u64,
    /// The next line in order, and where it begins in `bytes`.
    next_line: u64,
    position: usize,
}

impl LinesSource {
    /// Reads the file through once. The digest is the SHA-256 of its bytes.
    pub(super) fn open(path: &Path) -> Result<(Self, Digest), SourceError> {
        let file = File::open(path).map_err(|source| SourceError::open(path, source))?;
        let size = file.metadata().map_err(|source| SourceError::open(path, source))?.len();
        let (index, digest) = BlockIndex::build(&file, size, path)?;
        Ok((
            Self {
                file,
                path: path.to_owned(),
                index,
                loaded: Loaded::default(),
            },
            digest,
        ))
    }

    fn load(&mut self, line: u64) -> Result<(), SourceError> {
        let completions = self.index.lines;
        let found = self.index.find(line);
        let (block, end_line, end) = found.ok_or(SourceError::NoSuchTask {
            number: line,
            completions,
        })?;
        let mut bytes = std::mem::take(&mut self.loaded).bytes;
        bytes.resize(usize::try_from(end - block.offset).unwrap_or(usize::MAX), 0);
        let read = self.file.read_exact_at(&mut bytes, block.offset);
        let is_shorter = read
            .as_ref()
            .is_err_and(|error| error.kind() == std::io::ErrorKind::UnexpectedEof);
        if is_shorter || (read.is_ok() && crc32c::crc32c(&bytes) != block.checksum) {
            let (first, last) = (block.first_line, end_line - 1);
            return Err(SourceError::Changed {
                path: self.path.clone(),
                first,
                last,
            });
        }
        read.map_err(|source| SourceError::read(&self.path, source))?;
        let first_line = block.first_line;
        self.loaded = Loaded {
            bytes,
            first_line,
            end_line,
            next_line: first_line,
            position: 0,
        };
        Ok(())
    }
}

impl Loaded {
    fn holds(&self, line: u64) -> bool {
        (self.first_line..self.end_line).contains(&line)
    }

    /// The next line in order, without its LF.
    fn take_line(&mut self) -> &[u8] {
        let rest = self.bytes.get(self.position..).unwrap_or_default();
        let length = memchr::memchr(b'\n', rest).unwrap_or(rest.len());
        self.position += length + 1;
        self.next_line += 1;
        rest.get(..length).unwrap_or_default()
    }

    fn rewind(&mut self) {
        (self.next_line, self.position) = (self.first_line, 0);
    }
}

impl TaskSource for LinesSource {
    fn completions(&self) -> u64 {
        self.index.lines
    }

    fn append(&mut self, number: u64, buffer: &mut Vec<u8>) -> Result<usize, SourceError> {
        if !self.loaded.holds(number) {
            self.load(number)?;
        } else if number < self.loaded.next_line {
            self.loaded.rewind();
        }
        while self.loaded.next_line < number {
            self.loaded.take_line();
        }
        let line = self.loaded.take_line();
        buffer.extend_from_slice(line);
        Ok(line.len())
    }
}
