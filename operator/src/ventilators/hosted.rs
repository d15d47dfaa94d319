//! One hosted ventilator: the task that runs it, and what others read and tell meanwhile.

use std::any::Any;
use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use harmony_protocol::Identity;
use harmony_protocol::ids::{Epoch, InstanceId, ProcessId};
use harmony_protocol::ventilator::{Config, Cut, Event, Progress, Ventilator, WorkerView};
use harmony_protocol::wire::{Role, Work};
use harmony_transport::{Meter, Transport};
use harmony_ventilator::driver::{self, Command, Host};
use harmony_ventilator::source::{self, Digest, Opened, SourceConfig, SpoolShare};
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::watch;
use tokio::task::{JoinHandle, spawn_blocking};
use tracing::Instrument as _;
use uuid::Uuid;

use super::{BatchKey, EVENTS_KEPT, Launch, Running, Settings, VentilatorState, spools};

/// See the module.
#[derive(Debug)]
pub(super) struct Hosted {
    key: BatchKey,
    commands: UnboundedSender<Command>,
    shown: Arc<Shown>,
    task: JoinHandle<()>,
    /// What the ventilator was told.
    workers: BTreeMap<String, String>,
    collector: Option<String>,
    work: Work,
    kept: Epoch,
}

/// What others read.
#[derive(Debug, Default)]
struct Shown(Mutex<Facts>);

#[derive(Debug, Default)]
struct Facts {
    opened: Option<(u64, Digest)>,
    running: Option<Views>,
    /// How it ended.
    ended: Option<VentilatorState>,
    claiming: Option<Epoch>,
    takeover: bool,
    events: VecDeque<Event>,
}

#[derive(Clone, Debug)]
struct Views {
    progress: watch::Receiver<Progress>,
    workers: watch::Receiver<Vec<WorkerView>>,
    links: Meter,
}

impl Shown {
    fn facts(&self) -> MutexGuard<'_, Facts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first end stays.
    fn end(&self, state: VentilatorState) {
        self.facts().ended.get_or_insert(state);
    }

    fn take_event(&self, event: &Event) {
        let mut facts = self.facts();
        let end = match event {
            Event::Claiming { epoch, takeover } => {
                facts.claiming = Some(*epoch);
                facts.takeover |= *takeover;
                None
            }
            Event::Done(done) => facts.running.as_ref().map(|views| VentilatorState::Done {
                done: done.clone(),
                progress: Box::new(views.progress.borrow().clone()),
            }),
            Event::Fenced { epoch } => Some(VentilatorState::Fenced { epoch: *epoch }),
            Event::Failed(reason) => Some(VentilatorState::Failed { reason: reason.clone() }),
            _ => None,
        };
        if let Some(end) = end {
            facts.ended.get_or_insert(end);
        }
        if facts.events.len() == EVENTS_KEPT {
            facts.events.pop_front();
        }
        facts.events.push_back(event.clone());
    }
}

impl Hosted {
    pub(super) fn start(settings: &Settings, launch: Launch) -> Self {
        let (commands, receiver) = unbounded_channel();
        let shown = Arc::new(Shown::default());
        let (key, work) = (launch.key.clone(), launch.work.clone());
        let kept = launch.epoch_floor;
        let hosting = Hosting {
            spool: spools::folder(&settings.spool_dir, launch.uid),
            share: Arc::new(settings.spool_room.share()),
            waker: Waker::new(launch.key.clone(), settings.wake.clone()),
            settings: settings.clone(),
            shown: Arc::clone(&shown),
        };
        let task = tokio::spawn(hosting.run(launch, receiver));
        Self {
            key,
            commands,
            shown,
            task,
            workers: BTreeMap::new(),
            collector: None,
            work,
            kept,
        }
    }

    pub(super) fn state(&self) -> VentilatorState {
        let facts = self.shown.facts();
        if let Some(ended) = &facts.ended {
            return ended.clone();
        }
        facts.running.as_ref().map_or(VentilatorState::Opening, |views| {
            VentilatorState::Running(Running {
                progress: Box::new(views.progress.borrow().clone()),
                workers: views.workers.borrow().clone(),
                links: views.links.read(),
                claiming: facts.claiming.filter(|epoch| *epoch > self.kept),
                takeover: facts.takeover,
            })
        })
    }

    pub(super) fn key(&self) -> &BatchKey {
        &self.key
    }

    pub(super) fn opened(&self) -> Option<(u64, Digest)> {
        self.shown.facts().opened
    }

    pub(super) fn take_events(&self) -> Vec<Event> {
        self.shown.facts().events.drain(..).collect()
    }

