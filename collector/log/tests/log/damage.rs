//! Files that were cut, flipped, lost or mixed up while nobody looked.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZero;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use harmony_log::disk::Disk;
use harmony_log::memory::MemoryDisk;
use harmony_log::{LogError, LogReader};

use crate::model::{Replayed, append, assert_reads, dir, open, placement, record, settled, written};

const RECORDS: u64 = 60;
const HEADER: u64 = 64;

fn file(name: &str) -> PathBuf {
    dir().join(name)
}

/// The names of the log's files that end like this.
fn names(disk: &Arc<dyn Disk>, end: &str) -> Vec<String> {
    let mut names = disk.list(&dir()).expect("list");
    names.retain(|name| name.ends_with(end) || name.starts_with(end));
    names.sort();
    assert!(!names.is_empty());
    names
}

/// The indexes of the replayed records, each of which must be as it was written.
fn indexes(replayed: &Replayed) -> Vec<u64> {
    let index = |(bytes, placed): &(Vec<u8>, _)| {
        let at = u64::from_be_bytes(bytes[..8].try_into().expect("8 bytes"));
        assert_eq!((bytes, placed), (&record(at), &placement(at)));
        at
    };
    let indexes: Vec<u64> = replayed.records.iter().map(index).collect();
    assert!(indexes.is_sorted());
    indexes
}

fn numbers(reader: &LogReader) -> BTreeSet<u64> {
    reader.in_order(0).map(|step| step.expect("in order").0).collect()
}

fn numbers_of(records: impl IntoIterator<Item = u64>) -> BTreeSet<u64> {
    records
        .into_iter()
        .flat_map(placement)
        .flat_map(|run| run.number..run.number + u64::from(run.count))
        .collect()
}

#[test]
fn a_log_cut_at_any_byte_of_its_last_records_ends_with_the_last_whole_one() {
    let memory = MemoryDisk::new();
    let disk: Arc<dyn Disk> = Arc::new(memory.clone());
    let (mut log, ..) = open(&disk).expect("a new log");
    let ends: Vec<u64> = (0..5)
        .map(|at| append(&mut log, at).expect("append").position.offset)
        .collect();
    drop(log);
    let whole = memory.contents(&file("00000000.log")).expect("segment");
    for cut in ends[2]..ends[4] {
        for zeros in [0, 1, 8, 4096] {
            let mut bytes = whole[..usize::try_from(cut).expect("small")].to_vec();
            bytes.resize(bytes.len() + zeros, 0);
            // The last bytes of a record may be zeros.
            let same = bytes.iter().zip(&whole).take_while(|(byte, was)| byte == was).count() as u64;
            let records = ends.iter().filter(|end| **end <= same).count() as u64;
            memory.put(&file("00000000.log"), &bytes).expect("put");
            let (mut log, recovery, replayed) = open(&disk).expect("the log again");
            let torn = bytes.len() as u64 - ends[usize::try_from(records).expect("small") - 1];
            assert_eq!((replayed.prefix(), recovery.torn_bytes), (records, torn));
            assert!(recovery.damage.is_none());
            append(&mut log, records).expect("goes on");
            assert_reads(&log.reader(), records + 1);
        }
    }
}

