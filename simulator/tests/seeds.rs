//! Runs of random seeds. A failing seed prints the command that shows what happened; `HARMONY_SEED=n` runs only that
//! one, with its trace.

use std::env;
use std::ops::Range;

use harmony_simulator::command::{Limit, Sum, failure, run_seeds};
use harmony_simulator::faults::FAULTS;
use harmony_simulator::run;

/// Runs these seeds, and fails after all of them if one broke a rule.
fn run_all(seeds: Range<u64>) -> Sum {
    if let Some(seed) = env::var("HARMONY_SEED").ok().and_then(|seed| seed.parse().ok()) {
        let mut sum = Sum::default();
        sum.add(&run(seed, true));
        return sum;
    }
    let runs = run_seeds(seeds.start, Limit::Seeds(seeds.end - seeds.start), true);
    let failed: Vec<String> = runs
        .broken
        .iter()
        .map(|(seed, broken)| failure(*seed, broken))
        .collect();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    let sum = runs.sum;
    // A suite in which nothing happens would pass as well.
    for fault in FAULTS {
        let hits = sum.tally.hits.get(&fault).copied().unwrap_or_default();
        assert!(hits >= 5, "{fault:?} struck {hits} times while numbers were in flight");
    }
    let unseen = sum.coverage.unseen(sum.seeds);
    assert!(unseen.is_empty(), "{unseen:?} never came about");
    sum
}

#[test]
fn batches_end_complete_whatever_happens() {
    let sum = run_all(0..200);
    let [done, cancelled, fenced] = sum.tally.verdicts;
    assert!(done > 100 && cancelled > 0 && fenced > 0, "{:?}", sum.tally.verdicts);
}

#[test]
fn batches_end_complete_whatever_else_happens() {
    let sum = run_all(200..600);
    let [lost, missing, retried, returned, _] = sum.tally.resent;
    assert!(
        lost > 0 && missing > 0 && retried > 0 && returned > 0,
        "{:?}",
        sum.tally.resent
    );
}

#[test]
fn two_runs_of_a_seed_are_the_same() {
    let mut events = 0;
    for seed in 1000..1010 {
        let (first, second) = (run(seed, false), run(seed, false));
        assert_eq!(first.hash, second.hash, "seed {seed}");
        events += first.events;
    }
    assert!(events > 1_000, "ten seeds have hardly any events: {events}");
}
