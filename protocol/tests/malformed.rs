//! Each thing that can be wrong with a message is told apart, and said with what was found and what is allowed.

#![allow(clippy::indexing_slicing)] // an index out of range fails the test, as it should

use bytes::Bytes;
use harmony_protocol::limits::{LOG_TAIL, MAX_BATCHES, MAX_CONTROL, MAX_NAME, RANGES_PER_PIECE, TASKS_PER_MESSAGE};
use harmony_protocol::wire::{
    Bye, ByeCode, Frames, Kind, Message, Missing, Ping, Span, TaskEntry, Tasks, Unbound, clip, decode, encode,
};

mod samples;

/// The frames of a sample with some bytes of one frame replaced.
fn with(name: &str, frame: usize, at: usize, bytes: &[u8]) -> Frames {
    let mut frames = sample(name);
    let mut changed = frames[frame].to_vec();
    changed[at..at + bytes.len()].copy_from_slice(bytes);
    frames[frame] = changed.into();
    frames
}

fn sample(name: &str) -> Frames {
    let all = samples::all();
    let found = all.iter().find(|(known, _)| *known == name);
    found
        .map(|(_, (alias, message))| encode(*alias, message))
        .unwrap_or_default()
}

fn control(kind: Kind, alias: u8, body: &str) -> Frames {
    vec![
        Bytes::copy_from_slice(&[b'H', b'Y', 1, kind as u8, 0, 0, 0, alias]),
        Bytes::copy_from_slice(body.as_bytes()),
    ]
}

fn error(frames: &[Bytes]) -> String {
    decode(frames).map_or_else(|error| error.to_string(), |message| format!("accepted as {message:?}"))
}

const LAST: [u8; 8] = [0xff; 8];

#[test]
fn headers() {
    assert_eq!(error(&[]), "the message has no frame; frame 0 is the header");
    assert_eq!(
        error(&[Bytes::from_static(b"HY\x01\x13")]),
        "frame 0 has 4 bytes; a header has 8"
    );
    assert_eq!(
        error(&with("ping", 0, 0, b"GE")),
        "frame 0 begins with [47, 45]; a message of HARMONY begins with [48, 59] (HY)"
    );
    assert_eq!(
        error(&with("ping", 0, 2, &[2])),
        "the message is of version 2; this party speaks version 1 (only HELLO may be of another)"
    );
    assert_eq!(
        error(&with("ping", 0, 3, &[23])),
        "the message is of kind 23; known are 1 (HELLO) to 22 (PART)"
    );
    assert_eq!(
        error(&with("hello", 0, 7, &[1])),
        "HELLO bears alias 1; allowed is 0, since it concerns the link itself"
    );
    assert_eq!(
        error(&with("bind", 0, 7, &[0])),
        "BIND bears alias 0; allowed is any but 0, since it names a batch"
    );
    assert_eq!(
        error(&sample("tasks")[..2]),
        "TASKS comes in 2 frames; it has 3, header included"
    );
    assert_eq!(
        error(&sample("ping")[..1]),
        "PING comes in 1 frames; it has 2, header included"
    );
}

#[test]
fn hello_of_another_version_decodes() {
    let body = r#"{"versions":[2,3],"role":"worker","name":"w","processId":"9b2d6f10-33aa-4e0f-b1c8-0000000000bb",
        "maxPayload":1,"heartbeatMillis":1000,"later":{"fields":["are",0,"ignored"]}}"#;
    let mut frames = control(Kind::Hello, 0, body);
    frames[0] = Bytes::from_static(b"HY\x03\x01\0\0\0\0");
    assert!(matches!(decode(&frames), Ok((0, Message::Hello(hello))) if hello.versions == (2, 3)));
    frames[1] = Bytes::from(body.replace("[2,3]", "[3,2]"));
    assert_eq!(
        error(&frames),
        "HELLO speaks versions 3 to 2; the first must not be above the second"
    );
}

#[test]
fn fixed_bodies() {
    for (name, kind, bytes) in [("want", "WANT", 32), ("credit", "CREDIT", 32), ("ack", "ACK", 16)] {
        let mut frames = sample(name);
        frames[1] = frames[1].slice(1..);
        assert_eq!(
            error(&frames),
            format!("frame 1 of {kind} has {} bytes; {bytes} are due", bytes - 1)
        );
    }
    assert_eq!(
        error(&with("credit", 1, 24, &LAST)),
        "CREDIT has number 18446744073709551615; numbers are below it"
    );
}

