//! The collector dies, with or without its disk.
#![allow(
    clippy::indexing_slicing,
    clippy::unchecked_time_subtraction,
    reason = "a test may panic"
)]

mod stage;

use std::time::Duration;

use stage::{LONG, attempts, settings, succeeded, world};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_dead_collector_costs_no_execution_while_its_disk_lives() {
    let mut world = world(settings(60, 2));
    for kill in 1..=4 {
        world.run_until(LONG, |world| succeeded(world) >= 10 * kill);
        world.kill_named("collector");
        world.run_for(SECOND / 2);
        world.start_named("collector");
    }
    world.run();
    assert_eq!(
        attempts(&world).len(),
        60,
        "something went out twice: {:?}",
        attempts(&world)
    );
}

#[test]
fn a_lost_disk_costs_executions_but_no_number() {
    let mut world = world(settings(100, 2));
    world.run_until(LONG, |world| succeeded(world) >= 20);
    // What is acked now is not reported, and lost with the disk: it is in flight nowhere, and settled nowhere.
    world.clog_between("ventilator-0", "collector");
    world.run_for(SECOND);
    world.kill_named("collector");
    world.lose_disk();
    world.start_named("collector");
    world.run();
}
