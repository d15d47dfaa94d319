//! Outputs of 64 KiB, beside writing as many bytes to the same disk one after the other.

use anyhow::Result;

use super::disk::write_and_sync;
use super::run::{Bench, Runner};
use super::table::{Figure, Goal, Unit};

const OUTPUT: u64 = 64 << 10;
/// A gibibyte.
const TASKS: u64 = 16_384;

/// MiB of outputs a second, recorded durably.
pub(crate) fn measure(bench: &Bench) -> Result<Vec<Figure>> {
    let title = "outputs of 64 KiB, Rust closure";
    let tasks = bench.tasks(TASKS);
    let mebibytes = (tasks * OUTPUT) as f64 / f64::from(1 << 20);
    let spec = format!("completions: {tasks}\nparallelism: 2\n{}", bench.library());
    let bytes = OUTPUT.to_string();
    let environment = [("BENCH_TASK", "zeros"), ("BENCH_BYTES", &bytes)];
    let harmony = || Ok(mebibytes / bench.run(&spec, &environment)?.batch);
    let plain = || Ok(mebibytes / write_and_sync(&bench.folder.join("sequential"), tasks * OUTPUT)?);
    let runners: Vec<Runner<'_>> = vec![
        ("Harmony".to_owned(), Box::new(harmony)),
        ("write and fsync".to_owned(), Box::new(plain)),
    ];
    Ok(vec![Figure {
        title: title.to_owned(),
        unit: Unit::MebibytesPerSecond,
        sides: bench.rounds(title, runners)?,
        goal: Some(Goal::Ratio(0.6)),
        notes: Vec::new(),
    }])
}
