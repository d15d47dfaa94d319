//! Links that break in ways that nobody is told of.
#![allow(
    clippy::indexing_slicing,
    clippy::unchecked_time_subtraction,
    reason = "a test may panic"
)]

mod stage;

use std::time::Duration;

use harmony_simulator::world::World;
use stage::{LONG, attempts, settings, succeeded, world, world_of};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_silent_link_is_found_among_busy_ones() {
    let mut settings = settings(100, 8);
    settings.batches[0].duration = Duration::from_millis(100);
    let mut world = world(settings);
    world.run_until(LONG, |world| succeeded(world) >= 20);
    world.clog_between("ventilator-0", "collector");
    let limit = world.elapsed() + 10 * SECOND;
    world.run_until(limit, |world| {
        world.progress("ventilator-0").is_some_and(|p| !p.collector_ready)
    });
    world.run();
}

#[test]
fn a_frozen_worker_is_passed_over_within_the_heartbeat_limit_and_its_late_results_do_no_harm() {
    let mut settings = settings(100, 2);
    settings.batches[0].duration = Duration::from_millis(100);
    let mut world = world(settings);
    world.run_until(LONG, |world| succeeded(world) >= 20);
    world.pause("worker-0", 9 * SECOND);
    let limit = world.elapsed() + 6 * SECOND;
    world.run_until(limit, |world| {
        world.progress("ventilator-0").is_some_and(|p| p.resent.worker_lost > 0)
    });
    world.run();
    assert!(
        world.durable(0).ended.is_some_and(|done| done.counts.duplicates > 0),
        "nothing came late"
    );
}

#[test]
fn a_link_that_breaks_for_a_moment_moves_nothing() {
    let mut settings = settings(2, 4);
    settings.batches[0].duration = Duration::from_secs(2);
    // With these dice all links stand again before the numbers go back to work.
    let mut world = world_of(1, settings);
    world.run_until(LONG, |world| {
        world.progress("ventilator-0").is_some_and(|p| p.in_flight == 2)
    });
    world.run_for(SECOND / 10);
    for worker in 0..4 {
        world.cut_between("ventilator-0", &format!("worker-{worker}"));
    }
    world.run();
    assert_eq!(
        attempts(&world),
        [(0, 1), (1, 1)],
        "what its worker still had went out again"
    );
}

#[test]
fn a_worker_without_collector_is_passed_over_and_used_again() {
    // Whether news of the worker got through used to depend on who pinged first.
    for tenth in 0..10 {
        let mut settings = settings(100, 1);
        settings.batches[0].duration = Duration::from_millis(400);
        let mut world = world(settings);
        world.run_until(LONG, |world| succeeded(world) >= 5);
        world.part_named("collector", "worker-0", true);
        let limit = world.elapsed() + 13 * SECOND;
        world.run_until(limit, |world| workers(world) == 0);
        world.run_for(SECOND / 10 * tenth);
        world.part_named("collector", "worker-0", false);
        let limit = world.elapsed() + 5 * SECOND;
        world.run_until(limit, |world| workers(world) == 1);
        world.run();
    }
}

fn workers(world: &World) -> usize {
    world.progress("ventilator-0").map_or(0, |progress| progress.workers)
}

#[test]
fn late_results_with_other_bytes_are_counted_and_change_nothing() {
    let mut settings = settings(100, 2);
    settings.batches[0].duration = Duration::from_millis(100);
    settings.batches[0].mix.varying = 1_000;
    let mut world = world(settings);
    world.run_until(LONG, |world| succeeded(world) >= 20);
    world.pause("worker-0", 9 * SECOND);
    world.run();
    let counts = world.durable(0).ended.expect("it ended").counts;
    assert!(counts.differing > 0, "{counts:?}");
}
