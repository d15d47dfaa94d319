//! Lines that come in pieces over a connection that may break: whole ones are passed on, and it is known where to go on.

use std::io::{self, Write};

use harmony_collector::export::Export;
use harmony_protocol::limits::MAX_MESSAGE;
use serde::Deserialize;

/// Bytes of the longest line: an output that JSON escapes in full, six bytes for one, and some more.
const MAX_LINE: usize = 6 * MAX_MESSAGE + (1 << 20);

#[derive(Deserialize)]
struct Numbered {
    number: u64,
}

/// The lines of one file so far.
pub(crate) struct Lines {
    file: Export,
    from: u64,
    /// The beginning of a line.
    partial: Vec<u8>,
    /// Whether the next line is the heading of a job log.
    heading: bool,
}

impl Lines {
    /// None yet.
    pub(crate) fn new(file: Export) -> Self {
        Self {
            file,
            from: 0,
            partial: Vec::new(),
            heading: file == Export::Joblog,
        }
    }

    /// The number, or the row of a job log, from which on lines are missing.
    pub(crate) fn from(&self) -> u64 {
        self.from
    }

    /// Passes on what is whole by now.
    pub(crate) fn take(&mut self, piece: &[u8], out: &mut impl Write) -> io::Result<()> {
        let Some(end) = memchr::memrchr(b'\n', piece) else {
            return self.keep(piece);
        };
        let (whole, rest) = piece.split_at(end + 1);
        out.write_all(&self.partial)?;
        out.write_all(whole)?;
        self.count(whole)?;
        self.partial.clear();
        self.keep(rest)
    }

    /// The connection broke: what is not whole comes again.
    pub(crate) fn interrupt(&mut self) {
        self.partial.clear();
    }

    /// Whether the last line is whole.
    pub(crate) fn is_whole(&self) -> bool {
        self.partial.is_empty()
    }

    fn keep(&mut self, rest: &[u8]) -> io::Result<()> {
        if self.partial.len() + rest.len() > MAX_LINE {
            return Err(invalid(&format!("a line is longer than {MAX_LINE} bytes")));
        }
        self.partial.extend_from_slice(rest);
        Ok(())
    }

    /// Notes how far these lines reach. They begin with what is missing of a partial one.
    fn count(&mut self, whole: &[u8]) -> io::Result<()> {
        if self.file == Export::Joblog {
            let ends = memchr::memchr_iter(b'\n', whole).count() as u64;
            self.from += ends - u64::from(std::mem::take(&mut self.heading));
            return Ok(());
        }
        let text = whole.strip_suffix(b"\n").unwrap_or(whole);
        let last: Numbered = match memchr::memrchr(b'\n', text) {
            Some(before) => serde_json::from_slice(text.get(before + 1..).unwrap_or_default()),
            None => serde_json::from_slice(&[&self.partial, text].concat()),
        }
        .map_err(|error| invalid(&format!("a line is no result: {error}")))?;
        self.from = last.number.saturating_add(1);
        Ok(())
    }
}

fn invalid(message: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RESULTS: &str = "{\"number\":3,\"attempt\":1,\"output\":\"a\"}\n{\"number\":9,\"attempt\":2,\"output\":\"{\\\"number\\\":77}\"}\n";

    fn in_pieces(file: Export, text: &str, size: usize) -> (Lines, Vec<u8>, Vec<u64>) {
        let (mut lines, mut out, mut reached) = (Lines::new(file), Vec::new(), Vec::new());
        for piece in text.as_bytes().chunks(size) {
            lines.take(piece, &mut out).unwrap();
            reached.push(lines.from());
        }
        (lines, out, reached)
    }

    #[test]
    fn pieces_of_any_size_make_the_same_lines() {
        for size in 1..=RESULTS.len() {
            let (lines, out, reached) = in_pieces(Export::Results, RESULTS, size);
            assert_eq!(String::from_utf8(out).unwrap(), RESULTS);
            assert!(lines.is_whole());
            assert_eq!(lines.from(), 10, "behind the last line");
            assert!(reached.iter().all(|from| [0, 4, 10].contains(from)), "{reached:?}");
        }
    }

    #[test]
    fn a_job_log_counts_its_rows() {
        let text = "number\tattempt\n5\t1\n5\t2\n";
        for size in 1..=text.len() {
            assert_eq!(in_pieces(Export::Joblog, text, size).0.from(), 2, "{size}");
        }
    }

    #[test]
    fn half_a_line_comes_again_after_a_break() {
        let (mut lines, mut out) = (Lines::new(Export::Results), Vec::new());
        let cut = RESULTS.len() - 5;
        lines.take(&RESULTS.as_bytes()[..cut], &mut out).unwrap();
        assert!(!lines.is_whole());
        lines.interrupt();
        assert_eq!(lines.from(), 4);
        let second = RESULTS.find('\n').unwrap() + 1;
        lines.take(&RESULTS.as_bytes()[second..], &mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), RESULTS);
    }

    #[test]
    fn what_is_no_result_is_refused() {
        let error = Lines::new(Export::Results)
            .take(b"<html>\n", &mut Vec::new())
            .unwrap_err();
        assert!(error.to_string().contains("no result"), "{error}");
    }
}
