//! The fuzzer itself: what breaks a promise fails the run, is made small and is kept.
#![allow(clippy::unwrap_used, clippy::panic)] // a test may fail

use std::panic::{AssertUnwindSafe, catch_unwind};

use harmony_fuzz::corpus::Corpus;
use harmony_fuzz::{Campaign, Goal, Share, Target};
use tempfile::TempDir;

const SEED: &[u8] = b"twelve bytes";

const SOUND: Target = Target {
    name: "sound",
    seeds: Vec::new,
    words: &[b"word"],
    in_parts: false,
    run: |case| {
        if case.starts_with(b"twelve") {
            vec!["deep"]
        } else {
            vec![]
        }
    },
    memory: |_| 1_024,
    goals: &[Goal {
        depth: "deep",
        percent: 10,
    }],
    cases: 1_000,
};

/// Runs a target over a corpus of one file; what it says if it fails, and the cases that are kept then.
fn run(target: &Target) -> (Result<Share, String>, Vec<Vec<u8>>) {
    let folder = TempDir::new().unwrap();
    let corpus = Corpus::at(&folder.path().join("corpus"));
    corpus.keep("seed", SEED).unwrap();
    let campaign = Campaign::new(target, corpus.clone(), folder.path());
    let ended = catch_unwind(AssertUnwindSafe(|| {
        campaign.replay();
        campaign.mutate(target.cases, 7)
    }));
    let kept = corpus.cases().unwrap().into_iter().map(|(_, case)| case).collect();
    (
        ended.map_err(|cause| cause.downcast_ref::<String>().unwrap().clone()),
        kept,
    )
}

#[test]
fn a_sound_target_passes_and_its_depths_are_counted() {
    let (share, kept) = run(&SOUND);
    let share = share.unwrap();
    let deep = share.reached["deep"];
    assert!(share.cases > 700 && deep > 100 && deep < share.cases, "{share}");
    assert_eq!(kept, [SEED]);
}

#[test]
fn a_panic_is_made_small_and_kept() {
    let panics = Target {
        run: |case| {
            assert!(!case.windows(4).any(|piece| piece == b"word"), "it has the word");
            vec![]
        },
        ..SOUND
    };
    let (ended, kept) = run(&panics);
    let told = ended.unwrap_err();
    assert!(told.contains("it has the word"), "{told}");
    assert!(told.contains("cargo run -p harmony-fuzz -- run sound"), "{told}");
    let [found, seed] = &kept[..] else { panic!("{kept:?}") };
    assert_eq!(seed, SEED);
    assert_eq!(found.len(), SEED.len() + 4, "nothing but the word was put in");
}

#[test]
fn a_kept_case_that_fails_fails_the_run() {
    let refuses = Target {
        run: |case| {
            assert_ne!(case, SEED, "the seed");
            vec![]
        },
        ..SOUND
    };
    let (ended, kept) = run(&refuses);
    assert!(ended.unwrap_err().contains("corpus/seed"));
    assert_eq!(kept, [SEED]);
}

#[test]
fn memory_beyond_the_bound_fails_the_run() {
    let takes = Target {
        run: |case| {
            drop(Vec::<u8>::with_capacity(100 * case.len()));
            vec!["deep"]
        },
        ..SOUND
    };
    let told = run(&takes).0.unwrap_err();
    assert!(told.contains("at most 1024 are allowed"), "{told}");
}

#[test]
fn a_run_that_stays_shallow_fails() {
    let shallow = Target {
        run: |_| vec![],
        ..SOUND
    };
    let told = run(&shallow).0.unwrap_err();
    assert!(told.contains("only 0 of"), "{told}");
}

#[test]
fn the_case_that_ended_the_last_run_is_run_first_and_kept() {
    let folder = TempDir::new().unwrap();
    let corpus = Corpus::at(&folder.path().join("corpus"));
    corpus.keep("seed", SEED).unwrap();
    std::fs::write(folder.path().join("sound.case"), "overflow").unwrap();
    let ends = Target {
        run: |case| {
            assert_ne!(case, b"overflow", "as before");
            vec![]
        },
        ..SOUND
    };
    let replay = || Campaign::new(&ends, corpus.clone(), folder.path()).replay();
    assert!(catch_unwind(AssertUnwindSafe(replay)).is_err());
    assert!(corpus.cases().unwrap().iter().any(|(_, case)| case == b"overflow"));
    assert_eq!(std::fs::read(folder.path().join("sound.case")).unwrap(), b"");
}
