//! The folder of a batch on this machine, for those who only look: a run that is going on is not disturbed.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use harmony_collector::log_dir;
use harmony_log::LogReader;
use harmony_log::disk::RealDisk;
use harmony_protocol::collector::BatchState;

use crate::exit::Failure;
use crate::run::folder::{BatchRecord, Folder};

/// A look at a batch.
pub(crate) struct Glance {
    /// The process that runs it, if one does.
    pub(crate) runner: Option<u32>,
    /// Its log and what that tells; `None` if nothing was recorded yet.
    pub(crate) log: Option<(LogReader, BatchState)>,
}

/// A batch in its folder.
pub(crate) struct LocalBatch {
    /// Where it is, as the user named it.
    pub(crate) dir: PathBuf,
    /// What the runs noted of it.
    pub(crate) record: BatchRecord,
}

impl LocalBatch {
    /// Finds the batch of a folder.
    pub(crate) fn find(dir: &Path) -> Result<Self, Failure> {
        let shown = dir.display();
        if !dir.is_dir() {
            return Err(Failure::bad_input(format!(
                "{shown} is no folder; a batch on the cluster is named without a slash"
            )));
        }
        let record = Folder::read_record(dir)?.ok_or_else(|| {
            Failure::bad_input(format!(
                "{shown} holds no batch; harmony run FILE --output {shown} makes one"
            ))
        })?;
        Ok(Self {
            dir: dir.to_path_buf(),
            record,
        })
    }

    /// The batch as it is now.
    pub(crate) fn glance(&self) -> Result<Glance, Failure> {
        Ok(Glance {
            runner: self.runner()?,
            log: self.look()?,
        })
    }

    /// The log as it is now; `None` if nothing was recorded yet.
    pub(crate) fn look(&self) -> Result<Option<(LogReader, BatchState)>, Failure> {
        let dir = log_dir(&Folder::logs_in(&self.dir), self.record.uid);
        LogReader::look(Arc::new(RealDisk), &dir, self.record.uid).map_err(Failure::infrastructure)
    }

    /// The process that runs the batch now, if one does. The file of the lock names whoever locked it last; that one runs
    /// the batch as long as it has the file open.
    pub(crate) fn runner(&self) -> Result<Option<u32>, Failure> {
        let lock = self.dir.join("lock");
        let noted = match fs::read_to_string(&lock) {
            Ok(text) => text.trim().parse::<u32>().ok(),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => {
                return Err(Failure::infrastructure(format!(
                    "{} cannot be read: {error}",
                    lock.display()
                )));
            }
        };
        let lock = lock.canonicalize().ok();
        Ok(noted.filter(|pid| lock.as_deref().is_some_and(|lock| has_open(*pid, lock))))
    }
}

/// Whether a process has a file open.
fn has_open(pid: u32, path: &Path) -> bool {
    let open = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    open.filter_map(|entry| fs::read_link(entry.path()).ok())
        .any(|target| target == path)
}
