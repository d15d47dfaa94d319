//! Which record goes to the log next, and which state is kept when: all that a driver would otherwise decide.
//!
//! A driver owns the threads, or the simulator the time: [`Syncer`] and [`DueCheckpoint`] are the slow halves, to be used
//! wherever they disturb nobody.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use harmony_protocol::collector::{BatchState, Kept, OutputId, Settled, Write};
use harmony_protocol::ids::{BatchUid, LogId};
use harmony_protocol::mutant::{self, Mutant};

use crate::disk::Disk;
use crate::outputs::Outputs;
use crate::{Log, LogConfig, LogError, LogReader, Placed, Position, Rebuild, Recovery, Syncer};

/// What became of a record.
#[derive(Debug)]
pub enum Written {
    /// It is in the log, and durable after the next sync.
    Appended,
    /// There was no room for it: it is to be offered again.
    NoRoom(LogError),
    /// It follows a record for which there was no room: it is to be offered again after that one.
    OutOfTurn,
}

/// A log that was opened.
pub struct Opened {
    /// Takes the records to come.
    pub recorder: Recorder,
    /// The state that follows from the records so far.
    pub state: BatchState,
    /// What opening came upon.
    pub recovery: Recovery,
}

/// A state of which the record is durable.
pub struct DueCheckpoint {
    syncer: Syncer,
    at: Position,
    state: Vec<u8>,
}

impl DueCheckpoint {
    /// Keeps it. Errors that are not fatal cost nothing but time at the next opening.
    pub fn write(&self) -> Result<(), LogError> {
        self.syncer.checkpoint(self.at, &self.state)
    }
}

/// A state that waits for its record to be durable.
struct Offered {
    sequence: u64,
    /// The end of the record, once it was appended.
    at: Option<Position>,
    state: Vec<u8>,
}

/// Records one batch. Records are counted from 1 since the log was opened.
pub struct Recorder {
    log: Log,
    outputs: Outputs,
    syncer: Syncer,
    /// The record that is appended next. After a full disk, records that follow the refused one are refused too.
    next: u64,
    /// By sequence.
    offered: VecDeque<Offered>,
}

impl Recorder {
    /// Opens the log of a batch in a folder. If there is none it is made, or `None` is returned.
    pub fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        uid: BatchUid,
        config: LogConfig,
        create: bool,
    ) -> Result<Option<Opened>, LogError> {
        let absent = || disk.list(dir).is_err_and(|error| error.kind() == ErrorKind::NotFound);
        if !create && absent() {
            return Ok(None);
        }
        let mut rebuild = Rebuild::default();
        let (log, recovery) = Log::open(Arc::clone(&disk), dir, uid, config, &mut rebuild)?;
        let outputs = Outputs::open(disk, dir, rebuild.state.settled())?;
        let recorder = Self {
            syncer: log.syncer().with(outputs.unsynced()),
            log,
            outputs,
            next: 1,
            offered: VecDeque::new(),
        };
        Ok(Some(Opened {
            recorder,
            state: rebuild.state,
            recovery,
        }))
    }

    /// The identity of the log.
    pub fn log_id(&self) -> LogId {
        self.log.log_id()
    }

    /// The bytes of all segments and outputs.
    pub fn bytes(&self) -> u64 {
        self.log.bytes() + self.outputs.bytes()
    }

    /// Reads the log while it is written.
    pub fn reader(&self) -> LogReader {
        self.log.reader()
    }

    /// Makes the log durable while it is written.
    pub fn syncer(&self) -> Syncer {
        self.syncer.clone()
    }

    /// Takes what has this place in the sequence. Every error ends the process.
    pub fn write(&mut self, sequence: u64, write: &Write) -> Result<Written, LogError> {
        if sequence != self.next {
            return Ok(Written::OutOfTurn);
        }
        let written = match write {
            Write::Record { pieces, settled, keeps } => self.append(sequence, pieces, settled, *keeps),
            Write::Part { output, offset, bytes } => self.part(*output, *offset, bytes),
        };
        match written {
            Ok(()) => {
                self.next += 1;
                Ok(Written::Appended)
            }
            Err(error @ LogError::NoSpace { .. }) => Ok(Written::NoRoom(error)),
            Err(error) => Err(error),
        }
    }

    fn append(
        &mut self,
        sequence: u64,
        pieces: &[Bytes],
        settled: &[Settled],
        keeps: Option<Kept>,
    ) -> Result<(), LogError> {
        if let Some(kept) = keeps {
            self.outputs.keep(kept)?;
        }
        let pieces: Vec<&[u8]> = pieces.iter().map(|piece| &piece[..]).collect();
        let placed: Vec<Placed> = settled.iter().map(Placed::from).collect();
        let appended = self.log.append_beside(self.outputs.bytes(), &pieces, &placed)?;
        if let Some(kept) = keeps {
            self.outputs.close(kept);
        }
        if let Some(waiting) = self.offered.iter_mut().find(|offered| offered.sequence == sequence) {
            waiting.at = Some(appended.position);
        }
        Ok(())
    }

    /// What belongs to no output any more is dropped.
    fn part(&mut self, output: OutputId, offset: u64, bytes: &[u8]) -> Result<(), LogError> {
        if bytes.is_empty() || !self.outputs.takes(output, offset) {
            return Ok(());
        }
        self.log.check_limit(self.outputs.bytes(), bytes.len() as u64)?;
        self.outputs.write(output, bytes)
    }

    /// Removes what was written of an output. Every error ends the process.
    pub fn discard(&mut self, output: OutputId) -> Result<(), LogError> {
        self.outputs.discard(output)
    }

    /// Takes the state as of a record that is not appended yet, to be kept once that is durable.
    pub fn offer_checkpoint(&mut self, sequence: u64, state: Vec<u8>) {
        self.offered.push_back(Offered {
            sequence,
            at: None,
            state,
        });
    }

    /// Everything up to this record is durable. Returns the newest state that may be kept now, if there is one.
    pub fn synced(&mut self, sequence: u64) -> Option<DueCheckpoint> {
        let mut newest = None;
        let early = |offered: &Offered| offered.at.is_some() && mutant::on(Mutant::CheckpointAhead);
        let due = |offered: &mut Offered| offered.sequence <= sequence || early(offered);
        while let Some(offered) = self.offered.pop_front_if(due) {
            newest = Some(offered);
        }
        let Offered { at, state, .. } = newest?;
        Some(DueCheckpoint {
            syncer: self.syncer(),
            at: at?,
            state,
        })
    }
}

