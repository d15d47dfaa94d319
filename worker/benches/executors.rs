//! What the executors carry: `cargo bench -p harmony-worker`. Each figure is a rate, and beside it stands a plain tool that
//! does the same without a promise.

#![allow(clippy::cast_precision_loss, reason = "rates need no more")]
#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a benchmark that cannot run has nothing to say"
)]

use std::{
    fs::File,
    io::Write,
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use harmony_protocol::{
    ids::BatchUid,
    wire::{Executor as Kind, Framing},
};
use harmony_worker::Spool;
use harmony_worker::executor::{Executor, ExecutorEvent, Setup, Task, library, prepare};
use tokio::{
    runtime::Builder,
    sync::mpsc::{UnboundedReceiver, unbounded_channel},
};

const SLOTS: usize = 2;
/// Each side of a comparison runs so many times, in turn, since other work on the machine comes and goes.
const ROUNDS: usize = 5;
const PROCESSES: u64 = 4_000;
const LINES: u64 = 2_000_000;
const CALLS: u64 = 5_000_000;
/// What the Python filter is given: it is far slower.
const PYTHON_LINES: u64 = 300_000;
const PYTHON: &str = "import sys\nfor line in sys.stdin:\n    sys.stdout.write(line.upper())\n    sys.stdout.flush()\n";

fn main() {
    compare(
        "exec of true, 2 slots, against xargs -P 2 -n 1",
        || exec_rate(&["true"]),
        xargs_rate,
    );
    compare(
        "lines through cat, 1 slot, against a pipe",
        || lines_rate(&["cat"], 1, LINES),
        || pipe_rate(&["cat"], LINES),
    );
    compare(
        "lines through a Python filter, 1 slot, against a pipe",
        || lines_rate(&["python3", "-c", PYTHON], 1, PYTHON_LINES),
        || pipe_rate(&["python3", "-c", PYTHON], PYTHON_LINES),
    );
    let closure = (0..ROUNDS).map(|_| library_rate()).fold(0.0, f64::max);
    println!("empty closure, 2 slots: {closure:.0}/s");
}

fn compare(what: &str, mut ours: impl FnMut() -> f64, mut theirs: impl FnMut() -> f64) {
    let rounds: Vec<_> = (0..ROUNDS).map(|_| (ours(), theirs())).collect();
    let best = |side: fn(&(f64, f64)) -> f64| rounds.iter().map(side).fold(0.0, f64::max);
    let (ours, theirs) = (best(|round| round.0), best(|round| round.1));
    println!("{what}: {ours:.0}/s against {theirs:.0}/s, ratio {:.2}", ours / theirs);
}

fn setup(executor: Kind, slots: usize) -> Setup {
    Setup {
        batch: "bench".to_owned(),
        uid: BatchUid(uuid::Uuid::nil()),
        executor,
        slots,
        max_output: 1 << 20,
        deadline: Some(Duration::from_mins(1)),
        grace: Duration::from_secs(1),
        work_dir: None,
        own_command: Vec::new(),
        spool: Arc::new(Spool::new(&std::env::temp_dir())),
    }
}

fn owned(command: &[&str]) -> Vec<String> {
    command.iter().map(|word| (*word).to_owned()).collect()
}

fn exec_rate(command: &[&str]) -> f64 {
    let (sender, events) = unbounded_channel();
    let setup = setup(
        Kind::Exec {
            command: owned(command),
        },
        SLOTS,
    );
    rate(prepare(&setup, sender).expect("it can be run"), events, PROCESSES)
}

fn lines_rate(command: &[&str], slots: usize, count: u64) -> f64 {
    let (sender, events) = unbounded_channel();
    let setup = setup(
        Kind::Process {
            command: owned(command),
            framing: Framing::Lines,
        },
        slots,
    );
    rate(prepare(&setup, sender).expect("it can be run"), events, count)
}

fn library_rate() -> f64 {
    let (sender, events) = unbounded_channel();
    let executor = library(Arc::new(|_| Ok(Vec::new())), &setup(Kind::Library, SLOTS), sender);
    rate(executor.expect("threads can be started"), events, CALLS)
}

/// Keeps the window full, as the driver of the worker machine does.
fn rate(mut executor: Box<dyn Executor>, mut events: UnboundedReceiver<ExecutorEvent>, count: u64) -> f64 {
    let payload = Bytes::from_static(b"0123456789");
    let window = executor.window() as u64;
    let (mut sent, mut done) = (0, 0);
    let begin = Instant::now();
    Builder::new_current_thread()
        .build()
        .expect("a runtime")
        .block_on(async {
            while done < count {
                let next = (done + window).min(count);
                if next > sent {
                    let task = |number| Task {
                        number,
                        attempt: 1,
                        payload: payload.clone().into(),
                        alone: false,
                    };
                    executor.submit((sent..next).map(task).collect());
                    sent = next;
                }
                match events.recv().await {
                    Some(ExecutorEvent::Finished(finished)) => done += finished.len() as u64,
                    other => panic!("{other:?}"),
                }
            }
        });
    count as f64 / begin.elapsed().as_secs_f64()
}

fn xargs_rate() -> f64 {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("numbers");
    let numbers = (0..PROCESSES)
        .map(|number| number.to_string())
        .collect::<Vec<_>>()
        .join("\n");
    std::fs::write(&path, numbers).expect("a file");
    let begin = Instant::now();
    let mut xargs = Command::new("xargs");
    xargs
        .args(["-P", "2", "-n", "1", "true"])
        .stdin(File::open(&path).expect("the file"));
    assert!(xargs.status().expect("xargs").success());
    PROCESSES as f64 / begin.elapsed().as_secs_f64()
}

fn pipe_rate(command: &[&str], count: u64) -> f64 {
    let [program, arguments @ ..] = command else { return 0.0 };
    let begin = Instant::now();
    let mut filter = Command::new(program);
    let mut filter = filter
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it can be run");
    let (mut input, mut output) = (
        filter.stdin.take().expect("piped"),
        filter.stdout.take().expect("piped"),
    );
    let writer = std::thread::spawn(move || {
        let block = b"0123456789\n".repeat(1000);
        (0..count / 1000).for_each(|_| input.write_all(&block).expect("it reads"));
    });
    std::io::copy(&mut output, &mut std::io::sink()).expect("it writes");
    writer.join().expect("written");
    assert!(filter.wait().expect("its status").success());
    count as f64 / begin.elapsed().as_secs_f64()
}
