//! The driver of the collector machine: it moves bytes between links, machine and logs, and decides nothing.

use std::collections::BTreeMap;
use std::future::Future;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::{Instant, SystemTime};

use harmony_admin::{AdminArgs, AdminError, Inspections};
use harmony_log::disk::{Disk, RealDisk};
use harmony_log::read_back::{self, ReadBack};
use harmony_log::{Log, LogError, Position, Rebuild, Recorder, Recovery, Written};
use harmony_protocol::Identity;
use harmony_protocol::collector::{Answer, BatchState, Collector, Config, Opened, Output, Write};
use harmony_protocol::ids::{BatchUid, ProcessId};
use harmony_protocol::wire::Role;
use harmony_telemetry::spans;
use harmony_transport::{EVENTS_AT_ONCE, Endpoint, Event, Events, Transport, TransportError, sleep_until};
use prometheus::{Gauge, Histogram};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::spawn_blocking;
use tracing::Span;

use crate::limit::{LogLimit, bounded};
use crate::observe::{Measures, Snapshot};
use crate::results;

/// Threads that read a log back at most: as many as a disk is worth, and each holds a MiB.
const READ_BACK_THREADS: NonZero<usize> = NonZero::<usize>::MIN.saturating_add(7);

/// How a collector is started.
#[derive(Clone, Debug)]
pub struct CollectorConfig {
    /// Its name, as people see it.
    pub name: String,
    /// Where ventilators and workers reach it.
    pub listen: Endpoint,
    /// The folder of the logs: each batch has a folder of its own in it, named by its uid.
    pub dir: PathBuf,
    /// What bounds the log of a batch; nothing if absent.
    pub log_limit: Option<LogLimit>,
    /// Where its endpoints are.
    pub admin: AdminArgs,
    /// How links are protected.
    pub transport: harmony_transport::Config,
}

