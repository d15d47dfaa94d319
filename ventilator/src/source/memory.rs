//! Sources that fit in memory: a range of numbers, and a list.

use std::io::Write as _;
use std::ops::Range;

use sha2::{Digest as _, Sha256};

use super::{Opened, SourceError, TaskSource, within};

/// Each payload is the task's number in decimal.
pub(super) fn range(completions: u64) -> Opened {
    let digest = Sha256::new_with_prefix(b"range\0")
        .chain_update(completions.to_be_bytes())
        .finalize();
    Opened {
        source: Box::new(RangeSource { completions }),
        digest: digest.into(),
    }
}

/// Each payload is an entry of the list.
pub(super) fn items(items: Vec<String>) -> Opened {
    let mut hash = Sha256::new_with_prefix(b"items\0");
    for item in &items {
        // With its length in front, [ab] and [a, b] differ.
        hash.update((item.len() as u64).to_be_bytes());
        hash.update(item);
    }
    Opened {
        source: Box::new(ItemsSource { items }),
        digest: hash.finalize().into(),
    }
}

/// Each payload is a line of the text. The digest is the one of a file that holds the text.
pub(super) fn text(text: &str) -> Opened {
    let items = lines_of(text).map(str::to_owned).collect();
    Opened {
        source: Box::new(ItemsSource { items }),
        digest: Sha256::digest(text).into(),
    }
}

/// The lines of a text, as those of a file: a line loses only its LF, and the last one needs none.
pub(super) fn lines_of(text: &str) -> impl Iterator<Item = &str> {
    text.split_inclusive('\n')
        .map(|line| line.strip_suffix('\n').unwrap_or(line))
}

struct RangeSource {
    completions: u64,
}

impl TaskSource for RangeSource {
    fn completions(&self) -> u64 {
        self.completions
    }

    fn append(&mut self, number: u64, range: Range<u64>, buffer: &mut Vec<u8>) -> Result<u64, SourceError> {
        if number >= self.completions {
            return Err(SourceError::NoSuchTask {
                number,
                completions: self.completions,
            });
        }
        let before = buffer.len();
        // Writing to a vector cannot fail.
        let _ = write!(buffer, "{number}");
        let length = (buffer.len() - before) as u64;
        if range.start > 0 || range.end < length {
            let whole = buffer.split_off(before);
            buffer.extend_from_slice(within(&whole, range));
        }
        Ok(length)
    }
}

struct ItemsSource {
    items: Vec<String>,
}

impl TaskSource for ItemsSource {
    fn completions(&self) -> u64 {
        self.items.len() as u64
    }

    fn append(&mut self, number: u64, range: Range<u64>, buffer: &mut Vec<u8>) -> Result<u64, SourceError> {
        let item = usize::try_from(number).ok().and_then(|index| self.items.get(index));
        let item = item.ok_or(SourceError::NoSuchTask {
            number,
            completions: self.completions(),
        })?;
        buffer.extend_from_slice(within(item.as_bytes(), range));
        Ok(item.len() as u64)
    }
}
