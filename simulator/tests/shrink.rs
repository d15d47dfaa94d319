//! A failing run is made small: planted rules stand for real ones.

use harmony_simulator::broken::Broken;
use harmony_simulator::faults::Fault;
use harmony_simulator::settings::Settings;
use harmony_simulator::shrink::{Less, LessList, shrink};
use harmony_simulator::{Run, attempt};

/// Runs settings under one more rule: these two faults must not strike in one run.
fn run(settings: &Settings, seed: u64, one: Fault, other: Fault) -> Run {
    let mut run = attempt(settings.clone(), seed, false);
    let times = |fault| run.struck.iter().filter(|(kind, _)| *kind == fault).count();
    if times(one) > 0 && times(other) > 0 {
        run.outcome = Err(Broken {
            message: format!("{one} struck {} times and {other} {} times", times(one), times(other)),
            place: "the test".to_owned(),
        });
    }
    run
}

#[test]
fn only_what_breaks_the_rule_is_left() {
    let (one, other) = (Fault::KillWorker, Fault::Cut);
    let breaks = |seed: &u64| run(&Settings::of(*seed), *seed, one, other).outcome.is_err();
    for seed in (0..).filter(breaks).take(3) {
        let settings = Settings::of(seed);
        let smallest = shrink(&settings, |settings| run(settings, seed, one, other)).unwrap();
        // Nothing more can go.
        let left = smallest.settings.faults.iter().map(|(fault, _)| Less::Without(*fault));
        let struck = run(&smallest.settings, seed, one, other).struck;
        let strikes = struck.iter().map(|(fault, ordinal)| Less::Skip(*fault, *ordinal));
        for less in left.chain(strikes) {
            let mut settings = smallest.settings.clone();
            less.apply(&mut settings);
            assert!(
                run(&settings, seed, one, other).outcome.is_ok(),
                "seed {seed}: {less} is too much"
            );
        }
        let sizes = |settings: &Settings| (settings.faults.len(), settings.workers.len(), settings.batches.len());
        assert!(sizes(&smallest.settings) < sizes(&settings), "seed {seed}");
        // What is printed runs again, to the same end.
        let less: LessList = smallest.less.to_string().parse().unwrap();
        let again = run(&less.applied(settings), seed, one, other);
        assert_eq!(again.outcome.map(|_| ()), Err(smallest.broken), "seed {seed}");
    }
}

#[test]
fn a_run_that_breaks_no_rule_has_nothing_to_shrink() {
    assert!(shrink(&Settings::calm(5), |settings| attempt(settings.clone(), 1, false)).is_none());
}
