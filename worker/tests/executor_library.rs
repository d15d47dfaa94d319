//! `library`: a closure on a thread per slot.

#[cfg(test)]
#[path = "executor/harness.rs"]
mod harness;

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use harmony_protocol::{
    limits::{INLINE_BYTES, LOG_TAIL},
    wire::OutcomeCode,
};
use harmony_worker::executor::{ExecutorEvent, Setup, Task, prepare};

use crate::harness::{Bench, closure, kept_task, task};

#[test]
fn the_closure_gets_its_task_and_its_answer_comes_back() {
    let mut bench = Bench::library(&Setup { slots: 2, ..closure() }, |task| {
        Ok([
            format!("{}/{}/{}:", task.batch, task.number, task.attempt).as_bytes(),
            task.payload,
        ]
        .concat())
    });
    bench.submit(
        (0..2000)
            .map(|number| Task {
                attempt: 2,
                ..task(number, vec![0, 255, b'\n'])
            })
            .collect(),
    );
    for (number, finished) in (0..).zip(bench.finished(2000)) {
        assert_eq!(
            (finished.number, finished.attempt, finished.outcome),
            (number, 2, OutcomeCode::Succeeded)
        );
        assert_eq!(
            finished.output,
            [format!("test/{number}/2:").as_bytes(), &[0, 255, b'\n']].concat()
        );
    }
}

#[test]
fn the_closure_gets_a_payload_that_is_kept() {
    let setup = closure();
    let spool = Arc::clone(&setup.spool);
    let long: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
    let right = long.clone();
    let mut bench = Bench::library(&setup, move |task| Ok(vec![u8::from(task.payload == right)]));
    bench.submit(vec![kept_task(&spool, 0, 7, &long)]);
    assert_eq!(bench.finished(1)[0].output.as_ref(), [1]);
}

#[test]
fn a_long_answer_is_spooled() {
    let setup = closure();
    let spool = Arc::clone(&setup.spool);
    let mut bench = Bench::library(&setup, |_| Ok(vec![7; INLINE_BYTES + 1]));
    let finished = bench.run_one("");
    assert_eq!((finished.outcome, finished.output.len()), (OutcomeCode::Succeeded, 0));
    let length = finished.spooled.map(|spooled| spooled.length as usize);
    assert_eq!((length, spool.len()), (Some(INLINE_BYTES + 1), 1));
}

#[test]
fn errors_panics_and_large_results_fail_their_task_only() {
    let mut bench = Bench::library(
        &Setup {
            max_output: 10,
            ..closure()
        },
        |task| match task.number {
            1 => Err("no such colour".to_owned()),
            2 => panic!("number {}", task.number),
            3 => Ok(vec![0; 11]),
            4 => Err("x".repeat(10_000)),
            _ => Ok(vec![0; 10]),
        },
    );
    bench.submit((0..6).map(|number| task(number, "")).collect());
    let finished = bench.finished(6);
    let of = |at: usize| (finished[at].outcome, finished[at].code, finished[at].log.as_ref());
    assert_eq!(of(0), (OutcomeCode::Succeeded, 0, &b""[..]));
    assert_eq!(of(1), (OutcomeCode::ExitCode, 1, &b"no such colour"[..]));
    assert_eq!(of(2), (OutcomeCode::ExitCode, 101, &b"the task panicked: number 2"[..]));
    assert_eq!(
        of(3),
        (
            OutcomeCode::ResultTooLarge,
            0,
            &b"the output has 11 bytes; at most 10 are allowed"[..]
        )
    );
    assert_eq!((finished[4].code, finished[4].log.len()), (1, LOG_TAIL));
    assert_eq!(of(5).0, OutcomeCode::Succeeded);
}

#[test]
fn a_long_task_holds_up_neither_others_nor_outcomes() {
    let (release, gate) = mpsc::channel::<()>();
    let gate = Mutex::new(gate);
    let mut bench = Bench::library(&Setup { slots: 2, ..closure() }, move |task| {
        if task.payload == b"long" {
            gate.lock().unwrap().recv().unwrap();
        }
        Ok(Vec::new())
    });
    // Short ones first, so that large chunks are taken; the long one sits in the middle of a chunk.
    for round in 0..20 {
        bench.submit((0..1000).map(|number| task(round * 1000 + number, "")).collect());
        bench.finished(1000);
    }
    let tasks = (0..1000)
        .map(|number| task(number, if number == 500 { "long" } else { "" }))
        .collect();
    bench.submit(tasks);
    let finished = bench.finished(999);
    assert!(finished.iter().all(|finished| finished.number != 500));
    release.send(()).unwrap();
    assert_eq!(bench.finished(1)[0].number, 500);
}

