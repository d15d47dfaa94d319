//! Runs seeds with deliberate bugs: a checker that has never caught one proves nothing.
//!
//! The machines' own `sanity_check` is off meanwhile, and a panic inside a machine does not count: the judge alone, by
//! what is said and what is durable, must tell a machine with a bug from one without.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};
use std::iter;
use std::num::NonZero;
use std::ops::Range;
use std::process::ExitCode;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use harmony_protocol::mutant::Mutant;

use crate::broken::Broken;
use crate::faults::Fault;
use crate::settings::Settings;
use crate::{Outcome, attempt};

/// How the seeds of one mutant went.
#[derive(Clone, Debug)]
pub struct Score {
    /// Which bug; none for the machines as they are.
    pub mutant: Option<Mutant>,
    /// The settings are those that favour this bug.
    pub favoured: Option<Mutant>,
    /// How many seeds were run.
    pub seeds: u64,
    /// How often each rule caught it first.
    pub caught: BTreeMap<String, u64>,
    /// Seeds in which a machine panicked by itself.
    pub elsewhere: u64,
}

impl Score {
    fn note(&mut self, ended: Result<Outcome, Broken>) {
        match ended {
            Ok(_) => {}
            Err(broken) if is_caught(&broken) => *self.caught.entry(broken.rule()).or_default() += 1,
            Err(_) => self.elsewhere += 1,
        }
    }

    /// In how many seeds the checker caught it.
    pub fn total(&self) -> u64 {
        self.caught.values().sum()
    }

    /// Caught, or clean if it is no mutant.
    pub fn is_as_expected(&self) -> bool {
        match self.mutant {
            Some(_) => self.total() > 0,
            None => self.total() + self.elsewhere == 0,
        }
    }
}

/// How many different catches a row lists.
const CATCHES_LISTED: usize = 3;

impl Display for Score {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let name = self
            .mutant
            .map_or("no mutant".to_owned(), |mutant| format!("{mutant:?}"));
        let rule = self.mutant.map_or("", Mutant::rule);
        write!(f, "{name:22} {:4} of {}  {rule}", self.total(), self.seeds)?;
        if let Some(favoured) = self.favoured {
            write!(f, " (settings for {favoured:?})")?;
        }
        if self.elsewhere > 0 {
            write!(f, " ({} ended inside a machine)", self.elsewhere)?;
        }
        let mut catches: Vec<_> = self.caught.iter().collect();
        catches.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        for (rule, count) in catches.iter().take(CATCHES_LISTED) {
            write!(f, "\n{count:27}  by: {rule}")?;
        }
        let more = catches.len().saturating_sub(CATCHES_LISTED);
        if more > 0 {
            write!(f, "\n{:27}  and by {more} more", "")?;
        }
        Ok(())
    }
}

/// Runs one seed with or without a bug.
///
/// # Errors
/// The rule that it broke.
pub fn run(mutant: Option<Mutant>, settings: Settings, seed: u64, print: bool) -> Result<Outcome, Broken> {
    let _active = mutant.map(Mutant::activate);
    attempt(settings, seed, print).outcome
}

/// The settings of a seed, without the machines' own checks. A bug that random settings hardly ever meet is favoured.
pub fn settings(seed: u64, favoured: Option<Mutant>) -> Settings {
    let mut settings = Settings::of(seed);
    settings.sanity_checks = false;
    match favoured {
        // Two outcomes of one number, of which only one is a success.
        Some(Mutant::FailureOverwritten) => {
            settings.faults.push((Fault::Cut, Duration::from_millis(500)));
            for tasks in &mut settings.batches {
                tasks.backoff_limit = 0;
                tasks.mix.moody = 300;
            }
        }
        // A number goes from one worker to another and back, while the first still has it.
        Some(Mutant::SecondCopy) => {
            settings.faults.push((Fault::Cut, Duration::from_millis(200)));
            settings.workers.truncate(2);
            for tasks in &mut settings.batches {
                tasks.duration = Duration::from_millis(500);
            }
        }
        // What was settled is lost.
        Some(Mutant::StateMerged) => settings.faults.push((Fault::LoseDisk, Duration::from_millis(500))),
        // The machine stops between a checkpoint and the fsync of its record.
        Some(Mutant::CheckpointAhead) => {
            settings.faults.push((Fault::KillCollector, Duration::from_millis(500)));
            settings.collector.checkpoint_bytes = 1;
            settings.collector.fsync = Duration::from_millis(100);
        }
        _ => {}
    }
    settings
}