impl From<&Settled> for Placed {
    fn from(run: &Settled) -> Self {
        Self {
            number: run.number,
            count: run.count,
            entry: run.entry,
        }
    }
}

#[cfg(test)]
mod tests {
    use harmony_protocol::collector::{Record, Write};
    use uuid::Uuid;

    use super::*;
    use crate::memory::MemoryDisk;

    const UID: BatchUid = BatchUid(Uuid::from_u128(1));

    fn open(disk: &MemoryDisk, create: bool) -> Option<Opened> {
        let disk = Arc::new(disk.clone());
        Recorder::open(disk, Path::new("log"), UID, LogConfig::default(), create).unwrap()
    }

    fn append(recorder: &mut Recorder, sequence: u64) -> Written {
        recorder.write(sequence, &Write::from(&Record::End(7))).unwrap()
    }

    #[test]
    fn a_log_is_made_only_if_asked_for() {
        let disk = MemoryDisk::new();
        assert!(open(&disk, false).is_none());
        assert!(open(&disk, true).unwrap().recovery.created);
        assert!(!open(&disk, false).unwrap().recovery.created);
    }

    #[test]
    fn what_follows_a_refused_record_waits_for_it() {
        let disk = MemoryDisk::new();
        let mut recorder = open(&disk, true).unwrap().recorder;
        assert!(matches!(append(&mut recorder, 1), Written::Appended));
        disk.set_capacity(Some(disk.used()));
        assert!(matches!(append(&mut recorder, 2), Written::NoRoom(_)));
        disk.set_capacity(None);
        assert!(matches!(append(&mut recorder, 3), Written::OutOfTurn));
        assert!(matches!(append(&mut recorder, 2), Written::Appended));
        assert!(matches!(append(&mut recorder, 3), Written::Appended));
    }

    #[test]
    fn a_tenth_of_the_file_system_is_left_to_others_and_it_may_grow() {
        let disk = MemoryDisk::new();
        let config = LogConfig {
            leave_room: true,
            ..LogConfig::default()
        };
        let opened = Recorder::open(Arc::new(disk.clone()), Path::new("log"), UID, config, true).unwrap();
        let mut recorder = opened.unwrap().recorder;
        disk.set_capacity(Some(100_000));
        let mut sequence = 0;
        let refused = loop {
            sequence += 1;
            match append(&mut recorder, sequence) {
                Written::Appended => assert!(disk.used() <= 90_000, "{} bytes are used", disk.used()),
                refused => break refused,
            }
        };
        assert!(matches!(refused, Written::NoRoom(_)) && disk.used() > 89_000);
        disk.set_capacity(Some(200_000));
        assert!(matches!(append(&mut recorder, sequence), Written::Appended));
    }

    #[test]
    fn a_state_is_kept_when_its_record_is_durable() {
        let disk = MemoryDisk::new();
        let Opened {
            mut recorder, state, ..
        } = open(&disk, true).unwrap();
        for sequence in 1..=3 {
            recorder.offer_checkpoint(sequence, state.checkpoint());
            assert!(matches!(append(&mut recorder, sequence), Written::Appended));
        }
        let early = recorder.synced(1).unwrap();
        assert!(
            matches!(early.write(), Err(LogError::Unsynced { .. })),
            "nothing is durable yet"
        );
        recorder.syncer().sync().unwrap();
        let newest = recorder.synced(3).unwrap();
        newest.write().unwrap();
        assert!(recorder.synced(3).is_none());
        drop((early, newest, recorder));
        let recovery = open(&disk, false).unwrap().recovery;
        assert_eq!(recovery.checkpoint.map(|at| at.sequence), Some(3));
        assert_eq!(recovery.replayed, 0);
    }
}
