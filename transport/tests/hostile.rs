//! What strangers may do to a listening port: every attack is turned away and counted, costs no memory or descriptors
//! for good, and leaves an honest link untouched.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // a test may fail

mod support;

use std::time::Duration;

use harmony_protocol::ids::LinkId;
use harmony_transport::{Config, Counters, Endpoint, Event};
use support::{DEADLINE, Node, descriptors, frames, resident, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

/// What attacks may leave in memory: 20 MiB, for the allocator and the runtime.
const MEMORY_LEFT: usize = 20 << 20;

/// A port under attack, and an honest link that must not notice.
struct Target {
    node: Node,
    endpoint: Endpoint,
    honest: Node,
    link: LinkId,
    memory: usize,
    descriptors: usize,
}

impl Target {
    async fn start() -> Self {
        // Nobody sends heartbeats here.
        let patient = Config {
            idle_after: Duration::from_hours(1),
            ..Config::default()
        };
        let limits = Config {
            max_message: 1 << 20,
            max_queued_bytes: 4 << 20,
            ..patient.clone()
        };
        let mut node = Node::start(limits);
        let endpoint = node.listen("tcp://127.0.0.1:0").await;
        let mut honest = Node::start(patient);
        let link = honest.dial(0, &endpoint);
        honest.opened().await;
        node.opened().await;
        let mut target = Self {
            node,
            endpoint,
            honest,
            link,
            memory: 0,
            descriptors: 0,
        };
        target.check_honest().await;
        (target.memory, target.descriptors) = (resident(), descriptors());
        target
    }

    async fn connect(&self) -> TcpStream {
        let Endpoint::Tcp { host, port } = &self.endpoint else {
            panic!("not TCP")
        };
        TcpStream::connect((host.as_str(), *port)).await.unwrap()
    }

    /// A connection that has shaken hands.
    async fn member(&self) -> TcpStream {
        let mut stream = self.connect().await;
        stream.write_all(&hello()).await.unwrap();
        stream.read_exact(&mut [0; 94]).await.unwrap();
        stream
    }

    fn counters(&self) -> Counters {
        self.node.transport.counters()
    }

    fn refused(&self) -> u64 {
        self.counters().refused.values().sum()
    }

    /// The honest link still carries messages; what attackers caused is skipped.
    async fn check_honest(&mut self) {
        self.honest.transport.send(self.link, frames(&[b"honest"]));
        loop {
            match self.node.event().await {
                Event::Message { frames: got, .. } if got == frames(&[b"honest"]) => return,
                Event::Closed { link, reason } if link == LinkId::accepted(0) => panic!("the honest link: {reason}"),
                _ => {}
            }
        }
    }

    /// Sends bytes to a fresh connection and waits until it is refused.
    async fn is_refused(&mut self, bytes: &[u8], label: &str) {
        let before = self.counters().refused.get(label).copied().unwrap_or(0);
        let mut stream = self.connect().await;
        // The other side may close before it has read everything.
        let _ = stream.write_all(bytes).await;
        ends(stream).await;
        let refused = || self.counters().refused.get(label).copied().unwrap_or(0);
        until(|| refused() > before, || format!("{label}: {:?}", self.counters())).await;
    }

    /// Sends bytes on a link that stands and waits until it is closed as a violation.
    async fn is_cut_off(&mut self, bytes: &[u8]) {
        let before = self.counters().closed.get("violation").copied().unwrap_or(0);
        let mut stream = self.member().await;
        let _ = stream.write_all(bytes).await;
        ends(stream).await;
        let closed = || self.counters().closed.get("violation").copied().unwrap_or(0);
        until(|| closed() > before, || format!("{bytes:?}: {:?}", self.counters())).await;
        self.check_honest().await;
    }

    /// All is as it was at the start.
    async fn check_unharmed(&mut self) {
        self.check_honest().await;
        until(
            || descriptors() <= self.descriptors,
            || format!("{} of {}", descriptors(), self.descriptors),
        )
        .await;
        let grown = resident().saturating_sub(self.memory);
        assert!(grown <= MEMORY_LEFT, "{} KiB more than before", grown >> 10);
        assert_eq!(self.counters().links, 1);
    }
}

/// Waits until the other side has closed.
async fn ends(mut stream: TcpStream) {
    let mut buffer = [0; 4_096];
    let end = async { while matches!(stream.read(&mut buffer).await, Ok(read) if read > 0) {} };
    timeout(DEADLINE, end).await.expect("the connection was not closed");
}

fn greeting(mechanism: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; 64];
    bytes[0] = 0xff;
    bytes[9] = 0x7f;
    bytes[10] = 3;
    bytes[12..12 + mechanism.len()].copy_from_slice(mechanism);
    bytes
}

