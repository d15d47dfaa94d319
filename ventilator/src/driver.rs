//! The driver of the ventilator machine: it moves bytes between links, machine and task source, and decides nothing.

use std::ops::Range;
use std::time::{Duration, Instant};

use harmony_protocol::ids::{BatchUid, Epoch};
use harmony_protocol::ventilator::{
    Config, Event, Explanation, NumberExplanation, Output, Payloads, Progress, Snapshot, Ventilator, WorkerView,
};
use harmony_protocol::wire::Work;
use harmony_telemetry::spans;
use harmony_transport::{EVENTS_AT_ONCE, Event as LinkEvent, Events, Transport, sleep_until};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::sync::{oneshot, watch};

use crate::source::TaskSource;

/// How often the views of the workers are renewed: they cost by the number of workers.
pub const VIEWS_EVERY: Duration = Duration::from_millis(100);

/// What the host of a ventilator tells it.
#[derive(Debug)]
pub enum Command {
    /// This epoch is kept: START may use it.
    EpochKept(Epoch),
    /// From the next START on, tasks are run in this way. The collector's endpoint in it does not count.
    Work(Work),
    /// Nothing new goes to the worker of this name.
    DrainWorker(String),
    /// The worker of this name is needed after all.
    UndrainWorker(String),
    /// Show the machine's state to a person.
    Show(oneshot::Sender<Snapshot>),
    /// Tell a person why the batch is not done.
    Explain(oneshot::Sender<Explanation>),
    /// Tell a person why a number is not settled, or how it is.
    ExplainNumber(u64, oneshot::Sender<NumberExplanation>),
    /// The collector is, or is now, at this endpoint.
    Collector(String),
    /// There is, or will be, a worker at this endpoint.
    Worker {
        /// Its name.
        name: String,
        /// Where it is.
        endpoint: String,
    },
    /// There will be no worker of this name any more.
    WorkerGone(String),
    /// The process of a worker was seen to end.
    WorkerExited {
        /// Its name.
        name: String,
        /// Whether the tasks it ran may be the cause.
        counts: bool,
    },
    /// End the batch early.
    Cancel(String),
    /// Send nothing more, so that what is in flight can end.
    Drain,
    /// The batch is deleted: let the workers drop it, and leave.
    Abandon,
    /// Leave; another ventilator may go on later.
    Leave,
}

/// The two ends that a host keeps.
pub struct Host {
    /// What happens, in order.
    pub events: UnboundedSender<Event>,
    /// How far the batch is.
    pub progress: watch::Sender<Progress>,
    /// The workers; renewed at most every [`VIEWS_EVERY`], and once more at the end.
    pub workers: watch::Sender<Vec<WorkerView>>,
}

impl Host {
    /// A host that does not look at single workers.
    pub fn new(events: UnboundedSender<Event>, progress: watch::Sender<Progress>) -> Self {
        let workers = watch::channel(Vec::new()).0;
        Self {
            events,
            progress,
            workers,
        }
    }
}

struct Source(Box<dyn TaskSource>);

impl Payloads for Source {
    fn append(&mut self, number: u64, range: Range<u64>, buffer: &mut Vec<u8>) -> Result<u64, String> {
        self.0.append(number, range, buffer).map_err(|error| error.to_string())
    }
}

struct Driver {
    machine: Ventilator,
    source: Source,
    transport: Transport,
    host: Host,
    over: bool,
    uid: BatchUid,
    /// Of the epoch.
    span: Option<spans::Span>,
    /// When the views of the workers are renewed, if anything happened since the last time.
    views_due: Option<Instant>,
    viewed: Option<Instant>,
}

/// The span in which a ventilator runs, so that each line under it says of which batch and epoch it is.
pub fn span(batch: &str, uid: BatchUid) -> tracing::Span {
    tracing::error_span!("batch", batch, trace_id = %uid.0.simple(), epoch = tracing::field::Empty)
}

/// Runs the ventilator of one batch until the batch is over, the ventilator is fenced, it fails, or it is told to leave.
pub async fn run(
    config: Config,
    source: Box<dyn TaskSource>,
    links: (Transport, Events),
    mut commands: UnboundedReceiver<Command>,
    host: Host,
) {
    let (transport, mut events) = links;
    let source = Source(source);
    let mut driver = Driver {
        uid: config.uid,
        span: None,
        machine: Ventilator::new(config),
        source,
        transport,
        host,
        over: false,
        views_due: None,
        viewed: None,
    };
    driver.serve(&mut events, &mut commands).await;
    driver.trace(None);
    driver.machine.handle_leave(Instant::now());
    driver.perform();
    driver.transport.wait_closed(&mut events).await;
}

impl Driver {
    async fn serve(&mut self, events: &mut Events, commands: &mut UnboundedReceiver<Command>) {
        loop {
            self.perform();
            if self.over {
                return;
            }
            let timeout = self.machine.poll_timeout();
            let views_due = self.views_due;
            tokio::select! {
                event = events.recv() => match event {
                    Some(event) => self.take_events(event, events),
                    None => return,
                },
                command = commands.recv() => match command {
                    Some(Command::Leave) | None => return,
                    Some(Command::Abandon) => return self.machine.handle_abandon(Instant::now()),
                    Some(command) => self.take_command(command),
                },
                () = sleep_until(timeout) => self.machine.handle_timeout(Instant::now()),
                () = sleep_until(views_due) => {}
            }
        }
    }

