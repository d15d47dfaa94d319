//! The ventilator machine, message by message: when it asks, and when it sends again.
#![allow(clippy::expect_used, reason = "the helpers of a test may panic, as the test may")]

use std::time::{Duration, Instant};

use harmony_protocol::ids::{Alias, BatchUid, InstanceId, LinkId, LogId, ProcessId};
use harmony_protocol::limits::{DEAD_AFTER, DEATHS_BEFORE_ALONE, END_AGAIN, GONE_AFTER};
use harmony_protocol::ventilator::{Config, Output, Payloads, Ventilator};
use harmony_protocol::wire::{
    CollectorState, Counts, Credit, Deaths, Executor, Health, Held, Hello, Holding, Message, Missing, Policy, Pong,
    Refused, RefusedCode, Report, Retry, Role, State, StateBody, Work, WorkerState, decode, encode,
};
use harmony_protocol::{Identity, LinkOutput, VERSIONS};
use uuid::Uuid;

struct NoBytes;

impl Payloads for NoBytes {
    fn append(&mut self, _number: u64, _buffer: &mut Vec<u8>) -> Result<usize, String> {
        Ok(0)
    }
}

/// A ventilator of one task, with the newest link and alias to its collector and its worker.
struct Stage {
    machine: Ventilator,
    now: Instant,
    collector: (LinkId, Alias),
    worker: (LinkId, Alias),
    /// Counts the worker's processes.
    incarnation: u128,
}

impl Stage {
    /// The collector and the worker have greeted, and the collector is asked whose the batch is.
    fn new(change: impl FnOnce(&mut Config)) -> Self {
        let identity = Identity {
            role: Role::Ventilator,
            name: "ventilator".into(),
            process_id: ProcessId(Uuid::from_u128(1)),
            slots: None,
        };
        let mut config = Config {
            identity,
            seed: 1,
            uid: BatchUid(Uuid::from_u128(2)),
            name: "batch".into(),
            instance: InstanceId(Uuid::from_u128(3)),
            epoch_floor: 0,
            completions: 1,
            policy: Policy {
                backoff_limit_per_index: 0,
                max_bytes_per_task: 1,
            },
            work: Work {
                executor: Executor::Library,
                collector: String::new(),
                max_bytes_per_task: 1,
                deadline_millis: None,
            },
            max_failed: None,
            deadline: None,
        };
        change(&mut config);
        let now = Instant::now();
        let nowhere = (LinkId::dialled(0), 0);
        let mut stage = Self {
            machine: Ventilator::new(config),
            now,
            collector: nowhere,
            worker: nowhere,
            incarnation: 0,
        };
        stage.machine.handle_collector(now, "collector");
        stage.machine.handle_worker(now, "worker", "worker");
        stage.greet();
        stage
    }

    /// The collector and the worker have answered, and the task is on its way.
    fn with_a_task_in_flight() -> Self {
        let mut stage = Self::new(|_| {});
        stage.collector_answers(&refused(RefusedCode::NotStarted, 0));
        stage.step();
        stage.collector_answers(&collector_state());
        stage.step();
        stage.worker_answers(&worker_state());
        let said = stage.step();
        stage.worker_answers(&credit(&said));
        let said = stage.step();
        assert_eq!(tasks(&said), 1, "{said:?}");
        assert_eq!(ends(&said), 1, "all is sent: {said:?}");
        stage
    }

    /// Answers dials.
    fn greet(&mut self) {
        let dialled = self.outputs().1;
        self.greet_on(dialled);
    }

    fn greet_on(&mut self, dialled: Vec<(LinkId, String)>) {
        for (link, endpoint) in dialled {
            let role = if endpoint == "collector" {
                Role::Collector
            } else {
                Role::Worker
            };
            if role == Role::Collector {
                self.collector = (link, 0);
            } else {
                self.worker = (link, 0);
            }
            self.machine.handle_link_opened(self.now, link);
            let process = if role == Role::Worker {
                20 + self.incarnation
            } else {
                10
            };
            let hello = Hello {
                versions: VERSIONS,
                role,
                name: endpoint,
                process_id: ProcessId(Uuid::from_u128(process)),
                slots: Some(1),
                max_payload: 1,
                heartbeat_millis: 1_000,
            };
            self.machine
                .handle_message(self.now, link, &encode(0, &Message::Hello(hello)));
        }
        self.step();
    }

