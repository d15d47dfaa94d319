//! Random kill -9, SIGSTOP and SIGCONT of any part, at random moments: every batch ends complete, nothing missing, nothing
//! twice, bytes right, nothing left behind.
//!
//! `HARMONY_SCHEDULES` sets how many schedules are played, `HARMONY_SEED` the first seed: one schedule is played again
//! with the seed that a failure prints.
#![allow(clippy::unwrap_used)] // helpers of tests fail by it

#[cfg(test)]
mod kit;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;
use kit::processes::Process;
use kit::{Bench, ENDED, Marks, PATIENCE, Run, STARTED};
use serde_json::{Value, json};

/// Schedules played at once: most of their time is spent waiting.
const AT_ONCE: usize = 6;
/// Schedules that must hit work in flight, if nothing else is asked for.
const SCHEDULES: u64 = 200;
/// The long form.
const MANY: u64 = 3_000;
/// The most blows of a schedule. Three deaths of its workers make a number suspect; it then runs alone, and a fourth one is
/// charged to it: from outside, a kill looks as if the task had done it.
const MOST_BLOWS: u32 = 4;
/// The longest time that a worker stays frozen: longer than a link may be silent.
const FROZEN: Duration = Duration::from_secs(7);

/// What is hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Blow {
    Worker,
    AllWorkers,
    Collector,
    WorkerAndCollector,
    Run,
    RunAndWorker,
    Everything,
    Freeze,
}

const BLOWS: [Blow; 8] = [
    Blow::Worker,
    Blow::AllWorkers,
    Blow::Collector,
    Blow::WorkerAndCollector,
    Blow::Run,
    Blow::RunAndWorker,
    Blow::Everything,
    Blow::Freeze,
];

/// How often each blow hit work in flight, and what it cost.
#[derive(Debug, Default)]
struct Tally {
    hits: BTreeMap<Blow, u64>,
    tasks: u64,
    starts: u64,
    /// The time of the slowest schedule, and its seed.
    slowest: (Duration, u64),
}

/// A batch and what happens to it, all drawn from a seed.
struct Schedule {
    rng: Rng,
    bench: Bench,
    completions: u64,
    tally: Tally,
}

/// Shell code of a task: some milliseconds, and an output that says its number, of a size that depends on it. The task of
/// a worker that is killed just after it started the process finds no payload, and its answer goes nowhere.
fn script(warm: bool, seconds: f64) -> String {
    let task = format!(
        "{STARTED}; sleep {seconds}; {ENDED}; w=$((n % 90 + 1)); [ $((n % 20)) = 7 ] && w=20000; printf '%s:%0*d' \"$n\" $w 3"
    );
    if warm {
        format!("while read -r n rest; do {task}; echo; done")
    } else {
        format!("read -r n rest; [ \"$n\" ] || exit 1; {task}")
    }
}

fn answer(number: u64) -> Vec<u8> {
    let width = if number % 20 == 7 {
        20_000
    } else {
        usize::try_from(number % 90 + 1).unwrap()
    };
    format!("{number}:{:0width$}", 3).into_bytes()
}

