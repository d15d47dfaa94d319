//! A worker process: the machine, and slots in which tasks take virtual time.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use crc32c::crc32c;
use harmony_protocol::Identity;
use harmony_protocol::ids::{Attempt, BatchUid, ProcessId};
use harmony_protocol::wire::{OutcomeCode, Role};
use harmony_protocol::worker::{Config, Finished, Only, Output, Payload, PayloadId, Piece, Spooled, Task, Worker};

use crate::host::{Action, Context, Input};
use crate::observation::{Execution, Observation};
use crate::tasks::Nature;

/// Bytes of output that go whole: far fewer than in earnest, so that many outputs go in parts.
const INLINE: usize = 512;
/// Bytes of one PART: the longest outputs have some sixty.
const PART_BYTES: usize = 16 << 10;

/// How a worker is set up.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// Tasks that run at once.
    pub slots: u32,
    /// Tasks that a slot takes ahead.
    pub window: usize,
    /// Bytes of payloads that it grants and holds in memory at most.
    pub queue_bytes: u64,
    /// Its executor cannot run.
    pub broken: bool,
}

#[derive(Clone, Copy, Debug)]
struct Running {
    uid: BatchUid,
    number: u64,
    attempt: Attempt,
    begins: Duration,
    ends: Duration,
}

impl Running {
    fn task(&self) -> Execution {
        Execution {
            uid: self.uid,
            number: self.number,
            attempt: self.attempt,
        }
    }
}

/// See the module.
#[derive(Debug)]
pub struct WorkerHost {
    machine: Worker,
    setup: Setup,
    /// When each slot of each batch is free.
    lanes: BTreeMap<BatchUid, Vec<Duration>>,
    running: BTreeMap<u64, Running>,
    /// Outputs that are kept until they are recorded.
    spool: BTreeMap<(BatchUid, u64, Attempt), Bytes>,
    /// Payloads that came ahead, until their tasks have ended.
    payloads: BTreeMap<(BatchUid, PayloadId), Vec<u8>>,
    next_run: u64,
}

impl WorkerHost {
    /// A worker process that has just begun.
    pub fn new(name: &str, process: ProcessId, setup: Setup, seed: u64) -> Self {
        let identity = Identity {
            role: Role::Worker,
            name: name.to_owned(),
            process_id: process,
            slots: Some(setup.slots),
        };
        Self {
            machine: Worker::new(Config {
                identity,
                slots: setup.slots,
                seed,
                only: Only::default(),
                part_bytes: PART_BYTES,
                queue_bytes: setup.queue_bytes,
            }),
            setup,
            lanes: BTreeMap::new(),
            running: BTreeMap::new(),
            spool: BTreeMap::new(),
            payloads: BTreeMap::new(),
            next_run: 0,
        }
    }

    /// Tasks that it has and has not finished.
    pub fn unfinished(&self) -> u64 {
        self.machine.unfinished()
    }

    /// When it wants to be told the time.
    pub fn timeout(&self) -> Option<std::time::Instant> {
        self.machine.poll_timeout()
    }

    /// Takes an input, and does what follows from it.
    pub fn take(&mut self, context: &mut Context<'_>, input: Input) {
        let now = context.now;
        match input {
            Input::Opened(link) => self.machine.handle_link_opened(now, link),
            Input::Closed(link) => self.machine.handle_link_closed(now, link),
            Input::Message(link, packet) => self.machine.handle_message(now, link, &packet.frames),
            Input::Timer => self.machine.handle_timeout(now),
            Input::Prepared(uid, result) => self.machine.handle_prepared(now, uid, result),
            Input::Ended(run) => self.take_ended(context, run),
            Input::Stopped(uid, tasks) => self.machine.handle_stopped(now, uid, &tasks),
            Input::Piece(uid, piece, read) => self.machine.handle_piece(now, uid, piece, read),
            Input::Drain(grace) => self.machine.handle_drain(now, grace),
            other => panic!("not for a worker: {other:?}"),
        }
        self.drain(context);
    }

    fn take_ended(&mut self, context: &mut Context<'_>, run: u64) {
        if !self.running.contains_key(&run) {
            return;
        }
        let ended: Vec<u64> = self
            .running
            .iter()
            .filter(|(_, running)| running.ends <= context.at)
            .map(|(run, _)| *run)
            .collect();
        let mut finished: BTreeMap<BatchUid, Vec<Finished>> = BTreeMap::new();
        let ended: Vec<Running> = ended.iter().filter_map(|run| self.running.remove(run)).collect();
        for running in ended {
            let (party, task) = (context.party, running.task());
            context.observe(&Observation::TaskEnds { party, task });
            let outcome = self.spooled(running.uid, outcome(context, running));
            finished.entry(running.uid).or_default().push(outcome);
        }
        for (uid, finished) in finished {
            self.machine.handle_finished(context.now, uid, finished);
        }
    }