    /// The ventilator may have ended: then there is nobody to tell.
    pub(super) fn tell(&self, command: Command) {
        let _ = self.commands.send(command);
    }

    pub(super) fn epoch_kept(&mut self, epoch: Epoch) {
        if epoch > self.kept {
            self.kept = epoch;
            self.tell(Command::EpochKept(epoch));
        }
    }

    pub(super) fn collector(&mut self, endpoint: &str) {
        if self.collector.as_deref() != Some(endpoint) {
            self.collector = Some(endpoint.to_owned());
            self.tell(Command::Collector(endpoint.to_owned()));
        }
    }

    pub(super) fn work(&mut self, work: Work) {
        if self.work != work {
            self.work = work.clone();
            self.tell(Command::Work(work));
        }
    }

    pub(super) fn workers(&mut self, workers: &[(String, String)]) {
        let now: BTreeMap<String, String> = workers.iter().cloned().collect();
        for name in self.workers.keys().filter(|name| !now.contains_key(*name)) {
            self.tell(Command::WorkerGone(name.clone()));
        }
        for (name, endpoint) in now
            .iter()
            .filter(|(name, endpoint)| self.workers.get(*name) != Some(*endpoint))
        {
            let (name, endpoint) = (name.clone(), endpoint.clone());
            self.tell(Command::Worker { name, endpoint });
        }
        self.workers = now;
    }

    /// Lets it leave; the handle ends when it has.
    /// Leaves a batch that is deleted.
    pub(super) fn abandon(self) {
        self.tell(Command::Abandon);
    }

    pub(super) fn leave(self) -> JoinHandle<()> {
        self.tell(Command::Leave);
        self.task
    }
}

/// What the task of a ventilator needs.
struct Hosting {
    settings: Settings,
    spool: PathBuf,
    /// Given back after the folder is removed.
    share: Arc<SpoolShare>,
    waker: Waker,
    shown: Arc<Shown>,
}

impl Hosting {
    async fn run(mut self, launch: Launch, commands: UnboundedReceiver<Command>) {
        match self.open(&launch).await {
            Ok(opened) => self.serve(launch, opened, commands).await,
            Err(state) => self.shown.end(state),
        }
        let spool = self.spool.clone();
        // What cannot be removed now is removed with the pod.
        let _ = spawn_blocking(move || std::fs::remove_dir_all(spool)).await;
        self.waker.wake_last().await;
    }

    async fn open(&self, launch: &Launch) -> Result<Opened, VentilatorState> {
        let (tasks, completions) = (launch.tasks.clone(), launch.completions);
        let config = SourceConfig {
            base_dir: self.spool.clone(),
            spool_dir: self.spool.clone(),
            spool_share: Some(Arc::clone(&self.share)),
            ..launch.source.clone()
        };
        let opened = spawn_blocking(move || source::open(&tasks, completions, &config)).await;
        let opened = opened.map_err(|error| VentilatorState::Failed {
            reason: format!("reading the tasks {}", panic_text(error.into_panic().as_ref())),
        })?;
        let opened = opened.map_err(|error| VentilatorState::SourceFailed {
            error: error.to_string(),
            is_input: error.is_input(),
        })?;
        match launch.known_digest.filter(|known| *known != opened.digest) {
            Some(was) => Err(VentilatorState::SourceChanged {
                was,
                now: opened.digest,
            }),
            None => Ok(opened),
        }
    }

    async fn serve(&mut self, launch: Launch, opened: Opened, commands: UnboundedReceiver<Command>) {
        let links = match Transport::start(self.settings.transport.clone()) {
            Ok(links) => links,
            Err(error) => {
                let reason = format!("the links cannot be set up: {error}");
                return self.shown.end(VentilatorState::Failed { reason });
            }
        };
        let completions = opened.source.completions();
        let span = driver::span(&launch.key.to_string(), launch.uid);
        let config = config(&self.settings.name, launch, completions);
        let (events, mut happenings) = unbounded_channel();
        let (progress, progress_seen) = watch::channel(Ventilator::new(config.clone()).progress());
        let (workers, workers_seen) = watch::channel(Vec::new());
        let mut views = Views {
            progress: progress_seen,
            workers: workers_seen,
            links: links.0.meter(),
        };
        {
            let mut facts = self.shown.facts();
            facts.opened = Some((completions, opened.digest));
            facts.running = Some(views.clone());
        }
        self.waker.wake();
        let host = Host {
            events,
            progress,
            workers,
        };
        let driver = tokio::spawn(driver::run(config, opened.source, links, commands, host).instrument(span));
        self.watch(&mut views, &mut happenings).await;
        let reason = how_it_ended(driver).await;
        self.shown.end(VentilatorState::Failed { reason });
    }