impl Schedule {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let completions = rng.u64(10..=300);
        let bench = Bench::new();
        let (warm, from_lines) = (rng.bool(), rng.bool());
        let script = script(warm, f64::from(rng.u32(1..=8)) / 1000.0);
        let kind = if warm { "process" } else { "exec" };
        let tasks = if from_lines {
            json!({"lines": {"path": "lines"}})
        } else {
            json!({"range": {}})
        };
        if from_lines {
            let lines: Vec<String> = (0..completions)
                .map(|number| format!("{number} of the lines\n"))
                .collect();
            bench.write("lines", lines.concat());
        }
        let spec: Value = json!({
            "completions": completions,
            "parallelism": rng.u32(1..=3),
            "slotsPerWorker": rng.u32(1..=2),
            "backoffLimitPerIndex": MOST_BLOWS,
            "tasks": tasks,
            "executor": {kind: {"command": ["sh", "-c", script]}},
        });
        bench.batch(&spec);
        Self {
            rng,
            bench,
            completions,
            tally: Tally::default(),
        }
    }

    fn play(mut self) -> Tally {
        let mut run = self.bench.start();
        for _ in 0..self.rng.u32(1..=MOST_BLOWS) {
            if !self.wait_for_progress(&mut run) {
                break;
            }
            thread::sleep(Duration::from_micros(self.rng.u64(0..6_000)));
            let blow = *self.rng.choice(&BLOWS).unwrap();
            run = self.strike(blow, run);
        }
        run.wait().expect(0);
        let outcome = self.bench.outcome();
        outcome.assert_all(self.completions, answer);
        let mut rows = outcome.joblog.iter();
        let charged = rows.find(|row| !matches!(row.outcome.as_str(), "Succeeded" | "WorkerLost"));
        assert_eq!(charged, None, "charged, though nobody died");
        self.bench.wait_for_nothing_left();
        self.tally.tasks = self.completions;
        self.tally.starts = self.bench.marks().started.len() as u64;
        self.tally
    }

    /// Waits until some more tasks have started; `false` if the batch ends before.
    fn wait_for_progress(&mut self, run: &mut Run) -> bool {
        let started = self.bench.marks().started.len() as u64;
        let goal = started + self.rng.u64(1..=self.completions.div_ceil(2));
        let give_up = Instant::now() + PATIENCE;
        loop {
            if !run.lives() {
                return false;
            }
            if self.bench.marks().started.len() as u64 >= goal {
                return true;
            }
            assert!(Instant::now() < give_up, "no progress, and it said: {}", run.said());
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Strikes, counts the blow if it hit work in flight, and starts the run again if it is gone.
    fn strike(&mut self, blow: Blow, mut run: Run) -> Run {
        let parts = run.parts();
        let (workers, collector): (Vec<Process>, Vec<Process>) = parts.into_iter().partition(Process::is_worker);
        let some = self.rng.choice(&workers).into_iter();
        let (workers_hit, collector_hit, run_hit) = match blow {
            Blow::Worker | Blow::Freeze => (some.collect(), false, false),
            Blow::AllWorkers => (workers.iter().collect(), false, false),
            Blow::Collector => (Vec::new(), true, false),
            Blow::WorkerAndCollector => (some.collect(), true, false),
            Blow::Run => (Vec::new(), false, true),
            Blow::RunAndWorker => (some.collect(), false, true),
            Blow::Everything => (workers.iter().collect(), true, true),
        };
        if blow == Blow::Freeze {
            workers_hit.iter().copied().for_each(Process::stop);
        } else {
            workers_hit.iter().copied().for_each(Process::kill);
        }
        if collector_hit {
            collector.iter().for_each(Process::kill);
        }
        // The run ends last, as somebody who kills one by one would see it: it may begin to mend things before.
        let gone = run_hit && run.lives();
        if gone {
            run.kill();
            run = self.bench.start();
        }
        let hit = if collector_hit || run_hit {
            workers.iter().collect()
        } else {
            workers_hit.clone()
        };
        if is_busy(&self.bench.marks(), &hit) {
            *self.tally.hits.entry(blow).or_default() += 1;
        }
        if blow == Blow::Freeze {
            let most = if self.rng.u8(0..12) == 0 {
                FROZEN
            } else {
                Duration::from_millis(300)
            };
            thread::sleep(most.mul_f64(self.rng.f64()));
            workers_hit.iter().copied().for_each(Process::resume);
        }
        run
    }
}

/// Whether one of these workers had a task running.
fn is_busy(marks: &Marks, workers: &[&Process]) -> bool {
    workers.iter().any(|worker| !marks.running(Some(worker.pid)).is_empty())
}

/// Plays schedules until so many have hit work in flight.
fn play_many(schedules: u64) {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let schedules = number("HARMONY_SCHEDULES").unwrap_or(schedules);
    let first = number("HARMONY_SEED").unwrap_or_else(|| u64::from(fastrand::u32(..)));
    println!("{schedules} schedules from seed {first}");
    let (next, hit) = (AtomicU64::new(first), AtomicU64::new(0));
    let failed = Mutex::new(Vec::new());
    let total = Mutex::new(Tally::default());
    let worker = || {
        while hit.load(Ordering::Relaxed) < schedules && failed.lock().unwrap().is_empty() {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            assert!(seed < first + 2 * schedules + 10, "most schedules hit nothing");
            let began = Instant::now();
            match catch_unwind(AssertUnwindSafe(|| Schedule::new(seed).play())) {
                Ok(mut tally) => {
                    tally.slowest = (began.elapsed(), seed);
                    hit.fetch_add(u64::from(!tally.hits.is_empty()), Ordering::Relaxed);
                    add(&mut total.lock().unwrap(), tally);
                }
                Err(_) => failed.lock().unwrap().push(seed),
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(worker);
        }
    });
    let (total, failed) = (total.into_inner().unwrap(), failed.into_inner().unwrap());
    println!("{total:?}");
    assert!(
        failed.is_empty(),
        "play again with HARMONY_SCHEDULES=1 HARMONY_SEED=one of {failed:?}"
    );
    if schedules >= SCHEDULES {
        let missed = BLOWS.iter().filter(|blow| !total.hits.contains_key(blow));
        assert_eq!(missed.count(), 0, "a kind of blow never hit work in flight: {total:?}");
    }
}

fn add(total: &mut Tally, tally: Tally) {
    for (blow, hits) in tally.hits {
        *total.hits.entry(blow).or_default() += hits;
    }
    total.tasks += tally.tasks;
    total.starts += tally.starts;
    total.slowest = total.slowest.max(tally.slowest);
}

#[test]
fn batches_survive_random_kills() {
    play_many(SCHEDULES);
}

#[test]
#[ignore = "takes an hour"]
fn batches_survive_very_many_random_kills() {
    play_many(MANY);
}
