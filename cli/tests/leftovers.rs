//! Nothing is left behind after success, failure, Ctrl-C or death: no process, no socket, no temporary file. What survives a
//! kill of everything at once is swept by the next run.
#![allow(clippy::unwrap_used)] // helpers of tests fail by it

#[cfg(test)]
mod kit;

use std::time::{Duration, Instant};

use kit::processes::Process;
use kit::{Bench, ENDED, PATIENCE, Run, STARTED, wait_for};
use serde_json::{Value, json};

/// Far below the 300 seconds of a task that hangs.
const SOON: Duration = Duration::from_secs(15);

fn exec(script: &str) -> Value {
    json!({"exec": {"command": ["sh", "-c", format!("n=$HARMONY_TASK; {script}")]}})
}

/// A batch whose tasks run until there is a file `go`, each with a process of its own in the background.
fn held() -> Bench {
    let script = format!("{STARTED}; sleep 300 & until [ -e go ]; do sleep 0.005; done; {ENDED}; printf done");
    Bench::with(&json!({"completions": 8, "parallelism": 2, "slotsPerWorker": 2, "executor": exec(&script)}))
}

/// Starts the batch and waits until four tasks run.
fn start_held(bench: &Bench) -> Run {
    let run = bench.start();
    bench.wait_for_marks("four tasks", |marks| marks.running(None).len() == 4);
    run
}

#[test]
fn nothing_is_left_after_success() {
    let bench = Bench::with(&json!({"completions": 50, "parallelism": 2, "executor": exec("sleep 300 & printf done")}));
    bench.run().expect(0).within(SOON);
    bench.assert_nothing_left();
}

#[test]
fn nothing_is_left_after_success_of_warm_processes() {
    let script = "sleep 300 & while read -r line; do echo done; done";
    let executor = json!({"process": {"command": ["sh", "-c", script]}});
    let bench = Bench::with(&json!({"completions": 50, "parallelism": 2, "executor": executor}));
    bench.run().expect(0).within(SOON);
    bench.assert_nothing_left();
}

/// A daemon leaves its group and its session; nobody but the run that adopted it can find it.
#[test]
fn a_daemon_that_a_task_started_does_not_outlive_the_run() {
    let bench =
        Bench::with(&json!({"completions": 4, "executor": exec("setsid sleep 300 >/dev/null 2>&1 & printf done")}));
    bench.run().expect(0).within(SOON);
    bench.assert_nothing_left();
}

#[test]
fn ctrl_c_lets_running_tasks_end_and_the_same_command_resumes() {
    let bench = held();
    let run = start_held(&bench);
    run.interrupt();
    run.wait_until_said("running tasks may end");
    bench.write("go", "");
    let ended = run
        .wait()
        .expect(130)
        .says(&["4 of 8 tasks are left; the same command resumes"]);
    assert!(!ended.said.contains("lost"), "{}", ended.said);
    bench.assert_nothing_left();
    let marks = bench.marks();
    assert_eq!(
        (marks.started.len(), marks.ended.len()),
        (4, 4),
        "nothing new starts after Ctrl-C"
    );
    let outcome = bench.outcome();
    assert_eq!(outcome.succeeded.len(), 4, "what is recorded can be read");
    bench.run().expect(0);
    bench.outcome().assert_all(8, |_| b"done".to_vec());
    assert_eq!(bench.marks().started.len(), 8, "nothing runs twice");
    bench.assert_nothing_left();
}

#[test]
fn a_second_ctrl_c_stops_at_once() {
    let bench = held();
    let run = start_held(&bench);
    run.interrupt();
    run.wait_until_said("running tasks may end");
    assert_eq!(bench.marks().running(None).len(), 4);
    run.interrupt();
    run.wait()
        .expect(130)
        .says(&["8 of 8 tasks are left; the same command resumes"])
        .within(SOON);
    bench.assert_nothing_left();
    bench.write("go", "");
    bench.run().expect(0);
    let outcome = bench.outcome();
    outcome.assert_all(8, |_| b"done".to_vec());
    assert!(
        outcome.succeeded.iter().all(|line| line.attempt == 1),
        "nobody is charged for Ctrl-C"
    );
}

#[test]
fn a_task_that_ignores_ctrl_c_ends_with_its_grace() {
    let script = format!("trap '' TERM; {STARTED}; until [ -e go ]; do sleep 0.05; done; printf done");
    let bench = Bench::with(&json!({"completions": 2, "executor": exec(&script)}));
    let run = bench.start_with(&["--grace", "1"]);
    bench.wait_for_marks("a task", |marks| marks.started.len() == 1);
    run.interrupt();
    run.wait().expect(130).within(SOON);
    bench.assert_nothing_left();
    bench.write("go", "");
    bench.run().expect(0);
    bench.outcome().assert_all(2, |_| b"done".to_vec());
}