#[test]
fn a_flipped_bit_costs_at_most_the_record_that_it_is_in() {
    let memory = MemoryDisk::new();
    let disk: Arc<dyn Disk> = Arc::new(memory.clone());
    let (mut log, ..) = open(&disk).expect("a new log");
    let id = log.log_id();
    let ends: Vec<u64> = (0..4)
        .map(|at| append(&mut log, at).expect("append").position.offset)
        .collect();
    drop(log);
    let path = file("00000000.log");
    let whole = memory.contents(&path).expect("segment");
    for bit in 0..whole.len() as u64 * 8 {
        memory.put(&path, &whole).expect("put");
        memory.flip_bit(&path, bit).expect("flip");
        let (log, recovery, replayed) = open(&disk).expect("the log again");
        if bit / 8 < HEADER {
            assert_eq!(recovery.set_aside.len(), 1, "bit {bit}");
            assert!(recovery.created && log.log_id() != id && replayed.records.is_empty());
            drop(log);
            for name in disk.list(&dir()).expect("list") {
                disk.remove(&file(&name)).expect("remove");
            }
            continue;
        }
        let hit = ends.iter().position(|end| bit / 8 < *end).expect("in a record") as u64;
        let left: Vec<u64> = (0..4).filter(|at| *at != hit).collect();
        assert_eq!(indexes(&replayed), left, "bit {bit}");
        assert_eq!(numbers(&log.reader()), numbers_of(left), "bit {bit}");
        let last = hit == 3;
        assert_eq!(
            (recovery.torn_bytes > 0, recovery.damage.records),
            (last, u64::from(!last)),
            "bit {bit}"
        );
    }
}

#[test]
fn damage_under_a_checkpoint_is_found_by_reading_back_and_heals() {
    for at in [3, 22, 59] {
        let (memory, disk) = written(RECORDS);
        let (log, ..) = open(&disk).expect("the log again");
        let reader = log.reader();
        let number = *numbers_of([at]).first().expect("it settles some");
        let location = reader.find(number).expect("find").expect("settled");
        drop((log, reader));
        let (segment, offset) = location.place();
        memory
            .flip_bit(&file(&format!("{segment:08x}.log")), (offset + 40) * 8)
            .expect("flip");

        let (mut log, ..) = open(&disk).expect("the log again");
        let reader = log.reader();
        if let Some(location) = reader.find(number).expect("find") {
            assert!(matches!(reader.read(location), Err(LogError::Damaged { .. })));
        }
        let verified = Mutex::new(BTreeSet::new());
        let threads = NonZero::<usize>::MIN.saturating_add((at % 3) as usize);
        let damage = reader.verify_on(threads, |_, placed| {
            let numbers = placed.iter().map(|run| run.number..run.number + u64::from(run.count));
            verified.lock().expect("lock").extend(numbers.flatten());
        });
        let verified = verified.into_inner().expect("lock");
        let expected = numbers_of((0..RECORDS).filter(|other| *other != at));
        assert_eq!(verified, expected);
        assert_eq!(numbers(&reader), expected, "nothing points at the damage any more");
        assert!(damage.expect("verify").records <= 1);

        log.append(&[&record(at)], &placement(at)).expect("it ran again");
        log.syncer().sync().expect("sync");
        assert_eq!(numbers(&reader), settled(RECORDS).into_keys().collect());
        let location = reader.find(number).expect("find").expect("settled again");
        assert_eq!(reader.read(location).expect("read"), record(at));
    }
}

#[test]
fn lost_and_flipped_indexes_and_checkpoints_cost_nothing() {
    let (memory, disk) = written(RECORDS);
    let indexes = names(&disk, ".idx");
    let checkpoints = names(&disk, "checkpoint-");
    assert!(indexes.len() >= 3 && checkpoints.len() == 2);
    for name in indexes.iter().chain(&checkpoints) {
        let path = file(name);
        let whole = memory.contents(&path).expect("file");
        let flips = (0..whole.len() as u64).step_by(3).map(|byte| Some(byte * 8 + byte % 8));
        for flip in flips.chain([None]) {
            match flip {
                Some(bit) => memory.flip_bit(&path, bit).expect("flip"),
                None => disk.remove(&path).expect("remove"),
            }
            let (log, recovery, replayed) = open(&disk).expect("the log again");
            assert_eq!(replayed.prefix(), RECORDS, "{name} {flip:?}");
            assert!(recovery.damage.is_none());
            assert_eq!(
                recovery.set_aside.len(),
                usize::from(checkpoints.last() == Some(name) && flip.is_some())
            );
            assert_reads(&log.reader(), RECORDS);
            drop(log);
            memory.put(&path, &whole).expect("put");
        }
    }
}

