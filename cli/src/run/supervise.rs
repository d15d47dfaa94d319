//! Runs the ventilator and looks after the parts until the batch is over or somebody stops it.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use harmony_protocol::Identity;
use harmony_protocol::ids::{InstanceId, ProcessId};
use harmony_protocol::ventilator::{Config, Cut, Event, Progress, Ventilator};
use harmony_protocol::wire::{Health, Policy, Role, Work};
use harmony_transport::{Transport, sleep_until};
use harmony_ventilator::driver::{self, Command, Host};
use harmony_ventilator::source::TaskSource;
use harmony_ventilator::success_policy;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::watch;
use tracing::Instrument as _;

use super::Plan;
use super::control;
use super::metrics::{Exporter, Views};
use super::orphans;
use super::parts::{Part, Parts};
use super::process::Notice;
use super::snapshot::snapshot;
use super::sockets::Sockets;
use super::stops::Stops;
use crate::args::RunArgs;
use crate::display::Display;
use crate::exit::Failure;

/// How often progress is shown, and orphans are looked for after a worker died.
const TICK: Duration = Duration::from_millis(200);
/// How long after the death of a worker its orphans are looked for: some need to lose their own parent first.
const ORPHANS_FOR: Duration = Duration::from_secs(2);
/// How long parts may take to end once their standard input is closed.
const CLOSE_WITHIN: Duration = Duration::from_secs(5);

/// The run was stopped before the batch was over.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Interrupted;

/// How a run is being stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    Not,
    /// Running tasks may end.
    Draining,
    /// At once.
    Now,
}

struct Supervisor<'a> {
    plan: &'a Plan,
    parts: Parts,
    display: Display,
    exporter: Option<Exporter>,
    commands: UnboundedSender<Command>,
    stop: Stop,
    /// Children that this process had before it started any.
    inherited: BTreeSet<u32>,
    orphans_until: Option<Instant>,
    failure: Option<Failure>,
    over: bool,
}

/// Runs the batch. Returns whether it was stopped before it was over.
pub(crate) fn supervise(
    args: &RunArgs,
    plan: &Plan,
    source: Box<dyn TaskSource>,
) -> Result<Option<Interrupted>, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Failure::infrastructure)?;
    let outcome = runtime.block_on(run(args, plan, source));
    runtime.shutdown_background();
    outcome
}

async fn run(args: &RunArgs, plan: &Plan, source: Box<dyn TaskSource>) -> Result<Option<Interrupted>, Failure> {
    let inherited = orphans::adopt();
    let links = Transport::start(harmony_transport::Config::default()).map_err(Failure::infrastructure)?;
    let (notices, mut inbox) = unbounded_channel();
    let dirs = (plan.folder.logs(), plan.base_dir.clone());
    let mut parts = Parts::new(&plan.batch, Sockets::create()?, dirs, args.grace, notices)?;
    let (commands, receiver) = unbounded_channel();
    let _control = control::serve(&plan.folder.dir, commands.clone());
    let (events, mut happenings) = unbounded_channel();
    let config = config(plan, &parts);
    let (progress, shown) = watch::channel(Ventilator::new(config.clone()).progress());
    let (workers, workers_shown) = watch::channel(Vec::new());
    let views = Views {
        progress: shown.clone(),
        workers: workers_shown,
        links: links.0.meter(),
    };
    let exporter = args
        .metrics
        .as_ref()
        .map(|address| Exporter::serve(address, plan, views, parts.serve_metrics()));
    let exporter = exporter.transpose().map_err(Failure::bad_input)?;
    let display = Display::new(Instant::now(), plan.batch.name.as_str(), plan.completions, args.quiet);
    let mut supervisor = Supervisor {
        plan,
        parts,
        display,
        exporter,
        commands,
        stop: Stop::Not,
        inherited,
        orphans_until: None,
        failure: None,
        over: false,
    };
    supervisor.introduce();
    if let Some(exporter) = &supervisor.exporter {
        supervisor.display.say(&format!("metrics: {}", exporter.place()));
    }
    let span = driver::span(&config.name, config.uid);
    let host = Host {
        events,
        progress,
        workers,
    };
    let ventilator = tokio::spawn(driver::run(config, source, links, receiver, host).instrument(span));
    // Whatever goes wrong from here on, the parts that were started are ended.
    let outcome = match supervisor.parts.start_all() {
        Ok(()) => supervisor.watch(&mut inbox, &mut happenings, &shown).await,
        Err(failure) => Err(failure),
    };
    let _ = supervisor.commands.send(Command::Leave);
    let _ = ventilator.await;
    supervisor.close(&mut inbox).await;
    supervisor.display.finish();
    outcome?;
    match supervisor.failure.take() {
        Some(failure) => Err(failure),
        None => Ok((!supervisor.over).then_some(Interrupted)),
    }
}

