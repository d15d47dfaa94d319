//! The command line: `--seeds N [--from SEED]` runs many seeds, `--replay SEED` prints the trace of one.

use std::panic;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;

use crate::world::Tally;
use crate::{Outcome, run};

#[derive(Debug, Parser)]
#[command(about = "Runs the machines of HARMONY/1 on a seeded network and virtual time")]
struct Args {
    /// How many seeds to run.
    #[arg(long, default_value_t = 1000)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Runs only this seed, and prints what happens.
    #[arg(long)]
    replay: Option<u64>,
    /// Goes on after a seed that fails.
    #[arg(long)]
    all: bool,
}

/// Runs the command line.
pub fn main() -> ExitCode {
    let args = Args::parse();
    if let Some(seed) = args.replay {
        let outcome = run(seed, true);
        println!("{outcome:#?}");
        return ExitCode::SUCCESS;
    }
    let began = Instant::now();
    let mut sum = Sum::default();
    let mut failed = 0;
    for seed in args.from..args.from + args.seeds {
        if let Some(outcome) = guarded(seed) {
            sum.add(&outcome);
        } else if args.all {
            failed += 1;
        } else {
            return ExitCode::FAILURE;
        }
    }
    let rate = f64::from(u32::try_from(args.seeds).unwrap_or(u32::MAX)) / began.elapsed().as_secs_f64();
    println!("{} seeds, {failed} failed, {rate:.0} a second; {sum:#?}", args.seeds);
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Runs a seed; if a rule is broken, says how to see it again.
pub fn guarded(seed: u64) -> Option<Outcome> {
    let outcome = panic::catch_unwind(|| run(seed, false));
    if outcome.is_err() {
        eprintln!("seed {seed} broke a rule; replay: cargo run -p harmony-simulator -- --replay {seed}");
    }
    outcome.ok()
}

/// The sum over many seeds.
#[derive(Debug, Default)]
pub struct Sum {
    /// Virtual time.
    pub elapsed: Duration,
    /// Things that happened.
    pub events: u64,
    /// Counts.
    pub tally: Tally,
}

impl Sum {
    /// Adds one run.
    pub fn add(&mut self, outcome: &Outcome) {
        self.elapsed += outcome.elapsed;
        self.events += outcome.events;
        for (fault, count) in &outcome.tally.faults {
            *self.tally.faults.entry(*fault).or_default() += count;
        }
        for (fault, count) in &outcome.tally.hits {
            *self.tally.hits.entry(*fault).or_default() += count;
        }
        let sums = self.tally.verdicts.iter_mut().chain(&mut self.tally.resent);
        for (sum, count) in sums.zip(outcome.tally.verdicts.iter().chain(&outcome.tally.resent)) {
            *sum += count;
        }
    }
}
