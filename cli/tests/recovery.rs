//! How soon a batch goes on after a worker died or froze, and what the late results of a frozen one do.
#![allow(clippy::unwrap_used)] // helpers of tests fail by it

#[cfg(test)]
mod kit;

use std::time::{Duration, Instant};

use kit::processes::Process;
use kit::{Bench, Marks, PATIENCE, Run, STARTED, wait_for};
use serde_json::json;

/// Ten times the figure aimed at: 100 ms from the kill to the next start.
const NEXT_START: Duration = Duration::from_secs(1);
/// Silence of five seconds is death; nothing is to be waited for after that, but the machine may be busy.
const PASSED_OVER: Duration = Duration::from_secs(6);
/// Silence that every link would be given up for, if it were counted.
const LONG_SILENCE: Duration = Duration::from_secs(7);

/// A batch of two tasks on two workers. At its first start number 0 does what the given shell code says; number 1 ends
/// when there is a file `end`.
fn batch_with(code: &str) -> Bench {
    let script = format!(
        "n=$HARMONY_TASK; first=
        [ $n = 0 ] && mkdir first 2>/dev/null && first=yes
        {STARTED}
        [ $n = 1 ] && until [ -e end ]; do sleep 0.005; done
        if [ $first ]; then {code}; fi
        printf done"
    );
    Bench::with(&json!({
        "completions": 2,
        "parallelism": 2,
        "slotsPerWorker": 2,
        "executor": {"exec": {"command": ["sh", "-c", script]}},
    }))
}

/// The worker at which number 0 started, once both have.
fn worker_of_number_0(bench: &Bench, run: &Run) -> Process {
    let marks = bench.wait_for_marks("both tasks", |marks| marks.starts_of(0) + marks.starts_of(1) == 2);
    let started = marks.started.iter().find(|mark| mark.number == 0).unwrap().worker;
    run.workers().into_iter().find(|worker| worker.pid == started).unwrap()
}

/// How long it takes until number 0 starts a second time.
fn time_to_second_start(bench: &Bench) -> Duration {
    let began = Instant::now();
    bench.wait_for_marks("the second start", |marks: &Marks| marks.starts_of(0) == 2);
    began.elapsed()
}

#[test]
fn the_numbers_of_a_dead_worker_go_out_again_at_once() {
    let mut times: Vec<Duration> = (0..10)
        .map(|_| {
            let bench = batch_with("sleep 300");
            let run = bench.start();
            worker_of_number_0(&bench, &run).kill();
            let time = time_to_second_start(&bench);
            bench.write("end", "");
            run.wait().expect(0);
            bench.outcome().assert_all(2, |_| b"done".to_vec());
            bench.assert_nothing_left();
            time
        })
        .collect();
    times.sort_unstable();
    println!("from kill -9 to the next start: {times:?}");
    assert!(times.iter().all(|time| *time < NEXT_START), "{times:?}");
}

#[test]
fn a_frozen_worker_is_passed_over_and_its_late_result_is_harmless() {
    // Another answer than at the second start: whether the late one came in can be seen by what is said of it.
    let bench = batch_with("until [ -e thawed ]; do sleep 0.005; done; printf late; exit 0");
    let run = bench.start();
    let frozen = worker_of_number_0(&bench, &run);
    frozen.stop();
    let time = time_to_second_start(&bench);
    println!("from SIGSTOP to the next start: {time:?}");
    assert!(time < PASSED_OVER, "{time:?}");
    bench.write("thawed", "");
    frozen.resume();
    run.wait_until_said("answered differently when it ran again; the first answer stands");
    assert!(frozen.lives());
    bench.write("end", "");
    run.wait().expect(0);
    bench.outcome().assert_all(2, |_| b"done".to_vec());
    bench.assert_nothing_left();
}

/// A laptop that was closed: nobody may judge the silence of others, and nothing runs twice.
#[test]
fn a_machine_that_sleeps_costs_nothing() {
    let script = format!("n=$HARMONY_TASK; {STARTED}; sleep 0.1; printf done");
    let bench = Bench::with(&json!({
        "completions": 40,
        "parallelism": 2,
        "activeDeadlineSecondsPerIndex": 5,
        "backoffLimitPerIndex": 0,
        "executor": {"exec": {"command": ["sh", "-c", script]}},
    }));
    let run = bench.start();
    bench.wait_for_marks("some tasks", |marks| marks.started.len() > 5);
    let everybody = bench.living();
    assert!(everybody.len() >= 4, "{everybody:?}");
    everybody.iter().for_each(Process::stop);
    std::thread::sleep(LONG_SILENCE);
    everybody.iter().for_each(Process::resume);
    let ended = run.wait().expect(0);
    assert!(!ended.said.contains("lost"), "{}", ended.said);
    bench.outcome().assert_all(40, |_| b"done".to_vec());
    assert_eq!(bench.marks().started.len(), 40);
}

/// Collector and run may be frozen as well; the batch goes on when they do.
#[test]
fn a_frozen_collector_and_a_frozen_run_only_cost_time() {
    let script = format!("n=$HARMONY_TASK; {STARTED}; sleep 0.02; printf done");
    for freezes_run in [false, true] {
        let bench = Bench::with(&json!({
            "completions": 100,
            "parallelism": 2,
            "backoffLimitPerIndex": 0,
            "executor": {"exec": {"command": ["sh", "-c", script]}},
        }));
        let run = bench.start();
        bench.wait_for_marks("some tasks", |marks| marks.started.len() > 5);
        let frozen = if freezes_run {
            let all = bench.living();
            all.into_iter().find(|process| process.pid == run.pid()).unwrap()
        } else {
            run.collector()
        };
        frozen.stop();
        std::thread::sleep(LONG_SILENCE);
        frozen.resume();
        run.wait().expect(0);
        bench.outcome().assert_all(100, |_| b"done".to_vec());
        bench.assert_nothing_left();
    }
}

#[test]
fn a_run_without_workers_waits_for_them() {
    let bench = batch_with("sleep 300");
    let run = bench.start();
    worker_of_number_0(&bench, &run);
    for _ in 0..5 {
        let before = run.workers();
        before.iter().for_each(Process::kill);
        wait_for("new workers", PATIENCE, || {
            let now = run.workers();
            let all_new = now.iter().all(|worker| !before.contains(worker));
            (now.len() == 2 && all_new).then_some(())
        });
    }
    bench.write("end", "");
    run.wait().expect(0);
    bench.outcome().assert_all(2, |_| b"done".to_vec());
}
