//! Hosted ventilators, with a real collector and real workers on loopback TCP.

#![allow(clippy::unwrap_used)] // helpers of tests fail by it

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use harmony_api::Tasks;
use harmony_collector::CollectorConfig;
use harmony_operator::ventilators::{BatchKey, Launch, Running, Settings, VentilatorState, Ventilators};
use harmony_protocol::ids::BatchUid;
use harmony_protocol::ventilator::{Event, Hold, NumberState, WorkerView};
use harmony_protocol::wire::{Ending, Executor, Policy, Work};
use harmony_ventilator::source::{SourceConfig, SpoolRoom};
use harmony_worker::WorkerArgs;
use tempfile::TempDir;
use tokio::sync::mpsc;
use uuid::Uuid;

/// Ten times what a step should take on a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);

/// Bytes for the tasks of all batches of one host.
const SPOOL_ROOM: u64 = 10;

#[derive(Parser)]
struct WorkerProgram {
    #[command(flatten)]
    args: WorkerArgs,
}

/// A collector, and what its workers have run.
struct Fleet {
    folder: TempDir,
    collector: String,
    runs: Arc<Mutex<Vec<(String, u64)>>>,
    /// Tasks end only while it is open.
    open: Arc<AtomicBool>,
    running: Arc<AtomicU32>,
}

fn free_endpoint() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    format!("tcp://{}", listener.local_addr().unwrap())
}

fn on_a_thread<F: Future<Output = ()>>(what: impl FnOnce() -> F + Send + 'static) {
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(what());
    });
}

impl Fleet {
    fn new(open: bool) -> Self {
        let folder = TempDir::new().unwrap();
        let collector = free_endpoint();
        let config = CollectorConfig {
            name: "collector".into(),
            listen: collector.parse().unwrap(),
            dir: folder.path().join("log"),
            log_limit: None,
            admin: harmony_admin::AdminArgs::default(),
            transport: harmony_transport::Config::default(),
        };
        on_a_thread(|| async { harmony_collector::run(config, std::future::pending()).await.unwrap() });
        Self {
            folder,
            collector,
            runs: Arc::default(),
            open: Arc::new(AtomicBool::new(open)),
            running: Arc::default(),
        }
    }

    /// Starts a worker; gives its name and endpoint.
    fn worker(&self, name: &str) -> (String, String) {
        let endpoint = free_endpoint();
        let args = ["worker", "--name", name, "--listen", &endpoint, "--slots", "2"];
        let args = WorkerProgram::parse_from(args).args;
        let (runs, open, running) = (
            Arc::clone(&self.runs),
            Arc::clone(&self.open),
            Arc::clone(&self.running),
        );
        let worker = name.to_owned();
        on_a_thread(move || async move {
            let closure = move |task: harmony_worker::TaskContext<'_>| {
                runs.lock().unwrap().push((worker.clone(), task.number));
                running.fetch_add(1, Ordering::SeqCst);
                while !open.load(Ordering::SeqCst) {
                    thread::sleep(Duration::from_millis(1));
                }
                running.fetch_sub(1, Ordering::SeqCst);
                Ok(task.payload.to_vec())
            };
            harmony_worker::serve(args, Some(Arc::new(closure))).await.unwrap();
        });
        (name.to_owned(), endpoint)
    }

    fn host(&self, name: &str) -> (Ventilators, mpsc::Receiver<BatchKey>) {
        let (wake, woken) = mpsc::channel(16);
        let settings = Settings {
            name: name.to_owned(),
            spool_dir: self.folder.path().join(name),
            spool_room: SpoolRoom::new(SPOOL_ROOM),
            transport: harmony_transport::Config::default(),
            wake,
        };
        (Ventilators::new(settings), woken)
    }

    fn runs(&self) -> Vec<(String, u64)> {
        let mut runs = self.runs.lock().unwrap().clone();
        runs.sort_unstable_by_key(|(_, number)| *number);
        runs
    }

    fn numbers(&self) -> Vec<u64> {
        self.runs().into_iter().map(|(_, number)| number).collect()
    }
}