/// The mutants that have settings of their own.
const FAVOURED: [Mutant; 4] = [
    Mutant::FailureOverwritten,
    Mutant::SecondCopy,
    Mutant::StateMerged,
    Mutant::CheckpointAhead,
];

/// Whether the simulator noticed, and not a machine by itself.
pub fn is_caught(broken: &Broken) -> bool {
    // Where this file is, the checker is.
    broken.place.starts_with(file!().trim_end_matches("mutants.rs"))
}

/// A bug that these seeds did not show gets so many times their number: which ones show a rare bug changes with
/// everything that a seed draws.
const RARE: u64 = 5;

/// Runs these seeds with one bug, and more if they do not show it.
pub fn score(mutant: Option<Mutant>, favoured: Option<Mutant>, seeds: Range<u64>) -> Score {
    let mut score = Score {
        mutant,
        favoured,
        seeds: 0,
        caught: BTreeMap::new(),
        elsewhere: 0,
    };
    let enough = seeds.end - seeds.start;
    let most = if mutant.is_some() { enough * RARE } else { enough };
    for seed in seeds.start..seeds.start + most {
        if score.seeds >= enough && score.total() > 0 {
            break;
        }
        score.seeds += 1;
        score.note(run(mutant, settings(seed, favoured), seed, false));
    }
    score
}

/// Runs these seeds without a bug and with each of these, on all cores; prints every score as it comes. True if the
/// machines without a bug were clean in all these settings, and every bug was caught.
pub fn run_all(mutants: &[Mutant], seeds: &Range<u64>) -> bool {
    let favoured = |mutant: &Mutant| Some(*mutant).filter(|mutant| FAVOURED.contains(mutant));
    let without = mutants
        .iter()
        .filter_map(favoured)
        .map(|favoured| (None, Some(favoured)));
    let with = mutants.iter().map(|mutant| (Some(*mutant), favoured(mutant)));
    let all = iter::once((None, None)).chain(without).chain(with);
    let (next, as_expected) = (Mutex::new(all), Mutex::new(true));
    let another = || next.lock().expect("nobody panics with the lock").next();
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, NonZero::get) {
            scope.spawn(|| {
                while let Some((mutant, favoured)) = another() {
                    let score = score(mutant, favoured, seeds.clone());
                    println!("{score}");
                    *as_expected.lock().expect("nobody panics with the lock") &= score.is_as_expected();
                }
            });
        }
    });
    as_expected.into_inner().expect("nobody panics with the lock")
}

/// The mutants of these names, or all of them.
///
/// # Errors
/// Which name is unknown.
pub fn named(names: &[String]) -> Result<Vec<Mutant>, String> {
    if names.is_empty() {
        return Ok(Mutant::ALL.to_vec());
    }
    let find = |name: &String| {
        let found = Mutant::ALL.iter().find(|mutant| format!("{mutant:?}") == *name);
        found
            .copied()
            .ok_or_else(|| format!("there is no mutant {name:?}; there are {:?}", Mutant::ALL))
    };
    names.iter().map(find).collect()
}

/// Runs the command line: many seeds with each of these bugs, or one with the first of them and its trace.
pub fn main(names: &[String], replay: Option<u64>, seeds: &Range<u64>) -> ExitCode {
    let mutants = match named(names) {
        Ok(mutants) => mutants,
        Err(message) => {
            eprintln!("error: {message}");
            return ExitCode::from(2);
        }
    };
    if let Some(seed) = replay {
        let mutant = mutants.first().copied();
        let favoured = mutant.filter(|mutant| FAVOURED.contains(mutant));
        let ended = run(mutant, settings(seed, favoured), seed, true);
        match &ended {
            Ok(_) => println!("\nseed {seed} broke no rule"),
            Err(broken) => println!("\nseed {seed} broke a rule: {broken}"),
        }
        return ExitCode::from(u8::from(ended.is_err()));
    }
    if run_all(&mutants, seeds) {
        ExitCode::SUCCESS
    } else {
        eprintln!("error: a mutant was not caught, or the machines without one broke a rule");
        ExitCode::FAILURE
    }
}
