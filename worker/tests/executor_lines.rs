//! `process` with `lines`: a warm process per slot.

#[cfg(test)]
#[path = "executor/harness.rs"]
mod harness;

use std::{
    fs,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use harmony_protocol::wire::OutcomeCode;
use harmony_worker::executor::{Finished, Setup};

use crate::harness::{Bench, Task, kept_task, lines, task, wait_until};

fn sh(script: &str) -> Setup {
    lines(&["sh", "-c", script])
}

/// A filter that dies of the line `poison` and upper-cases any other, slowly enough for lines to pile up behind it.
const FRAGILE: &str = r#"while IFS= read -r line; do
    case $line in
    poison) echo "choked on $line" >&2; exit 9;;
    leave) exit 0;;
    esac
    echo "<$line>"
done"#;

fn number_lines(from: u64, to: u64) -> Vec<Task> {
    (from..to).map(|number| task(number, number.to_string())).collect()
}

/// Submits all tasks, never more at once than the window, and gives the outcomes by number.
fn run(bench: &mut Bench, tasks: Vec<Task>) -> Vec<Finished> {
    let (count, window) = (tasks.len(), bench.executor.window());
    let mut tasks = tasks.into_iter();
    let (mut sent, mut all) = (0, Vec::with_capacity(count));
    while all.len() < count {
        let room = window - (sent - all.len());
        let next: Vec<_> = tasks.by_ref().take(room).collect();
        sent += next.len();
        if !next.is_empty() {
            bench.submit(next);
        }
        all.extend(bench.finished(1));
    }
    all.sort_by_key(|finished| finished.number);
    assert!(
        all.is_sorted_by(|one, next| one.number < next.number),
        "a number was answered twice"
    );
    all
}

#[test]
fn a_hundred_thousand_lines_come_back_byte_for_byte() {
    let mut bench = Bench::start(Setup {
        slots: 2,
        ..lines(&["cat"])
    });
    let bytes: Vec<u8> = (0..=255).filter(|byte| *byte != b'\n').collect();
    let payload = |number: u64| -> Vec<u8> {
        let at = usize::try_from(number).unwrap();
        bytes
            .iter()
            .cycle()
            .skip(at % 255)
            .take(at * 7919 % 97)
            .copied()
            .collect()
    };
    let tasks = (0..100_000).map(|number| task(number, payload(number))).collect();
    for (number, finished) in (0..).zip(run(&mut bench, tasks)) {
        assert_eq!((finished.number, finished.outcome), (number, OutcomeCode::Succeeded));
        assert_eq!(finished.output, payload(number), "number {number}");
    }
}

#[test]
fn a_line_loses_only_its_lf() {
    let mut bench = Bench::start(lines(&["cat"]));
    let big = vec![b'z'; 1 << 20];
    for payload in [&b""[..], b"\r", b"a\r", b"\0\xff\xfe", b" x ", &big] {
        let finished = bench.run_one(Bytes::copy_from_slice(payload));
        assert!(finished.output == payload, "{} bytes", finished.output.len());
    }
    let long = bench.run_one(vec![b'z'; 3 << 20]);
    let spooled = long.spooled.map(|spooled| spooled.length);
    assert_eq!((spooled, long.output.len()), (Some(3 << 20), 0));
}

#[test]
fn a_payload_with_a_line_feed_is_refused_at_once() {
    let mut bench = Bench::start(lines(&["cat"]));
    bench.submit(vec![task(0, "good"), task(1, "a\nb"), task(2, "fine")]);
    let finished = bench.finished(3);
    assert_eq!(finished[1].outcome, OutcomeCode::ExecutorError);
    assert!(String::from_utf8_lossy(&finished[1].log).contains("line feed"));
    assert_eq!(
        (finished[0].output.as_ref(), finished[2].output.as_ref()),
        (&b"good"[..], &b"fine"[..])
    );
}

#[test]
fn a_payload_that_is_kept_is_a_line_among_others() {
    let setup = lines(&["sed", "-u", "s/x*$//"]);
    let spool = Arc::clone(&setup.spool);
    let mut bench = Bench::start(setup);
    let long = |head: &[u8]| [head, &vec![b'x'; 2_000_000]].concat();
    bench.submit(vec![
        task(0, "a"),
        kept_task(&spool, 1, 7, &long(b"b")),
        kept_task(&spool, 2, 8, &long(b"c\n")),
        task(3, "dx"),
        kept_task(&spool, 4, 9, &long(b"e")),
    ]);
    let mut finished = bench.finished(5);
    finished.sort_by_key(|task| task.number);
    assert_eq!(finished[2].outcome, OutcomeCode::ExecutorError);
    assert!(String::from_utf8_lossy(&finished[2].log).contains("line feed"));
    let answers: Vec<_> = [0, 1, 3, 4].map(|at| finished[at].output.as_ref()).to_vec();
    assert_eq!(answers, [b"a", b"b", b"d", b"e"]);
}

