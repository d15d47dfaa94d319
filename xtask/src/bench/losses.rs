//! How soon a batch goes on after a process of it was killed.

use std::fs;
use std::process::{Child, Command};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

use super::run::Bench;
use super::scrape::{scrape, serve, socket, sum};
use super::table::{Figure, Goal, Unit};

/// How often is looked, which is the resolution of these figures.
const LOOK_EVERY: Duration = Duration::from_millis(1);
/// Longer than anything that is waited for takes.
const PATIENCE: Duration = Duration::from_mins(2);
/// Results that the log of a collector holds when it dies.
const RECORDED: u64 = 10_000_000;
/// What a worker has in hand when it dies is sent again within this, in milliseconds.
const RESENT_WITHIN: f64 = 100.0;
/// A collector serves again within this, in milliseconds.
const SERVING_WITHIN: f64 = 1_000.0;

/// Milliseconds from the death of a worker until the first of its tasks are sent again.
pub(crate) fn worker(bench: &Bench) -> Result<Vec<Figure>> {
    let spec = format!("completions: 2000\nparallelism: 2\n{}", bench.library());
    let sample = || {
        let mut command = bench.command(&spec)?;
        watched(bench, command.env("BENCH_TASK", "pause"), |run| {
            let resent = |text: &str| sum(text, "harmony_tasks_resent_total", "") > Some(0.0);
            // Both are at work.
            until(bench, |text| {
                sum(text, "harmony_batch_tasks", "state=\"succeeded\"") >= Some(100.0)
            })?;
            let (killed, begun) = (kill_child(run, "bench-worker")?, Instant::now());
            until(bench, resent).with_context(|| format!("process {} was killed", killed.as_raw_nonzero()))?;
            Ok(begun.elapsed())
        })
    };
    let title = "a worker is killed: its tasks are sent again after";
    figure(bench, title, RESENT_WITHIN, sample)
}

/// Milliseconds from the death of a collector that has recorded 10^7 results until it serves again.
pub(crate) fn collector(bench: &Bench) -> Result<Vec<Figure>> {
    let recorded = bench.tasks(RECORDED);
    // The first one does not end before it may, and the worker that runs it has some others in hand.
    let completions = recorded + recorded / 50;
    let spec = format!("completions: {completions}\nparallelism: 2\n{}", bench.library());
    let gate = bench.folder.join("gate");
    let sample = || {
        let mut command = bench.command(&spec)?;
        let command = command.env("BENCH_TASK", "hold").env("BENCH_GATE", &gate);
        let took = watched(bench, command, |run| {
            let all = |text: &str| sum(text, "harmony_collector_tasks", "state=\"succeeded\"") >= Some(recorded as f64);
            until(bench, all)?;
            let (killed, begun) = (kill_child(run, "collector")?, Instant::now());
            while children(run, "collector")?.iter().all(|child| *child == killed) {
                ensure!(begun.elapsed() < PATIENCE, "no collector was started again");
                sleep(LOOK_EVERY);
            }
            until(bench, all)?;
            let took = begun.elapsed();
            fs::write(&gate, "")?;
            Ok(took)
        })?;
        fs::remove_file(&gate)?;
        Ok(took)
    };
    let title = format!("the collector of {recorded} results is killed: it serves again after");
    figure(bench, &title, SERVING_WITHIN, sample)
}

fn figure(bench: &Bench, title: &str, most: f64, sample: impl Fn() -> Result<Duration>) -> Result<Vec<Figure>> {
    let mut samples = Vec::new();
    for round in 1..=bench.rounds {
        println!("{title}, round {round} of {}", bench.rounds);
        samples.push(sample().context(title.to_owned())?.as_secs_f64() * 1e3);
    }
    let goal = Some(Goal::AtMost(most));
    Ok(vec![Figure::alone(title, Unit::Milliseconds, samples, goal)])
}

/// Measures something of a run that serves its metrics, and waits for its end.
fn watched(bench: &Bench, command: &mut Command, measure: impl FnOnce(&Child) -> Result<Duration>) -> Result<Duration> {
    serve(command, &socket(bench));
    let begun = Instant::now();
    let mut run = command.spawn().with_context(|| bench.harmony.display().to_string())?;
    let took = match measure(&run) {
        Ok(took) => took,
        Err(error) => {
            run.kill()?;
            run.wait()?;
            return Err(error);
        }
    };
    bench.wait(begun, run)?;
    Ok(took)
}

/// Waits until the metrics say so.
fn until(bench: &Bench, test: impl Fn(&str) -> bool) -> Result<()> {
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        // The run is not there yet, or is at its end.
        if scrape(&socket(bench)).is_ok_and(|text| test(&text)) {
            return Ok(());
        }
        sleep(LOOK_EVERY);
    }
    bail!("the metrics do not tell it within {PATIENCE:?}")
}

/// Kills a process of a run, and says which.
fn kill_child(run: &Child, name: &str) -> Result<Pid> {
    let child = children(run, name)?;
    let child = child
        .first()
        .with_context(|| format!("the run has no process {name}"))?;
    kill_process(*child, Signal::KILL)?;
    Ok(*child)
}

/// The processes of a run that have this word in their command.
fn children(run: &Child, word: &str) -> Result<Vec<Pid>> {
    let mut found = Vec::new();
    for task in fs::read_dir(format!("/proc/{}/task", run.id()))? {
        let children = fs::read_to_string(task?.path().join("children")).unwrap_or_default();
        for child in children.split_whitespace() {
            let command = fs::read(format!("/proc/{child}/cmdline")).unwrap_or_default();
            if String::from_utf8_lossy(&command).contains(word) {
                found.extend(Pid::from_raw(child.parse()?));
            }
        }
    }
    Ok(found)
}
