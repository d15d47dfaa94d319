//! Links as their users see them: messages arrive whole and in order, and every end is seen.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // a test may fail

mod support;

use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use bytes::Bytes;
use harmony_protocol::limits::MAX_MESSAGE;
use harmony_transport::{CloseReason, Config, Endpoint, MAX_EVENT_BYTES, MAX_PARTS, TransportError};
use support::{DEADLINE, Node, frames, pair, unix_in};

async fn round_trips(endpoint: &str) {
    let (mut server, accepted, mut client, dialled) = pair(Config::default(), Config::default(), endpoint).await;
    let large = Bytes::from((0..251).cycle().take(MAX_MESSAGE).collect::<Vec<u8>>());
    let parts: Vec<Bytes> = (0..MAX_PARTS).map(|n| Bytes::from(vec![7; n * 100])).collect();
    for sent in [
        frames(&[b""]),
        frames(&[b"header", b"index", b"payload"]),
        parts,
        vec![Bytes::new(), large],
    ] {
        client.transport.send(dialled, sent.clone());
        let received = server.message().await;
        assert!(received == sent, "{} frames differ", sent.len());
        server.transport.send(accepted, received);
        assert!(
            client.message().await == sent,
            "{} frames differ on the way back",
            sent.len()
        );
    }
}

#[tokio::test]
async fn messages_survive_the_way_over_unix_sockets() {
    let folder = tempfile::tempdir().unwrap();
    round_trips(&unix_in(folder.path())).await;
}

#[tokio::test]
async fn messages_survive_the_way_over_tcp() {
    round_trips("tcp://127.0.0.1:0").await;
}

#[tokio::test]
async fn messages_survive_the_way_over_ipv6() {
    round_trips("tcp://[::1]:0").await;
}

#[tokio::test]
async fn order_is_kept_both_ways_at_once() {
    const MESSAGES: u32 = 10_000;
    let (mut server, accepted, mut client, dialled) =
        pair(Config::default(), Config::default(), "tcp://127.0.0.1:0").await;
    let numbered = |n: u32| {
        vec![
            Bytes::copy_from_slice(&n.to_be_bytes()),
            Bytes::from(vec![1; n as usize % 3_000]),
        ]
    };
    for n in 0..MESSAGES {
        client.transport.send(dialled, numbered(n));
        server.transport.send(accepted, numbered(n));
    }
    for n in 0..MESSAGES {
        assert!(server.message().await == numbered(n), "message {n} to the server");
        assert!(client.message().await == numbered(n), "message {n} to the client");
    }
}

#[tokio::test]
async fn what_is_sent_before_the_link_stands_arrives() {
    let mut server = Node::plain();
    let endpoint = server.listen("tcp://127.0.0.1:0").await;
    let client = Node::plain();
    let link = client.dial(0, &endpoint);
    client.transport.send(link, frames(&[b"early"]));
    server.opened().await;
    assert_eq!(server.message().await, frames(&[b"early"]));
}

#[tokio::test]
async fn closing_sends_what_is_queued_and_both_sides_hear_of_it() {
    let (mut server, _, mut client, dialled) = pair(Config::default(), Config::default(), "tcp://127.0.0.1:0").await;
    let payload = Bytes::from(vec![3; 20_000]);
    for _ in 0..1_000 {
        client.transport.send(dialled, vec![payload.clone()]);
    }
    client.transport.close(dialled);
    for n in 0..1_000 {
        assert!(server.message().await == [payload.clone()], "message {n}");
    }
    assert_eq!(server.closed().await, CloseReason::Peer);
    assert_eq!(client.closed().await, CloseReason::Requested);
    client.transport.send(dialled, frames(&[b"too late"]));
    let counters = client.counters_until(|counters| counters.links == 0).await;
    assert_eq!((counters.opened, counters.closed["requested"]), (1, 1));
}

