//! What goes in comes out, whatever the order of numbers and however often the log is reopened.

use std::collections::BTreeMap;
use std::num::NonZero;
use std::sync::{Arc, Mutex};

use harmony_log::disk::{Disk, RealDisk};
use harmony_log::memory::MemoryDisk;
use harmony_log::{Log, LogConfig, LogError, Placed};
use harmony_protocol::ids::BatchUid;
use proptest::prelude::*;
use uuid::Uuid;

use crate::model::{Replayed, SMALL, UID, append, assert_reads, dir, open, open_with, record, written};

/// Threads that read back at once.
const THREADS: NonZero<usize> = NonZero::<usize>::MIN.saturating_add(2);

#[test]
fn a_real_disk_keeps_what_was_written() {
    let folder = tempfile::tempdir().expect("tempdir");
    let dir = folder.path().join("a/log");
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let (mut log, recovery, _) = open_with(&disk, &dir, SMALL).expect("a new log");
    assert!(recovery.created);
    let id = log.log_id();
    for at in 0..100 {
        append(&mut log, at).expect("append");
    }
    let end = log.syncer().sync().expect("sync");
    log.syncer().checkpoint(end, &100u64.to_be_bytes()).expect("checkpoint");
    assert_reads(&log.reader(), 100);
    assert!(log.available().expect("available") > 0);
    assert!(matches!(open_with(&disk, &dir, SMALL), Err(LogError::Locked { .. })));
    append(&mut log, 100).expect("append");
    drop(log);
    let (log, recovery, replayed) = open_with(&disk, &dir, SMALL).expect("the log again");
    assert_eq!(
        (log.log_id(), recovery.checkpoint, recovery.replayed),
        (id, Some(end), 1)
    );
    assert_eq!(replayed.prefix(), 101);
    assert_reads(&log.reader(), 101);
}

#[test]
fn only_what_lies_behind_the_checkpoint_is_replayed() {
    let (_, disk) = written(200);
    let (log, recovery, replayed) = open(&disk).expect("the log again");
    assert!(replayed.state.is_some_and(|state| state > 150));
    assert!(recovery.damage.is_none() && recovery.set_aside.is_empty() && recovery.indexes_rebuilt == 0);
    assert_eq!((replayed.prefix(), recovery.end), (200, log.end()));
    assert_reads(&log.reader(), 200);
}

#[test]
fn a_checkpoint_is_never_ahead_of_what_is_durable() {
    let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::new());
    let (mut log, ..) = open(&disk).expect("a new log");
    let end = append(&mut log, 0).expect("append").position;
    assert!(matches!(
        log.syncer().checkpoint(end, &[]),
        Err(LogError::Unsynced { .. })
    ));
    log.syncer().sync().expect("sync");
    log.syncer().checkpoint(end, &[]).expect("checkpoint");
}

#[test]
fn two_cannot_open_one_log() {
    let (memory, disk) = written(1);
    let (log, ..) = open(&disk).expect("the log again");
    let reader = log.reader();
    drop(log);
    assert!(
        matches!(open(&disk), Err(LogError::Locked { .. })),
        "a reader holds it too"
    );
    drop(reader);
    let (_log, ..) = open(&disk).expect("free again");
    memory.kill();
    open(&disk).expect("a dead process holds nothing");
}

#[test]
fn another_batch_is_refused_and_untouched() {
    let (memory, disk) = written(50);
    let before = memory.contents(&dir().join("00000000.log"));
    let other = BatchUid(Uuid::from_u128(8));
    let refused = Log::open(Arc::clone(&disk), &dir(), other, SMALL, &mut Replayed::default());
    let message = refused.err().map(|error| error.to_string()).unwrap_or_default();
    assert!(
        message.contains(&UID.to_string()) && message.contains(&other.to_string()),
        "{message}"
    );
    assert_eq!(memory.contents(&dir().join("00000000.log")), before);
    assert_eq!(open(&disk).expect("its own").2.prefix(), 50);
}

