//! The lines of a file, read by position and checked against what the file was at the start.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use super::blocks::{Block, BlockIndex};
use super::{Digest, SourceError, TaskSource, within};

/// A line is a payload; it loses only its LF. The last line may lack one.
pub(super) struct LinesSource {
    file: File,
    path: PathBuf,
    index: BlockIndex,
    loaded: Loaded,
    piece: Piece,
}

/// The block that was read last, and where in it the reader is.
#[derive(Default)]
struct Loaded {
    block: Block,
    /// Its end, in bytes of the file, and the line after its last.
    end: u64,
    end_line: u64,
    /// Its bytes; of a block that a long line ends, the first piece.
    bytes: Vec<u8>,
    /// A line, where it begins in `bytes`, and its bytes there.
    line: u64,
    start: usize,
    length: usize,
}

/// The piece of a long line that was read last: it begins at `offset` of the file.
#[derive(Default)]
struct Piece {
    offset: u64,
    bytes: Vec<u8>,
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
                piece: Piece::default(),
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
        let head = block.offset..end.min(block.offset + self.index.piece);
        self.read(&head, block.checksum, &mut bytes)
            .map_err(|error| self.error(error, block.first_line, end_line - 1))?;
        self.loaded = Loaded {
            block,
            end,
            end_line,
            bytes,
            ..Loaded::default()
        };
        self.loaded.rewind();
        Ok(())
    }

    /// Reads a range of the file, which had this checksum at the start.
    fn read(&self, range: &Range<u64>, checksum: u32, bytes: &mut Vec<u8>) -> io::Result<()> {
        bytes.resize(usize::try_from(range.end - range.start).unwrap_or(usize::MAX), 0);
        self.file.read_exact_at(bytes, range.start)?;
        if crc32c::crc32c(bytes) == checksum {
            Ok(())
        } else {
            Err(ErrorKind::InvalidData.into())
        }
    }

    /// A file that is shorter by now, or holds other bytes, has changed.
    fn error(&self, error: io::Error, first: u64, last: u64) -> SourceError {
        match error.kind() {
            ErrorKind::UnexpectedEof | ErrorKind::InvalidData => SourceError::Changed {
                path: self.path.clone(),
                first,
                last,
            },
            _ => SourceError::read(&self.path, error),
        }
    }

    /// Appends what lies in `range` of the long line that ends the loaded block, and returns the bytes of the whole line.
    fn append_long(&mut self, number: u64, range: Range<u64>, buffer: &mut Vec<u8>) -> Result<u64, SourceError> {
        let loaded = &self.loaded;
        let start = loaded.block.offset + loaded.start as u64;
        let has_lf = loaded.end < self.index.bytes || self.index.is_terminated;
        let length = loaded.end - u64::from(has_lf) - start;
        let before = buffer.len();
        let (mut at, end) = (range.start, range.end.min(length));
        while at < end {
            match self.piece_at(start + at) {
                Ok(bytes) => {
                    let part = within(bytes, 0..end - at);
                    buffer.extend_from_slice(part);
                    at += part.len() as u64;
                }
                Err(error) => {
                    buffer.truncate(before);
                    return Err(self.error(error, number, number));
                }
            }
        }
        Ok(length)
    }

    /// The bytes from this place of the file on, to the end of its piece.
    fn piece_at(&mut self, place: u64) -> io::Result<&[u8]> {
        let Loaded { block, end, .. } = self.loaded;
        let position = (place - block.offset) / self.index.piece;
        let offset = block.offset + position * self.index.piece;
        if position == 0 {
            return Ok(within(&self.loaded.bytes, place - offset..u64::MAX));
        }
        if self.piece.offset != offset || self.piece.bytes.is_empty() {
            let mut bytes = std::mem::take(&mut self.piece.bytes);
            let checksum = self.index.checksum(block, position).unwrap_or_default();
            self.read(&(offset..end.min(offset + self.index.piece)), checksum, &mut bytes)?;
            self.piece = Piece { offset, bytes };
        }
        Ok(within(&self.piece.bytes, place - offset..u64::MAX))
    }
}

impl Loaded {
    fn holds(&self, line: u64) -> bool {
        (self.block.first_line..self.end_line).contains(&line)
    }

    /// Whether a line reaches beyond what is loaded.
    fn is_long(&self, line: u64) -> bool {
        line + 1 == self.end_line && self.end - self.block.offset > self.bytes.len() as u64
    }

    fn rewind(&mut self) {
        (self.line, self.start) = (self.block.first_line, 0);
        self.measure();
    }

    /// Finds the end of the line.
    fn measure(&mut self) {
        let rest = self.bytes.get(self.start..).unwrap_or_default();
        self.length = memchr::memchr(b'\n', rest).unwrap_or(rest.len());
    }

    /// Goes to a line of the block.
    fn seek(&mut self, line: u64) {
        if line < self.line {
            self.rewind();
        }
        while self.line < line {
            self.line += 1;
            self.start += self.length + 1;
            self.measure();
        }
    }

    /// The line, without its LF.
    fn line(&self) -> &[u8] {
        self.bytes.get(self.start..self.start + self.length).unwrap_or_default()
    }
}

impl TaskSource for LinesSource {
    fn completions(&self) -> u64 {
        self.index.lines
    }

    fn append(&mut self, number: u64, range: Range<u64>, buffer: &mut Vec<u8>) -> Result<u64, SourceError> {
        if !self.loaded.holds(number) {
            self.load(number)?;
        }
        self.loaded.seek(number);
        if self.loaded.is_long(number) {
            return self.append_long(number, range, buffer);
        }
        let line = self.loaded.line();
        buffer.extend_from_slice(within(line, range));
        Ok(line.len() as u64)
    }
}