#[test]
fn tasks_run_on_all_slots_at_once() {
    let (now, most) = (AtomicUsize::new(0), Arc::new(AtomicUsize::new(0)));
    let seen = Arc::clone(&most);
    let mut bench = Bench::library(&Setup { slots: 3, ..closure() }, move |_| {
        let running = now.fetch_add(1, Ordering::SeqCst) + 1;
        seen.fetch_max(running, Ordering::SeqCst);
        harness::wait_until("three run", || seen.load(Ordering::SeqCst) == 3);
        now.fetch_sub(1, Ordering::SeqCst);
        Ok(thread::current().name().unwrap_or_default().as_bytes().to_vec())
    });
    bench.submit((0..3).map(|number| task(number, "")).collect());
    let names: HashSet<_> = bench.finished(3).into_iter().map(|finished| finished.output).collect();
    assert_eq!((names.len(), most.load(Ordering::SeqCst)), (3, 3));
}

#[test]
fn a_task_past_its_deadline_is_charged_and_the_executor_is_stuck() {
    let is_over = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&is_over);
    let setup = Setup {
        deadline: Some(Duration::from_millis(100)),
        ..closure()
    };
    let mut bench = Bench::library(&setup, move |task| {
        if task.number == 7 {
            harness::wait_until("the test is over", || flag.load(Ordering::SeqCst));
        }
        Ok(Vec::new())
    });
    bench.submit(vec![task(7, "")]);
    let ExecutorEvent::Finished(finished) = bench.event() else {
        panic!("not finished")
    };
    assert_eq!(
        (finished[0].number, finished[0].outcome),
        (7, OutcomeCode::DeadlineExceeded)
    );
    let ExecutorEvent::Stuck(reason) = bench.event() else {
        panic!("not stuck")
    };
    assert!(reason.contains("task 7 passed its deadline"), "{reason}");
    is_over.store(true, Ordering::SeqCst);
    // The late result is not reported again.
    bench.submit(vec![task(8, "")]);
    assert_eq!(bench.finished(1)[0].number, 8);
}

#[test]
fn stopping_hands_back_what_has_not_begun() {
    let (release, gate) = mpsc::channel::<()>();
    let (begin, begun) = mpsc::channel::<()>();
    let gate = Mutex::new((gate, begin));
    let mut bench = Bench::library(&closure(), move |_| {
        let gate = gate.lock().unwrap();
        gate.1.send(()).unwrap();
        gate.0.recv().unwrap();
        Ok(Vec::new())
    });
    bench.submit((0..10).map(|number| task(number, "")).collect());
    begun.recv_timeout(Duration::from_mins(1)).unwrap();
    bench.executor.stop_all();
    assert_eq!(bench.stopped(9).len(), 9);
    release.send(()).unwrap();
    assert_eq!(bench.finished(1)[0].number, 0);
}

#[test]
fn a_closure_that_outlives_the_grace_is_given_up() {
    let (release, gate) = mpsc::channel::<()>();
    let gate = Mutex::new(gate);
    let setup = Setup {
        grace: Duration::from_millis(50),
        ..closure()
    };
    let mut bench = Bench::library(&setup, move |_| {
        let _ = gate.lock().unwrap().recv();
        Ok(Vec::new())
    });
    bench.submit(vec![task(3, "")]);
    while bench.stopped.is_empty() {
        bench.executor.stop(&[3]);
        match bench.event() {
            ExecutorEvent::Stopped(stopped) => bench.stopped.extend(stopped),
            other => panic!("{other:?}"),
        }
    }
    // Where it was stopped before it began, nothing is stuck.
    assert_eq!(bench.stopped, [(3, 1)]);
    drop(release);
    drop(bench);
}

#[test]
fn a_worker_without_a_closure_says_what_to_do() {
    let (events, _) = tokio::sync::mpsc::unbounded_channel();
    let reason = prepare(&closure(), events).map(|_| ()).unwrap_err();
    assert!(reason.contains("executor.library.command"), "{reason}");
}