fn property(name: &[u8], value: &[u8]) -> Vec<u8> {
    let mut bytes = vec![u8::try_from(name.len()).unwrap()];
    bytes.extend(name);
    bytes.extend(u32::try_from(value.len()).unwrap().to_be_bytes());
    bytes.extend(value);
    bytes
}

fn ready(properties: &[u8]) -> Vec<u8> {
    let body = [b"\x05READY".as_slice(), properties].concat();
    let mut bytes = vec![6];
    bytes.extend((body.len() as u64).to_be_bytes());
    bytes.extend(body);
    bytes
}

fn hello() -> Vec<u8> {
    [greeting(b"NULL"), ready(&property(b"Socket-Type", b"DEALER"))].concat()
}

fn with_ready(properties: &[u8]) -> Vec<u8> {
    [greeting(b"NULL"), ready(properties)].concat()
}

async fn strangers(target: &mut Target) {
    let mut old = greeting(b"NULL");
    old[10] = 2;
    for bytes in [
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
        b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03".to_vec(),
        vec![0; 64],
        old,
    ] {
        target.is_refused(&bytes, "violation").await;
    }
    for mechanism in ["PLAIN", "CURVE", "GSSAPI", "NULLX"] {
        target.is_refused(&greeting(mechanism.as_bytes()), "violation").await;
    }
}

