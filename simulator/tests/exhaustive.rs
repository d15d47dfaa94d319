//! All courses of a small fleet, and bugs that the search must find.

#![allow(
    clippy::panic,
    clippy::expect_used,
    reason = "the helpers of a test may panic, as the test may"
)]

use harmony_simulator::exhaustive::{Plant, Scope, Seen, Size, VICTIMS, Victim, scopes};

/// Goes through the scopes of a size, prints what each is, and returns how many states there were.
fn search_all(size: Size) -> usize {
    let mut states = 0;
    for (what, scope) in scopes(size) {
        match scope.search() {
            Ok(seen) => {
                println!("{what}: {seen}");
                states += seen.states;
            }
            Err(violation) => {
                let (story, _) = scope.replay(&violation.path);
                panic!("{what}: {}\n{story}", violation.broken);
            }
        }
    }
    states
}

#[test]
fn a_small_fleet_keeps_all_rules_in_all_its_courses() {
    let states = search_all(Size::Small);
    assert!(
        states > 2_500_000,
        "only {states} states: the search leaves something out"
    );
}

#[test]
#[ignore = "some ten minutes on one core"]
fn a_small_fleet_keeps_all_rules_in_very_many_courses() {
    let states = search_all(Size::Full);
    assert!(
        states > 6_000_000,
        "only {states} states: the search leaves something out"
    );
}

#[test]
fn without_choices_there_is_one_course() {
    let seen = Scope::new(2, 3).holding(0, false).search().expect("no rule is broken");
    assert_eq!((seen.ends, seen.states as u64), (1, seen.transitions + 1));
}

#[test]
fn two_searches_see_the_same() {
    let scope = Scope::new(1, 2).struck(1, &[Victim::Link]);
    let figures = |seen: Seen| (seen.states, seen.transitions, seen.ends, seen.depth);
    let [one, other] = [0, 1].map(|_| scope.search().map(figures).expect("no rule is broken"));
    assert_eq!(one, other);
}

/// Searches a fleet with a bug in it, and checks that the path leads there again. Returns what is wrong, and the path.
fn found(scope: &Scope) -> (String, String) {
    let violation = scope.search().expect_err("there is a bug");
    let (story, broken) = scope.replay(&violation.path);
    println!("{}, after\n{story}", violation.broken);
    assert_eq!(broken.as_ref(), Some(&violation.broken), "the path leads there again");
    assert_eq!(story.lines().count(), violation.path.len());
    (violation.broken.message, story)
}

#[test]
fn an_ack_before_its_fsync_is_found() {
    let plant = Some(Plant::AcksBeforeSync);
    let (message, _) = found(&Scope {
        plant,
        ..Scope::new(1, 1)
    });
    assert!(message.contains("is not durable"), "{message}");
}

#[test]
fn a_ventilator_that_never_dials_again_is_found() {
    let plant = Some(Plant::DeafVentilator);
    // With another worker it would do without the one that died: heartbeats tell it to.
    let fleet = Scope {
        plant,
        ..Scope::new(1, 2).holding(0, false)
    };
    assert!(fleet.search().is_ok(), "nothing is to be dialled again");
    let (message, story) = found(&fleet.struck(1, &[Victim::Worker]));
    assert!(message.contains("an endless wait"), "{message}");
    assert!(story.contains("dies"), "{story}");
}

#[test]
fn every_fault_strikes_while_something_is_under_way() {
    let calm = Scope::new(1, 1).search().expect("no rule is broken");
    for victim in VICTIMS {
        let struck = Scope::new(1, 1)
            .struck(1, &[victim])
            .search()
            .expect("no rule is broken");
        assert!(struck.states > calm.states * 5, "{victim:?}: {struck} after {calm}");
    }
}

/// Those that a fleet this small can show; the others need seeds.
#[cfg(feature = "mutants")]
#[test]
fn deliberate_bugs_of_the_machines_are_found() {
    use harmony_protocol::mutant::Mutant;

    let scope = Scope::new(2, 2).struck(1, &VICTIMS).holding(1, false);
    for mutant in [
        Mutant::AckBeforeFsync,
        Mutant::ReportBeforeFsync,
        Mutant::EndTrusted,
        Mutant::NoDedup,
        Mutant::OutcomesDropped,
    ] {
        let _active = mutant.activate();
        found(&scope);
    }
}
