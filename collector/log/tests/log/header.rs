//! The header of a segment is damaged while the log is open.

use std::collections::BTreeSet;

use harmony_log::memory::MemoryDisk;
use harmony_log::{Damage, LogReader};

use crate::model::{append, dir, open, record, written};

const RECORDS: u64 = 60;

/// The numbers that a verification believes, and the damage that it finds.
fn verified(reader: &LogReader) -> (BTreeSet<u64>, Damage) {
    let mut numbers = BTreeSet::new();
    let damage = reader.verify(|_, placed| {
        numbers.extend(
            placed
                .iter()
                .flat_map(|run| run.number..run.number + u64::from(run.count)),
        );
    });
    (numbers, damage.expect("verify"))
}

fn segments(memory: &MemoryDisk) -> Vec<String> {
    let mut names = memory.durable_names(&dir());
    names.retain(|name| name.strip_suffix(".log").is_some());
    names
}

#[test]
fn reading_back_believes_what_the_next_opening_will_believe() {
    let (memory, _) = written(RECORDS);
    let names = segments(&memory);
    assert!(names.len() > 2);
    for name in names {
        let (memory, disk) = written(RECORDS);
        let (log, ..) = open(&disk).expect("the log");
        let (all, damage) = verified(&log.reader());
        assert!(damage.is_none());
        memory.flip_bit(&dir().join(&name), 100).expect("flip");
        let (believed, damage) = verified(&log.reader());
        assert!(believed.len() < all.len() && damage.records > 0, "{name}: {damage:?}");
        drop(log);
        let (log, recovery, _) = open(&disk).expect("the log again");
        assert!(recovery.set_aside.contains(&format!("{name}.damaged")));
        assert_eq!(verified(&log.reader()).0, believed, "{name}");
    }
}

#[test]
fn what_is_written_after_the_damage_was_found_stays() {
    let (memory, disk) = written(RECORDS);
    let (mut log, ..) = open(&disk).expect("the log");
    let newest = segments(&memory).pop().expect("a segment");
    memory.flip_bit(&dir().join(newest), 100).expect("flip");
    verified(&log.reader());
    assert!(append(&mut log, RECORDS).expect("append").rotated);
    assert!(!append(&mut log, RECORDS + 1).expect("append").rotated);
    drop(log);
    let (_, _, replayed) = open(&disk).expect("the log again");
    let bytes: Vec<_> = replayed.records.into_iter().map(|(bytes, _)| bytes).collect();
    assert!(bytes.ends_with(&[record(RECORDS), record(RECORDS + 1)]));
}
