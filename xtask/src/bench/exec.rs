//! A process per task: /bin/true, two at a time.

use anyhow::Result;

use super::peer::{is_installed, shell_seconds};
use super::run::{Bench, Runner};
use super::table::{Figure, Goal, Unit};

const TASKS: u64 = 10_000;
/// GNU parallel takes some five milliseconds of processor time for each.
const PARALLEL_TASKS: u64 = 1_000;

/// Tasks a second, beside xargs and GNU parallel.
pub(crate) fn measure(bench: &Bench) -> Result<Vec<Figure>> {
    let title = "exec of /bin/true, 2 slots";
    let tasks = bench.tasks(TASKS);
    let few = bench.tasks(PARALLEL_TASKS);
    let spec = format!(
        "completions: {tasks}\nparallelism: 1\nslotsPerWorker: 2\nexecutor: {{exec: {{command: [/bin/true]}}}}"
    );
    let harmony = || Ok(tasks as f64 / bench.run(&spec, &[])?.batch);
    let xargs = || Ok(tasks as f64 / shell_seconds(bench, &format!("seq {tasks} | xargs -P 2 -n 1 /bin/true"))?);
    let parallel =
        || Ok(few as f64 / shell_seconds(bench, &format!("seq {few} | parallel --will-cite -j 2 /bin/true"))?);
    let mut runners: Vec<Runner<'_>> = vec![
        ("Harmony".to_owned(), Box::new(harmony)),
        ("xargs -P 2 -n 1".to_owned(), Box::new(xargs)),
    ];
    let mut notes = Vec::new();
    if is_installed(bench, "parallel") {
        runners.push(("GNU parallel -j 2".to_owned(), Box::new(parallel)));
    } else {
        notes.push("GNU parallel is missing: install parallel".to_owned());
    }
    Ok(vec![Figure {
        title: title.to_owned(),
        unit: Unit::PerSecond,
        sides: bench.rounds(title, runners)?,
        goal: Some(Goal::Ratio(1.4)),
        notes,
    }])
}
