//! Runs of random seeds. A failing seed prints the command that shows what happened.

use harmony_simulator::run;

#[test]
fn two_runs_of_a_seed_are_the_same() {
    for seed in [1, 2, 3] {
        let (first, second) = (run(seed, false), run(seed, false));
        assert_eq!(first.hash, second.hash, "seed {seed}");
        assert!(first.events > 50, "seed {seed} has hardly any events");
    }
}
