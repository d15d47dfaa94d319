//! What the examples are is what Harmony reads.

#![allow(clippy::unwrap_used, clippy::panic)] // tests fail by it

use std::fs;
use std::path::{Path, PathBuf};

use harmony_api::{Tasks, parse, parse_for_cluster};

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("examples")
}

#[test]
fn every_example_is_a_valid_batch_named_after_its_folder() {
    let mut count = 0;
    for entry in fs::read_dir(examples()).unwrap() {
        let folder = entry.unwrap().path();
        if folder.ends_with("kubernetes") {
            continue;
        }
        let file = folder.join("batch.yaml");
        let batch = parse(&fs::read_to_string(&file).unwrap(), &file.to_string_lossy())
            .unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(Some(batch.name.as_str()), folder.file_name().unwrap().to_str());
        assert!(
            batch.ignored.is_empty(),
            "{file:?}: {:?} has no effect on one machine",
            batch.ignored
        );
        count += 1;
    }
    assert!(count >= 3, "{count} examples");
}

#[test]
fn every_example_for_clusters_is_valid_there_and_named_after_its_file() {
    let mut count = 0;
    for entry in fs::read_dir(examples().join("kubernetes")).unwrap() {
        let file = entry.unwrap().path();
        if file.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        let text = fs::read_to_string(&file).unwrap();
        // What the batch reads may stand before it.
        let batch = text.split("\n---\n").last().unwrap();
        let batch = parse_for_cluster(batch, &file.to_string_lossy()).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(batch["metadata"]["name"].as_str(), file.file_stem().unwrap().to_str());
        count += 1;
    }
    assert!(count >= 3, "{count} examples");
}

#[test]
fn the_first_example_needs_no_other_input_than_the_checkout() {
    let folder = examples().join("checksums");
    let batch = parse(&fs::read_to_string(folder.join("batch.yaml")).unwrap(), "batch.yaml").unwrap();
    let Tasks::Path(list) = batch.tasks else {
        panic!("{:?}", batch.tasks)
    };
    let list = fs::read_to_string(folder.join(list)).unwrap();
    let absent: Vec<_> = list.lines().filter(|path| !folder.join(path).is_file()).collect();
    assert!(
        absent.is_empty(),
        "list them anew, as examples/checksums/README.md says: {absent:?}"
    );
    assert!(list.lines().count() >= 20, "a batch this small shows nothing");
}
