//! Many seeds on all cores, each on one thread from its beginning to its end.

use std::num::NonZero;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::report::Sum;
use crate::broken::{Broken, catch};
use crate::{Outcome, run};

/// How far to go.
#[derive(Clone, Copy, Debug)]
pub enum Limit {
    /// As many seeds.
    Seeds(u64),
    /// No new seed after this time.
    Time(Duration),
}

/// What came of many seeds.
#[derive(Debug, Default)]
pub struct Runs {
    /// The sum over those that broke no rule.
    pub sum: Sum,
    /// Those that broke one, in order.
    pub broken: Vec<(u64, Broken)>,
}

/// Runs seeds on all cores; unless all are to be run, none begins after one has failed.
pub fn run_seeds(from: u64, limit: Limit, all: bool) -> Runs {
    let began = Instant::now();
    let progress = bar(limit);
    let (next, stop) = (AtomicU64::new(from), AtomicBool::new(false));
    let (tell, told) = mpsc::channel();
    let mut runs = Runs::default();
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, NonZero::get) {
            let tell = tell.clone();
            let (next, stop) = (&next, &stop);
            scope.spawn(move || {
                while let Some(seed) = another(next, stop, from, limit, began) {
                    // The receiver lives as long as the scope.
                    let _ = tell.send((seed, catch(|| run(seed, false))));
                }
            });
        }
        drop(tell);
        for (seed, result) in told {
            runs.add(seed, result);
            progress.inc(1);
            progress.set_message(format!("{} failed", runs.broken.len()));
            stop.store(!all && !runs.broken.is_empty(), Ordering::Relaxed);
        }
    });
    progress.finish_and_clear();
    runs.broken.sort_by_key(|(seed, _)| *seed);
    runs.sum.took = began.elapsed();
    runs
}

fn another(next: &AtomicU64, stop: &AtomicBool, from: u64, limit: Limit, began: Instant) -> Option<u64> {
    let seed = next.fetch_add(1, Ordering::Relaxed);
    let within = match limit {
        Limit::Seeds(count) => seed - from < count,
        Limit::Time(time) => began.elapsed() < time,
    };
    (within && !stop.load(Ordering::Relaxed)).then_some(seed)
}

impl Runs {
    fn add(&mut self, seed: u64, result: Result<Outcome, Broken>) {
        match result {
            Ok(outcome) => self.sum.add(&outcome),
            Err(broken) => {
                self.sum.failed += 1;
                self.broken.push((seed, broken));
            }
        }
    }
}

/// A line on a terminal, nothing elsewhere.
fn bar(limit: Limit) -> ProgressBar {
    let (bar, template) = match limit {
        Limit::Seeds(count) => (
            ProgressBar::new(count),
            "{bar:30} {pos}/{len} seeds, {per_sec}, {eta} left, {msg}",
        ),
        Limit::Time(_) => (
            ProgressBar::new_spinner(),
            "{spinner} {pos} seeds, {per_sec}, {elapsed}, {msg}",
        ),
    };
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