fn launch(uid: BatchUid, completions: u64) -> Launch {
    Launch {
        key: BatchKey {
            namespace: "default".into(),
            name: "batch".into(),
        },
        uid,
        epoch_floor: 0,
        tasks: Tasks::Range,
        source: SourceConfig::new("unused", "unused"),
        completions: Some(completions),
        known_digest: None,
        policy: Policy {
            backoff_limit_per_index: 0,
            max_bytes_per_task: 1 << 20,
        },
        work: Work {
            executor: Executor::Library,
            collector: String::new(),
            max_bytes_per_task: 1 << 20,
            deadline_millis: None,
        },
        max_failed: None,
        deadline: None,
        success: None,
    }
}

fn uid() -> BatchUid {
    BatchUid(Uuid::now_v7())
}

/// Looks until what is looked for is there. As a reconciler does, it keeps each epoch that is asked for.
async fn find<T>(ventilators: &Ventilators, uid: BatchUid, look: impl Fn(&VentilatorState) -> Option<T>) -> T {
    let give_up = Instant::now() + PATIENCE;
    loop {
        let state = ventilators.state(uid).unwrap();
        if let VentilatorState::Running(Running {
            claiming: Some(epoch), ..
        }) = &state
        {
            ventilators.epoch_kept(uid, *epoch);
        }
        if let Some(found) = look(&state) {
            return found;
        }
        assert!(Instant::now() < give_up, "not within {PATIENCE:?}; it is {state:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn running(state: &VentilatorState) -> Option<&Running> {
    match state {
        VentilatorState::Running(running) => Some(running),
        _ => None,
    }
}

fn done(state: &VentilatorState) -> Option<(Ending, u64, u64)> {
    match state {
        VentilatorState::Done { done, progress } => {
            Some((done.ending.clone(), done.counts.succeeded, progress.dispatched))
        }
        _ => None,
    }
}

fn worker(state: &VentilatorState, name: &str) -> Option<WorkerView> {
    running(state)?.workers.iter().find(|view| view.name == name).cloned()
}

#[tokio::test]
async fn a_batch_runs_to_its_end() {
    let fleet = Fleet::new(true);
    let (ventilators, mut woken) = fleet.host("operator");
    let uid = uid();
    ventilators.start(launch(uid, 500));
    assert_eq!(ventilators.uids(), [uid]);
    ventilators.collector(uid, &fleet.collector);
    ventilators.workers(uid, &[fleet.worker("a")]);
    // START waits until the epoch is kept.
    let give_up = Instant::now() + PATIENCE;
    let epoch = loop {
        match ventilators.state(uid).unwrap() {
            VentilatorState::Running(Running {
                claiming: Some(epoch), ..
            }) => break epoch,
            other => assert!(Instant::now() < give_up, "{other:?}"),
        }
        assert!(woken.recv().await.is_some_and(|key| key.name == "batch"));
    };
    assert_eq!(epoch, 1);
    assert_eq!(ventilators.completions(uid), Some(500));
    let state = ventilators.state(uid).unwrap();
    assert!(!running(&state).unwrap().progress.collector_ready, "{state:?}");
    let ended = find(&ventilators, uid, done).await;
    assert_eq!(ended, (Ending::Complete, 500, 500));
    assert_eq!(fleet.numbers(), (0..500).collect::<Vec<_>>());
    let events = ventilators.take_events(uid);
    assert!(
        matches!(
            events.first(),
            Some(Event::Claiming {
                epoch: 1,
                takeover: false
            })
        ),
        "{events:?}"
    );
    assert!(matches!(events.last(), Some(Event::Done(_))), "{events:?}");
    while woken.try_recv().is_ok() {}
    ventilators.stop(uid);
    assert!(ventilators.uids().is_empty() && ventilators.state(uid).is_none());
    ventilators.stop_all().await;
}

#[tokio::test]
async fn another_operator_takes_over_and_nothing_runs_twice() {
    let fleet = Fleet::new(true);
    let (first, _woken) = fleet.host("first");
    let uid = uid();
    let workers = [fleet.worker("a"), fleet.worker("b")];
    first.start(launch(uid, 2_000));
    first.collector(uid, &fleet.collector);
    first.workers(uid, &workers);
    // Some are recorded, and then some run that cannot end.
    find(&first, uid, |state| {
        (running(state)?.progress.counts.succeeded > 100).then_some(())
    })
    .await;
    fleet.open.store(false, Ordering::SeqCst);
    let digest = first.digest(uid).unwrap();
    let recorded = find(&first, uid, |state| {
        let progress = &running(state)?.progress;
        (fleet.running.load(Ordering::SeqCst) == 4).then_some(progress.counts.succeeded)
    })
    .await;
    let (second, _woken) = fleet.host("second");
    second.start(Launch {
        epoch_floor: 1,
        known_digest: Some(digest),
        ..launch(uid, 2_000)
    });
    second.collector(uid, &fleet.collector);
    second.workers(uid, &workers);
    let found = find(&second, uid, |state| {
        let running = running(state)?;
        let located = running.progress.in_flight >= 4 && running.progress.collector_ready;
        located.then_some((
            running.takeover,
            running.progress.epoch,
            running.progress.counts.succeeded,
        ))
    })
    .await;
    assert!(found.0 && found.1 >= 2 && found.2 >= recorded, "{found:?}");
    fleet.open.store(true, Ordering::SeqCst);
    let (ending, succeeded, _) = find(&second, uid, done).await;
    assert_eq!((ending, succeeded), (Ending::Complete, 2_000));
    assert_eq!(fleet.numbers(), (0..2_000).collect::<Vec<_>>(), "each ran once");
    let fenced = find(&first, uid, |state| match state {
        VentilatorState::Fenced { epoch } => Some(*epoch),
        _ => None,
    })
    .await;
    assert!(fenced >= 2);
    first.stop_all().await;
    second.stop_all().await;
}

#[tokio::test]
async fn a_worker_that_is_drained_ends_what_it_runs_and_gets_nothing_new() {
    let fleet = Fleet::new(false);
    let (ventilators, _woken) = fleet.host("operator");
    let uid = uid();
    let a = fleet.worker("a");
    ventilators.start(launch(uid, 300));
    ventilators.collector(uid, &fleet.collector);
    ventilators.workers(uid, std::slice::from_ref(&a));
    find(&ventilators, uid, |_| {
        (fleet.running.load(Ordering::SeqCst) == 2).then_some(())
    })
    .await;
    ventilators.drain(uid, "a");
    let view = find(&ventilators, uid, |state| {
        worker(state, "a").filter(|view| view.draining)
    })
    .await;
    assert!(!view.is_idle() && view.in_flight >= 2, "{view:?}");
    let told = ventilators.explain(uid).await.unwrap();
    assert!(told.workers.iter().all(|worker| worker.draining), "{told:?}");
    let holds: Vec<_> = told.ready.into_iter().map(|ready| ready.hold).collect();
    assert_eq!(holds, [Some(Hold::NoWorker)]);
    let last = ventilators.explain_number(uid, 299).await.unwrap();
    assert!(
        matches!(
            last.state,
            NumberState::Ready {
                hold: Some(Hold::NoWorker),
                ..
            }
        ),
        "{last:?}"
    );
    fleet.open.store(true, Ordering::SeqCst);
    // Nobody else is there yet: the batch cannot end before it is seen that this worker is idle.
    let view = find(&ventilators, uid, |state| {
        worker(state, "a").filter(WorkerView::is_idle)
    })
    .await;
    assert!(view.draining && view.settled >= 2, "{view:?}");
    let b = fleet.worker("b");
    ventilators.workers(uid, &[a, b.clone()]);
    ventilators.exited(uid, "a", false);
    ventilators.workers(uid, &[b]);
    let snapshot = ventilators.snapshot(uid).await;
    let resent = find(&ventilators, uid, |state| match state {
        VentilatorState::Done { progress, .. } => Some(progress.resent),
        _ => None,
    })
    .await;
    assert_eq!(
        resent,
        harmony_protocol::ventilator::Resent::default(),
        "nothing was interrupted"
    );
    assert_eq!(fleet.numbers(), (0..300).collect::<Vec<_>>());
    let at_a = fleet.runs().iter().filter(|(worker, _)| worker == "a").count() as u64;
    assert_eq!(at_a, view.settled, "nothing new went to it");
    assert!(snapshot.is_none_or(|snapshot| snapshot.uid == uid));
    ventilators.stop_all().await;
    assert_eq!(ventilators.explain(uid).await, None, "nobody is there to ask");
}

#[tokio::test]
async fn tasks_that_cannot_be_read_or_are_others_are_told() {
    let fleet = Fleet::new(true);
    let (ventilators, mut woken) = fleet.host("operator");
    let (wrong, changed) = (uid(), uid());
    ventilators.start(Launch {
        tasks: Tasks::Items(vec!["one".into()]),
        ..launch(wrong, 2)
    });
    ventilators.start(Launch {
        known_digest: Some([7; 32]),
        ..launch(changed, 2)
    });
    let (error, is_input) = find(&ventilators, wrong, |state| match state {
        VentilatorState::SourceFailed { error, is_input } => Some((error.clone(), *is_input)),
        _ => None,
    })
    .await;
    assert!(
        is_input && error.contains("spec.tasks.items holds 1 entries"),
        "{error}"
    );
    let was = find(&ventilators, changed, |state| match state {
        VentilatorState::SourceChanged { was, now } => Some((*was, *was != *now)),
        _ => None,
    })
    .await;
    assert_eq!(was, ([7; 32], true));
    // Each end wakes the reconciler.
    assert!(woken.recv().await.is_some() && woken.recv().await.is_some());
}

/// Serves two tasks, of six bytes in all, to whoever asks.
fn serve_two_tasks() -> Tasks {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/tasks.txt", listener.local_addr().unwrap());
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            // The request is of no interest, but unread bytes would reset the connection.
            let _ = stream.read(&mut [0; 4096]).unwrap();
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\nconnection: close\r\n\r\nab\ncd\n");
        }
    });
    Tasks::Url(url.parse().unwrap())
}

