//! What the tests with real processes share: a folder of one's own, `harmony run` as a child, a look at its parts, and the
//! files that it leaves.
#![allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    reason = "each test file uses a part of it"
)]

mod marks;
pub mod memory;
pub mod metrics;
mod outcome;
pub mod pods;
pub mod processes;
mod run;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

pub use self::marks::{ENDED, Marks, STARTED};
pub use self::outcome::{Failed, Outcome, Success};
pub use self::run::{Ended, Run};

/// Ten times what a small batch takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_mins(1);
/// Pause between two looks at a condition.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// A folder with a batch in it. Its processes are known by their TMPDIR, which is below it; whatever a failing test left
/// running ends with it.
pub struct Bench {
    dir: TempDir,
}

impl Bench {
    /// An empty folder.
    pub fn new() -> Self {
        // Short, since paths of sockets may not be long.
        let dir = tempfile::Builder::new().prefix("hb-").tempdir().unwrap();
        fs::create_dir(dir.path().join("tmp")).unwrap();
        fs::write(dir.path().join("marks"), "").unwrap();
        Self { dir }
    }

    /// A folder with a batch of the given spec.
    pub fn with(spec: &Value) -> Self {
        let bench = Self::new();
        bench.batch(spec);
        bench
    }

    /// Writes the batch. JSON is YAML.
    pub fn batch(&self, spec: &Value) {
        let batch = json!({
            "apiVersion": "harmony.dev/v1alpha1",
            "kind": "HarmonyBatch",
            "metadata": {"name": "test"},
            "spec": spec,
        });
        self.write("batch.yaml", serde_json::to_string_pretty(&batch).unwrap());
    }

    /// Writes a file.
    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        fs::write(self.path(name), bytes).unwrap();
    }

    /// A path in the folder. Commands run in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The folder that the batch leaves.
    pub fn output(&self) -> PathBuf {
        self.path("out")
    }

    /// Starts `harmony run` on the batch.
    pub fn start(&self) -> Run {
        self.start_with(&[])
    }

    /// Starts `harmony run` with more arguments.
    pub fn start_with(&self, more: &[&str]) -> Run {
        Run::start(self, Path::new("batch.yaml"), "out", more)
    }

    /// Starts `harmony run` on the batch into another folder.
    pub fn start_into(&self, output: &str) -> Run {
        Run::start(self, Path::new("batch.yaml"), output, &[])
    }

    /// Starts `harmony run` on a batch from elsewhere.
    pub fn start_file(&self, file: &Path) -> Run {
        Run::start(self, file, "out", &[])
    }

    /// Runs the batch to its end.
    pub fn run(&self) -> Ended {
        self.start().wait()
    }

    /// What the batch left.
    pub fn outcome(&self) -> Outcome {
        Outcome::read(&self.output())
    }

    /// What its tasks wrote down while they ran: each appends to the file `marks`.
    pub fn marks(&self) -> Marks {
        Marks::read(&self.path("marks"))
    }

    /// Waits until the tasks' marks fulfil a condition.
    pub fn wait_for_marks(&self, what: &str, condition: impl Fn(&Marks) -> bool) -> Marks {
        wait_for(what, PATIENCE, || Some(self.marks()).filter(|marks| condition(marks)))
    }

    /// Everything that runs on behalf of this batch.
    pub fn living(&self) -> Vec<processes::Process> {
        processes::with_environment(&format!("TMPDIR={}", self.path("tmp").display()))
    }

    /// Checks that nothing is left of a run that ended: no process, no socket, no file under a temporary name.
    pub fn assert_nothing_left(&self) {
        let living = self.living();
        assert!(living.is_empty(), "left behind: {living:?}");
        self.assert_no_files_left();
    }

    /// Waits until everything has ended by itself, and checks that nothing is left.
    pub fn wait_for_nothing_left(&self) {
        let give_up = Instant::now() + PATIENCE;
        while Instant::now() < give_up && !self.living().is_empty() {
            std::thread::sleep(LOOK_EVERY);
        }
        self.assert_nothing_left();
    }

    fn assert_no_files_left(&self) {
        let entries = |name: &str| -> Vec<PathBuf> {
            let entries = fs::read_dir(self.path(name)).into_iter().flatten().flatten();
            entries.map(|entry| entry.path()).collect()
        };
        let within = |folder: PathBuf| {
            let inside = fs::read_dir(&folder).into_iter().flatten().flatten();
            (folder, inside.map(|entry| entry.file_name()).collect::<Vec<_>>())
        };
        let left: Vec<_> = entries("tmp").into_iter().map(within).collect();
        assert!(left.is_empty(), "left behind: {left:?}");
        let mut output = entries("out");
        output.retain(|path| path.extension().is_some_and(|extension| extension == "part"));
        assert!(output.is_empty(), "left behind: {output:?}");
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let give_up = Instant::now() + PATIENCE;
        while Instant::now() < give_up {
            let living = self.living();
            if living.is_empty() {
                return;
            }
            living.iter().for_each(processes::Process::kill);
            std::thread::sleep(LOOK_EVERY);
        }
    }
}

/// Waits until something is there.
pub fn wait_for<T>(what: &str, patience: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let give_up = Instant::now() + patience;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < give_up, "waited {patience:?} for {what}");
        std::thread::sleep(LOOK_EVERY);
    }
}

/// The SHA-256 of what a command says, as `sha256sum` writes it.
pub fn sha256(command: &mut Command) -> String {
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let sum = Command::new("sha256sum")
        .stdin(child.stdout.take().unwrap())
        .output()
        .unwrap();
    assert!(child.wait().unwrap().success(), "{command:?}");
    String::from_utf8(sum.stdout).unwrap()
}
