//! The checker catches every deliberate bug, and needs no help from the machines for that.

use harmony_protocol::mutant::Mutant;
use harmony_simulator::mutants::{is_caught, run, run_all, settings};

#[test]
fn every_mutant_is_caught_and_the_machines_without_one_are_clean() {
    assert!(run_all(Mutant::ALL, &(0..400)), "see the table above");
}

/// Its second record of a number contradicts what the collector has of it, which `sanity_check` finds at once.
#[test]
fn the_machines_do_not_check_themselves_while_a_mutant_is_judged() {
    let broken = |seed, sanity_checks| {
        let mut settings = settings(seed, None);
        assert!(!settings.sanity_checks);
        settings.sanity_checks = sanity_checks;
        run(Some(Mutant::NoDedup), settings, seed, false).err()
    };
    let ends = |sanity_checks| {
        let runs = (0..200).filter_map(move |seed| broken(seed, sanity_checks));
        runs.partition::<Vec<_>, _>(is_caught)
    };
    let (_, by_a_machine) = ends(true);
    assert!(!by_a_machine.is_empty(), "no machine finds it by itself");
    let (by_the_simulator, by_a_machine) = ends(false);
    assert!(!by_the_simulator.is_empty(), "the checker does not find it");
    assert_eq!(by_a_machine, [], "a machine still checks itself");
}

#[test]
fn a_mutant_is_gone_when_its_run_is_over() {
    let broken = run(Some(Mutant::AckBeforeFsync), settings(0, None), 0, false).unwrap_err();
    assert!(is_caught(&broken), "{broken}");
    assert!(run(None, settings(0, None), 0, false).is_ok());
}
