//! Figures: what both sides took, their medians and ratio, as text, as a table and as JSON.

use std::fmt;
use std::fs;

use anyhow::Result;
use serde::Serialize;

use super::disk::DiskFacts;

/// What a figure counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Unit {
    /// More is better.
    PerSecond,
    /// More is better.
    MebibytesPerSecond,
    /// Less is better.
    NanosecondsPerTask,
    /// Less is better.
    Milliseconds,
}

impl Unit {
    fn show(self, value: f64) -> String {
        match self {
            Self::PerSecond if value >= 1e6 => format!("{:.2} M/s", value / 1e6),
            Self::PerSecond => format!("{value:.0}/s"),
            Self::MebibytesPerSecond => format!("{value:.0} MiB/s"),
            Self::NanosecondsPerTask => format!("{value:.0} ns"),
            Self::Milliseconds => format!("{value:.0} ms"),
        }
    }
}

/// What is wanted of a figure.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Goal {
    /// Harmony's median is at least this many times the first peer's.
    Ratio(f64),
    /// Harmony's median is at most this.
    AtMost(f64),
}

/// One side of a figure.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Side {
    pub(crate) name: String,
    /// In the order of the rounds; none if the side is missing.
    pub(crate) samples: Vec<f64>,
}

impl Side {
    pub(crate) fn median(&self) -> Option<f64> {
        median(self.samples.clone())
    }
}

/// One figure: Harmony, and those it is compared with.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Figure {
    pub(crate) title: String,
    pub(crate) unit: Unit,
    /// Harmony is the first.
    pub(crate) sides: Vec<Side>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) goal: Option<Goal>,
    /// What else there is to say, such as a peer that is not installed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) notes: Vec<String>,
}

impl Figure {
    /// A figure of Harmony alone.
    pub(crate) fn alone(title: &str, unit: Unit, samples: Vec<f64>, goal: Option<Goal>) -> Self {
        let name = "Harmony".to_owned();
        Self {
            title: title.to_owned(),
            unit,
            sides: vec![Side { name, samples }],
            goal,
            notes: Vec::new(),
        }
    }

    fn ratio(&self, peer: &Side) -> Option<f64> {
        Some(self.sides.first()?.median()? / peer.median()?)
    }

    fn goal_cell(&self) -> String {
        let Some(goal) = self.goal else { return String::new() };
        let met = |met| if met { "met" } else { "not met" };
        match goal {
            Goal::Ratio(least) => match self.sides.get(1).and_then(|peer| self.ratio(peer)) {
                Some(ratio) => format!("{least} x: {}", met(ratio >= least)),
                None => format!("{least} x: no peer here"),
            },
            Goal::AtMost(most) => {
                let median = self.sides.first().and_then(Side::median);
                let is_met = median.is_some_and(|median| median <= most);
                format!("at most {}: {}", self.unit.show(most), met(is_met))
            }
        }
    }

    /// The rows of the figure in a table of Markdown.
    fn rows(&self) -> String {
        let ours = self.sides.first().and_then(Side::median);
        let ours = ours.map_or_else(|| "-".to_owned(), |value| self.unit.show(value));
        let peers: Vec<_> = self.sides.iter().skip(1).collect();
        if peers.is_empty() {
            return format!("| {} | {ours} | | | {} |\n", self.title, self.goal_cell());
        }
        let row = |(position, peer): (usize, &&Side)| {
            let theirs = peer
                .median()
                .map_or_else(|| "missing".to_owned(), |value| self.unit.show(value));
            let ratio = self.ratio(peer).map_or_else(String::new, |ratio| format!("{ratio:.2}"));
            let goal = if position == 0 { self.goal_cell() } else { String::new() };
            format!(
                "| {} | {ours} | {}: {theirs} | {ratio} | {goal} |\n",
                self.title, peer.name
            )
        };
        peers.iter().enumerate().map(row).collect()
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.title)?;
        for side in &self.sides {
            let samples: Vec<_> = side.samples.iter().map(|value| self.unit.show(*value)).collect();
            let median = side
                .median()
                .map_or_else(|| "missing".to_owned(), |value| self.unit.show(value));
            writeln!(f, "  {:<24} median {median:>12}   ({})", side.name, samples.join(", "))?;
        }
        for peer in self.sides.iter().skip(1) {
            if let Some(ratio) = self.ratio(peer) {
                writeln!(f, "  ratio to {}: {ratio:.2}", peer.name)?;
            }
        }
        for note in &self.notes {
            writeln!(f, "  {note}")?;
        }
        write!(f, "  {}", self.goal_cell())
    }
}