#[test]
fn indexes() {
    let due = "frame 1 of TASKS has 64 bytes; 80 are due";
    assert_eq!(error(&with("tasks", 1, 12, &[0, 0, 0, 4])), due);
    let allowed = "allowed are 1 to 1024";
    assert_eq!(
        error(&with("tasks", 1, 12, &[0, 0, 0, 0])),
        format!("TASKS has 0 tasks; {allowed}")
    );
    assert_eq!(
        error(&with("tasks", 1, 12, &[255; 4])),
        format!("TASKS has 4294967295 tasks; {allowed}")
    );
    assert_eq!(
        error(&with("results", 1, 12, &[255; 4])),
        format!("RESULTS has 4294967295 outcomes; {allowed}")
    );
    assert_eq!(
        error(&with("tasks", 1, 8, &[0, 0, 0, 10])),
        "TASKS has flags 0xa; known are 1 (alone), 2 (backup) and 4 (parted)"
    );
    assert_eq!(
        error(&with("tasks", 1, 8, &[0, 0, 0, 4])),
        "TASKS says parted of 3 tasks; it goes with exactly 1"
    );
    assert_eq!(
        error(&with("tasks-parted", 1, 28, &[0, 0, 0, 0])),
        "TASKS says that the payload of number 42 came in parts, yet it has no bytes"
    );
    assert_eq!(
        error(&with("tasks", 1, 8, &[0, 0, 0, 1])),
        "TASKS says alone of 3 numbers; it goes with exactly 1"
    );
    let mut short = sample("results");
    short[1] = short[1].slice(..15);
    assert_eq!(error(&short), "frame 1 of RESULTS has 15 bytes; 16 are due");
}

#[test]
fn entries() {
    assert_eq!(
        error(&with("tasks", 1, 16, &LAST)),
        "TASKS has number 18446744073709551615; numbers are below it"
    );
    assert_eq!(
        error(&with("tasks", 1, 24, &[0; 4])),
        "TASKS has attempt 0 of number 42; attempts count from 1"
    );
    assert_eq!(
        error(&with("tasks", 1, 28, &[0, 0, 0, 6])),
        "the payload frame of TASKS has 7 bytes; the lengths in its index add up to 8"
    );
    assert_eq!(
        error(&with("tasks", 1, 28, &[255; 4])),
        "a payload of TASKS has 4294967295 bytes; at most 1048576 are allowed"
    );
    assert_eq!(
        error(&with("results", 1, 16, &LAST)),
        "RESULTS has number 18446744073709551615; numbers are below it"
    );
    assert_eq!(
        error(&with("results", 1, 24, &[0; 4])),
        "RESULTS has attempt 0 of number 42; attempts count from 1"
    );
    assert_eq!(
        error(&with("results", 1, 28, &[8])),
        "RESULTS has outcome 8 for number 42; known are 0 (succeeded) to 7 (executor error)"
    );
    assert_eq!(
        error(&with("results", 1, 36, &[255; 4])),
        "an output of RESULTS has 4294967295 bytes; at most 1048576 are allowed"
    );
    assert_eq!(
        error(&with("results", 1, 56, &[0, 0, 16, 1])),
        format!(
            "a log tail of RESULTS has {} bytes; at most {LOG_TAIL} are allowed",
            LOG_TAIL + 1
        )
    );
    assert_eq!(
        error(&with("results", 1, 36, &[0, 0, 0, 4])),
        "the payload frame of RESULTS has 9 bytes; the lengths in its index add up to 8"
    );
}

#[test]
fn parts() {
    assert_eq!(
        error(&with("results", 1, 29, &[2])),
        "RESULTS has 2 as the way of the output of number 42; known are 0 (inline) and 1 (in parts)"
    );
    assert_eq!(
        error(&with("results", 1, 48 + 29, &[1])),
        "RESULTS has an output in parts for number 43, which failed; only that of a success travels so"
    );
    assert_eq!(
        error(&with("results-parted", 1, 36, &[64, 0, 0, 1])),
        "an output of RESULTS has 1073741825 bytes; at most 1073741824 are allowed"
    );
    assert_eq!(
        error(&with("part", 1, 16, &[0; 4])),
        "PART has attempt 0 of number 42; attempts count from 1"
    );
    assert_eq!(
        error(&with("part", 1, 24, &[0, 0, 0, 0, 63, 255, 255, 252])),
        "the whole of PART has 1073741825 bytes; at most 1073741824 are allowed"
    );
    assert_eq!(
        error(&with("part", 1, 24, &[255; 8])),
        format!(
            "the whole of PART has {} bytes; at most 1073741824 are allowed",
            u64::MAX
        )
    );
    let sized = |bytes: usize| {
        let mut part = sample("part");
        part[2] = vec![0; bytes].into();
        error(&part)
    };
    assert_eq!(sized(0), "PART of number 42 has no bytes; allowed are 1 to 1048576");
    assert_eq!(
        sized(1_048_577),
        "the piece of PART has 1048577 bytes; at most 1048576 are allowed"
    );
    assert!(sized(1_048_576).starts_with("accepted"));
    let mut short = sample("part");
    short[1] = short[1].slice(1..);
    assert_eq!(error(&short), "frame 1 of PART has 31 bytes; 32 are due");
}

#[test]
fn reserved_bytes_are_ignored() {
    for (at, bytes) in [(8, &[1, 2, 3, 4][..]), (30, &[1, 2]), (60, &[1, 2, 3, 4])] {
        assert_eq!(
            decode(&with("results", 1, at, bytes)).ok(),
            decode(&sample("results")).ok()
        );
    }
    assert_eq!(decode(&with("want", 1, 4, &[9; 4])).ok(), decode(&sample("want")).ok());
}

