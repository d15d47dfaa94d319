//! The parts of a run, as processes of their own: a collector and workers, restarted when they die.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::iter;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use harmony_admin::Address;
use harmony_api::{Executor, ValidatedBatch};
use harmony_transport::Endpoint;
use harmony_worker::way_out;
use rustix::process::Signal;
use tokio::sync::mpsc::UnboundedSender;

use super::process::{Notice, Process};
use super::sockets::Sockets;
use crate::exit::Failure;

/// A part that ends by itself this soon after its start has failed to start.
const STARTED_AFTER: Duration = Duration::from_secs(2);
/// Failures to start in a row after which there is no point in going on.
const FAILED_STARTS: u32 = 5;
/// First and longest pause before a part that failed to start is started again.
const PAUSE_FIRST: Duration = Duration::from_millis(50);
const PAUSE_MOST: Duration = Duration::from_secs(2);
/// The last words of a part that are kept for the error message, in bytes.
const TAIL_BYTES: usize = 2 << 10;

/// A part of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Part {
    /// Records outcomes.
    Collector,
    /// Runs tasks.
    Worker(u32),
}

impl Part {
    /// Its name, as people see it.
    pub(crate) fn name(self) -> String {
        match self {
            Self::Collector => "collector".to_owned(),
            Self::Worker(ordinal) => format!("worker-{ordinal}"),
        }
    }
}

/// All parts.
pub(crate) struct Parts {
    commands: BTreeMap<Part, Vec<OsString>>,
    sockets: Sockets,
    notices: UnboundedSender<Notice>,
    running: BTreeMap<Part, Process>,
    /// Failures to start in a row.
    failures: BTreeMap<Part, u32>,
    restarts: BTreeMap<Part, Instant>,
    tails: BTreeMap<Part, String>,
    leaving: bool,
}

impl Parts {
    /// The parts that a batch needs. Nothing is started yet.
    pub(crate) fn new(
        batch: &ValidatedBatch,
        sockets: Sockets,
        dirs: (PathBuf, PathBuf),
        grace: u64,
        notices: UnboundedSender<Notice>,
    ) -> Result<Self, Failure> {
        let (logs, work_dir) = dirs;
        // The batch's folder, on a disk: what other folders are on may be memory.
        let spool = logs.parent().unwrap_or(&logs).to_path_buf();
        let program = std::env::current_exe()
            .map_err(Failure::infrastructure)?
            .into_os_string();
        let mut commands = BTreeMap::new();
        let listen = |part: Part| sockets.endpoint(&part.name()).to_string().into();
        let collector: Vec<OsString> = vec![
            program.clone(),
            "collector".into(),
            "--listen".into(),
            listen(Part::Collector),
            "--dir".into(),
            logs.into(),
            "--until-stdin-closes".into(),
        ];
        let traced = || harmony_telemetry::spans::flags().iter().map(OsString::from);
        commands.insert(Part::Collector, collector.into_iter().chain(traced()).collect());
        for part in (0..batch.parallelism).map(Part::Worker) {
            let mut command: Vec<OsString> = match &batch.executor {
                Executor::Library(own) => own_program(own, &work_dir),
                _ => vec![program.clone(), "worker".into()],
            };
            let slots = batch.slots_per_worker.to_string();
            let grace = grace.to_string();
            let flags: [OsString; 13] = [
                "--name".into(),
                part.name().into(),
                "--listen".into(),
                listen(part),
                "--slots".into(),
                slots.into(),
                "--work-dir".into(),
                work_dir.clone().into(),
                "--spool".into(),
                spool.clone().into(),
                "--grace".into(),
                grace.into(),
                "--until-stdin-closes".into(),
            ];
            command.extend(flags);
            command.extend(traced());
            commands.insert(part, command);
        }
        Ok(Self {
            commands,
            sockets,
            notices,
            running: BTreeMap::new(),
            failures: BTreeMap::new(),
            restarts: BTreeMap::new(),
            tails: BTreeMap::new(),
            leaving: false,
        })
    }

    /// Where a part listens.
    pub(crate) fn endpoint(&self, part: Part) -> Endpoint {
        self.sockets.endpoint(&part.name())
    }

    /// Has the parts serve their metrics; tells their names and where.
    pub(crate) fn serve_metrics(&mut self) -> Vec<(String, PathBuf)> {
        let mut places = Vec::new();
        for (part, command) in &mut self.commands {
            let place = self.sockets.metrics(&part.name());
            let address = Address::Unix(place.clone());
            command.extend(["--admin".into(), address.to_string().into()]);
            places.push((part.name(), place));
        }
        places
    }

    /// All parts.
    pub(crate) fn all(&self) -> impl Iterator<Item = Part> {
        self.commands.keys().copied()
    }

    /// Starts all parts.
    pub(crate) fn start_all(&mut self) -> Result<(), Failure> {
        let parts: Vec<Part> = self.all().collect();
        parts.into_iter().try_for_each(|part| self.start(part))
    }

