//! A ventilator process: the machine, the tasks of its batch, and the epoch that it keeps on a disk of its own.

use std::ops::Range;
use std::time::Duration;

use harmony_protocol::Identity;
use harmony_protocol::ids::{BatchUid, Epoch, InstanceId, ProcessId};
use harmony_protocol::limits::MAX_PAYLOAD;
use harmony_protocol::ventilator::{Config, Event, Output, Payloads, Progress, Ventilator};
use harmony_protocol::wire::{Ending, Executor, Policy, Role, Work};
use uuid::Uuid;

use crate::host::{Action, Context, Input};
use crate::observation::{Numbers, Observation, Verdict};
use crate::tasks::{Nature, Tasks};

/// The longest time that it takes to keep an epoch.
const KEEPS_WITHIN: Duration = Duration::from_millis(50);

/// See the module.
#[derive(Debug)]
pub struct VentilatorHost {
    machine: Ventilator,
    uid: BatchUid,
    /// The last epoch that it has kept.
    epoch: Epoch,
    over: bool,
}

struct Source<'a>(&'a Tasks);

impl Payloads for Source<'_> {
    fn append(&mut self, number: u64, range: Range<u64>, buffer: &mut Vec<u8>) -> Result<u64, String> {
        if self.0.nature(number) == Nature::TooLarge {
            return Ok(MAX_PAYLOAD + 1);
        }
        let payload = self.0.payload(number);
        let index = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(payload.len());
        buffer.extend_from_slice(&payload[index(range.start)..index(range.end)]);
        Ok(payload.len() as u64)
    }
}

impl VentilatorHost {
    /// A ventilator process that has just begun; `epoch` is what its predecessor wrote down.
    pub fn new(name: &str, process: ProcessId, tasks: &Tasks, epoch: Epoch, seed: u64) -> Self {
        let identity = Identity {
            role: Role::Ventilator,
            name: name.to_owned(),
            process_id: process,
            slots: None,
        };
        let largest = tasks.largest as u64;
        let config = Config {
            identity,
            seed,
            uid: tasks.uid,
            name: tasks.name.clone(),
            instance: InstanceId(Uuid::from_u128(process.0.as_u128() ^ 0x1257_0000)),
            epoch_floor: epoch,
            completions: tasks.completions,
            policy: Policy {
                backoff_limit_per_index: tasks.backoff_limit,
                max_bytes_per_task: largest,
            },
            work: Work {
                executor: Executor::Library,
                collector: String::new(),
                max_bytes_per_task: largest,
                deadline_millis: None,
            },
            max_failed: tasks.max_failed,
            deadline: None,
            success: None,
            workers_are_mended: false,
            cut: tasks.cut(),
        };
        Self {
            machine: Ventilator::new(config),
            uid: tasks.uid,
            epoch,
            over: false,
        }
    }

    /// Where the other parties are.
    pub fn introduce(&mut self, context: &mut Context<'_>, collector: &str, workers: &[String]) {
        self.machine.handle_collector(context.now, collector);
        for name in workers {
            self.machine.handle_worker(context.now, name, name);
        }
        self.drain(context);
    }

    /// Whether it has ended.
    pub fn is_over(&self) -> bool {
        self.over
    }

    /// What its successor finds on the disk.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// How far it is.
    pub fn progress(&self) -> Progress {
        self.machine.progress()
    }

    /// Its batch.
    pub fn uid(&self) -> BatchUid {
        self.uid
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
            Input::WorkerExited(name, counts) => self.machine.handle_worker_exit(now, &name, counts),
            Input::EpochKept(epoch) => {
                self.epoch = epoch;
                self.machine.handle_epoch_kept(now, epoch);
            }
            Input::Spare(worker, true) => self.machine.handle_worker_drain(now, &worker),
            Input::Spare(worker, false) => self.machine.handle_worker_undrain(now, &worker),
            Input::Cancel => self.machine.handle_cancel(now, "the user asked for it"),
            other => panic!("not for a ventilator: {other:?}"),
        }
        self.drain(context);
    }

    fn drain(&mut self, context: &mut Context<'_>) {
        let tasks = context.tasks(self.uid).clone();
        while let Some(output) = self.machine.poll_output(context.now, &mut Source(&tasks)) {
            match output {
                Output::Link(output) => context.link(output),
                Output::Event(event) => self.note(context, event),
            }
        }
        if context.sanity_checks {
            self.machine.sanity_check();
        }
        let progress = self.machine.progress();
        context.observe(&Observation::Progress {
            party: context.party,
            numbers: Numbers {
                settled: progress.counts.succeeded + progress.counts.failed,
                in_flight: progress.in_flight,
                left: progress.left,
                waiting: progress.waiting,
            },
        });
    }

    fn note(&mut self, context: &mut Context<'_>, event: Event) {
        context.trace.note(context.at, format_args!("  {event:?}"));
        let verdict = match event {
            Event::Claiming { epoch, .. } => {
                let time = context.between(Duration::ZERO, KEEPS_WITHIN);
                context.after(time, Input::EpochKept(epoch));
                return;
            }
            Event::Done(done) => {
                if let Ending::Cancelled(reason) = &done.ending {
                    context.trace.note(context.at, format_args!("  cancelled: {reason}"));
                }
                Verdict::Done(done)
            }
            Event::Fenced { epoch } => Verdict::Fenced(epoch),
            Event::Failed(reason) => Verdict::Failed(reason),
            Event::WorkerLost { .. } | Event::WorkerRefused { .. } | Event::ResultsLost { .. } | Event::Health(_) => {
                return;
            }
        };
        self.over = true;
        if !matches!(verdict, Verdict::Done(_)) {
            self.machine.handle_leave(context.now);
        }
        let party = context.party;
        context.observe(&Observation::Ends {
            party,
            verdict: &verdict,
        });
        context.actions.push(Action::Exit);
    }
}