#[tokio::test]
async fn the_end_of_a_peer_is_seen_at_once() {
    let folder = tempfile::tempdir().unwrap();
    for endpoint in ["tcp://127.0.0.1:0", &unix_in(folder.path())] {
        let (mut server, _, client, _) = pair(Config::default(), Config::default(), endpoint).await;
        // A dropped transport closes its sockets as the death of its process does.
        let start = Instant::now();
        drop(client);
        let reason = server.closed().await;
        assert!(matches!(reason, CloseReason::Peer | CloseReason::Lost(_)), "{reason}");
        let took = start.elapsed();
        assert!(took < Duration::from_secs(1), "{endpoint}: seen only after {took:?}");
    }
}

#[tokio::test]
async fn messages_that_arrived_before_the_end_are_delivered() {
    let (mut server, accepted, client, dialled) = pair(Config::default(), Config::default(), "tcp://127.0.0.1:0").await;
    for _ in 0..500 {
        client.transport.send(dialled, vec![Bytes::from(vec![9; 10_000])]);
    }
    client.transport.close(dialled);
    // Writing to a peer that has gone must not cost what it had sent.
    for _ in 0..500 {
        server.transport.send(accepted, frames(&[b"into the void"]));
        assert_eq!(server.message().await.len(), 1);
    }
    server.closed().await;
}

#[tokio::test]
async fn a_peer_that_reads_too_slowly_is_cut_off() {
    let config = Config {
        max_queued_bytes: 4 << 20,
        ..Config::default()
    };
    let (server, _, mut client, dialled) = pair(Config::default(), config, "tcp://127.0.0.1:0").await;
    let payload = Bytes::from(vec![0; 1 << 20]);
    let deadline = Instant::now() + DEADLINE;
    // The server's driver takes no events, so its links stop reading once their channel is full.
    while client.transport.counters().closed.get("overflow") != Some(&1) {
        assert!(Instant::now() < deadline, "the link took everything");
        client.transport.send(dialled, vec![payload.clone()]);
        tokio::task::yield_now().await;
    }
    assert_eq!(client.closed().await, CloseReason::Overflow);
    drop(server);
}

#[tokio::test]
async fn a_slow_driver_holds_the_sender_back_and_loses_nothing() {
    const MESSAGES: usize = 1_500;
    let (mut server, _, client, dialled) = pair(Config::default(), Config::default(), "tcp://127.0.0.1:0").await;
    let payload = Bytes::from(vec![5; 64 << 10]);
    for _ in 0..MESSAGES {
        client.transport.send(dialled, vec![payload.clone()]);
    }
    for n in 0..MESSAGES {
        assert!(server.message().await == [payload.clone()], "message {n}");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_message_that_no_peer_accepts_closes_the_link() {
    let config = Config {
        max_message: 1_000,
        ..Config::default()
    };
    for wrong in [
        vec![Bytes::from(vec![0; 1_001])],
        vec![Bytes::new(); MAX_PARTS + 1],
        vec![],
    ] {
        let (_server, _, mut client, dialled) = pair(Config::default(), config.clone(), "tcp://127.0.0.1:0").await;
        client.transport.send(dialled, wrong);
        assert_eq!(client.closed().await.label(), "unsendable");
    }
}

#[tokio::test]
async fn a_silent_peer_is_closed() {
    let config = Config {
        idle_after: Duration::from_millis(200),
        ..Config::default()
    };
    let (mut server, _, mut client, _) = pair(config, Config::default(), "tcp://127.0.0.1:0").await;
    assert_eq!(server.closed().await, CloseReason::Idle(Duration::from_millis(200)));
    assert_eq!(client.closed().await, CloseReason::Peer);
}

#[tokio::test]
async fn a_dial_that_fails_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let mut client = Node::plain();
    for (n, endpoint) in ["tcp://127.0.0.1:1", "tcp://name.invalid:1", &unix_in(folder.path())]
        .into_iter()
        .enumerate()
    {
        client.dial(n as u64, &endpoint.parse().unwrap());
        let reason = client.closed().await;
        assert_eq!(reason.label(), "unreachable");
        assert!(reason.to_string().contains(endpoint), "{reason}");
    }
    assert_eq!(client.transport.counters().links, 0);
}

#[tokio::test]
async fn plain_tcp_stays_on_loopback_unless_allowed() {
    let plain = Node::plain();
    let error = plain
        .transport
        .listen(&"tcp://0.0.0.0:0".parse().unwrap())
        .await
        .unwrap_err();
    assert!(matches!(error, TransportError::Insecure { .. }), "{error}");
    let mut client = Node::plain();
    // An address for documentation (RFC 5737): nobody answers there, and nobody is asked.
    client.dial(0, &"tcp://192.0.2.1:9".parse().unwrap());
    assert_eq!(client.closed().await, CloseReason::Insecure("192.0.2.1:9".into()));

    let insecure = Node::start(Config {
        insecure_tcp: true,
        ..Config::default()
    });
    insecure.listen("tcp://0.0.0.0:0").await;
}

#[tokio::test]
async fn links_beyond_the_limit_are_refused() {
    let (server, _, mut client, _) = pair(
        Config {
            max_links: 1,
            ..Config::default()
        },
        Config::default(),
        "tcp://127.0.0.1:0",
    )
    .await;
    let endpoint = server.listen("tcp://127.0.0.1:0").await;
    client.dial(1, &endpoint);
    client.closed().await;
    server
        .counters_until(|counters| counters.refused.get("full") == Some(&1))
        .await;
}

#[tokio::test]
async fn a_unix_socket_is_private_and_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let endpoint = Endpoint::unix(&path).unwrap();
    let first = Node::plain();
    first.transport.listen(&endpoint).await.unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);

    let second = Node::plain();
    let error = second.transport.listen(&endpoint).await.unwrap_err();
    assert!(matches!(error, TransportError::InUse { .. }), "{error}");
    drop(first);
    assert!(!path.exists());

    // What a killed process leaves: a socket on which nobody answers.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    second.transport.listen(&endpoint).await.unwrap();

    let swept = Endpoint::unix(folder.path().join("swept/s")).unwrap();
    assert!(
        second.transport.listen(&swept).await.is_err(),
        "no folder is made again"
    );

    let file = folder.path().join("file");
    std::fs::write(&file, "precious").unwrap();
    assert!(second.transport.listen(&Endpoint::unix(&file).unwrap()).await.is_err());
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "precious");
}

