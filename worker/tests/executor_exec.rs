//! `exec`: one process per task.

#[cfg(test)]
#[path = "executor/harness.rs"]
mod harness;

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use harmony_protocol::{
    limits::{INLINE_BYTES, LOG_TAIL},
    wire::OutcomeCode,
    worker::Spooled,
};
use harmony_worker::Spool;
use harmony_worker::executor::{ExecutorEvent, Setup, prepare};

use crate::harness::{Bench, exec, kept_task, task, wait_until};

fn sh(script: &str) -> Bench {
    Bench::start(exec(&["sh", "-c", script]))
}

#[test]
fn passes_any_bytes_through() {
    let mut bench = Bench::start(exec(&["cat"]));
    let payload: Vec<u8> = (0..300_000_u32).map(|n| (n % 251) as u8).collect();
    for payload in [payload, vec![], vec![0, 255, 10, 13, 0], b"no newline".to_vec()] {
        let finished = bench.run_one(payload.clone());
        assert_eq!((finished.outcome, finished.code), (OutcomeCode::Succeeded, 0));
        assert_eq!(finished.output, payload);
        assert!(finished.log.is_empty());
    }
}

#[test]
fn tells_the_task_who_it_is() {
    let mut bench = sh("echo $HARMONY_BATCH $HARMONY_TASK $HARMONY_ATTEMPT $JOB_COMPLETION_INDEX $HARMONY_UID");
    bench.submit(vec![harness::Task {
        attempt: 3,
        ..task(41, "")
    }]);
    let finished = bench.finished(1).remove(0);
    assert_eq!((finished.number, finished.attempt), (41, 3));
    assert_eq!(finished.output, format!("test 41 3 41 {}\n", harness::UID));
    assert!(
        finished.start_micros > 1_600_000_000_000_000 && finished.duration_micros < 60_000_000,
        "{finished:?}"
    );
}

#[test]
fn exit_codes_and_signals_are_told_with_the_tail_of_stderr() {
    let finished = sh("echo out; echo because >&2; exit 7").run_one("");
    assert_eq!((finished.outcome, finished.code), (OutcomeCode::ExitCode, 7));
    assert_eq!(
        (finished.output.as_ref(), finished.log.as_ref()),
        (&b""[..], &b"because\n"[..])
    );

    let finished = sh("kill -SEGV $$").run_one("");
    assert_eq!((finished.outcome, finished.code), (OutcomeCode::Signal, 11));

    let finished = sh("seq 100000 >&2; echo last >&2; exit 1").run_one("");
    assert_eq!(finished.log.len(), LOG_TAIL);
    assert!(finished.log.ends_with(b"\n100000\nlast\n"));
}

#[test]
fn a_payload_that_is_not_read_is_no_failure() {
    let big = vec![b'x'; 4 << 20];
    assert_eq!(sh("exit 0").run_one(big.clone()).outcome, OutcomeCode::Succeeded);
    let finished = sh("exec <&-; echo done; sleep 0.1").run_one(big);
    assert_eq!(
        (finished.outcome, finished.output.as_ref()),
        (OutcomeCode::Succeeded, &b"done\n"[..])
    );
}

#[test]
fn output_before_input_does_not_deadlock() {
    let payload = vec![b'y'; 10 << 20];
    let finished = sh("head -c 10485760 /dev/zero; head -c 1000000 /dev/zero >&2; wc -c").run_one(payload);
    assert_eq!(finished.outcome, OutcomeCode::Succeeded);
    let whole = [vec![0; 10 << 20], b"10485760\n".to_vec()].concat();
    let expected = Spooled {
        length: whole.len().try_into().unwrap(),
        checksum: crc32c::crc32c(&whole),
    };
    assert_eq!(finished.spooled, Some(expected));
}

#[test]
fn background_children_neither_hold_the_task_nor_survive_it() {
    let mut bench = sh("sleep 600 & echo $!");
    let finished = bench.run_one("");
    assert_eq!(finished.outcome, OutcomeCode::Succeeded);
    let pid = String::from_utf8(finished.output.to_vec()).unwrap();
    wait_until("the background child is gone", || !harness::is_running(pid.trim()));
}

