//! `harmony run`: a batch on this machine. The parts are processes of their own; this process is the ventilator.

mod control;
pub(crate) mod folder;
mod metrics;
mod orphans;
mod parts;
mod process;
mod snapshot;
mod sockets;
pub(crate) mod stops;
mod supervise;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use harmony_api::{ValidatedBatch, parse};
use harmony_collector::export::{self, ExportError, Exported};
use harmony_protocol::ids::BatchUid;
use harmony_protocol::ventilator::SUCCESS_POLICY;
use harmony_protocol::wire::{Done, Ending};
use harmony_ventilator::source::{self, Opened, SourceConfig, SourceError};

use tokio::task::spawn_blocking;

use self::folder::{BatchRecord, Folder, OpenedLog};
use self::stops::Stops;
use crate::args::RunArgs;
use crate::exit::{Exit, Failure, tell};

/// Everything a run needs to know about its batch.
pub(crate) struct Plan {
    batch: ValidatedBatch,
    folder: Folder,
    record: BatchRecord,
    completions: u64,
    /// The folder of the batch's file: where commands run.
    base_dir: PathBuf,
}

impl Plan {
    /// What is left of the batch's deadline, which counts from its first run.
    fn time_left(&self) -> Option<Duration> {
        let started = SystemTime::UNIX_EPOCH + Duration::from_secs(self.record.started);
        let elapsed = SystemTime::now().duration_since(started).unwrap_or_default();
        self.batch
            .active_deadline
            .map(|deadline| deadline.saturating_sub(elapsed))
    }
}

/// Runs a batch and says how it ended.
pub(crate) fn main(args: &RunArgs) -> Exit {
    match run(args) {
        Ok(exit) => exit,
        Err(failure) => {
            tell(failure.message.trim_end());
            failure.exit
        }
    }
}

fn run(args: &RunArgs) -> Result<Exit, Failure> {
    let batch = read_batch(&args.file)?;
    if !batch.ignored.is_empty() && !args.quiet {
        tell(&format!("without effect on one machine: {}", batch.ignored.join(", ")));
    }
    let dir = args
        .output
        .clone()
        .unwrap_or_else(|| PathBuf::from(format!("{}.harmony", batch.name)));
    let folder = Folder::lock(&dir)?;
    let base_dir = base_dir(&args.file)?;
    let opened = source::open(
        &batch.tasks,
        batch.completions,
        &SourceConfig::new(&base_dir, folder.spool()),
    )
    .map_err(source_failure)?;
    let completions = opened.source.completions();
    let record = settle_record(&folder, &batch, &opened, completions)?;
    let plan = Plan {
        batch,
        folder,
        record,
        completions,
        base_dir,
    };
    let before = plan.folder.open_log(plan.record.uid)?;
    if let Some(log) = before.as_ref().filter(|log| log.state.ended().is_some()) {
        // The run before may have been killed after the batch had ended, and left its folder.
        sockets::sweep_abandoned();
        return conclude(args, &plan, log);
    }
    drop(before);
    orphans::sweep(plan.record.uid);
    let interrupted = supervise::supervise(args, &plan, opened.source)?;
    match plan.folder.open_log(plan.record.uid)? {
        Some(log) if interrupted.is_none() || log.state.ended().is_some() => conclude(args, &plan, &log),
        Some(log) => {
            if let Some(Exported { succeeded, failed }) = export_files(&plan, &log)?
                && !args.quiet
            {
                let left = plan.completions - succeeded - failed;
                tell(&format!(
                    "{}: {left} of {} tasks are left; the same command resumes",
                    plan.batch.name, plan.completions
                ));
            }
            Ok(Exit::Cancelled)
        }
        None => Ok(Exit::Cancelled),
    }
}

/// A source that cannot be read now may be readable later, by the same command; one that is wrong stays wrong.
fn source_failure(error: SourceError) -> Failure {
    if error.is_input() {
        Failure::bad_input(error)
    } else {
        Failure::infrastructure(error)
    }
}