#[tokio::test]
async fn a_dial_can_be_given_up() {
    // A listener that accepts and stays silent.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let mut client = Node::plain();
    let link = client.dial(
        0,
        &Endpoint::Tcp {
            host: "127.0.0.1".into(),
            port,
        },
    );
    client.transport.close(link);
    assert_eq!(client.closed().await, CloseReason::Requested);
    client.dial(
        1,
        &Endpoint::Tcp {
            host: "127.0.0.1".into(),
            port,
        },
    );
    assert_eq!(client.closed().await.label(), "handshake_timeout");
}

#[tokio::test]
async fn a_transport_ends_with_its_last_handle() {
    let (server, _, mut client, _) = pair(Config::default(), Config::default(), "tcp://127.0.0.1:0").await;
    let clone = client.transport.clone();
    drop(client.transport);
    assert_eq!(clone.counters().links, 1);
    drop(clone);
    assert!(
        tokio::time::timeout(DEADLINE, client.events.recv())
            .await
            .unwrap()
            .is_none()
    );
    drop(server);
}

/// Nobody reads at the other end: a link that is given up ends at once, whatever is queued in it.
#[tokio::test]
async fn a_link_that_is_cut_ends_without_a_flush() {
    let patient = Config {
        max_queued_bytes: 1 << 30,
        ..Config::default()
    };
    let (server, _, mut client, dialled) = pair(Config::default(), patient, "tcp://127.0.0.1:0").await;
    let large = Bytes::from(vec![0; MAX_MESSAGE]);
    // More than the other side takes in while its driver reads nothing.
    for _ in 0..2 * MAX_EVENT_BYTES / large.len() {
        client.transport.send(dialled, vec![large.clone()]);
    }
    let began = Instant::now();
    client.transport.cut(dialled);
    assert_eq!(client.closed().await, CloseReason::Requested);
    assert!(began.elapsed() < Duration::from_millis(500), "{:?}", began.elapsed());
    drop(server);
}
