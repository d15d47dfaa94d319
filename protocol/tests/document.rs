//! `docs/protocol.md` shows every message: its examples decode to what the golden files hold.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use bytes::Bytes;
use harmony_protocol::wire::{Kind, decode, encode};

mod hex;
mod samples;

/// The fenced examples of the document by name: ```` ```hex NAME ```` or ```` ```json NAME ````.
fn examples() -> BTreeMap<String, (String, String)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/protocol.md");
    let text = fs::read_to_string(&path).unwrap_or_default();
    let fences: Vec<_> = text.split("\n```").collect();
    // Fences open and close in turn, so every other piece is the inside of a block.
    let blocks = fences
        .iter()
        .skip(1)
        .step_by(2)
        .filter_map(|block| block.split_once('\n'));
    let named = blocks.filter_map(|(info, body)| {
        let (language, name) = info.split_once(' ')?;
        Some((name.to_owned(), (language.to_owned(), body.to_owned())))
    });
    named.collect()
}

#[test]
fn each_example_is_its_message() {
    let mut examples = examples();
    for (name, (alias, message)) in samples::all() {
        let (language, body) = examples.remove(name).unwrap_or_else(|| panic!("{name} has no example"));
        let is_hot = matches!(
            message.kind(),
            Kind::Want | Kind::Credit | Kind::Tasks | Kind::Results | Kind::Ack | Kind::Part
        );
        let frames = match language.as_str() {
            "hex" => hex::frames(&body).unwrap_or_else(|| panic!("the example of {name} is not in the format")),
            // Of a control message the body is shown, laid out for people.
            "json" if !is_hot => encode(alias, &message)
                .into_iter()
                .take(1)
                .chain([Bytes::from(body)])
                .collect(),
            other => panic!("{name} is shown as {other}"),
        };
        let decoded = decode(&frames).unwrap_or_else(|error| panic!("decoding the example of {name}: {error}"));
        assert_eq!(decoded, (alias, message), "decoding the example of {name}");
    }
    assert!(
        examples.is_empty(),
        "examples of no known message: {:?}",
        examples.keys()
    );
}

#[test]
fn each_kind_stands_in_the_table_with_its_code() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/protocol.md");
    let text = fs::read_to_string(&path).expect("the document is there");
    for &kind in Kind::ALL {
        let row = format!("| {} | [{kind}](#{}) |", kind as u8, kind.to_string().to_lowercase());
        assert!(text.contains(&row), "no row {row}");
        assert!(text.contains(&format!("\n### {kind}\n")), "no section for {kind}");
    }
}
