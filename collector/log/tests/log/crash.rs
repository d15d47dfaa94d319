//! A crash and an error at every single call of the disk.

use std::io::ErrorKind;
use std::sync::Arc;

use harmony_log::disk::Disk;
use harmony_log::fault::{Fault, FaultDisk};
use harmony_log::memory::MemoryDisk;
use harmony_log::{Log, LogError};

use crate::model::{append, assert_reads, open};

/// Enough for four segments, two kept checkpoints and one removed.
const RECORDS: u64 = 60;
/// Bytes that a torn append leaves: nothing, a part of a header, a header and some, all of it.
const TORN: [usize; 4] = [0, 13, 90, usize::MAX];

/// How far a run came.
#[derive(Clone, Copy, Debug, Default)]
struct Progress {
    /// Records that were tried to be appended; the last of them may have failed.
    tried: u64,
    synced: u64,
}

/// Opens the log and appends up to [`RECORDS`], with a sync now and then and a checkpoint at each rotation.
fn run(disk: &Arc<dyn Disk>, progress: &mut Progress) -> Result<(), LogError> {
    let (mut log, _, replayed) = open(disk)?;
    let from = replayed.prefix();
    // What was replayed is durable.
    progress.synced = from;
    for at in from..RECORDS {
        progress.tried = at + 1;
        step(&mut log, at, progress)?;
    }
    progress.synced = log.syncer().sync()?.sequence;
    Ok(())
}

fn step(log: &mut Log, at: u64, progress: &mut Progress) -> Result<(), LogError> {
    let appended = append(log, at)?;
    if appended.rotated || at.is_multiple_of(4) {
        progress.synced = log.syncer().sync()?.sequence;
    }
    if appended.rotated {
        log.syncer().checkpoint(appended.position, &(at + 1).to_be_bytes())?;
    }
    Ok(())
}

fn faulty(memory: &MemoryDisk) -> (FaultDisk, Arc<dyn Disk>) {
    let faults = FaultDisk::new(Arc::new(memory.clone()));
    (faults.clone(), Arc::new(faults))
}

fn calls_of_a_run() -> u64 {
    let (faults, disk) = faulty(&MemoryDisk::new());
    run(&disk, &mut Progress::default()).expect("no fault");
    faults.calls()
}

/// What was synced is there, with a beginning of what was not; nothing is taken for damage; the log goes on.
fn assert_recovers(memory: &MemoryDisk, progress: Progress, what: &str) {
    let disk: Arc<dyn Disk> = Arc::new(memory.clone());
    let (mut log, recovery, replayed) = open(&disk).expect(what);
    assert!(
        recovery.damage.is_none() && recovery.set_aside.is_empty(),
        "{what}: {recovery:?}"
    );
    let records = replayed.prefix();
    assert!(
        (progress.synced..=progress.tried).contains(&records),
        "{what}: {records} of {progress:?}"
    );
    for at in records..records + 3 {
        append(&mut log, at).expect(what);
    }
    assert_reads(&log.reader(), records + 3);
    log.syncer().sync().expect(what);
    drop(log);
    memory.crash(0);
    assert_eq!(open(&disk).expect(what).2.prefix(), records + 3, "{what}");
}

#[test]
fn a_killed_process_loses_nothing_that_it_wrote() {
    for call in 0..calls_of_a_run() {
        for written in TORN {
            let memory = MemoryDisk::new();
            let (faults, disk) = faulty(&memory);
            faults.fail_at(call, Fault::Crash { written });
            let mut progress = Progress::default();
            // A failure to tidy up is not reported, and the run can end with it.
            let ended = run(&disk, &mut progress);
            assert!(
                faults.crashed() && (ended.is_err() || call + 1 == faults.calls()),
                "call {call}"
            );
            memory.kill();
            // The kernel has all that was written, so at most the last record is in doubt.
            progress.synced = progress.synced.max(progress.tried.saturating_sub(1));
            assert_recovers(
                &memory,
                progress,
                &format!("killed in call {call} after {written} bytes"),
            );
        }
    }
}

