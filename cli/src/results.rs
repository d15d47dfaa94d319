//! `harmony results`, `failed` and `joblog`: the lines that a batch leaves, also while it runs.

use std::fs::{self, File};
use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use harmony_collector::export::{self, Export, StreamError};

use crate::batch_ref::BatchRef;
use crate::cluster::{self, KubeArgs};
use crate::exit::{Exit, Failure, tell};
use crate::local::LocalBatch;

/// Bytes gathered before they are passed on.
const BUFFER: usize = 64 << 10;

/// Arguments of `harmony results`, `failed` and `joblog`.
#[derive(Args, Clone, Debug)]
pub(crate) struct ResultsArgs {
    /// The batch: its name on the cluster, or its folder, with a slash
    #[arg(value_name = "BATCH")]
    batch: BatchRef,
    /// Of results, only the output of this number, as it is
    #[arg(value_name = "NUMBER")]
    number: Option<u64>,
    /// Write to this file, which appears when it is complete
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    kube: KubeArgs,
}

/// Why lines did not all get through.
pub(crate) enum Stopped {
    /// Whoever reads them has enough, as `head` does.
    Enough,
    /// Something failed.
    Failed(Failure),
}

impl From<Failure> for Stopped {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<io::Error> for Stopped {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            ErrorKind::BrokenPipe => Self::Enough,
            _ => Self::Failed(Failure::infrastructure(format!(
                "the output cannot be written: {error}"
            ))),
        }
    }
}

/// Prints the lines of one file of a batch.
pub(crate) fn main(file: Export, args: &ResultsArgs) -> Exit {
    let written = match &args.output {
        Some(path) => write_file(path, |out| write(file, args, out)),
        None => write(file, args, &mut BufWriter::with_capacity(BUFFER, io::stdout().lock())),
    };
    match written {
        Ok(()) | Err(Stopped::Enough) => Exit::Succeeded,
        Err(Stopped::Failed(failure)) => {
            tell(failure.message.trim_end());
            failure.exit
        }
    }
}

fn write(file: Export, args: &ResultsArgs, out: &mut impl Write) -> Result<(), Stopped> {
    match (&args.batch, args.number) {
        (_, Some(_)) if file != Export::Results => {
            let reason = "a NUMBER goes with harmony results alone; harmony explain tells of a number what is known";
            return Err(Failure::bad_input(reason).into());
        }
        (BatchRef::Folder(dir), None) => write_local(dir, file, out)?,
        (BatchRef::Folder(dir), Some(number)) => write_output(dir, number, out)?,
        (BatchRef::Name(name), None) => cluster::results::write(&args.kube, name, file, out)?,
        (BatchRef::Name(name), Some(number)) => cluster::results::write_output(&args.kube, name, number, out)?,
    }
    Ok(out.flush()?)
}

fn write_local(dir: &Path, file: Export, out: &mut impl Write) -> Result<(), Stopped> {
    let Some((reader, _)) = LocalBatch::find(dir)?.look()? else {
        return Ok(());
    };
    export::stream(&reader, dir, file, 0, out).map_err(stopped)
}

fn write_output(dir: &Path, number: u64, out: &mut impl Write) -> Result<(), Stopped> {
    let found = match LocalBatch::find(dir)?.look()? {
        Some((reader, _)) => export::output(&reader, number, out).map_err(stopped)?,
        None => None,
    };
    found.ok_or_else(|| {
        Failure::bad_input(format!(
            "number {number} has no output: it has not succeeded, or not yet"
        ))
        .into()
    })
}

fn stopped(error: StreamError) -> Stopped {
    match error {
        StreamError::Log(error) => Failure::infrastructure(format!("the log cannot be read: {error}")).into(),
        StreamError::Write(error) => error.into(),
    }
}

/// Writes a file under another name until it is complete. What is no ordinary file, such as a pipe, is written directly.
fn write_file(path: &Path, write: impl FnOnce(&mut BufWriter<File>) -> Result<(), Stopped>) -> Result<(), Stopped> {
    let failed = |error: io::Error| {
        Stopped::Failed(Failure::bad_input(format!(
            "{} cannot be written: {error}",
            path.display()
        )))
    };
    if path.exists() && !path.is_file() {
        let file = File::options().write(true).open(path).map_err(failed)?;
        return write(&mut BufWriter::with_capacity(BUFFER, file));
    }
    let mut part = path.as_os_str().to_owned();
    part.push(".part");
    let part = PathBuf::from(part);
    let file = File::create(&part).map_err(failed)?;
    let written = write(&mut BufWriter::with_capacity(BUFFER, file));
    let placed = written.and_then(|()| fs::rename(&part, path).map_err(failed));
    placed.inspect_err(|_| drop(fs::remove_file(&part)))
}
