//! Credit from end to end: within what is granted, shared fairly, and never stuck.
#![allow(
    clippy::indexing_slicing,
    clippy::unchecked_time_subtraction,
    reason = "a test may panic"
)]

mod stage;

use std::time::Duration;

use harmony_protocol::wire::Message;
use harmony_simulator::settings::Visit;
use harmony_simulator::tasks::Tasks;
use stage::{LONG, dispatched, settings, world};

#[test]
fn a_second_batch_gets_its_share_of_a_busy_worker() {
    let mut settings = settings(2_000, 1);
    settings.workers[0].slots = 2;
    settings.batches.push(Tasks::new(1, 50, 11));
    settings.batches[1].length = 20_000;
    settings.visits.push(Visit {
        batch: 1,
        at: Duration::from_millis(300),
        absence: None,
    });
    let mut world = world(settings);
    world.run_until(LONG, |world| {
        world.progress("ventilator-1").is_some_and(|p| p.counts.succeeded == 50)
    });
    let first = world.progress("ventilator-0").expect("it still runs");
    assert!(
        first.counts.succeeded < 1_500,
        "the second batch waited for the first one: {first:?}"
    );
    world.run();
}

#[test]
fn no_worker_is_sent_more_than_it_granted() {
    let mut world = world(settings(300, 3));
    world.run();
    for worker in ["worker-0", "worker-1", "worker-2"] {
        let sent: usize = dispatched(&world)
            .iter()
            .filter(|(_, to, _)| to == worker)
            .map(|(_, _, tasks)| tasks.entries.len())
            .sum();
        let granted = world.sent().iter().filter_map(|sent| match &sent.message {
            Message::Credit(credit) if sent.from == worker => Some(credit.tasks_granted),
            _ => None,
        });
        let granted = granted.max().expect("it granted some");
        assert!(sent as u64 <= granted, "{worker} was sent {sent} of {granted}");
        assert!(sent > 10, "{worker} had hardly anything to do");
    }
}
