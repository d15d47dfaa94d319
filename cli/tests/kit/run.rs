//! `harmony run` as a child.

use std::fs::{self, File};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::processes::{self, Process};
use super::{Bench, PATIENCE, wait_for};

/// A run that was started.
pub struct Run {
    child: Child,
    stderr: PathBuf,
    began: Instant,
}

/// How a run ended.
#[derive(Debug)]
pub struct Ended {
    /// Its exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    pub signal: Option<i32>,
    /// What it said, all that was said by earlier runs of the bench included.
    pub said: String,
    pub after: Duration,
}

impl Ended {
    /// Checks the exit code.
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:?}");
        self
    }

    /// Checks that each of these was said.
    pub fn says(self, texts: &[&str]) -> Self {
        for text in texts {
            assert!(self.said.contains(text), "{text:?} is missing in: {}", self.said);
        }
        self
    }

    pub fn within(self, limit: Duration) -> Self {
        assert!(self.after < limit, "it took {:?}: {}", self.after, self.said);
        self
    }
}

impl Run {
    pub(super) fn start(bench: &Bench, file: &Path, output: &str, more: &[&str]) -> Self {
        let stderr = bench.path("stderr");
        let said = File::options().create(true).append(true).open(&stderr).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_harmony"))
            .arg("run")
            .arg(file)
            .args(["--output", output])
            .args(more)
            .current_dir(bench.path(""))
            .env("TMPDIR", bench.path("tmp"))
            .env("MARKS", bench.path("marks"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(said)
            .process_group(0)
            .spawn()
            .unwrap();
        Self {
            child,
            stderr,
            began: Instant::now(),
        }
    }

    pub fn pid(&self) -> i32 {
        self.child.id().try_into().unwrap()
    }

    /// What was said so far.
    pub fn said(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.stderr).unwrap()).into_owned()
    }

    /// Its parts that live now.
    pub fn parts(&self) -> Vec<Process> {
        processes::children(self.pid())
    }

    /// Its workers that live now.
    pub fn workers(&self) -> Vec<Process> {
        self.parts().into_iter().filter(Process::is_worker).collect()
    }

    /// The worker of this name, once there is one.
    pub fn worker(&self, name: &str) -> Process {
        wait_for(name, PATIENCE, || {
            self.workers()
                .into_iter()
                .find(|worker| worker.flag("--name") == Some(name))
        })
    }

    /// The collector, once there is one.
    pub fn collector(&self) -> Process {
        wait_for("a collector", PATIENCE, || {
            self.parts().into_iter().find(Process::is_collector)
        })
    }

    /// Whether it still runs.
    pub fn lives(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    pub fn interrupt(&self) {
        processes::send(self.pid(), Signal::INT);
    }

    /// Kills this process alone, and waits until it is gone.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits until it says something.
    pub fn wait_until_said(&self, text: &str) {
        wait_for(&format!("{text:?}"), PATIENCE, || {
            self.said().contains(text).then_some(())
        });
    }

    /// Waits for its end.
    pub fn wait(self) -> Ended {
        self.wait_at_most(PATIENCE)
    }

    /// Waits for its end.
    pub fn wait_at_most(mut self, patience: Duration) -> Ended {
        let give_up = Instant::now() + patience;
        let status = loop {
            match self.child.try_wait().unwrap() {
                Some(status) => break status,
                None if Instant::now() < give_up => std::thread::sleep(Duration::from_millis(1)),
                None => panic!("it still runs after {patience:?}, and said: {}", self.said()),
            }
        };
        Ended {
            code: status.code(),
            signal: status.signal(),
            after: self.began.elapsed(),
            said: self.said(),
        }
    }
}
