//! An output that has a file of its own, read.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use harmony_protocol::mutant::{self, Mutant};
use harmony_protocol::wire::ResultEntry;

use crate::disk::{DiskFile, Mode};
use crate::{LogError, LogReader, outputs};

/// Bytes that are read at once.
const CHUNK: usize = 1 << 20;

/// The file of an output.
pub struct LongOutput {
    file: Arc<dyn DiskFile>,
    path: PathBuf,
    at: u64,
}

impl LogReader {
    /// Where the output of a number is, if it has a file of its own: in the folder of the log.
    pub fn output_path(&self, number: u64) -> PathBuf {
        outputs::path(&self.shared.dir, number)
    }

    /// Opens the file of an output; [`LogError::Damaged`] if it is lost.
    pub fn output(&self, number: u64) -> Result<LongOutput, LogError> {
        let path = self.output_path(number);
        match self.shared.disk.open(&path, Mode::Read) {
            Ok(file) => Ok(LongOutput { file, path, at: 0 }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(LogError::Damaged { path, offset: 0 }),
            Err(source) => Err(LogError::io("open", &path, source)),
        }
    }

    /// Whether the file of an output is as the record of its outcome says; if so, the CRC-32C of `head` and the output.
    pub(crate) fn check_output(&self, entry: &ResultEntry, head: &[u8]) -> Result<Option<u32>, LogError> {
        let Some(expected) = entry.parted else { return Ok(None) };
        let mut output = match self.output(entry.number) {
            Err(LogError::Damaged { .. }) => return Ok(None),
            output => output?,
        };
        let (mut own, mut digest, mut length) = (0, crc32c::crc32c(head), 0);
        let mut buffer = vec![0; CHUNK];
        loop {
            let read = output.read(&mut buffer)?;
            let bytes = buffer.get(..read).unwrap_or_default();
            if bytes.is_empty() {
                break;
            }
            own = crc32c::crc32c_append(own, bytes);
            digest = crc32c::crc32c_append(digest, bytes);
            length += bytes.len() as u64;
        }
        let whole = own == expected && length == u64::from(entry.output);
        Ok((whole || mutant::on(Mutant::OutputUnchecked)).then_some(digest))
    }
}

impl LongOutput {
    /// Reads on; nothing at the end.
    pub fn read(&mut self, buffer: &mut [u8]) -> Result<usize, LogError> {
        let read = self.file.read_at(self.at, buffer);
        let read = read.map_err(|source| LogError::io("read", &self.path, source))?;
        self.at += read as u64;
        Ok(read)
    }
}
