//! I13: outcomes do not depend on who runs what, when, and how many at once.
#![allow(clippy::indexing_slicing, clippy::expect_used, reason = "a test may panic")]

mod stage;

use std::collections::BTreeMap;

use harmony_simulator::facts::End;
use harmony_simulator::tasks::Mix;
use harmony_simulator::worker;
use stage::{settings, world_of};

/// What is recorded in the end: each number's end, and the digest over all bytes.
fn recorded(seed: u64, workers: &[(u32, usize)]) -> (BTreeMap<u64, End>, u32) {
    let mut settings = settings(150, 1);
    settings.batches[0].mix = Mix {
        flaky: 200,
        bad: 100,
        ..Mix::default()
    };
    settings.workers = workers
        .iter()
        .map(|&(slots, window)| worker::Setup {
            slots,
            window,
            ..settings.workers[0]
        })
        .collect();
    let mut world = world_of(seed, settings);
    world.run();
    let facts = world.durable(0);
    let done = facts.ended.expect("it ended");
    (facts.settled, done.digest)
}

#[test]
fn the_same_tasks_have_the_same_outcomes_whoever_runs_them() {
    let first = recorded(1, &[(1, 1)]);
    let failed = first.0.values().filter(|end| end.attempt > 1).count();
    assert!(first.0.len() == 150 && failed > 5, "{failed} were tried again");
    assert_ne!(first.1, 0, "the digest covers something");
    for (seed, workers) in [
        (2, &[(1, 1)][..]),
        (3, &[(4, 1), (2, 1)]),
        (4, &[(1, 4), (2, 4), (3, 1)]),
        (5, &[(2, 1); 20]),
    ] {
        assert_eq!(recorded(seed, workers), first, "seed {seed}, {} workers", workers.len());
    }
}