/// What a log line says that is JSON.
fn message(line: &str) -> Option<String> {
    let line: serde_json::Value = serde_json::from_str(line).ok()?;
    line.get("message")?.as_str().map(str::to_owned)
}

fn config(plan: &Plan, parts: &Parts) -> Config {
    let batch = &plan.batch;
    let process_id = ProcessId(uuid::Uuid::new_v4());
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    Config {
        identity: Identity {
            role: Role::Ventilator,
            name: "harmony run".to_owned(),
            process_id,
            slots: None,
        },
        seed: process_id.0.as_u64_pair().0,
        uid: plan.record.uid,
        name: batch.name.to_string(),
        instance: InstanceId(uuid::Uuid::new_v4()),
        epoch_floor: plan.record.epoch,
        completions: plan.completions,
        policy: Policy {
            backoff_limit_per_index: batch.backoff_limit_per_index,
            max_bytes_per_task: batch.max_bytes_per_task,
        },
        work: Work {
            executor: batch.executor.wire(),
            collector: parts.endpoint(Part::Collector).to_string(),
            max_bytes_per_task: batch.max_bytes_per_task,
            deadline_millis: batch.active_deadline_per_index.map(millis),
        },
        max_failed: batch.max_failed_indexes,
        deadline: plan.time_left(),
        success: success_policy(&batch.success_policy),
        workers_are_mended: false,
        cut: Cut::default(),
    }
}

