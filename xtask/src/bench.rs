//! `cargo xtask bench`: what something costs. Both sides run in turns, so that whatever else the machine does hits both.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::ValueEnum;

use crate::cluster;
use crate::context::Context;

/// What is compared.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Subject {
    /// A run that logs to a file and is asked for its metrics every second, with one that does neither.
    Metrics,
}

/// Runs of each side.
const PAIRS: usize = 10;
/// Through one warm filter they take some six seconds on two cores.
const TASKS: u64 = 5_000_000;
/// Prometheus asks every half minute; this is thirty times as often.
const SCRAPE_EVERY: Duration = Duration::from_secs(1);

/// Runs the pairs and prints each, both medians, and their ratio.
pub(crate) fn bench(context: &Context, subject: Subject) -> Result<ExitCode> {
    let Subject::Metrics = subject;
    let program = cluster::build_harmony(context, "release")?;
    let folder = context.cache.join("bench");
    fs::create_dir_all(&folder)?;
    let batch = format!(
        "apiVersion: harmony.dev/v1alpha1\nkind: HarmonyBatch\nmetadata: {{name: cost}}\nspec:\n  completions: {TASKS}\n  \
         executor: {{process: {{command: [cat]}}}}\n"
    );
    fs::write(folder.join("batch.yaml"), batch)?;
    let (mut with, mut without) = (Vec::new(), Vec::new());
    println!("{TASKS} tasks through one warm filter; seconds from start to end\n pair    with  without");
    for pair in 1..=PAIRS {
        let watched = run(context, &program, &folder, true)?;
        let alone = run(context, &program, &folder, false)?;
        println!("{pair:5} {watched:7.2}  {alone:7.2}");
        with.push(watched);
        without.push(alone);
    }
    let (with, without) = (median(with), median(without));
    println!("median {with:6.2}  {without:7.2}  ratio {:.3}", with / without);
    fs::remove_dir_all(&folder)?;
    Ok(ExitCode::SUCCESS)
}

/// The seconds that one run takes.
fn run(context: &Context, program: &Path, folder: &Path, watched: bool) -> Result<f64> {
    let (output, socket) = (folder.join("out"), folder.join("metrics"));
    let _ = fs::remove_dir_all(&output);
    let mut command = context.command(program);
    command
        .arg("run")
        .arg(folder.join("batch.yaml"))
        .arg("--quiet")
        .arg("--output")
        .arg(&output);
    if watched {
        command.arg("--metrics").arg(format!("unix:{}", socket.display()));
    }
    let level = if watched { "info" } else { "off" };
    command
        .env("HARMONY_LOG", level)
        .stderr(File::create(folder.join("log"))?);
    let begun = Instant::now();
    let mut child = command.spawn()?;
    let (over, ended) = channel::<()>();
    let scraper = thread::spawn(move || {
        let mut scrapes = 0;
        while watched && ended.recv_timeout(SCRAPE_EVERY) == Err(RecvTimeoutError::Timeout) {
            scrapes += usize::from(scrape(&socket).is_ok_and(|text| text.contains("harmony_batch_tasks")));
        }
        scrapes
    });
    let status = child.wait()?;
    let seconds = begun.elapsed().as_secs_f64();
    drop(over);
    let scrapes = scraper.join().ok().context("the scraper has ended early")?;
    ensure!(status.success(), "the run ended with {status}");
    ensure!(!watched || scrapes > 0, "no scrape was answered");
    Ok(seconds)
}

fn scrape(socket: &Path) -> Result<String> {
    let mut stream = UnixStream::connect(socket)?;
    stream.write_all(b"GET /metrics HTTP/1.0\r\nHost: run\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let upper = values.get(middle).copied().unwrap_or(f64::NAN);
    if values.len() % 2 == 1 {
        return upper;
    }
    values
        .get(middle.wrapping_sub(1))
        .map_or(upper, |lower| f64::midpoint(*lower, upper))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        for (values, middle) in [(vec![3.0, 1.0, 2.0], 2.0), (vec![4.0, 1.0, 2.0, 9.0], 3.0)] {
            assert!((median(values) - middle).abs() < 1e-9);
        }
    }
}
