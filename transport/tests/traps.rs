//! The traps of zeromq 0.7: sockets dropped during a handshake, private listeners that stay, and directions that end
//! one by one have each leaked descriptors. Alone in its program, since it counts those of the whole process.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // a test may fail

mod support;

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::{Duration, Instant};

use fastrand::Rng;
use harmony_protocol::ids::LinkId;
use harmony_transport::{Config, Endpoint, Event};
use rustix::process::{Resource, getrlimit, setrlimit};
use support::{Node, descriptors, frames, resident, until};
use tokio::sync::Mutex;
use tokio::time::timeout_at;

/// Links opened and torn down here, and in the long form.
const LINKS: u64 = 2_000;
const MANY_LINKS: u64 = 20_000;
/// Of these, so many are on their way at once.
const AT_ONCE: u64 = 50;
/// Links that are open at once.
const OPEN: u64 = 1_000;
/// The latest moment at which a link is torn down: some are open by then and have carried messages, most are not.
const LIFE: Duration = Duration::from_millis(20);
/// How long a message on another link may take meanwhile: the socket thread has two nodes' links to serve.
const ROUND_TRIP: Duration = Duration::from_secs(1);
/// Descriptors of runtimes that were only just started.
const FEW: usize = 10;
/// What they may leave in memory, for the allocator.
const MEMORY_LEFT: usize = 20 << 20;

/// These tests count what the whole process has open.
static ALONE: Mutex<()> = Mutex::const_new(());

/// Listening Unix sockets of this crate, in the whole network namespace.
fn private_listeners() -> usize {
    let listening = |line: &&str| line.contains("@harmony-") && line.split_whitespace().nth(3) == Some("00010000");
    std::fs::read_to_string("/proc/net/unix")
        .unwrap()
        .lines()
        .filter(listening)
        .count()
}

fn node() -> Node {
    // Nobody sends heartbeats here.
    Node::start(Config {
        idle_after: Duration::from_hours(1),
        ..Config::default()
    })
}

/// A node that accepts links and closes each at once, or never.
async fn server(closes: bool) -> Endpoint {
    let mut node = node();
    let endpoint = node.listen("tcp://127.0.0.1:0").await;
    tokio::spawn(async move {
        while let Some(event) = node.events.recv().await {
            match event {
                Event::Opened { link, .. } if closes => node.transport.close(link),
                _ => {}
            }
        }
    });
    endpoint
}

/// A link that stands all the while, and answers.
struct Steady {
    client: Node,
    link: LinkId,
    slowest: Duration,
}

impl Steady {
    async fn start() -> Self {
        let mut node = node();
        let endpoint = node.listen("tcp://127.0.0.1:0").await;
        tokio::spawn(async move {
            while let Some(event) = node.events.recv().await {
                if let Event::Message { link, frames } = event {
                    node.transport.send(link, frames);
                }
            }
        });
        let mut client = self::node();
        let link = client.dial(0, &endpoint);
        assert_eq!(client.opened().await, link);
        Self {
            client,
            link,
            slowest: Duration::ZERO,
        }
    }

    async fn round_trip(&mut self) {
        let began = Instant::now();
        self.client.transport.send(self.link, frames(&[b"still there?"]));
        self.client.message().await;
        self.slowest = self.slowest.max(began.elapsed());
    }
}

/// Opens links, each of which is torn down at a random moment of its life: by its dialler, in the middle of a message, or by
/// the peer. Waits for all of their ends.
async fn open_and_end(client: &mut Node, numbers: Range<u64>, dice: &mut Rng, keeps: &Endpoint, closes: &Endpoint) {
    let begin = Instant::now();
    let mut ends: BTreeMap<LinkId, Instant> = BTreeMap::new();
    for n in numbers {
        let by_peer = dice.u8(0..4) == 0;
        let link = client.dial(n, if by_peer { closes } else { keeps });
        let life = LIFE.mul_f64(dice.f64().powi(2)); // most of them early
        ends.insert(
            link,
            if by_peer {
                begin + Duration::from_hours(1)
            } else {
                begin + life
            },
        );
    }
    while let Some((link, end)) = ends
        .iter()
        .min_by_key(|(_, end)| **end)
        .map(|(link, end)| (*link, *end))
    {
        match timeout_at(end.into(), client.event()).await {
            Err(_) => {
                if dice.bool() {
                    client.transport.send(link, frames(&[b"and gone"]));
                }
                client.transport.close(link);
                ends.insert(link, begin + Duration::from_hours(1));
            }
            Ok(Event::Opened { link, .. }) => client.transport.send(link, frames(&[b"hello"])),
            Ok(Event::Closed { link, .. }) => drop(ends.remove(&link)),
            Ok(Event::Message { .. }) => {}
        }
    }
}

