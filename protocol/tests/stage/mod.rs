//! A ventilator between a collector and a worker that the test plays.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::expect_used,
    reason = "each test file uses a part of it, and it may panic, as the test may"
)]

use std::ops::Range;
use std::time::{Duration, Instant};

use harmony_protocol::ids::{Alias, BatchUid, InstanceId, LinkId, LogId, ProcessId};
use harmony_protocol::limits::MAX_PAYLOAD;
use harmony_protocol::ventilator::{Config, Cut, Event, Output, Payloads, Ventilator};
use harmony_protocol::wire::{
    CollectorState, Counts, Credit, Executor, Health, Held, Hello, Holding, Message, Missing, Policy, Pong, Refused,
    RefusedCode, Report, Retry, Role, State, StateBody, Work, WorkerState, decode, encode,
};
use harmony_protocol::{Identity, LinkOutput, VERSIONS};
use uuid::Uuid;

/// So many zeros for each number.
struct Zeros(u64);

impl Payloads for Zeros {
    fn append(&mut self, _number: u64, range: Range<u64>, buffer: &mut Vec<u8>) -> Result<u64, String> {
        let count = range.end.min(self.0) - range.start;
        buffer.resize(
            buffer.len() + usize::try_from(count).map_err(|error| error.to_string())?,
            0,
        );
        Ok(self.0)
    }
}

/// A ventilator of one task, with the newest link and alias to its collector and its worker.
pub struct Stage {
    pub machine: Ventilator,
    pub now: Instant,
    pub collector: (LinkId, Alias),
    pub worker: (LinkId, Alias),
    /// Bytes of each payload.
    pub payload: u64,
    /// Counts the worker's processes.
    pub incarnation: u128,
    /// The host confirms each epoch at once.
    pub keeps_epochs: bool,
}

impl Stage {
    /// The collector and the worker have greeted, and the collector is asked whose the batch is.
    pub fn new(change: impl FnOnce(&mut Config)) -> Self {
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
            success: None,
            workers_are_mended: false,
            cut: Cut::default(),
        };
        change(&mut config);
        let now = Instant::now();
        let nowhere = (LinkId::dialled(0), 0);
        let mut stage = Self {
            machine: Ventilator::new(config),
            now,
            collector: nowhere,
            worker: nowhere,
            payload: 0,
            incarnation: 0,
            keeps_epochs: true,
        };
        stage.machine.handle_collector(now, "collector");
        stage.machine.handle_worker(now, "worker", "worker");
        stage.greet();
        stage
    }

    /// The collector and the worker have answered, and the task is on its way.
    pub fn with_a_task_in_flight() -> Self {
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
    pub fn greet(&mut self) {
        let dialled = self.outputs().1;
        self.greet_on(dialled);
    }

    pub fn greet_on(&mut self, dialled: Vec<(LinkId, String)>) {
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
                max_payload: MAX_PAYLOAD,
                heartbeat_millis: 1_000,
            };
            self.machine
                .handle_message(self.now, link, &encode(0, &Message::Hello(hello)));
        }
        self.step();
    }

    /// The link to the collector closes, and a new one stands.
    pub fn collector_reconnects(&mut self) {
        self.machine.handle_link_closed(self.now, self.collector.0);
        self.now += Duration::from_millis(100);
        self.greet();
    }

    pub fn collector_answers(&mut self, message: &Message) {
        let (link, alias) = self.collector;
        self.machine.handle_message(self.now, link, &encode(alias, message));
    }

    pub fn worker_answers(&mut self, message: &Message) {
        let (link, alias) = self.worker;
        self.machine.handle_message(self.now, link, &encode(alias, message));
    }

    /// What the machine says now, and where it dials.
    pub fn outputs(&mut self) -> (Vec<Message>, Vec<(LinkId, String)>) {
        let (mut said, mut dialled) = (Vec::new(), Vec::new());
        while let Some(output) = self.machine.poll_output(self.now, &mut Zeros(self.payload)) {
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
                Output::Event(Event::Claiming { epoch, .. }) if self.keeps_epochs => {
                    self.machine.handle_epoch_kept(self.now, epoch);
                }
                Output::Link(LinkOutput::Close { .. } | LinkOutput::Cut { .. }) | Output::Event(_) => {}
            }
        }
        self.machine.sanity_check();
        (said, dialled)
    }

    pub fn step(&mut self) -> Vec<Message> {
        self.outputs().0
    }

    /// Lets time pass in which both links stay alive.
    pub fn wait(&mut self, time: Duration) -> Vec<Message> {
        self.wait_on(time, &[self.collector.0, self.worker.0])
    }

    /// Lets time pass in which these links stay alive.
    pub fn wait_on(&mut self, time: Duration, alive: &[LinkId]) -> Vec<Message> {
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

pub fn refused(code: RefusedCode, epoch: u64) -> Message {
    Message::Refused(Refused {
        code,
        epoch,
        reason: String::new(),
    })
}

pub fn collector_state() -> Message {
    collector_state_with(|_| {})
}

pub fn collector_state_with(change: impl FnOnce(&mut CollectorState)) -> Message {
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

pub fn worker_state() -> Message {
    worker_holds(Vec::new())
}

pub fn worker_holds(held: Vec<Holding>) -> Message {
    let body = StateBody::Worker(WorkerState { held });
    Message::State(Box::new(State { last: true, body }))
}

/// The answer to a WANT.
pub fn credit(said: &[Message]) -> Message {
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

/// PARTs, by offset and bytes.
pub fn parts(said: &[Message]) -> Vec<(u64, usize)> {
    let parts = said.iter().filter_map(|message| match message {
        Message::Part(part) => Some((part.offset, part.bytes.len())),
        _ => None,
    });
    parts.collect()
}

pub fn missing(spans: &[(u64, u64)]) -> Message {
    Message::Missing(Missing {
        spans: spans.to_vec(),
        more: false,
    })
}

/// The collector asks for the second attempt of the task.
pub fn second_attempt(delay: Duration) -> Message {
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
        failures: Vec::new(),
    }))
}

pub fn held(said: &[Message]) -> Option<&Held> {
    said.iter().find_map(|message| match message {
        Message::Held(held) => Some(held),
        _ => None,
    })
}

pub fn tasks(said: &[Message]) -> usize {
    said.iter()
        .filter(|message| matches!(message, Message::Tasks(_)))
        .count()
}

pub fn ends(said: &[Message]) -> usize {
    said.iter().filter(|message| matches!(message, Message::End(_))).count()
}
