//! The disk of the collector: what is appended may be lost until it is synced, and there may be no room.

use std::collections::BTreeMap;

use bytes::Bytes;
use fastrand::Rng;
use harmony_protocol::collector::{BatchState, Record};
use harmony_protocol::ids::{BatchUid, LogId};
use harmony_protocol::wire::{OutcomeCode, ResultEntry};
use uuid::Uuid;

use crate::facts::Facts;
use crate::tasks::Tasks;

/// The log of one batch.
#[derive(Debug)]
pub struct Log {
    /// Its identity.
    pub id: LogId,
    records: Vec<Bytes>,
    synced: usize,
    /// The state as of that many records.
    checkpoint: Option<(usize, Vec<u8>)>,
    /// The same, while its records are not durable.
    offered: Option<(usize, Vec<u8>)>,
    durable: Facts,
    /// Records that got lost with the last process.
    lost: usize,
    /// The batch of which this is the log.
    tasks: Tasks,
}

/// All logs.
#[derive(Debug, Default)]
pub struct Disk {
    logs: BTreeMap<BatchUid, Log>,
    /// Nothing can be appended.
    pub full: bool,
    made: u128,
    nothing: Facts,
}

impl Disk {
    /// The log of a batch, if there is one.
    pub fn log(&mut self, uid: BatchUid) -> Option<&mut Log> {
        self.logs.get_mut(&uid)
    }

    /// What is durable of a batch.
    pub fn facts(&self, uid: BatchUid) -> &Facts {
        self.logs.get(&uid).map_or(&self.nothing, |log| &log.durable)
    }

    /// Makes the log of a batch.
    pub fn make(&mut self, tasks: &Tasks) {
        self.made += 1;
        let log = Log {
            id: LogId(Uuid::from_u128(0x106_0000 + self.made)),
            records: Vec::new(),
            synced: 0,
            checkpoint: None,
            offered: None,
            durable: Facts::default(),
            lost: 0,
            tasks: tasks.clone(),
        };
        self.logs.insert(tasks.uid, log);
    }

    /// The process that writes dies, or power fails: any prefix that holds what was synced survives.
    pub fn crash(&mut self, random: &mut Rng) {
        for log in self.logs.values_mut() {
            let kept = random.usize(log.synced..=log.records.len());
            log.lost = log.records.len() - kept;
            log.records.truncate(kept);
            log.offered = None;
        }
    }

    /// All logs are lost, but for those of batches that have ended.
    pub fn wipe(&mut self) -> usize {
        let before = self.logs.len();
        self.logs.retain(|_, log| log.durable.ended.is_some());
        before - self.logs.len()
    }
}

impl Log {
    /// How many records there are.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Appends one record.
    pub fn append(&mut self, pieces: &[Bytes]) {
        self.records.push(pieces.concat().into());
    }

    /// Everything up to this many records is durable now.
    pub fn sync(&mut self, upto: usize) {
        let upto = upto.min(self.records.len());
        for bytes in self.records.get(self.synced..upto).unwrap_or_default() {
            self.durable.read(&decoded(bytes), &self.tasks);
        }
        self.synced = self.synced.max(upto);
        if self.offered.as_ref().is_some_and(|(count, _)| *count <= self.synced) {
            self.checkpoint = self.offered.take();
        }
    }

    /// Records that got lost with the last process.
    pub fn lost(&self) -> usize {
        self.lost
    }

    /// What is durable.
    pub fn durable(&self) -> &Facts {
        &self.durable
    }

    /// Keeps a state as of the newest record, once that is durable.
    pub fn offer_checkpoint(&mut self, state: Vec<u8>) {
        self.offered = Some((self.records.len(), state));
        self.sync(self.synced);
    }

    /// Opens the log: makes what survived durable, and replays it both from the beginning and from the checkpoint.
    pub fn open(&mut self) -> BatchState {
        self.sync(self.records.len());
        let whole = replay(BatchState::default(), &self.records);
        if let Some((count, bytes)) = &self.checkpoint {
            let state = BatchState::restore(bytes).expect("a checkpoint is readable");
            let later = replay(
                state,
                self.records
                    .get(*count..)
                    .expect("a checkpoint is never ahead of its log"),
            );
            assert_eq!(later, whole, "the state by the checkpoint of {count} records differs");
        }
        whole.sanity_check();
        let settled: Vec<u64> = whole.settled().spans().flat_map(|(first, last)| first..=last).collect();
        let expected: Vec<u64> = self.durable.settled.keys().copied().collect();
        assert_eq!(settled, expected, "settled numbers after replay");
        whole
    }

    /// What a number answered, if its success is in the log.
    pub fn output(&self, number: u64) -> Option<Bytes> {
        self.records.iter().rev().find_map(|bytes| {
            let Record::Outcomes(outcomes) = decoded(bytes) else {
                return None;
            };
            let answers = |entry: &ResultEntry| entry.number == number && entry.outcome == OutcomeCode::Succeeded;
            let mut pieces = outcomes.results.pieces();
            pieces.find(|(entry, ..)| answers(entry)).map(|(_, output, _)| output)
        })
    }
}

fn decoded(bytes: &Bytes) -> Record {
    Record::decode(bytes).expect("a record is readable")
}

fn replay(mut state: BatchState, records: &[Bytes]) -> BatchState {
    for bytes in records {
        state.apply(&decoded(bytes));
    }
    state
}
