//! Attempts, retries and final failures.
#![allow(
    clippy::indexing_slicing,
    clippy::unchecked_time_subtraction,
    reason = "a test may panic"
)]

mod stage;

use std::time::Duration;

use harmony_protocol::wire::{Message, OutcomeCode};
use harmony_simulator::settings::Settings;
use harmony_simulator::tasks::Nature;
use harmony_simulator::world::World;
use stage::{attempts, settings, world};

fn with_nature(completions: u64, number: u64, nature: Nature) -> Settings {
    let mut settings = settings(completions, 2);
    settings.batches[0].backoff_limit = 2;
    settings.batches[0].natures.insert(number, nature);
    settings
}

/// When each attempt at a number left.
fn departures(world: &World, number: u64) -> Vec<Duration> {
    let sent = world.sent().iter().filter(|sent| match &sent.message {
        Message::Tasks(tasks) => tasks.entries.iter().any(|entry| entry.number == number),
        _ => false,
    });
    sent.map(|sent| sent.at).collect()
}

#[test]
fn a_number_that_always_fails_is_tried_again_with_growing_pauses_and_then_fails() {
    let mut world = world(with_nature(10, 3, Nature::Bad));
    world.run();
    let times = departures(&world, 3);
    assert_eq!(times.len(), 3, "backoffLimitPerIndex 2 allows three attempts");
    assert!(times[1] - times[0] >= Duration::from_millis(100), "{times:?}");
    assert!(times[2] - times[1] >= Duration::from_millis(200), "{times:?}");
    let end = world.durable(0).settled[&3];
    assert_eq!((end.outcome, end.attempt), (OutcomeCode::ExitCode, 3));
    assert_eq!(world.durable(0).settled.len(), 10, "the batch went on");
}

#[test]
fn a_number_that_succeeds_at_its_last_attempt_has_succeeded() {
    let mut world = world(with_nature(10, 3, Nature::Flaky(2)));
    world.run();
    let end = world.durable(0).settled[&3];
    assert_eq!((end.outcome, end.attempt), (OutcomeCode::Succeeded, 3));
    assert_eq!(world.durable(0).charged.len(), 2);
}

#[test]
fn a_payload_that_no_worker_takes_is_never_sent() {
    let mut world = world(with_nature(10, 3, Nature::TooLarge));
    world.run();
    assert_eq!(attempts(&world).len(), 9);
    assert_eq!(world.durable(0).settled[&3].outcome, OutcomeCode::PayloadTooLarge);
}

#[test]
fn an_answer_that_is_too_long_fails_each_time_and_one_just_within_the_limit_does_not() {
    let mut settings = with_nature(10, 3, Nature::Oversized);
    settings.batches[0].natures.insert(4, Nature::Huge);
    let mut world = world(settings);
    world.run();
    let settled = world.durable(0).settled;
    assert_eq!(
        (settled[&3].outcome, settled[&3].attempt),
        (OutcomeCode::ResultTooLarge, 3)
    );
    assert_eq!((settled[&4].outcome, settled[&4].attempt), (OutcomeCode::Succeeded, 1));
}
