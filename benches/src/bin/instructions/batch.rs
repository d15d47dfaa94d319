//! A small batch through all three machines, in one thread, on a clock that stands still unless all wait for it.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use harmony_protocol::collector::{self, Collector};
use harmony_protocol::ids::{BatchUid, InstanceId, LinkId, LogId, ProcessId};
use harmony_protocol::limits::{PART_BYTES, QUEUE_BYTES};
use harmony_protocol::ventilator::{self, Cut, Event, Payloads, Ventilator};
use harmony_protocol::wire::{Executor, Frames, OutcomeCode, Policy, Role, Work};
use harmony_protocol::worker::{self, Finished, Payload, Worker};
use harmony_protocol::{Identity, LinkOutput};
use uuid::Uuid;

use crate::outcomes::{BYTES, PIECE};

const TASKS: u64 = 20_000;
const WORKERS: usize = 2;
/// Tasks that a worker's executor takes at once.
const WINDOW: usize = 64;
/// Of the clock: an endless batch is a bug.
const AT_MOST: Duration = Duration::from_mins(1);

const UID: BatchUid = BatchUid(Uuid::from_u128(1));
const LOG: LogId = LogId(Uuid::from_u128(2));

/// Where it stands among the parties; also its address.
type Place = usize;

const COLLECTOR: Place = 0;
const VENTILATOR: Place = 1;
const FIRST_WORKER: Place = 2;

enum Party {
    Collector(Box<Collector>),
    Ventilator(Box<Ventilator>),
    Worker(Box<Worker>),
}

enum Input {
    Opened(LinkId),
    Closed(LinkId),
    Message(LinkId, Frames),
    Timer,
}

struct Stage {
    now: Instant,
    parties: Vec<Party>,
    /// Each end of a link with the other one.
    links: BTreeMap<(Place, LinkId), (Place, LinkId)>,
    accepted: u64,
    inputs: VecDeque<(Place, Input)>,
    succeeded: Option<u64>,
}

pub(crate) fn run() -> Result<()> {
    let mut stage = Stage::new();
    let end = stage.now + AT_MOST;
    while stage.succeeded.is_none() {
        match stage.inputs.pop_front() {
            Some((place, input)) => stage.take(place, input)?,
            None => stage.wait()?,
        }
        ensure!(stage.now < end, "the batch takes more than {AT_MOST:?}");
    }
    ensure!(stage.succeeded == Some(TASKS), "{:?} have succeeded", stage.succeeded);
    Ok(())
}

struct Source;

impl Payloads for Source {
    fn append(&mut self, _number: u64, _range: Range<u64>, buffer: &mut Vec<u8>) -> Result<u64, String> {
        buffer.extend_from_slice(&PIECE);
        Ok(PIECE.len() as u64)
    }
}

impl Stage {
    fn new() -> Self {
        let now = Instant::now();
        let mut parties = vec![
            Party::Collector(Box::new(Collector::new(collector::Config::new(
                identity(Role::Collector, COLLECTOR),
                (now, 0),
            )))),
            Party::Ventilator(Box::new(ventilator(now))),
        ];
        let workers = (FIRST_WORKER..).take(WORKERS);
        parties.extend(workers.map(|place| Party::Worker(Box::new(worker(place)))));
        Self {
            now,
            parties,
            links: BTreeMap::new(),
            accepted: 0,
            inputs: VecDeque::from([(VENTILATOR, Input::Timer)]),
            succeeded: None,
        }
    }

    /// All have nothing to do until one of them wants to be told the time.
    fn wait(&mut self) -> Result<()> {
        let timeouts = self.parties.iter().filter_map(Party::timeout);
        self.now = timeouts.min().context("nobody waits for anything")?.max(self.now);
        let due = |party: &Party| party.timeout().is_some_and(|timeout| timeout <= self.now);
        let due = (0..).zip(&self.parties).filter(|(_, party)| due(party));
        self.inputs.extend(due.map(|(place, _)| (place, Input::Timer)));
        Ok(())
    }

    fn take(&mut self, place: Place, input: Input) -> Result<()> {
        let now = self.now;
        let party = self.parties.get_mut(place).context("no such party")?;
        let mut out = Vec::new();
        match party {
            Party::Collector(machine) => {
                match input {
                    Input::Opened(link) => machine.handle_link_opened(now, link),
                    Input::Closed(link) => machine.handle_link_closed(now, link),
                    Input::Message(link, frames) => machine.handle_message(now, link, &frames),
                    Input::Timer => machine.handle_timeout(now),
                }
                drain_collector(machine, now, &mut out)?;
            }
            Party::Ventilator(machine) => {
                match input {
                    Input::Opened(link) => machine.handle_link_opened(now, link),
                    Input::Closed(link) => machine.handle_link_closed(now, link),
                    Input::Message(link, frames) => machine.handle_message(now, link, &frames),
                    Input::Timer => machine.handle_timeout(now),
                }
                self.succeeded = drain_ventilator(machine, now, &mut out)?;
            }
            Party::Worker(machine) => {
                match input {
                    Input::Opened(link) => machine.handle_link_opened(now, link),
                    Input::Closed(link) => machine.handle_link_closed(now, link),
                    Input::Message(link, frames) => machine.handle_message(now, link, &frames),
                    Input::Timer => machine.handle_timeout(now),
                }
                drain_worker(machine, now, &mut out)?;
            }
        }
        out.into_iter().try_for_each(|output| self.carry(place, output))
    }

