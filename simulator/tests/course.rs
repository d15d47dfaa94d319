//! The course of a batch when nothing, or hardly anything, goes wrong.
#![allow(
    clippy::indexing_slicing,
    clippy::unchecked_time_subtraction,
    reason = "a test may panic"
)]

mod stage;

use std::time::Duration;

use harmony_protocol::wire::{Ending, Message};
use harmony_simulator::host::Input;
use harmony_simulator::observation::Verdict;
use harmony_simulator::world::World;
use stage::{LONG, attempts, count, dispatched, settings, succeeded, world};

#[test]
fn every_number_goes_out_once_and_is_recorded_once() {
    let mut world = world(settings(100, 2));
    world.run();
    let mut sent = attempts(&world);
    sent.sort_unstable();
    assert_eq!(sent, (0..100).map(|number| (number, 1)).collect::<Vec<_>>());
    let done = world.durable(0).ended.expect("it ended");
    assert_eq!(
        (done.ending, done.counts.succeeded, done.counts.duplicates),
        (Ending::Complete, 100, 0)
    );
}

#[test]
fn nothing_to_do_is_done_at_once() {
    let mut world = world(settings(0, 2));
    world.run_until(Duration::from_secs(1), World::all_ended);
    world.run();
    assert_eq!(count(&world, |message| matches!(message, Message::Tasks(_))), 0);
}

/// The sizes of the messages with tasks that took so long each.
fn sizes(tasks: u64, duration: Duration) -> Vec<usize> {
    let mut settings = settings(tasks, 4);
    settings.batches[0].duration = duration;
    let mut world = world(settings);
    world.run();
    let messages = dispatched(&world);
    messages.iter().map(|(_, _, tasks)| tasks.entries.len()).collect()
}

/// The largest message holds at least so many tasks, and each of the last four at most so many.
fn assert_shrinks(sizes: &[usize], largest_least: usize, end_most: usize) {
    let largest = sizes.iter().max().copied().unwrap_or_default();
    assert!(
        largest >= largest_least,
        "tasks never went out in large messages: {largest} at most"
    );
    let end = &sizes[sizes.len() - 4..];
    assert!(
        end.iter().all(|size| *size <= end_most),
        "the last messages are large: {end:?}"
    );
}

#[test]
fn shares_of_long_tasks_shrink_to_one_for_each_slot() {
    assert_shrinks(&sizes(400, Duration::from_millis(50)), 4, 2);
}

#[test]
fn shares_of_short_tasks_shrink_to_what_is_worth_a_round_trip() {
    let sizes = sizes(20_000, Duration::from_micros(200));
    // 25 ms of work for two slots.
    assert_shrinks(&sizes, 400, 250);
    let last: usize = sizes[sizes.len() - 12..].iter().sum();
    assert!(last >= 100, "the last 12 messages hold crumbs: {last} tasks in all");
}

#[test]
fn a_cancelled_batch_ends_early_and_everywhere() {
    let mut world = world(settings(500, 2));
    world.run_until(LONG, |world| succeeded(world) >= 50);
    world.tell("ventilator-0", Input::Cancel);
    world.run();
    let done = world.durable(0).ended.expect("it ended");
    assert!(
        matches!(&done.ending, Ending::Cancelled(reason) if reason.contains("user")),
        "{:?}",
        done.ending
    );
    assert!(
        done.counts.succeeded >= 50 && done.counts.succeeded < 500,
        "{:?}",
        done.counts
    );
    let told = count(&world, |message| matches!(message, Message::Cancel(_)));
    assert_eq!(told, 3, "the collector, then both workers");
}

#[test]
fn an_executor_that_cannot_run_fails_the_batch_early() {
    let mut settings = settings(500, 2);
    settings.workers.iter_mut().for_each(|worker| worker.broken = true);
    let mut world = world(settings);
    world.run_until(Duration::from_secs(1), World::all_ended);
    let verdict = &world.checker.verdicts()[0].1;
    assert!(
        matches!(verdict, Verdict::Failed(reason) if reason.contains("no such program")),
        "{verdict:?}"
    );
    assert_eq!(count(&world, |message| matches!(message, Message::Tasks(_))), 0);
}
