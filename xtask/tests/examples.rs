//! What the examples are is what Harmony reads.

#![allow(clippy::unwrap_used, clippy::panic)] // tests fail by it

use std::fs;
use std::path::{Path, PathBuf};

use harmony_api::{Tasks, parse};

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("examples")
}

#[test]
fn every_example_is_a_valid_batch_named_after_its_folder() {
    let mut count = 0;
    for entry in fs::read_dir(examples()).unwrap() {
        let folder = entry.unwrap().path();
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