#[test]
fn a_hangup_and_a_plain_kill_are_as_ctrl_c() {
    use rustix::process::Signal;
    for signal in [Signal::HUP, Signal::TERM] {
        let bench = held();
        let run = start_held(&bench);
        kit::processes::send(run.pid(), signal);
        run.wait_until_said("running tasks may end");
        bench.write("go", "");
        run.wait().expect(130);
        bench.assert_nothing_left();
    }
}

#[test]
fn parts_end_by_themselves_when_the_run_is_killed() {
    let bench = held();
    start_held(&bench).kill();
    bench.wait_for_nothing_left();
    assert!(bench.marks().ended.is_empty());
    bench.write("go", "");
    bench.run().expect(0);
    bench.outcome().assert_all(8, |_| b"done".to_vec());
    bench.assert_nothing_left();
}

/// A worker that is stuck in the kernel, or stopped, cannot end by itself; it ends as soon as it can.
#[test]
fn a_frozen_worker_ends_after_the_run_when_it_wakes() {
    let bench = held();
    let run = start_held(&bench);
    let frozen = run.worker("worker-0");
    frozen.stop();
    run.kill();
    wait_for("all but the frozen to end", PATIENCE, || {
        let living = bench.living();
        let mut parts = living
            .iter()
            .filter(|process| process.is_worker() || process.is_collector());
        parts.all(|part| part.pid == frozen.pid).then_some(())
    });
    frozen.resume();
    bench.wait_for_nothing_left();
}

#[test]
fn what_survives_a_kill_of_everything_is_swept_by_the_next_run() {
    let bench = held();
    let mut run = start_held(&bench);
    let parts = run.parts();
    assert_eq!(parts.len(), 3);
    // Frozen, so that nobody mends anything in between.
    kit::processes::send(run.pid(), rustix::process::Signal::STOP);
    parts.iter().for_each(Process::kill);
    assert!(run.lives());
    run.kill();
    let orphans = bench.living();
    assert!(orphans.len() >= 4, "tasks go on: {orphans:?}");
    assert_eq!(std::fs::read_dir(bench.path("tmp")).unwrap().count(), 1);
    let run = bench.start();
    bench.wait_for_marks("the tasks to start again", |marks| marks.started.len() == 8);
    assert!(orphans.iter().all(|orphan| !orphan.lives()), "{:?}", bench.living());
    assert_eq!(
        std::fs::read_dir(bench.path("tmp")).unwrap().count(),
        1,
        "the old sockets are gone"
    );
    bench.write("go", "");
    run.wait().expect(0);
    bench.outcome().assert_all(8, |_| b"done".to_vec());
    bench.assert_nothing_left();
}

/// The tasks of a killed worker would go on beside their second start.
#[test]
fn the_tasks_of_a_killed_worker_die_too() {
    let bench = held();
    let run = start_held(&bench);
    let tasks = |worker: i32| -> Vec<Process> {
        let below = |process: &Process| process.parent == worker;
        bench.living().into_iter().filter(below).collect()
    };
    let victim = run.worker("worker-1");
    let orphans = tasks(victim.pid);
    assert_eq!(orphans.len(), 2);
    victim.kill();
    wait_for("the orphans to die", SOON, || {
        orphans.iter().all(|orphan| !orphan.lives()).then_some(())
    });
    bench.write("go", "");
    run.wait().expect(0);
    bench.outcome().assert_all(8, |_| b"done".to_vec());
    bench.assert_nothing_left();
}

/// Writing the files takes long for a large batch.
#[test]
fn ctrl_c_while_the_files_are_written_leaves_none_half() {
    // As long as outputs can be that still stand in the file.
    let bench = Bench::with(&json!({"completions": 64, "executor": exec("head -c 1000000 /dev/zero | tr '\\0' x")}));
    bench.run().expect(0);
    std::fs::remove_file(bench.output().join("results.ndjson")).unwrap();
    let part = bench.output().join("results.ndjson.part");
    // The same command writes them anew. Where it is too quick to be hit, it is tried again.
    let stopped = (0..50).any(|_| {
        let mut run = bench.start();
        let give_up = Instant::now() + PATIENCE;
        while run.lives() && !part.exists() && Instant::now() < give_up {}
        run.interrupt();
        run.wait().code == Some(130)
    });
    assert!(stopped);
    bench.assert_nothing_left();
    bench.run().expect(0);
    bench.outcome().assert_all(64, |_| vec![b'x'; 1_000_000]);
}

/// Runs that start side by side share a folder for temporary files, and sweep it.
#[test]
fn many_runs_at_once_do_not_disturb_each_other() {
    let bench = Bench::with(&json!({"completions": 5, "parallelism": 2, "executor": exec("printf done")}));
    for _ in 0..3 {
        let outputs: Vec<String> = (0..8).map(|run| format!("out-{run}")).collect();
        let runs: Vec<Run> = outputs.iter().map(|output| bench.start_into(output)).collect();
        for run in runs {
            run.wait().expect(0);
        }
        bench.assert_nothing_left();
        for output in outputs {
            std::fs::remove_dir_all(bench.path(&output)).unwrap();
        }
    }
}
