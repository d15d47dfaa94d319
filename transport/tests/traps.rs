//! The traps of zeromq 0.7: sockets dropped during a handshake, private listeners that stay, and directions that end
//! one by one have each leaked descriptors. Alone in its program, since it counts those of the whole process.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // a test may fail

mod support;

use harmony_transport::{Config, Event};
use support::{Node, descriptors, frames, pair, resident, until};

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

#[tokio::test]
async fn links_torn_down_at_any_moment_leave_nothing() {
    let (mut server, _, mut client, _) = pair(Config::default(), Config::default(), "tcp://127.0.0.1:0").await;
    let endpoint = server.listen("tcp://127.0.0.1:0").await;
    let (files, memory) = (descriptors(), resident());
    for n in 1..=LINKS {
        let link = client.dial(n, &endpoint);
        if n % 4 == 0 {
            client.transport.close(link);
        }
        for _ in 0..n % 8 {
            tokio::task::yield_now().await;
        }
        if n % 4 == 1 {
            client.transport.close(link);
        }
        loop {
            match client.event().await {
                Event::Opened { link, .. } if n % 4 == 2 => client.transport.send(link, frames(&[b"and gone"])),
                Event::Opened { .. } => continue,
                Event::Closed { .. } => break,
                Event::Message { .. } => {}
            }
            client.transport.close(link);
        }
        while let Some(event) = server.events.try_recv() {
            if let Event::Opened { link, .. } = event {
                server.transport.close(link);
            }
        }
        if n % 4 == 3 {
            until(|| server.transport.counters().links <= 2, || "links pile up".into()).await;
        }
    }
    drop(tokio::spawn(
        async move { while server.events.recv().await.is_some() {} },
    ));
    until(
        || client.transport.counters().links == 1,
        || format!("{:?}", client.transport.counters()),
    )
    .await;
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
