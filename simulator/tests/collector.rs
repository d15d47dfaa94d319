//! The collector dies, with or without its disk.
#![allow(
    clippy::indexing_slicing,
    clippy::unchecked_time_subtraction,
    reason = "a test may panic"
)]

mod stage;

use std::time::Duration;

use harmony_protocol::limits::UNLOAD_AFTER;
use harmony_simulator::checker::Branch;
use harmony_simulator::world::World;
use stage::{LONG, attempts, settings, succeeded, world, world_of};

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

#[test]
fn an_ack_that_outlives_the_disk_leaves_a_number_that_its_worker_denies() {
    // Whether what a dead collector has said still arrives is up to the dice.
    let denied = |seed| {
        let mut world = world_of(seed, settings(20, 1));
        world.run_until(LONG, |world| succeeded(world) >= 5);
        world.stall_way("collector", "worker-0", true);
        let recorded = world.durable(0).settled.len();
        world.run_until(LONG, |world| world.durable(0).settled.len() > recorded);
        world.kill_named("collector");
        world.lose_disk();
        world.start_named("collector");
        // The worker still holds the number when START asks what it holds, and drops it when the ACK comes.
        world.run_for(SECOND);
        world.stall_way("collector", "worker-0", false);
        world.run();
        world.checker.coverage().count(Branch::AgainAfterDenial) > 0
    };
    assert!((0..10).any(denied), "no number was denied and sent again");
}

#[test]
fn a_batch_left_alone_is_unloaded_and_goes_on_where_it_was() {
    let mut world = world(settings(100, 2));
    world.run_until(LONG, |world| succeeded(world) >= 20);
    world.kill_named("ventilator-0");
    // What is queued at the workers is still recorded, then all of them forget the batch.
    world.run_for(2 * UNLOAD_AFTER);
    let recorded = world.durable(0).settled.len();
    let sent = attempts(&world).len();
    world.start_named("ventilator-0");
    world.run_until(2 * UNLOAD_AFTER + LONG, World::all_ended);
    assert_eq!(
        attempts(&world).len(),
        sent + 100 - recorded,
        "what is recorded runs again"
    );
}
