//! Lines through a filter in Python that flushes each line, beside the same filter fed by a plain pipe.

use std::fmt::Write as _;
use std::fs;

use anyhow::Result;

use super::peer::shell_seconds;
use super::run::{Bench, Runner};
use super::table::{Figure, Goal, Unit};

const LINES: u64 = 1_000_000;
const FILTER: &str = "import sys\nfor line in sys.stdin:\n    sys.stdout.write(line.upper())\n    sys.stdout.flush()\n";

/// Lines a second, through one filter and through two at once.
pub(crate) fn measure(bench: &Bench) -> Result<Vec<Figure>> {
    let filter = bench.folder.join("filter.py");
    fs::write(&filter, FILTER)?;
    let figures = [1, 2].map(|filters| through(bench, filters));
    fs::remove_file(&filter)?;
    figures.into_iter().collect()
}

fn through(bench: &Bench, filters: u64) -> Result<Figure> {
    let title = format!(
        "lines through {filters} Python filter{}",
        if filters == 1 { "" } else { "s" }
    );
    let lines = bench.tasks(LINES);
    let numbered = |from: u64, to: u64| {
        (from..to).fold(String::new(), |mut text, number| {
            let _ = writeln!(text, "line number {number}");
            text
        })
    };
    fs::write(bench.folder.join("tasks.txt"), numbered(0, lines))?;
    let mut pipe = String::new();
    for filter in 0..filters {
        let share = numbered(lines * filter / filters, lines * (filter + 1) / filters);
        fs::write(bench.folder.join(format!("share-{filter}.txt")), share)?;
        let _ = write!(pipe, "cat share-{filter}.txt | python3 filter.py > out-{filter}.txt & ");
    }
    let spec = format!(
        "completions: {lines}\nparallelism: {filters}\ntasks: {{lines: {{path: tasks.txt}}}}\n\
         executor: {{process: {{command: [python3, filter.py], framing: lines}}}}"
    );
    let harmony = || Ok(lines as f64 / bench.run(&spec, &[])?.batch);
    let plain = || Ok(lines as f64 / shell_seconds(bench, &format!("{pipe} wait"))?);
    let runners: Vec<Runner<'_>> = vec![
        ("Harmony".to_owned(), Box::new(harmony)),
        ("plain pipe".to_owned(), Box::new(plain)),
    ];
    Ok(Figure {
        sides: bench.rounds(&title, runners)?,
        title,
        unit: Unit::PerSecond,
        goal: Some(Goal::Ratio(0.8)),
        notes: Vec::new(),
    })
}