fn read_batch(file: &Path) -> Result<ValidatedBatch, Failure> {
    let name = file.display().to_string();
    let yaml =
        fs::read_to_string(file).map_err(|error| Failure::bad_input(format!("{name} cannot be read: {error}")))?;
    parse(&yaml, &name).map_err(Failure::bad_input)
}

fn base_dir(file: &Path) -> Result<PathBuf, Failure> {
    let parent = file
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    parent.canonicalize().map_err(Failure::bad_input)
}

/// Finds out whether the folder holds this batch, and begins it if it holds none. Another batch is refused, unless it has
/// recorded nothing: whoever mends a typing error need not clear the folder first.
fn settle_record(
    folder: &Folder,
    batch: &ValidatedBatch,
    opened: &Opened,
    completions: u64,
) -> Result<BatchRecord, Failure> {
    let hash = folder::hash(batch, &opened.digest, completions);
    if let Some(record) = folder.record()? {
        if record.hash == hash {
            return Ok(record);
        }
        let untouched = folder.open_log(record.uid)?.is_none_or(|log| log.is_untouched());
        if !untouched {
            return Err(Failure::bad_input(format!(
                "{} holds results of another batch ({}): its tasks, completions or executor differ from this file's; \
                 choose another folder with --output, or remove that one",
                folder.dir.display(),
                record.name
            )));
        }
        folder.clear()?;
    }
    let started = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs();
    let uid = BatchUid(uuid::Uuid::now_v7());
    let record = BatchRecord {
        uid,
        name: batch.name.to_string(),
        hash,
        started,
        epoch: 0,
    };
    folder.keep(&record)?;
    Ok(record)
}

/// Writes the files; `None` if it was stopped, which leaves none half written.
fn export_files(plan: &Plan, log: &OpenedLog) -> Result<Option<Exported>, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Failure::infrastructure)?;
    let (reader, dir) = (log.reader(), plan.folder.dir.clone());
    let stop = Arc::new(AtomicBool::new(false));
    runtime.block_on(async {
        let mut stops = Stops::new()?;
        let stopped = Arc::clone(&stop);
        let mut writing = spawn_blocking(move || export::export(&reader, &dir, &stopped));
        loop {
            tokio::select! {
                written = &mut writing => return match written.map_err(Failure::infrastructure)? {
                    Ok(exported) => Ok(Some(exported)),
                    Err(ExportError::Stopped) => Ok(None),
                    Err(error) => Err(Failure::infrastructure(error)),
                },
                () = stops.next() => stop.store(true, Ordering::Relaxed),
            }
        }
    })
}

/// Writes the files of a batch that is over, and says how it ended.
fn conclude(args: &RunArgs, plan: &Plan, log: &OpenedLog) -> Result<Exit, Failure> {
    let Some(exported) = export_files(plan, log)? else {
        return Ok(Exit::Cancelled);
    };
    let left = plan.completions - exported.succeeded - exported.failed;
    let cancelled = match log.state.ended() {
        Some(Done {
            ending: Ending::Cancelled(reason),
            ..
        }) => Some(reason.as_str()),
        _ => None,
    };
    let early = cancelled.map_or_else(String::new, |reason| {
        format!(", ended early ({reason}), {left} not settled")
    });
    if !args.quiet {
        let Exported { succeeded, failed } = exported;
        // Where to look next.
        let file = if failed == 0 { export::RESULTS } else { export::FAILED };
        let shown = plan.folder.dir.join(file);
        tell(&format!(
            "{}: {succeeded} succeeded, {failed} failed{early}: {}",
            plan.batch.name,
            shown.display()
        ));
    }
    // What a success policy asks for has succeeded, whatever became of the rest.
    let all = exported.failed == 0 && cancelled.is_none();
    Ok(if all || cancelled == Some(SUCCESS_POLICY) {
        Exit::Succeeded
    } else {
        Exit::Failed
    })
}