    fn collector_answers(&mut self, message: &Message) {
        let (link, alias) = self.collector;
        self.machine.handle_message(self.now, link, &encode(alias, message));
    }

    fn worker_answers(&mut self, message: &Message) {
        let (link, alias) = self.worker;
        self.machine.handle_message(self.now, link, &encode(alias, message));
    }

    /// What the machine says now, and where it dials.
    fn outputs(&mut self) -> (Vec<Message>, Vec<(LinkId, String)>) {
        let (mut said, mut dialled) = (Vec::new(), Vec::new());
        while let Some(output) = self.machine.poll_output(self.now, &mut NoBytes) {
            match output {
                Output::Link(LinkOutput::Send { link, frames }) => {
                    let (alias, message) = decode(&frames).expect("machines send what can be read");
                    if matches!(message, Message::Start(_)) {
                        let place = if link == self.collector.0 {
                            &mut self.collector
                        } else {
                            &mut self.worker
                        };
                        *place = (link, alias);
                    }
                    said.push(message);
                }
                Output::Link(LinkOutput::Dial { link, endpoint }) => dialled.push((link, endpoint)),
                Output::Link(LinkOutput::Close { .. } | LinkOutput::Cut { .. }) | Output::Event(_) => {}
            }
        }
        self.machine.sanity_check();
        (said, dialled)
    }

    fn step(&mut self) -> Vec<Message> {
        self.outputs().0
    }

    /// Lets time pass in which both links stay alive.
    fn wait(&mut self, time: Duration) -> Vec<Message> {
        self.wait_on(time, &[self.collector.0, self.worker.0])
    }

    /// Lets time pass in which these links stay alive.
    fn wait_on(&mut self, time: Duration, alive: &[LinkId]) -> Vec<Message> {
        let end = self.now + time;
        let mut said = Vec::new();
        while self.now < end {
            self.now += Duration::from_millis(500);
            for link in alive {
                self.machine
                    .handle_message(self.now, *link, &encode(0, &Message::Pong(Pong { nonce: 0 })));
            }
            self.machine.handle_timeout(self.now);
            said.extend(self.step());
        }
        said
    }
}

fn refused(code: RefusedCode, epoch: u64) -> Message {
    Message::Refused(Refused {
        code,
        epoch,
        reason: String::new(),
    })
}

fn collector_state() -> Message {
    collector_state_with(|_| {})
}

fn collector_state_with(change: impl FnOnce(&mut CollectorState)) -> Message {
    let mut state = CollectorState {
        log_id: LogId(Uuid::from_u128(4)),
        epoch: 1,
        instance: Some(InstanceId(Uuid::from_u128(3))),
        completions: Some(1),
        succeeded: Vec::new(),
        failed: Vec::new(),
        retries: Vec::new(),
        deaths: Vec::new(),
    };
    change(&mut state);
    Message::State(Box::new(State {
        last: true,
        body: StateBody::Collector(state),
    }))
}

fn worker_state() -> Message {
    worker_holds(Vec::new())
}

fn worker_holds(held: Vec<Holding>) -> Message {
    let body = StateBody::Worker(WorkerState { held });
    Message::State(Box::new(State { last: true, body }))
}

/// The answer to a WANT.
fn credit(said: &[Message]) -> Message {
    let want = said.iter().find_map(|message| match message {
        Message::Want(want) => Some(*want),
        _ => None,
    });
    Message::Credit(Credit {
        serial: want.expect("WANT follows STATE").serial,
        tasks_granted: 10,
        bytes_granted: 10,
        alone: None,
    })
}

fn missing(spans: &[(u64, u64)]) -> Message {
    Message::Missing(Missing {
        spans: spans.to_vec(),
        more: false,
    })
}

/// The collector asks for the second attempt of the task.
fn second_attempt(delay: Duration) -> Message {
    let retry = Retry {
        number: 0,
        attempt: 2,
        delay_millis: u64::try_from(delay.as_millis()).expect("some seconds"),
    };
    Message::Report(Box::new(Report {
        succeeded: Vec::new(),
        failed: Vec::new(),
        counts: Counts::default(),
        lowest_missing: 0,
        retries: vec![retry],
        health: Health::Ok,
    }))
}