async fn a_greeting_byte_by_byte(target: &mut Target) {
    let before = target.counters().refused.get("handshake_timeout").copied().unwrap_or(0);
    let mut stream = target.connect().await;
    let start = Instant::now();
    for byte in greeting(b"NULL") {
        if stream.write_all(&[byte]).await.is_err() {
            break;
        }
        // This pace is the attack itself.
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    ends(stream).await;
    assert!(start.elapsed() < DEADLINE);
    assert_eq!(target.counters().refused["handshake_timeout"], before + 1);
}

async fn ready_commands(target: &mut Target) {
    let dealer = property(b"Socket-Type", b"DEALER");
    let huge = [greeting(b"NULL"), vec![6, 0, 0, 0, 0, 1, 0, 0, 0]].concat();
    for bytes in [
        with_ready(&[dealer.clone(), property(b"Junk", &vec![0; 1_024])].concat()),
        huge,
        with_ready(&[dealer.clone(), b"\x04Junk\xff\xff\xff\xff".to_vec()].concat()),
        with_ready(&[dealer.clone(), vec![200, 1, 2]].concat()),
        with_ready(&[dealer.clone(), property(b"\xff\xfe", b"")].concat()),
        with_ready(&property(b"a", b"").repeat(10_000)),
        with_ready(b""),
        with_ready(&property(b"Socket-Type", b"PUB")),
        [greeting(b"NULL"), b"\x04\x06\x05ERROR".to_vec()].concat(),
        [greeting(b"NULL"), b"\0\x05hello".to_vec()].concat(),
    ] {
        target.is_refused(&bytes, "violation").await;
    }
}

async fn lengths(target: &mut Target) {
    for length in [
        (1 << 20) + 1,
        1 << 31,
        1 << 32,
        1 << 62,
        (1 << 63) - 1 - (64 << 10),
        u64::MAX,
    ] {
        let frame = [vec![2], length.to_be_bytes().to_vec()].concat();
        target
            .is_refused(&[greeting(b"NULL"), frame.clone()].concat(), "violation")
            .await;
        target.is_cut_off(&frame).await;
    }
}

async fn endless_messages(target: &mut Target) {
    target.is_cut_off(&[1, 0].repeat(1 << 20)).await;
    target.is_cut_off(&[1, 1, 7].repeat(1 << 20)).await;
    // Within the number of frames, but not within the bytes of a message.
    let half = [vec![3], (600_000_u64).to_be_bytes().to_vec(), vec![0; 600_000]].concat();
    target.is_cut_off(&half.repeat(2)).await;
}

async fn commands_after_ready(target: &mut Target) {
    for command in [
        b"\x04\x07\x04PING\0\0".as_slice(),
        b"\x04\x05\x04WHAT",
        b"\x04\x0a\x09SUBSCRIBE",
        b"\x08\0",
        b"\x80\0",
    ] {
        target.is_cut_off(command).await;
    }
}

/// Silent connections give way, so that the port is not blocked.
async fn silence(target: &mut Target) {
    const CONNECTIONS: u64 = 300;
    let before = target.refused();
    let mut silent = Vec::new();
    for _ in 0..CONNECTIONS {
        silent.push(target.connect().await);
    }
    target.check_honest().await;
    until(
        || target.refused() >= before + CONNECTIONS,
        || format!("{:?}", target.counters()),
    )
    .await;
    assert!(target.counters().refused["crowded"] > 0, "{:?}", target.counters());
    drop(silent);
}

/// Connections that come and go at every stage of the handshake.
async fn churn(target: &mut Target) {
    const CONNECTIONS: usize = 2_000;
    let hello = hello();
    for n in 0..CONNECTIONS {
        let mut stream = target.connect().await;
        let part = n % (hello.len() + 8);
        let _ = stream.write_all(&hello[..part.min(hello.len())]).await;
        if n % 2 == 0 {
            rst(&stream);
        }
        drop(stream);
        if n % 100 == 0 {
            target.check_honest().await;
        }
    }
    until(|| target.counters().links == 1, || format!("{:?}", target.counters())).await;
}

/// A reset instead of an orderly end.
fn rst(stream: &TcpStream) {
    rustix::net::sockopt::set_socket_linger(stream, Some(Duration::ZERO)).unwrap();
}

async fn a_peer_that_stops_reading(target: &mut Target) {
    let mut stream = target.member().await;
    stream.write_all(b"\0\x05hello").await.unwrap();
    let link = loop {
        if let Event::Message { link, .. } = target.node.event().await {
            break link;
        }
    };
    let before = target.counters().closed.get("overflow").copied().unwrap_or(0);
    let payload = vec![0; 256 << 10];
    let deadline = Instant::now() + DEADLINE;
    while target.counters().closed.get("overflow").copied().unwrap_or(0) == before {
        assert!(
            Instant::now() < deadline,
            "{link:?} took everything: {:?}",
            target.counters()
        );
        target.node.transport.send(link, frames(&[&payload]));
        tokio::task::yield_now().await;
    }
    rst(&stream);
    drop(stream);
    target.check_honest().await;
}

/// One flipped bit at every offset of an honest start: the link ends, or carries other bytes; nothing worse.
async fn flipped_bits(target: &mut Target) {
    let message = [
        b"\x01\x08header00\x01\x10index-of-records\x02\0\0\0\0\0\0\x01\x2c".as_slice(),
        &[9; 300],
    ]
    .concat();
    let honest = [hello(), message].concat();
    for offset in 0..300.min(honest.len()) {
        let mut bytes = honest.clone();
        bytes[offset] ^= 1 << (offset % 8);
        let mut stream = target.connect().await;
        let _ = stream.write_all(&bytes).await;
        drop(stream);
        if offset % 20 == 0 {
            target.check_honest().await;
        }
    }
    until(|| target.counters().links == 1, || format!("{:?}", target.counters())).await;
}

#[tokio::test]
async fn attacks_are_turned_away_and_leave_nothing_behind() {
    let mut target = Target::start().await;
    strangers(&mut target).await;
    a_greeting_byte_by_byte(&mut target).await;
    ready_commands(&mut target).await;
    lengths(&mut target).await;
    endless_messages(&mut target).await;
    commands_after_ready(&mut target).await;
    silence(&mut target).await;
    a_peer_that_stops_reading(&mut target).await;
    flipped_bits(&mut target).await;
    churn(&mut target).await;
    target.check_unharmed().await;
}