#[test]
fn the_largest_messages_pass_and_larger_ones_do_not() {
    let tasks = |count: usize| {
        let entries = (0..count as u64)
            .map(|number| TaskEntry {
                number,
                attempt: 1,
                length: 0,
            })
            .collect();
        error(&encode(
            1,
            &Message::Tasks(Tasks {
                epoch: 1,
                entries,
                ..Tasks::default()
            }),
        ))
    };
    assert!(tasks(TASKS_PER_MESSAGE).starts_with("accepted"));
    assert_eq!(
        tasks(TASKS_PER_MESSAGE + 1),
        "TASKS has 1025 tasks; allowed are 1 to 1024"
    );

    let widest: Span = (u64::MAX - 1, u64::MAX - 1);
    let missing = |count| {
        Message::Missing(Missing {
            spans: vec![widest; count],
            more: true,
        })
    };
    assert!(error(&encode(1, &missing(RANGES_PER_PIECE))).starts_with("accepted"));
    assert_eq!(
        error(&encode(1, &missing(RANGES_PER_PIECE + 1))),
        "MISSING has 8193 ranges and numbers; allowed are 0 to 8192"
    );
    let unbound = vec![
        Unbound {
            alias: u32::MAX,
            millis: u64::MAX
        };
        MAX_BATCHES + 1
    ];
    let ping = |count| {
        Message::Ping(Ping {
            unbound: unbound[..count].to_vec(),
            ..Ping::default()
        })
    };
    assert!(error(&encode(0, &ping(MAX_BATCHES))).starts_with("accepted"));
    assert_eq!(
        error(&encode(0, &ping(MAX_BATCHES + 1))),
        "PING has 1025 batches in unbound; allowed are 0 to 1024"
    );

    let padded = r#"{"nonce":1}"#.to_owned() + &" ".repeat(MAX_CONTROL);
    let long = control(Kind::Pong, 0, &padded[..=MAX_CONTROL]);
    assert_eq!(
        error(&long),
        "the body of PONG has 1048577 bytes; at most 1048576 are allowed"
    );
    assert!(error(&[long[0].clone(), long[1].slice(..MAX_CONTROL)]).starts_with("accepted"));
}

#[test]
fn control_bodies() {
    let cases = [
        (
            Kind::Missing,
            r#"{"spans":[[5,4]],"more":false}"#,
            "MISSING has a span from 5 to 4; the first must not be above the last",
        ),
        (
            Kind::Held,
            r#"{"serial":1,"answer":true,"spans":[[5,18446744073709551615]]}"#,
            "HELD has number 18446744073709551615; numbers are below it",
        ),
        (
            Kind::Return,
            r#"{"cause":"drain","tasks":[{"first":3,"last":4,"attempt":0}]}"#,
            "RETURN has attempt 0 of number 3; attempts count from 1",
        ),
        (
            Kind::Lost,
            r#"{"epoch":1,"unsendable":{"number":3,"attempt":0,"reason":""}}"#,
            "LOST has attempt 0 of number 3; attempts count from 1",
        ),
        (
            Kind::Lost,
            r#"{"epoch":1,"death":{"processId":"9b2d6f10-33aa-4e0f-b1c8-0000000000bb","worker":"w","alone":true,
                "held":[{"first":0,"last":18446744073709551614,"attempt":1},{"first":0,"last":1,"attempt":1}]}}"#,
            "LOST says alone of 18446744073709551615 numbers; it goes with exactly 1",
        ),
        (
            Kind::Start,
            r#"{"uid":"01927f3a-5b00-7000-8000-000000000001","name":"n","epoch":1,
                "instance":"01927f3a-5b00-7000-8000-000000000001","completions":1,
                "work":{"executor":{"process":{"command":[],"framing":"lines"}},"collector":"unix:c","maxBytesPerTask":1}}"#,
            "START has 0 words of command; allowed are 1 to 1048576",
        ),
        (
            Kind::Pong,
            r#"{"nonce":-1}"#,
            "the body of PONG is not its JSON: invalid value: integer `-1`, expected u64 at line 1 column 11",
        ),
    ];
    for (kind, body, expected) in cases {
        assert_eq!(error(&control(kind, u8::from(!kind.is_of_link()), body)), expected);
    }
}

#[test]
fn texts_are_cut_by_the_writer_and_refused_by_the_reader() {
    // A three-byte character straddles the border.
    let long = format!("{}€€", "x".repeat(MAX_NAME - 1));
    assert_eq!(clip(&long), "x".repeat(MAX_NAME - 1));
    assert_eq!(clip("short"), "short");
    let bye = |reason: &str| {
        Message::Bye(Bye {
            code: ByeCode::Leaving,
            reason: reason.to_owned(),
        })
    };
    assert_eq!(decode(&encode(0, &bye(&long))).ok(), Some((0, bye(&clip(&long)))));

    let body = format!(r#"{{"code":"leaving","reason":"{long}"}}"#);
    assert_eq!(
        error(&control(Kind::Bye, 0, &body)),
        format!("reason of BYE has {} bytes; at most {MAX_NAME} are allowed", long.len())
    );
}
