//! What metrics and logs cost: a run that logs to a file and is asked for its metrics every second, with one that does neither.

use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::run::Bench;
use super::scrape::{scrape, serve, socket};
use super::table::{Figure, Goal, Side, Unit};

/// Runs of each side.
const PAIRS: usize = 10;
/// Through one warm filter they take some six seconds on two cores.
const TASKS: u64 = 5_000_000;
/// Prometheus asks every half minute; this is thirty times as often.
const SCRAPE_EVERY: Duration = Duration::from_secs(1);
/// At most three per cent may be lost.
const LEAST: f64 = 0.97;

/// Tasks a second of both, the whole process: the one that is not watched tells nothing but its end.
pub(crate) fn measure(bench: &Bench) -> Result<Vec<Figure>> {
    let title = "metrics and logs: watched runs beside unwatched ones";
    let pairs = if bench.quick { 1 } else { PAIRS };
    let tasks = bench.tasks(TASKS);
    let mut sides = ["Harmony, watched", "unwatched"].map(|name| Side {
        name: name.to_owned(),
        samples: Vec::new(),
    });
    for pair in 1..=pairs {
        println!("{title}, pair {pair} of {pairs}");
        for (side, watched) in sides.iter_mut().zip([true, false]) {
            side.samples.push(tasks as f64 / run(bench, tasks, watched)?);
        }
    }
    Ok(vec![Figure {
        title: title.to_owned(),
        unit: Unit::PerSecond,
        sides: sides.into(),
        goal: Some(Goal::Ratio(LEAST)),
        notes: Vec::new(),
    }])
}

/// The seconds that one run takes.
fn run(bench: &Bench, tasks: u64, watched: bool) -> Result<f64> {
    let socket = socket(bench);
    let mut command = bench.command(&format!(
        "completions: {tasks}\nexecutor: {{process: {{command: [cat]}}}}"
    ))?;
    if watched {
        serve(&mut command, &socket);
    } else {
        command.env("HARMONY_LOG", "off");
    }
    let begun = Instant::now();
    let mut child = command.spawn()?;
    let (over, ended) = channel::<()>();
    let scraper = thread::spawn(move || scrapes(&socket, watched, &ended));
    let status = child.wait()?;
    let seconds = begun.elapsed().as_secs_f64();
    drop(over);
    let scrapes = scraper.join().ok().context("the scraper has ended early")?;
    ensure!(status.success(), "the run ended with {status}");
    ensure!(!watched || bench.quick || scrapes > 0, "no scrape was answered");
    Ok(seconds)
}

fn scrapes(socket: &Path, watched: bool, ended: &std::sync::mpsc::Receiver<()>) -> usize {
    let mut scrapes = 0;
    while watched && ended.recv_timeout(SCRAPE_EVERY) == Err(RecvTimeoutError::Timeout) {
        scrapes += usize::from(scrape(socket).is_ok_and(|text| text.contains("harmony_batch_tasks")));
    }
    scrapes
}
