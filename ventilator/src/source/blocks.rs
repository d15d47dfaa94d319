//! A sparse index over the lines of a file: where each block of lines begins, and its checksum.
//!
//! A block holds whole lines. It ends with the line that takes it to its target size, so a file of any number of lines
//! costs 24 bytes of memory per block, and any line is found by reading one block. A block that a long line ends is read in
//! pieces, each with a checksum of its own: only its last line reaches beyond the first piece.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use harmony_protocol::limits::{MAX_PAYLOAD, PART_BYTES};
use sha2::{Digest as _, Sha256};

use super::{Digest, SourceError, next_bytes};

/// The longest line in bytes: twice the largest payload. Such a line is still indexed, and then fails as one task;
/// what is even longer is more likely a file without line breaks.
pub(super) const MAX_LINE: u64 = 2 * MAX_PAYLOAD;
/// The smallest target size in bytes: one read of the disk, checked in some microseconds.
const BLOCK_BYTES: u64 = 64 << 10;
/// The most blocks of a file whose size is known, so that the index stays below 32 MiB. Larger files get larger blocks.
const MAX_BLOCKS: u64 = 1 << 20;
/// Bytes read at a time while the index is built.
const CHUNK: usize = 1 << 20;

/// A run of whole lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Block {
    /// The number of its first line.
    pub(super) first_line: u64,
    /// Where it begins, in bytes.
    pub(super) offset: u64,
    /// CRC32C of its bytes, or of its first piece if it has several.
    pub(super) checksum: u32,
}

/// The index of a file as it was when it was read.
#[derive(Debug)]
pub(super) struct BlockIndex {
    blocks: Vec<Block>,
    /// Bytes of a piece: what one PART carries, and no less than a block without a long line has at its last line's beginning.
    pub(super) piece: u64,
    /// CRC32C of all pieces but the first, for blocks that have several, by where these begin.
    pieces: BTreeMap<u64, Vec<u32>>,
    /// Lines of the whole file.
    pub(super) lines: u64,
    /// Bytes of the whole file.
    pub(super) bytes: u64,
    /// Its last line has an LF, as all others have.
    pub(super) is_terminated: bool,
}

impl BlockIndex {
    /// Reads a file of about `size` bytes through once. `path` is for messages.
    pub(super) fn build(mut file: impl Read, size: u64, path: &Path) -> Result<(Self, Digest), SourceError> {
        let mut builder = Builder::new(BLOCK_BYTES.max(size / MAX_BLOCKS));
        let mut hash = Sha256::new();
        let mut chunk = vec![0; CHUNK];
        loop {
            let bytes = next_bytes(&mut file, &mut chunk).map_err(|source| SourceError::read(path, source))?;
            if bytes.is_empty() {
                return Ok((builder.finish(), hash.finalize().into()));
            }
            hash.update(bytes);
            builder.add(bytes);
            if builder.open_bytes > builder.target + MAX_LINE {
                let offset = builder.offset;
                return Err(SourceError::LineTooLong {
                    path: path.to_owned(),
                    offset,
                    limit: MAX_LINE,
                });
            }
        }
    }

    /// The block that holds `line`, and what follows it: the next block's first line and offset.
    pub(super) fn find(&self, line: u64) -> Option<(Block, u64, u64)> {
        let after = self.blocks.partition_point(|block| block.first_line <= line);
        let block = self.blocks.get(after.checked_sub(1)?)?;
        let (end_line, end) = self
            .blocks
            .get(after)
            .map_or((self.lines, self.bytes), |next| (next.first_line, next.offset));
        (line < end_line).then_some((*block, end_line, end))
    }

    /// The checksum of a piece of a block.
    pub(super) fn checksum(&self, block: Block, piece: u64) -> Option<u32> {
        let later = usize::try_from(piece.checked_sub(1)?).ok();
        let checksums = || self.pieces.get(&block.offset);
        later.and_then(|later| checksums()?.get(later).copied())
    }
}

/// The index so far, and the block that is still open.
struct Builder {
    target: u64,
    blocks: Vec<Block>,
    offset: u64,
    first_line: u64,
    open_bytes: u64,
    open_lines: u64,
    /// Bytes of a piece, those that are open, and their checksum so far.
    piece: u64,
    open_piece: u64,
    checksum: u32,
    /// The pieces of the open block that are whole, and of all blocks that have several.
    checksums: Vec<u32>,
    pieces: BTreeMap<u64, Vec<u32>>,
    last_byte: u8,
}