    fn start(&mut self, part: Part) -> Result<(), Failure> {
        self.restarts.remove(&part);
        let Some((program, arguments)) = self.commands.get(&part).and_then(|command| command.split_first()) else {
            return Ok(());
        };
        self.tails.remove(&part);
        let process = Process::start(part, program, arguments, self.notices.clone()).map_err(|error| {
            let (name, program, help) = (part.name(), program.to_string_lossy(), way_out(&error));
            Failure::infrastructure(format!("{name} cannot be started: {program}: {error}{help}"))
        })?;
        self.running.insert(part, process);
        Ok(())
    }

    /// Keeps the last words of a part, for the case that it cannot start.
    pub(crate) fn note_line(&mut self, part: Part, line: &str) {
        let tail = self.tails.entry(part).or_default();
        tail.push_str("\n  ");
        tail.push_str(line);
        let excess = tail.len().saturating_sub(TAIL_BYTES);
        let cut = tail.ceil_char_boundary(excess);
        tail.drain(..cut);
    }

    /// A part ended: it is started again, at once if it had been running, later and later if it fails to start.
    pub(crate) fn ended(
        &mut self,
        now: Instant,
        part: Part,
        status: std::io::Result<ExitStatus>,
    ) -> Result<(), Failure> {
        let Some(process) = self.running.remove(&part) else {
            return Ok(());
        };
        if self.leaving {
            return Ok(());
        }
        let lived = now.duration_since(process.started());
        let failed = lived < STARTED_AFTER && !status.as_ref().is_ok_and(|status| was_killed(*status));
        let failures = self.failures.entry(part).or_default();
        *failures = if failed { *failures + 1 } else { 0 };
        if *failures >= FAILED_STARTS {
            let how = status.map_or_else(|error| error.to_string(), |status| status.to_string());
            let tail = self.tails.get(&part).cloned().unwrap_or_default();
            let program = self
                .commands
                .get(&part)
                .and_then(|command| command.first())
                .cloned()
                .unwrap_or_default();
            let (name, program) = (part.name(), program.to_string_lossy().into_owned());
            return Err(Failure::infrastructure(format!(
                "{name} ({program}) ended {FAILED_STARTS} times in a row right after its start, last with {how}{tail}"
            )));
        }
        let pause = match *failures {
            // Killed again and again, as by a memory limit: not in a tight loop.
            0 if lived < PAUSE_FIRST => PAUSE_FIRST,
            0 => Duration::ZERO,
            failures => (PAUSE_FIRST * 2_u32.saturating_pow(failures - 1)).min(PAUSE_MOST),
        };
        self.restarts.insert(part, now + pause);
        self.restart_due(now)
    }

    /// Starts again what has paused for long enough.
    pub(crate) fn restart_due(&mut self, now: Instant) -> Result<(), Failure> {
        let due: Vec<Part> = self
            .restarts
            .iter()
            .filter(|(_, at)| **at <= now)
            .map(|(part, _)| *part)
            .collect();
        due.into_iter().try_for_each(|part| self.start(part))
    }

    /// When the next part is to be started again.
    pub(crate) fn next_restart(&self) -> Option<Instant> {
        self.restarts.values().min().copied()
    }

    /// From now on a part that ends is not started again.
    pub(crate) fn leave(&mut self) {
        self.leaving = true;
        self.restarts.clear();
    }

    /// Asks the workers to leave in good order.
    pub(crate) fn drain_workers(&mut self) {
        self.leave();
        for (_, process) in self.running.iter().filter(|(part, _)| matches!(part, Part::Worker(_))) {
            process.signal(Signal::TERM);
        }
    }

    /// Whether a worker still runs.
    pub(crate) fn has_workers(&self) -> bool {
        self.running.keys().any(|part| matches!(part, Part::Worker(_)))
    }

    /// Closes the standard input of all parts: workers kill their tasks, the collector commits.
    pub(crate) fn close(&mut self) {
        self.leave();
        for process in self.running.values_mut() {
            process.close_stdin();
        }
    }

    /// Kills what still runs.
    pub(crate) fn kill(&mut self) {
        self.leave();
        for process in self.running.values() {
            process.signal(Signal::KILL);
        }
    }

    /// Whether any part still runs.
    pub(crate) fn is_running(&self) -> bool {
        !self.running.is_empty()
    }

    /// The process ids of the parts.
    pub(crate) fn pids(&self) -> BTreeSet<u32> {
        self.running.values().map(Process::pid).collect()
    }
}

/// Whether somebody else ended the process, which says nothing about whether it can start. A crash says that it cannot.
fn was_killed(status: ExitStatus) -> bool {
    let by = [Signal::KILL, Signal::TERM].map(|signal| Some(signal.as_raw()));
    by.contains(&status.signal())
}

/// The command of a worker of the user's own. A relative path is seen from the folder of the batch's file, as all paths in it.
fn own_program(command: &harmony_api::Command, work_dir: &Path) -> Vec<OsString> {
    let program = if command.program.contains('/') {
        work_dir.join(&command.program).into_os_string()
    } else {
        OsString::from(&command.program)
    };
    iter::once(program)
        .chain(command.arguments.iter().map(OsString::from))
        .collect()
}
