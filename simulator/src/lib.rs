//! The three machines together on a seeded network and virtual time.
//!
//! One thread, one seed, one queue of events. The parties are the real machines of `harmony-protocol`; their drivers,
//! the network and the disk are models that obey and break as real ones do. The checker judges by what is said and
//! what is durable, and shares no code with the machines but the codec.

// A simulator is a test: what breaks a rule ends the run.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::missing_panics_doc
)]
// Virtual time only grows.
#![allow(clippy::unchecked_time_subtraction)]

pub mod checker;
pub mod collector;
pub mod command;
pub mod dice;
pub mod disk;
pub mod facts;
pub mod faults;
pub mod host;
pub mod network;
pub mod observation;
pub mod settings;
pub mod tasks;
pub mod trace;
pub mod ventilator;
pub mod worker;
pub mod world;

use std::time::Duration;

use self::dice::{Concern, Dice};
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
    /// Counts.
    pub tally: Tally,
}

/// Runs one seed to its end. Panics if a rule is broken.
pub fn run(seed: u64, print: bool) -> Outcome {
    let settings = Settings::draw(&mut Dice::new(seed).fresh(Concern::Settings));
    run_with(settings, seed, print)
}

/// Runs these settings to their end. Panics if a rule is broken.
pub fn run_with(settings: Settings, seed: u64, print: bool) -> Outcome {
    if print {
        println!("{settings:#?}");
    }
    let mut world = World::new(settings, seed, Trace::new(print));
    world.run();
    Outcome {
        hash: world.trace.hash(),
        events: world.trace.events(),
        elapsed: world.elapsed(),
        tally: world.tally.clone(),
    }
}
