//! Makes a failing run small: takes away whatever it does not need to break the same rule.

mod less;

use std::collections::BTreeSet;

pub use self::less::{Less, LessList};
use crate::Run;
use crate::broken::Broken;
use crate::faults::Fault;
use crate::settings::Settings;
use crate::tasks::Mix;

/// Runs that a search may take: most end after some hundred.
const RUNS_MOST: u32 = 1_000;

/// What a search came down to.
#[derive(Clone, Debug)]
pub struct Smallest {
    /// What was taken away.
    pub less: LessList,
    /// What is left.
    pub settings: Settings,
    /// What it breaks.
    pub broken: Broken,
    /// How many runs it took.
    pub runs: u32,
}

/// Searches for the simplest run that breaks the rule that these settings break; `None` if they break none.
///
/// Greedy: whatever can be taken away on its own is, again and again, until nothing can be or too many runs are done.
pub fn shrink(settings: &Settings, run: impl Fn(&Settings) -> Run) -> Option<Smallest> {
    let first = run(settings);
    let mut struck = first.struck;
    let mut smallest = Smallest {
        less: LessList::default(),
        settings: settings.clone(),
        broken: first.outcome.err()?,
        runs: 1,
    };
    let rule = smallest.broken.rule();
    let mut tried = BTreeSet::new();
    let mut smaller = false;
    while smallest.runs < RUNS_MOST {
        let ways = ways(&smallest.settings, &struck);
        let Some(less) = ways.into_iter().find(|less| tried.insert(*less)) else {
            if !std::mem::take(&mut smaller) {
                break;
            }
            // What failed before may work now that there is less.
            tried.clear();
            continue;
        };
        let mut candidate = smallest.settings.clone();
        less.apply(&mut candidate);
        let attempt = run(&candidate);
        smallest.runs += 1;
        if let Err(broken) = attempt.outcome
            && broken.rule() == rule
        {
            smallest.less.0.push(less);
            (smallest.settings, smallest.broken) = (candidate, broken);
            struck = attempt.struck;
            smaller = true;
        }
    }
    Some(smallest)
}

/// What may be taken away from these settings, the most first.
fn ways(settings: &Settings, struck: &[(Fault, u64)]) -> Vec<Less> {
    let mut ways = Vec::new();
    if settings.batches.len() > 1 {
        ways.push(Less::Batches(1));
    }
    let (ventilators, workers) = (settings.visits.len(), settings.workers.len());
    if ventilators > settings.batches.len() {
        ways.push(Less::Ventilators(ventilators - 1));
    }
    ways.extend(settings.faults.iter().map(|(fault, _)| Less::Without(*fault)));
    if settings.batches.iter().any(|tasks| tasks.mix != Mix::default()) {
        ways.push(Less::Plain);
    }
    if settings.crash > 0.0 {
        ways.push(Less::Without(Fault::Crash));
    }
    if settings.skew > 0 {
        ways.push(Less::TrueClocks);
    }
    if settings.slow > 0 || settings.spread > 1.0 {
        ways.push(Less::Even);
    }
    let most = settings
        .batches
        .iter()
        .map(|tasks| tasks.completions)
        .max()
        .unwrap_or_default();
    ways.extend(
        halves(workers as u64)
            .filter_map(|count| usize::try_from(count).ok())
            .map(Less::Workers),
    );
    ways.extend(halves(most).map(Less::Tasks));
    if !settings.faults.is_empty() {
        ways.extend(halves(u64::try_from(settings.until.as_millis()).unwrap_or(u64::MAX)).map(Less::Until));
    }
    ways.extend(struck.iter().map(|(fault, ordinal)| Less::Skip(*fault, *ordinal)));
    ways
}

/// Half of a count, three quarters, and so on up to one less.
fn halves(count: u64) -> impl Iterator<Item = u64> {
    std::iter::successors(Some(count / 2), |taken| Some(taken / 2))
        .take_while(|taken| *taken > 0)
        .map(move |taken| count - taken)
}