#[test]
fn a_refused_payload_leaves_its_place_to_the_next() {
    let mut bench = Bench::start(sh("while read line; do sleep 0.05; echo $line; done"));
    // From now on only one is sent at a time.
    bench.run_one("slow");
    bench.submit(vec![task(0, "a\nb"), task(1, "next")]);
    let outcomes: Vec<_> = bench.finished(2).iter().map(|finished| finished.outcome).collect();
    assert_eq!(outcomes, [OutcomeCode::ExecutorError, OutcomeCode::Succeeded]);
}

#[test]
fn the_process_stays_warm_and_knows_its_batch() {
    let mut bench = Bench::start(sh("while read line; do echo $$ $HARMONY_BATCH $HARMONY_UID; done"));
    let first = bench.run_one("").output;
    assert!(String::from_utf8_lossy(&first).ends_with(&format!(" test {}", harness::UID)));
    assert_eq!(bench.run_one("").output, first);
}

#[test]
fn only_the_poisoned_lines_are_charged() {
    let mut bench = Bench::start(sh(FRAGILE));
    let is_bad = |number: u64| number % 700 == 650;
    let tasks = (0..2000)
        .map(|number| {
            if is_bad(number) {
                task(number, "poison")
            } else {
                task(number, number.to_string())
            }
        })
        .collect();
    for finished in run(&mut bench, tasks) {
        if is_bad(finished.number) {
            assert_eq!((finished.outcome, finished.code), (OutcomeCode::ExitCode, 9));
            assert_eq!(finished.log.as_ref(), b"choked on poison\n");
        } else {
            assert_eq!(finished.outcome, OutcomeCode::Succeeded, "{finished:?}");
            assert_eq!(finished.output, format!("<{}>", finished.number));
        }
    }
}

#[test]
fn a_clean_exit_with_tasks_outstanding_is_a_crash() {
    let mut bench = Bench::start(sh(FRAGILE));
    let mut tasks = number_lines(0, 400);
    tasks[300] = task(300, "leave");
    for finished in run(&mut bench, tasks) {
        if finished.number == 300 {
            assert_eq!((finished.outcome, finished.code), (OutcomeCode::ExitCode, 0));
            assert!(
                finished
                    .log
                    .starts_with(b"the process exited with 0 before it answered")
            );
        } else {
            assert_eq!(finished.outcome, OutcomeCode::Succeeded, "{finished:?}");
        }
    }
}

#[test]
fn a_process_that_serves_a_few_lines_and_leaves_is_started_again() {
    let mut bench = Bench::start(sh("for i in 1 2 3; do read line || exit 0; echo \"$line\"; done"));
    for finished in run(&mut bench, number_lines(0, 60)) {
        // With one line in flight as it leaves, that line is charged: the process took it to its end.
        let is_right = finished.output == finished.number.to_string();
        assert!(is_right || finished.outcome == OutcomeCode::ExitCode, "{finished:?}");
    }
}

#[test]
fn signals_are_told() {
    let mut bench = Bench::start(sh("read line; echo one; read line; kill -ABRT $$"));
    assert_eq!(bench.run_one("").outcome, OutcomeCode::Succeeded);
    let finished = bench.run_one("");
    assert_eq!((finished.outcome, finished.code), (OutcomeCode::Signal, 6));
}

#[test]
fn a_deadline_charges_only_the_oldest() {
    let script = "while read line; do [ $line = stuck ] && while :; do sleep 0.01; done; echo $line; done";
    let mut bench = Bench::start(Setup {
        deadline: Some(Duration::from_secs(1)),
        grace: Duration::from_millis(200),
        ..sh(script)
    });
    let mut tasks = number_lines(0, 500);
    tasks[400] = task(400, "stuck");
    for finished in run(&mut bench, tasks) {
        let expected = if finished.number == 400 {
            OutcomeCode::DeadlineExceeded
        } else {
            OutcomeCode::Succeeded
        };
        assert_eq!(finished.outcome, expected, "{finished:?}");
    }
}

#[test]
fn too_large_an_answer_fails_its_task_only() {
    let script = "while read line; do [ $line = big ] && head -c 2000 /dev/zero; [ $line = endless ] && exec cat /dev/zero; echo $line; done";
    let mut bench = Bench::start(Setup {
        max_output: 1000,
        ..sh(script)
    });
    let mut tasks = number_lines(0, 300);
    tasks[100] = task(100, "big");
    tasks[200] = task(200, "endless");
    for finished in run(&mut bench, tasks) {
        let expected = if [100, 200].contains(&finished.number) {
            OutcomeCode::ResultTooLarge
        } else {
            OutcomeCode::Succeeded
        };
        assert_eq!(finished.outcome, expected, "{finished:?}");
    }
    let exact = "a".repeat(1000);
    assert_eq!(bench.run_one(exact.clone()).output, exact);
}