    /// Takes what happens until the ventilator has ended.
    async fn watch(&mut self, views: &mut Views, happenings: &mut UnboundedReceiver<Event>) {
        let mut told = Told::default();
        loop {
            tokio::select! {
                event = happenings.recv() => {
                    let Some(event) = event else { return };
                    self.shown.take_event(&event);
                    self.waker.wake();
                }
                Ok(()) = views.workers.changed() => {
                    let seen = Told::of(&views.progress.borrow(), &views.workers.borrow_and_update());
                    if seen != told {
                        told = seen;
                        self.waker.wake();
                    }
                }
                () = self.waker.pass_on() => {}
            }
        }
    }
}

/// What a reconciler waits for in the views: it is woken when that changes, not for each number.
#[derive(Default, PartialEq)]
struct Told {
    collector_ready: bool,
    cancelling: bool,
    workers: Vec<(String, bool, bool, bool)>,
}

impl Told {
    fn of(progress: &Progress, workers: &[WorkerView]) -> Self {
        let of_worker = |worker: &WorkerView| {
            let ready = worker.stage == harmony_protocol::ventilator::WorkerStage::Ready;
            let idle = worker.draining && worker.is_idle();
            (worker.name.clone(), ready, worker.draining, idle)
        };
        Self {
            collector_ready: progress.collector_ready,
            cancelling: progress.cancelling.is_some(),
            workers: workers.iter().map(of_worker).collect(),
        }
    }
}

fn config(name: &str, launch: Launch, completions: u64) -> Config {
    let process_id = ProcessId(Uuid::new_v4());
    Config {
        identity: Identity {
            role: Role::Ventilator,
            name: name.to_owned(),
            process_id,
            slots: None,
        },
        seed: process_id.0.as_u64_pair().0,
        uid: launch.uid,
        name: launch.key.name,
        instance: InstanceId(Uuid::new_v4()),
        epoch_floor: launch.epoch_floor,
        completions,
        policy: launch.policy,
        work: launch.work,
        max_failed: launch.max_failed,
        deadline: launch.deadline,
        success: launch.success,
        // The reconciler says what is wrong with its pods, and replaces them.
        workers_are_mended: true,
        cut: Cut::default(),
    }
}

/// Why a ventilator ended that said no word of an end.
async fn how_it_ended(driver: JoinHandle<()>) -> String {
    match driver.await {
        Ok(()) => "the ventilator left, or its links broke down".to_owned(),
        Err(error) => match error.try_into_panic() {
            Ok(panic) => format!("the ventilator {}", panic_text(panic.as_ref())),
            Err(error) => error.to_string(),
        },
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("panicked: {}", text.unwrap_or("no reason given"))
}

/// Wakes the reconciler of a batch. While its channel is full one wake-up is owed, however much happens.
#[derive(Debug)]
struct Waker {
    key: BatchKey,
    wake: mpsc::Sender<BatchKey>,
    owed: bool,
}

impl Waker {
    fn new(key: BatchKey, wake: mpsc::Sender<BatchKey>) -> Self {
        Self { key, wake, owed: false }
    }

    fn wake(&mut self) {
        self.owed = true;
    }

    /// Sends what is owed; never ends while nothing is.
    async fn pass_on(&mut self) {
        if !self.owed {
            return std::future::pending().await;
        }
        // Nobody listens any more: nobody is to be woken.
        let _ = self.wake.send(self.key.clone()).await;
        self.owed = false;
    }

    async fn wake_last(&mut self) {
        self.wake();
        self.pass_on().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_tells_its_reason() {
        let number = 7;
        let reason = how_it_ended(tokio::spawn(async move { panic!("number {number} is in two places") })).await;
        assert_eq!(reason, "the ventilator panicked: number 7 is in two places");
        let reason = how_it_ended(tokio::spawn(async { panic!("plain") })).await;
        assert_eq!(reason, "the ventilator panicked: plain");
    }

    #[tokio::test]
    async fn one_wake_up_is_owed_while_the_channel_is_full() {
        let key = |name: &str| BatchKey {
            namespace: "default".into(),
            name: name.into(),
        };
        let (wake, mut woken) = mpsc::channel(1);
        wake.try_send(key("other")).unwrap();
        let mut waker = Waker::new(key("batch"), wake);
        waker.wake();
        waker.wake();
        let full = tokio::time::timeout(std::time::Duration::from_millis(1), waker.pass_on()).await;
        assert!(full.is_err(), "there is no room");
        assert_eq!(woken.recv().await, Some(key("other")));
        waker.pass_on().await;
        assert_eq!(woken.recv().await, Some(key("batch")));
        assert!(woken.try_recv().is_err(), "one for both");
    }
}