#[test]
fn a_daemon_that_left_the_group_does_not_hold_the_task() {
    let mut bench = sh("setsid sh -c 'echo $$; exec sleep 600' & while ! pgrep -s 0 >/dev/null; do :; done; sleep 0.2");
    let finished = bench.run_one("");
    assert_eq!(finished.outcome, OutcomeCode::Succeeded);
    let pid = String::from_utf8(finished.output.to_vec()).unwrap();
    assert!(harness::is_running(pid.trim()), "it was to survive its group: {pid:?}");
    harness::kill(pid.trim());
}

#[test]
fn a_deadline_ends_the_group_gently_then_for_good() {
    let limits = |setup: Setup| Setup {
        deadline: Some(Duration::from_millis(200)),
        grace: Duration::from_millis(200),
        ..setup
    };
    let mut bench = Bench::start(limits(exec(&[
        "sh",
        "-c",
        "trap 'echo bye >&2; exit 0' TERM; while :; do sleep 0.01; done",
    ])));
    let finished = bench.run_one("");
    assert_eq!(finished.outcome, OutcomeCode::DeadlineExceeded);
    assert!(
        finished.log.ends_with(
            b"bye
"
        ),
        "it was asked first: {finished:?}"
    );
    assert!((200_000..5_000_000).contains(&finished.duration_micros), "{finished:?}");

    let mut bench = Bench::start(limits(exec(&[
        "sh",
        "-c",
        "trap '' TERM; while :; do sleep 0.01; done",
    ])));
    let finished = bench.run_one("");
    assert_eq!(finished.outcome, OutcomeCode::DeadlineExceeded);
    assert!(
        (400_000..10_000_000).contains(&finished.duration_micros),
        "{finished:?}"
    );
}

#[test]
fn a_deadline_can_be_extended() {
    let folder = tempfile::tempdir().unwrap();
    let script = format!(
        "touch {0}/on; while [ ! -e {0}/go ]; do sleep 0.01; done",
        folder.path().display()
    );
    let mut bench = Bench::start(Setup {
        // Long enough for a busy machine to start the process and to extend it meanwhile.
        deadline: Some(Duration::from_secs(5)),
        ..exec(&["sh", "-c", &script])
    });
    let begin = Instant::now();
    bench.submit(vec![task(0, "")]);
    wait_until("it runs", || folder.path().join("on").exists());
    bench.executor.extend_deadlines(Duration::from_mins(1));
    wait_until("its first deadline is past", || {
        begin.elapsed() > Duration::from_millis(5500)
    });
    fs::write(folder.path().join("go"), "").unwrap();
    assert_eq!(bench.finished(1).remove(0).outcome, OutcomeCode::Succeeded);
}

#[test]
fn too_large_an_output_fails_its_task_only() {
    let setup = Setup {
        max_output: 1000,
        ..exec(&["sh", "-c", "read n; head -c $n /dev/zero; [ $n = 1000 ] || exec yes"])
    };
    let mut bench = Bench::start(setup);
    let finished = bench.run_one("1001\n");
    assert_eq!(
        (finished.outcome, finished.output.len()),
        (OutcomeCode::ResultTooLarge, 0)
    );
    let finished = bench.run_one("1000\n");
    assert_eq!(
        (finished.outcome, finished.output.len()),
        (OutcomeCode::Succeeded, 1000)
    );
}

#[test]
fn an_output_that_is_too_long_for_a_message_is_spooled() {
    let setup = exec(&["sh", "-c", "read n; seq 1 10000000 | head -c $n"]);
    let spool = Arc::clone(&setup.spool);
    let mut bench = Bench::start(setup);
    let whole = bench.run_one(format!("{INLINE_BYTES}\n"));
    assert_eq!(
        (whole.output.len(), whole.spooled, spool.len()),
        (INLINE_BYTES, None, 0)
    );
    let long = bench.run_one("5000000\n");
    let text: String = (1..).map(|number| format!("{number}\n")).take(1_000_000).collect();
    let expected = Spooled {
        length: 5_000_000,
        checksum: crc32c::crc32c(&text.as_bytes()[..5_000_000]),
    };
    assert_eq!((long.outcome, long.output.len()), (OutcomeCode::Succeeded, 0));
    assert_eq!((long.spooled, spool.len()), (Some(expected), 1));
}

#[test]
fn an_output_that_cannot_be_spooled_says_why() {
    let setup = Setup {
        spool: Arc::new(Spool::new(Path::new("/no/such/folder"))),
        ..exec(&["sh", "-c", "head -c 2000000 /dev/zero"])
    };
    let finished = Bench::start(setup).run_one("");
    let log = String::from_utf8_lossy(&finished.log);
    assert_eq!(finished.outcome, OutcomeCode::ExecutorError);
    assert!(log.contains("/no/such/folder") && log.contains("--spool"), "{log}");
}