    fn carry(&mut self, place: Place, output: LinkOutput) -> Result<()> {
        match output {
            LinkOutput::Dial { link, endpoint } => {
                let other = (endpoint.parse()?, LinkId::accepted(self.accepted));
                self.accepted += 1;
                self.links.insert((place, link), other);
                self.links.insert(other, (place, link));
                self.inputs.push_back((place, Input::Opened(link)));
                self.inputs.push_back((other.0, Input::Opened(other.1)));
            }
            LinkOutput::Send { link, frames } => {
                if let Some((other, link)) = self.links.get(&(place, link)) {
                    self.inputs.push_back((*other, Input::Message(*link, frames)));
                }
            }
            LinkOutput::Close { link } | LinkOutput::Cut { link } => {
                if let Some(other) = self.links.remove(&(place, link)) {
                    self.links.remove(&other);
                    self.inputs.push_back((other.0, Input::Closed(other.1)));
                }
                self.inputs.push_back((place, Input::Closed(link)));
            }
        }
        Ok(())
    }
}

impl Party {
    fn timeout(&self) -> Option<Instant> {
        match self {
            Self::Collector(machine) => machine.poll_timeout(),
            Self::Ventilator(machine) => machine.poll_timeout(),
            Self::Worker(machine) => machine.poll_timeout(),
        }
    }
}

/// Its disk is the fastest that there can be.
fn drain_collector(machine: &mut Collector, now: Instant, out: &mut Vec<LinkOutput>) -> Result<()> {
    while let Some(output) = machine.poll_output(now) {
        match output {
            collector::Output::Link(output) => out.push(output),
            collector::Output::Open { uid, .. } => {
                let opened = collector::Opened::Batch {
                    state: Box::default(),
                    log_id: LOG,
                };
                machine.handle_opened(now, uid, opened);
            }
            collector::Output::Sync { uid, sequence } => machine.handle_synced(now, uid, sequence),
            collector::Output::ReadBack { uid } => machine.handle_read_back(now, uid, Vec::new(), 0),
            collector::Output::Write { .. }
            | collector::Output::Checkpoint { .. }
            | collector::Output::Close { .. } => {}
            other => bail!("nothing explains {other:?}"),
        }
    }
    Ok(())
}

/// How many tasks have succeeded, once the batch is done.
fn drain_ventilator(machine: &mut Ventilator, now: Instant, out: &mut Vec<LinkOutput>) -> Result<Option<u64>> {
    let mut succeeded = None;
    while let Some(output) = machine.poll_output(now, &mut Source) {
        match output {
            ventilator::Output::Link(output) => out.push(output),
            ventilator::Output::Event(Event::Claiming { epoch, .. }) => machine.handle_epoch_kept(now, epoch),
            ventilator::Output::Event(Event::Done(done)) => succeeded = Some(done.counts.succeeded),
            ventilator::Output::Event(Event::Health(_)) => {}
            ventilator::Output::Event(other) => bail!("nothing explains {other:?}"),
        }
    }
    Ok(succeeded)
}

/// Its tasks answer with their payloads, at once.
fn drain_worker(machine: &mut Worker, now: Instant, out: &mut Vec<LinkOutput>) -> Result<()> {
    while let Some(output) = machine.poll_output(now) {
        match output {
            worker::Output::Link(output) => out.push(output),
            worker::Output::Prepare { uid, .. } => machine.handle_prepared(now, uid, Ok(WINDOW)),
            worker::Output::Run { uid, tasks } => {
                machine.handle_finished(now, uid, tasks.into_iter().map(finished).collect());
            }
            worker::Output::Release { .. } | worker::Output::ExtendDeadlines(_) => {}
            other => bail!("nothing explains {other:?}"),
        }
    }
    Ok(())
}

fn finished(task: worker::Task) -> Finished {
    Finished {
        number: task.number,
        attempt: task.attempt,
        outcome: OutcomeCode::Succeeded,
        code: 0,
        start_micros: 0,
        duration_micros: 0,
        output: match task.payload {
            Payload::Whole(bytes) => bytes,
            Payload::Kept { .. } => Bytes::new(),
        },
        spooled: None,
        log: Bytes::new(),
    }
}

fn identity(role: Role, place: Place) -> Identity {
    Identity {
        role,
        name: place.to_string(),
        process_id: ProcessId(Uuid::from_u128(place as u128 + 1)),
        slots: (role == Role::Worker).then_some(1),
    }
}

fn ventilator(now: Instant) -> Ventilator {
    let mut machine = Ventilator::new(ventilator::Config {
        identity: identity(Role::Ventilator, VENTILATOR),
        seed: 1,
        uid: UID,
        name: "batch".to_owned(),
        instance: InstanceId(Uuid::from_u128(3)),
        epoch_floor: 0,
        completions: TASKS,
        policy: Policy {
            backoff_limit_per_index: 0,
            max_bytes_per_task: BYTES.into(),
        },
        work: Work {
            executor: Executor::Library,
            collector: COLLECTOR.to_string(),
            max_bytes_per_task: BYTES.into(),
            deadline_millis: None,
        },
        max_failed: None,
        deadline: None,
        success: None,
        workers_are_mended: false,
        cut: Cut::default(),
    });
    machine.handle_collector(now, &COLLECTOR.to_string());
    for place in (FIRST_WORKER..).take(WORKERS) {
        machine.handle_worker(now, &place.to_string(), &place.to_string());
    }
    machine
}

fn worker(place: Place) -> Worker {
    Worker::new(worker::Config {
        identity: identity(Role::Worker, place),
        slots: 1,
        seed: place as u64,
        only: worker::Only::default(),
        part_bytes: PART_BYTES,
        queue_bytes: QUEUE_BYTES,
    })
}