#[tokio::test]
async fn a_source_waits_for_room_on_the_volume() {
    let fleet = Fleet::new(true);
    let (ventilators, _woken) = fleet.host("room");
    let tasks = serve_two_tasks();
    let from_url = |uid| Launch {
        tasks: tasks.clone(),
        completions: None,
        ..launch(uid, 2)
    };
    let (first, second) = (BatchUid(Uuid::new_v4()), BatchUid(Uuid::new_v4()));
    ventilators.start(from_url(first));
    find(&ventilators, first, |state| {
        matches!(state, VentilatorState::Running(_)).then_some(())
    })
    .await;
    ventilators.start(from_url(second));
    let (error, is_input) = find(&ventilators, second, |state| match state {
        VentilatorState::SourceFailed { error, is_input } => Some((error.clone(), *is_input)),
        _ => None,
    })
    .await;
    assert!(
        !is_input && error.contains("does not fit into the 10 bytes") && error.contains("spool.maxBytes"),
        "{error}"
    );
    ventilators.stop_all().await;
    ventilators.start(from_url(second));
    find(&ventilators, second, |state| {
        matches!(state, VentilatorState::Running(_)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_batch_with_a_success_policy_ends_early() {
    let fleet = Fleet::new(true);
    let (ventilators, _woken) = fleet.host("operator");
    let uid = uid();
    let rule = harmony_protocol::ventilator::SuccessRule {
        indexes: Some([(0, 9)].into_iter().collect()),
        count: Some(3),
    };
    ventilators.start(Launch {
        success: Some(harmony_protocol::ventilator::SuccessPolicy { rules: vec![rule] }),
        ..launch(uid, 10_000_000)
    });
    ventilators.collector(uid, &fleet.collector);
    ventilators.workers(uid, &[fleet.worker("a")]);
    let (ending, succeeded, _) = find(&ventilators, uid, done).await;
    assert_eq!(ending, Ending::Cancelled("SuccessPolicy".into()));
    assert!((3..10_000_000).contains(&succeeded), "{succeeded}");
    ventilators.stop_all().await;
}
