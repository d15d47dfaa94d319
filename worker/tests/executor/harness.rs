//! What the executors' tests share: an executor with its events, and a look at processes.
#![allow(clippy::needless_pass_by_value, reason = "the setups are made where they are passed")]
#![allow(dead_code, unreachable_pub, reason = "each test file uses a part of it")]

use std::{
    fs,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use harmony_protocol::worker::{Payload, PayloadId};
use harmony_protocol::{
    ids::{Attempt, BatchUid},
    wire::{Executor as Kind, Framing},
};
use harmony_worker::Spool;
pub use harmony_worker::executor::Task;
use harmony_worker::executor::{Executor, ExecutorEvent, Finished, Setup, TaskContext, library, prepare};
use tokio::sync::mpsc::{UnboundedReceiver, error::TryRecvError, unbounded_channel};

/// Ten times what the slowest test should take.
const PATIENCE: Duration = Duration::from_mins(1);
pub const UID: &str = "0190b6f0-0000-7000-8000-000000000001";

fn setup(executor: Kind) -> Setup {
    Setup {
        batch: "test".to_owned(),
        uid: BatchUid(UID.parse().unwrap()),
        executor,
        slots: 1,
        max_output: 16 << 20,
        deadline: None,
        grace: Duration::from_secs(30),
        work_dir: None,
        own_command: Vec::new(),
        spool: Arc::new(Spool::new(&std::env::temp_dir())),
    }
}

fn owned(command: &[&str]) -> Vec<String> {
    command.iter().map(|word| (*word).to_owned()).collect()
}

pub fn exec(command: &[&str]) -> Setup {
    setup(Kind::Exec {
        command: owned(command),
    })
}

pub fn lines(command: &[&str]) -> Setup {
    setup(Kind::Process {
        command: owned(command),
        framing: Framing::Lines,
    })
}

pub fn closure() -> Setup {
    setup(Kind::Library)
}

pub fn task(number: u64, payload: impl Into<Bytes>) -> Task {
    Task {
        number,
        attempt: 1,
        payload: payload.into().into(),
        alone: false,
    }
}

/// A task whose payload came ahead, in pieces, and is kept under this id.
pub fn kept_task(spool: &Spool, number: u64, id: u64, payload: &[u8]) -> Task {
    for piece in payload.chunks(1 << 20) {
        spool.keep_payload(BatchUid(UID.parse().unwrap()), PayloadId(id), piece);
    }
    Task {
        payload: Payload::Kept {
            id: PayloadId(id),
            length: payload.len() as u64,
        },
        ..task(number, "")
    }
}

/// An executor, what it said so far, and what is still to be looked at.
pub struct Bench {
    pub executor: Box<dyn Executor>,
    events: UnboundedReceiver<ExecutorEvent>,
    pub finished: Vec<Finished>,
    pub stopped: Vec<(u64, Attempt)>,
    pub warnings: Vec<String>,
    next: u64,
}

impl Bench {
    pub fn start(setup: Setup) -> Self {
        let (sender, events) = unbounded_channel();
        Self::of(prepare(&setup, sender).unwrap(), events)
    }

    pub fn library(
        setup: &Setup,
        closure: impl Fn(TaskContext<'_>) -> Result<Vec<u8>, String> + Send + Sync + 'static,
    ) -> Self {
        let (sender, events) = unbounded_channel();
        Self::of(library(Arc::new(closure), setup, sender).unwrap(), events)
    }

    fn of(executor: Box<dyn Executor>, events: UnboundedReceiver<ExecutorEvent>) -> Self {
        Self {
            executor,
            events,
            finished: Vec::new(),
            stopped: Vec::new(),
            warnings: Vec::new(),
            next: 1_000_000,
        }
    }

    pub fn submit(&mut self, tasks: Vec<Task>) {
        self.executor.submit(tasks);
    }

    pub fn run_one(&mut self, payload: impl Into<Bytes>) -> Finished {
        self.next += 1;
        self.submit(vec![task(self.next, payload)]);
        let finished = self.finished(1).remove(0);
        assert_eq!(finished.number, self.next);
        finished
    }

    pub fn event(&mut self) -> ExecutorEvent {
        let until = Instant::now() + PATIENCE;
        loop {
            match self.events.try_recv() {
                Ok(event) => return event,
                Err(TryRecvError::Empty) if Instant::now() < until => thread::sleep(Duration::from_micros(200)),
                Err(error) => panic!(
                    "no event: {error}; so far {:?} {:?}",
                    self.finished.len(),
                    self.warnings
                ),
            }
        }
    }

    pub fn take_in(&mut self) {
        match self.event() {
            ExecutorEvent::Finished(finished) => self.finished.extend(finished),
            ExecutorEvent::Stopped(stopped) => self.stopped.extend(stopped),
            ExecutorEvent::Warning(warning) => self.warnings.push(warning),
            other => panic!("{other:?}"),
        }
    }

    /// The next `count` outcomes, by number.
    pub fn finished(&mut self, count: usize) -> Vec<Finished> {
        while self.finished.len() < count {
            self.take_in();
        }
        self.finished.sort_by_key(|finished| finished.number);
        std::mem::take(&mut self.finished)
    }

    /// The next `count` tasks handed back, by number.
    pub fn stopped(&mut self, count: usize) -> Vec<(u64, Attempt)> {
        while self.stopped.len() < count {
            self.take_in();
        }
        self.stopped.sort_unstable();
        std::mem::take(&mut self.stopped)
    }

    /// The next warning.
    pub fn warning(&mut self) -> String {
        while self.warnings.is_empty() {
            self.take_in();
        }
        self.warnings.remove(0)
    }

    /// Why the executor is broken.
    pub fn broken(&mut self) -> String {
        loop {
            match self.event() {
                ExecutorEvent::Broken(reason) => return reason,
                ExecutorEvent::Finished(finished) => self.finished.extend(finished),
                ExecutorEvent::Stopped(stopped) => self.stopped.extend(stopped),
                ExecutorEvent::Warning(warning) => self.warnings.push(warning),
                other @ ExecutorEvent::Stuck(_) => panic!("{other:?}"),
            }
        }
    }
}

pub fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < until, "not in time: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// State letter, parent and name of a process.
fn stat(pid: &str) -> Option<(char, u32, String)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (head, rest) = stat.rsplit_once(") ")?;
    let mut rest = rest.split(' ');
    Some((
        rest.next()?.chars().next()?,
        rest.next()?.parse().ok()?,
        head.split_once('(')?.1.to_owned(),
    ))
}

/// Whether the process exists and is no zombie.
pub fn is_running(pid: &str) -> bool {
    stat(pid).is_some_and(|(state, ..)| state != 'Z')
}

pub fn kill(pid: &str) {
    assert!(
        std::process::Command::new("kill")
            .args(["-9", pid])
            .status()
            .unwrap()
            .success()
    );
}

/// Zombies of this name among this process's children.
pub fn zombies_of(name: &str) -> usize {
    fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| stat(entry.ok()?.file_name().to_str()?))
        .filter(|(state, parent, of)| *state == 'Z' && *parent == std::process::id() && of == name)
        .count()
}