#[test]
fn a_lost_segment_is_missed_also_behind_a_checkpoint() {
    for name in names(&written(RECORDS).1, ".log") {
        let (_, disk) = written(RECORDS);
        let last = names(&disk, ".log").last() == Some(&name);
        disk.remove(&file(&name)).expect("remove");
        let (mut log, recovery, replayed) = open(&disk).expect("the log again");
        // Nobody can tell how much there was in a last segment, but for a checkpoint in it.
        assert_eq!(recovery.damage.records > 0, !last, "{name}");
        assert!(!recovery.set_aside.is_empty(), "the checkpoints that it was part of");
        let expected: BTreeSet<u64> = numbers(&log.reader());
        assert!(expected.len() < settled(RECORDS).len());
        if replayed.state.is_none() {
            assert_eq!(numbers_of(indexes(&replayed)), expected);
        }
        // A checkpoint that knows of the loss is believed.
        log.append(&[&record(RECORDS)], &placement(RECORDS)).expect("append");
        let end = log.syncer().sync().expect("sync");
        log.syncer().checkpoint(end, &0u64.to_be_bytes()).expect("checkpoint");
        drop(log);
        let (_, recovery, _) = open(&disk).expect("the log again");
        assert_eq!((recovery.checkpoint, recovery.replayed), (Some(end), 0));
        assert!(recovery.damage.is_none() && recovery.set_aside.is_empty());
    }
}

#[test]
fn a_segment_without_its_header_is_set_aside_and_kept() {
    for name in names(&written(RECORDS).1, ".log") {
        let (memory, disk) = written(RECORDS);
        let mut bytes = memory.contents(&file(&name)).expect("segment");
        bytes[..64].fill(0);
        memory.put(&file(&name), &bytes).expect("put");
        let (log, recovery, _) = open(&disk).expect("the log again");
        let aside = format!("{name}.damaged");
        assert!(recovery.set_aside.contains(&aside), "{:?}", recovery.set_aside);
        assert_eq!(memory.contents(&file(&aside)), Some(bytes));
        assert!(numbers(&log.reader()).len() < settled(RECORDS).len());
        assert!(log.reader().verify(|_, _| ()).is_ok());
    }
}

/// The log's files, by name.
type Files = BTreeMap<String, Vec<u8>>;

/// Those that are there.
fn copy(memory: &MemoryDisk, disk: &Arc<dyn Disk>) -> Files {
    let names = disk.list(&dir()).expect("list").into_iter();
    names
        .map(|name| (name.clone(), memory.contents(&file(&name)).expect("file")))
        .collect()
}

fn restore(memory: &MemoryDisk, disk: &Arc<dyn Disk>, files: &Files) {
    for name in disk.list(&dir()).expect("list") {
        disk.remove(&file(&name)).expect("remove");
    }
    for (name, bytes) in files {
        memory.put(&file(name), bytes).expect("put");
    }
}

/// A log of [`RECORDS`], and copies of its files when it had a third of them, and all.
fn copied() -> (MemoryDisk, Arc<dyn Disk>, [Files; 2]) {
    let (memory, disk) = written(RECORDS / 3);
    let old = copy(&memory, &disk);
    let (mut log, ..) = open(&disk).expect("the log again");
    for at in RECORDS / 3..RECORDS {
        if append(&mut log, at).expect("append").rotated {
            let end = log.syncer().sync().expect("sync");
            let state = (at + 1).to_be_bytes();
            log.syncer().checkpoint(end, &state).expect("checkpoint");
        }
    }
    log.syncer().sync().expect("sync");
    drop(log);
    let new = copy(&memory, &disk);
    (memory, disk, [old, new])
}

