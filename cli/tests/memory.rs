//! Memory does not grow: not with the number of tasks, and not while a part, or the disk, is slow or stands still.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // helpers of tests fail by it

#[cfg(test)]
mod kit;

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use kit::memory::peak;
use kit::processes::Process;
use kit::{Bench, PATIENCE, Run, wait_for};
use serde_json::json;

/// What each process may take at most, whatever happens.
const MOST: u64 = 256 << 20;
/// How long something stands still: long enough for everybody else to fill what there is to fill, and shorter than the
/// silence after which a link is given up.
const STANDS_STILL: Duration = Duration::from_secs(4);
/// Bytes of the log at which it stops, so that the batch is in full swing.
const BEGUN: u64 = 8 << 20;
/// Tasks whose answers take far more than [`MOST`], in all.
const TASKS: u64 = 400_000;
const ANSWER: usize = 1_000;
/// Disk that a task with an empty answer takes in log and results, at most.
const DISK_PER_TASK: u64 = 160;

/// A batch of a filter that answers each line with so many bytes, and reads many lines at a time.
fn batch(tasks: u64, answer: usize) -> Bench {
    let filter = format!(
        "import os, sys
answer, out = b'x' * {answer} + b'\\n', sys.stdout.buffer
while some := os.read(0, 65536):
    out.write(answer * some.count(b'\\n'))
    out.flush()"
    );
    Bench::with(&json!({
        "completions": tasks,
        "parallelism": 2,
        "slotsPerWorker": 1,
        "executor": {"process": {"command": ["python3", "-c", filter]}},
    }))
}

/// The most that the run, its collector and its workers have taken, by name.
#[derive(Debug, Default)]
struct Peaks {
    run: u64,
    collector: u64,
    workers: u64,
}

impl Peaks {
    fn look(&mut self, run: &Run) {
        let most = |known: &mut u64, pid| *known = peak(pid).unwrap_or_default().max(*known);
        most(&mut self.run, run.pid());
        for part in run.parts() {
            let known = if part.is_collector() {
                &mut self.collector
            } else {
                &mut self.workers
            };
            most(known, part.pid);
        }
    }

    fn check(&self) {
        let [run, collector, workers] = [self.run, self.collector, self.workers].map(|bytes| bytes >> 20);
        println!("MiB at most: run {run}, collector {collector}, a worker {workers}");
        for bytes in [self.run, self.collector, self.workers] {
            assert!((1..=MOST).contains(&bytes), "{self:?}");
        }
    }
}

/// Follows a run to its end.
fn follow(mut run: Run, peaks: &mut Peaks, patience: Duration) {
    let give_up = Instant::now() + patience;
    while run.lives() {
        assert!(Instant::now() < give_up, "it still runs: {}", run.said());
        peaks.look(&run);
        std::thread::sleep(Duration::from_millis(20)); // between two looks
    }
    run.wait().expect(0);
}

fn lines(path: &Path) -> u64 {
    let lines = BufReader::with_capacity(1 << 20, File::open(path).unwrap()).split(b'\n');
    lines.map(Result::unwrap).count() as u64
}

/// A batch of so many tasks with empty answers.
fn empty_tasks(tasks: u64, patience: Duration) {
    let bench = batch(tasks, 0);
    let free = rustix::fs::statvfs(bench.path("")).unwrap();
    let needed = tasks * DISK_PER_TASK;
    if free.f_bavail * free.f_frsize < needed {
        assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "no disk");
        return println!("skipped, since it needs {} GiB of disk", needed >> 30);
    }
    let (began, mut peaks) = (Instant::now(), Peaks::default());
    follow(bench.start(), &mut peaks, patience);
    println!("{tasks} tasks in {:.1?}", began.elapsed());
    peaks.check();
    assert_eq!(lines(&bench.output().join("results.ndjson")), tasks);
}

#[test]
fn ten_million_tasks_take_bounded_memory() {
    empty_tasks(10_000_000, Duration::from_mins(10));
}

#[test]
#[ignore = "takes minutes, and 15 GiB of disk"]
fn a_hundred_million_tasks_take_bounded_memory() {
    empty_tasks(100_000_000, Duration::from_hours(1));
}

