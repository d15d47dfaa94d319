//! The decoder of messages: what decodes means the same when it is encoded and decoded again.

use std::fs;
use std::ops::Range;
use std::path::Path;

use bytes::Bytes;
use harmony_protocol::wire::{
    Addressed, Message, OutcomeCode, ResultEntry, Results, TaskEntry, Tasks, WireError, decode, encode,
};

use crate::{Goal, Target, parts};

/// A case is the frames of one message.
pub(crate) const TARGET: Target = Target {
    name: "wire",
    seeds,
    words: &[
        b"[0,1],",
        b"[18446744073709551615,18446744073709551615]",
        b"null",
        b"true",
        b"{}",
        b"[]",
        b"\"",
        b"\\u0000",
        b"\"spans\":",
        b"\"completions\":null,",
        b"\"unknown\":{\"a\":[1]},",
        b"HY\x01",
        b"\0\0\0\0",
    ],
    in_parts: true,
    run,
    memory,
    goals: &[
        Goal {
            depth: "decoded",
            percent: 10,
        },
        Goal {
            depth: "decoded hot",
            percent: 2,
        },
        Goal {
            depth: "refused by its content",
            percent: 20,
        },
    ],
    cases: 10_000,
};

/// JSON of two bytes (`0,`) can become a value of 32 bytes in a list that is being doubled, and STATE and LOST are read
/// into such values first. The case itself and its frames come on top.
fn memory(case: usize) -> u64 {
    16 * 1_024 + 64 * case as u64
}

fn run(case: &[u8]) -> Vec<&'static str> {
    let frames: Vec<Bytes> = parts::split(case).into_iter().map(Bytes::copy_from_slice).collect();
    match decode(&frames) {
        Ok(addressed) => {
            check_meaning(&addressed);
            match addressed.1 {
                Message::Tasks(_) | Message::Results(_) | Message::Part(_) => vec!["decoded", "decoded hot"],
                _ => vec!["decoded"],
            }
        }
        Err(error) => {
            assert!(!error.to_string().is_empty());
            match error {
                WireError::NoFrames
                | WireError::HeaderLength { .. }
                | WireError::Magic { .. }
                | WireError::Version { .. }
                | WireError::Kind { .. }
                | WireError::Alias { .. }
                | WireError::FrameCount { .. } => vec![],
                _ => vec!["refused by its content"],
            }
        }
    }
}

fn check_meaning(addressed: &Addressed) {
    let (alias, message) = addressed;
    let frames = encode(*alias, message);
    let again = decode(&frames).unwrap_or_else(|error| panic!("{message:?} is encoded to what is refused: {error}"));
    assert_eq!(again, *addressed, "after encoding and decoding");
    assert_eq!(encode(again.0, &again.1), frames, "encoded twice");
    let whole = match message {
        Message::Tasks(tasks) => tasks
            .pieces()
            .all(|(entry, payload)| payload.len() as u64 == u64::from(tasks.inline(&entry))),
        Message::Results(results) => results.pieces().all(|(entry, output, log)| {
            output.len() as u64 == u64::from(entry.inline()) && log.len() as u64 == u64::from(entry.log)
        }),
        _ => true,
    };
    assert!(whole, "a piece of {message:?} came out short");
}

/// The golden messages of the protocol.
fn seeds() -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../protocol/tests/golden");
    let mut files: Vec<_> = fs::read_dir(&folder)
        .expect("the golden messages are there")
        .map(|entry| entry.expect("a folder can be listed").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "hex"))
        .collect();
    files.sort();
    let seed = |path: &Path| {
        let name = path.file_stem()?.to_str()?.to_owned();
        let frames = golden(&fs::read_to_string(path).ok()?)?;
        Some((name, parts::join(frames.iter().map(Vec::as_slice))))
    };
    let golden = |path| seed(path).unwrap_or_else(|| panic!("{} is not a golden message", path.display()));
    let hot = hot().map(|(name, message)| {
        let frames = encode(7, &message);
        (name.to_owned(), parts::join(frames.iter().map(|frame| &frame[..])))
    });
    files.iter().map(|path| golden(path)).chain(hot).collect()
}

/// More of the messages that are nearly all of the traffic.
fn hot() -> [(&'static str, Message); 4] {
    let entry = |number| TaskEntry {
        number,
        attempt: 1,
        length: 5,
    };
    let outcome = |number| ResultEntry {
        number,
        attempt: 2,
        outcome: OutcomeCode::ExitCode,
        code: -1,
        start_micros: 1_700_000_000_000_000,
        duration_micros: 15,
        output: 3,
        log: 2,
        parted: None,
    };
    let tasks = |numbers: Range<u64>, alone| {
        Message::Tasks(Tasks {
            epoch: 4,
            alone,
            backup: !alone,
            parted: false,
            payloads: b"input".repeat(numbers.clone().count()).into(),
            entries: numbers.map(entry).collect(),
        })
    };
    let results = |numbers: Range<u64>| {
        Message::Results(Results {
            sequence: 3,
            bytes: b"outlo".repeat(numbers.clone().count()).into(),
            entries: numbers.map(outcome).collect(),
        })
    };
    [
        ("tasks-alone", tasks(9..10, true)),
        ("tasks-many", tasks(0..20, false)),
        ("results-one", results(9..10)),
        ("results-many", results(0..20)),
    ]
}

/// The frames of a golden file: `frame` begins one, then bytes in hex, and `#` begins a comment.
pub(crate) fn golden(text: &str) -> Option<Vec<Vec<u8>>> {
    let mut frames = Vec::<Vec<u8>>::new();
    for word in text
        .lines()
        .flat_map(|line| line.split('#').next().unwrap_or_default().split_whitespace())
    {
        match word {
            "frame" => frames.push(Vec::new()),
            byte => frames.last_mut()?.push(u8::from_str_radix(byte, 16).ok()?),
        }
    }
    Some(frames)
}
