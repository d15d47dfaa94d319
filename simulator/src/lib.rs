//! The three machines together on a seeded network and virtual time.
//!
//! One thread, one seed, one queue of events. The parties are the real machines of `harmony-protocol`, and the collector
//! records with the real `harmony-log`; drivers, network and disk are models that obey and break as real ones do. The
//! checker judges by what is said and what is durable, and shares no code with the machines but the codec.

// A simulator is a test: what breaks a rule ends the run.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::missing_panics_doc
)]
// Virtual time only grows.
#![allow(clippy::unchecked_time_subtraction)]

pub mod broken;
pub mod checker;
pub mod clock;
pub mod collector;
pub mod command;
pub mod dice;
pub mod disk;
pub mod exhaustive;
pub mod facts;
pub mod faults;
pub mod host;
pub mod log_file;
pub mod log_record;
#[cfg(feature = "mutants")]
pub mod mutants;
pub mod network;
pub mod observation;
pub mod settings;
pub mod shrink;
pub mod tasks;
pub mod trace;
pub mod ventilator;
pub mod worker;
pub mod world;

use std::time::Duration;

use self::broken::{Broken, catch};
use self::checker::Coverage;
use self::faults::Fault;
use self::settings::Settings;
use self::trace::Trace;
use self::world::{Tally, World};

/// How a run went.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The same for two runs of one seed.
    pub hash: u64,
    /// Things that happened.
    pub events: u64,
    /// Virtual time.
    pub elapsed: Duration,
    /// How long after the last fault was healed it ended.
    pub after: Duration,
    /// Counts.
    pub tally: Tally,
    /// Branches that were seen.
    pub coverage: Coverage,
}

/// Runs one seed to its end. Panics if a rule is broken.
pub fn run(seed: u64, print: bool) -> Outcome {
    run_with(Settings::of(seed), seed, print)
}

/// Runs these settings to their end. Panics if a rule is broken.
pub fn run_with(settings: Settings, seed: u64, print: bool) -> Outcome {
    let mut world = World::new(settings, seed, Trace::new(print));
    world.run();
    world.outcome()
}

/// A run that may have broken a rule.
#[derive(Clone, Debug)]
pub struct Run {
    /// How it went, or what it broke.
    pub outcome: Result<Outcome, Broken>,
    /// The faults that struck, by kind and ordinal.
    pub struck: Vec<(Fault, u64)>,
}

/// Runs these settings until they end or break a rule.
pub fn attempt(settings: Settings, seed: u64, print: bool) -> Run {
    let mut world = World::new(settings, seed, Trace::new(print));
    let ended = catch(|| world.run());
    Run {
        outcome: ended.map(|()| world.outcome()),
        struck: world.struck,
    }
}
