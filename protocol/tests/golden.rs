//! The bytes of every kind of message, in both directions. `docs/protocol.md` shows some of them, and is held to them.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use harmony_protocol::wire::{Kind, decode, encode};
use serde_json::{Map, Value, json};

mod hex;
mod samples;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

#[test]
fn messages_are_their_golden_bytes() {
    for (name, (alias, message)) in samples::all() {
        let path = folder().join(name).with_extension("hex");
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let golden = hex::frames(&text).unwrap_or_else(|| panic!("{} is not in the format", path.display()));
        assert_eq!(encode(alias, &message), golden, "encoding {name}");
        let decoded = decode(&golden).unwrap_or_else(|error| panic!("decoding {name}: {error}"));
        assert_eq!(decoded, (alias, message), "decoding {name}");
    }
}

/// Upgrades count on it: the parties of a batch may be of neighbouring versions.
#[test]
fn a_field_of_a_later_version_is_ignored_in_every_control_message() {
    let mut extended = 0;
    for (name, (alias, message)) in samples::all() {
        let mut frames = encode(alias, &message);
        let Some(mut fields) = frames
            .get(1)
            .and_then(|body| serde_json::from_slice::<Map<String, Value>>(body).ok())
        else {
            continue; // not a control message
        };
        fields.insert(
            "sinceTheNextVersion".to_owned(),
            json!({ "optional": [1, "two", null] }),
        );
        frames[1] = serde_json::to_vec(&fields).expect("an object").into();
        let decoded = decode(&frames).unwrap_or_else(|error| panic!("decoding {name}: {error}"));
        assert_eq!(decoded, (alias, message), "decoding {name}");
        extended += 1;
    }
    assert!(extended >= 16, "{extended} control messages");
}

#[test]
fn every_kind_has_a_sample_and_every_file_is_one() {
    let samples = samples::all();
    let kinds: BTreeSet<_> = samples.iter().map(|(_, (_, message))| message.kind()).collect();
    assert_eq!(kinds, Kind::ALL.iter().copied().collect());
    let names: BTreeSet<_> = samples.iter().map(|(name, _)| format!("{name}.hex")).collect();
    let entries = fs::read_dir(folder()).expect("the golden files are there");
    let files: BTreeSet<_> = entries
        .map(|entry| {
            entry
                .expect("a folder can be listed")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .filter(|file| file != "README.md")
        .collect();
    assert_eq!(files, names);
}
