//! `harmony run --metrics`, scraped while it runs and while its parts die.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests fail like tests"
)]

#[cfg(test)]
mod kit;

use std::net::SocketAddr;
use std::process::Command;
use std::time::Instant;

use kit::metrics::Scrape;
use kit::{Bench, PATIENCE, Run, wait_for};
use serde_json::{Value, json};

/// Tasks of the batch that loses its parts; each of them whose number ends in 7 fails.
const TASKS: u64 = 300;
const FAILING: u64 = TASKS / 10;
/// The last one waits for the test.
const GATED: u64 = TASKS - 1;

/// Where a run says that its metrics are, as the last one said it.
fn address(run: &Run) -> SocketAddr {
    let place = |line: &str| {
        line.strip_prefix("metrics: http://")?
            .strip_suffix("/metrics")?
            .parse()
            .ok()
    };
    wait_for("the address of the metrics", PATIENCE, || {
        run.said().lines().rev().find_map(place)
    })
}

fn start(bench: &Bench) -> (Run, SocketAddr) {
    let before = said(bench).matches("metrics: ").count();
    let run = bench.start_with(&["--metrics", "127.0.0.1:0"]);
    wait_for("an address", PATIENCE, || {
        (run.said().matches("metrics: ").count() > before).then_some(())
    });
    let at = address(&run);
    (run, at)
}

fn said(bench: &Bench) -> String {
    std::fs::read_to_string(bench.path("stderr")).unwrap_or_default()
}

/// Scrapes until something holds.
fn scrape_until(what: &str, at: SocketAddr, holds: impl Fn(&Scrape) -> bool) -> Scrape {
    wait_for(what, PATIENCE, || Scrape::take(at).filter(&holds))
}

/// What the program itself says of the batch.
fn status(bench: &Bench) -> Value {
    let output = Command::new(env!("CARGO_BIN_EXE_harmony"))
        .args(["status", "./out", "-o", "json"])
        .current_dir(bench.path(""))
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let object: Value = serde_json::from_slice(&output.stdout).unwrap();
    object["status"]["tasks"].clone()
}

#[test]
fn a_run_shows_its_batch_and_its_parts_at_one_address() {
    let bench = Bench::with(&json!({
        "completions": 20, "parallelism": 2,
        "executor": {"exec": {"command": ["sh", "-c", "test $HARMONY_TASK -lt 10 || while ! test -e go; do sleep 0.05; done; echo $HARMONY_TASK"]}},
    }));
    let (run, at) = start(&bench);
    let batch = [("namespace", "local"), ("batch", "test")];
    let of_batch =
        |scrape: &Scrape, name: &str, label, value| scrape.value(name, &[batch[0], batch[1], (label, value)]);
    let scrape = scrape_until("ten results, and both workers busy", at, |scrape| {
        let tasks = |state| of_batch(scrape, "harmony_batch_tasks", "state", state);
        let parts = scrape.of("harmony_part_up", &[]);
        // The parts are asked first.
        let collector = [("part", "collector"), ("state", "succeeded")];
        let recorded = scrape.value("harmony_collector_tasks", &collector);
        parts == [1.0; 3]
            && recorded == Some(10)
            && scrape.of("harmony_worker_slots", &[("state", "busy")]) == [1.0, 1.0]
            && tasks("succeeded") == Some(10)
            && of_batch(scrape, "harmony_workers", "state", "busy") == Some(2)
    });
    scrape.assert_clean();
    scrape.assert_documented();
    assert_eq!(scrape.value("harmony_batch_completions", &batch), Some(20));
    assert_eq!(of_batch(&scrape, "harmony_batch_info", "executor", "exec"), Some(1));
    assert!(scrape.value("harmony_batch_start_timestamp_seconds", &batch).is_some());
    let durations = scrape.value("harmony_task_duration_seconds_count", &[("part", "collector")]);
    assert_eq!(durations, Some(10));
    for part in ["run", "collector", "worker-0", "worker-1"] {
        let started = scrape.value("process_start_time_seconds", &[("part", part)]);
        assert!(started.is_some_and(|at| at > 0), "{part}");
    }

    let frozen = run.worker("worker-1");
    frozen.stop();
    let scrape = scrape_until("a part that does not answer", at, |scrape| {
        scrape.value("harmony_part_up", &[("part", "worker-1")]) == Some(0)
    });
    assert_eq!(scrape.value("harmony_part_up", &[("part", "worker-0")]), Some(1));
    assert!(scrape.of("harmony_worker_slots", &[("part", "worker-1")]).is_empty());
    frozen.resume();
    bench.write("go", "");
    run.wait().expect(0);
    assert!(Scrape::take(at).is_none(), "the run is over");
    bench.assert_nothing_left();
}