#[test]
fn what_is_out_of_bounds_is_refused() {
    let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::new());
    let tiny = LogConfig {
        segment_bytes: 10,
        ..SMALL
    };
    assert!(matches!(
        open_with(&disk, &dir(), tiny),
        Err(LogError::Invalid {
            field: "segment_bytes",
            ..
        })
    ));
    let (mut log, ..) = open(&disk).expect("a new log");
    let large = vec![0; (64 << 10) + 1];
    assert!(matches!(
        log.append(&[&large], &[]),
        Err(LogError::Invalid {
            field: "record bytes",
            ..
        })
    ));
    let none = Placed {
        number: 1,
        count: 0,
        entry: 0,
    };
    assert!(matches!(
        log.append(&[b"x"], &[none]),
        Err(LogError::Invalid {
            field: "placed count",
            ..
        })
    ));
    let beyond = Placed {
        number: u64::MAX,
        count: 1,
        entry: 0,
    };
    assert!(log.append(&[b"x"], &[beyond]).is_err());
    assert_eq!(log.end().sequence, 0);
    append(&mut log, 0).expect("goes on");
}

#[test]
fn a_sync_on_another_thread_covers_what_was_appended_before_it() {
    let folder = tempfile::tempdir().expect("tempdir");
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let (mut log, ..) = open_with(&disk, folder.path(), SMALL).expect("a new log");
    let (syncer, reader) = (log.syncer(), log.reader());
    let (tell, told) = std::sync::mpsc::channel();
    let syncing = std::thread::spawn(move || {
        for position in told {
            assert!(syncer.sync().expect("sync") >= position);
            assert!(syncer.synced() >= position);
        }
    });
    let reading = std::thread::spawn(move || {
        while reader.find(299 * 3).expect("find").is_none() {
            for step in reader.in_order(0) {
                let (_, location) = step.expect("in order");
                reader.read(location).expect("read");
            }
        }
    });
    for at in 0..300 {
        tell.send(append(&mut log, at).expect("append").position)
            .expect("syncing");
    }
    drop(tell);
    syncing.join().expect("syncing");
    reading.join().expect("reading");
    assert_reads(&log.reader(), 300);
}

