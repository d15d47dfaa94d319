//! What many runs come to, as a table for people.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::Outcome;
use crate::checker::{BRANCHES, Coverage};
use crate::faults::{FAULTS, Fault};
use crate::world::Tally;

/// The sum over many seeds.
#[derive(Debug, Default)]
pub struct Sum {
    /// Seeds that broke no rule.
    pub seeds: u64,
    /// Seeds that broke one.
    pub failed: u64,
    /// Real time.
    pub took: Duration,
    /// Virtual time.
    pub elapsed: Duration,
    /// The longest time that a run took to end after all was healed.
    pub after: Duration,
    /// Things that happened.
    pub events: u64,
    /// Counts.
    pub tally: Tally,
    /// Branches that were seen.
    pub coverage: Coverage,
}

impl Sum {
    /// Adds one run.
    pub fn add(&mut self, outcome: &Outcome) {
        self.seeds += 1;
        self.elapsed += outcome.elapsed;
        self.after = self.after.max(outcome.after);
        self.events += outcome.events;
        self.coverage.add(&outcome.coverage);
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

impl fmt::Display for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seeds = self.seeds + self.failed;
        write!(f, "{seeds} seeds, {} failed", self.failed)?;
        if !self.took.is_zero() {
            #[allow(clippy::cast_precision_loss)] // for people
            let rate = seeds as f64 / self.took.as_secs_f64();
            write!(f, "; {:.1} s, {rate:.0} seeds a second", self.took.as_secs_f64())?;
        }
        let hours = self.elapsed.as_secs_f64() / 3600.0;
        writeln!(f, "; {hours:.2} simulated hours, {} events", self.events)?;
        writeln!(
            f,
            "the last end came {:.1} s after all was healed",
            self.after.as_secs_f64()
        )?;
        let [done, cancelled, fenced] = self.tally.verdicts;
        writeln!(
            f,
            "ventilators that saw their batch complete {done}, ended early {cancelled}, fenced {fenced}"
        )?;
        let [lost, missing, retried, returned, unbound] = self.tally.resent;
        writeln!(
            f,
            "numbers sent again: worker lost {lost}, missing at the collector {missing}, failed {retried}, handed back \
             {returned}, worker without collector {unbound}"
        )?;
        writeln!(f, "{:16} {:>10} {:>20}", "fault", "struck", "with work in flight")?;
        for fault in FAULTS {
            let count = |counts: &BTreeMap<Fault, u64>| counts.get(&fault).copied().unwrap_or_default();
            let (struck, hits) = (count(&self.tally.faults), count(&self.tally.hits));
            writeln!(f, "{fault:16} {struck:>10} {hits:>20}")?;
        }
        writeln!(f, "{:32} {:>10}", "branch", "seen")?;
        for branch in BRANCHES {
            writeln!(f, "{:32} {:>10}", format!("{branch:?}"), self.coverage.count(branch))?;
        }
        Ok(())
    }
}