#[test]
fn an_address_that_cannot_be_used_is_said() {
    let bench = Bench::with(&json!({"completions": 1, "executor": {"exec": {"command": ["true"]}}}));
    let somebody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = somebody.local_addr().unwrap().to_string();
    let run = bench.start_with(&["--metrics", &taken]);
    run.wait().expect(2).says(&["--metrics", &taken]);
    bench.assert_nothing_left();
}

/// The counts of a batch at one scrape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Counts {
    succeeded: u64,
    failed: u64,
}

impl Counts {
    /// None before the run knows them. They add up, always.
    fn of(scrape: &Scrape) -> Option<Self> {
        let tasks = |state| scrape.value("harmony_batch_tasks", &[("state", state)]);
        let all = ["pending", "in_flight", "succeeded", "failed"].map(tasks);
        assert!(
            all.iter().all(Option::is_some) || all.iter().all(Option::is_none),
            "{all:?}"
        );
        let [pending, in_flight, succeeded, failed] = all;
        let (succeeded, failed) = (succeeded?, failed?);
        assert_eq!(pending? + in_flight? + succeeded + failed, TASKS);
        for (result, count) in [("succeeded", succeeded), ("failed", failed)] {
            let finished = scrape.value("harmony_tasks_finished_total", &[("result", result)]);
            assert_eq!(finished, Some(count), "{result}");
        }
        Some(Self { succeeded, failed })
    }

    /// Nothing in `later` is less.
    fn assert_kept_by(self, later: Self, what: &str) {
        let kept = self.succeeded <= later.succeeded && self.failed <= later.failed;
        assert!(kept, "{what}: {self:?}, then {later:?}");
    }
}

/// Scrapes until so many are settled, and holds each scrape against those before, and against the log after it.
struct Watcher<'a> {
    bench: &'a Bench,
    seen: Counts,
    scrapes: u64,
}

impl Watcher<'_> {
    fn watch(&mut self, at: SocketAddr, until: u64) {
        let give_up = Instant::now() + PATIENCE;
        while self.seen.succeeded + self.seen.failed < until {
            assert!(Instant::now() < give_up, "{:?} of {until}", self.seen);
            let Some(counts) = Scrape::take(at).as_ref().and_then(Counts::of) else {
                continue;
            };
            self.seen.assert_kept_by(counts, "two scrapes");
            self.seen = counts;
            self.scrapes += 1;
            let recorded = status(self.bench);
            let recorded = Counts {
                succeeded: recorded["succeeded"].as_u64().unwrap_or(0),
                failed: recorded["failed"].as_u64().unwrap_or(0),
            };
            counts.assert_kept_by(recorded, "a scrape, and the log after it");
        }
    }
}

#[test]
fn counts_agree_at_every_scrape_whatever_dies() {
    let script = format!(
        "sleep 0.005; case $HARMONY_TASK in *7) exit 3;; {GATED}) while ! test -e go; do sleep 0.05; done;; esac; echo $HARMONY_TASK"
    );
    let bench = Bench::with(&json!({
        "completions": TASKS, "parallelism": 2, "backoffLimitPerIndex": 0,
        "executor": {"exec": {"command": ["sh", "-c", script]}},
    }));
    let (mut run, mut at) = start(&bench);
    let seen = Counts {
        succeeded: 0,
        failed: 0,
    };
    let mut watcher = Watcher {
        bench: &bench,
        seen,
        scrapes: 0,
    };
    watcher.watch(at, 20);
    run.worker("worker-0").kill();
    watcher.watch(at, 70);
    run.collector().kill();
    watcher.watch(at, 130);
    run.kill();
    (run, at) = start(&bench);
    watcher.watch(at, 180);
    run.collector().kill();
    run.worker("worker-1").kill();
    watcher.watch(at, GATED);

    let quiet = Counts {
        succeeded: TASKS - 1 - FAILING,
        failed: FAILING,
    };
    assert_eq!(watcher.seen, quiet);
    println!("{} scrapes", watcher.scrapes);
    let recorded = status(&bench);
    assert_eq!(recorded["succeeded"], quiet.succeeded);
    assert_eq!(recorded["failed"], quiet.failed);
    let scrape = scrape_until("the collector", at, |scrape| {
        scrape.value("harmony_part_up", &[("part", "collector")]) == Some(1)
    });
    for (state, count) in [("succeeded", quiet.succeeded), ("failed", quiet.failed)] {
        let labels = [("part", "collector"), ("state", state)];
        assert_eq!(scrape.value("harmony_collector_tasks", &labels), Some(count), "{state}");
    }
    bench.write("go", "");
    run.wait().expect(1);
    let outcome = bench.outcome();
    assert_eq!(outcome.succeeded.len() as u64, quiet.succeeded + 1);
    assert_eq!(outcome.failed.len() as u64, quiet.failed);
    assert_eq!(status(&bench)["succeeded"], quiet.succeeded + 1);
    assert_eq!(status(&bench)["failed"], quiet.failed);
    bench.assert_nothing_left();
}
