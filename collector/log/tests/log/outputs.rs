//! Outputs with a file of their own: kept with their record, found damaged, swept after a crash, at every call of the disk.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail like tests")]

use std::io::ErrorKind;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use harmony_log::disk::Disk;
use harmony_log::fault::{Fault, FaultDisk};
use harmony_log::memory::MemoryDisk;
use harmony_log::read_back::{differs, read_back};
use harmony_log::{LogConfig, LogError, LogReader, Opened, Recorder, Written};
use harmony_protocol::collector::{Answer, Kept, Outcomes, OutputId, Record, Write};
use harmony_protocol::ids::BatchUid;
use harmony_protocol::wire::{OutcomeCode, ResultEntry, Results};
use uuid::Uuid;

/// Threads that read back.
const ONE: NonZero<usize> = NonZero::<usize>::MIN;
const UID: BatchUid = BatchUid(Uuid::from_u128(1));
/// Each output is this, with its number in front.
const PARTS: [&[u8]; 3] = [b"the first part, ", b"the second, ", b"and the last"];

fn output(number: u64) -> Vec<u8> {
    [&number.to_be_bytes()[..], &PARTS.concat()].concat()
}

fn outcome(number: u64) -> Record {
    let bytes = output(number);
    let entry = ResultEntry {
        number,
        attempt: 1,
        outcome: OutcomeCode::Succeeded,
        code: 0,
        start_micros: 0,
        duration_micros: 0,
        output: u32::try_from(bytes.len()).expect("short"),
        log: 0,
        parted: Some(crc32c::crc32c(&bytes)),
    };
    Record::Outcomes(Outcomes {
        worker: "w".into(),
        final_failures: Vec::new(),
        results: Results {
            sequence: 0,
            entries: vec![entry],
            ..Results::default()
        },
    })
}

fn dir() -> &'static Path {
    Path::new("logs/log")
}

fn file(number: u64) -> PathBuf {
    dir().join("outputs").join(number.to_string())
}

fn names(disk: &MemoryDisk) -> Vec<String> {
    disk.list(&dir().join("outputs")).unwrap_or_default()
}

fn open(disk: &Arc<dyn Disk>) -> Result<Opened, LogError> {
    let config = LogConfig {
        segment_bytes: 4096,
        ..LogConfig::default()
    };
    Ok(Recorder::open(Arc::clone(disk), dir(), UID, config, true)?.expect("it is made"))
}

/// A piece of an output.
fn part(output: OutputId, offset: u64, bytes: &[u8]) -> Write {
    let bytes = Bytes::copy_from_slice(bytes);
    Write::Part { output, offset, bytes }
}

/// Writes an output and its record. The number is that of the output in the process, too.
fn write(recorder: &mut Recorder, sequence: &mut u64, number: u64) -> Result<(), LogError> {
    let whole = output(number);
    let (mut rest, mut offset) = (&whole[..], 0);
    for length in [8 + PARTS[0].len(), PARTS[1].len(), PARTS[2].len()] {
        let (piece, more) = rest.split_at(length);
        step(sequence, |sequence| {
            recorder.write(sequence, &part(number + 1, offset, piece))
        })?;
        offset += length as u64;
        rest = more;
    }
    let record = outcome(number);
    let kept = Kept {
        output: number + 1,
        number,
    };
    let write = Write::Record {
        pieces: record.encode(),
        settled: record.settled(),
        keeps: Some(kept),
    };
    step(sequence, |sequence| recorder.write(sequence, &write))
}

/// Offers something until it is taken, as the machine does.
fn step(sequence: &mut u64, mut offer: impl FnMut(u64) -> Result<Written, LogError>) -> Result<(), LogError> {
    *sequence += 1;
    loop {
        match offer(*sequence)? {
            Written::Appended => return Ok(()),
            Written::NoRoom(_) => {}
            Written::OutOfTurn => panic!("it is its turn"),
        }
    }
}

fn read(reader: &LogReader, number: u64) -> Vec<u8> {
    let mut output = reader.output(number).unwrap();
    let (mut all, mut buffer) = (Vec::new(), [0; 7]);
    loop {
        match output.read(&mut buffer).unwrap() {
            0 => return all,
            count => all.extend_from_slice(&buffer[..count]),
        }
    }
}