    fn take_command(&mut self, command: Command) {
        let now = Instant::now();
        match command {
            Command::EpochKept(epoch) => self.machine.handle_epoch_kept(now, epoch),
            Command::Work(work) => self.machine.handle_work(now, work),
            Command::DrainWorker(name) => self.machine.handle_worker_drain(now, &name),
            Command::UndrainWorker(name) => self.machine.handle_worker_undrain(now, &name),
            // Who asked may have gone, and what nobody waits for is not worth finding out.
            Command::Show(answer) if answer.is_closed() => {}
            Command::Explain(answer) if answer.is_closed() => {}
            Command::ExplainNumber(_, answer) if answer.is_closed() => {}
            Command::Show(answer) => drop(answer.send(self.machine.snapshot())),
            Command::Explain(answer) => drop(answer.send(self.machine.explain(now))),
            Command::ExplainNumber(number, answer) => drop(answer.send(self.machine.explain_number(now, number))),
            Command::Collector(endpoint) => self.machine.handle_collector(now, &endpoint),
            Command::Worker { name, endpoint } => self.machine.handle_worker(now, &name, &endpoint),
            Command::WorkerGone(name) => self.machine.handle_worker_gone(now, &name),
            Command::WorkerExited { name, counts } => self.machine.handle_worker_exit(now, &name, counts),
            Command::Cancel(reason) => self.machine.handle_cancel(now, &reason),
            Command::Drain => self.machine.handle_drain(now),
            Command::Abandon | Command::Leave => {}
        }
    }

    fn take_events(&mut self, first: LinkEvent, events: &mut Events) {
        self.take_event(first);
        for _ in 0..EVENTS_AT_ONCE {
            let Some(event) = events.try_recv() else { return };
            self.take_event(event);
        }
    }

    fn take_event(&mut self, event: LinkEvent) {
        let now = Instant::now();
        match event {
            LinkEvent::Opened { link, .. } => self.machine.handle_link_opened(now, link),
            LinkEvent::Message { link, frames } => self.machine.handle_message(now, link, &frames),
            LinkEvent::Closed { link, reason } => {
                tracing::debug!(?link, %reason, "link closed");
                self.machine.handle_link_closed(now, link);
            }
        }
    }

    fn perform(&mut self) {
        let now = Instant::now();
        while let Some(output) = self.machine.poll_output(now, &mut self.source) {
            match output {
                Output::Link(output) => {
                    if let Err((link, error)) = self.transport.perform(output) {
                        tracing::warn!(%error, "a party cannot be dialled");
                        self.machine.handle_link_closed(now, link);
                    }
                }
                Output::Event(event) => {
                    log(&event);
                    if let Event::Claiming { epoch, .. } = &event {
                        self.trace(Some(*epoch));
                    }
                    self.over |= matches!(event, Event::Done(_) | Event::Fenced { .. } | Event::Failed(_));
                    if self.over {
                        // Whoever hears of the end sees how far it was.
                        self.show(now);
                    }
                    // The host may not listen any more; the batch goes on all the same.
                    let _ = self.host.events.send(event);
                }
            }
        }
        self.show(now);
    }

    /// The span of an epoch ends with it.
    fn trace(&mut self, next: Option<Epoch>) {
        if let Some(span) = self.span.take() {
            let counts = self.machine.progress().counts;
            let settled = counts.succeeded + counts.failed;
            span.with("settled", i64::try_from(settled).unwrap_or(i64::MAX)).end();
        }
        self.span = next.and_then(|epoch| spans::Span::batch(self.uid.0, epoch));
    }

    fn show(&mut self, now: Instant) {
        self.host.progress.send_replace(self.machine.progress());
        self.show_workers(now);
    }

    fn show_workers(&mut self, now: Instant) {
        if self.host.workers.is_closed() {
            return;
        }
        let due = self.viewed.map_or(now, |viewed| viewed + VIEWS_EVERY);
        if now >= due || self.over {
            self.host.workers.send_replace(self.machine.workers().collect());
            self.viewed = Some(now);
            self.views_due = None;
        } else {
            self.views_due = Some(due);
        }
    }
}

/// What happens to the batch as a whole is worth a line; whoever hosts it decides what is a warning.
fn log(event: &Event) {
    match event {
        Event::Claiming { epoch, takeover } => {
            tracing::Span::current().record("epoch", epoch);
            tracing::info!(takeover, "the batch is claimed");
        }
        Event::Done(done) => tracing::info!(?done, "the batch is over"),
        Event::Fenced { epoch } => tracing::info!(by = epoch, "another ventilator has taken the batch over"),
        Event::Failed(reason) => tracing::info!(reason, "the ventilator failed"),
        Event::WorkerLost { name, in_flight } => tracing::info!(worker = name, in_flight, "a worker is lost"),
        Event::WorkerRefused { name, reason } => tracing::info!(worker = name, reason, "a worker refused"),
        Event::ResultsLost { before, settled } => {
            tracing::info!(before, settled, "the collector's log has lost results");
        }
        Event::Health(health) => tracing::info!(?health, "the collector's disk"),
    }
}
