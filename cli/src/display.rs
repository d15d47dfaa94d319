//! What a person sees while a batch runs, here or on a cluster: a bar on a terminal, plain lines elsewhere.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use harmony_ventilator::rate::Rate;
use indicatif::{ProgressBar, ProgressStyle};

use crate::exit::tell;

/// Time between two plain lines.
const LINE_EVERY: Duration = Duration::from_secs(5);
/// How long a run may take to start its parts before it says what it waits for.
const SETTLED_AFTER: Duration = Duration::from_secs(1);

/// How far a batch is.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Snapshot {
    /// All tasks.
    pub(crate) completions: u64,
    /// Those recorded with a result.
    pub(crate) succeeded: u64,
    /// Those that failed for good.
    pub(crate) failed: u64,
    /// Whether the counts are known by now: until then they say nothing about the rate.
    pub(crate) counted: bool,
    /// Tasks settled per second, if somebody has measured it.
    pub(crate) rate: Option<f64>,
    /// What keeps the batch from going on, if anything does.
    pub(crate) hindrance: Option<String>,
}

enum Face {
    Bar(ProgressBar),
    Lines,
    Nothing,
}

/// Shows progress on standard error.
pub(crate) struct Display {
    name: String,
    face: Face,
    began: Instant,
    leaving: bool,
    rate: Rate,
    last_line: Option<(Instant, u64)>,
}

impl Display {
    /// A display for a batch of so many tasks, of which some may be done already.
    pub(crate) fn new(now: Instant, name: &str, completions: u64, quiet: bool) -> Self {
        let face = match (quiet, std::io::stderr().is_terminal()) {
            (true, _) => Face::Nothing,
            (false, true) => Face::Bar(bar(name, completions)),
            (false, false) => Face::Lines,
        };
        Self {
            name: name.to_owned(),
            face,
            began: now,
            leaving: false,
            rate: Rate::new(now),
            last_line: None,
        }
    }

    /// Shows how far the batch is.
    pub(crate) fn show(&mut self, now: Instant, snapshot: &Snapshot) {
        let done = snapshot.succeeded + snapshot.failed;
        if snapshot.counted {
            self.rate.update(now, done);
        }
        let rate = snapshot.rate.unwrap_or_else(|| self.rate.per_second());
        let left = snapshot.completions.saturating_sub(done);
        let eta = eta(left, rate);
        // Right after its start every run waits for everybody.
        let mood = match &snapshot.hindrance {
            _ if self.leaving => "  stopping".to_owned(),
            Some(hindrance) if now >= self.began + SETTLED_AFTER => format!("  {hindrance}"),
            _ => String::new(),
        };
        match &self.face {
            Face::Nothing => {}
            Face::Bar(bar) => {
                let (failed, rate) = (snapshot.failed, per_second(rate));
                bar.set_length(snapshot.completions);
                bar.set_message(format!("{failed} failed  {rate}  {eta}{mood}"));
                bar.set_position(done);
            }
            Face::Lines => {
                let due = self
                    .last_line
                    .is_none_or(|(at, shown)| now >= at + LINE_EVERY && (shown != done || left > 0));
                if due {
                    self.last_line = Some((now, done));
                    let (name, failed, all) = (&self.name, snapshot.failed, snapshot.completions);
                    let rate = per_second(rate);
                    tell(&format!(
                        "{name}: {done} of {all} done, {failed} failed, {rate}, {eta}{mood}"
                    ));
                }
            }
        }
    }

    /// Tasks settled per second.
    pub(crate) fn rate(&self) -> f64 {
        self.rate.per_second()
    }

    /// Says something without spoiling the bar.
    pub(crate) fn say(&self, text: &str) {
        match &self.face {
            Face::Bar(bar) => bar.suspend(|| tell(text)),
            Face::Lines => tell(text),
            Face::Nothing => {}
        }
    }

    /// Says something that must not be missed, even if the run is to be quiet.
    pub(crate) fn warn(&self, text: &str) {
        match &self.face {
            Face::Nothing => tell(text),
            _ => self.say(text),
        }
    }

    /// Says from now on that the run is stopping.
    pub(crate) fn leave(&mut self) {
        self.leaving = true;
    }

    /// Leaves the screen.
    pub(crate) fn finish(&self) {
        if let Face::Bar(bar) = &self.face {
            bar.finish_and_clear();
        }
    }
}

fn bar(name: &str, completions: u64) -> ProgressBar {
    let bar = ProgressBar::new(completions);
    let style = ProgressStyle::with_template("{prefix} {wide_bar} {human_pos}/{human_len}  {msg}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.set_prefix(name.to_owned());
    bar
}

fn eta(left: u64, rate: f64) -> String {
    if left == 0 {
        return "ETA 0s".to_owned();
    }
    if rate < 1e-6 {
        return "ETA -".to_owned();
    }
    #[allow(clippy::cast_precision_loss)] // an estimate
    let seconds = (left as f64 / rate).min(1e9);
    format!("ETA {}", indicatif::HumanDuration(Duration::from_secs_f64(seconds)))
}

fn per_second(rate: f64) -> String {
    if rate < 10.0 {
        format!("{rate:.1}/s")
    } else {
        format!("{rate:.0}/s")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_left_is_a_guess_only_where_there_is_a_rate() {
        assert_eq!(eta(0, 0.0), "ETA 0s");
        assert_eq!(eta(10, 0.0), "ETA -");
        assert_eq!(eta(1_200, 10.0), "ETA 2 minutes");
    }
}