fn written(numbers: u64) -> (MemoryDisk, Opened) {
    let memory = MemoryDisk::new();
    let disk: Arc<dyn Disk> = Arc::new(memory.clone());
    let mut opened = open(&disk).unwrap();
    let mut sequence = 0;
    for number in 0..numbers {
        write(&mut opened.recorder, &mut sequence, number).unwrap();
    }
    opened.recorder.syncer().sync().unwrap();
    opened.state = {
        let reopened = LogReader::look(disk, dir(), UID).unwrap().unwrap();
        reopened.1
    };
    (memory, opened)
}

#[test]
fn outputs_are_files_that_records_refer_to() {
    let (memory, opened) = written(3);
    let reader = opened.recorder.reader();
    assert_eq!(names(&memory), ["0", "1", "2"]);
    assert_eq!(reader.output_path(2), file(2));
    assert_eq!(read(&reader, 2), output(2));
    let before = read_back(&reader, opened.state.settled(), ONE).unwrap();
    assert_eq!(before.damaged, []);
    let digest = (0..3_u64).map(|number| {
        let head = [
            &number.to_be_bytes()[..],
            &1_u32.to_be_bytes(),
            &[0],
            &0_i32.to_be_bytes(),
        ]
        .concat();
        crc32c::crc32c(&[head, output(number)].concat())
    });
    assert_eq!(
        before.digest,
        digest.fold(0, u32::wrapping_add),
        "as if they were in the record"
    );
    assert!(opened.recorder.bytes() > 3 * output(0).len() as u64);
}

#[test]
fn duplicates_are_compared_by_length_and_checksum() {
    let (_, opened) = written(1);
    let reader = opened.recorder.reader();
    let parted = |bytes: &[u8]| Answer::Parted {
        length: u32::try_from(bytes.len()).expect("short"),
        checksum: crc32c::crc32c(bytes),
    };
    let (own, other) = (output(0), output(1));
    assert!(!differs(&reader, 0, &parted(&own)).unwrap());
    assert!(differs(&reader, 0, &parted(&other)).unwrap());
    assert!(!differs(&reader, 0, &Answer::Bytes(own.into())).unwrap());
    assert!(differs(&reader, 0, &Answer::Bytes(other.into())).unwrap());
}

#[test]
fn a_file_that_is_lost_cut_or_changed_makes_its_number_missing() {
    let (memory, opened) = written(4);
    let reader = opened.recorder.reader();
    memory.remove(&file(0)).unwrap();
    memory.flip_bit(&file(1), 100).unwrap();
    memory.put(&file(2), &output(2)[1..]).unwrap();
    let found = read_back(&reader, opened.state.settled(), ONE).unwrap();
    assert_eq!(found.damaged, [(0, 2)]);
}

#[test]
fn what_no_settled_number_refers_to_is_swept() {
    let (memory, mut opened) = written(2);
    opened
        .recorder
        .write(9, &part(9, 0, b"the beginning of an output"))
        .unwrap();
    memory.put(&file(77), b"of a record that was lost").unwrap();
    assert_eq!(names(&memory), ["0", "1", "77", "9.new"]);
    memory.kill();
    let disk: Arc<dyn Disk> = Arc::new(memory.clone());
    let opened = open(&disk).unwrap();
    assert_eq!(names(&memory), ["0", "1"]);
    assert_eq!(
        read_back(&opened.recorder.reader(), opened.state.settled(), ONE)
            .unwrap()
            .damaged,
        []
    );
}

#[test]
fn a_discarded_output_is_removed_and_its_late_parts_are_dropped() {
    let (memory, mut opened) = written(1);
    let recorder = &mut opened.recorder;
    let before = recorder.bytes();
    assert!(matches!(
        recorder.write(5, &part(9, 0, b"abc")).unwrap(),
        Written::Appended
    ));
    recorder.discard(9).unwrap();
    assert!(matches!(
        recorder.write(6, &part(9, 3, b"def")).unwrap(),
        Written::Appended
    ));
    assert!(matches!(
        recorder.write(7, &part(10, 0, b"")).unwrap(),
        Written::Appended
    ));
    assert_eq!(names(&memory), ["0"]);
    assert_eq!(recorder.bytes(), before);
}

