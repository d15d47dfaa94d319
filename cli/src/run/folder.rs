//! A local batch is its folder: one run at a time, one batch for ever.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use harmony_api::ValidatedBatch;
use harmony_collector::{log_dir, open_log};
use harmony_log::{Log, LogError, LogReader};
use harmony_protocol::collector::BatchState;
use harmony_protocol::ids::BatchUid;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::exit::Failure;

/// How long a collector that a killed run left behind may take to commit and let go of the log.
const LOG_WAIT: Duration = Duration::from_secs(30);
/// How long the lock of a run that is gone is waited for.
const LOCK_WAIT: Duration = Duration::from_secs(5);
/// How often a lock is tried meanwhile.
const LOG_TRY: Duration = Duration::from_millis(20);

/// The name of the file with the [`BatchRecord`].
const RECORD: &str = "batch.json";

/// What is known of the batch from earlier runs.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct BatchRecord {
    /// The batch's identity.
    pub(crate) uid: BatchUid,
    /// Its name.
    pub(crate) name: String,
    /// What makes it another batch: task bytes, completions and executor.
    pub(crate) hash: String,
    /// When it first ran, in seconds since 1970.
    pub(crate) started: u64,
    /// The last epoch that a run claimed.
    pub(crate) epoch: u64,
}

/// The locked folder of a batch.
pub(crate) struct Folder {
    /// Where it is.
    pub(crate) dir: PathBuf,
    /// Held for as long as the run lives.
    _lock: File,
}

impl Folder {
    /// Makes the folder, if need be, and locks it.
    pub(crate) fn lock(dir: &Path) -> Result<Self, Failure> {
        let refused = |error| {
            Failure::bad_input(format!(
                "{} cannot be used as the batch's folder: {error}",
                dir.display()
            ))
        };
        fs::create_dir_all(dir).map_err(refused)?;
        let dir = dir.canonicalize().map_err(refused)?;
        let mut lock = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(dir.join("lock"))
            .map_err(refused)?;
        wait_for_lock(&mut lock).map_err(|owner| {
            Failure::bad_input(format!(
                "{} is in use by another run, process {owner}; wait for it, or choose another folder with --output",
                dir.display()
            ))
        })?;
        let noted = lock
            .set_len(0)
            .and_then(|()| lock.rewind())
            .and_then(|()| writeln!(lock, "{}", std::process::id()));
        noted.map_err(refused)?;
        Ok(Self { dir, _lock: lock })
    }

    /// Where sources that can be read only once are kept.
    pub(crate) fn spool(&self) -> PathBuf {
        self.dir.join("spool")
    }

    /// The folder of the collector's logs.
    pub(crate) fn logs(&self) -> PathBuf {
        Self::logs_in(&self.dir)
    }

    /// The same in a folder that is not locked.
    pub(crate) fn logs_in(dir: &Path) -> PathBuf {
        dir.join("log")
    }

    fn record_path(&self) -> PathBuf {
        self.dir.join(RECORD)
    }

    /// What earlier runs left. A file that is damaged is an error: the log would lose its owner.
    pub(crate) fn record(&self) -> Result<Option<BatchRecord>, Failure> {
        Self::read_record(&self.dir)
    }

    /// The same in a folder that is not locked.
    pub(crate) fn read_record(dir: &Path) -> Result<Option<BatchRecord>, Failure> {
        let path = dir.join(RECORD);
        match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|error| {
                Failure::bad_input(format!(
                    "{} is damaged ({error}); restore it, or choose another folder with --output",
                    path.display()
                ))
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Failure::infrastructure(format!(
                "{} cannot be read: {error}",
                path.display()
            ))),
        }
    }

    /// Keeps the record, durably.
    pub(crate) fn keep(&self, record: &BatchRecord) -> Result<(), Failure> {
        let path = self.record_path();
        let part = path.with_extension("part");
        let bytes = serde_json::to_vec_pretty(record).unwrap_or_default();
        let kept = File::create(&part)
            .and_then(|mut file| file.write_all(&bytes).and_then(|()| file.sync_all()))
            .and_then(|()| fs::rename(&part, &path))
            .and_then(|()| File::open(&self.dir)?.sync_all());
        kept.map_err(|error| Failure::infrastructure(format!("{} cannot be written: {error}", path.display())))
    }

    /// Opens the log of a batch, if there is one, and waits for a collector that still holds it.
    pub(crate) fn open_log(&self, uid: BatchUid) -> Result<Option<OpenedLog>, Failure> {
        let dir = log_dir(&self.logs(), uid);
        if !dir.is_dir() {
            return Ok(None);
        }
        let give_up = Instant::now() + LOG_WAIT;
        loop {
            match open_log(&dir, uid, None) {
                Ok((log, rebuild)) => {
                    return Ok(Some(OpenedLog {
                        state: rebuild.state,
                        log,
                    }));
                }
                Err(LogError::Locked { .. }) if Instant::now() < give_up => thread::sleep(LOG_TRY),
                Err(error) => return Err(Failure::infrastructure(error)),
            }
        }
    }

    /// Drops a batch that has recorded nothing.
    /// What was spooled stays: it may be the only copy, and it knows where it is from.
    pub(crate) fn clear(&self) -> Result<(), Failure> {
        let logs = self.logs();
        match fs::remove_dir_all(&logs) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                let logs = logs.display();
                return Err(Failure::infrastructure(format!("{logs} cannot be removed: {error}")));
            }
            _ => {}
        }
        match fs::remove_file(self.record_path()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Failure::infrastructure(error)),
            _ => Ok(()),
        }
    }
}

/// Locks the file, or tells which process holds it. A process that was killed while it started another one holds its lock
/// for a moment longer, through that one, so a lock whose noted owner is gone is waited for.
fn wait_for_lock(lock: &mut File) -> Result<(), String> {
    let give_up = Instant::now() + LOCK_WAIT;
    while lock.try_lock().is_err() {
        let mut owner = String::new();
        let _ = lock.rewind().and_then(|()| lock.read_to_string(&mut owner));
        let owner = owner.trim();
        let lives = !owner.is_empty() && Path::new("/proc").join(owner).is_dir();
        if lives || Instant::now() >= give_up {
            return Err(owner.to_owned());
        }
        thread::sleep(LOG_TRY);
    }
    Ok(())
}

/// A log, opened while no collector runs.
pub(crate) struct OpenedLog {
    /// The state of the batch.
    pub(crate) state: BatchState,
    log: Log,
}

impl OpenedLog {
    /// Reads the outcomes.
    pub(crate) fn reader(&self) -> LogReader {
        self.log.reader()
    }

    /// Whether anything was recorded.
    pub(crate) fn is_untouched(&self) -> bool {
        let counts = self.state.counts();
        self.state.settled().is_empty() && counts.charged == 0 && self.state.ended().is_none()
    }
}

/// What makes a batch another batch: its task bytes, completions and executor.
pub(crate) fn hash(batch: &ValidatedBatch, tasks: &[u8; 32], completions: u64) -> String {
    let mut sha = Sha256::new();
    sha.update(tasks);
    sha.update(completions.to_be_bytes());
    for part in batch
        .executor
        .command()
        .map(harmony_api::Command::to_vec)
        .into_iter()
        .flatten()
    {
        sha.update((part.len() as u64).to_be_bytes());
        sha.update(part);
    }
    sha.update(serde_json::to_vec(&batch.executor.wire()).unwrap_or_default());
    sha.finalize().iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}"); // a string takes all
        text
    })
}
