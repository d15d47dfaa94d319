//! The disk of the collector fails, and its log with it.
#![allow(clippy::unchecked_time_subtraction, reason = "a test may panic")]

mod stage;

use std::time::Duration;

use harmony_simulator::disk::Mended;
use harmony_simulator::faults::Fault;
use stage::{LONG, settings, succeeded, world, world_of};

const MILLI: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// Runs some worlds with small segments and many checkpoints, in which the collector dies and this goes wrong. Returns
/// what opening the logs came upon, and how many numbers were in records that were damaged.
fn mended(fault: Fault) -> (Mended, u64) {
    let (mut sum, mut damages) = (Mended::default(), 0);
    for seed in 0..20 {
        let mut settings = settings(200, 4);
        settings.collector.segment_bytes = 4 << 10;
        settings.collector.checkpoint_bytes = 1 << (seed % 20);
        settings.collector.fsync = 20 * MILLI;
        settings.faults = vec![(fault, 30 * MILLI), (Fault::KillCollector, 100 * MILLI)];
        settings.until = 2 * SECOND;
        settings.restart = 10 * MILLI;
        let mut world = world_of(seed, settings);
        world.run();
        let mended = world.mended();
        sum.torn += mended.torn;
        sum.damaged += mended.damaged;
        sum.restored += mended.restored;
        sum.set_aside += mended.set_aside;
        sum.rebuilt += mended.rebuilt;
        damages += world.durable(0).damages;
    }
    (sum, damages)
}

#[test]
fn flipped_bits_cost_executions_but_no_number() {
    let (mended, damages) = mended(Fault::BitFlip);
    let Mended {
        torn,
        damaged,
        restored,
        set_aside,
        rebuilt,
    } = mended;
    let least = torn.min(damaged).min(restored).min(set_aside).min(rebuilt).min(damages);
    assert!(least > 0, "{mended:?}, {damages} damages");
}

#[test]
fn a_collector_that_dies_in_any_call_of_its_disk_loses_nothing() {
    let (mended, damages) = mended(Fault::DiskCrash);
    assert!(mended.torn > 0 && mended.restored > 0, "{mended:?}");
    assert_eq!(
        (mended.damaged, damages),
        (0, 0),
        "a crash looks like damage: {mended:?}"
    );
}

#[test]
fn a_disk_that_fails_is_known_again_after_a_restart() {
    let (mended, damages) = mended(Fault::DiskError);
    assert!(mended.restored > 0, "{mended:?}");
    assert_eq!(
        (mended.damaged, damages),
        (0, 0),
        "a failure looks like damage: {mended:?}"
    );
}

#[test]
fn a_log_is_made_when_the_full_disk_has_room() {
    let mut world = world(settings(10, 2));
    world.fill_disk(true);
    world.run_for(5 * SECOND);
    assert_eq!(succeeded(&world), 0);
    assert!(world.durable(0).claims.is_empty());
    world.fill_disk(false);
    world.run_until(LONG, |world| succeeded(world) == 10);
    world.run();
}
