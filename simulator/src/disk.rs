//! The disk of the collector: the files of the real log, in memory. Any call may fail or be the last one of its process,
//! an fsync takes time, and bits flip.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fastrand::Rng;
use harmony_log::fault::{Fault, FaultDisk};
use harmony_log::memory::MemoryDisk;
use harmony_log::{LogConfig, LogError, Opened, Recorder, Recovery};
use harmony_protocol::collector::BatchState;
use harmony_protocol::ids::{BatchUid, LogId};
use uuid::Uuid;

use crate::facts::Facts;
use crate::log_file::{HEADER, LogFile, output_number, outputs_dir, segment_number};
use crate::tasks::Tasks;

/// What opening logs came upon, as counts.
#[derive(Clone, Copy, Debug, Default)]
pub struct Mended {
    /// A torn record was cut off.
    pub torn: u64,
    /// Damage was stepped over.
    pub damaged: u64,
    /// A checkpoint was believed.
    pub restored: u64,
    /// A file was set aside.
    pub set_aside: u64,
    /// The index of a segment was written anew.
    pub rebuilt: u64,
}

impl Mended {
    fn add(&mut self, recovery: &Recovery) {
        self.torn += u64::from(recovery.torn_bytes > 0);
        self.damaged += u64::from(!recovery.damage.is_none());
        self.restored += u64::from(recovery.checkpoint.is_some());
        self.set_aside += u64::from(!recovery.set_aside.is_empty());
        self.rebuilt += recovery.indexes_rebuilt;
    }
}

/// See the module.
pub struct Disk {
    memory: MemoryDisk,
    /// What the living process has of it: dead when that dies.
    calls: FaultDisk,
    /// The call of the process at which something goes wrong.
    planned: Option<(u64, Fault)>,
    /// What is durable of each log.
    files: BTreeMap<BatchUid, LogFile>,
    nothing: Facts,
    /// How often a log was opened.
    opened: u128,
    /// What that came upon.
    pub mended: Mended,
}

impl Default for Disk {
    fn default() -> Self {
        let memory = MemoryDisk::new();
        Self {
            calls: FaultDisk::new(Arc::new(memory.clone())),
            memory,
            planned: None,
            files: BTreeMap::new(),
            nothing: Facts::default(),
            opened: 0,
            mended: Mended::default(),
        }
    }
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Disk")
            .field("files", &self.files)
            .finish_non_exhaustive()
    }
}

impl Disk {
    /// What is durable of a batch.
    pub fn facts(&self, uid: BatchUid) -> &Facts {
        self.files.get(&uid).map_or(&self.nothing, LogFile::facts)
    }

    /// Opens the log of a batch, or makes it. Panics if it says anything else than what is on the disk.
    pub fn open(&mut self, tasks: &Tasks, segment_bytes: u64, create: bool) -> Result<Option<Opened>, LogError> {
        self.opened += 1;
        let config = LogConfig {
            segment_bytes,
            new_log: Some(LogId(Uuid::from_u128(0x106_0000 + self.opened))),
            ..LogConfig::default()
        };
        let dir = dir(tasks.uid);
        let opened = Recorder::open(Arc::new(self.calls.clone()), &dir, tasks.uid, config, create)?;
        if let Some(opened) = opened.as_ref().filter(|_| !self.is_process_dead()) {
            let file = self.files.entry(tasks.uid);
            let file = file.or_insert_with(|| LogFile::new(&dir, tasks));
            file.reread(&self.memory);
            check_state(&opened.state, file.facts());
            self.mended.add(&opened.recovery);
        }
        Ok(opened)
    }

    /// An fsync begins. What it covers is durable when it has ended.
    pub fn begin_sync(&self, recorder: &Recorder) -> Result<(), LogError> {
        self.memory.let_syncs_last(true);
        let synced = recorder.syncer().sync();
        self.memory.let_syncs_last(false);
        synced.map(drop)
    }

    /// The fsync that was begun has ended.
    pub fn end_sync(&mut self, uid: BatchUid) {
        self.memory.end_syncs(&dir(uid));
        if let Some(file) = self.files.get_mut(&uid) {
            file.read_on(&self.memory);
        }
    }

    /// Whether the process died in a call.
    pub fn is_process_dead(&self) -> bool {
        self.calls.crashed()
    }