#[test]
fn a_part_that_found_no_room_is_written_whole_when_there_is_some() {
    let (memory, mut opened) = written(1);
    let recorder = &mut opened.recorder;
    recorder.write(5, &part(9, 0, b"abc")).unwrap();
    memory.set_capacity(Some(memory.used() + 2));
    assert!(matches!(
        recorder.write(6, &part(9, 3, b"defg")).unwrap(),
        Written::NoRoom(_)
    ));
    assert!(matches!(
        recorder.write(7, &part(9, 7, b"hi")).unwrap(),
        Written::OutOfTurn
    ));
    memory.set_capacity(None);
    recorder.write(6, &part(9, 3, b"defg")).unwrap();
    recorder.write(7, &part(9, 7, b"hi")).unwrap();
    assert_eq!(memory.contents(&dir().join("outputs/9.new")).unwrap(), b"abcdefghi");
}

#[test]
fn the_limit_of_a_log_counts_outputs() {
    let memory = MemoryDisk::new();
    let config = LogConfig {
        max_bytes: Some(20_000),
        ..LogConfig::default()
    };
    let open = || {
        Recorder::open(Arc::new(memory.clone()), dir(), UID, config, true)
            .unwrap()
            .unwrap()
    };
    let mut recorder = open().recorder;
    assert!(matches!(
        recorder.write(1, &part(1, 0, &vec![0; 17_000])).unwrap(),
        Written::Appended
    ));
    assert!(matches!(
        recorder.write(2, &part(1, 17_000, &[0; 1_000])).unwrap(),
        Written::NoRoom(_)
    ));
    recorder.discard(1).unwrap();
    assert!(matches!(
        recorder.write(2, &part(2, 0, &[0; 1_000])).unwrap(),
        Written::Appended
    ));
}

const NUMBERS: u64 = 6;

/// Writes all numbers that are missing, with a sync now and then. Returns how many were synced in `durable`.
fn run(disk: &Arc<dyn Disk>, durable: &mut u64) -> Result<(), LogError> {
    let mut opened = open(disk)?;
    let mut sequence = 0;
    for number in 0..NUMBERS {
        if opened.state.settled().contains(number) {
            continue;
        }
        write(&mut opened.recorder, &mut sequence, number)?;
        if number % 2 == 1 {
            opened.recorder.syncer().sync()?;
            *durable = (*durable).max(number + 1);
        }
    }
    Ok(())
}

#[test]
fn at_each_call_a_crash_or_an_error_loses_no_output_of_a_record() {
    let count = {
        let faults = FaultDisk::new(Arc::new(MemoryDisk::new()));
        run(&(Arc::new(faults.clone()) as Arc<dyn Disk>), &mut 0).unwrap();
        faults.calls()
    };
    assert!(count > 60, "{count} calls");
    let error = |kind| Fault::Error { kind, written: 3 };
    for fault in [
        Fault::Crash { written: 5 },
        error(ErrorKind::StorageFull),
        error(ErrorKind::Other),
    ] {
        for call in 0..count {
            for power in [false, true] {
                let memory = MemoryDisk::new();
                let faults = FaultDisk::new(Arc::new(memory.clone()));
                faults.fail_at(call, fault);
                let mut durable = 0;
                let ran = run(&(Arc::new(faults) as Arc<dyn Disk>), &mut durable);
                if power {
                    memory.crash(call);
                } else {
                    memory.kill();
                }
                let disk: Arc<dyn Disk> = Arc::new(memory.clone());
                let what = format!("{fault:?} at call {call}, power lost: {power}, {ran:?}");
                let opened = open(&disk).unwrap_or_else(|error| panic!("{what}: {error}"));
                let settled = opened.state.settled().clone();
                assert!(settled.low() >= durable, "{what}: {durable} were durable");
                let found = read_back(&opened.recorder.reader(), &settled, ONE).unwrap();
                assert_eq!(found.damaged, [], "{what}");
                let kept: Vec<String> = settled
                    .spans()
                    .flat_map(|(a, b)| a..=b)
                    .map(|n| n.to_string())
                    .collect();
                assert_eq!(names(&memory), kept, "{what}");
                drop(opened);
                run(&disk, &mut durable).unwrap_or_else(|error| panic!("{what}: {error}"));
            }
        }
    }
}