#[test]
fn stopped_tasks_are_handed_back() {
    let folder = tempfile::tempdir().unwrap();
    let script = format!("touch {}/$HARMONY_TASK; exec sleep 600", folder.path().display());
    let mut bench = Bench::start(Setup {
        slots: 2,
        ..exec(&["sh", "-c", &script])
    });
    bench.submit(vec![task(1, ""), task(2, ""), task(3, "")]);
    wait_until("two tasks run", || fs::read_dir(&folder).unwrap().count() == 2);
    bench.executor.stop(&[1, 99]);
    assert_eq!(bench.stopped(1), [(1, 1)]);
    wait_until("the third runs", || folder.path().join("3").exists());
    bench.executor.stop_all();
    assert_eq!(bench.stopped(2), [(2, 1), (3, 1)]);
    // Old orders do not touch what comes later.
    bench.submit(vec![task(1, "")]);
    bench.executor.stop(&[1]);
    assert_eq!(bench.stopped(1), [(1, 1)]);
}

#[test]
fn a_task_that_ignores_sigterm_is_killed_after_the_grace() {
    let folder = tempfile::tempdir().unwrap();
    let script = format!(
        "trap '' TERM; touch {}/on; while :; do sleep 0.01; done",
        folder.path().display()
    );
    let mut bench = Bench::start(Setup {
        grace: Duration::from_millis(100),
        ..exec(&["sh", "-c", &script])
    });
    bench.submit(vec![task(5, "")]);
    wait_until("it runs", || folder.path().join("on").exists());
    bench.executor.stop(&[5]);
    assert_eq!(bench.stopped(1), [(5, 1)]);
}

#[test]
fn dropping_the_executor_kills_and_reaps() {
    let folder = tempfile::tempdir().unwrap();
    let script = format!(
        "sleep 600 & echo $$ $! > {0}/new; mv {0}/new {0}/pids; trap '' TERM; wait",
        folder.path().display()
    );
    let mut bench = Bench::start(exec(&["sh", "-c", &script]));
    bench.submit(vec![task(0, "")]);
    wait_until("it runs", || folder.path().join("pids").exists());
    let pids = fs::read_to_string(folder.path().join("pids")).unwrap();
    drop(bench);
    for pid in pids.split_whitespace() {
        wait_until("it is gone", || !harness::is_running(pid));
    }
}

#[test]
fn a_command_that_cannot_run_is_refused_with_its_reason() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str, mode| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let plain = file("plain", "#!/bin/sh\n", 0o644);
    let script = file("script", "#!/no/such/interpreter -x\n", 0o755);
    let refusal = |command: &[&str]| {
        let (events, _) = tokio::sync::mpsc::unbounded_channel();
        prepare(&exec(command), events).map(|_| ()).unwrap_err()
    };
    for (command, words) in [
        (
            &["no-such-program-here"][..],
            &["\"no-such-program-here\"", "not found in PATH", "/bin"][..],
        ),
        (&["/no/such/file"], &["/no/such/file", "No such file"]),
        (&[&plain], &["plain", "not executable", "chmod +x"]),
        (&[&script], &["script", "/no/such/interpreter"]),
        (&["/tmp"], &["not a file"]),
        (&[""], &["empty"]),
        (&[], &["after `--`", "executor.exec.command"]),
    ] {
        let reason = refusal(command);
        assert!(words.iter().all(|word| reason.contains(word)), "{command:?}: {reason}");
    }
}

#[test]
fn a_relative_command_starts_from_the_working_folder() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tool");
    fs::write(&path, "#!/bin/sh\npwd\n").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    let setup = Setup {
        work_dir: Some(folder.path().to_owned()),
        ..exec(&["./tool"])
    };
    let finished = Bench::start(setup).run_one("");
    assert_eq!(
        finished.output,
        format!("{}\n", folder.path().canonicalize().unwrap().display())
    );
}

