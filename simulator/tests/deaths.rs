//! Workers die, leave, or only seem to be dead.
#![allow(
    clippy::indexing_slicing,
    clippy::unchecked_time_subtraction,
    reason = "a test may panic"
)]

mod stage;

use std::time::Duration;

use harmony_protocol::wire::{Loss, Message, OutcomeCode, ReturnCause};
use harmony_simulator::host::Input;
use harmony_simulator::settings::Settings;
use harmony_simulator::tasks::Nature;
use harmony_simulator::world::World;
use stage::{LONG, attempts, count, dispatched, settings, succeeded, was_sent, world};

const SECOND: Duration = Duration::from_secs(1);

/// One number ends every worker that runs it.
fn poisoned(workers: usize) -> Settings {
    let mut settings = settings(30, workers);
    settings.batches[0].backoff_limit = 1;
    settings.batches[0].natures.insert(5, Nature::Poison);
    settings.restart = Duration::from_millis(100);
    settings
}

/// Whether each dispatch of a number was alone.
fn dispatches_of(world: &World, number: u64) -> Vec<bool> {
    let with = |entries: &[harmony_protocol::wire::TaskEntry]| entries.iter().any(|entry| entry.number == number);
    dispatched(world)
        .iter()
        .filter(|(_, _, tasks)| with(&tasks.entries))
        .map(|(_, _, tasks)| tasks.alone)
        .collect()
}

fn deaths_logged(world: &World) -> usize {
    count(
        world,
        |message| matches!(message, Message::Lost(lost) if matches!(lost.loss, Loss::Death { .. })),
    )
}

#[test]
fn the_numbers_of_a_dead_worker_go_out_again_at_once() {
    let mut world = world(settings(200, 2));
    world.run_until(LONG, |world| succeeded(world) >= 50);
    world.kill_named("worker-0");
    let killed = world.elapsed();
    world.run_until(LONG, |world| {
        world.progress("ventilator-0").is_some_and(|p| p.resent.worker_lost > 0)
    });
    assert!(
        world.elapsed() - killed < SECOND / 10,
        "it took {:?}",
        world.elapsed() - killed
    );
    world.run();
}

#[test]
fn a_number_at_three_deaths_runs_alone_and_only_then_is_charged() {
    let mut world = world(poisoned(3));
    world.run();
    assert_eq!(dispatches_of(&world, 5), [false, false, false, true, true]);
    let durable = world.durable(0);
    assert_eq!(
        (durable.settled[&5].outcome, durable.settled[&5].attempt),
        (OutcomeCode::WorkerLost, 2)
    );
    assert_eq!(
        durable.charged.len(),
        2,
        "nobody else is to blame: {:?}",
        durable.charged
    );
}

#[test]
fn a_death_before_a_lone_number_has_begun_is_not_charged() {
    let mut world = world(poisoned(2));
    world.run_until(LONG, |world| dispatches_of(world, 5).contains(&true));
    // The number is on its way.
    let announced = |message: &Message| matches!(message, Message::Credit(credit) if credit.alone.is_some());
    assert_eq!(count(&world, announced), 0, "it began at once");
    for worker in ["worker-0", "worker-1"] {
        world.kill_named(worker);
        world.start_named(worker);
    }
    world.run();
    let alone = dispatches_of(&world, 5).iter().filter(|alone| **alone).count();
    assert!(alone >= 3, "two charged attempts, and one that had not begun");
    assert_eq!(world.durable(0).settled[&5].attempt, 2);
}

#[test]
fn a_worker_that_leaves_hands_back_what_it_has_not_begun() {
    let mut settings = settings(40, 2);
    settings.batches[0].duration = Duration::from_millis(300);
    settings.restart = LONG;
    let mut world = world(settings);
    world.run_until(LONG, |world| succeeded(world) >= 10);
    world.tell("worker-0", Input::Drain(5 * SECOND));
    world.run();
    let handed_back: Vec<u64> = world
        .sent()
        .iter()
        .filter_map(|sent| match &sent.message {
            Message::Return(returned) if returned.cause == ReturnCause::Drain => Some(&returned.tasks),
            _ => None,
        })
        .flatten()
        .flat_map(|task| task.first..=task.last)
        .collect();
    assert!(!handed_back.is_empty(), "it had nothing to hand back");
    for number in &handed_back {
        assert!(was_sent(&world, "worker-1", *number), "{number} went nowhere else");
    }
    assert_eq!(
        attempts(&world).len(),
        40 + handed_back.len(),
        "only what was handed back went out again"
    );
    assert_eq!(deaths_logged(&world), 0, "nobody died");
}

#[test]
fn a_worker_that_held_nothing_is_nobodys_death() {
    let mut world = world(settings(20, 2));
    // It is cut off before it gets anything, for so long that it counts as dead.
    world.part_named("ventilator-0", "worker-0", true);
    world.run_until(LONG, |world| succeeded(world) >= 1);
    world.tell("ventilator-0", Input::WorkerExited("worker-0".into(), true));
    world.run();
    assert_eq!(deaths_logged(&world), 0);
}
