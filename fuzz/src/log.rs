//! The log of a batch after any change of its files: it opens or is refused, and gives nothing that was not written.

use std::path::Path;
use std::str;
use std::sync::Arc;

use harmony_log::disk::Disk;
use harmony_log::memory::MemoryDisk;
use harmony_log::{Log, LogConfig, LogError, LogReader, Recovery};
use harmony_protocol::ids::{BatchUid, LogId};
use uuid::Uuid;

use crate::written::{Replayed, genuine, is_settled, placement, record};
use crate::{Goal, Target, parts};

/// A case is a part of flags, then the files of a log, each as its name and its bytes.
pub(crate) const TARGET: Target = Target {
    name: "log",
    seeds,
    words: &[
        b"HREC",
        b"HRMNYLOG",
        b"HRMNYIDX",
        b"HRMNYCKP",
        b"00000000.log",
        b"00000001.log",
        b"00000001.idx",
        b"ffffffff.log",
        b"checkpoint-0000000000000011",
        b"checkpoint-ffffffffffffffff",
        b".new",
        b".damaged",
        b"\0\0\0\0\0\0\0\0",
    ],
    in_parts: true,
    run,
    memory,
    goals: &[
        Goal {
            depth: "opened",
            percent: 60,
        },
        Goal {
            depth: "damage reported",
            percent: 30,
        },
        Goal {
            depth: "checkpoint replayed",
            percent: 10,
        },
        Goal {
            depth: "records replayed",
            percent: 40,
        },
    ],
    cases: 1_000,
};

/// In the flags: the checksums of the segments' headers are made right again, so that what the headers say is believed.
const RESEAL: u8 = 1;
const UID: BatchUid = BatchUid(Uuid::from_u128(7));
const DIR: &str = "/log";
/// What opening and reading may take: buffers of a scan, and readers that are open at once.
const BUFFERS: u64 = 8 << 20;
/// The disk is in memory, and remembers what was written and what is durable.
const COPIES: u64 = 8;

fn memory(case: usize) -> u64 {
    BUFFERS + COPIES * case as u64
}

fn config(log: Option<LogId>) -> LogConfig {
    LogConfig {
        // The smallest, so that a few records make some.
        segment_bytes: 4 << 10,
        max_record: 4 << 10,
        max_bytes: None,
        leave_room: false,
        new_log: log,
    }
}

fn open(memory: &MemoryDisk) -> Result<(Log, Recovery, Replayed), LogError> {
    let disk: Arc<dyn Disk> = Arc::new(memory.clone());
    let mut replayed = Replayed::default();
    let (log, recovery) = Log::open(
        disk,
        Path::new(DIR),
        UID,
        config(Some(LogId(Uuid::max()))),
        &mut replayed,
    )?;
    Ok((log, recovery, replayed))
}

fn run(case: &[u8]) -> Vec<&'static str> {
    let (memory, resealed) = disk(case);
    let (mut log, recovery, replayed) = match open(&memory) {
        Ok(opened) => opened,
        Err(LogError::Version { .. } | LogError::OtherBatch { .. }) => return vec!["refused"],
        Err(error) => panic!("a log does not open: {error}"),
    };
    let reported = !recovery.damage.is_none() || recovery.torn_bytes > 0 || !recovery.set_aside.is_empty();
    let mut depths = vec!["opened"];
    depths.extend(reported.then_some("damage reported"));
    depths.extend(replayed.checkpoint.map(|_| "checkpoint replayed"));
    depths.extend((!replayed.records.is_empty()).then_some("records replayed"));
    assert!(
        reported || resealed || replayed.is_whole(),
        "records are missing, and nothing says so: {replayed:?}"
    );
    check_reads(&log.reader());
    // The log goes on, and what it gave once it gives again.
    let (salt, at) = replayed.next();
    let appended = log
        .append(&[&record(salt, at)], &placement(at))
        .expect("it takes a record");
    let synced = log.syncer().sync().expect("it syncs");
    assert!(
        synced >= appended.position,
        "{synced:?} is synced, {:?} was appended",
        appended.position
    );
    drop(log);
    let (_, _, again) = open(&memory).unwrap_or_else(|error| panic!("a log does not open again: {error}"));
    let expected: Vec<_> = replayed.records.iter().copied().chain([(salt, at)]).collect();
    assert_eq!((again.checkpoint, again.records), (replayed.checkpoint, expected));
    depths
}