    fn drain(&mut self, context: &mut Context<'_>) {
        while let Some(output) = self.machine.poll_output(context.now) {
            match output {
                Output::Link(output) => context.link(output),
                Output::Prepare { uid, .. } => {
                    let result = if self.setup.broken {
                        Err("no such program".to_owned())
                    } else {
                        Ok(self.setup.slots as usize * self.setup.window)
                    };
                    let time = context.between(Duration::ZERO, Duration::from_millis(20));
                    context.after(time, Input::Prepared(uid, result));
                }
                Output::Run { uid, tasks } => tasks.into_iter().for_each(|task| self.run(context, uid, &task)),
                Output::Stop { uid, numbers } => self.stop(context, uid, &numbers),
                Output::ReadPiece { uid, piece } => self.read(context, uid, piece),
                Output::Keep { uid, id, bytes } => {
                    self.payloads.entry((uid, id)).or_default().extend_from_slice(&bytes);
                }
                Output::Discard { uid, id } => {
                    let known = self.payloads.remove(&(uid, id));
                    assert!(known.is_some(), "{id:?} is discarded and was never kept");
                }
                Output::Unspool { uid, number, attempt } => drop(self.spool.remove(&(uid, number, attempt))),
                Output::Release { uid } => {
                    self.spool.retain(|(of, ..), _| *of != uid);
                    self.payloads.retain(|(of, _), _| *of != uid);
                    self.running.retain(|_, running| running.uid != uid);
                    self.lanes.remove(&uid);
                    let party = context.party;
                    context.observe(&Observation::Released { party, uid });
                }
                Output::ExtendDeadlines(_) => {}
                Output::Exit => context.actions.push(Action::Exit),
            }
        }
        if context.sanity_checks {
            self.machine.sanity_check();
        }
    }

    /// Keeps an output that is too long for one message.
    fn spooled(&mut self, uid: BatchUid, mut finished: Finished) -> Finished {
        // A worker may send what fits one message whole.
        if finished.output.len() > INLINE && finished.number.is_multiple_of(2) {
            let output = std::mem::take(&mut finished.output);
            finished.spooled = Some(Spooled {
                length: u32::try_from(output.len()).expect("outputs are small here"),
                checksum: crc32c(&output),
            });
            self.spool.insert((uid, finished.number, finished.attempt), output);
        }
        finished
    }

    /// Reading takes its time, and rarely fails.
    fn read(&mut self, context: &mut Context<'_>, uid: BatchUid, piece: Piece) {
        let (begin, end) = (usize::try_from(piece.offset).expect("small"), piece.length);
        let output = self.spool.get(&(uid, piece.number, piece.attempt));
        let bytes = output.map(|output| output.slice(begin..begin + end));
        let time = context.between(Duration::ZERO, Duration::from_millis(2));
        context.after(
            time,
            Input::Piece(uid, piece, bytes.ok_or_else(|| "it is gone".to_owned())),
        );
    }

    fn run(&mut self, context: &mut Context<'_>, uid: BatchUid, task: &Task) {
        let tasks = context.tasks(uid).clone();
        context.trace.note(
            context.at,
            format_args!("  runs {}@{} of {}", task.number, task.attempt, tasks.name),
        );
        let payload = match &task.payload {
            Payload::Whole(bytes) => bytes.as_ref(),
            Payload::Kept { id, length } => {
                let kept = &self.payloads[&(uid, *id)];
                assert_eq!(kept.len() as u64, *length, "the payload of {}", task.number);
                kept
            }
        };
        context.observe(&Observation::TaskBegins {
            party: context.party,
            task: Execution {
                uid,
                number: task.number,
                attempt: task.attempt,
            },
            alone: task.alone,
            payload,
        });
        let slots = self.setup.slots as usize;
        let lanes = self.lanes.entry(uid).or_insert_with(|| vec![Duration::ZERO; slots]);
        let lane = lanes.iter_mut().min().expect("there is a slot");
        let begins = (*lane).max(context.at);
        let duration = tasks.duration(task.number, task.attempt);
        let ends = begins + duration;
        *lane = ends;
        let running = Running {
            uid,
            number: task.number,
            attempt: task.attempt,
            begins,
            ends,
        };
        self.next_run += 1;
        self.running.insert(self.next_run, running);
        if tasks.nature(task.number) == Nature::Poison {
            context.actions.push(Action::Die(begins + duration / 2 - context.at));
        } else {
            context.after(ends - context.at, Input::Ended(self.next_run));
        }
    }

    fn stop(&mut self, context: &mut Context<'_>, uid: BatchUid, numbers: &[u64]) {
        let mut stopped = Vec::new();
        let wanted = |running: &Running| running.uid == uid && numbers.contains(&running.number);
        for (run, running) in self.running.clone() {
            // A task may end while it is being stopped.
            if wanted(&running) && context.random.u32(0..10) > 0 {
                self.running.remove(&run);
                let (party, task) = (context.party, running.task());
                context.observe(&Observation::TaskStopped { party, task });
                stopped.push((running.number, running.attempt));
            }
        }
        let time = context.between(Duration::ZERO, Duration::from_millis(5));
        context.after(time, Input::Stopped(uid, stopped));
    }
}

fn outcome(context: &mut Context<'_>, running: Running) -> Finished {
    let run = context.random.u64(..);
    let tasks = context.tasks(running.uid);
    let (succeeds, fails) = (
        tasks.succeeds(running.number, running.attempt),
        tasks.fails(running.number, running.attempt),
    );
    let succeeded = if succeeds && fails {
        run.is_multiple_of(2)
    } else {
        succeeds
    };
    let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    Finished {
        number: running.number,
        attempt: running.attempt,
        outcome: if succeeded {
            OutcomeCode::Succeeded
        } else {
            tasks.failure(running.number).expect("poison ends the process")
        },
        code: i32::from(tasks.failure(running.number) == Some(OutcomeCode::ExitCode) && !succeeded),
        start_micros: micros(running.begins),
        duration_micros: micros(running.ends - running.begins),
        spooled: None,
        output: if succeeded {
            tasks.output(running.number, run)
        } else {
            Bytes::new()
        },
        log: if succeeded { Bytes::new() } else { "it failed".into() },
    }
}
