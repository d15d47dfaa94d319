//! Small tasks through a Rust closure, beside the plain pipeline of libzmq: how much durability costs, if anything.

use std::cell::RefCell;
use std::fs;

use anyhow::{Context as _, Result};

use super::peer;
use super::run::{Bench, Runner, Timing};
use super::table::{Figure, Goal, Unit};

/// Tasks of one run: a second or two on two cores, so that the start of processes is small beside it.
const TASKS: u64 = 4_000_000;
const WORKERS: usize = 2;

/// 100-byte tasks that come back as they are.
pub(crate) fn closure(bench: &Bench) -> Result<Vec<Figure>> {
    let title = "100-byte tasks, Rust closure";
    measure(bench, title, (&"x".repeat(100), "echo"), 100, Goal::Ratio(1.3))
}

/// Empty tasks with empty results.
pub(crate) fn empty(bench: &Bench) -> Result<Vec<Figure>> {
    let title = "empty tasks, Rust closure";
    measure(bench, title, ("", "empty"), 16, Goal::Ratio(2.0))
}

fn measure(bench: &Bench, title: &str, (line, work): (&str, &str), bytes: usize, goal: Goal) -> Result<Vec<Figure>> {
    let tasks = bench.tasks(TASKS);
    let lines = bench.folder.join("tasks.txt");
    let count = usize::try_from(tasks).context("tasks")?;
    fs::write(&lines, format!("{line}\n").repeat(count))?;
    let spec = format!(
        "completions: {tasks}\nparallelism: {WORKERS}\ntasks: {{lines: {{path: tasks.txt}}}}\n{}",
        bench.library()
    );
    let timings = RefCell::new(Vec::<Timing>::new());
    let harmony = || {
        let timing = bench.run(&spec, &[("BENCH_TASK", work)])?;
        timings.borrow_mut().push(timing);
        Ok(tasks as f64 / timing.batch)
    };
    let pipeline = peer::pipeline(bench);
    let mut runners: Vec<Runner<'_>> = vec![("Harmony".to_owned(), Box::new(harmony))];
    if let Some(program) = &pipeline {
        let rate = move || peer::pipeline_rate(bench, program, tasks, bytes, WORKERS);
        runners.push((format!("libzmq, {bytes} bytes"), Box::new(rate)));
    }
    let sides = bench.rounds(title, runners)?;
    let notes = pipeline
        .is_none()
        .then(|| "libzmq is missing: install libzmq3-dev and a C compiler".to_owned());
    let main = Figure {
        title: title.to_owned(),
        unit: Unit::PerSecond,
        sides,
        goal: Some(goal),
        notes: notes.into_iter().collect(),
    };
    fs::remove_file(&lines)?;
    let timings = timings.into_inner();
    let rates = |seconds: fn(&Timing) -> f64| timings.iter().map(|timing| tasks as f64 / seconds(timing)).collect();
    let results = Figure::alone(
        &format!("{title}: writing results.ndjson and joblog.tsv, after DONE"),
        Unit::PerSecond,
        rates(|timing| timing.results),
        None,
    );
    let process = Figure::alone(
        &format!("{title}: the whole process, from its start to its end"),
        Unit::PerSecond,
        rates(|timing| timing.process),
        None,
    );
    Ok(vec![main, results, process])
}
