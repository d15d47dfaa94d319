//! Ways to make the settings of a run simpler, as text that people and the command line share.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use clap::ValueEnum;

use crate::faults::Fault;
use crate::settings::Settings;
use crate::tasks::Mix;

/// One way to make a run simpler.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Less {
    /// A kind of fault does not strike at all.
    Without(Fault),
    /// One strike is left out, by its ordinal among its kind.
    Skip(Fault, u64),
    /// Only the first batches, and their ventilators.
    Batches(usize),
    /// Only the first ventilators.
    Ventilators(usize),
    /// Only the first workers.
    Workers(usize),
    /// No batch has more tasks.
    Tasks(u64),
    /// Nothing goes wrong from this millisecond on.
    Until(u64),
    /// Tasks succeed, and answer the same each time.
    Plain,
    /// All messages take about the same time.
    Even,
    /// All clocks run true.
    TrueClocks,
}

impl Less {
    /// Makes the settings simpler.
    pub fn apply(self, settings: &mut Settings) {
        match self {
            Self::Without(Fault::Crash) => settings.crash = 0.0,
            Self::Without(fault) => settings.faults.retain(|(kind, _)| *kind != fault),
            Self::Skip(fault, ordinal) => drop(settings.skipped.insert((fault, ordinal))),
            Self::Batches(most) => {
                settings.batches.truncate(most);
                settings.visits.retain(|visit| visit.batch < most);
            }
            Self::Ventilators(most) => settings.visits.truncate(most),
            Self::Workers(most) => settings.workers.truncate(most),
            Self::Tasks(most) => {
                for tasks in &mut settings.batches {
                    tasks.completions = tasks.completions.min(most);
                }
            }
            Self::Until(millis) => settings.until = settings.until.min(Duration::from_millis(millis)),
            Self::Plain => {
                for tasks in &mut settings.batches {
                    tasks.mix = Mix::default();
                }
            }
            Self::Even => (settings.slow, settings.spread) = (0, 1.0),
            Self::TrueClocks => settings.skew = 0,
        }
    }
}

impl fmt::Display for Less {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Without(fault) => write!(f, "without={fault}"),
            Self::Skip(fault, ordinal) => write!(f, "skip={fault}:{ordinal}"),
            Self::Batches(most) => write!(f, "batches={most}"),
            Self::Ventilators(most) => write!(f, "ventilators={most}"),
            Self::Workers(most) => write!(f, "workers={most}"),
            Self::Tasks(most) => write!(f, "tasks={most}"),
            Self::Until(millis) => write!(f, "until={millis}"),
            Self::Plain => f.write_str("plain"),
            Self::Even => f.write_str("even"),
            Self::TrueClocks => f.write_str("true-clocks"),
        }
    }
}

impl FromStr for Less {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let fault = |name: &str| <Fault as ValueEnum>::from_str(name, false);
        let number = |text: &str| text.parse::<u64>().map_err(|_| format!("{text} is not a number"));
        let count = |text: &str| match number(text) {
            Ok(0) => Err("at least one is needed".to_owned()),
            Ok(count) => usize::try_from(count).map_err(|error| error.to_string()),
            Err(error) => Err(error),
        };
        let (what, value) = text.split_once('=').unwrap_or((text, ""));
        match what {
            "without" => fault(value).map(Self::Without),
            "skip" => {
                let (name, ordinal) = value.split_once(':').ok_or("skip=FAULT:ORDINAL")?;
                Ok(Self::Skip(fault(name)?, number(ordinal)?))
            }
            "batches" => count(value).map(Self::Batches),
            "ventilators" => count(value).map(Self::Ventilators),
            "workers" => count(value).map(Self::Workers),
            "tasks" => number(value).map(Self::Tasks),
            "until" => number(value).map(Self::Until),
            "plain" => Ok(Self::Plain),
            "even" => Ok(Self::Even),
            "true-clocks" => Ok(Self::TrueClocks),
            _ => Err(format!("{what} is not known")),
        }
    }
}

/// Several ways, one after the other: `without=pause,workers=1`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LessList(pub Vec<Less>);

impl LessList {
    /// Settings made simpler in all these ways.
    pub fn applied(&self, mut settings: Settings) -> Settings {
        for less in &self.0 {
            less.apply(&mut settings);
        }
        settings
    }
}

impl fmt::Display for LessList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&texts.join(","))
    }
}

impl FromStr for LessList {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split(',').filter(|part| !part.is_empty());
        parts.map(str::parse).collect::<Result<_, _>>().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_is_read_again() {
        let text = "without=half-cut,skip=kill-worker:3,batches=1,ventilators=2,workers=4,tasks=7,until=1500,plain,even,true-clocks";
        let list: LessList = text.parse().unwrap();
        assert_eq!(list.to_string(), text);
        assert_eq!(list.0.len(), 10);
        assert!("workers=0".parse::<LessList>().is_err());
        assert!("without=nothing".parse::<LessList>().is_err());
    }
}