#[test]
fn a_loss_of_power_loses_nothing_that_was_synced() {
    for call in 0..calls_of_a_run() {
        for seed in 0..6 {
            let memory = MemoryDisk::new();
            let (faults, disk) = faulty(&memory);
            faults.fail_at(
                call,
                Fault::Crash {
                    written: TORN[seed % TORN.len()],
                },
            );
            let mut progress = Progress::default();
            let _ended = run(&disk, &mut progress);
            assert!(faults.crashed());
            memory.crash(call * 31 + seed as u64);
            assert_recovers(&memory, progress, &format!("power lost in call {call}, seed {seed}"));
        }
    }
}

#[test]
fn a_crash_while_recovering_from_a_crash_loses_nothing() {
    for first in (5..calls_of_a_run()).step_by(23) {
        for second in 0.. {
            let memory = MemoryDisk::new();
            let (faults, disk) = faulty(&memory);
            faults.fail_at(first, Fault::Crash { written: 50 });
            let mut progress = Progress::default();
            let _ended = run(&disk, &mut progress);
            memory.crash(first);
            let (faults, disk) = faulty(&memory);
            faults.fail_at(second, Fault::Crash { written: 20 });
            let opened = open(&disk);
            if let Ok((_, _, replayed)) = &opened {
                progress.synced = replayed.prefix();
            }
            if !faults.crashed() {
                assert!(second > 7, "opening takes more calls than that");
                break;
            }
            drop(opened);
            memory.crash(second);
            assert_recovers(
                &memory,
                progress,
                &format!("power lost in calls {first} and then {second}"),
            );
        }
    }
}

#[test]
fn after_an_error_of_any_call_the_log_goes_on_or_says_that_it_cannot() {
    for kind in [ErrorKind::Other, ErrorKind::StorageFull] {
        for call in 0..calls_of_a_run() {
            let what = format!("{kind} in call {call}");
            let memory = MemoryDisk::new();
            let (faults, disk) = faulty(&memory);
            faults.fail_at(call, Fault::Error { kind, written: 70 });
            let mut progress = Progress::default();
            if let Err(error) = run(&disk, &mut progress) {
                assert!(
                    error.is_fatal() == !matches!(error, LogError::NoSpace { .. }),
                    "{what}: {error}"
                );
                assert!(
                    !error.is_fatal() || kind == ErrorKind::Other || error.to_string().contains("sync"),
                    "{what}"
                );
            }
            memory.kill();
            let synced = progress.synced;
            run(&disk, &mut progress).expect(&what);
            assert!(progress.synced == RECORDS && synced <= RECORDS);
            let (log, recovery, _) = open(&disk).expect(&what);
            assert!(
                recovery.damage.is_none() && recovery.set_aside.is_empty(),
                "{what}: {recovery:?}"
            );
            assert_reads(&log.reader(), RECORDS);
        }
    }
}

#[test]
fn a_failed_fsync_is_never_tried_again() {
    let mut seen = 0;
    for call in 0..calls_of_a_run() {
        let (faults, disk) = faulty(&MemoryDisk::new());
        let Ok((mut log, ..)) = open(&disk) else {
            unreachable!("no fault yet")
        };
        faults.fail_at(
            call,
            Fault::Error {
                kind: ErrorKind::Other,
                written: 0,
            },
        );
        let mut progress = Progress::default();
        let ended = (0..RECORDS).try_for_each(|at| step(&mut log, at, &mut progress));
        if !matches!(ended, Err(LogError::Io { action: "sync", .. })) {
            continue;
        }
        seen += 1;
        let before = faults.calls();
        assert!(matches!(append(&mut log, 0), Err(LogError::Failed { .. })));
        assert!(matches!(log.syncer().sync(), Err(LogError::Failed { .. })));
        assert!(matches!(
            log.syncer().checkpoint(log.syncer().synced(), &[]),
            Err(LogError::Failed { .. })
        ));
        assert_eq!(faults.calls(), before, "the disk is left alone");
    }
    assert!(seen > 10, "{seen} fsyncs");
}
