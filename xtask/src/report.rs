//! What came of the steps: a line each, and the counts.

use std::fmt;
use std::time::Duration;

/// What came of one step.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// With what is worth saying about it; may be empty.
    Passed(String),
    /// With what is wrong.
    Failed(String),
    /// With the reason.
    Skipped(String),
}

/// One step's line of the summary.
#[derive(Debug)]
pub(crate) struct Line {
    name: &'static str,
    verdict: Verdict,
    time: Option<Duration>,
}

impl Line {
    pub(crate) fn failed(&self) -> bool {
        matches!(self.verdict, Verdict::Failed(_))
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (word, note) = match &self.verdict {
            Verdict::Passed(note) => ("passed", note),
            Verdict::Failed(note) => ("FAILED", note),
            Verdict::Skipped(note) => ("skipped", note),
        };
        let time = self
            .time
            .map_or_else(|| "-".to_owned(), |time| format!("{:.1} s", time.as_secs_f64()));
        write!(f, "{:14} {word:8} {time:>9}", self.name)?;
        if note.is_empty() { Ok(()) } else { write!(f, "  {note}") }
    }
}

/// All lines so far. Its text holds the first line of each step's, and ends with the counts, alone on the last line.
#[derive(Debug, Default)]
pub(crate) struct Report {
    lines: Vec<Line>,
}

impl Report {
    /// Adds what came of a step and gives the line back for showing.
    pub(crate) fn add(&mut self, name: &'static str, verdict: Verdict, time: Option<Duration>) -> &Line {
        self.lines.push_mut(Line { name, verdict, time })
    }

    /// How many steps failed.
    pub(crate) fn failed(&self) -> usize {
        self.lines.iter().filter(|line| line.failed()).count()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.lines {
            writeln!(f, "{}", line.to_string().lines().next().unwrap_or_default())?;
        }
        let skipped = |line: &&Line| matches!(line.verdict, Verdict::Skipped(_));
        let (failed, skipped) = (self.failed(), self.lines.iter().filter(skipped).count());
        let passed = self.lines.len() - failed - skipped;
        write!(f, "{passed} passed, {failed} failed")?;
        if skipped > 0 {
            write!(f, ", {skipped} skipped")
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_ends_with_the_counts() {
        let mut report = Report::default();
        report.add(
            "format",
            Verdict::Passed(String::new()),
            Some(Duration::from_millis(1250)),
        );
        assert!(report.to_string().ends_with("\n1 passed, 0 failed"), "{report}");
        report.add(
            "clippy",
            Verdict::Failed("it ended with 1\nmore".to_owned()),
            Some(Duration::from_secs(61)),
        );
        report.add("unit", Verdict::Skipped("not run".to_owned()), None);
        assert_eq!(
            report.to_string(),
            "format         passed       1.2 s\n\
             clippy         FAILED      61.0 s  it ended with 1\n\
             unit           skipped          -  not run\n\
             1 passed, 1 failed, 1 skipped"
        );
    }
}
