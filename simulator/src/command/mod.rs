//! The command line: runs many seeds on all cores, shows what one does, and makes one that fails small.

mod report;
mod runs;

use std::io::{self, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

pub use self::report::Sum;
pub use self::runs::{Limit, run_seeds};
use crate::attempt;
use crate::broken::Broken;
use crate::exhaustive::{Size, scopes};
use crate::settings::Settings;
use crate::shrink::{LessList, shrink};

const EXAMPLES: &str = "\
Examples:
  cargo xtask simulate --seeds 2000            the seeds 0 to 1999 on all cores
  cargo xtask simulate --minutes 10 --all      ten minutes of seeds; failures are listed at the end
  cargo xtask simulate --replay 17             what happens in seed 17, line by line
  cargo xtask simulate --shrink 17             the smallest run of seed 17 that breaks the same rule
  cargo xtask simulate --exhaustive small      all courses of a small fleet
  cargo xtask simulate --mutants --seeds 300   which deliberate bugs the checker catches, and in how many seeds
  cargo xtask simulate --replay 17 --less without=pause,workers=1
                                               what --shrink came down to, again

A seed decides everything: who takes part, what the tasks do, how the network and the disk are, and what goes \
wrong when. The same seed gives the same run as long as the simulator itself is the same. A seed fails when a \
rule of the protocol is broken, or when its batches have not ended some time after all faults have healed.";

#[derive(Debug, Parser)]
#[command(
    bin_name = "cargo xtask simulate",
    about = "Runs the machines of HARMONY/1 on a seeded network, disk and clock, breaks all of them, and checks every rule",
    after_help = EXAMPLES
)]
struct Args {
    /// How many seeds to run.
    #[arg(long, value_name = "N", default_value_t = 1000)]
    seeds: u64,
    /// The first seed.
    #[arg(long, value_name = "SEED", default_value_t = 0)]
    from: u64,
    /// Runs seeds for this long instead of a number of them.
    #[arg(long, value_name = "M", conflicts_with = "seeds")]
    minutes: Option<f64>,
    /// Goes on after a seed that fails, and lists all of them at the end.
    #[arg(long)]
    all: bool,
    /// Runs only this seed, and prints its settings and what happens.
    #[arg(long, value_name = "SEED", conflicts_with_all = ["minutes", "seeds", "from", "all"])]
    replay: Option<u64>,
    /// Makes a replay simpler, as --shrink prints it.
    #[arg(
        long,
        value_name = "WHAT",
        requires = "replay",
        default_value_t,
        hide_default_value = true
    )]
    less: LessList,
    /// Takes from a seed that fails whatever it does not need to fail, and prints the run that is left.
    #[arg(long, value_name = "SEED", conflicts_with_all = ["replay", "minutes", "seeds", "from", "all"])]
    shrink: Option<u64>,
    /// Goes through all courses of a small fleet instead, and prints how many states it has.
    #[arg(long, value_name = "SIZE", conflicts_with_all = ["replay", "shrink", "minutes", "seeds", "from", "all"])]
    exhaustive: Option<Size>,
    /// Runs the seeds with each of these deliberate bugs, or with all there are: the checker must catch every one.
    #[cfg(feature = "mutants")]
    #[arg(long, value_name = "NAME", num_args = 0.., conflicts_with_all = ["minutes", "all", "less", "shrink"])]
    mutants: Option<Vec<String>>,
}

/// Runs the command line.
pub fn main() -> ExitCode {
    let args = Args::parse();
    #[cfg(feature = "mutants")]
    if let Some(names) = &args.mutants {
        return crate::mutants::main(names, args.replay, &(args.from..args.from + args.seeds));
    }
    if let Some(seed) = args.replay {
        return replay(seed, &args.less);
    }
    if let Some(seed) = args.shrink {
        return print_smallest(seed);
    }
    if let Some(size) = args.exhaustive {
        return search(size);
    }
    let limit = match args.minutes {
        Some(minutes) => Limit::Time(Duration::from_secs_f64(minutes.max(0.0) * 60.0)),
        None => Limit::Seeds(args.seeds),
    };
    let runs = run_seeds(args.from, limit, args.all);
    for (seed, broken) in &runs.broken {
        eprintln!("{}", failure(*seed, broken));
    }
    let _ = writeln!(io::stdout(), "{}", runs.sum);
    let unseen = runs.sum.coverage.unseen(runs.sum.seeds);
    if !unseen.is_empty() {
        eprintln!("{unseen:?} never came about, so that nothing is known of them");
    }
    code(runs.broken.is_empty() && unseen.is_empty())
}

/// What a seed broke, and how to see it again.
pub fn failure(seed: u64, broken: &Broken) -> String {
    format!(
        "seed {seed} broke a rule: {broken}\n  what happened: cargo xtask simulate --replay {seed}\n  \
         the smallest run: cargo xtask simulate --shrink {seed}"
    )
}

fn code(well: bool) -> ExitCode {
    if well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn replay(seed: u64, less: &LessList) -> ExitCode {
    let settings = less.applied(Settings::of(seed));
    println!("{settings:#?}");
    let run = attempt(settings, seed, true);
    match run.outcome {
        Ok(outcome) => {
            let mut sum = Sum::default();
            sum.add(&outcome);
            println!("\nseed {seed} broke no rule; hash {:016x}\n{sum}", outcome.hash);
            ExitCode::SUCCESS
        }
        Err(broken) => {
            println!("\nseed {seed} broke a rule: {broken}");
            ExitCode::FAILURE
        }
    }
}

fn search(size: Size) -> ExitCode {
    for (what, scope) in scopes(size) {
        match scope.search() {
            Ok(seen) => println!("{what}: {seen}"),
            Err(violation) => {
                let (story, _) = scope.replay(&violation.path);
                println!("{what}: broke a rule: {}\n{story}", violation.broken);
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}

fn print_smallest(seed: u64) -> ExitCode {
    let settings = Settings::of(seed);
    let Some(smallest) = shrink(&settings, |settings| attempt(settings.clone(), seed, false)) else {
        println!("seed {seed} breaks no rule");
        return ExitCode::SUCCESS;
    };
    attempt(smallest.less.applied(settings), seed, true);
    println!(
        "\nseed {seed} broke a rule: {}\n\nafter {} runs, what is left breaks it as well:\n{}\nagain: cargo xtask \
         simulate --replay {seed} --less {}",
        smallest.broken,
        smallest.runs,
        smallest.settings.summary(),
        smallest.less
    );
    ExitCode::FAILURE
}
