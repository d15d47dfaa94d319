//! The files that a batch leaves: results and failures in number order, and a log of all recorded attempts.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use harmony_log::{Cursor, LogError, LogReader, Outcome};
use harmony_protocol::collector::Record;
use harmony_protocol::wire::{OutcomeCode, ResultEntry};
use jiff::Timestamp;
use serde::Serialize;

/// Bytes gathered before a file is written to.
const BUFFER: usize = 1 << 20;

/// The first line of a job log: the names of its columns.
const HEADING: &[u8] = b"number\tattempt\tworker\tstart\tduration\toutcome";

/// The name of the file with one line per success, in number order.
pub const RESULTS: &str = "results.ndjson";
/// The name of the file with one line per final failure, in number order.
pub const FAILED: &str = "failed.ndjson";
/// The name of the file with one row per recorded attempt.
pub const JOBLOG: &str = "joblog.tsv";

/// One of the files of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Export {
    /// [`RESULTS`].
    Results,
    /// [`FAILED`].
    Failed,
    /// [`JOBLOG`].
    Joblog,
}

impl Export {
    /// The name of the file.
    pub fn file_name(self) -> &'static str {
        match self {
            Self::Results => RESULTS,
            Self::Failed => FAILED,
            Self::Joblog => JOBLOG,
        }
    }
}

/// Why lines could not be passed on.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// The log cannot be read.
    #[error("the log cannot be read: {0}")]
    Log(#[from] LogError),
    /// Whoever takes the lines takes no more.
    #[error("{0}")]
    Write(#[from] io::Error),
}

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
    #[serde(skip_serializing_if = "Option::is_none")]
    output_file: Option<String>,
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
    worker: &'a str,
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
        let Some(recorded) = cursor.outcome(location)? else {
            continue;
        };
        let entry = &recorded.entry;
        if entry.outcome == OutcomeCode::Succeeded {
            exported.succeeded += 1;
            let file = file_of(reader, entry, dir);
            results.line(|out| write_result(out, entry, &recorded.output, file))?;
        } else {
            exported.failed += 1;
            failed.line(|out| write_failure(out, &recorded))?;
        }
    }
    results.finish()?;
    failed.finish()?;
    export_joblog(reader, dir, stop)?;
    Ok(exported)
}

/// Passes on the lines of one file as far as they are recorded now: results and failures from this number on, of the job log
/// the rows from this one on, of which the first is row 0. Only the beginning of a job log has its heading. Files of long
/// outputs are named as seen from the folder `base`.
pub fn stream(
    reader: &LogReader,
    base: &Path,
    file: Export,
    from: u64,
    out: &mut impl Write,
) -> Result<(), StreamError> {
    if file == Export::Joblog {
        return stream_joblog(reader, from, out);
    }
    let mut cursor = Cursor::new(reader);
    for item in reader.in_order(from) {
        let (_, location) = item?;
        let Some(recorded) = cursor.outcome(location)? else {
            continue;
        };
        let entry = &recorded.entry;
        match (file, entry.outcome == OutcomeCode::Succeeded) {
            (Export::Results, true) => write_result(out, entry, &recorded.output, file_of(reader, entry, base))?,
            (Export::Failed, false) => write_failure(out, &recorded)?,
            _ => continue,
        }
        out.write_all(b"\n")?;
    }
    Ok(())
}

fn stream_joblog(reader: &LogReader, from: u64, out: &mut impl Write) -> Result<(), StreamError> {
    if from == 0 {
        out.write_all(HEADING)?;
        out.write_all(b"\n")?;
    }
    let mut row = 0;
    for outcomes in outcomes(reader) {
        let (worker, entries) = outcomes?;
        for entry in &entries {
            if row >= from {
                write_row(out, &worker, entry)?;
                out.write_all(b"\n")?;
            }
            row += 1;
        }
    }
    Ok(())
}

/// Passes on the recorded output of a number; `None` if it has not succeeded.
pub fn output(reader: &LogReader, number: u64, out: &mut impl Write) -> Result<Option<()>, StreamError> {
    let Some(location) = reader.find(number)? else {
        return Ok(None);
    };
    let mut cursor = Cursor::new(reader);
    let Some(Outcome { entry, output, .. }) = cursor.outcome(location)? else {
        return Ok(None);
    };
    if entry.outcome != OutcomeCode::Succeeded {
        return Ok(None);
    }
    if entry.parted.is_none() {
        out.write_all(&output)?;
        return Ok(Some(()));
    }
    let mut file = reader.output(number)?;
    let mut buffer = vec![0; BUFFER];
    loop {
        let read = file.read(&mut buffer)?;
        match buffer.get(..read) {
            Some(bytes) if read > 0 => out.write_all(bytes)?,
            _ => return Ok(Some(())),
        }
    }
}

/// The file of an output that is too long for a line, as seen from a folder.
fn file_of(reader: &LogReader, entry: &ResultEntry, base: &Path) -> Option<String> {
    entry.parted?;
    let path = reader.output_path(entry.number);
    let path = path.strip_prefix(base).unwrap_or(&path);
    Some(path.to_string_lossy().into_owned())
}

fn write_result(out: &mut impl Write, entry: &ResultEntry, output: &[u8], file: Option<String>) -> io::Result<()> {
    let text = std::str::from_utf8(output).ok().filter(|_| file.is_none());
    let line = ResultLine {
        number: entry.number,
        attempt: entry.attempt,
        output: text,
        output_base64: (text.is_none() && file.is_none()).then(|| STANDARD.encode(output)),
        output_file: file,
    };
    Ok(serde_json::to_writer(out, &line)?)
}

fn write_failure(out: &mut impl Write, recorded: &Outcome<'_>) -> io::Result<()> {
    let entry = &recorded.entry;
    let line = FailedLine {
        number: entry.number,
        attempts: entry.attempt,
        reason: entry.outcome.name(),
        exit_code: (entry.outcome == OutcomeCode::ExitCode).then_some(entry.code),
        signal: (entry.outcome == OutcomeCode::Signal).then_some(entry.code),
        worker: recorded.worker,
        log: String::from_utf8_lossy(&recorded.log),
    };
    Ok(serde_json::to_writer(out, &line)?)
}

fn export_joblog(reader: &LogReader, dir: &Path, stop: &AtomicBool) -> Result<(), ExportError> {
    let mut joblog = Target::create(dir, JOBLOG, stop)?;
    joblog.line(|out| out.write_all(HEADING))?;
    for outcomes in outcomes(reader) {
        let (worker, entries) = outcomes?;
        for entry in &entries {
            joblog.line(|out| write_row(out, &worker, entry))?;
        }
    }
    joblog.finish()
}

/// All recorded attempts, with the name of their worker.
fn outcomes(reader: &LogReader) -> impl Iterator<Item = Result<(String, Vec<ResultEntry>), LogError>> {
    reader.records().filter_map(|record| match record {
        Ok(record) => match Record::decode(&record.bytes) {
            // A name is the user's text: a tab or a line end in it would shift the columns.
            Ok(Record::Outcomes(outcomes)) => Some(Ok((
                outcomes.worker.replace(['\t', '\n', '\r'], " "),
                outcomes.results.entries,
            ))),
            _ => None,
        },
        Err(error) => Some(Err(error)),
    })
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
