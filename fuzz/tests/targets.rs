//! Every target: its kept cases, then mutated ones, of which enough get deep.
//!
//! `HARMONY_CASES` sets how many cases each target runs, `HARMONY_SEED` the seed that they are drawn from.
#![allow(clippy::expect_used, clippy::panic)] // a test may fail

use std::path::Path;
use std::{env, fs};

use harmony_fuzz::corpus::Corpus;
use harmony_fuzz::{Campaign, TARGETS, target};

/// The long form runs this many times as many cases.
const LONG: u32 = 100;

fn fuzz(name: &str, times: u32) {
    let target = target(name).expect("it is a target");
    let scratch = Path::new(env!("CARGO_TARGET_TMPDIR"));
    fs::create_dir_all(scratch).expect("the folder for tests can be made");
    let campaign = Campaign::new(target, Corpus::of(target), scratch);
    campaign.replay();
    let seed = number("HARMONY_SEED").unwrap_or_else(|| fastrand::u64(..));
    let cases = number("HARMONY_CASES").and_then(|cases| u32::try_from(cases).ok());
    println!("HARMONY_SEED={seed}");
    println!("{}", campaign.mutate(cases.unwrap_or(target.cases * times), seed));
}

fn number(variable: &str) -> Option<u64> {
    let text = env::var(variable).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{variable} is {text:?}, expected a number")),
    )
}

macro_rules! targets {
    ($($name:ident)*) => {
        $(
            mod $name {
                #[test]
                fn keeps_its_promises() {
                    super::fuzz(stringify!($name), 1);
                }

                #[test]
                #[ignore = "long"]
                fn keeps_its_promises_for_long() {
                    super::fuzz(stringify!($name), super::LONG);
                }
            }
        )*

        #[test]
        fn every_target_is_run() {
            let run = [$(stringify!($name)),*];
            assert_eq!(TARGETS.iter().map(|target| target.name).collect::<Vec<_>>(), run);
        }
    };
}
targets!(guard log wire yaml);

#[test]
fn every_seed_is_kept() {
    for target in TARGETS {
        let kept = Corpus::of(target).cases().expect("the corpus is there");
        for (name, seed) in (target.seeds)() {
            assert!(
                kept.iter().any(|(_, case)| *case == seed),
                "{name} of {} is not in the corpus; write it with: cargo run -p harmony-fuzz -- seeds",
                target.name
            );
        }
    }
}