/// All is as it was before.
async fn nothing_is_left(files: usize, memory: usize) {
    // A link in its last moments may have been counted at the start.
    until(
        || descriptors() <= files,
        || format!("{} descriptors, {files} before", descriptors()),
    )
    .await;
    until(
        || private_listeners() == 0,
        || format!("{} private listeners", private_listeners()),
    )
    .await;
    let grown = resident().saturating_sub(memory);
    assert!(grown <= MEMORY_LEFT, "{} KiB more than before", grown >> 10);
}

async fn torn_down_at_any_moment(links: u64) {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut dice = Rng::with_seed(seed);
    let (keeps, closes, mut client) = (server(false).await, server(true).await, node());
    let mut steady = Steady::start().await;
    let (mut files, mut memory) = (0, 0);
    for first in (0..links).step_by(AT_ONCE.try_into().unwrap()) {
        if first == links / 10 {
            client.counters_until(|counters| counters.links == 0).await;
            (files, memory) = (descriptors(), resident());
        }
        open_and_end(&mut client, first..first + AT_ONCE, &mut dice, &keeps, &closes).await;
        steady.round_trip().await;
    }
    let counters = client.counters_until(|counters| counters.links == 0).await;
    nothing_is_left(files + usize::try_from(AT_ONCE).unwrap(), memory).await;
    assert_eq!(counters.closed.values().sum::<u64>(), links, "{counters:?}");
    println!(
        "{:?}; slowest round trip beside them: {:?}",
        counters.closed, steady.slowest
    );
    assert!(steady.slowest < ROUND_TRIP, "{:?}", steady.slowest);
}

#[tokio::test]
async fn links_torn_down_at_any_moment_leave_nothing() {
    let _alone = ALONE.lock().await;
    torn_down_at_any_moment(LINKS).await;
}

#[tokio::test]
#[ignore = "20,000 links take a minute"]
async fn many_links_torn_down_at_any_moment_leave_nothing() {
    let _alone = ALONE.lock().await;
    torn_down_at_any_moment(MANY_LINKS).await;
}

async fn open_all_and_end(client: &mut Node, turn: u64, keeps: &Endpoint, steady: &mut Steady) {
    let closed = descriptors();
    for n in 0..OPEN {
        client.dial(turn * OPEN + n, keeps);
    }
    let mut open = Vec::new();
    while open.len() < usize::try_from(OPEN).unwrap() {
        open.push(client.opened().await);
        if open.len() % 100 == 0 {
            steady.round_trip().await;
        }
    }
    println!(
        "{} descriptors for {OPEN} links, {} MiB",
        descriptors() - closed,
        resident() >> 20
    );
    for link in &open {
        client.transport.send(*link, frames(&[b"hello"]));
    }
    steady.round_trip().await;
    for link in open {
        client.transport.close(link);
    }
    for _ in 0..OPEN {
        client.closed().await;
    }
    until(
        || descriptors() <= closed + FEW,
        || format!("{} of {closed} descriptors", descriptors()),
    )
    .await;
}

#[tokio::test]
async fn a_thousand_links_at_once_leave_nothing() {
    let _alone = ALONE.lock().await;
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum; // a link has several descriptors here, both of its ends
    setrlimit(Resource::Nofile, limit).unwrap();
    let mut steady = Steady::start().await;
    let (keeps, mut client) = (server(false).await, node());
    // What the allocator keeps of the first time is room for the next.
    open_all_and_end(&mut client, 0, &keeps, &mut steady).await;
    let (files, memory) = (descriptors(), resident());
    for turn in 1..=3 {
        open_all_and_end(&mut client, turn, &keeps, &mut steady).await;
    }
    nothing_is_left(files, memory).await;
    println!("slowest round trip beside them: {:?}", steady.slowest);
    assert!(steady.slowest < ROUND_TRIP, "{:?}", steady.slowest);
}