/// Why a collector ended.
#[derive(Debug, thiserror::Error)]
pub enum CollectorError {
    /// The links cannot be set up.
    #[error("the collector's links cannot be set up: {0}")]
    Transport(#[from] TransportError),
    /// The log failed: what the disk holds is known again after a restart.
    #[error("the log failed: {0}")]
    Log(#[from] LogError),
    /// Its endpoints cannot be served.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// What is measured cannot be registered.
    #[error("the collector's metrics cannot be set up: {0}")]
    Metrics(#[from] prometheus::Error),
    /// The system refused something basic.
    #[error("the collector cannot start: {0}")]
    System(#[from] std::io::Error),
}

/// The folder of a batch's log.
pub fn log_dir(dir: &Path, uid: BatchUid) -> PathBuf {
    dir.join(uid.to_string())
}

enum Report {
    Opened(BatchUid, Box<Result<Option<harmony_log::Opened>, LogError>>),
    Synced(BatchUid, u64, Result<Position, LogError>),
    Checkpointed(Result<(), LogError>),
    ReadBack(BatchUid, Result<ReadBack, LogError>),
    Compared(BatchUid, bool),
}

struct Driver {
    config: CollectorConfig,
    machine: Collector,
    transport: Transport,
    logs: BTreeMap<BatchUid, Recorder>,
    reports: UnboundedSender<Report>,
    flush: Histogram,
    replay: Gauge,
    failure: Option<LogError>,
}

/// Runs a collector until it is asked to leave (SIGTERM) or `orphaned` ends; then everything taken in is durable.
pub async fn run(config: CollectorConfig, orphaned: impl Future<Output = ()>) -> Result<(), CollectorError> {
    let (transport, mut events) = Transport::start(config.transport.clone())?;
    transport.listen(&config.listen).await?;
    let (reports, mut inbox) = unbounded_channel();
    let (inspector, mut inspections) = harmony_admin::inspections();
    let Measures {
        registry,
        flush,
        replay,
    } = Measures::new()?;
    let routes = results::routes(config.dir.clone());
    let _admin = harmony_admin::start(&config.admin, inspector, registry, routes)?;
    let process_id = ProcessId(uuid::Uuid::new_v4());
    let identity = Identity {
        role: Role::Collector,
        name: config.name.clone(),
        process_id,
        slots: None,
    };
    let wall = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let clock = (Instant::now(), u64::try_from(wall.as_micros()).unwrap_or(u64::MAX));
    let mut driver = Driver {
        machine: Collector::new(Config::new(identity, clock)),
        config,
        transport,
        logs: BTreeMap::new(),
        reports,
        flush,
        replay,
        failure: None,
    };
    driver
        .serve((&mut events, &mut inbox, &mut inspections), orphaned)
        .await?;
    driver.commit()?;
    driver.machine.handle_shutdown(Instant::now());
    driver.perform();
    driver.transport.wait_closed(&mut events).await;
    Ok(())
}

impl Driver {
    async fn serve(
        &mut self,
        (events, inbox, inspections): (&mut Events, &mut UnboundedReceiver<Report>, &mut Inspections<Snapshot>),
        orphaned: impl Future<Output = ()>,
    ) -> Result<(), CollectorError> {
        let mut terminate = signal(SignalKind::terminate())?;
        // Comes when whoever started a frozen collector dies. What was taken in is to be committed all the same.
        let _hangup = signal(SignalKind::hangup())?;
        let mut orphaned = std::pin::pin!(orphaned);
        loop {
            self.perform();
            if let Some(failure) = self.failure.take() {
                return Err(failure.into());
            }
            let timeout = self.machine.poll_timeout();
            tokio::select! {
                event = events.recv() => match event {
                    Some(event) => self.take_events(event, events),
                    None => return Ok(()),
                },
                Some(report) = inbox.recv() => self.take_report(report),
                Some(inspection) = inspections.next() => inspection.answer(self.snapshot()),
                () = sleep_until(timeout) => self.machine.handle_timeout(Instant::now()),
                _ = terminate.recv() => return Ok(()),
                () = &mut orphaned => return Ok(()),
            }
        }
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot {
            collector: self.config.name.clone(),
            machine: self.machine.snapshot(),
            log_bytes: self.logs.values().map(Recorder::bytes).sum(),
            links: self.transport.counters(),
        }
    }

    /// The span of what is said of a batch.
    fn span(&self, uid: BatchUid) -> Span {
        let claim = self.machine.batch(uid).and_then(BatchState::claim);
        let (batch, epoch) = (claim.map(|claim| claim.name.as_str()), claim.map(|claim| claim.epoch));
        tracing::error_span!("batch", batch, trace_id = %uid.0.simple(), epoch)
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
            Report::Opened(uid, opened) => self.take_opened(now, uid, *opened),
            Report::Synced(uid, sequence, Ok(_)) => {
                self.machine.handle_synced(now, uid, sequence);
                self.keep_checkpoint(uid, sequence);
            }
            Report::Checkpointed(Err(error)) if !error.is_fatal() => tracing::warn!(%error, "no checkpoint was kept"),
            Report::Checkpointed(Ok(())) => {}
            Report::ReadBack(uid, Ok(ReadBack { damaged, digest })) => {
                if !damaged.is_empty() {
                    let _batch = self.span(uid).entered();
                    tracing::error!(?damaged, "records are damaged on the disk; their numbers run again");
                }
                self.machine.handle_read_back(now, uid, damaged, digest);
            }
            Report::Compared(uid, differs) => self.machine.handle_compared(now, uid, differs),
            Report::Synced(_, _, Err(error)) | Report::Checkpointed(Err(error)) | Report::ReadBack(_, Err(error)) => {
                self.failure = Some(error);
            }
        }
    }

    fn take_opened(&mut self, now: Instant, uid: BatchUid, opened: Result<Option<harmony_log::Opened>, LogError>) {
        let opened = match opened {
            Ok(Some(harmony_log::Opened {
                recorder,
                state,
                recovery,
            })) => {
                warn_if_mended(uid, &recovery);
                let log_id = recorder.log_id();
                self.logs.insert(uid, recorder);
                Opened::Batch {
                    state: Box::new(state),
                    log_id,
                }
            }
            Ok(None) => Opened::Absent,
            // A collector that is about to end, perhaps of another pod, may still have it.
            Err(error @ (LogError::NoSpace { .. } | LogError::Locked { .. })) => {
                tracing::warn!(trace_id = %uid.0.simple(), %error, "the log cannot be opened yet");
                Opened::Later
            }
            // As wherever the disk fails: what it holds is known after a restart.
            Err(error @ LogError::Io { .. }) if !error.is_refusal() => {
                self.failure = Some(error);
                return;
            }
            Err(error) => {
                tracing::error!(trace_id = %uid.0.simple(), %error, "the log cannot be opened");
                Opened::Failed(error.to_string())
            }
        };
        self.machine.handle_opened(now, uid, opened);
    }

    fn perform(&mut self) {
        let now = Instant::now();
        while let Some(output) = self.machine.poll_output(now) {
            match output {
                Output::Link(output) => {
                    if let Err((link, _)) = self.transport.perform(output) {
                        self.machine.handle_link_closed(now, link);
                    }
                }
                Output::Open { uid, create } => self.open(uid, create),
                Output::Write { uid, sequence, write } => self.write(now, uid, sequence, &write),
                Output::Discard { uid, output } => {
                    let discarded = self.logs.get_mut(&uid).map(|recorder| recorder.discard(output));
                    if let Some(Err(error)) = discarded {
                        self.failure = Some(error);
                    }
                }
                Output::Sync { uid, sequence } => self.sync(uid, sequence),
                Output::Checkpoint { uid, sequence, state } => {
                    if let Some(recorder) = self.logs.get_mut(&uid) {
                        recorder.offer_checkpoint(sequence, state);
                    }
                }
                Output::ReadBack { uid } => self.read_back(uid),
                Output::Close { uid } => drop(self.logs.remove(&uid)),
                Output::Compare { uid, number, answer } => self.compare(uid, number, answer),
            }
        }
    }

    fn open(&self, uid: BatchUid, create: bool) {
        let (dir, reports) = (log_dir(&self.config.dir, uid), self.reports.clone());
        let config = bounded(self.config.log_limit);
        let replay = self.replay.clone();
        spawn_blocking(move || {
            let begun = Instant::now();
            let opened = Recorder::open(Arc::new(RealDisk), &dir, uid, config, create);
            if matches!(opened, Ok(Some(_))) {
                replay.set(begun.elapsed().as_secs_f64());
            }
            let _ = reports.send(Report::Opened(uid, Box::new(opened)));
        });
    }

    fn write(&mut self, now: Instant, uid: BatchUid, sequence: u64, write: &Write) {
        let Some(recorder) = self.logs.get_mut(&uid) else {
            return;
        };
        match recorder.write(sequence, write) {
            Ok(Written::Appended) => {}
            Ok(Written::NoRoom(error)) => {
                self.span(uid)
                    .in_scope(|| tracing::warn!(%error, "recording pauses until there is room"));
                self.machine.handle_disk_full(now, uid, sequence);
            }
            Ok(Written::OutOfTurn) => self.machine.handle_disk_full(now, uid, sequence),
            Err(error) => self.failure = Some(error),
        }
    }

    fn sync(&self, uid: BatchUid, sequence: u64) {
        let Some(recorder) = self.logs.get(&uid) else { return };
        let span = self.recorded(uid, sequence);
        let (syncer, reports, flush) = (recorder.syncer(), self.reports.clone(), self.flush.clone());
        spawn_blocking(move || {
            let synced = {
                let _timed = flush.start_timer();
                syncer.sync()
            };
            if let Some(span) = span {
                span.end();
            }
            let _ = reports.send(Report::Synced(uid, sequence, synced));
        });
    }

    /// The span of a commit: what it makes durable.
    fn recorded(&self, uid: BatchUid, sequence: u64) -> Option<spans::Span> {
        let batch = self.machine.batch(uid).filter(|_| spans::are_made())?;
        let span = spans::Span::below_batch("recorded", uid.0, batch.epoch(), u64::MAX - sequence)?;
        let counts = self.machine.counts(uid)?;
        let settled = i64::try_from(counts.succeeded + counts.failed).unwrap_or(i64::MAX);
        let sequence = i64::try_from(sequence).unwrap_or(i64::MAX);
        Some(span.with("sequence", sequence).with("settled", settled))
    }

    fn keep_checkpoint(&mut self, uid: BatchUid, synced: u64) {
        if let Some(checkpoint) = self.logs.get_mut(&uid).and_then(|recorder| recorder.synced(synced)) {
            let reports = self.reports.clone();
            spawn_blocking(move || {
                let _ = reports.send(Report::Checkpointed(checkpoint.write()));
            });
        }
    }

    fn read_back(&self, uid: BatchUid) {
        let Some((recorder, state)) = self.logs.get(&uid).zip(self.machine.batch(uid)) else {
            return;
        };
        let (reader, settled, reports) = (recorder.reader(), state.settled().clone(), self.reports.clone());
        spawn_blocking(move || {
            let threads = available_parallelism()
                .unwrap_or(NonZero::<usize>::MIN)
                .min(READ_BACK_THREADS);
            let _ = reports.send(Report::ReadBack(uid, read_back::read_back(&reader, &settled, threads)));
        });
    }

    fn compare(&self, uid: BatchUid, number: u64, answer: Answer) {
        let Some(recorder) = self.logs.get(&uid) else { return };
        let (reader, reports) = (recorder.reader(), self.reports.clone());
        let span = self.span(uid);
        spawn_blocking(move || {
            // A record that cannot be read now is found by the read-back.
            let differs = read_back::differs(&reader, number, &answer).unwrap_or(false);
            if differs {
                let _batch = span.entered();
                tracing::warn!(
                    number,
                    "this task answered differently when it ran again; the first answer stands"
                );
            }
            let _ = reports.send(Report::Compared(uid, differs));
        });
    }

    /// Makes everything taken in durable.
    fn commit(&self) -> Result<(), LogError> {
        let mut recorders = self.logs.values();
        recorders.try_for_each(|recorder| recorder.syncer().sync().map(drop))
    }
}

/// Opens the log of a batch, or makes it, and rebuilds the state. `max_bytes` bounds what may be appended.
pub fn open_log(dir: &Path, uid: BatchUid, max_bytes: Option<u64>) -> Result<(Log, Rebuild), LogError> {
    let mut rebuild = Rebuild::default();
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let (log, recovery) = Log::open(disk, dir, uid, bounded(max_bytes.map(LogLimit::Bytes)), &mut rebuild)?;
    warn_if_mended(uid, &recovery);
    Ok((log, rebuild))
}

fn warn_if_mended(uid: BatchUid, recovery: &Recovery) {
    if !recovery.damage.is_none() || recovery.torn_bytes > 0 {
        tracing::warn!(trace_id = %uid.0.simple(), ?recovery, "the log was mended");
    }
}
