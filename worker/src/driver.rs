//! The driver of the worker machine: it moves bytes between links, machine and executors, and decides nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use harmony_admin::{AdminError, Inspections, Router};
use harmony_protocol::Identity;
use harmony_protocol::ids::{BatchUid, Epoch, ProcessId};
use harmony_protocol::limits::{PART_BYTES, QUEUE_BYTES};
use harmony_protocol::wire::{OutcomeCode, Role, Work};
use harmony_protocol::worker::{Config, Finished, Output, Piece, Worker};
use harmony_transport::{EVENTS_AT_ONCE, Event, Events, Transport, TransportError, sleep_until};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::args::WorkerArgs;
use crate::chunks::Chunks;
use crate::executor::{self, Executor, ExecutorEvent, Setup, TaskContext};
use crate::observe::Snapshot;
use crate::parent;
use crate::spool::{self, Spool};

/// Exit code of a worker whose closure holds a thread for good: whoever started it is to start it anew.
pub const STUCK_EXIT: u8 = 75;

/// A closure that runs tasks.
pub type Closure = dyn Fn(TaskContext<'_>) -> Result<Vec<u8>, String> + Send + Sync;

/// Why a worker ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It was asked to leave and handed everything over.
    Left,
    /// Whoever started it is gone: tasks were killed.
    Orphaned,
    /// A closure holds a thread past its deadline: see [`STUCK_EXIT`].
    Stuck,
}

