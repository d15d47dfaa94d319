//! Mutated bytes against the four places where bytes of others come in: the frame guard, the wire decoder, the log
//! reader and the YAML of a batch.
//!
//! A [`Target`] takes one case, any bytes, and panics if a promise is broken. Its corpus is a folder of small files, and
//! a [`Campaign`] runs each of them, then many cases made of them by [edits](mutation). `fuzz/README.md` has the commands.

// A fuzzer is a test: what breaks a promise ends the run.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::missing_panics_doc
)]

mod campaign;
pub mod corpus;
mod guard;
mod log;
pub mod mutation;
mod parts;
mod reference;
mod wire;
mod written;
mod yaml;

pub use campaign::{Campaign, Share, check};

/// One place that takes in bytes of others.
#[derive(Debug)]
pub struct Target {
    /// Its name, and that of its corpus.
    pub name: &'static str,
    /// What the corpus begins with, each with a name. The same bytes at each call.
    pub seeds: fn() -> Vec<(String, Vec<u8>)>,
    /// What stands for something in its format, for edits to put in.
    pub words: &'static [&'static [u8]],
    /// Whether a case is several byte strings, each with its length before it, so that edits may keep to one of them.
    pub in_parts: bool,
    /// Runs a case: panics if a promise is broken, and else tells how deep the case got.
    pub run: fn(&[u8]) -> Vec<&'static str>,
    /// The bytes that a case of this many bytes may allocate and hold at once.
    pub memory: fn(usize) -> u64,
    /// How many of the mutated cases must get how deep.
    pub goals: &'static [Goal],
    /// Cases of the short form: some seconds of a debug build.
    pub cases: u32,
}

/// A depth, and the share of cases that must reach it for a run to be worth something.
#[derive(Clone, Copy, Debug)]
pub struct Goal {
    /// The depth, as [`Target::run`] tells it.
    pub depth: &'static str,
    /// The share in percent.
    pub percent: u64,
}

/// Every target.
pub const TARGETS: &[&Target] = &[&guard::TARGET, &log::TARGET, &wire::TARGET, &yaml::TARGET];

/// The target of a name.
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().copied().find(|target| target.name == name)
}