#[test]
fn a_program_that_vanishes_breaks_the_executor_soon() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tool");
    fs::write(&path, "#!/bin/sh\n").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    let mut bench = Bench::start(exec(&[path.to_str().unwrap()]));
    assert_eq!(bench.run_one("").outcome, OutcomeCode::Succeeded);
    fs::remove_file(&path).unwrap();
    let mut failures = 0;
    let reason = loop {
        bench.submit(vec![task(failures, "")]);
        match bench.event() {
            ExecutorEvent::Broken(reason) => break reason,
            ExecutorEvent::Finished(finished) => {
                assert_eq!(finished[0].outcome, OutcomeCode::ExecutorError);
                assert!(finished[0].log.windows(4).any(|word| word == b"tool"), "{finished:?}");
            }
            other => panic!("{other:?}"),
        }
        failures += 1;
    };
    assert_eq!(failures, 7, "the eighth failed start in a row is the last");
    assert!(reason.contains("No such file"), "{reason}");
    assert_eq!(bench.finished(1).len(), 1);
    bench.submit(vec![task(100, "")]);
    assert_eq!(bench.stopped(1), [(100, 1)]);
}

#[test]
fn no_zombie_is_left() {
    let mut bench = Bench::start(Setup {
        slots: 2,
        ..exec(&["true"])
    });
    bench.submit((0..50).map(|number| task(number, Bytes::new())).collect());
    bench.finished(50);
    assert_eq!(bench.executor.window(), 4);
    drop(bench);
    wait_until("no zombie", || harness::zombies_of("true") == 0);
}

#[test]
fn what_has_not_begun_is_given_back_and_what_runs_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let (begun, go) = (folder.path().join("begun"), folder.path().join("go"));
    let script = "touch $0; while [ ! -e $1 ]; do sleep 0.01; done; echo done";
    let mut bench = Bench::start(exec(&[
        "sh",
        "-c",
        script,
        begun.to_str().unwrap(),
        go.to_str().unwrap(),
    ]));
    bench.submit(vec![task(1, ""), task(2, "")]);
    wait_until("the first task has begun", || begun.exists());
    bench.executor.recall();
    assert_eq!(bench.stopped(1), [(2, 1)]);
    fs::write(go, "").unwrap();
    assert_eq!(bench.finished(1)[0].output, "done\n");
}

#[test]
fn without_a_command_it_runs_the_worker_s_own() {
    let setup = Setup {
        own_command: vec!["tr".to_owned(), "a-z".to_owned(), "A-Z".to_owned()],
        ..exec(&[])
    };
    let finished = Bench::start(setup).run_one("loud");
    assert_eq!(finished.output, "LOUD");
}

#[test]
fn without_any_command_it_says_the_way_out() {
    let (events, _) = tokio::sync::mpsc::unbounded_channel();
    let reason = prepare(&exec(&[]), events).err().unwrap();
    assert!(
        reason.contains("after `--`") && reason.contains("executor.exec.command"),
        "{reason}"
    );
}

#[test]
fn a_payload_that_is_kept_is_the_standard_input_from_its_first_byte_on() {
    let setup = exec(&["cksum"]);
    let spool = Arc::clone(&setup.spool);
    let mut bench = Bench::start(setup);
    let long: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
    bench.submit(vec![
        kept_task(&spool, 0, 7, &long),
        task(1, "short"),
        kept_task(&spool, 2, 8, &long),
    ]);
    let mut finished = bench.finished(3);
    finished.sort_by_key(|task| task.number);
    let sums: Vec<_> = finished
        .iter()
        .map(|task| String::from_utf8_lossy(&task.output))
        .collect();
    assert!(sums[0].ends_with(" 3000000\n"), "{sums:?}");
    assert!(sums[1].ends_with(" 5\n"), "the pipe is back: {sums:?}");
    assert_eq!(sums[0], sums[2]);
}

#[test]
fn a_payload_that_could_not_be_kept_fails_its_task_and_says_why() {
    let mut setup = exec(&["cat"]);
    setup.spool = Arc::new(Spool::new(Path::new("/nonexistent")));
    let spool = Arc::clone(&setup.spool);
    let mut bench = Bench::start(setup);
    bench.submit(vec![kept_task(&spool, 0, 7, &[1; 10]), task(1, "short")]);
    let mut finished = bench.finished(2);
    finished.sort_by_key(|task| task.number);
    let log = String::from_utf8_lossy(&finished[0].log);
    assert_eq!(finished[0].outcome, OutcomeCode::ExecutorError);
    assert!(log.contains("/nonexistent") && log.contains("--spool"), "{log}");
    assert_eq!(finished[1].outcome, OutcomeCode::Succeeded);
}