/// Why a worker cannot run.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The links cannot be set up.
    #[error("the worker's links cannot be set up: {0}")]
    Transport(#[from] TransportError),
    /// Its endpoints cannot be served.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// The system refused something basic.
    #[error("the worker cannot start: {0}")]
    System(#[from] std::io::Error),
}

enum Report {
    Prepared(BatchUid, Result<Box<dyn Executor>, String>),
    Executor(BatchUid, ExecutorEvent),
    Piece(BatchUid, Piece, Result<Bytes, String>),
}

struct Driver {
    args: WorkerArgs,
    closure: Option<Arc<Closure>>,
    machine: Worker,
    transport: Transport,
    executors: BTreeMap<BatchUid, Box<dyn Executor>>,
    reports: UnboundedSender<Report>,
    chunks: Chunks,
    spool: Arc<Spool>,
    stuck: bool,
    ended: Option<Ended>,
}

/// Runs a worker until it is asked to leave (SIGTERM), or until whoever started it is gone.
pub async fn run(args: WorkerArgs, closure: Option<Arc<Closure>>) -> Result<Ended, WorkerError> {
    let (transport, mut events) = Transport::start(args.link.config())?;
    transport.listen(&args.listen).await?;
    let (reports, mut inbox) = unbounded_channel();
    let (inspector, mut inspections) = harmony_admin::inspections();
    let _admin = harmony_admin::start(&args.admin, inspector, prometheus::Registry::new(), Router::new())?;
    let process_id = ProcessId(uuid::Uuid::new_v4());
    let identity = Identity {
        role: Role::Worker,
        name: args.name.clone(),
        process_id,
        slots: Some(args.slots),
    };
    let seed = process_id.0.as_u64_pair().0;
    let machine = Worker::new(Config {
        identity,
        slots: args.slots,
        seed,
        only: args.only(),
        part_bytes: PART_BYTES,
        queue_bytes: QUEUE_BYTES,
    });
    let mut driver = Driver {
        closure,
        machine,
        transport,
        executors: BTreeMap::new(),
        reports,
        chunks: Chunks::default(),
        spool: Arc::new(Spool::new(&args.spool.clone().unwrap_or_else(std::env::temp_dir))),
        stuck: false,
        ended: None,
        args,
    };
    driver.serve(&mut events, &mut inbox, &mut inspections).await?;
    let ended = driver.ended.unwrap_or(Ended::Left);
    if ended != Ended::Orphaned {
        driver.transport.wait_closed(&mut events).await;
    }
    Ok(ended)
}

impl Driver {
    async fn serve(
        &mut self,
        events: &mut Events,
        inbox: &mut UnboundedReceiver<Report>,
        inspections: &mut Inspections<Snapshot>,
    ) -> Result<(), WorkerError> {
        let mut terminate = signal(SignalKind::terminate())?;
        // Comes when whoever started a frozen worker dies. The worker is to end in its own way then, with its tasks.
        let _hangup = signal(SignalKind::hangup())?;
        let mut orphaned = std::pin::pin!(parent::orphaned(self.args.until_stdin_closes));
        loop {
            self.perform();
            // Now, since without links nothing need ever happen again.
            if self.ended.is_some() {
                return Ok(());
            }
            let timeout = self.machine.poll_timeout();
            tokio::select! {
                event = events.recv() => match event {
                    Some(event) => self.take_events(event, events),
                    None => self.ended = Some(Ended::Orphaned),
                },
                Some(report) = inbox.recv() => {
                    self.take_report(report);
                    for _ in 0..EVENTS_AT_ONCE {
                        let Ok(report) = inbox.try_recv() else { break };
                        self.take_report(report);
                    }
                }
                Some(inspection) = inspections.next() => inspection.answer(self.snapshot()),
                () = sleep_until(timeout) => self.machine.handle_timeout(Instant::now()),
                _ = terminate.recv() => self.drain(),
                () = &mut orphaned => self.ended = Some(Ended::Orphaned),
            }
        }
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot {
            worker: self.args.name.clone(),
            machine: self.machine.snapshot(),
            links: self.transport.counters(),
        }
    }

    /// The machine hands back what it has queued, and the executors what they have not begun.
    fn drain(&mut self) {
        self.machine.handle_drain(Instant::now(), self.args.grace());
        self.executors.values_mut().for_each(|executor| executor.recall());
    }

    fn take_events(&mut self, first: Event, events: &mut Events) {
        self.take_event(first);
        for _ in 0..EVENTS_AT_ONCE {
            let Some(event) = events.try_recv() else { return };
            self.take_event(event);
        }
    }

    fn take_event(&mut self, event: Event) {
        let now = Instant::now();
        match event {
            Event::Opened { link, .. } => self.machine.handle_link_opened(now, link),
            Event::Message { link, frames } => self.machine.handle_message(now, link, &frames),
            Event::Closed { link, reason } => {
                tracing::debug!(?link, %reason, "link closed");
                self.machine.handle_link_closed(now, link);
            }
        }
    }

    fn take_report(&mut self, report: Report) {
        let now = Instant::now();
        match report {
            Report::Piece(uid, piece, read) => self.machine.handle_piece(now, uid, piece, read),
            Report::Prepared(uid, prepared) => {
                let window = prepared.map(|executor| {
                    let window = executor.window();
                    self.executors.insert(uid, executor);
                    window
                });
                self.machine.handle_prepared(now, uid, window);
            }
            Report::Executor(uid, event) => match event {
                ExecutorEvent::Finished(finished) => {
                    self.chunks.ended(uid, finished.iter().map(|task| task.number));
                    for task in finished.iter().filter(|task| task.outcome != OutcomeCode::Succeeded) {
                        let Finished {
                            number,
                            attempt,
                            outcome,
                            code,
                            ..
                        } = task;
                        tracing::debug!(number, %attempt, ?outcome, code, "an attempt failed");
                    }
                    self.machine.handle_finished(now, uid, finished);
                }
                ExecutorEvent::Stopped(stopped) => {
                    self.chunks.ended(uid, stopped.iter().map(|(number, _)| *number));
                    self.machine.handle_stopped(now, uid, &stopped);
                }
                ExecutorEvent::Broken(reason) => {
                    self.chunks.release(uid);
                    self.machine.handle_broken(now, uid, &reason);
                }
                ExecutorEvent::Warning(text) => tracing::warn!("{text}"),
                ExecutorEvent::Stuck(reason) => {
                    tracing::error!("{reason}");
                    self.stuck = true;
                    self.machine.handle_drain(now, Duration::ZERO);
                }
            },
        }
    }

    fn perform(&mut self) {
        let now = Instant::now();
        while let Some(output) = self.machine.poll_output(now) {
            match output {
                Output::Link(output) => {
                    if let Err((link, error)) = self.transport.perform(output) {
                        tracing::warn!(%error, "a collector cannot be dialled");
                        self.machine.handle_link_closed(now, link);
                    }
                }
                Output::Prepare { uid, name, work } => self.prepare(uid, name, &work),
                Output::Run { uid, tasks } => {
                    if let Some(executor) = self.executors.get_mut(&uid) {
                        let machine = &self.machine;
                        let epoch = || epoch(machine, uid);
                        self.chunks.begin(uid, epoch, &self.args.name, &tasks);
                        executor.submit(tasks);
                    }
                }
                Output::Stop { uid, numbers } => {
                    if let Some(executor) = self.executors.get_mut(&uid) {
                        executor.stop(&numbers);
                    }
                }
                Output::ReadPiece { uid, piece } => self.read(uid, piece),
                Output::Keep { uid, id, bytes } => self.spool.keep_payload(uid, id, &bytes),
                Output::Discard { uid, id } => self.spool.payloads.discard(uid, id),
                Output::Unspool { uid, number, attempt } => self.spool.forget((uid, number, attempt)),
                Output::Release { uid } => {
                    self.chunks.release(uid);
                    self.spool.release(uid);
                    // Killing and reaping takes its time; nobody waits for it.
                    if let Some(executor) = self.executors.remove(&uid) {
                        drop(tokio::task::spawn_blocking(move || drop(executor)));
                    }
                }
                Output::ExtendDeadlines(gap) => {
                    self.executors
                        .values_mut()
                        .for_each(|executor| executor.extend_deadlines(gap));
                }
                Output::Exit => self.ended = Some(if self.stuck { Ended::Stuck } else { Ended::Left }),
            }
        }
    }

    /// Reads a piece of an output, off this thread: it may be on the disk only.
    fn read(&self, uid: BatchUid, piece: Piece) {
        let (file, reports) = (self.spool.find(uid, piece), self.reports.clone());
        tokio::task::spawn_blocking(move || {
            let read = match &file {
                Some(file) => spool::read(file, piece).map_err(|error| error.to_string()),
                None => Err("it is gone".to_owned()),
            };
            // The driver is gone only when the process ends.
            let _ = reports.send(Report::Piece(uid, piece, read));
        });
    }

    /// Makes an executor ready, off this thread: it starts processes.
    fn prepare(&self, uid: BatchUid, name: String, work: &Work) {
        let setup = Setup {
            batch: name,
            uid,
            executor: work.executor.clone(),
            slots: self.args.slots as usize,
            max_output: work.max_bytes_per_task,
            deadline: work.deadline_millis.map(Duration::from_millis),
            grace: self.args.grace(),
            work_dir: self.args.work_dir.clone(),
            own_command: self.args.command.clone(),
            spool: Arc::clone(&self.spool),
        };
        let (reports, closure) = (self.reports.clone(), self.closure.clone());
        let (sender, mut events) = unbounded_channel();
        tokio::task::spawn_blocking(move || {
            let prepared = match (closure, &setup.executor) {
                (Some(closure), harmony_protocol::wire::Executor::Library) => {
                    executor::library(closure, &setup, sender)
                }
                _ => executor::prepare(&setup, sender),
            };
            // The driver is gone only when the process ends.
            let _ = reports.send(Report::Prepared(uid, prepared));
        });
        let reports = self.reports.clone();
        tokio::spawn(async move {
            while let Some(event) = events.recv().await {
                if reports.send(Report::Executor(uid, event)).is_err() {
                    return;
                }
            }
        });
    }
}

fn epoch(machine: &Worker, uid: BatchUid) -> Epoch {
    let batches = machine.snapshot().batches;
    let batch = batches.iter().find(|batch| batch.uid == uid);
    batch.map_or(0, |batch| batch.epoch)
}
