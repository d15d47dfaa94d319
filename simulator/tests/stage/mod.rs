//! What scenario tests share: a world that keeps what is sent, and questions about it.
#![allow(dead_code)] // each test binary uses some of it

use std::time::Duration;

use harmony_protocol::limits::QUEUE_BYTES;
use harmony_protocol::wire::{Message, Tasks};
use harmony_simulator::settings::Settings;
use harmony_simulator::trace::Trace;
use harmony_simulator::worker;
use harmony_simulator::world::World;

/// The longest virtual time that a scenario may take.
pub(crate) const LONG: Duration = Duration::from_mins(10);

/// One batch and these workers, with one slot each.
pub(crate) fn settings(completions: u64, workers: usize) -> Settings {
    let mut settings = Settings::calm(completions);
    settings.workers = vec![
        worker::Setup {
            slots: 1,
            window: 1,
            queue_bytes: QUEUE_BYTES,
            broken: false,
        };
        workers
    ];
    settings
}

/// A world that begins.
pub(crate) fn world(settings: Settings) -> World {
    world_of(1, settings)
}

/// A world that begins, with dice of its own.
pub(crate) fn world_of(seed: u64, settings: Settings) -> World {
    let mut trace = Trace::new(std::env::var_os("HARMONY_TRACE").is_some());
    trace.kept = Some(Vec::new());
    World::new(settings, seed, trace)
}

/// All TASKS that left, with sender and receiver.
pub(crate) fn dispatched(world: &World) -> Vec<(String, String, Tasks)> {
    let tasks = world.sent().iter().filter_map(|sent| match &sent.message {
        Message::Tasks(tasks) => Some((sent.from.clone(), sent.to.clone(), tasks.clone())),
        _ => None,
    });
    tasks.collect()
}

/// Every number and attempt that left, in order.
pub(crate) fn attempts(world: &World) -> Vec<(u64, u32)> {
    let tasks = dispatched(world).into_iter();
    tasks
        .flat_map(|(_, _, tasks)| tasks.entries)
        .map(|entry| (entry.number, entry.attempt))
        .collect()
}

/// How many messages left that pass a test.
pub(crate) fn count(world: &World, test: impl Fn(&Message) -> bool) -> usize {
    world.sent().iter().filter(|sent| test(&sent.message)).count()
}

/// Whether a worker was sent this number.
pub(crate) fn was_sent(world: &World, worker: &str, number: u64) -> bool {
    dispatched(world)
        .iter()
        .any(|(_, to, tasks)| to == worker && tasks.entries.iter().any(|e| e.number == number))
}

/// How many numbers the first ventilator knows to have succeeded.
pub(crate) fn succeeded(world: &World) -> u64 {
    world
        .progress("ventilator-0")
        .map_or(0, |progress| progress.counts.succeeded)
}

/// The epoch of the first ventilator.
pub(crate) fn epoch(world: &World) -> u64 {
    world.progress("ventilator-0").map_or(0, |progress| progress.epoch)
}
