//! A machine that asks for its timer at a time that has passed would keep its driver busy for nothing. The world panics
//! if one does so again and again.
#![allow(
    clippy::indexing_slicing,
    clippy::unchecked_time_subtraction,
    reason = "a test may panic"
)]

mod stage;

use std::time::Duration;

use harmony_simulator::host::Input;
use stage::{LONG, epoch, settings, succeeded, world};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_worker_that_leaves_waits_for_the_acks_in_peace() {
    let mut world = world(settings(20, 1));
    world.run_until(LONG, |world| succeeded(world) >= 5);
    world.kill_named("collector");
    world.run_for(SECOND);
    world.tell("worker-0", Input::Drain(Duration::from_millis(100)));
    world.run_for(20 * SECOND);
    world.start_named("worker-0");
    world.start_named("collector");
    world.run();
}

#[test]
fn a_takeover_waits_for_a_lost_collector_in_peace() {
    let mut world = world(settings(200, 1));
    world.run_until(LONG, |world| succeeded(world) >= 5);
    world.kill_named("ventilator-0");
    world.start_named("ventilator-0");
    world.run_until(LONG, |world| epoch(world) == 2);
    world.kill_named("collector");
    world.run_for(20 * SECOND);
    world.start_named("collector");
    world.run();
}

#[test]
fn a_refused_bind_waits_for_a_lost_collector_in_peace() {
    let mut world = world(settings(200, 1));
    world.run_until(LONG, |world| succeeded(world) >= 5);
    world.kill_named("ventilator-0");
    world.kill_named("collector");
    world.lose_disk();
    world.start_named("collector");
    world.run_for(SECOND);
    world.kill_named("collector");
    world.run_for(20 * SECOND);
    world.start_named("collector");
    world.start_named("ventilator-0");
    world.run();
}

#[test]
fn a_worker_without_ventilator_keeps_what_it_holds_in_peace() {
    let mut settings = settings(20, 1);
    settings.batches[0].duration = Duration::from_millis(1);
    let mut world = world(settings);
    world.run_until(LONG, |world| succeeded(world) >= 5);
    world.fill_disk(true);
    world.run_for(SECOND);
    world.kill_named("ventilator-0");
    world.run_for(1_200 * SECOND);
    world.fill_disk(false);
    world.start_named("ventilator-0");
    world.run_until(world.elapsed() + LONG, harmony_simulator::world::World::all_ended);
}
