//! A collector and a worker as pods have them, served by a ventilator inside the test.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;

use harmony_api::Tasks;
use harmony_protocol::Identity;
use harmony_protocol::ids::{BatchUid, InstanceId, ProcessId};
use harmony_protocol::ventilator::{Config, Cut, Event, Ventilator};
use harmony_protocol::wire::{Executor, Policy, Role, Work};
use harmony_transport::Transport;
use harmony_ventilator::driver::{Command as Order, Host, run};
use harmony_ventilator::source::{self, SourceConfig};
use rustix::process::Signal;
use tempfile::TempDir;
use tokio::sync::mpsc::unbounded_channel;
use tokio::sync::watch;
use uuid::Uuid;

use super::metrics::{ask, fetch};
use super::processes::send;
use super::{PATIENCE, wait_for};

/// A process with endpoints. It is killed when this is dropped.
pub struct Pod {
    process: Child,
    admin: SocketAddr,
    loopback: SocketAddr,
}

impl Pod {
    fn start(arguments: &[&str], own: &[&str]) -> Self {
        let (admin, loopback) = (free(), free());
        let process = Command::new(env!("CARGO_BIN_EXE_harmony"))
            .args(arguments)
            .args(["--admin", &admin.to_string(), "--loopback", &loopback.to_string()])
            .args(own)
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let pod = Self {
            process,
            admin,
            loopback,
        };
        for at in [admin, loopback] {
            wait_for("the endpoints", PATIENCE, || TcpStream::connect(at).ok());
        }
        pod
    }

    /// Asks it at its public address.
    pub fn public(&self, path: &str) -> (u16, String) {
        fetch(self.admin, path).unwrap()
    }

    /// Asks it at its loopback address.
    pub fn private(&self, path: &str) -> (u16, String) {
        fetch(self.loopback, path).unwrap()
    }

    /// Gives its loopback address something.
    pub fn put(&self, path: &str, body: &str) -> (u16, String) {
        let length = body.len();
        let request = format!("PUT {path} HTTP/1.0\r\nhost: pod\r\ncontent-length: {length}\r\n\r\n{body}");
        ask(self.loopback, &request).unwrap()
    }

    /// The value of a series of its metrics.
    pub fn metric(&self, series: &str) -> u64 {
        let (status, text) = self.public("/metrics");
        assert_eq!(status, 200, "{text}");
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("{series} is not in\n{text}"))
            .parse()
            .unwrap()
    }

    /// Ends it as the kubelet does.
    pub fn terminate(mut self) {
        send(self.process.id().try_into().unwrap(), Signal::TERM);
        let ended = wait_for("its end", PATIENCE, || self.process.try_wait().unwrap());
        assert_eq!(ended.code(), Some(0));
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// An address that nobody uses.
fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// Where the pods of one test are.
pub struct Pods {
    dir: TempDir,
}

impl Pods {
    pub fn new() -> Self {
        Self {
            dir: tempfile::Builder::new().prefix("hb-").tempdir().unwrap(),
        }
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    fn endpoint(&self, name: &str) -> String {
        format!("unix:{}", self.dir.path().join(name).display())
    }

    pub fn collector(&self) -> Pod {
        let data = self.dir.path().join("data");
        let listen = self.endpoint("c");
        let dir = data.to_str().unwrap();
        let flags = ["--listen", &listen, "--dir", dir];
        Pod::start(&[&["collector"], &flags[..]].concat(), &[])
    }

    /// A worker made for one batch, with a command of its own.
    pub fn worker(&self, uid: BatchUid, own: &[&str]) -> Pod {
        let (listen, uid) = (self.endpoint("w"), uid.to_string());
        let flags = ["--name", "w", "--listen", &listen, "--slots", "2", "--batch", &uid];
        let executor = ["--executor", r#"{"exec":{"command":[]}}"#];
        let own = [&["--"], own].concat();
        Pod::start(&[&["worker"], &flags[..], &executor].concat(), &own)
    }

    /// Serves a batch of the command that the worker has.
    pub fn serve(&self, uid: BatchUid, completions: u64) -> Served {
        let process_id = ProcessId(Uuid::new_v4());
        let most = 4 << 20;
        let config = Config {
            identity: Identity {
                role: Role::Ventilator,
                name: "test".to_owned(),
                process_id,
                slots: None,
            },
            seed: 0,
            uid,
            name: "test".to_owned(),
            instance: InstanceId(Uuid::new_v4()),
            epoch_floor: 0,
            completions,
            policy: Policy {
                backoff_limit_per_index: 0,
                max_bytes_per_task: most,
            },
            work: Work {
                executor: Executor::Exec { command: Vec::new() },
                collector: self.endpoint("c"),
                max_bytes_per_task: most,
                deadline_millis: None,
            },
            max_failed: None,
            deadline: None,
            success: None,
            workers_are_mended: false,
            cut: Cut::default(),
        };
        let worker = Order::Worker {
            name: "w".to_owned(),
            endpoint: self.endpoint("w"),
        };
        let orders = vec![Order::Collector(self.endpoint("c")), worker];
        let sources = SourceConfig::new(self.path(), self.path());
        let (events, seen) = channel();
        let thread = std::thread::spawn(move || ventilate(config, &sources, orders, &events));
        Served { seen, _thread: thread }
    }
}

/// A batch that is being served.
pub struct Served {
    seen: Receiver<Event>,
    _thread: JoinHandle<()>,
}

impl Served {
    /// The first event that is asked for.
    pub fn wait<T>(&self, what: &str, ask: impl Fn(Event) -> Option<T>) -> T {
        wait_for(what, PATIENCE, || self.seen.try_iter().find_map(&ask))
    }
}

fn ventilate(config: Config, sources: &SourceConfig, orders: Vec<Order>, events: &std::sync::mpsc::Sender<Event>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let tasks = source::open(&Tasks::Range, Some(config.completions), sources).unwrap();
        let links = Transport::start(harmony_transport::Config::default()).unwrap();
        let (commands, receiver) = unbounded_channel();
        for order in orders {
            commands.send(order).unwrap();
        }
        let (sender, mut happened) = unbounded_channel();
        let (progress, _shown) = watch::channel(Ventilator::new(config.clone()).progress());
        let serving = run(config, tasks.source, links, receiver, Host::new(sender, progress));
        let telling = async {
            while let Some(event) = happened.recv().await {
                if let Event::Claiming { epoch, .. } = event {
                    let _ = commands.send(Order::EpochKept(epoch));
                }
                // The test may be over.
                let _ = events.send(event);
            }
        };
        tokio::join!(serving, telling);
    });
}
