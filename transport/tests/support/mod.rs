//! A transport with its events, for tests: every wait has a deadline.
#![allow(dead_code, unreachable_pub)] // each test program uses a part of it
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // a test may fail

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use harmony_protocol::ids::LinkId;
use harmony_transport::{CloseReason, Config, Counters, Endpoint, Event, Events, Transport};
use tokio::time::{Instant, sleep, timeout};

/// Ten times and more what any single step takes on a loaded machine.
pub const DEADLINE: Duration = Duration::from_secs(30);

pub struct Node {
    pub transport: Transport,
    pub events: Events,
}

impl Node {
    pub fn start(config: Config) -> Self {
        let (transport, events) = Transport::start(config).unwrap();
        Self { transport, events }
    }

    pub fn plain() -> Self {
        Self::start(Config::default())
    }

    pub async fn listen(&self, endpoint: &str) -> Endpoint {
        self.transport.listen(&endpoint.parse().unwrap()).await.unwrap()
    }

    pub fn dial(&self, n: u64, endpoint: &Endpoint) -> LinkId {
        let link = LinkId::dialled(n);
        self.transport.dial(link, endpoint.clone());
        link
    }

    pub async fn event(&mut self) -> Event {
        timeout(DEADLINE, self.events.recv())
            .await
            .expect("no event in time")
            .expect("the transport has ended")
    }

    pub async fn opened(&mut self) -> LinkId {
        self.opened_by().await.0
    }

    pub async fn opened_by(&mut self) -> (LinkId, Option<String>) {
        match self.event().await {
            Event::Opened { link, peer } => (link, peer),
            other => panic!("expected Opened, got {other:?}"),
        }
    }

    pub async fn message(&mut self) -> Vec<Bytes> {
        match self.event().await {
            Event::Message { frames, .. } => frames,
            other => panic!("expected Message, got {other:?}"),
        }
    }

    pub async fn closed(&mut self) -> CloseReason {
        match self.event().await {
            Event::Closed { reason, .. } => reason,
            other => panic!("expected Closed, got {other:?}"),
        }
    }

    /// Skips messages until the link has ended.
    pub async fn closed_at_last(&mut self) -> CloseReason {
        loop {
            if let Event::Closed { reason, .. } = self.event().await {
                return reason;
            }
        }
    }

    pub async fn counters_until(&self, done: impl Fn(&Counters) -> bool) -> Counters {
        let counters = || self.transport.counters();
        until(|| done(&counters()), || format!("{:?}", counters())).await;
        counters()
    }
}

/// Two nodes with one link between them: the listener and its link, the dialler and its link.
pub async fn pair(listener: Config, dialler: Config, endpoint: &str) -> (Node, LinkId, Node, LinkId) {
    let (mut server, mut client) = (Node::start(listener), Node::start(dialler));
    let real = server.listen(endpoint).await;
    let dialled = client.dial(0, &real);
    assert_eq!(client.opened().await, dialled);
    let accepted = server.opened().await;
    assert!(accepted.is_accepted());
    (server, accepted, client, dialled)
}

pub fn unix_in(folder: &Path) -> String {
    format!("unix:{}", folder.join("s").display())
}

pub fn frames(parts: &[&[u8]]) -> Vec<Bytes> {
    parts.iter().map(|part| Bytes::copy_from_slice(part)).collect()
}

/// Waits for a condition; `state` is shown if it does not come true in time.
pub async fn until(done: impl Fn() -> bool, state: impl Fn() -> String) {
    let deadline = Instant::now() + DEADLINE;
    while !done() {
        assert!(Instant::now() < deadline, "not in time: {}", state());
        sleep(Duration::from_millis(5)).await;
    }
}

/// Open descriptors of this process.
pub fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Resident memory of this process in bytes.
pub fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
}
