use harmony_protocol::limits::GONE_AFTER;
use harmony_protocol::ventilator::{
    CollectorStage, CollectorView, Hold, Rooms, Suspect, Uploading, WorkerExplanation, WorkerStage,
};
use harmony_protocol::wire::Health;

use super::super::render;
use super::*;

fn explained(state: NumberState) -> NumberExplanation {
    NumberExplanation {
        number: 7,
        completions: 100,
        state,
        deaths: 0,
        suspects: Vec::new(),
        collector: CollectorView {
            stage: CollectorStage::Ready,
            health: Health::Ok,
            silent_millis: Some(100),
        },
    }
}

fn worker() -> WorkerExplanation {
    WorkerExplanation {
        name: "worker-1".into(),
        stage: WorkerStage::Ready,
        draining: false,
        slots: 2,
        in_flight: 6,
        oldest_millis: None,
        silent_millis: Some(300),
        no_room: Some(harmony_protocol::ventilator::NoRoom::Credit),
    }
}

fn in_flight(missing: Option<Missing>) -> NumberState {
    NumberState::InFlight {
        attempt: 2,
        millis: 40_000,
        worker: Some(worker()),
        alone: false,
        missing,
    }
}

fn text(ventilator: NumberExplanation) -> String {
    let number = NumberAccount {
        number: 7,
        ventilator: Some(ventilator),
        recorded: None,
    };
    render(&Account {
        name: "render".into(),
        number: Some(number),
        ..Account::default()
    })
}

#[test]
fn a_task_at_a_worker_tells_that_worker() {
    let expected = "\
Task 7 of render is at worker worker-1 since 40s (attempt 2)

  worker worker-1: full; 6 tasks there
  the worker runs 2 tasks at once: it may wait for a slot there
";
    assert_eq!(text(explained(in_flight(None))), expected);
    let mut full = explained(in_flight(None));
    full.collector.health = Health::DiskFull;
    assert!(text(full).contains("the collector's disk is full"));
}

#[test]
fn each_state_has_its_answer() {
    let ready = |hold: Option<Hold>, alone: bool, resend: bool| NumberState::Ready {
        attempt: 1,
        resend,
        alone,
        ahead: 0,
        hold,
    };
    let rooms = Rooms {
        share: 3,
        ..Rooms::default()
    };
    let cases = [
        (NumberState::OutOfRange, "does not exist: its tasks are 0 to 99"),
        (
            NumberState::Unknown { hold: Hold::Collector },
            "is not known yet: the collector answers",
        ),
        (NumberState::Succeeded, "is done: it succeeded"),
        (NumberState::Failed { failure: None }, "has failed for good"),
        (
            in_flight(Some(Missing::Asked)),
            "is missing at the collector (attempt 2): worker-1 is asked",
        ),
        (
            in_flight(Some(Missing::Denied)),
            "worker-1 does not hold it: it goes out again",
        ),
        (
            NumberState::InFlight {
                attempt: 1,
                millis: 5,
                worker: None,
                alone: false,
                missing: None,
            },
            "goes out again in a moment (attempt 1)",
        ),
        (
            ready(None, false, false),
            "waits to be sent (attempt 1): it is sent in its turn",
        ),
        (
            ready(Some(Hold::NoWorker), false, true),
            "waits to be sent again (attempt 1): no worker is ready",
        ),
        (
            ready(Some(Hold::NoRoom(rooms)), false, false),
            "the 3 workers are busy (3 with their share of what is left)",
        ),
        (ready(Some(Hold::Locating), false, false), "a ventilator has taken over"),
        (ready(Some(Hold::Draining), false, false), "nothing new is sent"),
        (ready(Some(Hold::CollectorSilent), false, true), "is not sent twice"),
        (
            ready(Some(Hold::OthersAlone { workers: 1 }), true, true),
            "another task runs alone",
        ),
        (
            NumberState::Uploading(Uploading {
                number: 42,
                attempt: 1,
                worker: "worker-1".into(),
                sent: 3 << 19,
                length: 600 << 20,
            }),
            "is being sent (attempt 1): 1.5 of the 600.0 MiB of its payload have gone to worker-1, and it runs when all of it is there",
        ),
        (
            NumberState::Waiting {
                attempt: 3,
                due_millis: 4_200,
            },
            "attempt 2 failed, attempt 3 is due in 4.2s",
        ),
        (NumberState::HeldBack { attempt: 1 }, "is held back (attempt 1)"),
        (
            NumberState::Unsendable {
                attempt: 1,
                why: "the payload has 9 bytes".into(),
            },
            "cannot be sent: the payload has 9 bytes",
        ),
    ];
    for (state, said) in cases {
        let text = text(explained(state));
        let first = text.lines().next().unwrap();
        assert!(
            first.starts_with("Task 7 of render ") && first.contains(said),
            "{said}: {text}"
        );
    }
}

#[test]
fn workers_that_may_have_died_of_it_are_named() {
    let mut held = explained(NumberState::HeldBack { attempt: 1 });
    held.deaths = 3;
    held.suspects = vec![Suspect {
        worker: "worker-2".into(),
        gone_millis: 1_000,
        given_up_in_millis: u64::try_from(GONE_AFTER.as_millis()).unwrap() - 1_000,
        in_flight: 1,
    }];
    let text = text(held);
    for said in [
        "it was at workers that died 3 times",
        "worker-2 went away 1.0s ago with 1 task; it counts as dead in 29s unless it comes back",
    ] {
        assert!(text.contains(said), "{said}: {text}");
    }
}
