//! A log under test and what it should hold.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use harmony_log::disk::Disk;
use harmony_log::memory::MemoryDisk;
use harmony_log::{Appended, Log, LogConfig, LogError, LogReader, Placed, Recovery, Replay, ReplayError};
use harmony_protocol::ids::BatchUid;
use uuid::Uuid;

pub(crate) const UID: BatchUid = BatchUid(Uuid::from_u128(7));
/// Small segments, so that a few records rotate.
pub(crate) const SMALL: LogConfig = LogConfig {
    segment_bytes: 4 << 10,
    max_record: 64 << 10,
    max_bytes: None,
    leave_room: false,
    new_log: None,
};

pub(crate) fn dir() -> PathBuf {
    PathBuf::from("/batch/log")
}

/// What a replay has brought back: the count of records in the checkpoint, and the records behind it.
#[derive(Debug, Default)]
pub(crate) struct Replayed {
    pub(crate) state: Option<u64>,
    pub(crate) records: Vec<(Vec<u8>, Vec<Placed>)>,
}

impl Replay for Replayed {
    fn checkpoint(&mut self, state: &[u8]) -> Result<(), ReplayError> {
        assert!(self.state.is_none() && self.records.is_empty(), "one checkpoint, first");
        self.state = Some(u64::from_be_bytes(state.try_into()?));
        Ok(())
    }

    fn record(&mut self, record: &[u8], placed: &[Placed]) -> Result<(), ReplayError> {
        self.records.push((record.to_vec(), placed.to_vec()));
        Ok(())
    }
}

impl Replayed {
    /// The indexes of the records that the state stands for, if they are a whole beginning of the log.
    pub(crate) fn prefix(&self) -> u64 {
        let from = self.state.unwrap_or(0);
        for (at, (bytes, placed)) in (from..).zip(&self.records) {
            assert_eq!(*bytes, record(at), "record {at}");
            assert_eq!(*placed, placement(at), "placement of record {at}");
        }
        from + self.records.len() as u64
    }
}

/// The record of this index: its bytes tell the index, their number varies.
pub(crate) fn record(at: u64) -> Vec<u8> {
    let length = 8 + usize::try_from(at * 37 % 300).expect("below 300");
    at.to_be_bytes().iter().copied().cycle().take(length).collect()
}

/// Record `at` settles five numbers in two runs, and every seventh none.
pub(crate) fn placement(at: u64) -> Vec<Placed> {
    if at % 7 == 6 {
        return Vec::new();
    }
    vec![
        Placed {
            number: at * 3,
            count: 3,
            entry: 0,
        },
        Placed {
            number: 1_000_000 - 2 * at,
            count: 2,
            entry: 3,
        },
    ]
}

/// The numbers that the first `records` settle, each with its record and entry.
pub(crate) fn settled(records: u64) -> BTreeMap<u64, (u64, u32)> {
    let runs = (0..records).flat_map(|at| placement(at).into_iter().map(move |run| (at, run)));
    let numbers = |(at, run): (u64, Placed)| {
        (0..run.count).map(move |step| (run.number + u64::from(step), (at, run.entry + step)))
    };
    runs.flat_map(numbers).collect()
}

pub(crate) fn open(disk: &Arc<dyn Disk>) -> Result<(Log, Recovery, Replayed), LogError> {
    open_with(disk, &dir(), SMALL)
}

pub(crate) fn open_with(
    disk: &Arc<dyn Disk>,
    dir: &Path,
    config: LogConfig,
) -> Result<(Log, Recovery, Replayed), LogError> {
    let mut replayed = Replayed::default();
    let (log, recovery) = Log::open(Arc::clone(disk), dir, UID, config, &mut replayed)?;
    Ok((log, recovery, replayed))
}

pub(crate) fn append(log: &mut Log, at: u64) -> Result<Appended, LogError> {
    let bytes = record(at);
    let (front, back) = bytes.split_at(3);
    log.append(&[front, &[], back], &placement(at))
}

/// A log of so many records, synced, with a checkpoint at each rotation, closed again.
pub(crate) fn written(records: u64) -> (MemoryDisk, Arc<dyn Disk>) {
    let memory = MemoryDisk::new();
    let disk: Arc<dyn Disk> = Arc::new(memory.clone());
    let (mut log, ..) = open(&disk).expect("a new log");
    for at in 0..records {
        let appended = append(&mut log, at).expect("append");
        if appended.rotated {
            let end = log.syncer().sync().expect("sync");
            log.syncer()
                .checkpoint(end, &(at + 1).to_be_bytes())
                .expect("checkpoint");
        }
    }
    log.syncer().sync().expect("sync");
    (memory, disk)
}

/// Checks every way of reading against the first `records`.
pub(crate) fn assert_reads(reader: &LogReader, records: u64) {
    let expected = settled(records);
    let mut found = BTreeMap::new();
    for step in reader.in_order(0) {
        let (number, location) = step.expect("in order");
        assert!(
            found.last_key_value().is_none_or(|(last, _)| *last < number),
            "ascending"
        );
        assert_eq!(reader.find(number).expect("find"), Some(location));
        let bytes = reader.read(location).expect("read");
        found.insert(
            number,
            (
                u64::from_be_bytes(bytes[..8].try_into().expect("8 bytes")),
                location.entry,
            ),
        );
    }
    assert_eq!(found, expected);
    let read: Vec<_> = reader.records().map(|record| record.expect("record")).collect();
    assert_eq!(read.len() as u64, records);
    for (at, read) in (0..).zip(read) {
        assert_eq!((read.bytes.to_vec(), read.placed), (record(at), placement(at)));
    }
    let mut verified = 0;
    let damage = reader.verify(|bytes, placed| {
        assert_eq!((bytes, placed), (&record(verified)[..], &placement(verified)[..]));
        verified += 1;
    });
    assert!(damage.expect("verify").is_none());
    assert_eq!(verified, records);
}