#[test]
fn an_extra_line_restarts_the_process_with_a_warning() {
    let mut bench = Bench::start(sh(
        "while read line; do echo \"$line\"; done & sleep 0.2; echo extra; wait",
    ));
    assert!(bench.warning().contains("answers no task"));

    // Two lines written as one for a single task: nobody can tell which of them is the answer.
    let mut bench = Bench::start(sh(r#"while read line; do printf '%s\n%s\n' "$line" "$line"; done"#));
    let finished = bench.run_one("x");
    assert_eq!(finished.outcome, OutcomeCode::ExecutorError, "{finished:?}");
    assert!(bench.warning().contains("answers no task"));
}

#[test]
fn a_process_that_exits_at_once_breaks_the_executor() {
    for (script, words) in [
        ("echo no licence >&2; exit 3", ["exit status: 3", "no licence"]),
        ("read line; echo cannot >&2; exit 4", ["exit status: 4", "cannot"]),
        ("exit 0", ["exit status: 0", "nothing to stderr"]),
    ] {
        let mut bench = Bench::start(sh(script));
        bench.submit(number_lines(0, 100));
        let reason = bench.broken();
        assert!(words.iter().all(|word| reason.contains(word)), "{reason}");
        wait_until("all is handed back", || {
            if bench.finished.len() + bench.stopped.len() < 100 {
                bench.take_in();
            }
            bench.finished.len() + bench.stopped.len() == 100
        });
        assert!(bench.finished.len() <= 5, "{}", bench.finished.len());
    }
}

#[test]
fn a_filter_that_buffers_its_output_is_named() {
    let begin = Instant::now();
    let mut bench = Bench::start(lines(&["sed", "s/a/b/"]));
    bench.submit(number_lines(0, 10));
    let warning = bench.warning();
    assert!(
        ["sed", "buffers its output", "stdbuf -oL", "python -u"]
            .iter()
            .all(|word| warning.contains(word)),
        "{warning}"
    );
    assert!(begin.elapsed() >= Duration::from_secs(5));
}

#[test]
fn stopped_tasks_are_handed_back_and_the_others_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let script = format!(
        "while read line; do [ $line = wait ] && touch {0}/on && while [ ! -e {0}/go ]; do sleep 0.01; done; echo $line; done",
        folder.path().display()
    );
    let mut bench = Bench::start(Setup {
        grace: Duration::from_millis(100),
        ..sh(&script)
    });
    // Warm up, so that lines are sent ahead.
    run(&mut bench, number_lines(0, 300));
    let mut tasks = number_lines(1000, 1100);
    tasks.insert(0, task(999, "wait"));
    bench.submit(tasks);
    wait_until("it waits", || folder.path().join("on").exists());
    bench.executor.stop(&[999, 1050]);
    let stopped = bench.stopped(1);
    assert_eq!(stopped[0], (999, 1));
    let rest = 100 + 1 - 1;
    wait_until("all are answered", || {
        if bench.finished.len() + bench.stopped.len() + stopped.len() - 1 < rest {
            bench.take_in();
        }
        bench.finished.len() + bench.stopped.len() + stopped.len() - 1 == rest
    });
    assert!(
        bench
            .finished
            .iter()
            .all(|finished| finished.outcome == OutcomeCode::Succeeded)
    );

    bench.finished.clear();
    bench.stopped.clear();
    fs::remove_file(folder.path().join("on")).unwrap();
    let mut tasks = number_lines(2000, 2100);
    tasks.insert(0, task(1999, "wait"));
    bench.submit(tasks);
    wait_until("it waits again", || folder.path().join("on").exists());
    bench.executor.stop_all();
    assert_eq!(bench.stopped(101).len(), 101);
}

#[test]
fn dropping_the_executor_kills_the_processes() {
    let mut bench = Bench::start(sh("while read line; do echo $$; done"));
    let pid = String::from_utf8(bench.run_one("").output.to_vec()).unwrap();
    assert!(harness::is_running(&pid));
    drop(bench);
    assert!(!harness::is_running(&pid));
}

#[test]
fn a_process_that_closes_its_output_and_lingers_is_ended() {
    let mut bench = Bench::start(Setup {
        grace: Duration::from_millis(100),
        ..sh("read a; echo $a; read b; exec >&-; sleep 600")
    });
    assert_eq!(bench.run_one("a").outcome, OutcomeCode::Succeeded);
    let finished = bench.run_one("b");
    assert_eq!(finished.outcome, OutcomeCode::ExecutorError);
    assert!(
        String::from_utf8_lossy(&finished.log).contains("closed its standard"),
        "{finished:?}"
    );
}