#[test]
fn records_of_any_size_are_read_across_the_bounds_of_every_buffer() {
    let folder = tempfile::tempdir().expect("tempdir");
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let config = LogConfig {
        segment_bytes: 2 << 20,
        max_record: 4 << 20,
        max_bytes: None,
        leave_room: false,
        new_log: None,
    };
    let sizes = [
        0,
        1,
        (1 << 20) - 40,
        7,
        1 << 20,
        3 << 20,
        0,
        (1 << 20) - 65,
        8,
        4 << 20,
        9,
    ];
    let bytes = |at: usize| vec![u8::try_from(at).expect("few"); sizes[at]];
    let placed = |at: usize| {
        [Placed {
            number: 9 - at.min(9) as u64,
            count: 1,
            entry: 0,
        }]
    };
    let (mut log, ..) = open_with(&disk, folder.path(), config).expect("a new log");
    for at in 0..sizes.len() {
        log.append(&[&bytes(at)], &placed(at)).expect("append");
    }
    drop(log);
    let (log, recovery, replayed) = open_with(&disk, folder.path(), config).expect("the log again");
    assert!(recovery.damage.is_none() && recovery.torn_bytes == 0);
    let expected: Vec<_> = (0..sizes.len()).map(|at| (bytes(at), placed(at).to_vec())).collect();
    assert!(replayed.records == expected);
    let records = log.reader().records().map(|record| record.expect("record"));
    assert!(
        records
            .map(|record| (record.bytes.to_vec(), record.placed))
            .eq(expected)
    );
    let largest = log.reader().find(1).expect("find").expect("settled");
    assert_eq!(log.reader().read(largest).expect("read").len(), sizes[8]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// Numbers in any order and settled several times: the last record counts, in one segment and across them.
    #[test]
    fn the_last_record_of_a_number_counts(
        runs in prop::collection::vec(prop::collection::vec((0u64..400, 1u32..60), 0..4), 1..60),
        reopen in 0usize..60,
    ) {
        let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::new());
        let (mut log, ..) = open(&disk).expect("a new log");
        let mut expected = BTreeMap::new();
        for (at, runs) in runs.iter().enumerate() {
            if at == reopen {
                drop(log);
                log = open(&disk).expect("the log again").0;
            }
            let mut entry = 0;
            let placed: Vec<Placed> = runs.iter().map(|(number, count)| {
                let placed = Placed { number: *number, count: *count, entry };
                entry += count;
                placed
            }).collect();
            for run in &placed {
                for step in 0..run.count {
                    expected.insert(run.number + u64::from(step), (at as u64, run.entry + step));
                }
            }
            log.append(&[&record(at as u64)], &placed).expect("append");
        }
        let reader = log.reader();
        let mut found = BTreeMap::new();
        for step in reader.in_order(0) {
            let (number, location) = step.expect("in order");
            prop_assert_eq!(reader.find(number).expect("find"), Some(location));
            let bytes = reader.read(location).expect("read");
            let at = u64::from_be_bytes(bytes[..8].try_into().expect("8 bytes"));
            prop_assert!(found.insert(number, (at, location.entry)).is_none());
        }
        prop_assert_eq!(&found, &expected);
        let from: Vec<u64> = reader.in_order(200).map(|step| step.expect("in order").0).collect();
        prop_assert_eq!(from, expected.range(200..).map(|(number, _)| *number).collect::<Vec<_>>());
        let mut verified = BTreeMap::new();
        let damage = reader.verify(|bytes, placed| {
            let at = u64::from_be_bytes(bytes[..8].try_into().expect("8 bytes"));
            for run in placed {
                for step in 0..run.count {
                    let twice = verified.insert(run.number + u64::from(step), (at, run.entry + step));
                    assert!(twice.is_none(), "a number comes once");
                }
            }
        });
        prop_assert!(damage.expect("verify").is_none());
        prop_assert_eq!(&verified, &expected);
        let together = Mutex::new(BTreeMap::new());
        let damage = reader.verify_on(THREADS, |bytes, placed| {
            let at = u64::from_be_bytes(bytes[..8].try_into().expect("8 bytes"));
            let numbers = placed.iter().flat_map(|run| (0..run.count).map(move |step| (run, step)));
            let found = numbers.map(|(run, step)| (run.number + u64::from(step), (at, run.entry + step)));
            together.lock().expect("lock").extend(found);
        });
        prop_assert!(damage.expect("verify").is_none());
        prop_assert_eq!(together.into_inner().expect("lock"), expected);
    }
}

#[test]
fn appending_pauses_at_nine_tenths_of_the_byte_limit_and_goes_on_when_it_is_raised() {
    let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::new());
    let limit = 20_000;
    let limited = LogConfig {
        max_bytes: Some(limit),
        ..SMALL
    };
    let (mut log, ..) = open_with(&disk, &dir(), limited).expect("a new log");
    let mut kept = 0;
    let refused = loop {
        match log.append(&[&[7; 500]], &[]) {
            Ok(_) => kept += 1,
            Err(error) => break error,
        }
    };
    assert!(
        matches!(refused, LogError::NoSpace { .. }) && !refused.is_fatal(),
        "{refused}"
    );
    assert!(
        (limit / 10 * 8..=limit / 10 * 9).contains(&log.bytes()),
        "{} bytes",
        log.bytes()
    );
    log.syncer().sync().expect("what was appended is kept");
    drop(log);
    let (mut log, ..) = open(&disk).expect("without a limit");
    assert_eq!(log.end().sequence, kept);
    log.append(&[&[7; 500]], &[]).expect("there is room");
}
