//! The files that a batch leaves: results and failures in number order, and a log of all recorded attempts.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use harmony_log::{Cursor, LogError, LogReader};
use harmony_protocol::collector::Record;
use harmony_protocol::wire::{OutcomeCode, ResultEntry};
use jiff::Timestamp;
use serde::Serialize;

/// Bytes gathered before a file is written to.
const BUFFER: usize = 1 << 20;

/// The name of the file with one line per success, in number order.
pub const RESULTS: &str = "results.ndjson";
/// The name of the file with one line per final failure, in number order.
pub const FAILED: &str = "failed.ndjson";
/// The name of the file with one row per recorded attempt.
pub const JOBLOG: &str = "joblog.tsv";

/// Why the files could not be written.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The log cannot be read.
    #[error("the log cannot be read: {0}")]
    Log(#[from] LogError),
    /// A file cannot be written.
    #[error("{path} cannot be written: {source}")]
    Write {
        /// Which file.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// Somebody asked to stop.
    #[error("the files were not written: it was stopped")]
    Stopped,
}

/// How many lines were written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exported {
    /// Lines of results.
    pub succeeded: u64,
    /// Lines of failures.
    pub failed: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ResultLine<'a> {
    number: u64,
    attempt: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    output: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_base64: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct FailedLine<'a> {
    number: u64,
    attempts: u32,
    reason: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    exit_code: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    signal: Option<i32>,
    log: std::borrow::Cow<'a, str>,
}

/// Writes all three files into a folder, until `stop` is set. Each is complete when its name appears; what is not gets none.
pub fn export(reader: &LogReader, dir: &Path, stop: &AtomicBool) -> Result<Exported, ExportError> {
    let mut exported = Exported::default();
    let mut cursor = Cursor::new(reader);
    let mut results = Target::create(dir, RESULTS, stop)?;
    let mut failed = Target::create(dir, FAILED, stop)?;
    for item in reader.in_order(0) {
        let (_, location) = item?;
        let Some((entry, output, log)) = cursor.outcome(location)? else {
            continue;
        };
        if entry.outcome == OutcomeCode::Succeeded {
            exported.succeeded += 1;
            results.line(|out| write_result(out, &entry, &output))?;
        } else {
            exported.failed += 1;
            failed.line(|out| write_failure(out, &entry, &log))?;
        }
    }
    results.finish()?;
    failed.finish()?;
    export_joblog(reader, dir, stop)?;
    Ok(exported)
}

fn write_result(out: &mut impl Write, entry: &ResultEntry, output: &[u8]) -> io::Result<()> {
    let text = std::str::from_utf8(output).ok();
    let line = ResultLine {
        number: entry.number,
        attempt: entry.attempt,
        output: text,
        output_base64: text.is_none().then(|| STANDARD.encode(output)),
    };
    Ok(serde_json::to_writer(out, &line)?)
}

fn write_failure(out: &mut impl Write, entry: &ResultEntry, log: &[u8]) -> io::Result<()> {
    let line = FailedLine {
        number: entry.number,
        attempts: entry.attempt,
        reason: entry.outcome.name(),
        exit_code: (entry.outcome == OutcomeCode::ExitCode).then_some(entry.code),
        signal: (entry.outcome == OutcomeCode::Signal).then_some(entry.code),
        log: String::from_utf8_lossy(log),
    };
    Ok(serde_json::to_writer(out, &line)?)
}

fn export_joblog(reader: &LogReader, dir: &Path, stop: &AtomicBool) -> Result<(), ExportError> {
    let mut joblog = Target::create(dir, JOBLOG, stop)?;
    joblog.line(|out| write!(out, "number\tattempt\tworker\tstart\tduration\toutcome"))?;
    for record in reader.records() {
        let Ok(Record::Outcomes(outcomes)) = Record::decode(&record?.bytes) else {
            continue;
        };
        // A name is the user's text: a tab or a line end in it would shift the columns.
        let worker = outcomes.worker.replace(['\t', '\n', '\r'], " ");
        for entry in &outcomes.results.entries {
            joblog.line(|out| write_row(out, &worker, entry))?;
        }
    }
    joblog.finish()
}

fn write_row(out: &mut impl Write, worker: &str, entry: &ResultEntry) -> io::Result<()> {
    let micros = i64::try_from(entry.start_micros).unwrap_or(i64::MAX);
    let start = Timestamp::from_microsecond(micros).unwrap_or(Timestamp::UNIX_EPOCH);
    let (seconds, fraction) = (entry.duration_micros / 1_000_000, entry.duration_micros % 1_000_000);
    let (number, attempt, outcome) = (entry.number, entry.attempt, entry.outcome.name());
    write!(
        out,
        "{number}\t{attempt}\t{worker}\t{start:.6}\t{seconds}.{fraction:06}\t{outcome}"
    )
}

/// A file that gets its name when it is complete, and is removed if it never is.
struct Target<'a> {
    out: BufWriter<File>,
    part: PathBuf,
    path: PathBuf,
    stop: &'a AtomicBool,
}

impl<'a> Target<'a> {
    fn create(dir: &Path, name: &str, stop: &'a AtomicBool) -> Result<Self, ExportError> {
        let (path, part) = (dir.join(name), dir.join(format!("{name}.part")));
        let file = File::create(&part).map_err(|source| failure(&part, source))?;
        Ok(Self {
            out: BufWriter::with_capacity(BUFFER, file),
            part,
            path,
            stop,
        })
    }

    fn line(&mut self, write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>) -> Result<(), ExportError> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(ExportError::Stopped);
        }
        let written = write(&mut self.out).and_then(|()| self.out.write_all(b"\n"));
        written.map_err(|source| failure(&self.part, source))
    }

    fn finish(mut self) -> Result<(), ExportError> {
        let finished = self.out.flush().and_then(|()| fs::rename(&self.part, &self.path));
        finished.map_err(|source| failure(&self.path, source))
    }
}

impl Drop for Target<'_> {
    fn drop(&mut self) {
        // A file that is complete has another name by now.
        let _ = fs::remove_file(&self.part);
    }
}

fn failure(path: &Path, source: io::Error) -> ExportError {
    ExportError::Write {
        path: path.display().to_string(),
        source,
    }
}
