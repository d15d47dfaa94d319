//! The guard of a link, dialled or accepted: of a peer's bytes, exactly the sound frames reach the private socket.

use std::fs;
use std::path::Path;

use harmony_transport::{CloseReason, Config, MAX_PARTS, Violation, guard};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::net::UnixStream;

use crate::reference::{Verdict, judge};
use crate::wire::golden;
use crate::{Goal, Target};

/// A case is how the bytes are cut (0: not at all), then what the peer sends.
pub(crate) const TARGET: Target = Target {
    name: "guard",
    seeds,
    words: &[
        b"\0\0",
        b"\x01\0",
        b"\x01\0\x01\0\x01\0\x01\0",
        b"\0\x01x",
        b"\x02\0\0\0\0\0\0\0\x01x",
        b"\x03\0\0\0\0\0\0\x10\0",
        b"\x02\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\x04\x05\x04PING",
        b"\x06",
        b"\x08Identity\0\0\0\x01a",
        b"\x0bSocket-Type\0\0\0\x06ROUTER",
        b"\x0bSocket-Type\0\0\0\x03REQ",
    ],
    in_parts: false,
    run,
    memory: |_| MEMORY,
    goals: &[
        Goal {
            depth: "shook hands",
            percent: 30,
        },
        Goal {
            depth: "messages passed",
            percent: 20,
        },
        Goal {
            depth: "cut off for a frame",
            percent: 10,
        },
        Goal {
            depth: "refused in the handshake",
            percent: 10,
        },
    ],
    cases: 3_000,
};

/// Bytes of the largest message: small, so that cases reach it.
const MAX_MESSAGE: usize = 2_048;
/// Bytes that a guard with its runtime and both streams may take, whatever comes: two copy buffers, and the streams here.
const MEMORY: u64 = 512 << 10;
/// Bytes that the connection to the peer holds.
const CONNECTION: usize = 4_096;

fn run(case: &[u8]) -> Vec<&'static str> {
    let (cut, bytes) = case
        .split_first()
        .map_or((0, case), |(cut, bytes)| (usize::from(*cut), bytes));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let (reason, passed) = runtime.expect("a runtime").block_on(link(bytes, cut));
    match judge(bytes, MAX_MESSAGE as u64, MAX_PARTS) {
        Verdict::NoHandshake => {
            assert_eq!((reason, passed.len()), (CloseReason::Peer, 0));
            vec![]
        }
        Verdict::BadHandshake => {
            let refused = matches!(
                reason,
                CloseReason::Violation(
                    Violation::Greeting | Violation::Mechanism | Violation::Ready | Violation::SocketType
                )
            );
            assert!(
                refused && passed.is_empty(),
                "{reason:?}, {} bytes passed",
                passed.len()
            );
            vec!["refused in the handshake"]
        }
        Verdict::Link {
            frames,
            messages,
            violation,
        } => {
            let sent = &bytes[frames..];
            assert!(sent.starts_with(&passed), "what passes is not what was sent");
            let mut depths = vec!["shook hands"];
            match violation {
                None => assert_eq!((reason, passed.len()), (CloseReason::Peer, sent.len())),
                Some(end) => {
                    depths.push("cut off for a frame");
                    check_cut(&reason, frames + passed.len(), end);
                }
            }
            if messages > 0 && !passed.is_empty() {
                depths.push("messages passed");
            }
            depths
        }
    }
}

/// Of a bad frame at most a part of the header passes.
fn check_cut(reason: &CloseReason, passed: usize, end: usize) {
    let expected = matches!(
        reason,
        CloseReason::Violation(
            Violation::Command | Violation::Flags | Violation::TooManyParts | Violation::TooLarge(MAX_MESSAGE)
        )
    );
    assert!(expected, "{reason:?}");
    assert!(
        passed < end,
        "{passed} bytes passed, of which only {end} are a sound beginning"
    );
}

/// The peer sends these bytes in pieces and closes; tells how the link ended and what reached the private socket.
async fn link(bytes: &[u8], cut: usize) -> (CloseReason, Vec<u8>) {
    let (peer, remote) = duplex(CONNECTION);
    let (local, private) = UnixStream::pair().expect("a pair of sockets");
    let limits = Config {
        max_message: MAX_MESSAGE,
        ..Config::default()
    };
    let (reason, passed, ()) = tokio::join!(guard(remote, local, &limits), received(private), send(peer, bytes, cut));
    (reason, passed)
}

async fn received(mut private: UnixStream) -> Vec<u8> {
    let mut passed = Vec::new();
    // A guard that never shook hands drops its end.
    let _ = private.read_to_end(&mut passed).await;
    passed
}

async fn send(mut peer: DuplexStream, bytes: &[u8], cut: usize) {
    let size = if cut == 0 { bytes.len().max(1) } else { cut };
    for piece in bytes.chunks(size) {
        // A guard that has seen enough closes.
        if peer.write_all(piece).await.is_err() {
            return;
        }
        tokio::task::yield_now().await;
    }
    let _ = peer.shutdown().await;
}

const GREETING: &[u8; 64] = b"\xff\0\0\0\0\0\0\0\x01\x7f\x03\x00NULL\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\
\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
const DEALER: &[u8] = b"\x04\x1c\x05READY\x0bSocket-Type\0\0\0\x06DEALER";
const ROUTER: &[u8] = b"\x06\0\0\0\0\0\0\0\x2b\x05READY\x08Identity\0\0\0\x02id\x0bSocket-Type\0\0\0\x06ROUTER";

/// Links that carry golden messages, long frames and messages at the limit.
fn seeds() -> Vec<(String, Vec<u8>)> {
    let messages = Path::new(env!("CARGO_MANIFEST_DIR")).join("../protocol/tests/golden");
    let message = |name: &str| {
        let text = fs::read_to_string(messages.join(name)).expect("the golden message is there");
        zmtp(&golden(&text).expect("it is golden"))
    };
    let hello = message("hello.hex");
    let limit = zmtp(&[vec![1; 48], vec![2; MAX_MESSAGE - 48]]);
    let parts = zmtp(&vec![vec![7]; MAX_PARTS]);
    let seed = |name: &str, cut: u8, pieces: &[&[u8]]| (name.to_owned(), [&[cut], pieces.concat().as_slice()].concat());
    vec![
        seed(
            "worker",
            0,
            &[GREETING, DEALER, &hello, &message("results.hex"), &message("ping.hex")],
        ),
        seed(
            "ventilator",
            1,
            &[
                GREETING,
                DEALER,
                &hello,
                &message("start-worker.hex"),
                &message("tasks.hex"),
            ],
        ),
        seed(
            "router",
            7,
            &[GREETING, ROUTER, &hello, &message("state-collector.hex")],
        ),
        seed("at-the-limit", 100, &[GREETING, DEALER, &limit, &hello, &limit]),
        seed("many-parts", 3, &[GREETING, DEALER, &parts, &parts, &zmtp(&[vec![]])]),
        seed("silent", 0, &[GREETING, DEALER]),
    ]
}

/// The frames of one message as ZMTP has them.
fn zmtp(frames: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (at, frame) in frames.iter().enumerate() {
        let more = u8::from(at + 1 < frames.len());
        if let Ok(length) = u8::try_from(frame.len()) {
            bytes.extend([more, length]);
        } else {
            bytes.push(more | 2);
            bytes.extend((frame.len() as u64).to_be_bytes());
        }
        bytes.extend(frame);
    }
    bytes
}