fn held(said: &[Message]) -> Option<&Held> {
    said.iter().find_map(|message| match message {
        Message::Held(held) => Some(held),
        _ => None,
    })
}

fn tasks(said: &[Message]) -> usize {
    said.iter()
        .filter(|message| matches!(message, Message::Tasks(_)))
        .count()
}

fn ends(said: &[Message]) -> usize {
    said.iter().filter(|message| matches!(message, Message::End(_))).count()
}

/// The collector misses the task, and its worker denies it.
fn denied() -> Stage {
    let mut stage = Stage::with_a_task_in_flight();
    stage.collector_answers(&missing(&[(0, 0)]));
    let said = stage.step();
    let question = held(&said).expect("it asks the worker").clone();
    assert_eq!((question.answer, &question.spans[..]), (false, &[(0, 0)][..]));
    let answer = Held {
        answer: true,
        spans: Vec::new(),
        ..question
    };
    stage.worker_answers(&Message::Held(answer));
    assert_eq!(
        tasks(&stage.step()),
        0,
        "the outcome may be on its way to the collector"
    );
    let said = stage.wait(END_AGAIN);
    assert_eq!(
        (ends(&said), tasks(&said)),
        (1, 0),
        "it asks the collector again, and only that: {said:?}"
    );
    stage
}

#[test]
fn what_a_worker_denies_goes_out_again_if_it_is_still_missing() {
    let mut stage = denied();
    stage.collector_answers(&missing(&[(0, 0)]));
    let said = stage.step();
    assert_eq!(tasks(&said), 1, "{said:?}");
}

#[test]
fn what_a_worker_denies_stays_where_it_is_if_it_is_missing_no_longer() {
    let mut stage = denied();
    stage.collector_answers(&missing(&[]));
    let said = stage.wait(2 * END_AGAIN);
    assert_eq!(tasks(&said), 0, "{said:?}");
}

#[test]
fn end_goes_out_on_every_new_link_to_the_collector() {
    let mut stage = Stage::with_a_task_in_flight();
    stage.machine.handle_link_closed(stage.now, stage.collector.0);
    stage.now += Duration::from_millis(100);
    stage.greet();
    stage.collector_answers(&collector_state());
    let said = stage.step();
    assert_eq!((ends(&said), tasks(&said)), (1, 0), "{said:?}");
}

#[test]
fn while_the_collector_is_silent_nothing_goes_out_a_second_time() {
    let mut stage = Stage::with_a_task_in_flight();
    for silent in [true, false] {
        stage.machine.handle_link_closed(stage.now, stage.worker.0);
        stage.machine.handle_link_closed(stage.now, stage.collector.0);
        stage.now += Duration::from_millis(100);
        stage.greet();
        stage.collector_answers(&collector_state());
        stage.step();
        stage.worker_answers(&worker_state());
        let credit = credit(&stage.step());
        if silent {
            stage.machine.handle_link_closed(stage.now, stage.collector.0);
        }
        stage.worker_answers(&credit);
        let said = stage.step();
        assert_eq!(tasks(&said), usize::from(!silent), "{said:?}");
    }
}

#[test]
fn nothing_goes_out_on_a_link_that_was_given_up() {
    let mut stage = Stage::with_a_task_in_flight();
    // The next attempt is due at the moment in which the worker has been silent for too long.
    stage.collector_answers(&second_attempt(DEAD_AFTER));
    stage.wait_on(DEAD_AFTER, &[stage.collector.0]);
    let progress = stage.machine.progress();
    assert_eq!(
        (progress.dispatched, progress.in_flight, progress.left),
        (1, 0, 1),
        "{progress:?}"
    );
}

#[test]
fn an_older_attempt_found_at_a_worker_does_not_replace_the_one_that_was_lost() {
    let mut stage = Stage::with_a_task_in_flight();
    stage.collector_answers(&second_attempt(Duration::ZERO));
    assert_eq!(tasks(&stage.step()), 1);
    // The same worker has a newer link, and never got the second attempt.
    stage.machine.handle_worker(stage.now, "other", "other");
    stage.greet();
    let first = Holding {
        first: 0,
        last: 0,
        attempt: 1,
    };
    stage.worker_answers(&worker_holds(vec![first]));
    stage.wait(Duration::from_secs(1));
    let progress = stage.machine.progress();
    assert_eq!((progress.in_flight, progress.left), (0, 1), "{progress:?}");
}

