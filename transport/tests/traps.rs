//! The traps of zeromq 0.7: sockets dropped during a handshake, private listeners that stay, and directions that end
//! one by one have each leaked descriptors. Alone in its program, since it counts those of the whole process.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // a test may fail

mod support;

use std::time::Duration;

use harmony_transport::{Config, Endpoint, Event};
use support::{Node, descriptors, frames, resident, until};

/// Links opened and torn down, a quarter in each way.
const LINKS: u64 = 1_000;
/// What they may leave in memory, for the allocator.
const MEMORY_LEFT: usize = 20 << 20;

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

/// Opens one link and waits for its end, which `n` chooses: given up while it is dialled, closed at about the time it
/// opens, closed with a message on its way, or closed by the peer.
async fn open_and_end(client: &mut Node, n: u64, keeps: &Endpoint, closes: &Endpoint) {
    let way = n % 4;
    let link = client.dial(n, if way == 3 { closes } else { keeps });
    if way == 1 {
        for _ in 0..n % 8 {
            tokio::task::yield_now().await;
        }
    }
    if way <= 1 {
        client.transport.close(link);
    }
    loop {
        match client.event().await {
            Event::Opened { .. } if way == 2 => {
                client.transport.send(link, frames(&[b"and gone"]));
                client.transport.close(link);
            }
            Event::Closed { .. } => return,
            _ => {}
        }
    }
}

#[tokio::test]
async fn links_torn_down_at_any_moment_leave_nothing() {
    let (keeps, closes, mut client) = (server(false).await, server(true).await, node());
    for n in 0..100 {
        open_and_end(&mut client, n, &keeps, &closes).await;
    }
    let (files, memory) = (descriptors(), resident());
    for n in 100..LINKS {
        open_and_end(&mut client, n, &keeps, &closes).await;
    }
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
    let counters = client.counters_until(|counters| counters.links == 0).await;
    assert_eq!(counters.closed.values().sum::<u64>(), LINKS, "{counters:?}");
    let grown = resident().saturating_sub(memory);
    assert!(grown <= MEMORY_LEFT, "{} KiB more than before", grown >> 10);
}
