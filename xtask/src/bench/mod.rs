//! `cargo xtask bench`: how fast Harmony is beside the tools that people use today, and what it costs.
//!
//! Both sides of a figure run in turns, so that whatever else the machine does hits both; what counts is the ratio of
//! their medians.

#![allow(clippy::cast_precision_loss, reason = "counts of tasks are far below 2^52")]

mod disk;
mod exec;
mod filter;
mod growth;
mod losses;
mod metrics;
mod outputs;
mod peer;
mod pipeline;
mod run;
mod scrape;
mod table;

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::ValueEnum;

use self::run::Bench;
use self::table::{Figure, Report};
use crate::context::Context;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Subject {
    /// Tasks of 100 bytes through a Rust closure, recorded durably, beside a pipeline of plain libzmq that loses data.
    Closure,
    /// The same with empty tasks and results, beside that pipeline at 16 bytes.
    Empty,
    /// A process per task, beside xargs and GNU parallel.
    Exec,
    /// Lines through a Python filter, beside the same filter fed by a plain pipe.
    Lines,
    /// Outputs of 64 KiB, beside writing as much to the same disk.
    Outputs,
    /// From the death of a worker process until its tasks are out again.
    Worker,
    /// From the death of the collector of 10^7 results until it serves again.
    Collector,
    /// The cost of a task from 10^5 tasks to 10^8, as a picture.
    Growth,
    /// A run that logs to a file and is asked for its metrics every second, with one that does neither: ten pairs.
    Metrics,
}

/// Options of `cargo xtask bench`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// What is measured; everything if nothing is named.
    #[arg(value_enum, value_name = "SUBJECT")]
    subjects: Vec<Subject>,
    /// A tenth of the tasks and one round, to see that everything runs. Its figures mean nothing.
    #[arg(long)]
    quick: bool,
    /// Keeps the figures here as well, as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// The folder for batches: on a real disk, with 12 GiB of room.
    #[arg(long, value_name = "DIR")]
    folder: Option<PathBuf>,
}

/// Runs each side of a figure so often, and takes the median.
const ROUNDS: usize = 5;

/// Measures what is asked for, prints a table and keeps the figures.
pub(crate) fn bench(context: &Context, arguments: &Arguments) -> Result<ExitCode> {
    let folder = arguments.folder.clone().unwrap_or_else(|| context.cache.join("bench"));
    let bench = Bench::new(
        context,
        &folder,
        if arguments.quick { 1 } else { ROUNDS },
        arguments.quick,
    )?;
    let mut report = Report::new(bench.disk.clone());
    println!("{}\n", report.machine());
    let wanted = |subject: &Subject| arguments.subjects.is_empty() || arguments.subjects.contains(subject);
    for subject in Subject::value_variants().iter().filter(|subject| wanted(subject)) {
        for figure in measure(&bench, *subject)? {
            println!("{figure}\n");
            report.add(figure);
        }
    }
    println!("{report}");
    let json = arguments
        .json
        .clone()
        .unwrap_or_else(|| context.cache.join("bench.json"));
    fs::write(&json, report.json()?).with_context(|| json.display().to_string())?;
    println!("kept in {}", json.display());
    bench.clear()?;
    Ok(ExitCode::SUCCESS)
}

fn measure(bench: &Bench, subject: Subject) -> Result<Vec<Figure>> {
    match subject {
        Subject::Closure => pipeline::closure(bench),
        Subject::Empty => pipeline::empty(bench),
        Subject::Exec => exec::measure(bench),
        Subject::Lines => filter::measure(bench),
        Subject::Outputs => outputs::measure(bench),
        Subject::Worker => losses::worker(bench),
        Subject::Collector => losses::collector(bench),
        Subject::Growth => growth::measure(bench),
        Subject::Metrics => metrics::measure(bench),
    }
}
