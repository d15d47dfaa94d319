//! The worker of the benchmarks: what it does with a task is what `BENCH_TASK` says, so that only Harmony is measured.
//!
//! `echo` gives the payload back, `empty` nothing, `zeros` as many zeros as `BENCH_BYTES` says, `pause` takes 5 ms, and
//! `hold` gives nothing back, but for task 0 only once the file of `BENCH_GATE` is there.

use std::env;
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread::sleep;
use std::time::Duration;

/// How long a task of `pause` takes.
const PAUSE: Duration = Duration::from_millis(5);
/// How often `hold` looks for its file.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What to do with each task.
enum Work {
    Echo,
    Empty,
    Zeros(usize),
    Pause,
    Hold(PathBuf),
}

impl Work {
    fn from_environment() -> Result<Self, String> {
        let variable = |name| env::var(name).map_err(|error| format!("{name}: {error}"));
        match variable("BENCH_TASK")?.as_str() {
            "echo" => Ok(Self::Echo),
            "empty" => Ok(Self::Empty),
            "pause" => Ok(Self::Pause),
            "hold" => Ok(Self::Hold(variable("BENCH_GATE")?.into())),
            "zeros" => {
                let bytes = variable("BENCH_BYTES")?;
                let parsed = bytes.parse().map_err(|error| format!("BENCH_BYTES={bytes}: {error}"));
                Ok(Self::Zeros(parsed?))
            }
            other => Err(format!(
                "BENCH_TASK={other}: one of echo, empty, zeros, pause and hold is expected"
            )),
        }
    }

    fn run(&self, number: u64, payload: &[u8]) -> Vec<u8> {
        match self {
            Self::Echo => payload.to_vec(),
            Self::Empty => Vec::new(),
            Self::Zeros(bytes) => vec![0; *bytes],
            Self::Pause => {
                sleep(PAUSE);
                Vec::new()
            }
            Self::Hold(gate) => {
                while number == 0 && !gate.exists() {
                    sleep(LOOK_EVERY);
                }
                Vec::new()
            }
        }
    }
}

/// As in `harmony` itself.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match Work::from_environment() {
        Ok(work) => harmony_worker::run(move |task| Ok(work.run(task.number, task.payload))),
        Err(reason) => {
            eprintln!("{reason}");
            ExitCode::from(2)
        }
    }
}
