//! The tools that Harmony is compared with: run if they are installed, else said to be missing.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};

use super::run::Bench;
use crate::context::{output, works};

/// The pipeline of plain libzmq. `None` where there is no C compiler, or no libzmq to build against.
pub(crate) fn pipeline(bench: &Bench) -> Option<PathBuf> {
    let program = bench.folder.join("pipeline");
    let source = bench.context.root.join("xtask/src/bench/pipeline.c");
    let mut compiler = bench.context.command("cc");
    let built = works(compiler.arg("-O2").arg("-o").arg(&program).arg(&source).arg("-lzmq"));
    built.then_some(program)
}

/// Tasks a second through that pipeline.
pub(crate) fn pipeline_rate(bench: &Bench, program: &PathBuf, tasks: u64, bytes: usize, workers: usize) -> Result<f64> {
    let arguments = [tasks.to_string(), bytes.to_string(), workers.to_string()];
    let seconds = output(bench.context.command(program).args(arguments))?;
    let seconds: f64 = seconds
        .trim()
        .parse()
        .with_context(|| format!("the pipeline said {seconds:?}"))?;
    Ok(tasks as f64 / seconds)
}

/// Whether a program is there.
pub(crate) fn is_installed(bench: &Bench, program: &str) -> bool {
    works(bench.context.command(program).arg("--version"))
}

/// The seconds that a line of shell takes.
pub(crate) fn shell_seconds(bench: &Bench, line: &str) -> Result<f64> {
    let mut shell: Command = bench.context.command("sh");
    shell
        .arg("-c")
        .arg(line)
        .current_dir(&bench.folder)
        .stdout(Stdio::null());
    let begun = Instant::now();
    let status = shell.status()?;
    ensure!(status.success(), "{line:?} ended with {status}");
    Ok(begun.elapsed().as_secs_f64())
}
