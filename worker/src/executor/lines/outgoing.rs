//! What is still to be written to a warm process: lines, one after the other. A long one is read from its file as the pipe takes it.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;

use super::warm::SENT_BYTES_MOST;
use crate::executor::child::READ_BYTES;
use crate::payloads::Input;

/// See the module.
#[derive(Default)]
pub(super) struct Outgoing {
    /// What is written next, and how much of it was.
    buffer: Vec<u8>,
    written: usize,
    /// A line that is too long for the buffer, and those behind it.
    later: VecDeque<Line>,
}

enum Line {
    Whole(Bytes),
    /// Its bytes, and how many of them have gone into the buffer.
    File {
        file: Arc<File>,
        length: u64,
        taken: u64,
    },
}

impl Outgoing {
    /// A line without its LF.
    pub(super) fn push(&mut self, input: Input<'_>) {
        match input {
            Input::Whole(bytes) if self.later.is_empty() => {
                self.buffer.extend_from_slice(bytes);
                self.buffer.push(b'\n');
            }
            Input::Whole(bytes) => self.later.push_back(Line::Whole(bytes.clone())),
            Input::File { file, length } => self.later.push_back(Line::File { file, length, taken: 0 }),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.written == self.buffer.len() && self.later.is_empty()
    }

    /// Hands out what is to be written until `write` takes no more of it. An error is one of reading.
    pub(super) fn flush(&mut self, mut write: impl FnMut(&[u8]) -> usize) -> io::Result<()> {
        while !self.is_empty() {
            if self.written == self.buffer.len() {
                self.buffer.clear();
                self.written = 0;
                self.fill()?;
            }
            let rest = self.buffer.get(self.written..).unwrap_or_default();
            let count = write(rest);
            self.written += count;
            if self.written < self.buffer.len() {
                return Ok(());
            }
        }
        self.buffer.clear();
        self.written = 0;
        self.buffer.shrink_to(SENT_BYTES_MOST);
        Ok(())
    }

    /// Moves the next piece of a long line into the buffer, or the short lines behind it.
    fn fill(&mut self) -> io::Result<()> {
        while let Some(line) = self.later.front_mut() {
            match line {
                Line::Whole(bytes) => self.buffer.extend_from_slice(bytes),
                Line::File { file, length, taken } if *taken < *length => {
                    let rest = usize::try_from(*length - *taken).unwrap_or(usize::MAX);
                    let before = self.buffer.len();
                    self.buffer.resize(before + rest.min(READ_BYTES), 0);
                    let piece = self.buffer.get_mut(before..).unwrap_or_default();
                    file.read_exact_at(piece, *taken)?;
                    *taken += piece.len() as u64;
                    return Ok(());
                }
                Line::File { .. } => {}
            }
            self.buffer.push(b'\n');
            self.later.pop_front();
        }
        Ok(())
    }
}