/// The files of a case on a disk, and whether headers were resealed.
fn disk(case: &[u8]) -> (MemoryDisk, bool) {
    let memory = MemoryDisk::new();
    let parts = parts::split(case);
    let Some((flags, files)) = parts.split_first() else {
        return (memory, false);
    };
    let reseal = flags.first().is_some_and(|flags| flags & RESEAL != 0);
    for file in files.chunks_exact(2) {
        let Some(name) = str::from_utf8(file[0]).ok().filter(|name| !name.contains('/')) else {
            continue;
        };
        let mut bytes = file[1].to_vec();
        if let Some((header, _)) = bytes
            .split_first_chunk_mut::<64>()
            .filter(|_| reseal && Path::new(name).extension() == Some("log".as_ref()))
        {
            let sum = crc32c::crc32c(&header[..60]);
            header[60..].copy_from_slice(&sum.to_be_bytes());
        }
        // Names such as `..` are no files.
        let _ = memory.put(&Path::new(DIR).join(name), &bytes);
    }
    (memory, reseal)
}

fn check_reads(reader: &LogReader) {
    let mut last = None;
    for step in reader.in_order(0) {
        let (number, location) = match step {
            Ok(found) => found,
            Err(LogError::Damaged { .. }) => break,
            Err(error) => panic!("numbers cannot be read in order: {error}"),
        };
        assert!(last < Some(number), "{number} comes after {last:?}");
        last = Some(number);
        match reader.read(location) {
            Ok(bytes) => {
                let (_, at) = genuine(&bytes);
                assert!(
                    is_settled(at, number, location.entry),
                    "{number} is not settled by record {at}"
                );
            }
            Err(LogError::Damaged { .. }) => {}
            Err(error) => panic!("the record of {number} cannot be read: {error}"),
        }
    }
    for record in reader.records() {
        let record = record.unwrap_or_else(|error| panic!("records cannot be read: {error}"));
        let (_, at) = genuine(&record.bytes);
        assert_eq!(record.placed, placement(at), "placement of record {at}");
    }
    let verified = reader.verify(|bytes, placed| {
        let (_, at) = genuine(bytes);
        for run in placed {
            let last = run.number + u64::from(run.count) - 1;
            let settled = is_settled(at, run.number, run.entry) && is_settled(at, last, run.entry + run.count - 1);
            assert!(settled, "{run:?} does not belong to record {at}");
        }
    });
    match verified {
        Ok(_) | Err(LogError::Damaged { .. }) => {}
        Err(error) => panic!("the log cannot be verified: {error}"),
    }
}

/// Real logs: with checkpoints, without, of one segment, and each again with its headers resealed.
fn seeds() -> Vec<(String, Vec<u8>)> {
    let logs = [
        ("checkpoints", 1, 60, true),
        ("plain", 2, 35, false),
        ("short", 3, 6, true),
    ];
    let both = logs.iter().flat_map(|log| [(log, 0), (log, RESEAL)]);
    both.map(|(&(name, salt, records, checkpoints), flags)| {
        let files = write(salt, records, checkpoints);
        let parts = files.iter().flat_map(|(name, bytes)| [name.as_bytes(), bytes]);
        let case = parts::join([&[flags][..]].into_iter().chain(parts));
        let name = if flags == 0 {
            name.to_owned()
        } else {
            format!("{name}-resealed")
        };
        (name, case)
    })
    .collect()
}

fn write(salt: u8, records: u64, checkpoints: bool) -> Vec<(String, Vec<u8>)> {
    let memory = MemoryDisk::new();
    let disk: Arc<dyn Disk> = Arc::new(memory.clone());
    let id = Some(LogId(Uuid::from_u128(salt.into())));
    let mut replayed = Replayed::default();
    let opened = Log::open(Arc::clone(&disk), Path::new(DIR), UID, config(id), &mut replayed);
    let (mut log, _) = opened.expect("a new log");
    for at in 0..records {
        let appended = log
            .append(&[&record(salt, at)], &placement(at))
            .expect("it takes a record");
        let end = log.syncer().sync().expect("it syncs");
        if checkpoints && (appended.rotated || at == 3) {
            let state = [&[salt][..], &(at + 1).to_be_bytes()].concat();
            log.syncer().checkpoint(end, &state).expect("it takes a checkpoint");
        }
    }
    drop(log);
    let mut names = disk.list(Path::new(DIR)).expect("the folder is there");
    names.sort();
    let contents = |name: String| memory.contents(&Path::new(DIR).join(&name)).map(|bytes| (name, bytes));
    names.into_iter().filter_map(contents).collect()
}
