//! A batch whose ventilator dies goes on under the next one.
#![allow(
    clippy::indexing_slicing,
    clippy::unchecked_time_subtraction,
    reason = "a test may panic"
)]

mod stage;

use std::time::Duration;

use harmony_protocol::wire::{Message, RefusedCode};
use harmony_simulator::faults::Fault;
use harmony_simulator::observation::Verdict;
use harmony_simulator::settings::Visit;
use stage::{LONG, attempts, epoch, settings, succeeded, world};

const SECOND: Duration = Duration::from_secs(1);

/// Tasks so long that a takeover finds them running.
fn long_tasks(completions: u64, workers: usize) -> harmony_simulator::settings::Settings {
    let mut settings = settings(completions, workers);
    settings.batches[0].duration = Duration::from_millis(400);
    settings
}

fn most_of_one_number(attempts: &[(u64, u32)]) -> usize {
    let most = attempts
        .iter()
        .map(|task| attempts.iter().filter(|other| *other == task).count());
    most.max().unwrap_or_default()
}

#[test]
fn what_runs_is_located_and_nothing_runs_twice() {
    let mut world = world(long_tasks(40, 3));
    world.run_until(LONG, |world| succeeded(world) >= 10);
    world.kill_named("ventilator-0");
    world.run_for(Duration::from_millis(50));
    world.start_named("ventilator-0");
    world.run_until(LONG, |world| epoch(world) == 2);
    world.run();
    assert_eq!(most_of_one_number(&attempts(&world)), 1, "{:?}", attempts(&world));
}

#[test]
fn a_late_state_still_leaves_time_to_locate() {
    let mut world = world(long_tasks(40, 3));
    world.run_until(LONG, |world| succeeded(world) >= 10);
    world.kill_named("ventilator-0");
    world.start_named("ventilator-0");
    world.run_until(LONG, |world| epoch(world) == 2);
    world.kill_named("collector");
    world.run_for(10 * SECOND);
    // Tasks that end now cannot be recorded: their outcomes are held.
    world.start_named("collector");
    world.run();
    assert_eq!(most_of_one_number(&attempts(&world)), 1, "{:?}", attempts(&world));
}

#[test]
fn an_empty_collector_fences_nobody() {
    let mut world = world(long_tasks(40, 2));
    world.run_until(LONG, |world| succeeded(world) >= 10);
    // A second ventilator takes over at the workers, and dies together with the collector's disk.
    world.kill_named("ventilator-0");
    world.start_named("ventilator-0");
    world.run_until(LONG, |world| epoch(world) == 2);
    world.kill_named("ventilator-0");
    world.kill_named("collector");
    world.lose_disk();
    world.start_named("collector");
    world.forget_epoch("ventilator-0");
    world.start_named("ventilator-0");
    world.run();
}

#[test]
fn a_ventilator_that_was_taken_over_from_sends_nothing_more() {
    let mut settings = settings(200, 2);
    settings.visits.push(Visit {
        batch: 0,
        at: SECOND / 2,
        absence: None,
    });
    let mut world = world(settings);
    world.run();
    let verdicts: Vec<_> = world.checker.verdicts().iter().map(|(_, verdict)| verdict).collect();
    assert!(
        matches!(verdicts[..], [Verdict::Fenced(2), Verdict::Done(_)]),
        "{verdicts:?}"
    );
    let claimed = world.durable(0).claims.len();
    assert_eq!(claimed, 2);
    let fenced = world
        .sent()
        .iter()
        .position(|sent| matches!(&sent.message, Message::Refused(refused) if refused.code == RefusedCode::Fenced));
    let later = &world.sent()[fenced.expect("the first one was refused")..];
    let recent = later
        .iter()
        .filter(|sent| sent.from == "ventilator-0" && matches!(sent.message, Message::Tasks(_)));
    let latest = recent.map(|sent| sent.at - later[0].at).max().unwrap_or_default();
    assert!(latest < SECOND / 100, "it went on for {latest:?}");
}

#[test]
fn a_ventilator_that_comes_back_finds_that_a_standby_took_over() {
    for fault in [Fault::Pause, Fault::Isolate] {
        let mut settings = settings(600, 2);
        settings.until = 60 * SECOND;
        settings.visits.push(Visit {
            batch: 0,
            at: SECOND / 2,
            absence: Some((fault, SECOND)),
        });
        let mut world = world(settings);
        world.run();
        let verdicts: Vec<_> = world.checker.verdicts().iter().map(|(_, verdict)| verdict).collect();
        assert!(
            matches!(verdicts[..], [Verdict::Fenced(2), Verdict::Done(_)]),
            "{fault}: {verdicts:?}"
        );
        let late = world
            .sent()
            .iter()
            .rev()
            .find(|sent| sent.from == "ventilator-0" && matches!(sent.message, Message::Tasks(_)));
        let late = late.expect("it had begun").at;
        assert!(
            late < SECOND / 2 + SECOND / 100 || late > 3 * SECOND / 2,
            "{fault}: tasks left at {late:?}"
        );
    }
}
