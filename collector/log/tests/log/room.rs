//! A disk that is full, and has room again.

use std::sync::Arc;

use harmony_log::LogError;
use harmony_log::disk::Disk;
use harmony_log::memory::MemoryDisk;

use crate::model::{append, assert_reads, open};

const RECORDS: u64 = 50;

#[test]
fn a_full_disk_leaves_no_part_of_a_record_and_the_log_goes_on_when_there_is_room() {
    for capacity in (100..12_000).step_by(61) {
        let memory = MemoryDisk::new();
        let disk: Arc<dyn Disk> = Arc::new(memory.clone());
        let (mut log, ..) = open(&disk).expect("a new log");
        memory.set_capacity(Some(capacity));
        let mut refused = None;
        for at in 0..RECORDS {
            if let Err(error) = append(&mut log, at) {
                assert!(
                    matches!(error, LogError::NoSpace { .. }) && !error.is_fatal(),
                    "{error}"
                );
                refused = Some(at);
                break;
            }
        }
        let refused = refused.expect("50 records need more room");
        let used = memory.used();
        assert!(append(&mut log, refused).is_err(), "still full");
        assert_eq!(memory.used(), used, "nothing is left behind by a refusal");
        log.syncer().sync().expect("what was appended can be synced");
        assert_reads(&log.reader(), refused);
        memory.set_capacity(None);
        for at in refused..RECORDS {
            append(&mut log, at).expect("room again");
        }
        assert_reads(&log.reader(), RECORDS);
        drop(log);
        let (log, recovery, replayed) = open(&disk).expect("the log again");
        assert!(recovery.damage.is_none() && recovery.torn_bytes == 0);
        assert_eq!(replayed.prefix(), RECORDS);
        assert_reads(&log.reader(), RECORDS);
    }
}

#[test]
fn a_checkpoint_without_room_leaves_the_one_before() {
    let memory = MemoryDisk::new();
    let disk: Arc<dyn Disk> = Arc::new(memory.clone());
    let (mut log, ..) = open(&disk).expect("a new log");
    append(&mut log, 0).expect("append");
    let first = log.syncer().sync().expect("sync");
    log.syncer().checkpoint(first, &1u64.to_be_bytes()).expect("checkpoint");
    append(&mut log, 1).expect("append");
    let second = log.syncer().sync().expect("sync");
    memory.set_capacity(Some(memory.used() + 50));
    let refused = log.syncer().checkpoint(second, &2u64.to_be_bytes());
    assert!(matches!(refused, Err(LogError::NoSpace { .. })));
    drop(log);
    let (mut log, recovery, replayed) = open(&disk).expect("the log again");
    assert_eq!((recovery.checkpoint, replayed.prefix()), (Some(first), 2));
    memory.set_capacity(None);
    append(&mut log, 2).expect("room again");
}