impl Builder {
    fn new(target: u64) -> Self {
        Self {
            target,
            blocks: Vec::new(),
            offset: 0,
            first_line: 0,
            open_bytes: 0,
            open_lines: 0,
            piece: target.max(PART_BYTES as u64),
            open_piece: 0,
            checksum: 0,
            checksums: Vec::new(),
            pieces: BTreeMap::new(),
            last_byte: b'\n',
        }
    }

    fn add(&mut self, mut bytes: &[u8]) {
        while let Some((&last, _)) = bytes.split_last() {
            self.last_byte = last;
            // The block ends with the first line that ends at its target size or later.
            let missing = usize::try_from(self.target.saturating_sub(self.open_bytes)).unwrap_or(usize::MAX);
            let from = missing.saturating_sub(1);
            let end = bytes
                .get(from..)
                .and_then(|rest| memchr::memchr(b'\n', rest))
                .map(|found| from + found + 1);
            let (inside, rest) = bytes.split_at(end.unwrap_or(bytes.len()));
            self.extend(inside);
            if end.is_some() {
                self.close();
            }
            bytes = rest;
        }
    }

    fn extend(&mut self, bytes: &[u8]) {
        self.open_bytes += bytes.len() as u64;
        self.open_lines += memchr::memchr_iter(b'\n', bytes).count() as u64;
        let mut rest = bytes;
        while !rest.is_empty() {
            if self.open_piece == self.piece {
                self.close_piece();
            }
            let room = usize::try_from(self.piece - self.open_piece).unwrap_or(usize::MAX);
            let (inside, after) = rest.split_at(room.min(rest.len()));
            self.checksum = crc32c::crc32c_append(self.checksum, inside);
            self.open_piece += inside.len() as u64;
            rest = after;
        }
    }

    fn close_piece(&mut self) {
        self.checksums.push(std::mem::take(&mut self.checksum));
        self.open_piece = 0;
    }

    fn close(&mut self) {
        self.close_piece();
        let mut checksums = std::mem::take(&mut self.checksums).into_iter();
        let block = Block {
            first_line: self.first_line,
            offset: self.offset,
            checksum: checksums.next().unwrap_or_default(),
        };
        self.blocks.push(block);
        if checksums.len() > 0 {
            self.pieces.insert(self.offset, checksums.collect());
        }
        self.offset += self.open_bytes;
        self.first_line += self.open_lines;
        (self.open_bytes, self.open_lines) = (0, 0);
    }

    fn finish(mut self) -> BlockIndex {
        let is_terminated = self.last_byte == b'\n';
        if !is_terminated {
            self.open_lines += 1;
        }
        if self.open_bytes > 0 {
            self.close();
        }
        BlockIndex {
            blocks: self.blocks,
            piece: self.piece,
            pieces: self.pieces,
            lines: self.first_line,
            bytes: self.offset,
            is_terminated,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The blocks of `text`, fed in pieces of `piece` bytes.
    fn index(text: &[u8], target: u64, piece: usize) -> BlockIndex {
        let mut builder = Builder::new(target);
        text.chunks(piece).for_each(|piece| builder.add(piece));
        builder.finish()
    }

    #[test]
    fn blocks_do_not_depend_on_how_the_file_is_read() {
        let text: Vec<u8> = (0..500)
            .flat_map(|n: u32| format!("{}\n", "x".repeat((n % 37) as usize)).into_bytes())
            .collect();
        let whole = index(&text, 64, text.len());
        assert!(whole.blocks.len() > 50);
        for piece in [1, 7, 64, 65, 1_000] {
            let pieces = index(&text, 64, piece);
            assert_eq!(pieces.blocks, whole.blocks, "in pieces of {piece}");
            assert_eq!((pieces.lines, pieces.bytes), (500, text.len() as u64));
        }
    }

    #[test]
    fn every_block_begins_at_a_line_and_reaches_its_target() {
        let text = b"aa\nbbbb\n\n\ncccccccccccc\nd".as_slice();
        let index = index(text, 4, 3);
        for block in &index.blocks {
            let offset = usize::try_from(block.offset).unwrap();
            assert!(offset == 0 || text[offset - 1] == b'\n');
        }
        assert_eq!(index.lines, 6);
        let starts: Vec<_> = index
            .blocks
            .iter()
            .map(|block| (block.first_line, block.offset))
            .collect();
        assert_eq!(starts, [(0, 0), (2, 8), (5, 23)]);
        assert_eq!(index.find(1).unwrap().1, 2);
        assert_eq!(index.find(5).unwrap().2, 24);
        assert!(index.find(6).is_none());
    }
}