#[test]
#[ignore = "takes an hour, and 150 GiB of disk"]
fn a_billion_tasks_take_bounded_memory() {
    empty_tasks(1_000_000_000, Duration::from_hours(10));
}

fn bytes_in(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let size = |entry: fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => bytes_in(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    };
    entries.map(size).sum()
}

/// Something stands still in the middle of a batch with large answers: the batch waits, nothing grows, and all goes on.
fn stands_still(bench: &Bench, stop: impl FnOnce(&Run) -> Box<dyn FnOnce()>) {
    let (run, mut peaks) = (bench.start(), Peaks::default());
    let log = bench.output().join("log");
    wait_for("a batch in full swing", PATIENCE, || {
        (bytes_in(&log) > BEGUN).then_some(())
    });
    let goes_on = stop(&run);
    let began = Instant::now();
    while began.elapsed() < STANDS_STILL {
        peaks.look(&run); // the fault itself takes its time
        std::thread::sleep(Duration::from_millis(20));
    }
    let done = bytes_in(&log);
    goes_on();
    assert!(!bench.output().join("results.ndjson").exists(), "it was over before");
    follow(run, &mut peaks, PATIENCE);
    println!("{} MiB were recorded by then", done >> 20);
    peaks.check();
    assert_eq!(lines(&bench.output().join("results.ndjson")), TASKS);
}

fn is_stopped(part: impl FnOnce(&Run) -> Process) {
    let bench = batch(TASKS, ANSWER);
    stands_still(&bench, |run| {
        let part = part(run);
        part.stop();
        Box::new(move || part.resume())
    });
    bench.assert_nothing_left();
}

#[test]
fn a_collector_that_stands_still_lets_nothing_grow() {
    is_stopped(Run::collector);
}

#[test]
fn a_worker_that_stands_still_lets_nothing_grow() {
    is_stopped(|run| run.worker("worker-0"));
}

#[test]
fn a_ventilator_that_stands_still_lets_nothing_grow() {
    let bench = batch(TASKS, ANSWER);
    stands_still(&bench, |run| {
        let pid = run.pid();
        kit::processes::send(pid, rustix::process::Signal::STOP);
        Box::new(move || kit::processes::send(pid, rustix::process::Signal::CONT))
    });
    bench.assert_nothing_left();
}

/// A file system of its own, so that only what is in it stands still.
struct Disk(PathBuf);

impl Disk {
    /// `None`, and the reason said, where that cannot be done.
    fn mount(at: &Path, image: &Path) -> Option<Self> {
        fs::create_dir_all(at).unwrap();
        File::create(image).unwrap().set_len(2 << 30).unwrap();
        let run = |command: &mut Command| command.output().map_err(|error| error.to_string());
        let made = run(Command::new("mkfs.ext4").arg("-q").arg(image));
        let mounted = made.and_then(|_| run(Command::new("mount").args(["-o", "loop"]).arg(image).arg(at)));
        let reason = match mounted {
            Ok(mounted) if mounted.status.success() => return Some(Self(at.to_owned())),
            Ok(mounted) => String::from_utf8_lossy(&mounted.stderr).into_owned(),
            Err(reason) => reason,
        };
        assert!(
            std::env::var_os("CI").is_none_or(|ci| ci != "true"),
            "no disk: {reason}"
        );
        println!("skipped, since there is no disk to freeze: {reason}");
        None
    }
}

fn freeze(how: &str, at: &Path) {
    let done = Command::new("fsfreeze").arg(how).arg(at).status().unwrap();
    assert!(done.success(), "fsfreeze {how}");
}

impl Drop for Disk {
    fn drop(&mut self) {
        // On failure it may be frozen, and something may still run in it.
        let _ = Command::new("fsfreeze").arg("--unfreeze").arg(&self.0).output();
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

#[test]
fn a_disk_that_stands_still_lets_nothing_grow() {
    let bench = batch(TASKS, ANSWER);
    let log = bench.output().join("log");
    let Some(_disk) = Disk::mount(&log, &bench.path("image")) else {
        return;
    };
    stands_still(&bench, |_| {
        freeze("--freeze", &log);
        let log = log.clone();
        Box::new(move || freeze("--unfreeze", &log))
    });
}