    /// The process dies, and in half of the cases the machine loses power: then any part of what was not synced is lost,
    /// torn at any byte.
    pub fn crash(&mut self, random: &mut Rng) {
        if random.bool() {
            self.memory.crash(random.u64(..));
        } else {
            self.memory.kill();
        }
        // What was to go wrong at a later call does so in the next process: it may be in the middle of recovery.
        let left = self
            .planned
            .take()
            .and_then(|(at, fault)| Some((at.checked_sub(self.calls.calls())?, fault)));
        self.calls = FaultDisk::new(Arc::new(self.memory.clone()));
        if let Some((calls, fault)) = left {
            self.fail_after(calls, fault);
        }
    }

    /// Something goes wrong after this many calls from now on.
    pub fn fail_after(&mut self, calls: u64, fault: Fault) {
        let at = self.calls.calls() + calls;
        self.planned = Some((at, fault));
        self.calls.fail_at(at, fault);
    }

    /// Only this many bytes can still be written, or as many as one likes.
    pub fn fill(&self, room: Option<u64>) {
        self.memory.set_capacity(room.map(|room| self.memory.used() + room));
    }

    /// Nothing more goes wrong, and there is room.
    pub fn heal(&mut self) {
        self.fill(None);
        self.planned = None;
        self.calls.fail_no_more();
    }

    /// Flips a durable bit of a log that has not ended. Returns what was hit; `None` if there is nothing.
    ///
    /// The header of the segment that is written is spared: nothing of that segment survives its loss, also what a
    /// living process has yet to write there.
    pub fn flip(&mut self, random: &mut Rng) -> Option<PathBuf> {
        // A process that was killed may have left more than it was told is durable.
        self.files.values_mut().for_each(|file| file.read_on(&self.memory));
        let open = |(_, file): &(&BatchUid, &mut LogFile)| file.facts().ended.is_none();
        let mut logs: Vec<_> = self.files.iter_mut().filter(open).collect();
        let chosen = random.usize(0..logs.len().max(1));
        let (uid, file) = logs.get_mut(chosen)?;
        let (dir, outputs) = (dir(**uid), outputs_dir(&dir(**uid)));
        let names = self.memory.durable_names(&dir).into_iter().map(|name| (&dir, name));
        let outputs = self
            .memory
            .durable_names(&outputs)
            .into_iter()
            .map(|name| (&outputs, name));
        let names: Vec<_> = names.chain(outputs).collect();
        let (folder, name) = names.get(random.usize(0..names.len().max(1)))?;
        let path = folder.join(name);
        let segment = segment_number(name);
        let output = output_number(name).filter(|_| **folder != dir);
        let spared = if segment.is_some_and(|segment| file.is_newest(segment)) {
            HEADER
        } else {
            0
        };
        let length = self.memory.durable(&path, spared)?.len();
        if length == 0 {
            return None;
        }
        let byte = spared + random.usize(0..length);
        let bit = byte as u64 * 8 + random.u64(0..8);
        // A file that was removed, and may come back after a crash, is of no use to anybody.
        self.memory.flip_bit(&path, bit).ok()?;
        if let Some(segment) = segment {
            file.damage(segment, byte);
        }
        if let Some(number) = output {
            file.damage_output(number);
        }
        Some(path)
    }

    /// All logs are lost, but for those of batches that have ended.
    pub fn wipe(&mut self) {
        let memory = &self.memory;
        self.files.retain(|uid, file| {
            let ended = file.facts().ended.is_some();
            if !ended {
                memory.lose(&dir(*uid));
                memory.lose(&outputs_dir(&dir(*uid)));
            }
            ended
        });
    }
}

fn dir(uid: BatchUid) -> PathBuf {
    Path::new("logs").join(uid.to_string())
}

/// What the collector makes of its log, from a checkpoint or not, is what the log says. Of numbers whose record was
/// damaged the one may know more than the other.
fn check_state(state: &BatchState, facts: &Facts) {
    let rebuilt = state.settled().spans().flat_map(|(first, last)| first..=last);
    let unknown: Vec<u64> = rebuilt.filter(|number| !facts.settled.contains_key(number)).collect();
    let forgotten = facts
        .settled
        .keys()
        .copied()
        .filter(|number| !state.settled().contains(*number));
    let differing: Vec<u64> = unknown
        .into_iter()
        .chain(forgotten)
        .filter(|number| !facts.damaged.contains(number))
        .collect();
    assert!(differing.is_empty(), "the log was rebuilt wrongly: {differing:?}");
    assert!(
        state.epoch() <= facts.epoch(),
        "epoch {} is not in the log",
        state.epoch()
    );
    if facts.doubted_epoch == 0 {
        assert_eq!(state.epoch(), facts.epoch(), "the epoch after a restart");
    }
    assert_eq!(state.ended(), facts.ended.as_ref(), "the end after a restart");
}