#[test]
fn a_stale_copy_is_the_log_as_it_was() {
    let (memory, disk, [old, _]) = copied();
    restore(&memory, &disk, &old);
    let (log, recovery, replayed) = open(&disk).expect("the copy");
    assert!(recovery.damage.is_none() && recovery.set_aside.is_empty());
    assert_eq!(replayed.prefix(), RECORDS / 3);
    assert_reads(&log.reader(), RECORDS / 3);
}

#[test]
fn a_mixture_of_a_stale_copy_and_the_log_never_counts_what_is_not_there() {
    let (memory, disk, [old, new]) = copied();
    let stale: Vec<_> = old.keys().filter(|name| new.get(*name) != old.get(*name)).collect();
    assert!(stale.len() >= 2, "{stale:?}");
    // Each subset of the stale files comes back.
    for subset in 1..1_u32 << stale.len() {
        let mut files = new.clone();
        for (_, name) in stale.iter().enumerate().filter(|(at, _)| subset >> at & 1 == 1) {
            files.insert((*name).clone(), old[*name].clone());
        }
        restore(&memory, &disk, &files);
        let (log, recovery, replayed) = open(&disk).expect("the mixture");
        let reader = log.reader();
        let mut there = BTreeSet::new();
        let damage = reader.verify(|bytes, placed| {
            let at = u64::from_be_bytes(bytes[..8].try_into().expect("8 bytes"));
            assert_eq!((bytes, placed), (&record(at)[..], &placement(at)[..]));
            there.extend(numbers_of([at]));
        });
        let damage = damage.expect("verify");
        assert_eq!(numbers(&reader), there, "{subset:b}");
        // What the state counts and is not there is found: by opening it, or by reading it back.
        let counted = replayed
            .state
            .map_or_else(BTreeSet::new, |records| numbers_of(0..records));
        let found = recovery.damage.records > 0 || damage.records > 0;
        assert!(
            counted.is_subset(&there) || found,
            "{subset:b}: {recovery:?}, {damage:?}"
        );
    }
}

#[test]
fn a_segment_of_another_log_is_not_mixed_in() {
    let (_, other) = written(30);
    let stray = written(30).0.contents(&file("00000000.log")).expect("segment");
    let (memory, disk) = written(RECORDS);
    drop(other);
    let next = format!("{:08x}.log", names(&disk, ".log").len());
    memory.put(&file(&next), &stray).expect("put");
    let (log, recovery, replayed) = open(&disk).expect("the log again");
    assert_eq!(recovery.set_aside, [format!("{next}.damaged")]);
    assert_eq!(replayed.prefix(), RECORDS);
    assert_reads(&log.reader(), RECORDS);
}

#[test]
fn a_newer_format_is_refused() {
    let (memory, disk) = written(1);
    let path = file("00000000.log");
    let mut bytes = memory.contents(&path).expect("segment");
    bytes[11] = 2;
    let sum = crc32c::crc32c(&bytes[..60]);
    bytes[60..64].copy_from_slice(&sum.to_be_bytes());
    memory.put(&path, &bytes).expect("put");
    assert!(matches!(
        open(&disk),
        Err(LogError::Version {
            found: 2,
            supported: 1,
            ..
        })
    ));
    assert_eq!(memory.contents(&path), Some(bytes));
}

#[test]
fn a_record_within_a_damaged_record_does_not_count() {
    let memory = MemoryDisk::new();
    let disk: Arc<dyn Disk> = Arc::new(memory.clone());
    let (mut log, ..) = open(&disk).expect("a new log");
    append(&mut log, 0).expect("append");
    let path = file("00000000.log");
    // A task's output that is a copy of a whole record, aligned as one.
    let copy = memory.contents(&path).expect("segment").split_off(64);
    let at = log.end().offset;
    log.append(&[&copy], &[]).expect("append");
    append(&mut log, 2).expect("append");
    drop(log);
    memory.flip_bit(&path, at * 8).expect("flip");
    let (_, recovery, replayed) = open(&disk).expect("the log again");
    assert_eq!((indexes(&replayed), recovery.damage.records), (vec![0, 2], 1));
}