#[test]
fn who_comes_back_is_not_called_dead_any_more() {
    for back in [true, false] {
        let mut stage = Stage::with_a_task_in_flight();
        stage.machine.handle_link_closed(stage.now, stage.worker.0);
        stage.machine.handle_link_closed(stage.now, stage.collector.0);
        let mut dialled = Vec::new();
        let end = stage.now + GONE_AFTER;
        while stage.now < end {
            stage.now += Duration::from_millis(500);
            stage.machine.handle_timeout(stage.now);
            dialled.extend(stage.outputs().1);
        }
        dialled.retain(|(_, endpoint)| back || endpoint == "collector");
        stage.greet_on(dialled);
        stage.collector_answers(&collector_state());
        let said = stage.step();
        let lost = said.iter().any(|message| matches!(message, Message::Lost(_)));
        assert_eq!(lost, !back, "{said:?}");
    }
}

#[test]
fn what_runs_alone_does_so_on_a_new_link_too() {
    let mut stage = Stage::new(|config| config.completions = 2);
    let claimed = collector_state_with(|state| {
        state.completions = Some(2);
        let count = DEATHS_BEFORE_ALONE;
        state.deaths = [0, 1].map(|number| Deaths { number, count }).to_vec();
    });
    stage.collector_answers(&refused(RefusedCode::NotStarted, 0));
    stage.step();
    stage.collector_answers(&claimed);
    stage.step();
    stage.worker_answers(&worker_state());
    let wanted = credit(&stage.step());
    stage.worker_answers(&wanted);
    assert_eq!(tasks(&stage.step()), 1, "one runs alone");
    stage.machine.handle_link_closed(stage.now, stage.worker.0);
    stage.now += Duration::from_millis(100);
    stage.greet();
    stage.worker_answers(&worker_holds(vec![Holding {
        first: 0,
        last: 0,
        attempt: 1,
    }]));
    let wanted = credit(&stage.step());
    stage.worker_answers(&wanted);
    let said = stage.step();
    assert_eq!(tasks(&said), 0, "it runs alone: {said:?}");
}

#[test]
fn a_death_that_the_collector_does_not_know_yet_counts() {
    let claimed = collector_state_with(|state| {
        let count = DEATHS_BEFORE_ALONE - 1;
        state.deaths = vec![Deaths { number: 0, count }];
    });
    let mut stage = Stage::new(|_| {});
    stage.collector_answers(&refused(RefusedCode::NotStarted, 0));
    stage.step();
    let mut alone = Vec::new();
    for _ in 0..2 {
        stage.collector_answers(&claimed);
        stage.step();
        stage.worker_answers(&worker_state());
        let wanted = credit(&stage.step());
        stage.worker_answers(&wanted);
        alone.extend(stage.step().iter().filter_map(|message| match message {
            Message::Tasks(tasks) => Some(tasks.alone),
            _ => None,
        }));
        // Another process of the worker comes back, so that this one is dead, and the collector comes back later.
        stage.machine.handle_link_closed(stage.now, stage.collector.0);
        stage.machine.handle_link_closed(stage.now, stage.worker.0);
        stage.incarnation += 1;
        stage.now += Duration::from_millis(100);
        stage.machine.handle_timeout(stage.now);
        stage.greet();
    }
    assert_eq!(alone, [false, true]);
}

#[test]
fn a_collector_that_forgot_a_claim_fences_nobody() {
    let mut stage = Stage::new(|config| config.epoch_floor = 1);
    let own = InstanceId(Uuid::from_u128(3));
    let last = |epoch, instance| {
        collector_state_with(|state| {
            state.epoch = epoch;
            state.instance = Some(instance);
        })
    };
    stage.collector_answers(&refused(RefusedCode::NotStarted, 0));
    stage.step();
    stage.collector_answers(&last(2, own));
    stage.step();
    stage.worker_answers(&refused(RefusedCode::Fenced, 3));
    stage.step();
    // The record of this claim is damaged: the one before it is the last that the collector knows.
    stage.collector_answers(&last(1, InstanceId(Uuid::from_u128(4))));
    let said = stage.step();
    let claims = |message: &Message| matches!(message, Message::Start(start) if start.epoch == 4);
    assert!(said.iter().any(claims), "{said:?}");
}