impl Supervisor<'_> {
    /// Tells the ventilator where everybody will be.
    fn introduce(&self) {
        let parts: Vec<Part> = self.parts.all().collect();
        for part in parts {
            let endpoint = self.parts.endpoint(part).to_string();
            let command = match part {
                Part::Collector => Command::Collector(endpoint),
                Part::Worker(_) => Command::Worker {
                    name: part.name(),
                    endpoint,
                },
            };
            let _ = self.commands.send(command);
        }
    }

    async fn watch(
        &mut self,
        inbox: &mut UnboundedReceiver<Notice>,
        happenings: &mut UnboundedReceiver<Event>,
        shown: &watch::Receiver<Progress>,
    ) -> Result<(), Failure> {
        let mut stops = Stops::new()?;
        let mut tick = tokio::time::interval(TICK);
        while !self.over && self.failure.is_none() && self.stop != Stop::Now {
            if self.stop == Stop::Draining && !self.parts.has_workers() {
                return Ok(());
            }
            let restart = self.parts.next_restart();
            tokio::select! {
                Some(event) = happenings.recv() => self.take_event(event)?,
                Some(notice) = inbox.recv() => self.take_notice(notice)?,
                () = stops.next() => self.take_stop(),
                () = sleep_until(restart) => self.parts.restart_due(Instant::now())?,
                _ = tick.tick() => self.tick(&shown.borrow()),
            }
        }
        self.tick(&shown.borrow());
        Ok(())
    }

    fn tick(&mut self, progress: &Progress) {
        let now = Instant::now();
        self.display.show(now, &snapshot(progress));
        if let Some(exporter) = &self.exporter {
            exporter.note_rate(self.display.rate());
        }
        if self.orphans_until.is_some() {
            self.kill_orphans();
            self.orphans_until.take_if(|until| now >= *until);
        }
    }

    /// Kills what killed workers left behind. Returns how many processes there were.
    fn kill_orphans(&self) -> usize {
        let mut known = self.parts.pids();
        known.extend(&self.inherited);
        orphans::kill(&known)
    }

    fn take_event(&mut self, event: Event) -> Result<(), Failure> {
        match event {
            Event::Done(_) => self.over = true,
            Event::Claiming { epoch, .. } => {
                self.plan.folder.keep(&super::BatchRecord {
                    epoch,
                    ..self.plan.record.clone()
                })?;
                let _ = self.commands.send(Command::EpochKept(epoch));
            }
            Event::Failed(reason) => self.failure = Some(Failure::infrastructure(reason)),
            Event::Fenced { epoch } => {
                let message = format!("another ventilator took this batch over (epoch {epoch})");
                self.failure = Some(Failure::infrastructure(message));
            }
            Event::WorkerLost { name, in_flight } if self.stop == Stop::Not => {
                self.display
                    .say(&format!("{name} is lost; {in_flight} tasks go out again"));
            }
            Event::WorkerLost { .. } => {}
            Event::WorkerRefused { name, reason } => self.display.warn(&format!("{name}: {reason}")),
            Event::ResultsLost { before, settled } => self.display.warn(&format!(
                "the collector's log has lost results: {before} tasks were recorded, {settled} still are; the others run again"
            )),
            Event::Health(Health::DiskFull) => self
                .display
                .warn("the disk is full: recording pauses until there is room"),
            Event::Health(Health::Ok) => self.display.warn("there is room on the disk again"),
        }
        Ok(())
    }

    fn take_notice(&mut self, notice: Notice) -> Result<(), Failure> {
        match notice {
            Notice::Line(part, line) => {
                if let Some(message) = message(&line) {
                    // Already for machines: a name before it would spoil it.
                    self.parts.note_line(part, &message);
                    self.display.warn(line.trim());
                } else {
                    self.parts.note_line(part, &line);
                    self.display.warn(&format!("{}: {}", part.name(), line.trim()));
                }
            }
            Notice::Ended(part, status) => {
                let now = Instant::now();
                self.parts.ended(now, part, status)?;
                if let Part::Worker(_) = part {
                    let _ = self.commands.send(Command::WorkerExited {
                        name: part.name(),
                        counts: true,
                    });
                    self.kill_orphans();
                    self.orphans_until = Some(now + ORPHANS_FOR);
                }
            }
        }
        Ok(())
    }

    /// The first Ctrl-C lets running tasks end, the second one does not.
    fn take_stop(&mut self) {
        if self.stop == Stop::Not {
            self.stop = Stop::Draining;
            self.display.leave();
            self.display
                .say("stopping: running tasks may end; once more to stop them");
            let _ = self.commands.send(Command::Drain);
            self.parts.drain_workers();
        } else {
            self.stop = Stop::Now;
        }
    }

    /// Ends all parts and what they left behind.
    async fn close(&mut self, inbox: &mut UnboundedReceiver<Notice>) {
        self.parts.close();
        let mut give_up = Instant::now() + CLOSE_WITHIN;
        while self.parts.is_running() {
            tokio::select! {
                Some(notice) = inbox.recv() => {
                    if let Notice::Ended(part, status) = notice {
                        let _ = self.parts.ended(Instant::now(), part, status);
                    }
                }
                () = sleep_until(Some(give_up)) => {
                    self.parts.kill();
                    give_up = Instant::now() + CLOSE_WITHIN;
                }
            }
        }
        let give_up = Instant::now() + CLOSE_WITHIN;
        while self.kill_orphans() > 0 && Instant::now() < give_up {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}
