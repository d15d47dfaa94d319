//! Batches run by `harmony run`, and rounds of both sides.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use jiff::Timestamp;
use serde_json::Value;

use super::disk::DiskFacts;
use super::table::Side;
use crate::context::{Context, succeed};

/// What all benchmarks share.
pub(crate) struct Bench<'a> {
    pub(crate) context: &'a Context,
    /// Where batches and their outputs lie.
    pub(crate) folder: PathBuf,
    pub(crate) harmony: PathBuf,
    /// The worker of the crate `harmony-benches`.
    pub(crate) worker: PathBuf,
    pub(crate) disk: DiskFacts,
    pub(crate) rounds: usize,
    pub(crate) quick: bool,
}

/// What a run of a batch took, in seconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timing {
    /// From START to DONE: everything is recorded, durable and read back.
    pub(crate) batch: f64,
    /// From DONE to the end of the process: the results are written as lines.
    pub(crate) results: f64,
    /// The whole process.
    pub(crate) process: f64,
}

/// One side of a figure, to be run again and again.
pub(crate) type Runner<'a> = (String, Box<dyn FnMut() -> Result<f64> + 'a>);

impl<'a> Bench<'a> {
    /// Builds what is measured, as it is shipped, and looks at the disk.
    pub(crate) fn new(context: &'a Context, folder: &Path, rounds: usize, quick: bool) -> Result<Self> {
        succeed(context.cargo_locked("build").args([
            "--profile=dist",
            "--package=harmony",
            "--package=harmony-benches",
            "--bins",
        ]))?;
        fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        let folder = folder.canonicalize()?;
        let programs = context.target.join("dist");
        Ok(Self {
            context,
            disk: DiskFacts::of(context, &folder)?,
            folder,
            harmony: programs.join("harmony"),
            worker: programs.join("bench-worker"),
            rounds,
            quick,
        })
    }

    /// A number of tasks: a tenth in the quick form.
    pub(crate) fn tasks(&self, tasks: u64) -> u64 {
        if self.quick { tasks / 10 } else { tasks }
    }

    /// The command that runs a batch with this spec in an output folder that is not there yet.
    pub(crate) fn command(&self, spec: &str) -> Result<Command> {
        let output = self.output();
        if output.exists() {
            fs::remove_dir_all(&output)?;
        }
        let batch = self.folder.join("batch.yaml");
        let head = "apiVersion: harmony.dev/v1alpha1\nkind: HarmonyBatch\nmetadata: {name: bench}\nspec:\n";
        let indented = spec.replace('\n', "\n  ");
        fs::write(&batch, format!("{head}  {indented}\n"))?;
        let mut command = self.context.command(&self.harmony);
        command
            .arg("run")
            .arg(&batch)
            .arg("--output")
            .arg(&output)
            .arg("--quiet");
        command.env("HARMONY_LOG", "info").stderr(File::create(self.log())?);
        Ok(command)
    }

    pub(crate) fn output(&self) -> PathBuf {
        self.folder.join("output")
    }

    fn log(&self) -> PathBuf {
        self.folder.join("log")
    }

    /// The spec's line for the worker of these benchmarks.
    pub(crate) fn library(&self) -> String {
        format!("executor: {{library: {{command: [{}]}}}}", self.worker.display())
    }

    /// Runs a batch to its end, of which every task must succeed.
    pub(crate) fn run(&self, spec: &str, environment: &[(&str, &str)]) -> Result<Timing> {
        let mut command = self.command(spec)?;
        command.envs(environment.iter().copied());
        let (begun, child) = (Instant::now(), command.spawn());
        self.wait(begun, child.with_context(|| self.harmony.display().to_string())?)
    }

    /// Waits for a run and reads from its log when the batch began and ended.
    pub(crate) fn wait(&self, begun: Instant, mut child: Child) -> Result<Timing> {
        let status = child.wait()?;
        let process = begun.elapsed().as_secs_f64();
        let ended = Timestamp::now();
        let log = fs::read_to_string(self.log())?;
        let timing = timing(&log, status, ended)?;
        fs::remove_dir_all(self.output())?;
        Ok(Timing { process, ..timing })
    }

    /// Runs all sides in turns, so often as there are rounds, and shows each.
    pub(crate) fn rounds(&self, title: &str, runners: Vec<Runner<'_>>) -> Result<Vec<Side>> {
        let mut sides: Vec<Side> = Vec::new();
        let mut runs = Vec::new();
        for (name, run) in runners {
            let samples = Vec::new();
            sides.push(Side { name, samples });
            runs.push(run);
        }
        for round in 1..=self.rounds {
            for (side, run) in sides.iter_mut().zip(&mut runs) {
                println!("{title}, round {round} of {}: {}", self.rounds, side.name);
                // What one side has left to be written is not to slow the next one.
                rustix::fs::sync();
                side.samples
                    .push(run().with_context(|| format!("{title}: {}", side.name))?);
            }
        }
        Ok(sides)
    }

    /// Takes away what the batches left.
    pub(crate) fn clear(&self) -> Result<()> {
        fs::remove_dir_all(&self.folder).with_context(|| self.folder.display().to_string())
    }
}

/// When the batch began and ended, from the lines of its log.
fn timing(log: &str, status: ExitStatus, ended: Timestamp) -> Result<Timing> {
    ensure!(status.success(), "harmony run ended with {status}: {log}");
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let (mut begun, mut done) = (None, None);
    for line in lines {
        let time = line
            .get("timestamp")
            .and_then(Value::as_str)
            .and_then(|text| text.parse::<Timestamp>().ok());
        match line.get("message").and_then(Value::as_str) {
            Some("the batch is claimed") => begun = begun.or(time),
            Some("the batch is over") => done = time,
            _ => {}
        }
    }
    let (begun, done) = begun
        .zip(done)
        .with_context(|| format!("the log does not say when the batch ran: {log}"))?;
    Ok(Timing {
        batch: done.duration_since(begun).as_secs_f64(),
        results: ended.duration_since(done).as_secs_f64(),
        process: 0.0,
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;

    use super::*;

    #[test]
    fn the_clock_runs_from_start_to_done() {
        let log = "{\"timestamp\":\"2026-01-01T00:00:01.500000Z\",\"message\":\"the batch is claimed\"}\nnoise\n\
                   {\"timestamp\":\"2026-01-01T00:00:03Z\",\"message\":\"the batch is over\"}\n";
        let ended = "2026-01-01T00:00:03.250Z".parse().unwrap();
        let timing = timing(log, ExitStatus::from_raw(0), ended).unwrap();
        assert!((timing.batch - 1.5).abs() < 1e-9 && (timing.results - 0.25).abs() < 1e-9);
        assert!(super::timing(log, ExitStatus::from_raw(256), ended).is_err());
        assert!(super::timing("", ExitStatus::from_raw(0), ended).is_err());
    }
}
