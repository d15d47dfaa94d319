//! A log on a disk in memory: written, synced, sealed with indexes, read back whole, and read by number.

use std::hint::black_box;
use std::num::NonZero;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use harmony_log::memory::MemoryDisk;
use harmony_log::read_back::read_back;
use harmony_log::{Cursor, LogConfig, Recorder, Written};
use harmony_protocol::collector::{BatchState, Outcomes, Record, Write};
use harmony_protocol::ids::{BatchUid, LogId};
use uuid::Uuid;

use crate::outcomes::{pieces, successes};

const RECORDS: u32 = 50;
/// Outcomes of one record.
const OUTCOMES: u32 = 1_000;
/// Small, so that some segments are sealed and indexed.
const SEGMENT_BYTES: u64 = 1 << 20;

pub(crate) fn run() -> Result<()> {
    let config = LogConfig {
        segment_bytes: SEGMENT_BYTES,
        new_log: Some(LogId(Uuid::from_u128(1))),
        ..LogConfig::default()
    };
    let (disk, uid) = (Arc::new(MemoryDisk::new()), BatchUid(Uuid::from_u128(2)));
    let opened = Recorder::open(disk, Path::new("/log"), uid, config, true)?;
    let mut recorder = opened.context("a log that is to be made is there")?.recorder;
    let state = write(&mut recorder)?;
    read(&recorder, &state)
}

fn write(recorder: &mut Recorder) -> Result<BatchState> {
    let (syncer, bytes) = (recorder.syncer(), pieces(OUTCOMES));
    let mut state = BatchState::default();
    for at in 0..RECORDS {
        let record = Record::Outcomes(Outcomes {
            worker: "worker".to_owned(),
            final_failures: Vec::new(),
            results: successes(u64::from(at) * u64::from(OUTCOMES), OUTCOMES, &bytes),
        });
        let sequence = u64::from(at) + 1;
        let written = recorder.write(sequence, &Write::from(&record))?;
        ensure!(matches!(written, Written::Appended), "record {sequence}: {written:?}");
        state.apply(&record);
        syncer.sync()?;
        recorder.synced(sequence);
    }
    Ok(state)
}

fn read(recorder: &Recorder, state: &BatchState) -> Result<()> {
    let reader = recorder.reader();
    let found = read_back(&reader, state.settled(), NonZero::<usize>::MIN)?;
    ensure!(found.damaged.is_empty(), "damaged: {:?}", found.damaged);
    let mut cursor = Cursor::new(&reader);
    let mut outcomes = 0;
    for place in reader.in_order(0) {
        let (_, location) = place?;
        outcomes += u32::from(black_box(cursor.outcome(location)?).is_some());
    }
    ensure!(outcomes == RECORDS * OUTCOMES, "{outcomes} outcomes are read");
    Ok(())
}