/// All figures of one call.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    disk: DiskFacts,
    cpus: usize,
    cpu: String,
    kernel: String,
    figures: Vec<Figure>,
}

impl Report {
    pub(crate) fn new(disk: DiskFacts) -> Self {
        let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let cpu = text("/proc/cpuinfo");
        let model = cpu
            .lines()
            .find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        Self {
            disk,
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
            cpu: model.map_or("an unknown processor", |(_, name)| name).to_owned(),
            kernel: text("/proc/sys/kernel/osrelease").trim().to_owned(),
            figures: Vec::new(),
        }
    }

    pub(crate) fn add(&mut self, figure: Figure) {
        self.figures.push(figure);
    }

    /// What the figures were taken on, in a sentence.
    pub(crate) fn machine(&self) -> String {
        format!(
            "{} cores of {}, Linux {}; batches on {}, an fsync of 4 KiB takes {:.2} ms",
            self.cpus, self.cpu, self.kernel, self.disk.file_system, self.disk.fsync_millis
        )
    }

    pub(crate) fn json(&self) -> Result<String> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "| what | Harmony | beside it | ratio | wanted |\n|---|---|---|---|---|"
        )?;
        self.figures.iter().try_for_each(|figure| f.write_str(&figure.rows()))
    }
}

/// The middle of the values; of an even number of them, the mean of both middles.
pub(crate) fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let upper = *values.get(values.len() / 2)?;
    let lower = *values.get((values.len() - 1) / 2)?;
    Some(f64::midpoint(lower, upper))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(ours: &[f64], theirs: &[f64], goal: Goal) -> Figure {
        let mut figure = Figure::alone("tasks", Unit::PerSecond, ours.to_vec(), Some(goal));
        figure.sides.push(Side {
            name: "peer".to_owned(),
            samples: theirs.to_vec(),
        });
        figure
    }

    #[test]
    fn the_median_is_the_middle() {
        for (values, middle) in [
            (vec![3.0, 1.0, 2.0], 2.0),
            (vec![4.0, 1.0, 2.0, 9.0], 3.0),
            (vec![5.0], 5.0),
        ] {
            assert!((median(values).unwrap() - middle).abs() < 1e-9);
        }
        assert!(median(Vec::new()).is_none());
    }

    #[test]
    fn a_ratio_is_that_of_the_medians_and_is_judged() {
        let figure = figure(&[30.0, 10.0, 20.0], &[10.0, 10.0, 99.0], Goal::Ratio(1.5));
        assert_eq!(figure.rows(), "| tasks | 20/s | peer: 10/s | 2.00 | 1.5 x: met |\n");
        let slow = self::figure(&[10.0], &[10.0], Goal::Ratio(1.5));
        assert_eq!(slow.rows(), "| tasks | 10/s | peer: 10/s | 1.00 | 1.5 x: not met |\n");
    }

    #[test]
    fn a_limit_is_judged_without_a_peer() {
        let figure = Figure::alone(
            "restart",
            Unit::Milliseconds,
            vec![900.0, 1100.0, 950.0],
            Some(Goal::AtMost(1000.0)),
        );
        assert_eq!(figure.rows(), "| restart | 950 ms | | | at most 1000 ms: met |\n");
    }

    #[test]
    fn a_missing_peer_is_said_to_be_missing() {
        let figure = figure(&[20.0], &[], Goal::Ratio(1.5));
        assert_eq!(
            figure.rows(),
            "| tasks | 20/s | peer: missing |  | 1.5 x: no peer here |\n"
        );
    }
}
